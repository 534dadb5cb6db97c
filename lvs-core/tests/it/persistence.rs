//! Clients that stay on their server.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lvs_core::{
    Algorithm, Director, Event, Family, Flow, Lease, Persistence, Probe, Refusal, RestoreError,
    ServiceConfig, ServiceKey,
};

use crate::setup::{address, at, director, flow, limited, server, service, stats, vip};

/// Two servers in turn for clients that stay 100 s.
fn sticky(rule: impl FnOnce(Persistence) -> Persistence) -> ServiceConfig {
    let mut service = service(Algorithm::Rr, &[1, 1]);
    service.persistence = Some(rule(Persistence::new(Duration::from_secs(100)).expect("a timeout")));
    service
}

fn plain(rule: Persistence) -> Persistence {
    rule
}

fn lease(director: &Director, client: &str, seconds: u64) -> Lease {
    let client = SocketAddr::new(client.parse::<IpAddr>().expect("an address"), 40_000);
    director.schedule(&vip(), &Flow::new(client), at(seconds)).expect("a server")
}

/// The server that a client gets.
fn choice(director: &Director, client: &str, seconds: u64) -> SocketAddr {
    lease(director, client, seconds).server()
}

/// Whether the clients, one after the other, get one server.
fn stay_together(director: &Director, clients: &[&str]) -> bool {
    let servers: Vec<SocketAddr> = clients.iter().map(|client| choice(director, client, 0)).collect();
    servers.iter().all(|server| *server == servers[0])
}

#[test]
fn client_stays_on_its_server_whatever_its_port() {
    let director = director(sticky(plain));
    for port in [1, 2, 40_000] {
        let client = SocketAddr::from(([10, 1, 0, 1], port));
        let lease = director.schedule(&vip(), &Flow::new(client), at(0)).expect("a server");
        assert_eq!((lease.server(), lease.is_persistent()), (address(2), true));
    }
    assert_eq!(choice(&director, "10.1.0.2", 0), address(1));
}

#[test]
fn clients_of_one_network_stay_together() {
    let director = director(sticky(|rule| rule.mask([255, 255, 255, 0].into())));
    assert!(stay_together(&director, &["10.1.0.1", "10.1.0.2", "10.1.0.255"]));
    assert_ne!(choice(&director, "10.1.0.9", 0), choice(&director, "10.1.1.1", 0));
    let networks: Vec<IpAddr> = director.templates(at(0)).iter().map(|template| template.client).collect();
    assert_eq!(networks.len(), 2);
    assert!(networks.contains(&"10.1.1.0".parse().expect("an address")));
}

#[test]
fn mask_of_nothing_keeps_all_clients_together() {
    let director = director(sticky(|rule| rule.mask([0, 0, 0, 0].into())));
    assert!(stay_together(&director, &["10.1.0.1", "192.0.2.1", "255.255.255.255"]));
}

#[test]
fn ipv6_clients_stay_together_by_prefix_and_apart_from_ipv4() {
    let director = director(sticky(|rule| rule.prefix(64).expect("a prefix")));
    assert!(stay_together(&director, &["2001:db8::1", "2001:db8::ffff:1"]));
    assert_ne!(choice(&director, "2001:db8::1", 0), choice(&director, "2001:db8:0:1::1", 0));
    choice(&director, "::1", 0);
    choice(&director, "0.0.0.1", 0);
    assert_eq!(director.templates(at(0)).len(), 4);
}

#[test]
fn ipv4_client_is_the_same_client_in_its_ipv6_mapped_form() {
    let director = director(sticky(|rule| rule.mask([255, 255, 0, 0].into()).prefix(8).expect("a prefix")));
    assert!(stay_together(&director, &["10.1.0.1", "::ffff:10.1.0.1", "::ffff:10.1.7.7"]));
    let templates = director.templates(at(0));
    assert_eq!(templates.len(), 1);
    assert_eq!(templates[0].client, "10.1.0.0".parse::<IpAddr>().expect("an address"));
}

#[test]
fn timeout_runs_from_the_beginning_of_the_last_connection() {
    let director = director(sticky(plain));
    choice(&director, "10.1.0.1", 0);
    choice(&director, "10.1.0.1", 99);
    let templates = director.templates(at(150));
    assert_eq!((templates[0].server, templates[0].left), (address(2), Duration::from_secs(49)));
    assert_eq!(choice(&director, "10.1.0.1", 198), address(2));
    assert_eq!(director.templates(at(298)), []);
    assert_eq!(choice(&director, "10.1.0.1", 298), address(1), "a turn like any other");
}

