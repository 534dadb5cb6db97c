//! Which servers can be chosen, and for which reason not.

use std::time::Duration;

use lvs_core::{
    Algorithm, AllEjected, Condition, Director, Event, Lease, Passive, Persistence, Probe, Refusal,
    ServiceConfig,
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
    let lease = lease_on(&director, 1, 30);
    director.report(&lease, Event::Succeeded, at(30));
    assert_eq!(fail(&director, 1, 31), None);
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
