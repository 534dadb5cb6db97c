//! Which servers can be chosen, and for which reason not.

use std::time::Duration;

use lvs_core::{
    Algorithm, AllEjected, Condition, Config, Director, Event, Lease, Notice, Passive, Persistence, Probe,
    Refusal, ServiceConfig, SlowStart, Thresholds, Verdict,
};

use crate::setup::{
    address, at, backup, connect, director, flow, limited, picks, server, service, stats, vip,
};

const REFUSED: &str = "connect refused";

fn failed_probe() -> Probe {
    Probe::Failed(REFUSED.into())
}

fn take_down(director: &Director, n: u8) {
    director.probe(&vip(), address(n), failed_probe(), at(0));
}

fn bring_up(director: &Director, n: u8) {
    director.probe(&vip(), address(n), Probe::Passed, at(0));
}

/// Connects at `seconds` until the n-th server comes up.
fn lease_on(director: &Director, n: u8, seconds: u64) -> Lease {
    let leases = (0..100).map(|_| director.schedule(&vip(), &flow(1), at(seconds)).expect("a server"));
    leases.into_iter().find(|lease| lease.server() == address(n)).expect("a turn in 100")
}

/// One failed connection to the n-th server at `seconds`.
fn fail(director: &Director, n: u8, seconds: u64) -> Option<Condition> {
    let lease = lease_on(director, n, seconds);
    let transition = director.report(&lease, Event::ConnectFailed(REFUSED.into()), at(seconds));
    transition.map(|transition| transition.condition)
}

/// One failure ejects for 10 s.
fn strict(service: ServiceConfig) -> ServiceConfig {
    let passive = Passive { fails: 1, window: Duration::from_secs(10), eject: Duration::from_secs(10) };
    let mut service = service;
    service.health.passive = Some(passive);
    service.health.ejected_percent_max = 100;
    service.health.ejection_max = Duration::ZERO;
    service
}

fn refusing(service: ServiceConfig) -> ServiceConfig {
    let mut service = strict(service);
    service.health.all_ejected = AllEjected::Refuse;
    service
}

/// Brings server 1 into all these states, and a client onto it before; returns what a new client
/// and that client get.
fn chances(states: &str) -> (Option<Refusal>, Option<Refusal>) {
    let mut service = refusing(ServiceConfig::new(vip(), Algorithm::Rr).server(limited(1, 1, 2, 0)));
    service.persistence = Some(Persistence::new(Duration::from_secs(60)).expect("a timeout"));
    let director = director(service);
    let known = director.schedule(&vip(), &flow(1), at(0)).expect("the only server");
    let mut leases = Vec::new();
    for state in states.split_whitespace() {
        match state {
            "full" => leases.push(director.schedule(&vip(), &flow(2), at(0)).expect("the only server")),
            "ejected" => {
                director.report(&known, Event::Failed(REFUSED.into()), at(0)).expect("an ejection");
            }
            "down" => take_down(&director, 1),
            "quiesced" => {
                director.edit_server(&vip(), limited(1, 0, 2, 0)).expect("a known server");
            }
            "removed" => {
                director.delete_server(&vip(), address(1)).expect("a known server");
            }
            other => panic!("no such state: {other}"),
        }
    }
    let outcome = |client| director.schedule(&vip(), &flow(client), at(1)).err();
    (outcome(3), outcome(1))
}

#[test]
fn first_reason_that_holds_is_the_one_that_counts() {
    for (states, reason) in [
        ("", None),
        ("full", Some(Refusal::AllFull)),
        ("full ejected", Some(Refusal::AllDown)),
        ("full ejected down", Some(Refusal::AllDown)),
        ("full ejected down quiesced", Some(Refusal::AllQuiesced)),
        ("full ejected down quiesced removed", Some(Refusal::NoServers)),
        ("ejected", Some(Refusal::AllDown)),
        ("down", Some(Refusal::AllDown)),
        ("quiesced", Some(Refusal::AllQuiesced)),
        ("removed", Some(Refusal::NoServers)),
    ] {
        assert_eq!(chances(states).0, reason, "{states}");
    }
}

