//! Becoming and staying master with an arbiter's consent.

use std::time::Duration;

use vrrp::group::Group;
use vrrp::router::{Action, Config, Consent, Event, Moment, Reason, Router, State};

use crate::machine::{config, heard, names};

const SECOND: Duration = Duration::from_secs(1);

/// A router of host 2 that was started.
fn started(priority: u8) -> Router {
    let mut router = Router::new(arbitrated(priority));
    router.handle(Event::Start, Moment::ZERO);
    router
}

fn arbitrated(priority: u8) -> Config {
    Config { consent: Consent::Needed, ..config(2, priority) }
}

/// One that has just become master, with consent for three seconds.
fn master(priority: u8) -> (Router, Moment) {
    let mut router = started(priority);
    let silence = router.deadline().expect("a backup waits");
    router.handle(Event::Timer, silence);
    router.handle(granted(silence + SECOND * 3), silence);
    assert_eq!(router.state(), State::Master);
    (router, silence)
}

fn granted(until: Moment) -> Event {
    Event::Granted { until }
}

#[test]
fn silence_of_the_master_is_not_enough() {
    let mut router = started(100);
    let silence = router.deadline().expect("a backup waits");
    assert_eq!(names(&router.handle(Event::Timer, silence)), ["ask"]);
    assert_eq!(router.state(), State::Backup);
    let again = router.deadline().expect("it asks again");
    assert_eq!(names(&router.handle(Event::Timer, again)), ["ask"]);
    let actions = router.handle(granted(again + SECOND), again);
    assert_eq!(names(&actions), ["add", "send 100", "announce", "MASTER"]);
    assert_eq!(actions.last(), Some(&Action::Became(State::Master, Reason::Silence(silence))));
}

#[test]
fn owner_asks_too() {
    let mut owner = Router::new(arbitrated(255));
    assert_eq!(names(&owner.handle(Event::Start, Moment::ZERO)), ["BACKUP", "ask"]);
    let actions = owner.handle(granted(SECOND), Moment::ZERO);
    assert_eq!(actions.last(), Some(&Action::Became(State::Master, Reason::Owner)));
}

#[test]
fn consent_that_is_over_when_it_arrives_is_none() {
    let mut router = started(100);
    let silence = router.deadline().expect("a backup waits");
    router.handle(Event::Timer, silence);
    assert_eq!(router.handle(granted(silence), silence), []);
    assert_eq!(router.state(), State::Backup);
}

#[test]
fn prolonged_consent_keeps_the_addresses() {
    let (mut router, began) = master(100);
    assert_eq!(names(&router.handle(granted(began + SECOND * 5), began + SECOND)), ["prolong"]);
    assert_eq!(router.handle(granted(began + SECOND * 4), began + SECOND), [], "an older answer");
    router.handle(Event::Timer, began + SECOND * 4);
    assert_eq!(router.state(), State::Master);
}

#[test]
fn whatever_wakes_a_master_whose_consent_ran_out_the_addresses_go_first() {
    let events = [
        Event::Timer,
        heard(3, 50),
        heard(3, 200),
        Event::Weighed(10),
        Event::Refused,
        Event::Withdrawn,
        Event::Start,
    ];
    for event in events {
        let (mut router, began) = master(100);
        assert!(router.deadline() <= Some(began + SECOND * 3));
        let actions = router.handle(event.clone(), began + SECOND * 3);
        assert_eq!(names(&actions)[..4], ["remove", "release", "BACKUP", "send 0"], "{event:?}");
        assert!(actions.contains(&Action::Became(State::Backup, Reason::Lapsed)));
    }
}

#[test]
fn master_that_is_refused_or_has_another_arbiter_gives_its_addresses_away() {
    for event in [Event::Refused, Event::Withdrawn] {
        let (mut router, began) = master(100);
        let actions = names(&router.handle(event.clone(), began + SECOND));
        assert_eq!(actions, ["remove", "release", "BACKUP", "send 0"]);
        assert_eq!(router.handle(event, began + SECOND), [], "a backup has none");
    }
}