#[test]
fn template_is_held_a_minute_at_a_time_while_a_connection_lives() {
    let director = director(sticky(plain));
    let held = lease(&director, "10.1.0.1", 0);
    director.tick(at(100));
    director.tick(at(101));
    assert_eq!(director.templates(at(110))[0].left, Duration::from_secs(50));
    director.tick(at(160));
    director.tick(at(161));
    drop(held);
    director.tick(at(219));
    assert_eq!(director.templates(at(219))[0].left, Duration::from_secs(1));
    director.tick(at(220));
    assert_eq!(director.templates(at(220)), []);
    assert_eq!(stats(&director, 2).templates, 0);
}

#[test]
fn client_stays_while_its_connection_lives_even_if_nobody_ticks() {
    let director = director(sticky(plain));
    let held = lease(&director, "10.1.0.1", 0);
    assert_eq!(choice(&director, "10.1.0.1", 5_000), address(2));
    drop(held);
    assert_eq!(director.templates(at(5_099)).len(), 1, "renewed by the connection at 5000");
    assert_eq!(director.templates(at(5_100)).len(), 0);
}

#[test]
fn quiesced_or_full_server_keeps_its_persistent_clients() {
    let director = director(sticky(plain));
    choice(&director, "10.1.0.1", 0);
    director.edit_server(&vip(), server(2, 0)).expect("a known server");
    assert_eq!(choice(&director, "10.1.0.1", 1), address(2));
    assert_eq!(choice(&director, "10.1.0.2", 1), address(1));

    director.edit_server(&vip(), limited(2, 1, 1, 0)).expect("a known server");
    let _full = lease(&director, "10.1.0.1", 2);
    assert!(stats(&director, 2).full);
    let _over = lease(&director, "10.1.0.1", 2);
    assert_eq!(stats(&director, 2).load.active, 2);
    assert_eq!(choice(&director, "10.1.0.3", 2), address(1));
}

#[test]
fn clients_of_a_server_that_is_down_move_and_stay_where_they_went() {
    let director = director(sticky(plain));
    assert_eq!(choice(&director, "10.1.0.1", 0), address(2));
    director.probe(&vip(), address(2), Probe::Failed("no answer".into()), at(1));
    assert_eq!(choice(&director, "10.1.0.1", 2), address(1));
    director.probe(&vip(), address(2), Probe::Passed, at(3));
    assert_eq!(choice(&director, "10.1.0.1", 4), address(1));
    assert_eq!(choice(&director, "10.1.0.1", 5), address(1));
}

#[test]
fn clients_of_a_deleted_server_move_and_come_back_if_it_does_before_they_ask() {
    let director = director(sticky(plain));
    choice(&director, "10.1.0.1", 0);
    choice(&director, "10.1.0.2", 0);
    choice(&director, "10.1.0.3", 0);
    director.delete_server(&vip(), address(2)).expect("a known server");
    assert_eq!(choice(&director, "10.1.0.1", 1), address(1));
    director.add_server(&vip(), server(2, 1)).expect("a new server");
    assert_eq!(choice(&director, "10.1.0.1", 2), address(1));
    assert_eq!(choice(&director, "10.1.0.3", 2), address(2));
}

#[test]
fn persistent_client_moves_off_the_server_that_failed_this_flow() {
    let director = director(sticky(plain));
    choice(&director, "10.1.0.1", 0);
    let again = director.schedule_except(&vip(), &flow(1), &[address(2)], at(1)).expect("a server");
    assert_eq!(again.server(), address(1));
    assert_eq!(choice(&director, "10.1.0.1", 2), address(1));
}

#[test]
fn ejected_server_keeps_its_clients_while_all_are_tried() {
    let mut service = sticky(plain);
    service.health.ejected_percent_max = 100;
    let director = director(service);
    for client in ["10.1.0.1", "10.1.0.2"] {
        for _ in 0..3 {
            let lease = lease(&director, client, 0);
            director.report(&lease, Event::Failed("reset".into()), at(0));
        }
    }
    for _ in 0..3 {
        assert_eq!(choice(&director, "10.1.0.1", 1), address(2));
    }
}