#[test]
fn persistent_client_loses_its_server_only_when_it_is_down_ejected_or_removed() {
    for (states, reason) in [
        ("", None),
        ("full", None),
        ("quiesced", None),
        ("full quiesced", None),
        ("ejected", Some(Refusal::AllDown)),
        ("down", Some(Refusal::AllDown)),
        ("quiesced down", Some(Refusal::AllQuiesced)),
        ("removed", Some(Refusal::NoServers)),
    ] {
        assert_eq!(chances(states).1, reason, "{states}");
    }
}

#[test]
fn refusal_names_the_reason_of_the_server_that_came_closest() {
    let servers = [server(1, 0), server(2, 1), limited(3, 1, 1, 0)];
    let director = director(servers.into_iter().fold(service(Algorithm::Rr, &[]), ServiceConfig::server));
    take_down(&director, 2);
    let full = connect(&director).expect("server 3");
    assert_eq!(connect(&director).err(), Some(Refusal::AllFull));
    director.delete_server(&vip(), full.server()).expect("a known server");
    assert_eq!(connect(&director).err(), Some(Refusal::AllDown));
    director.delete_server(&vip(), address(2)).expect("a known server");
    assert_eq!(connect(&director).err(), Some(Refusal::AllQuiesced));
    director.delete_service(&vip()).expect("a known service");
    assert_eq!(connect(&director).err(), Some(Refusal::NoService));
}

#[test]
fn server_that_failed_this_flow_is_not_chosen_for_it_again() {
    let director = director(service(Algorithm::Wlc, &[1, 5]));
    for (tried, chosen) in [
        (vec![address(2)], Ok(address(1))),
        (vec![address(1)], Ok(address(2))),
        (vec![address(1), address(2)], Err(Refusal::AllTried)),
    ] {
        let lease = director.schedule_except(&vip(), &flow(1), &tried, at(0));
        assert_eq!(lease.map(|lease| lease.server()), chosen);
    }
}

#[test]
fn probes_take_a_server_down_after_fall_and_bring_it_back_after_rise() {
    let mut service = service(Algorithm::Rr, &[1, 1]);
    (service.health.rise, service.health.fall) = (2, 3);
    let director = director(service);
    let probe = |probe| director.probe(&vip(), address(1), probe, at(7)).map(|step| step.condition);
    assert_eq!(probe(failed_probe()), None);
    assert_eq!(probe(failed_probe()), None);
    assert_eq!(picks(&director, 2), "21");
    let down = Condition::Down { since: at(7), failures: 3, cause: REFUSED.into() };
    assert_eq!(probe(failed_probe()), Some(down.clone()));
    assert_eq!(stats(&director, 1).condition, down);
    assert_eq!(picks(&director, 2), "22");
    assert_eq!(probe(Probe::Passed), None);
    assert_eq!(picks(&director, 2), "22");
    assert_eq!(probe(Probe::Passed), Some(Condition::Up));
    assert_eq!(picks(&director, 2), "12");
}

#[test]
fn probe_of_what_is_not_configured_changes_nothing() {
    let director = director(service(Algorithm::Rr, &[1]));
    assert_eq!(director.probe(&vip(), address(2), failed_probe(), at(0)), None);
    director.delete_service(&vip()).expect("a known service");
    assert_eq!(director.probe(&vip(), address(1), failed_probe(), at(0)), None);
}

#[test]
fn failures_in_traffic_eject_until_their_time_is_over() {
    let director = director(service(Algorithm::Rr, &[1, 1]));
    assert_eq!(fail(&director, 1, 1), None);
    assert_eq!(fail(&director, 1, 2), None);
    let ejected = Condition::Ejected { since: at(3), until: at(13), failures: 3, cause: REFUSED.into() };
    assert_eq!(fail(&director, 1, 3), Some(ejected));
    let servers = |seconds| {
        let leases = (0..4).map(|_| director.schedule(&vip(), &flow(1), at(seconds)).expect("a server"));
        leases.filter(|lease| lease.server() == address(1)).count()
    };
    assert_eq!(servers(12), 0);
    assert_eq!(servers(13), 2);
    assert_eq!(stats(&director, 1).condition, Condition::Up);
}

