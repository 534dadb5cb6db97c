//! What survives a change of the configuration, and what a change says of itself.

use lvs_core::{
    Algorithm, Condition, Config, ConfigError, Director, EditError, Forwarding, Lease, Persistence, Probe,
    Rejected, ServerConfig, ServiceConfig, ServiceKey, Thresholds, Time, Tunnel, Weight,
};

use crate::setup::{
    address, at, connect, director, limited, load, number, picks, server, service, stats, vip,
};

fn take_down(director: &Director, n: u8) {
    director.probe(&vip(), address(n), Probe::Failed("no answer".into()), at(0));
}

#[test]
fn reload_keeps_counts_health_and_connections_of_what_stays() {
    let director = director(service(Algorithm::Rr, &[1, 1, 1]));
    let leases: Vec<Lease> = (0..4).map(|_| connect(&director).expect("a server")).collect();
    leases[0].count_to_server(10);
    leases[0].count_to_client(20);
    leases[3].closing();
    take_down(&director, 2);

    let reloaded = service(Algorithm::Wlc, &[9, 8, 7, 6]);
    let changes = director.apply(Config { services: vec![reloaded] }).expect("a valid configuration");
    assert_eq!(changes.services_edited, [vip()]);
    assert_eq!(changes.servers_added, [(vip(), address(4))]);
    assert_eq!(changes.servers_edited.len(), 3);
    let third = stats(&director, 3);
    assert_eq!((third.load, third.connections), (load(1, 1), 2));
    assert_eq!((third.bytes_in, third.bytes_out), (10, 20));
    assert!(matches!(stats(&director, 2).condition, Condition::Down { .. }));
    drop(leases);
    assert_eq!(stats(&director, 3).load, load(0, 0));
}

#[test]
fn server_that_is_added_again_finds_its_connections() {
    let director = director(service(Algorithm::Lc, &[1, 1]));
    let leases: Vec<Lease> = (0..2).map(|_| connect(&director).expect("a server")).collect();
    take_down(&director, 1);
    director.delete_server(&vip(), address(1)).expect("a known server");
    director.delete_server(&vip(), address(2)).expect("a known server");
    director.add_server(&vip(), server(2, 3)).expect("a new server");
    director.add_server(&vip(), server(1, 3)).expect("a new server");
    assert_eq!((stats(&director, 1).load, stats(&director, 2).load), (load(1, 0), load(1, 0)));
    assert!(matches!(stats(&director, 1).condition, Condition::Down { .. }));
    drop(leases);
    assert_eq!((stats(&director, 1).load, stats(&director, 2).load), (load(0, 0), load(0, 0)));
}

#[test]
fn server_that_is_added_again_after_its_last_connection_is_a_new_one() {
    let director = director(service(Algorithm::Lc, &[1]));
    let lease = connect(&director).expect("a server");
    take_down(&director, 1);
    director.delete_server(&vip(), address(1)).expect("a known server");
    drop(lease);
    director.add_server(&vip(), server(1, 1)).expect("a new server");
    assert_eq!(stats(&director, 1).condition, Condition::Up);
}

#[test]
fn service_that_is_added_again_finds_its_connections() {
    let director = director(service(Algorithm::Lc, &[1, 1]));
    let lease = connect(&director).expect("a server");
    let server = number(lease.server()) as u8 - b'0';
    director.delete_service(&vip()).expect("a known service");
    director.apply(Config::default()).expect("a valid configuration");
    director.add_service(service(Algorithm::Rr, &[5, 5])).expect("a new service");
    assert_eq!(stats(&director, server).load, load(1, 0));
    drop(lease);
    assert_eq!(stats(&director, server).load, load(0, 0));
}

#[test]
fn full_server_is_still_full_after_a_reload() {
    let director = director(service(Algorithm::Lc, &[]).server(limited(1, 1, 1, 0)));
    let _lease = connect(&director).expect("a server");
    director.edit_server(&vip(), limited(1, 5, 1, 0)).expect("a known server");
    assert!(stats(&director, 1).full);
    director.edit_server(&vip(), limited(1, 5, 2, 0)).expect("a known server");
    assert!(!stats(&director, 1).full);
}

#[test]
fn totals_of_a_service_never_fall_when_a_server_goes() {
    let director = director(service(Algorithm::Rr, &[1, 1]));
    assert_eq!(picks(&director, 5), "21212");
    connect(&director).expect("a server").count_to_client(7);
    director.delete_server(&vip(), address(1)).expect("a known server");
    let service = &director.stats()[0];
    assert_eq!((service.connections, service.bytes_out), (6, 7));
    assert_eq!(service.servers[0].connections, 3);
}

#[test]
fn zero_sets_counters_back_and_leaves_connections() {
    let director = director(service(Algorithm::Rr, &[1]));
    let lease = connect(&director).expect("a server");
    lease.count_to_server(1);
    director.edit_server(&vip(), server(1, 0)).expect("a known server");
    connect(&director).expect_err("nobody");
    assert_eq!(director.stats()[0].refused, 1);
    assert_eq!(director.zero(Some(&ServiceKey::name("other"))), Err(EditError::NoService));
    director.zero(Some(&vip())).expect("a known service");
    let service = &director.stats()[0];
    assert_eq!((service.connections, service.refused, service.bytes_in), (0, 0, 0));
    assert_eq!(service.servers[0].load, load(1, 0));
    lease.count_to_server(5);
    assert_eq!(director.stats()[0].bytes_in, 5);
}

