//! A director that goes on where another one ended.

use std::time::Duration;

use lvs_core::{
    Algorithm, Condition, Director, EditError, Event, Notice, Probe, Refusal, ServiceConfig, Time, Weight,
};

use crate::setup::{address, at, connect, director, flow, load, picks, server, service, stats, vip};

/// The successor's clock when the other one's is at 1000 s.
const LATER: u64 = 50;

fn policy(mut service: ServiceConfig) -> ServiceConfig {
    service.health.fall = 2;
    service.health.slow_start = Duration::from_secs(60);
    service
}

/// Another director of this service with what the first knows at 1000 s.
fn successor(first: &Director, service: ServiceConfig) -> Director {
    let next = director(service);
    for (key, server, record) in first.health_records(at(1000)) {
        next.restore_health(&key, server, &record, at(LATER)).expect("a configured server");
    }
    next
}

fn eject(director: &Director, n: u8, now: Time) {
    while stats(director, n).condition == Condition::Up {
        let lease = director.schedule(&vip(), &flow(1), now).expect("a server");
        if lease.server() == address(n) {
            director.report(&lease, Event::Failed("reset".into()), now);
        }
    }
}

#[test]
fn server_that_is_down_stays_down_for_the_same_reason() {
    let web = policy(service(Algorithm::Rr, &[1, 1]));
    let first = director(web.clone());
    for _ in 0..2 {
        first.probe(&vip(), address(1), Probe::Failed("HTTP 503".into()), at(990));
    }
    // One failure is not enough, and the successor sees the second.
    first.probe(&vip(), address(2), Probe::Failed("HTTP 500".into()), at(990));
    let next = successor(&first, web);
    let since = at(LATER - 10);
    let down = Condition::Down { since, failures: 2, cause: "HTTP 503".into() };
    assert_eq!(stats(&next, 1).condition, down);
    assert_eq!(picks(&next, 4), "2222");
    next.probe(&vip(), address(2), Probe::Failed("HTTP 500".into()), at(LATER));
    assert_eq!(connect(&next).expect_err("nobody is left"), Refusal::AllDown);
}

#[test]
fn ejection_ends_when_it_would_have() {
    let web = policy(service(Algorithm::Rr, &[1, 1]));
    let first = director(web.clone());
    eject(&first, 1, at(994));
    let next = successor(&first, web);
    assert_eq!(picks(&next, 4), "2222");
    let Condition::Ejected { since, until, .. } = stats(&next, 1).condition else { panic!("ejected") };
    assert_eq!((since, until), (at(LATER - 6), at(LATER + 4)));
    assert!(next.tick(at(LATER + 3)).is_empty());
    assert!(matches!(next.tick(at(LATER + 4))[..], [Notice::Turned { .. }]));
}

#[test]
fn server_that_warmed_up_goes_on_from_there() {
    let web = policy(service(Algorithm::Rr, &[1, 1]));
    let first = director(web.clone());
    for probe in [Probe::Failed("no".into()), Probe::Failed("no".into()), Probe::Passed] {
        first.probe(&vip(), address(1), probe, at(970));
    }
    let next = successor(&first, web);
    next.tick(at(LATER));
    assert_eq!(stats(&next, 1).warmth, Some(0.5));
}

#[test]
fn drain_keeps_its_deadline_unless_the_server_has_a_weight() {
    let web = policy(service(Algorithm::Rr, &[1, 1]));
    let first = director(web.clone());
    let held: Vec<_> = (0..2).map(|_| connect(&first)).collect();
    first.drain(&vip(), address(1), at(1030)).expect("a configured server");
    let mut drained = web.clone();
    drained.servers[0] = server(1, 0).weight(Weight::ZERO);
    let next = successor(&first, drained);
    let draining = next.draining();
    assert_eq!(draining.iter().map(|left| left.deadline).collect::<Vec<_>>(), [at(LATER + 30)]);
    assert_eq!(successor(&first, web).draining(), []);
    drop(held);
}

#[test]
fn connection_that_is_taken_up_is_there_and_did_not_begin() {
    let next = director(service(Algorithm::Rr, &[0, 1]));
    let lease = next.resume(&vip(), address(1)).expect("a configured server");
    assert_eq!((stats(&next, 1).load, stats(&next, 1).connections), (load(1, 0), 0));
    drop(lease);
    assert_eq!(stats(&next, 1).load, load(0, 0));
    assert!(next.resume(&vip(), address(3)).is_none());
    let record = Default::default();
    assert_eq!(next.restore_health(&vip(), address(3), &record, at(1)), Err(EditError::NoServer));
}