#[test]
fn tick_ends_an_ejection_without_traffic() {
    let director = director(strict(service(Algorithm::Rr, &[1, 1])));
    fail(&director, 1, 0).expect("an ejection");
    director.tick(at(9));
    assert_ne!(stats(&director, 1).condition, Condition::Up);
    director.tick(at(10));
    assert_eq!(stats(&director, 1).condition, Condition::Up);
}

#[test]
fn first_failure_after_an_ejection_ejects_again_however_late_it_comes() {
    let director = director(service(Algorithm::Rr, &[1, 1]));
    for _ in 0..3 {
        fail(&director, 1, 0);
    }
    assert!(fail(&director, 1, 15).is_some());
    let lease = lease_on(&director, 1, 40);
    director.report(&lease, Event::Succeeded, at(40));
    assert_eq!(fail(&director, 1, 41), None);
}

#[test]
fn server_that_comes_back_up_owes_nothing_to_failures_from_before() {
    let director = director(strict(service(Algorithm::Rr, &[1, 1])));
    fail(&director, 1, 0).expect("an ejection");
    take_down(&director, 1);
    bring_up(&director, 1);
    assert_eq!(stats(&director, 1).condition, Condition::Up);
    assert_eq!(picks(&director, 4).matches('1').count(), 2);
}

#[test]
fn rule_of_a_server_goes_before_that_of_its_service() {
    let mut lenient = server(1, 1);
    lenient.passive = Some(Passive { fails: 0, ..Passive::default() });
    let director = director(strict(service(Algorithm::Rr, &[])).server(lenient).server(server(2, 1)));
    assert_eq!(fail(&director, 1, 0), None);
    assert!(fail(&director, 2, 0).is_some());
}

#[test]
fn all_are_tried_when_all_are_ejected() {
    let director = director(strict(service(Algorithm::Rr, &[1, 1, 1, 0])));
    take_down(&director, 3);
    fail(&director, 1, 0).expect("an ejection");
    fail(&director, 2, 0).expect("an ejection");
    assert_eq!(picks(&director, 4), "1212", "neither the one that is down nor the quiesced one");
}

#[test]
fn clients_are_refused_when_all_are_ejected_and_the_policy_says_so() {
    let director = director(refusing(service(Algorithm::Rr, &[1, 1])));
    fail(&director, 1, 0).expect("an ejection");
    fail(&director, 2, 0).expect("an ejection");
    assert_eq!(connect(&director).err(), Some(Refusal::AllDown));
}

#[test]
fn ejected_servers_that_are_tried_share_the_load_by_weight() {
    for algorithm in [Algorithm::Wrr, Algorithm::Swrr] {
        let director = director(strict(service(algorithm, &[1, 2])));
        fail(&director, 1, 0).expect("an ejection");
        fail(&director, 2, 0).expect("an ejection");
        let picks = picks(&director, 12);
        assert_eq!(picks.matches('1').count(), 4, "{algorithm}: {picks}");
    }
}

#[test]
fn backups_serve_only_while_no_other_server_can() {
    let director = director(service(Algorithm::Rr, &[1, 1]).server(backup(3, 9)).server(backup(4, 9)));
    assert_eq!(picks(&director, 4), "2121");
    take_down(&director, 1);
    assert_eq!(picks(&director, 2), "22");
    take_down(&director, 2);
    assert_eq!(picks(&director, 4), "4343");
    bring_up(&director, 1);
    assert_eq!(picks(&director, 2), "11");
}

#[test]
fn backup_serves_while_the_others_are_full() {
    let director = director(service(Algorithm::Wlc, &[]).server(limited(1, 1, 1, 0)).server(backup(2, 1)));
    let first = connect(&director).expect("a server");
    assert_eq!(first.server(), address(1));
    assert_eq!(picks(&director, 2), "22");
    drop(first);
    assert_eq!(picks(&director, 2), "11");
}

#[test]
fn backup_is_used_before_an_ejected_server_is_tried() {
    let director = director(strict(service(Algorithm::Rr, &[1])).server(backup(2, 1)));
    fail(&director, 1, 0).expect("an ejection");
    assert_eq!(picks(&director, 2), "22");
    take_down(&director, 2);
    assert_eq!(picks(&director, 2), "11");
}

