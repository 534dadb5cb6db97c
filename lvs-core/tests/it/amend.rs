//! Configuration and health that change as one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lvs_core::{Algorithm, Condition, Config, ConfigError, Probe, ServiceConfig, Time};

use crate::setup::{address, at, connect, director, flow, picks, server, service, stats, vip};

const SORRY: u8 = 9;

fn failed(n: u8) -> (lvs_core::ServiceKey, std::net::SocketAddr, Probe) {
    (vip(), address(n), Probe::Failed("connect refused".into()))
}

fn passed(n: u8) -> (lvs_core::ServiceKey, std::net::SocketAddr, Probe) {
    (vip(), address(n), Probe::Passed)
}

fn own(config: &mut Config) -> &mut ServiceConfig {
    &mut config.services[0]
}

#[test]
fn whoever_schedules_finds_the_servers_or_the_sorry_server_and_never_neither_or_both() {
    // A scheduler that turns, one that looks at loads, and templates.
    let mut persistent = service(Algorithm::Rr, &[1, 1, 1]);
    persistent.persistence = lvs_core::Persistence::new(std::time::Duration::from_secs(60)).ok();
    for config in [service(Algorithm::Rr, &[1, 1, 1]), service(Algorithm::Wlc, &[3, 2, 1]), persistent] {
        let director = Arc::new(director(config));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let looking = scope.spawn(|| {
                let mut picker = director.picker(&vip());
                let (mut seen, mut client) = ([0_u32; 2], 0_u16);
                while !done.load(Ordering::Relaxed) {
                    client = client.wrapping_add(1);
                    for lease in [
                        director.schedule(&vip(), &flow(client), Time::ZERO),
                        picker.schedule_except(&flow(client), &[], Time::ZERO),
                    ] {
                        let server = lease.expect("a pool that is never empty").server();
                        seen[usize::from(server == address(SORRY))] += 1;
                    }
                }
                seen
            });
            for _ in 0..2_000 {
                let lost = |config: &mut Config| own(config).servers.push(server(SORRY, 1));
                director.amend(lost, &[failed(1), failed(2), failed(3)], Time::ZERO).expect("valid");
                assert_eq!(connect(&director).expect("a server").server(), address(SORRY));
                let gained =
                    |config: &mut Config| own(config).servers.retain(|one| one.address != address(SORRY));
                director.amend(gained, &[passed(1), passed(2), passed(3)], Time::ZERO).expect("valid");
                assert_ne!(connect(&director).expect("a server").server(), address(SORRY));
            }
            done.store(true, Ordering::Relaxed);
            let seen = looking.join().expect("no pool was empty");
            assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
        });
    }
}

#[test]
fn outcomes_count_as_probes_do() {
    let mut config = service(Algorithm::Rr, &[1, 1]);
    config.health.fall = 2;
    let director = director(config);
    director.amend(|_| {}, &[failed(1)], at(1)).expect("valid");
    assert_eq!(stats(&director, 1).condition, Condition::Up);
    director.amend(|_| {}, &[failed(1), failed(7)], at(2)).expect("valid");
    let cause = "connect refused".into();
    assert_eq!(stats(&director, 1).condition, Condition::Down { since: at(2), failures: 2, cause });
    assert_eq!(picks(&director, 3), "222");
}

#[test]
fn turn_goes_on_where_it_was() {
    let director = director(service(Algorithm::Rr, &[1, 1, 1, 1]));
    assert_eq!(picks(&director, 2), "43");
    director.amend(|_| {}, &[failed(2)], at(1)).expect("valid");
    assert_eq!(picks(&director, 3), "143");
}

#[test]
fn change_that_contradicts_itself_changes_nothing() {
    let director = director(service(Algorithm::Rr, &[1]));
    let twice = |config: &mut Config| own(config).servers.push(server(1, 1));
    let error = director.amend(twice, &[failed(1)], at(1)).expect_err("twice the same");
    assert!(matches!(error, ConfigError::DuplicateServer(..)), "{error}");
    assert_eq!(stats(&director, 1).condition, Condition::Up);
    assert_eq!(picks(&director, 1), "1");
}
