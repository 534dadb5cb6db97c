//! Schedulers that draw, hash and learn: what they promise, where there is no peer to compare with.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use lvs_core::{
    Algorithm, CustomScheduler, Director, Event, Flow, Lease, Pool, Scheduler, ServiceConfig, Time, Weight,
};
use proptest::prelude::*;

use crate::setup::{address, director, flow, limited, number, picks, server, service, vip};

/// A flow whose key is this number.
fn keyed(key: u32) -> Flow {
    flow(1).key(&key.to_be_bytes())
}

/// The server of each of so many keys.
fn owners(director: &Director, keys: u32) -> Vec<SocketAddr> {
    let owner = |key| director.schedule(&vip(), &keyed(key), Time::ZERO).expect("a server").server();
    (0..keys).map(owner).collect()
}

/// How often each server was chosen, as a share of all choices.
fn shares(chosen: &[SocketAddr]) -> HashMap<SocketAddr, f64> {
    let mut shares = HashMap::new();
    for server in chosen {
        *shares.entry(*server).or_insert(0.0) += 1.0 / chosen.len() as f64;
    }
    shares
}

#[track_caller]
fn check_shares(chosen: &[SocketAddr], weights: &[u32]) {
    let shares = shares(chosen);
    let total: u32 = weights.iter().sum();
    for (n, weight) in (1..).zip(weights) {
        let (share, wanted) =
            (shares.get(&address(n)).copied().unwrap_or(0.0), f64::from(*weight) / f64::from(total));
        assert!((share - wanted).abs() < 0.02, "server {n}: {share} instead of {wanted}");
    }
}

const HASHES: [Algorithm; 4] =
    [Algorithm::Rendezvous, Algorithm::HashConsistent, Algorithm::Hash, Algorithm::HashBounded { slack: 25 }];

#[test]
fn keys_are_shared_out_by_weight() {
    for algorithm in [Algorithm::Rendezvous, Algorithm::Hash] {
        let weights = [1, 0, 3, 2];
        check_shares(&owners(&director(service(algorithm, &weights)), 6_000), &weights);
    }
}

#[test]
fn draws_are_shared_out_by_weight_also_while_some_cannot_be_chosen() {
    let director = director(service(Algorithm::Random, &[1, 3, 2, 2]).server(limited(5, 2, 1, 0)));
    let connect = || director.schedule(&vip(), &flow(1), Time::ZERO).expect("a server");
    check_shares(&owners(&director, 8_000), &[1, 3, 2, 2, 2]);
    let full = std::iter::repeat_with(connect).find(|lease| lease.server() == address(5));
    check_shares(&owners(&director, 8_000), &[1, 3, 2, 2]);
    drop(full);
}

#[test]
fn equals_that_have_nothing_to_do_share_alike() {
    for algorithm in [Algorithm::Random, Algorithm::RandomTwo, Algorithm::Ewma, Algorithm::LeastConn] {
        check_shares(&owners(&director(service(algorithm, &[1, 1, 1])), 9_000), &[1, 1, 1]);
    }
}

#[test]
fn seed_decides_what_is_drawn() {
    for algorithm in [Algorithm::Random, Algorithm::Twos, Algorithm::RandomTwo, Algorithm::Ewma] {
        let drawn = |seed| {
            let mut service = service(algorithm, &[1, 1, 1]);
            service.seed = seed;
            picks(&director(service), 40)
        };
        assert_eq!(drawn(1), drawn(1), "{algorithm}");
        assert_ne!(drawn(1), drawn(2), "{algorithm}");
    }
}