#[test]
fn backups_share_the_load_by_weight() {
    for algorithm in [Algorithm::Wrr, Algorithm::Swrr] {
        let director = director(service(algorithm, &[1]).server(backup(2, 1)).server(backup(3, 2)));
        take_down(&director, 1);
        let picks = picks(&director, 12);
        assert_eq!(picks.matches('2').count(), 4, "{algorithm}: {picks}");
    }
}

#[test]
fn report_on_a_server_that_is_gone_changes_nothing() {
    let director = director(strict(service(Algorithm::Rr, &[1, 1])));
    let lease = lease_on(&director, 1, 0);
    director.delete_server(&vip(), address(1)).expect("a known server");
    assert_eq!(director.report(&lease, Event::Failed(REFUSED.into()), at(0)), None);
    assert_eq!(director.report(&lease, Event::Succeeded, at(0)), None);
    assert_eq!(stats(&director, 2).condition, Condition::Up);
    director.add_server(&vip(), server(1, 1)).expect("a new server");
    assert_eq!(stats(&director, 1).condition, Condition::Up);

    director.delete_service(&vip()).expect("a known service");
    assert_eq!(director.report(&lease, Event::Failed(REFUSED.into()), at(0)), None);
}

#[test]
fn half_of_the_servers_and_the_last_one_are_never_ejected() {
    for (weights, most) in [(&[1, 1, 1, 1, 1][..], 2), (&[1, 1, 0], 1), (&[1], 0)] {
        let mut service = service(Algorithm::Rr, weights);
        service.health.passive = Some(Passive { fails: 1, ..Passive::default() });
        let director = director(service);
        let mut ejected = 0;
        for _ in 0..20 {
            let lease = connect(&director).expect("a server");
            ejected += usize::from(director.report(&lease, Event::Failed(REFUSED.into()), at(0)).is_some());
        }
        assert_eq!(ejected, most, "{weights:?}");
    }
}

#[test]
fn last_server_that_probes_left_up_is_not_ejected() {
    let mut service = service(Algorithm::Rr, &[1, 1, 1, 1]);
    service.health.passive = Some(Passive { fails: 1, ..Passive::default() });
    let director = director(service);
    (2..=4).for_each(|n| take_down(&director, n));
    assert_eq!(fail(&director, 1, 0), None);
}

#[test]
fn rule_of_a_server_s_own_ejects_all_of_them_as_nginx_does() {
    let own = Passive { fails: 1, ..Passive::default() };
    let mut service = service(Algorithm::Swrr, &[1, 1]);
    service.servers.iter_mut().for_each(|server| server.passive = Some(own));
    let director = director(service);
    assert!(fail(&director, 1, 0).is_some() && fail(&director, 2, 0).is_some());
    assert_eq!(picks(&director, 4).matches('1').count(), 2, "all are tried");
    // And each time for as long as the first time.
    assert!(matches!(director.tick(at(10))[..], [Notice::Turned { .. }, Notice::Turned { .. }]));
    fail(&director, 1, 10).expect("on probation");
    assert!(matches!(stats(&director, 1).condition, Condition::Ejected { until, .. } if until == at(20)));
}