#[test]
fn client_that_is_refused_gets_no_template() {
    let director = director(sticky(plain));
    for n in [1, 2] {
        director.edit_server(&vip(), server(n, 0)).expect("a known server");
    }
    let refused = director.schedule(&vip(), &flow(1), at(0));
    assert_eq!(refused.err(), Some(Refusal::AllQuiesced));
    assert_eq!(director.templates(at(0)), []);
}

#[test]
fn client_that_finds_the_table_full_is_scheduled_without_a_template() {
    let director = director(sticky(|rule| rule.capacity(1)));
    assert!(lease(&director, "10.1.0.1", 0).is_persistent());
    for expected in [1, 2, 1] {
        let lease = lease(&director, "10.1.0.2", 0);
        assert_eq!((lease.server(), lease.is_persistent()), (address(expected), false));
    }
    assert_eq!(choice(&director, "10.1.0.1", 0), address(2));
    director.tick(at(100));
    assert!(lease(&director, "10.1.0.2", 100).is_persistent(), "there is room again");
}

#[test]
fn server_counts_the_templates_that_lead_to_it() {
    let director = director(sticky(plain));
    let templates = || (stats(&director, 1).templates, stats(&director, 2).templates);
    let held = lease(&director, "10.1.0.1", 0);
    choice(&director, "10.1.0.2", 0);
    choice(&director, "10.1.0.3", 0);
    assert_eq!(templates(), (1, 2));
    director.probe(&vip(), address(2), Probe::Failed("no answer".into()), at(1));
    choice(&director, "10.1.0.1", 1);
    assert_eq!(templates(), (2, 1), "a connection of before does not keep the old template");
    drop(held);
    director.tick(at(100));
    assert_eq!(templates(), (1, 0));
}

#[test]
fn switching_persistence_off_frees_the_clients_and_not_their_connections() {
    let director = director(sticky(plain));
    let held = lease(&director, "10.1.0.1", 0);
    director.edit_service(ServiceConfig::new(vip(), Algorithm::Rr)).expect("a known service");
    assert_eq!(director.templates(at(1)), []);
    let now = stats(&director, 2);
    assert_eq!((now.templates, now.load.active), (0, 1));
    let next = lease(&director, "10.1.0.1", 1);
    assert_eq!((next.server(), next.is_persistent()), (address(1), false));
    drop(held);
    assert_eq!(stats(&director, 2).load.active, 0);
}

#[test]
fn templates_survive_a_reload() {
    let director = director(sticky(plain));
    choice(&director, "10.1.0.1", 0);
    let mut config = director.config();
    config.services[0].algorithm = Algorithm::Wlc;
    config.services[0].servers.insert(0, server(3, 7));
    director.apply(config).expect("a valid configuration");
    assert_eq!(choice(&director, "10.1.0.1", 1), address(2));
}

#[test]
fn templates_of_a_deleted_service_are_gone_for_good() {
    let director = director(sticky(plain));
    let _held = lease(&director, "10.1.0.1", 0);
    director.delete_service(&vip()).expect("a known service");
    assert_eq!(director.templates(at(0)), []);
    director.add_service(sticky(plain)).expect("a new service");
    assert_eq!(director.templates(at(0)), []);
    assert_eq!(stats(&director, 2).templates, 0);
}

#[test]
fn template_is_assured_once_a_connection_under_it_reached_its_server() {
    let director = director(sticky(plain));
    let held = lease(&director, "10.1.0.1", 0);
    assert!(!director.templates(at(0))[0].assured);
    director.report(&held, Event::ConnectFailed("refused".into()), at(0));
    assert!(!director.templates(at(0))[0].assured);
    director.report(&held, Event::Succeeded, at(0));
    assert!(director.templates(at(0))[0].assured);
}

#[test]
fn client_of_a_quiesced_server_moves_where_the_rule_says_so() {
    let director = director(sticky(Persistence::expire_quiescent_template));
    assert_eq!(choice(&director, "10.1.0.1", 0), address(2));
    director.edit_server(&vip(), server(2, 0)).expect("a known server");
    assert_eq!(choice(&director, "10.1.0.1", 1), address(1));
    director.edit_server(&vip(), server(2, 1)).expect("a known server");
    assert_eq!(choice(&director, "10.1.0.1", 2), address(1), "the template was replaced");
}

