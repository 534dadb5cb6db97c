//! What the director says of a decision, and that saying it changes nothing.

use std::time::Duration;

use lvs_core::{Algorithm, Decider, Director, Event, Outcome, Persistence, Probe, Refusal, Time, Verdict};

use crate::setup::{address, at, backup, connect, director, flow, limited, server, service, stats, vip};

fn outcome(director: &Director, client: u16, seconds: u64) -> Outcome {
    director.explain(&vip(), &flow(client), at(seconds)).expect("a known service").outcome
}

fn verdicts(director: &Director) -> Vec<(Verdict, String)> {
    let explanation = director.explain(&vip(), &flow(1), at(0)).expect("a known service");
    explanation.candidates.into_iter().map(|candidate| (candidate.verdict, candidate.words)).collect()
}

#[test]
fn explained_outcome_is_what_the_next_flow_gets_however_often_it_is_asked() {
    for algorithm in Algorithm::ALL {
        let director = director(service(algorithm, &[3, 1, 2, 0, 5]));
        let mut held = Vec::new();
        for round in 0..60 {
            let said = outcome(&director, round, 0);
            assert_eq!(said, outcome(&director, round, 0), "{algorithm}: asking moved something");
            match director.schedule(&vip(), &flow(round), Time::ZERO) {
                Ok(lease) => {
                    assert_eq!(said, Outcome::Server(lease.server()), "{algorithm} in round {round}");
                    held.push(lease);
                }
                // Hashing may come upon the quiesced one.
                Err(refusal) => assert_eq!(said, Outcome::Refused(refusal), "{algorithm} in round {round}"),
            }
            if round % 3 == 0 && !held.is_empty() {
                drop(held.remove(0));
            }
        }
    }
}

#[test]
fn each_server_has_the_first_reason_that_counts() {
    let mut service = service(Algorithm::Rr, &[1, 0, 1, 1]).server(limited(5, 1, 1, 0)).server(backup(6, 1));
    service.health.passive = Some(lvs_core::Passive { fails: 1, ..Default::default() });
    let director = director(service);
    let mut held = Vec::new();
    while !stats(&director, 5).full {
        held.push(connect(&director).expect("a server"));
    }
    held.extend((0..8).map(|_| connect(&director).expect("a server")));
    let failing = held.iter().find(|lease| lease.server() == address(4)).expect("its turn came");
    director.report(failing, Event::Failed("reset by peer".into()), at(0)).expect("an ejection");
    for n in [2, 3] {
        director.probe(&vip(), address(n), Probe::Failed("connect refused".into()), at(43_384));
    }
    let said = verdicts(&director);
    let words = |words: &str| words.to_owned();
    assert_eq!(
        said,
        [
            (Verdict::Chosen, words("chosen")),
            (Verdict::Quiesced, words("quiesced: weight 0")),
            (Verdict::Down, words("down since 1970-01-01 12:03:04Z: connect refused")),
            (
                Verdict::Ejected,
                words("ejected from 1970-01-01 00:00:00Z until 1970-01-01 00:00:10Z: reset by peer")
            ),
            (Verdict::Full, words("full: 1 connections, upper threshold 1")),
            (Verdict::Spared, words("backup: others can be chosen")),
        ]
    );
}

#[test]
fn bound_server_is_explained_as_it_would_be_taken() {
    let mut service = service(Algorithm::Rr, &[1, 0, 1, 1]).server(limited(5, 0, 1, 0));
    service.health.passive = Some(lvs_core::Passive { fails: 1, ..Default::default() });
    let director = director(service);
    director.probe(&vip(), address(3), Probe::Failed("connect refused".into()), at(0));
    let failing = director.schedule_on(&vip(), address(4), at(0)).expect("it is up");
    director.report(&failing, Event::Failed("reset by peer".into()), at(0)).expect("an ejection");
    let _filling = director.schedule_on(&vip(), address(5), at(0)).expect("it has room");
    for (number, verdict, words) in [
        (1, Verdict::Chosen, "chosen"),
        (2, Verdict::Chosen, "chosen although quiesced"),
        (3, Verdict::Down, "down since 1970-01-01 00:00:00Z: connect refused"),
        (4, Verdict::Ejected, "ejected from 1970-01-01 00:00:00Z until 1970-01-01 00:00:10Z: reset by peer"),
        // It has no weight either; that alone would not keep a client away.
        (5, Verdict::Full, "full: 1 connections, upper threshold 1"),
    ] {
        let said = director.explain_on(&vip(), address(number), at(0)).expect("a known server");
        assert_eq!((said.verdict, &*said.words), (verdict, words));
        let taken = director.schedule_on(&vip(), address(number), at(0));
        assert_eq!(taken.is_some(), verdict == Verdict::Chosen, "{number}");
    }
    assert_eq!(director.explain_on(&vip(), address(9), at(0)), None);
}

#[test]
fn template_decides_and_asking_does_not_renew_it() {
    let mut service = service(Algorithm::Rr, &[1, 1]);
    service.persistence = Some(Persistence::new(Duration::from_secs(100)).expect("a timeout"));
    let director = director(service);
    drop(director.schedule(&vip(), &flow(1), at(0)).expect("a server"));
    director.edit_server(&vip(), server(2, 0)).expect("a known server");
    let explanation = director.explain(&vip(), &flow(1), at(50)).expect("a known service");
    assert_eq!((explanation.decider, explanation.outcome), (Decider::Template, Outcome::Server(address(2))));
    assert_eq!(explanation.candidates[1].words, "chosen although quiesced");
    assert_eq!(director.templates(at(50))[0].left, Duration::from_secs(50));
    assert_eq!(outcome(&director, 1, 100), Outcome::Server(address(1)));
    assert_eq!(director.templates(at(0)).len(), 1, "no template was made for client 2");
}

#[test]
fn refusal_is_explained_and_not_counted() {
    let director = director(service(Algorithm::Wlc, &[0, 0]));
    assert_eq!(outcome(&director, 1, 0), Outcome::Refused(Refusal::AllQuiesced));
    assert_eq!(director.stats()[0].refused, 0);
    let gone = Director::new().explain(&vip(), &flow(1), at(0));
    assert_eq!(gone.err(), Some(Refusal::NoService));
}