#[test]
fn tick_tells_of_each_end_of_an_ejection_once_whoever_ended_it() {
    let director = director(strict(service(Algorithm::Rr, &[1, 1, 1])));
    fail(&director, 1, 0).expect("an ejection");
    assert_eq!(director.tick(at(9)), []);
    drop(director.schedule(&vip(), &flow(1), at(10)));
    match &director.tick(at(11))[..] {
        [Notice::Turned { server, transition, .. }] => {
            assert_eq!((*server, &transition.condition), (address(1), &Condition::Up));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(director.tick(at(12)), []);
}

#[test]
fn health_is_ignored_in_a_panic_and_administration_is_not() {
    let mut service = service(Algorithm::Rr, &[1, 1, 1, 0]);
    service.health.panic_percent = 50;
    service.persistence = None;
    let director = director(service);
    take_down(&director, 1);
    assert_eq!(picks(&director, 4), "3232", "two of three are up");
    take_down(&director, 2);
    let chosen = picks(&director, 9);
    for n in ['1', '2', '3'] {
        assert_eq!(chosen.matches(n).count(), 3, "{chosen}");
    }
    bring_up(&director, 1);
    assert!(!picks(&director, 6).contains('2'));
}

/// Choices of `count` that fall on server 2, `seconds` after it came back.
fn share_when_warming(algorithm: Algorithm, seconds: u64, count: usize) -> usize {
    let mut service = service(algorithm, &[1, 1]);
    service.health.slow_start = Duration::from_secs(100);
    let director = director(service);
    take_down(&director, 2);
    director.probe(&vip(), address(2), Probe::Passed, at(0)).expect("it came up");
    let choices = (0..count).map(|_| director.schedule(&vip(), &flow(1), at(seconds)).expect("a server"));
    choices.filter(|lease| lease.server() == address(2)).count()
}

#[test]
fn share_of_a_server_that_comes_back_grows_with_time() {
    for algorithm in [Algorithm::Rr, Algorithm::Wrr] {
        for (seconds, share) in [(0, 18), (10, 18), (50, 66), (99, 99), (100, 100)] {
            assert_eq!(share_when_warming(algorithm, seconds, 200), share, "{algorithm} after {seconds} s");
        }
    }
}

#[test]
fn server_with_a_slow_start_of_its_own_warms_up_where_the_service_has_none() {
    for (own, share) in [(0, 100), (100, 66)] {
        let mut service = service(Algorithm::Rr, &[1, 1]);
        service.servers[1].slow_start = Duration::from_secs(own);
        let director = director(service);
        take_down(&director, 2);
        director.probe(&vip(), address(2), Probe::Passed, at(0)).expect("it came up");
        let choices = (0..200).map(|_| director.schedule(&vip(), &flow(1), at(50)).expect("a server"));
        assert_eq!(choices.filter(|lease| lease.server() == address(2)).count(), share, "{own}");
    }
}

#[test]
fn server_that_comes_back_is_not_given_all_connections_by_those_who_look_for_the_fewest() {
    let mut service = service(Algorithm::Wlc, &[1, 1]);
    service.health.slow_start = Duration::from_secs(100);
    let director = director(service);
    take_down(&director, 2);
    let mut held: Vec<Lease> = (0..100).map(|_| connect(&director).expect("a server")).collect();
    bring_up(&director, 2);
    for (seconds, most) in [(10, 3..=10), (50, 10..=50), (200, 50..=100)] {
        held.extend((0..150).map(|_| director.schedule(&vip(), &flow(1), at(seconds)).expect("a server")));
        let (one, two) = (stats(&director, 1).load.active, stats(&director, 2).load.active);
        assert!(most.contains(&(two * 100 / one)), "after {seconds} s: {one} and {two}");
    }
}

#[test]
fn added_server_warms_up_where_the_policy_says_so() {
    for (servers, expected) in [(SlowStart::Recovered, 50), (SlowStart::RecoveredAndAdded, 9)] {
        let mut service = service(Algorithm::Rr, &[1]);
        service.health.slow_start = Duration::from_secs(100);
        service.health.slow_start_for = servers;
        let director = director(service);
        director.tick(at(0));
        director.add_server(&vip(), server(2, 1)).expect("a new server");
        assert_eq!(picks(&director, 100).matches('2').count(), expected, "{servers:?}");
    }
}

#[test]
fn drain_is_told_once_when_the_last_connection_ends() {
    let director = director(service(Algorithm::Rr, &[1, 1]));
    let held = lease_on(&director, 2, 0);
    director.drain(&vip(), address(2), at(60)).expect("a known server");
    assert_eq!(picks(&director, 3), "111");
    assert_eq!(director.tick(at(1)), []);
    let draining = director.draining();
    assert_eq!((draining[0].server, draining[0].load.active), (address(2), 1));
    assert!(!held.is_overdue(at(59)));
    drop(held);
    assert!(matches!(director.tick(at(2))[..], [Notice::Drained { load, .. }] if load.total() == 0));
    assert_eq!((director.tick(at(3)), director.draining()), (vec![], vec![]));
}

#[test]
fn drain_ends_at_its_deadline_and_its_leases_know() {
    let director = director(service(Algorithm::Rr, &[1, 1]));
    let held = lease_on(&director, 2, 0);
    director.drain(&vip(), address(2), at(60)).expect("a known server");
    assert!(matches!(director.tick(at(60))[..], [Notice::Drained { load, .. }] if load.active == 1));
    assert!(held.is_overdue(at(60)));
    director.edit_server(&vip(), server(2, 1)).expect("a known server");
    assert!(!held.is_overdue(at(60)), "a weight ends the drain");
}

#[test]
fn history_knows_what_failed_and_not_what_was_planned() {
    let director = director(service(Algorithm::Rr, &[1, 1]));
    director.tick(at(0));
    director.probe(&vip(), address(1), failed_probe(), at(90));
    director.probe(&vip(), address(1), Probe::Passed, at(100));
    director.tick(at(100));
    director.edit_server(&vip(), server(2, 0)).expect("a known server");
    director.tick(at(200));
    let history = director.history(&vip()).expect("a known service");
    let [(_, one), (_, two)] = &history.servers[..] else { panic!("two servers") };
    assert_eq!((one.mtbf(), one.mttr()), (Some(Duration::from_secs(190)), Some(Duration::from_secs(10))));
    assert_eq!(one.availability(), Some(0.95));
    assert_eq!((two.planned, two.availability()), (Duration::from_secs(100), Some(1.0)));
    assert_eq!((history.service.failures, history.service.availability()), (0, Some(1.0)));
}

/// A service of one server that probes find down from second 10 to second 20 by way of weight 0, and a client who
/// has a template.
#[test]
fn inhibited_server_is_down_for_everybody_but_its_persistent_clients() {
    let mut service = service(Algorithm::Rr, &[1]);
    service.persistence = Some(Persistence::new(Duration::from_secs(300)).expect("a timeout"));
    let director = director(service);
    let choice = |client, seconds| director.schedule(&vip(), &flow(client), at(seconds)).map(drop);
    let told = |director: &Director, weight, probe, seconds| {
        let outcome = [(vip(), address(1), probe)];
        let change = move |config: &mut Config| config.services[0].servers[0] = server(1, weight);
        director.amend(change, &outcome, at(seconds)).expect("a good configuration");
    };
    director.tick(at(0));
    choice(1, 0).expect("it is up");
    told(&director, 0, Probe::Inhibited(REFUSED.into()), 10);
    assert_eq!((choice(1, 11), choice(2, 11)), (Ok(()), Err(Refusal::AllDown)));
    let condition = stats(&director, 1).condition;
    assert_eq!(condition, Condition::Inhibited { since: at(10), cause: REFUSED.into() });
    let explanation = director.explain(&vip(), &flow(2), at(11)).expect("a known service");
    let candidate = &explanation.candidates[0];
    assert_eq!((candidate.verdict, &*candidate.words), (Verdict::Down, &*condition.to_string()));

    // A successor goes on with it, and learns that it is not so any more but down altogether.
    let successor = Director::new();
    successor.apply(director.config()).expect("the same");
    for (key, server, record) in director.health_records(at(12)) {
        successor.restore_health(&key, server, &record, at(12)).expect("a known server");
    }
    assert_eq!(stats(&successor, 1).condition, condition);
    told(&successor, 1, Probe::Failed(REFUSED.into()), 13);
    assert!(matches!(stats(&successor, 1).condition, Condition::Down { since, .. } if since == at(10)));

    told(&director, 1, Probe::Passed, 20);
    choice(2, 20).expect("it is up");
    director.tick(at(100));
    let history = director.history(&vip()).expect("a known service");
    for history in [&history.service, &history.servers[0].1] {
        assert_eq!((history.failures, history.planned), (1, Duration::ZERO));
        assert_eq!((history.down, history.up), (Duration::from_secs(10), Duration::from_secs(90)));
    }
}

#[test]
fn client_bound_to_a_server_gets_it_unless_it_is_down_or_full() {
    let mut service = service(Algorithm::Rr, &[1, 1]);
    service.servers[0].thresholds = Thresholds::new(1, 1).expect("thresholds");
    let director = director(service);
    let on = |server| director.schedule_on(&vip(), address(server), at(0));
    director.edit_server(&vip(), server(2, 0)).expect("an edit");
    assert_eq!(on(2).expect("quiesced is no hindrance").server(), address(2));
    let lease = on(1).expect("room for one");
    assert!(on(1).is_none(), "it is full");
    drop(lease);
    assert!(on(1).is_some());
    take_down(&director, 1);
    assert!(on(1).is_none() && on(9).is_none());
}