#[test]
fn lease_on_a_deleted_server_is_cut_off_only_where_the_service_says_so() {
    for (expire, cut_off) in [(false, false), (true, true)] {
        let mut service = service(Algorithm::Rr, &[1, 1]);
        service.expire_nodest_conn = expire;
        let director = director(service);
        let held = lease(&director, "10.1.0.1", 0);
        director.edit_server(&vip(), server(2, 0)).expect("a known server");
        assert!(!held.is_cut_off(), "quiesced is not gone");
        director.delete_server(&vip(), address(2)).expect("a known server");
        assert_eq!(held.is_cut_off(), cut_off);
    }
}

#[test]
fn all_ports_and_all_services_of_a_mark_share_a_client_s_server() {
    let every_port = ServiceKey::tcp("10.9.9.9:0".parse().expect("an address"));
    let mark = ServiceKey::Mark { mark: 7.try_into().expect("not zero"), family: Family::V4 };
    for key in [every_port, mark] {
        let mut service = sticky(plain);
        service.key = key.clone();
        service.servers.iter_mut().for_each(|server| server.address.set_port(0));
        let director = director(service);
        let mut targets = Vec::new();
        for port in [21, 80, 443] {
            let flow = flow(1).to(SocketAddr::from(([10, 9, 9, 9], port)));
            let lease = director.schedule(&key, &flow, at(0)).expect("a server");
            targets.push(lease.target(&flow));
        }
        assert_eq!(targets.iter().map(SocketAddr::port).collect::<Vec<_>>(), [21, 80, 443]);
        assert!(targets.iter().all(|target| target.ip() == targets[0].ip()), "{key}: {targets:?}");
    }
}

#[test]
fn restored_templates_keep_every_client_and_the_time_it_had_left() {
    let (before, after) = (director(sticky(plain)), director(sticky(plain)));
    let clients: Vec<String> = (0..500).map(|n| format!("10.1.{}.{}", n / 100, n % 100)).collect();
    let servers: Vec<SocketAddr> = clients.iter().map(|client| choice(&before, client, 10)).collect();
    choice(&before, "2001:db8::1", 20);
    let saved = before.save_templates(at(60));
    let restored = after.restore_templates(&saved, at(1_000_000)).expect("a snapshot");
    assert_eq!((restored.restored, restored.unknown_server), (501, 0));
    let left: Vec<u64> = after.templates(at(1_000_000)).iter().map(|one| one.left.as_secs()).collect();
    assert_eq!(left.iter().filter(|left| **left == 50).count(), 500);
    assert_eq!(left.iter().filter(|left| **left == 60).count(), 1);
    assert_eq!(stats(&after, 1).templates + stats(&after, 2).templates, 501);
    for (client, server) in clients.iter().zip(servers) {
        assert_eq!(choice(&after, client, 1_000_049), server, "{client}");
    }
}

#[test]
fn templates_of_what_is_not_configured_are_skipped_and_counted() {
    let before = director(sticky(plain));
    choice(&before, "10.1.0.1", 0);
    choice(&before, "10.1.0.2", 0);
    let saved = before.save_templates(at(0));

    let restored = Director::new().restore_templates(&saved, at(0)).expect("a snapshot");
    assert_eq!((restored.restored, restored.unknown_service), (0, 2));
    let after = director(sticky(|rule| rule.capacity(1)));
    after.delete_server(&vip(), address(2)).expect("a known server");
    let restored = after.restore_templates(&saved, at(0)).expect("a snapshot");
    assert_eq!((restored.restored, restored.unknown_server), (1, 1));
    let restored = after.restore_templates(&saved, at(0)).expect("a snapshot");
    assert_eq!((restored.restored, restored.present), (0, 1));
    after.add_server(&vip(), server(2, 1)).expect("a new server");
    assert_eq!(after.restore_templates(&saved, at(0)).expect("a snapshot").no_room, 1);
}

#[test]
fn no_change_to_a_snapshot_goes_unnoticed() {
    let before = director(sticky(plain));
    choice(&before, "10.1.0.1", 0);
    choice(&before, "2001:db8::1", 0);
    let saved = before.save_templates(at(0));
    let after = director(sticky(plain));
    for length in 0..saved.len() {
        assert!(after.restore_templates(&saved[..length], at(0)).is_err(), "cut off after {length}");
    }
    for place in 0..saved.len() {
        let mut changed = saved.clone();
        changed[place] ^= 0x41;
        assert!(after.restore_templates(&changed, at(0)).is_err(), "byte {place}");
    }
    assert_eq!(after.restore_templates(b"GET / HTTP/1.1", at(0)), Err(RestoreError::NoSnapshot));
    assert_eq!(after.templates(at(0)), []);
}