#[test]
fn closing_twice_counts_once() {
    let director = director(service(Algorithm::Rr, &[1]));
    let lease = connect(&director).expect("a server");
    lease.closing();
    lease.closing();
    assert_eq!(stats(&director, 1).load, load(0, 1));
    drop(lease);
    assert_eq!(stats(&director, 1).load, load(0, 0));
}

#[test]
fn datagrams_count_as_inactive() {
    let key = ServiceKey::udp("10.9.9.9:53".parse().expect("an address"));
    let director = director(ServiceConfig::new(key.clone(), Algorithm::Rr).server(limited(1, 1, 2, 0)));
    let flow = crate::setup::flow(1);
    let leases: Vec<Lease> =
        (0..2).map(|_| director.schedule(&key, &flow, Time::ZERO).expect("a server")).collect();
    leases[0].closing();
    assert_eq!(stats(&director, 1).load, load(0, 2));
    assert!(stats(&director, 1).full);
    drop(leases);
    assert_eq!(stats(&director, 1).load, load(0, 0));
}

#[test]
fn reload_says_what_changed_and_nothing_else() {
    let director = director(service(Algorithm::Rr, &[1, 1]));
    let same = director.config();
    assert!(director.apply(same).expect("a valid configuration").is_empty());
    let other = ServiceConfig::new(ServiceKey::name("other"), Algorithm::Rr).server(server(7, 1));
    let changes = director.apply(Config { services: vec![other] }).expect("a valid configuration");
    let name = ServiceKey::name("other");
    assert_eq!(changes.services_added, std::slice::from_ref(&name));
    assert_eq!(changes.services_removed, [vip()]);
    assert_eq!(changes.servers_added, [(name, address(7))]);
    assert_eq!(changes.servers_removed, [(vip(), address(1)), (vip(), address(2))]);
    assert_eq!(changes.services_edited, []);
}

#[test]
fn edit_that_fits_nothing_is_rejected_and_changes_nothing() {
    let director = director(service(Algorithm::Rr, &[1]));
    let before = director.config();
    let missing = ServiceKey::name("missing");
    let rejected = |edit| Err(Rejected::Edit(edit));
    assert_eq!(director.add_service(service(Algorithm::Rr, &[])), rejected(EditError::ServiceExists));
    assert_eq!(director.delete_service(&missing), rejected(EditError::NoService));
    assert_eq!(director.add_server(&missing, server(1, 1)), rejected(EditError::NoService));
    assert_eq!(director.add_server(&vip(), server(1, 1)), rejected(EditError::ServerExists));
    assert_eq!(director.edit_server(&vip(), server(2, 1)), rejected(EditError::NoServer));
    assert_eq!(director.delete_server(&vip(), address(2)), rejected(EditError::NoServer));
    assert_eq!(director.config(), before);
}

#[test]
fn configuration_that_contradicts_itself_is_refused_whole() {
    let director = director(service(Algorithm::Rr, &[1]));
    let before = director.config();
    let any_port = ServiceKey::tcp("10.9.9.9:0".parse().expect("an address"));
    let v6 = ServerConfig::new("[2001:db8::1]:80".parse().expect("an address"));
    let mut one_packet = service(Algorithm::Rr, &[]);
    one_packet.one_packet = true;
    let refused = |services| director.apply(Config { services }).expect_err("a contradiction");
    assert_eq!(
        refused(vec![service(Algorithm::Rr, &[]), service(Algorithm::Lc, &[])]),
        ConfigError::DuplicateService(vip())
    );
    assert_eq!(
        refused(vec![service(Algorithm::Rr, &[1]).server(server(1, 2))]),
        ConfigError::DuplicateServer(vip(), address(1))
    );
    assert_eq!(
        refused(vec![ServiceConfig::new(any_port.clone(), Algorithm::Rr)]),
        ConfigError::PortZeroWithoutPersistence(any_port)
    );
    assert_eq!(refused(vec![one_packet]), ConfigError::OnePacketWithoutUdp(vip()));
    assert_eq!(
        refused(vec![service(Algorithm::Rr, &[]).server(v6.clone())]),
        ConfigError::MixedFamilies(vip(), v6.address)
    );
    assert_eq!(director.config(), before);
    let mut tunneled = v6;
    tunneled.forwarding = Forwarding::Tunneling(Tunnel::default());
    director.add_server(&vip(), tunneled).expect("a tunnel may lead to the other family");
}

#[test]
fn values_out_of_range_cannot_be_made() {
    assert_eq!(Weight::new(u32::MAX), Err(ConfigError::Weight(u32::MAX)));
    assert_eq!(Thresholds::new(0, 1), Err(ConfigError::Thresholds { upper: 0, lower: 1 }));
    for seconds in [0, Persistence::TIMEOUT_MAX.as_secs() + 1] {
        let timeout = std::time::Duration::from_secs(seconds);
        assert_eq!(Persistence::new(timeout), Err(ConfigError::PersistenceTimeout(timeout)));
    }
    let rule = Persistence::new(Persistence::TIMEOUT_MAX).expect("the longest timeout");
    for prefix in [0, 129] {
        assert_eq!(rule.prefix(prefix), Err(ConfigError::PersistencePrefix(prefix)));
    }
}
