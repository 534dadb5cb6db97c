//! Many threads on one director: nothing is lost, counted twice or sent where nobody ever was.
//!
//! Threads run for a number of rounds, not for a time.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use lvs_core::{
    Algorithm, Changes, Config, Director, Event, Explanation, Lease, Notice, Passive, Persistence, Picker,
    Probe, Refusal, ServiceConfig,
};

use crate::setup::{address, at, director, flow, limited, load, server, service, vip};

const SCHEDULERS: usize = 3;
const ROUNDS: u16 = 20_000;

fn is_shared<T: Send + Sync + 'static>() {}

#[test]
fn director_and_lease_can_be_shared_between_threads() {
    is_shared::<Director>();
    is_shared::<Lease>();
    is_shared::<Picker>();
    is_shared::<Config>();
    is_shared::<Explanation>();
    is_shared::<Changes>();
    is_shared::<Notice>();
    is_shared::<Refusal>();
}

#[test]
fn picker_follows_the_service_through_reloads_and_its_absence() {
    let director = Arc::new(Director::new());
    let mut picker = director.picker(&vip());
    let mut pick = |round: u16| picker.schedule(&flow(round), at(0)).map(|lease| lease.server());
    assert_eq!(pick(1), Err(Refusal::NoService));
    director.add_service(service(Algorithm::Rr, &[1])).expect("a new service");
    assert_eq!(pick(2), Ok(address(1)));
    director.add_server(&vip(), server(2, 1)).expect("a new server");
    director.delete_server(&vip(), address(1)).expect("a known server");
    assert_eq!(pick(3), Ok(address(2)));
    director.delete_service(&vip()).expect("a known service");
    assert_eq!(pick(4), Err(Refusal::NoService));
}

/// A configuration that differs from round to round: servers come and go, weights, thresholds,
/// ranks and persistence change.
fn wanted(algorithm: Algorithm, round: u32) -> Config {
    let mut wanted = ServiceConfig::new(vip(), algorithm);
    wanted.health.passive =
        Some(Passive { fails: 2, window: Duration::from_secs(1), eject: Duration::from_secs(round.into()) });
    if !round.is_multiple_of(3) {
        wanted.persistence = Some(Persistence::new(Duration::from_secs(5)).expect("a timeout"));
    }
    for n in (1..=8).filter(|n| !(round + u32::from(*n)).is_multiple_of(4)) {
        let mut server = limited(n, (round + u32::from(n)) % 5, round % 7, 0);
        server.backup = n % 4 == 1;
        wanted = wanted.server(server);
    }
    Config { services: vec![wanted] }
}

/// Schedules, reports and drops; holds a few leases at any time.
fn traffic(director: &Director, salt: u16, known: &HashSet<SocketAddr>) {
    let mut held = Vec::new();
    for round in 0..ROUNDS {
        let now = at(u64::from(round) / 100);
        match director.schedule(&vip(), &flow(round.wrapping_mul(salt) % 64), now) {
            Ok(lease) => {
                assert!(known.contains(&lease.server()), "{lease:?}");
                match round % 5 {
                    0 => drop(director.report(&lease, Event::ConnectFailed("refused".into()), now)),
                    1 => lease.closing(),
                    _ => drop(director.report(&lease, Event::Succeeded, now)),
                }
                held.push(lease);
            }
            Err(Refusal::NoService) => panic!("the service is always there"),
            Err(_) => {}
        }
        if held.len() > 6 {
            drop(held.swap_remove(usize::from(round) % held.len()));
        }
    }
}