#[test]
fn large_table_is_swept_in_slices_and_to_its_end() {
    let director = director(sticky(plain));
    let count = 200_000u32;
    for n in 0..count {
        let client = SocketAddr::from((std::net::Ipv4Addr::from(0x0b00_0000 | n), 1));
        drop(director.schedule(&vip(), &Flow::new(client), at(0)).expect("a server"));
    }
    let left = || stats(&director, 1).templates + stats(&director, 2).templates;
    director.tick(at(100));
    assert!((1..count - 50_000).contains(&left()), "{} left after one slice", left());
    (0..4).for_each(|_| {
        director.tick(at(100));
    });
    assert_eq!(left(), 0);
}

/// What a follower is told, in the order of the clients.
fn changes(director: &Director, seconds: u64) -> Vec<(String, SocketAddr)> {
    let (changed, more) = director.changed_templates(at(seconds), 1_000_000);
    assert!(!more);
    let mut changed: Vec<_> =
        changed.iter().map(|template| (template.client.to_string(), template.server)).collect();
    changed.sort();
    changed
}

#[test]
fn follower_is_told_all_that_there_is_and_then_what_changes() {
    let director = director(sticky(plain));
    choice(&director, "10.1.0.1", 0);
    choice(&director, "10.1.0.2", 0);
    let (first, second) = (("10.1.0.1".to_owned(), address(2)), ("10.1.0.2".to_owned(), address(1)));
    assert_eq!(changes(&director, 0), [first.clone(), second]);
    assert_eq!(changes(&director, 0), []);
    choice(&director, "10.1.0.1", 1);
    assert_eq!(changes(&director, 1), [], "renewed, but not worth telling of yet");
    choice(&director, "10.1.0.1", 30);
    assert_eq!(changes(&director, 30), std::slice::from_ref(&first));
    choice(&director, "10.1.0.3", 30);
    assert_eq!(changes(&director, 30), [("10.1.0.3".to_owned(), address(2))]);
    director.change_all_templates();
    assert_eq!(changes(&director, 30).len(), 3);
    director.unfollow_templates();
    choice(&director, "10.1.0.4", 30);
    assert_eq!(changes(&director, 30).len(), 4, "who follows anew is told everything");
}

#[test]
fn follower_that_does_not_look_for_long_misses_nothing() {
    let director = director(sticky(plain));
    changes(&director, 0);
    // More than the notes of all shards hold.
    for client in 0..200_000_u32 {
        choice(&director, &std::net::Ipv4Addr::from(client + (10 << 24)).to_string(), 0);
    }
    let (mut told, mut more) = (0, true);
    while more {
        let (changed, rest) = director.changed_templates(at(0), 1000);
        assert!(changed.len() < 3000, "a part is small");
        (told, more) = (told + changed.len(), rest);
    }
    assert_eq!(told, 200_000);
}

#[test]
fn template_that_connections_keep_alive_is_told_of_again() {
    let director = director(sticky(plain));
    changes(&director, 0);
    let _held = lease(&director, "10.1.0.1", 0);
    assert_eq!(changes(&director, 0).len(), 1);
    director.tick(at(100));
    assert_eq!(changes(&director, 100).len(), 1);
}

#[test]
fn standby_learns_moves_and_keeps_the_clients_that_it_serves_itself() {
    let (active, standby) = (director(sticky(plain)), director(sticky(plain)));
    choice(&active, "10.1.0.1", 0);
    choice(&standby, "10.1.0.8", 0);
    let (mut told, _) = active.changed_templates(at(0), 1000);
    assert_eq!(standby.learn_templates(&told, at(0)).restored, 1);
    told[0].server = address(1);
    assert_eq!(standby.learn_templates(&told, at(0)).restored, 1);
    let held = lease(&standby, "10.1.0.1", 1);
    assert_eq!(held.server(), address(1));
    told[0].server = address(2);
    assert_eq!(standby.learn_templates(&told, at(1)).present, 1);
    drop(held);
    assert_eq!(standby.learn_templates(&told, at(1)).restored, 1);
    assert_eq!(choice(&standby, "10.1.0.1", 1), address(2));
    told[0].server = address(9);
    assert_eq!(standby.learn_templates(&told, at(1)).unknown_server, 1);
    assert_eq!(changes(&standby, 1).len(), 2, "the first time everything, what was learned too");
    assert_eq!(standby.learn_templates(&active.changed_templates(at(1), 9).0, at(1)).restored, 0);
}
