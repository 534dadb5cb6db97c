//! Sessions of persistence engines: what belongs together stays on one server, wherever it comes from.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lvs_core::{
    Algorithm, Config, ConfigError, Decider, Director, Flow, Lease, Outcome, Persistence, PersistenceEngine,
    Refusal, ServerConfig, ServiceConfig, ServiceKey, Weight,
};

use crate::setup::{address, at, director};

fn vip() -> ServiceKey {
    ServiceKey::udp("10.9.9.9:5060".parse().expect("an address"))
}

/// Two servers in turn for calls that stay 100 s.
fn phones(rule: impl FnOnce(Persistence) -> Persistence) -> ServiceConfig {
    let persistence = Persistence::new(Duration::from_secs(100)).expect("a timeout");
    let mut service = ServiceConfig::new(vip(), Algorithm::Rr);
    service.persistence = Some(rule(persistence.engine(PersistenceEngine::Sip)));
    service.server(ServerConfig::new(address(1))).server(ServerConfig::new(address(2)))
}

fn plain(rule: Persistence) -> Persistence {
    rule
}

/// As `-M 0.0.0.0`: the call alone decides.
fn any_client(rule: Persistence) -> Persistence {
    rule.mask([0, 0, 0, 0].into())
}

fn flow(client: &str) -> Flow {
    Flow::new(SocketAddr::new(client.parse::<IpAddr>().expect("an address"), 5060))
}

fn lease(director: &Director, client: &str, call: &str, seconds: u64) -> Lease {
    let lease = director.schedule_session(&vip(), &flow(client), call.as_bytes(), &[], at(seconds));
    lease.expect("a server")
}

fn choice(director: &Director, client: &str, call: &str, seconds: u64) -> SocketAddr {
    lease(director, client, call, seconds).server()
}

#[test]
fn call_stays_where_it_is_and_the_next_call_of_its_client_is_scheduled() {
    let director = director(phones(plain));
    let first = choice(&director, "10.1.0.1", "one", 0);
    assert_ne!(choice(&director, "10.1.0.1", "two", 0), first);
    assert_eq!(choice(&director, "10.1.0.1", "one", 0), first);
    assert!(lease(&director, "10.1.0.1", "one", 0).is_persistent());
}

#[test]
fn call_of_another_network_is_another_call_unless_the_mask_says_otherwise() {
    let strict = director(phones(plain));
    assert_ne!(choice(&strict, "10.1.0.1", "one", 0), choice(&strict, "10.1.0.2", "one", 0));
    let lax = director(phones(any_client));
    assert_eq!(choice(&lax, "10.1.0.1", "one", 0), choice(&lax, "192.0.2.7", "one", 0));
}

#[test]
fn call_is_forgotten_after_its_timeout() {
    let director = director(phones(plain));
    choice(&director, "10.1.0.1", "one", 0);
    choice(&director, "10.1.0.1", "two", 50);
    assert_eq!(director.templates(at(99)).len(), 2);
    (0..3).for_each(|_| drop(director.tick(at(120))));
    let left = director.templates(at(120));
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].session.as_deref(), Some(&b"two"[..]));
    assert_eq!(left[0].client, "10.1.0.1".parse::<IpAddr>().expect("an address"));
}

#[test]
fn who_names_no_call_is_refused() {
    let director = director(phones(plain));
    let refusal = director.schedule(&vip(), &flow("10.1.0.1"), at(0)).err();
    assert_eq!(refusal, Some(Refusal::NoSession));
    assert_eq!(director.stats()[0].refused, 1);
    assert!(director.templates(at(0)).is_empty());
}

#[test]
fn call_counts_for_nothing_where_there_is_no_engine() {
    let mut service = phones(plain);
    service.persistence = Some(Persistence::new(Duration::from_secs(100)).expect("a timeout"));
    let director = director(service);
    assert_eq!(choice(&director, "10.1.0.1", "one", 0), choice(&director, "10.1.0.1", "two", 0));
    assert_eq!(director.templates(at(0))[0].session, None);
}

#[test]
fn picker_keeps_calls_together_and_follows_a_change_of_the_engine() {
    let director = std::sync::Arc::new(director(phones(plain)));
    let mut picker = director.picker(&vip());
    assert_eq!(picker.persistence_engine(), Some(PersistenceEngine::Sip));
    let mut choice = |call: &[u8]| {
        let lease = picker.schedule_session(&flow("10.1.0.1"), call, &[], at(0));
        lease.expect("a server").server()
    };
    let (one, two) = (choice(b"one"), choice(b"two"));
    assert_ne!(one, two);
    assert_eq!((choice(b"one"), choice(b"two")), (one, two));
    let mut service = phones(plain);
    service.persistence = None;
    director.apply(Config { services: vec![service] }).expect("valid");
    assert_eq!(picker.persistence_engine(), None);
}

#[test]
fn quiesced_server_keeps_its_calls() {
    let director = director(phones(plain));
    let server = choice(&director, "10.1.0.1", "one", 0);
    let quiesced = ServerConfig::new(server).weight(Weight::ZERO);
    director.edit_server(&vip(), quiesced).expect("a known server");
    assert_eq!(choice(&director, "10.1.0.1", "one", 0), server);
    assert_ne!(choice(&director, "10.1.0.1", "two", 0), server);
}

#[test]
fn calls_survive_the_way_to_another_director() {
    let (before, told) = (director(phones(any_client)), director(phones(any_client)));
    let calls: Vec<String> = (0..200).map(|n| format!("{n}@client")).collect();
    let servers: Vec<SocketAddr> = calls.iter().map(|call| choice(&before, "10.1.0.1", call, 0)).collect();

    let after = director(phones(any_client));
    let restored = after.restore_templates(&before.save_templates(at(0)), at(0)).expect("a snapshot");
    assert_eq!(restored.restored, 200);
    let (changed, _) = before.changed_templates(at(0), 1000);
    assert_eq!(told.learn_templates(&changed, at(0)).restored, 200);
    for (call, server) in calls.iter().zip(servers) {
        assert_eq!(choice(&after, "10.1.0.9", call, 0), server, "{call}");
        assert_eq!(choice(&told, "10.1.0.9", call, 0), server, "{call}");
    }
}

#[test]
fn engine_is_for_datagrams() {
    let refused = |key: ServiceKey| {
        let mut service = phones(plain);
        service.key = key;
        let applied = Director::new().apply(Config { services: vec![service] });
        matches!(applied, Err(ConfigError::EngineWithoutUdp(_, PersistenceEngine::Sip)))
    };
    assert!(refused(ServiceKey::tcp("10.9.9.9:5060".parse().expect("an address"))));
    assert!(refused(ServiceKey::name("phones")));
    assert!(!refused(vip()));
    assert!(!refused("FWM 7".parse().expect("a mark")));
}

#[test]
fn explanation_is_of_a_new_session_and_not_of_the_client_s_network() {
    let mut service = phones(plain);
    let engine = service.persistence;
    service.persistence = Some(Persistence::new(Duration::from_secs(100)).expect("a timeout"));
    let director = director(service.clone());
    let client = flow("10.1.0.1");
    let before = director.schedule(&vip(), &client, at(0)).expect("a server").server();
    service.persistence = engine;
    director.edit_service(service).expect("a known service");
    let said = director.explain(&vip(), &client, at(0)).expect("a known service");
    assert_eq!(said.decider, Decider::Scheduler(Algorithm::Rr));
    let chosen = choice(&director, "10.1.0.1", "one", 0);
    assert_eq!(said.outcome, Outcome::Server(chosen));
    assert_ne!(chosen, before);
}
