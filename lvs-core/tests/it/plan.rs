//! What a change would do, told before it is done.

use std::time::Duration;

use lvs_core::{Algorithm, Changes, Config, Flow, Persistence, ServiceConfig};

use crate::setup::{address, connect, director, flow, server, service, stats, vip};

fn config(service: ServiceConfig) -> Config {
    Config { services: vec![service] }
}

/// Percent of the clients that move between two lists of weights.
fn moved(algorithm: Algorithm, before: &[u32], after: &[u32]) -> Option<f64> {
    let director = director(service(algorithm, before));
    let plan = director.plan(&config(service(algorithm, after))).expect("a valid configuration");
    plan.moved.first().map(lvs_core::Moved::percent)
}

#[test]
fn plan_is_what_apply_says_and_changes_nothing() {
    let mut before = service(Algorithm::Sh, &[1, 2, 3]);
    before.persistence = Some(Persistence::new(Duration::from_secs(60)).expect("a timeout"));
    let director = director(before.clone());
    let _held: Vec<_> = (0..30).map(|n| director.schedule(&vip(), &flow(n), lvs_core::Time::ZERO)).collect();
    let third = stats(&director, 3);
    assert!(third.load.active > 0);

    let mut wanted = service(Algorithm::Sh, &[1, 5]);
    wanted.persistence = before.persistence;
    let wanted = config(wanted.server(server(4, 1)));
    let plan = director.plan(&wanted).expect("a valid configuration");
    assert_eq!(director.config(), config(before));
    assert_eq!(plan.servers_added, [(vip(), address(4))]);
    assert_eq!(plan.servers_removed, [(vip(), address(3))]);
    let reweighted = &plan.servers_reweighted[..];
    assert!(matches!(reweighted, [one] if one.before.value() == 2 && one.after.value() == 5));
    assert_eq!(plan.connections, u64::from(third.load.active));
    assert_eq!(plan.templates, u64::from(third.templates));
    assert_eq!(director.apply(wanted).expect("a valid configuration"), plan);
}

#[test]
fn maglev_moves_little_more_than_it_must_and_sh_much() {
    let (mh, sh) = (moved(Algorithm::Mh, &[1; 10], &[1; 11]), moved(Algorithm::Sh, &[1; 10], &[1; 11]));
    assert!(mh.is_some_and(|moved| (7.0..20.0).contains(&moved)), "mh: {mh:?}");
    assert!(sh.is_some_and(|moved| moved > 50.0), "sh: {sh:?}");
}

#[test]
fn share_that_moves_is_that_of_the_clients_who_do() {
    use Algorithm::{Dh, Hash, HashBounded, HashConsistent, IpHash, Mh, Rendezvous, Sh};
    let clients = || {
        let addresses = (0..5000u32).map(|n| std::net::Ipv4Addr::from(n.wrapping_mul(0x9e37_79b1)));
        addresses.map(|address| Flow::new((address, 40_000).into()).to((address, 80).into()))
    };
    for algorithm in [Dh, Sh, Mh, IpHash, Hash, HashConsistent, Rendezvous, HashBounded { slack: 25 }] {
        let mut weights = vec![3; 12];
        let before = weights.clone();
        weights[4] = 1;
        let reweighted = weights.clone();
        weights.push(2);
        let quiesced = [&[0], &before[1..]].concat();
        for after in [&reweighted[..], &weights, &before[..11], &before[..2], &quiesced] {
            let told = moved(algorithm, &before, after).expect("it follows the flow");
            let directors = [&before[..], after].map(|weights| {
                let director = director(service(algorithm, &before));
                director.apply(config(service(algorithm, weights))).expect("a valid configuration");
                director
            });
            let moves = clients().filter(|flow| {
                let [old, new] = directors
                    .each_ref()
                    .map(|director| director.schedule(&vip(), flow, lvs_core::Time::ZERO));
                old.map(|lease| lease.server()) != new.map(|lease| lease.server())
            });
            let counted = moves.count() as f64 / 50.0;
            assert!((told - counted).abs() < 2.5, "{algorithm} to {after:?}: {told} and {counted}");
        }
    }
}

#[test]
fn share_that_moves_is_told_only_of_schedulers_that_follow_the_flow() {
    assert_eq!(moved(Algorithm::Wlc, &[1, 1], &[1]), None);
    assert_eq!(moved(Algorithm::Mh, &[1, 1], &[1, 1]), None, "nothing changes");
}

#[test]
fn switching_persistence_off_affects_every_template() {
    let mut sticky = service(Algorithm::Rr, &[1, 1]);
    sticky.persistence = Some(Persistence::new(Duration::from_secs(60)).expect("a timeout"));
    let director = director(sticky.clone());
    (0..7).for_each(|n| drop(director.schedule(&vip(), &flow(n), lvs_core::Time::ZERO)));
    sticky.persistence = None;
    assert_eq!(director.plan(&config(sticky)).expect("a valid configuration").templates, 7);
}

#[test]
fn plan_of_the_present_configuration_is_empty() {
    let director = director(service(Algorithm::Mh, &[1, 2]));
    let _held = connect(&director);
    assert_eq!(director.plan(&director.config()).expect("a valid configuration"), Changes::default());
}
