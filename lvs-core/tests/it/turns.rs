//! Sequences that are known by heart, and weights that are not meant well.

use lvs_core::{Algorithm, Config, Refusal, ServiceConfig, Weight};

use crate::setup::{address, at, backup, connect, director, flow, limited, picks, server, service, vip};

#[track_caller]
fn check(algorithm: Algorithm, weights: &[u32], expected: &str) {
    assert_eq!(picks(&director(service(algorithm, weights)), expected.len()), expected, "{weights:?}");
}

#[test]
fn rr_takes_the_newest_first() {
    check(Algorithm::Rr, &[1, 1, 1], "3213213");
}

#[test]
fn wrr_serves_everyone_once_before_the_regular_pattern_begins() {
    check(Algorithm::Wrr, &[3, 2, 1], "321121321121");
    check(Algorithm::Wrr, &[4, 3, 2], "321121321");
    check(Algorithm::Wrr, &[5, 1, 1], "32111113211111");
}

#[test]
fn wrr_that_replaces_another_scheduler_begins_at_the_top() {
    let director = director(service(Algorithm::Lc, &[3, 2, 1]));
    director.edit_service(ServiceConfig::new(vip(), Algorithm::Wrr)).expect("a known service");
    assert_eq!(picks(&director, 9), "121321121");
}

#[test]
fn wrr_goes_on_where_it_was_when_only_its_service_is_edited() {
    let director = director(service(Algorithm::Wrr, &[3, 2, 1]));
    assert_eq!(picks(&director, 4), "3211");
    let mut config = director.config();
    config.services[0].health.fall = 7;
    director.apply(config).expect("a valid configuration");
    assert_eq!(picks(&director, 4), "2132");
}

#[test]
fn swrr_spreads_the_heavy_server_out() {
    check(Algorithm::Swrr, &[5, 1, 1], "11213111121311");
    check(Algorithm::Swrr, &[1, 1, 1], "123123");
    check(Algorithm::Swrr, &[0, 2, 1], "232232");
    check(Algorithm::Swrr, &[200, 0, 100], "131131");
}

#[test]
fn one_period_gives_every_server_its_weight() {
    for algorithm in [Algorithm::Wrr, Algorithm::Swrr] {
        let weights = [7, 0, 14, 35, 21];
        let director = director(service(algorithm, &weights));
        // Past the sweep with which wrr begins.
        picks(&director, 4);
        let picks = picks(&director, 2 * (1 + 2 + 5 + 3));
        for (digit, weight) in ('1'..).zip(weights) {
            assert_eq!(picks.matches(digit).count() as u32, 2 * weight / 7, "{algorithm}: {picks}");
        }
    }
}

#[test]
fn nobody_is_chosen_from_an_empty_or_quiesced_service() {
    for algorithm in Algorithm::ALL {
        let director = director(service(algorithm, &[]));
        assert_eq!(connect(&director).err(), Some(Refusal::NoServers), "{algorithm}");
        for n in 1..=3 {
            director.add_server(&vip(), server(n, 0)).expect("a new server");
            assert_eq!(connect(&director).err(), Some(Refusal::AllQuiesced), "{algorithm}");
        }
    }
}

#[test]
fn largest_weights_are_weights() {
    let max = Weight::MAX.value();
    check(Algorithm::Rr, &[max, 1], "2121");
    check(Algorithm::Wrr, &[max, 1], "21111111");
    check(Algorithm::Wrr, &[max, max], "2121");
    check(Algorithm::Swrr, &[max, 1], "11111111");
    check(Algorithm::Swrr, &[max, max - 1], "12121212");
    check(Algorithm::Lc, &[max, max], "2222");
    let director = director(service(Algorithm::Wlc, &[max, 1]));
    let leases: Vec<_> = (0..8).map(|_| connect(&director).expect("a server")).collect();
    assert_eq!(leases.iter().filter(|lease| lease.server() == address(1)).count(), 7);
}

#[test]
fn light_servers_share_by_weight_while_the_heavy_one_is_full() {
    for algorithm in [Algorithm::Wrr, Algorithm::Swrr] {
        let full = limited(3, 400_000, 1, 0);
        let director = director(service(algorithm, &[1, 3]).server(full));
        let leases: Vec<_> = (0..3).map(|_| connect(&director).expect("a server")).collect();
        let _held =
            leases.into_iter().find(|lease| lease.server() == address(3)).expect("a turn of the heavy one");
        let picks = picks(&director, 4_000);
        assert_eq!(picks.matches('3').count(), 0, "{algorithm}");
        let light = picks.matches('1').count();
        assert!((950..=1050).contains(&light), "{algorithm}: {light} of 4000");
    }
}

#[test]
fn servers_go_on_with_their_turns_when_the_backups_have_helped_out() {
    let primaries = service(Algorithm::Swrr, &[]).server(limited(1, 1, 1, 0)).server(limited(2, 1, 1, 0));
    let director = director(primaries.server(backup(3, 1)).server(backup(4, 1)));
    let connect = || director.schedule(&vip(), &flow(1), at(0)).expect("a server");
    for (first, second, third) in [(1, 2, 3), (1, 2, 4), (1, 2, 3)] {
        let leases = [connect(), connect(), connect()];
        assert_eq!(leases.map(|lease| lease.server()), [first, second, third].map(address));
    }
    assert_eq!(picks(&director, 3), "121");
    let _full = [connect(), connect()];
    assert_eq!(picks(&director, 3), "434");
}

#[test]
fn server_that_changes_its_place_changes_nothing_for_rr() {
    let director = director(service(Algorithm::Rr, &[1, 1, 1]));
    assert_eq!(picks(&director, 2), "32");
    let mut config = director.config();
    config.services[0].servers.reverse();
    let changes = director.apply(Config { services: config.services }).expect("a valid configuration");
    assert!(changes.is_empty());
    assert_eq!(picks(&director, 3), "312", "on from 2, the list now begins with 1");
}