/// Reloads, edits, probes and looks, until the traffic is over.
fn operate(director: &Director, algorithm: Algorithm, busy: &AtomicU32) {
    let mut round = 0;
    while busy.load(Ordering::Relaxed) > 0 {
        round += 1;
        let n = (round % 8) as u8 + 1;
        director.apply(wanted(algorithm, round)).expect("a valid configuration");
        // Present or not, as the round has it.
        let _ = director.edit_server(&vip(), server(n, 3));
        let _ = director.delete_server(&vip(), address(n));
        let _ = director.add_server(&vip(), server(n, 2));
        let probe = if round % 2 == 0 { Probe::Passed } else { Probe::Failed("no answer".into()) };
        director.probe(&vip(), address(n), probe, at(round.into()));
        director.tick(at(u64::from(round) / 100));
        for service in director.stats() {
            let scheduled = u64::from(ROUNDS) * SCHEDULERS as u64;
            assert!(service.connections <= scheduled, "{} connections", service.connections);
        }
        director.zero(None).expect("no service is named");
    }
}

#[test]
fn all_counts_are_zero_after_traffic_through_reloads_probes_and_failures() {
    for algorithm in Algorithm::ALL {
        let director = director(wanted(algorithm, 1).services.remove(0));
        let known: HashSet<SocketAddr> = (1..=8).map(address).collect();
        let busy = AtomicU32::new(SCHEDULERS as u32);
        thread::scope(|scope| {
            for salt in [1, 7, 13] {
                let (director, known, busy) = (&director, &known, &busy);
                scope.spawn(move || {
                    let _end = Leaving(busy);
                    traffic(director, salt, known);
                });
            }
            scope.spawn(|| operate(&director, algorithm, &busy));
        });
        director.apply(wanted(algorithm, 3)).expect("a valid configuration");
        for server in &director.stats()[0].servers {
            assert_eq!(
                (server.load, server.full),
                (load(0, 0), false),
                "{algorithm} {}",
                server.config.address
            );
            assert_eq!(server.templates, 0, "round 3 has no persistence");
        }
    }
}

/// Counts a thread out, also one that panics: the operator must not wait for ever.
struct Leaving<'a>(&'a AtomicU32);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn turns_are_dealt_fairly_to_threads_at_once() {
    for algorithm in [Algorithm::Rr, Algorithm::Wrr, Algorithm::Swrr] {
        let director = director(service(algorithm, &[1, 1, 1, 1]));
        let counts: [AtomicU64; 4] = Default::default();
        thread::scope(|scope| {
            for _ in 0..SCHEDULERS {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        let lease = director.schedule(&vip(), &flow(1), at(0)).expect("a server");
                        let place = (1..=4).position(|n| address(n) == lease.server()).expect("a server");
                        counts[place].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let each = u64::from(ROUNDS) * SCHEDULERS as u64 / 4;
        assert_eq!(counts.map(AtomicU64::into_inner), [each; 4], "{algorithm}");
    }
}

#[test]
fn threshold_is_exceeded_by_no_more_than_the_threads_that_raced_for_it() {
    let upper = 10;
    let director = director(service(Algorithm::Rr, &[]).server(limited(1, 1, upper, 0)));
    let most = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..SCHEDULERS {
            scope.spawn(|| {
                let mut held = Vec::new();
                for round in 0..ROUNDS {
                    held.extend(director.schedule(&vip(), &flow(1), at(0)));
                    most.fetch_max(director.stats()[0].servers[0].load.active, Ordering::Relaxed);
                    if held.len() > 5 || round % 3 == 0 {
                        held.pop();
                    }
                }
            });
        }
    });
    let most = most.into_inner();
    assert!((upper..upper + SCHEDULERS as u32).contains(&most), "{most} connections");
    let now = &director.stats()[0].servers[0];
    assert_eq!((now.load, now.full), (load(0, 0), false));
}

#[test]
fn first_connections_of_a_client_at_once_get_one_server() {
    let mut service = service(Algorithm::Rr, &[1, 1, 1]);
    service.persistence = Some(Persistence::new(Duration::from_secs(60)).expect("a timeout"));
    let director = director(service);
    for client in 0..500 {
        let servers: Vec<SocketAddr> = thread::scope(|scope| {
            let connect = || director.schedule(&vip(), &flow(client), at(0)).expect("a server").server();
            let threads: Vec<_> = (0..SCHEDULERS).map(|_| scope.spawn(connect)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(servers.iter().all(|server| *server == servers[0]), "{servers:?}");
    }
}