#[test]
fn two_different_servers_are_compared_however_heavy_one_of_them_is() {
    for algorithm in [Algorithm::RandomTwo, Algorithm::Ewma] {
        let director = director(service(algorithm, &[Weight::MAX.value(), 1, 0]));
        let busy: Vec<Lease> = (0..3)
            .map(|_| director.schedule_except(&vip(), &flow(1), &[address(1)], Time::ZERO).expect("server 2"))
            .collect();
        assert!(picks(&director, 50).chars().all(|digit| digit == '1'), "{algorithm}");
        drop(busy);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn server_that_leaves_moves_only_its_own_keys(weights in prop::collection::vec(1..5u32, 2..7), leaves in 1..3u8) {
        for algorithm in [Algorithm::Rendezvous, Algorithm::HashConsistent] {
            let director = director(service(algorithm, &weights));
            let before = owners(&director, 300);
            director.delete_server(&vip(), address(leaves)).expect("a known server");
            for (before, after) in before.iter().zip(owners(&director, 300)) {
                prop_assert!(*before == after || *before == address(leaves), "{}", algorithm);
            }
            director.add_server(&vip(), server(leaves, weights[usize::from(leaves) - 1])).expect("a new server");
            prop_assert_eq!(before, owners(&director, 300));
        }
    }

    #[test]
    fn bounded_server_takes_no_more_than_its_share_and_the_slack(
        weights in prop::collection::vec(1..5u32, 1..7),
        slack in 0..100u16,
        keys in prop::collection::vec(0..8u32, 1..120),
    ) {
        let director = director(service(Algorithm::HashBounded { slack }, &weights));
        let total: u32 = weights.iter().sum();
        let mut held: Vec<Lease> = Vec::new();
        for key in keys {
            held.push(director.schedule(&vip(), &keyed(key), Time::ZERO).expect("a server"));
            let taken = held.last().expect("just taken").server();
            let load = held.iter().filter(|lease| lease.server() == taken).count() as f64;
            let weight = weights[usize::from(number(taken) as u8 - b'1')];
            let share = held.len() as f64 * f64::from(weight) / f64::from(total);
            prop_assert!(load <= (share * (1.0 + f64::from(slack) / 100.0)).ceil(), "{} of {}", load, share);
        }
    }

    #[test]
    fn key_stays_where_it_is_while_nothing_changes(keys in prop::collection::vec(any::<u32>(), 1..50)) {
        for algorithm in HASHES {
            let director = director(service(algorithm, &[1, 2, 3]));
            for key in &keys {
                let first = director.schedule(&vip(), &keyed(*key), Time::ZERO).expect("a server").server();
                let again = director.schedule(&vip(), &keyed(*key), Time::ZERO).expect("a server").server();
                prop_assert_eq!(first, again, "{}", algorithm);
            }
        }
    }
}

#[test]
fn ipv4_client_of_an_ipv6_listener_is_the_same_client() {
    let hashes =
        [Algorithm::Sh, Algorithm::Mh, Algorithm::IpHash, Algorithm::Hash, Algorithm::HashConsistent];
    for algorithm in hashes.into_iter().chain([Algorithm::Rendezvous]) {
        let director = director(service(algorithm, &[1, 1, 1]));
        for n in 0..200u8 {
            let v4 = Ipv4Addr::new(10, n, 7, n);
            let picks = [v4.into(), v4.to_ipv6_mapped().into()].map(|address: std::net::IpAddr| {
                let flow = Flow::new(SocketAddr::new(address, 40_000));
                director.schedule(&vip(), &flow, Time::ZERO).expect("a server").server()
            });
            assert_eq!(picks[0], picks[1], "{algorithm}");
        }
    }
}

/// A hundred requests a second for so many seconds; returns the share of each server in the second
/// half. `answer` tells how long a server takes, or that it fails.
fn simulate(
    algorithm: Algorithm,
    seconds: u64,
    answer: impl Fn(SocketAddr, Time) -> (Duration, bool),
) -> [f64; 3] {
    let mut service = service(algorithm, &[1, 1, 1]);
    // What is left to the scheduler alone.
    service.health.passive = None;
    let director = director(service);
    let mut under_way: Vec<(Time, Lease, Duration, bool)> = Vec::new();
    let mut chosen = Vec::new();
    for tick in 0..seconds * 100 {
        let now = Time::from_epoch(Duration::from_millis(tick * 10));
        let (done, rest): (Vec<_>, Vec<_>) = under_way.into_iter().partition(|(ends, ..)| *ends <= now);
        under_way = rest;
        for (ends, lease, latency, good) in done {
            let event = if good { Event::Responded { latency } } else { Event::Failed("refused".into()) };
            director.report(&lease, event, ends);
        }
        let lease = director.schedule(&vip(), &flow(1), now).expect("a server");
        if tick >= seconds * 50 {
            chosen.push(lease.server());
        }
        let (latency, good) = answer(lease.server(), now);
        under_way.push((now + latency, lease, latency, good));
    }
    let shares = shares(&chosen);
    [1, 2, 3].map(|n| shares.get(&address(n)).copied().unwrap_or(0.0))
}

const MILLISECOND: Duration = Duration::from_millis(1);

#[test]
fn ewma_sends_no_traffic_to_a_server_that_fails_fast_and_does_not_forget_it_either() {
    let shares = simulate(Algorithm::Ewma, 120, |server, _| {
        if server == address(1) { (MILLISECOND, false) } else { (MILLISECOND * 100, true) }
    });
    assert!(shares[0] > 0.0 && shares[0] < 0.03, "{shares:?}");
}

#[test]
fn ewma_finds_a_server_again_that_was_slow_and_has_recovered() {
    let shares = simulate(Algorithm::Ewma, 120, |server, now| {
        let slow = server == address(1) && now < Time::from_epoch(Duration::from_secs(40));
        (if slow { MILLISECOND * 2_000 } else { MILLISECOND * 50 }, true)
    });
    assert!(shares[0] > 0.25, "{shares:?}");
}

#[test]
fn faster_server_takes_more_by_time_of_answers() {
    for algorithm in [Algorithm::Ewma, Algorithm::LeastTime] {
        let shares = simulate(algorithm, 60, |server, _| {
            (if server == address(1) { MILLISECOND * 300 } else { MILLISECOND * 30 }, true)
        });
        assert!(shares[0] < 0.2 && shares[1] > 0.3 && shares[2] > 0.3, "{algorithm}: {shares:?}");
    }
}

/// Takes the server with this address, wherever it is.
struct Fixed(usize);

impl Scheduler for Fixed {
    fn schedule(&self, pool: Pool<'_>, _flow: &Flow, _ticket: u64) -> Option<usize> {
        Some(self.0).filter(|server| pool.is_eligible(*server))
    }
}

#[test]
fn scheduler_of_ones_own_is_asked_and_set_up_with_the_servers() {
    let heaviest = CustomScheduler::new("heaviest", |setup| {
        let heaviest = setup.seats.iter().enumerate().max_by_key(|(_, seat)| seat.weight);
        Box::new(Fixed(heaviest.map_or(0, |(server, _)| server)))
    });
    let director = director(service(Algorithm::Rr, &[1, 3, 2]).scheduler(heaviest.clone()));
    assert_eq!(picks(&director, 3), "222");
    director.edit_server(&vip(), server(3, 9)).expect("a known server");
    assert_eq!(picks(&director, 3), "333");
    let same = ServiceConfig::new(vip(), Algorithm::Rr).scheduler(heaviest);
    assert!(director.edit_service(same).expect("a known service").is_empty());
}

#[test]
fn every_name_is_read_as_it_is_written() {
    let odd = Algorithm::HashBounded { slack: 7 };
    for algorithm in Algorithm::ALL.into_iter().chain([odd]) {
        assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
    }
    for wrong in ["", "RR", "hash-bounded:", "hash-bounded:-1", "hash-bounded:70000"] {
        assert!(wrong.parse::<Algorithm>().is_err(), "{wrong}");
    }
}