#[test]
fn consent_is_given_back_after_the_addresses_are_gone() {
    let (mut router, began) = master(100);
    assert_eq!(names(&router.handle(Event::Stop, began)), ["send 0", "remove", "release", "INIT"]);
    let (mut router, began) = master(100);
    let actions = names(&router.handle(heard(3, 200), began + SECOND));
    assert_eq!(actions, ["remove", "release", "BACKUP", "send 100"]);
}

#[test]
fn question_ends_when_a_better_master_is_heard() {
    let mut router = started(100);
    let silence = router.deadline().expect("a backup waits");
    router.handle(Event::Timer, silence);
    assert_eq!(names(&router.handle(heard(3, 200), silence)), ["release"]);
    assert_eq!(
        names(&router.handle(granted(silence + SECOND), silence)),
        ["release"],
        "an answer that crossed"
    );
    assert_eq!(router.state(), State::Backup);
}

#[test]
fn preempting_backup_claims_from_who_has_the_consent_and_not_for_ever() {
    let mut router = started(100);
    let mut now = Moment::ZERO;
    let mut claims = 0;
    for _ in 0..20 {
        now += SECOND;
        router.handle(heard(3, 50), now);
        let mut actions = router.handle(Event::Timer, now);
        if actions.contains(&Action::Ask) {
            actions = router.handle(Event::Refused, now);
        }
        claims += names(&actions).iter().filter(|name| *name == "send 100").count();
        assert_eq!(router.state(), State::Backup);
    }
    assert_eq!(claims, 3);
}

#[test]
fn refusal_claims_nothing_where_no_lower_master_is_heard() {
    let mut router = started(100);
    let silence = router.deadline().expect("a backup waits");
    router.handle(Event::Timer, silence);
    assert_eq!(router.handle(Event::Refused, silence), []);
}

#[test]
fn group_needs_the_consent_once_and_gives_it_back_when_all_have_left() {
    let members = [arbitrated(100), Config { vrid: 52, ..arbitrated(90) }];
    let mut group = Group::new(members.map(Router::new).into());
    for place in 0..2 {
        group.handle(place, Event::Start, Moment::ZERO);
    }
    let silence = group.deadline().expect("backups wait");
    let asked = group.handle(0, Event::Timer, silence);
    assert_eq!(asked, [(0, Action::Ask)]);
    let until = granted(silence + SECOND * 3);
    let first = group.handle(0, until.clone(), silence);
    assert!(!first.iter().any(|(_, action)| *action == Action::Release), "{first:?}");
    group.handle(1, until, silence);
    assert!(group.routers().all(|router| router.state() == State::Master));
    let left = group.handle(1, Event::Failed, silence + SECOND);
    let order = |wanted: &Action| left.iter().filter(|(_, action)| action == wanted).count();
    assert_eq!((order(&Action::RemoveAddresses), order(&Action::Release)), (2, 1));
    assert_eq!(left.last().map(|(_, action)| action), Some(&Action::Release), "{left:?}");
}

#[test]
fn consent_that_comes_to_be_needed_is_asked_for_while_the_master_leads_on() {
    let mut router = Router::new(config(2, 100));
    router.handle(Event::Start, Moment::ZERO);
    router.handle(Event::Take, Moment::ZERO);
    let actions = router.reconfigure(arbitrated(100), SECOND);
    assert_eq!(actions[0], Action::Ask);
    assert_eq!(names(&router.handle(granted(SECOND * 8), SECOND * 2)), ["prolong"]);
    router.handle(Event::Timer, SECOND * 7);
    assert_eq!(router.state(), State::Master);
    assert_eq!(router.reconfigure(config(2, 100), SECOND * 7)[0], Action::Release);
    router.handle(Event::Timer, SECOND * 9);
    assert_eq!(router.state(), State::Master);
}
