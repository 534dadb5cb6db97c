//! Configurations as text and back (feature `serde`).

use std::time::Duration;

use lvs_core::{
    Algorithm, Config, Passive, Persistence, PersistenceEngine, SchedulerFlags, ServiceConfig, ServiceKey,
};

use crate::setup::{backup, director, flow, limited, service, vip};

#[test]
fn configuration_survives_the_way_to_text_and_back() {
    let mut one = service(Algorithm::Mh, &[1, 0]).server(limited(3, 2, 10, 5)).server(backup(4, 1));
    one.flags = SchedulerFlags::FIRST.with(SchedulerFlags::THIRD);
    let rule = Persistence::new(Duration::from_millis(1500)).expect("a timeout").capacity(7);
    let rule = rule.engine(PersistenceEngine::Sip);
    one.persistence = Some(rule.mask([255, 0, 0, 0].into()).expire_quiescent_template());
    one.health.passive = None;
    one.servers[0].passive = Some(Passive { fails: 2, ..Passive::default() });
    one.key = ServiceKey::udp("10.9.9.9:5060".parse().expect("an address"));
    let other = ServiceConfig::new(ServiceKey::name("app"), Algorithm::Swrr);
    let config = Config { services: vec![one, other] };
    let text = serde_json::to_string(&config).expect("plain data");
    assert_eq!(serde_json::from_str::<Config>(&text).expect("its own text"), config);
}

#[test]
fn what_is_left_out_has_its_default() {
    let text = r#"{"services":[{"key":"TCP 10.9.9.9:80","servers":[{"address":"10.2.0.1:80"}]}]}"#;
    let config: Config = serde_json::from_str(text).expect("a configuration");
    assert_eq!(config.services, [service(Algorithm::Wlc, &[1])]);
}

#[test]
fn nothing_can_be_read_that_could_not_be_built() {
    for service in [
        r#"{"key":""}"#,
        r#"{"key":"TCP 10.9.9.9"}"#,
        r#"{"key":"UDP 10.9.9.256:53"}"#,
        r#"{"key":"FWM 0"}"#,
        r#"{"key":"FWM 7 IPv4"}"#,
        r#"{"key":"web","algorithm":"wobble"}"#,
        r#"{"key":"web","persistence":{"timeout":0}}"#,
        r#"{"key":"web","persistence":{"timeout":60,"prefix":129}}"#,
        r#"{"key":"web","persistence":{"timeout":-1}}"#,
        r#"{"key":"web","servers":[{"address":"10.0.0.1:80","weight":4294967295}]}"#,
        r#"{"key":"web","servers":[{"address":"10.0.0.1:80","thresholds":{"upper":1,"lower":2}}]}"#,
        r#"{"key":"web","wieght":1}"#,
    ] {
        assert!(serde_json::from_str::<ServiceConfig>(service).is_err(), "{service}");
    }
}

#[test]
fn explanation_names_servers_and_verdicts() {
    let director = director(service(Algorithm::Rr, &[1, 0]));
    let explanation = director.explain(&vip(), &flow(1), lvs_core::Time::ZERO).expect("a known service");
    let json = serde_json::to_value(&explanation).expect("plain data");
    assert_eq!(json["service"], "TCP 10.9.9.9:80");
    assert_eq!(json["outcome"]["server"], "10.2.0.1:80");
    assert_eq!(json["candidates"][1]["verdict"], "quiesced");
}
