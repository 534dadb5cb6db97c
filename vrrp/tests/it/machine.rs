//! Every row of the state machine.

use std::net::IpAddr;
use std::time::Duration;

use vrrp::group::Group;
use vrrp::packet::{Authentication, Version};
use vrrp::router::{
    Action, Answer, Config, Consent, Event, Moment, Occasion, Preempt, Reason, Router, State, Warning,
};

const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn config(host: u8, priority: u8) -> Config {
    Config {
        vrid: 51,
        version: Version::V2(Authentication::None),
        priority,
        interval: SECOND,
        down_adverts: 3,
        preempt: Preempt::AtOnce,
        address: host_address(host),
        addresses: vec![IpAddr::from([10, 8, 0, 100])],
        announce_again: Some(SECOND * 5),
        announce_every: None,
        consent: Consent::NotNeeded,
        to_lower: Answer::Advert,
        to_higher: Answer::Advert,
        begins: Moment::ZERO,
    }
}

pub(crate) fn host_address(host: u8) -> IpAddr {
    IpAddr::from([10, 8, 0, host])
}

pub(crate) fn heard(host: u8, priority: u8) -> Event {
    Event::Heard { from: host_address(host), priority, interval: SECOND }
}

/// A router of host 2, brought to a state.
fn router(priority: u8, state: State) -> Router {
    let mut router = Router::new(config(2, priority));
    match state {
        State::Init => {}
        State::Backup => drop(router.handle(Event::Start, Moment::ZERO)),
        State::Master => {
            router.handle(Event::Start, Moment::ZERO);
            router.handle(Event::Take, Moment::ZERO);
        }
        State::Fault => drop(router.handle(Event::Failed, Moment::ZERO)),
    }
    assert_eq!(router.state(), state);
    router
}

/// Names of what is to be done, an advertisement by its priority.
pub(crate) fn names(actions: &[Action]) -> Vec<String> {
    let name = |action: &Action| match action {
        Action::Send(advert) => format!("send {}", advert.priority),
        Action::AddAddresses => "add".to_owned(),
        Action::RemoveAddresses => "remove".to_owned(),
        Action::Announce(Occasion::Taken) => "announce".to_owned(),
        Action::Announce(occasion) => format!("announce {occasion:?}").to_lowercase(),
        Action::ProlongAddresses => "prolong".to_owned(),
        Action::Ask => "ask".to_owned(),
        Action::Release => "release".to_owned(),
        Action::Became(state, _) => state.to_string(),
        Action::Warn(Warning::Rival { .. }) => "rival".to_owned(),
        Action::Warn(warning) => format!("{warning:?}"),
    };
    actions.iter().map(name).collect()
}

#[track_caller]
fn check(router: &mut Router, event: Event, now: Duration, actions: &[&str], deadline: Option<Duration>) {
    assert_eq!(names(&router.handle(event, now)), actions);
    assert_eq!(router.deadline(), deadline);
}

const DOWN: Duration = Duration::from_micros(3_609_375);
const SKEW: Duration = Duration::from_micros(609_375);

#[test]
fn startup_is_that_of_the_rfc() {
    let mut owner = router(255, State::Init);
    check(&mut owner, Event::Start, Moment::ZERO, &["add", "send 255", "announce", "MASTER"], Some(SECOND));
    let mut other = router(100, State::Init);
    check(&mut other, Event::Start, Moment::ZERO, &["BACKUP"], Some(DOWN));
}

#[test]
fn backup_waits_as_long_as_the_rfc_says() {
    let now = SECOND * 2;
    let check = |event, deadline| check(&mut router(100, State::Backup), event, now, &[], Some(deadline));
    check(heard(3, 0), now + SKEW);
    check(heard(3, 100), now + DOWN);
    check(heard(3, 101), now + DOWN);
    check(heard(3, 99), DOWN);
}

#[test]
fn backup_takes_over_when_its_timer_runs_out() {
    let mut silent = router(100, State::Backup);
    let actions = silent.handle(Event::Timer, DOWN);
    assert_eq!(names(&actions), ["add", "send 100", "announce", "MASTER"]);
    assert_eq!(actions.last(), Some(&Action::Became(State::Master, Reason::Silence(DOWN))));
    let mut resigned = router(100, State::Backup);
    resigned.handle(heard(3, 0), SECOND);
    let actions = resigned.handle(Event::Timer, SECOND + SKEW);
    assert_eq!(actions.last(), Some(&Action::Became(State::Master, Reason::Resigned)));
}

#[test]
fn timer_that_is_asked_too_early_does_nothing() {
    check(&mut router(100, State::Backup), Event::Timer, DOWN - Duration::from_nanos(1), &[], Some(DOWN));
}

#[test]
fn master_advertises_and_announces_once_more() {
    let mut master = router(100, State::Master);
    for second in 1..5 {
        check(&mut master, Event::Timer, SECOND * second, &["send 100"], Some(SECOND * (second + 1)));
    }
    check(&mut master, Event::Timer, SECOND * 5, &["send 100", "announce again"], Some(SECOND * 6));
}

#[test]
fn master_answers_as_the_rfc_says() {
    let now = SECOND / 2;
    let answer = |event| {
        let mut master = router(100, State::Master);
        (names(&master.handle(event, now)), master.deadline(), master.state())
    };
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let stays = |names: &[&str]| (named(names), Some(now + SECOND), State::Master);
    let goes = |names: &[&str]| (named(names), Some(now + DOWN), State::Backup);
    assert_eq!(answer(heard(3, 0)), stays(&["send 100"]));
    assert_eq!(answer(heard(3, 101)), goes(&["remove", "BACKUP", "send 100"]));
    assert_eq!(answer(heard(3, 100)), goes(&["remove", "BACKUP", "send 100"]));
    assert_eq!(answer(heard(1, 100)), stays(&["rival", "send 100", "announce contested"]));
    assert_eq!(answer(heard(3, 99)), stays(&["rival", "send 100", "announce contested"]));
    assert_eq!(answer(Event::Stop), (named(&["send 0", "remove", "INIT"]), None, State::Init));
    assert_eq!(answer(Event::Failed), (named(&["send 0", "remove", "FAULT"]), None, State::Fault));
    assert_eq!(answer(Event::GiveWay), goes(&["send 0", "remove", "BACKUP"]));
}

#[test]
fn fault_ends_in_backup() {
    check(&mut router(100, State::Fault), Event::Recovered, SECOND, &["BACKUP"], Some(SECOND + DOWN));
    check(&mut router(100, State::Fault), heard(3, 1), SECOND, &[], None);
    check(&mut router(100, State::Fault), Event::Timer, SECOND, &[], None);
}

#[test]
fn router_that_must_not_preempt_waits_for_silence() {
    let preempting = |preempt, at: Duration| {
        let mut router = Router::new(Config { preempt, ..config(2, 100) });
        router.handle(Event::Start, Moment::ZERO);
        let mut now = Moment::ZERO;
        while now < at {
            now += SECOND;
            router.handle(heard(3, 50), now);
            router.handle(Event::Timer, now);
        }
        router.state()
    };
    assert_eq!(preempting(Preempt::Never, SECOND * 100), State::Backup);
    assert_eq!(preempting(Preempt::AtOnce, SECOND * 4), State::Master);
    assert_eq!(preempting(Preempt::After(SECOND * 10), SECOND * 13), State::Backup);
    assert_eq!(preempting(Preempt::After(SECOND * 10), SECOND * 15), State::Master);
}

#[test]
fn owner_preempts_whatever_is_configured() {
    let mut owner = Router::new(Config { preempt: Preempt::Never, ..config(2, 255) });
    owner.handle(Event::Failed, Moment::ZERO);
    owner.handle(Event::Recovered, Moment::ZERO);
    let due = owner.deadline().expect("a backup waits");
    owner.handle(heard(3, 254), SECOND);
    owner.handle(Event::Timer, due);
    assert_eq!(owner.state(), State::Master);
    owner.handle(Event::Weighed(-100), SECOND);
    assert_eq!(owner.priority(), 255);
    assert!(
        names(&owner.handle(heard(1, 255), due + SECOND)).iter().any(|name| name.starts_with("TwoOwners"))
    );
}

#[test]
fn trackers_move_the_priority_within_bounds() {
    let mut router = router(100, State::Backup);
    for (weight, priority) in [(-30, 70), (-300, 1), (300, 254), (0, 100)] {
        router.handle(Event::Weighed(weight), SECOND);
        assert_eq!(router.priority(), priority);
        assert_eq!(router.deadline(), Some(SECOND * 3 + SECOND * (256 - u32::from(priority)) / 256));
    }
}

#[test]
fn v3_backup_waits_by_the_masters_interval_and_v2_ignores_another_one() {
    let slow = Event::Heard { from: host_address(3), priority: 200, interval: SECOND * 2 };
    let mut v3 = Router::new(Config { version: Version::V3, ..config(2, 128) });
    v3.handle(Event::Start, Moment::ZERO);
    assert_eq!(v3.deadline(), Some(SECOND * 7 / 2));
    assert_eq!(v3.handle(slow.clone(), SECOND).len(), 1);
    assert_eq!(v3.deadline(), Some(SECOND * 8));
    assert_eq!(v3.handle(slow.clone(), SECOND), [], "it is said once");
    let mut v2 = router(100, State::Backup);
    assert!(names(&v2.handle(slow, SECOND))[0].starts_with("Interval"));
    assert_eq!(v2.deadline(), Some(DOWN));
}

#[test]
fn handover_is_no_split_brain_and_two_that_go_on_are() {
    let mut preempting = router(100, State::Backup);
    preempting.handle(heard(3, 50), SECOND * 3);
    preempting.handle(Event::Timer, DOWN);
    assert_eq!(
        names(&preempting.handle(heard(3, 50), DOWN + SECOND / 2)),
        ["send 100", "announce contested"]
    );
    let later = DOWN + SECOND * 4;
    assert_eq!(names(&preempting.handle(heard(3, 50), later)), ["rival", "send 100", "announce contested"]);
    assert_eq!(names(&preempting.handle(heard(3, 50), later + SECOND)), ["send 100", "announce contested"]);
    let quiet = preempting.handle(Event::Timer, later + SECOND * 5);
    assert!(quiet.contains(&Action::Warn(Warning::RivalGone { address: host_address(3) })), "{quiet:?}");
}

#[test]
fn lateness_is_said_and_does_not_add_up() {
    let mut master = router(100, State::Master);
    assert_eq!(names(&master.handle(Event::Timer, SECOND + SECOND / 4)), ["send 100"]);
    assert_eq!(master.deadline(), Some(SECOND * 2));
    let late = master.handle(Event::Timer, SECOND * 4);
    assert_eq!(late[0], Action::Warn(Warning::Late(SECOND * 2)));
    assert_eq!(master.deadline(), Some(SECOND * 5));
}

fn group() -> Group {
    Group::new(vec![Router::new(config(2, 100)), Router::new(Config { vrid: 52, ..config(2, 90) })])
}

fn states(group: &Group) -> Vec<State> {
    group.routers().map(Router::state).collect()
}

#[test]
fn group_moves_together() {
    let mut group = group();
    for place in 0..2 {
        group.handle(place, Event::Start, Moment::ZERO);
    }
    assert_eq!(states(&group), [State::Backup; 2]);
    group.handle(0, Event::Timer, DOWN);
    assert_eq!(states(&group), [State::Master; 2], "silence for one is enough");
    group.handle(1, heard(3, 200), DOWN + SECOND);
    assert_eq!(states(&group), [State::Backup; 2], "one was outranked");
    group.handle(0, Event::Failed, DOWN + SECOND);
    assert_eq!(states(&group), [State::Fault; 2]);
    group.handle(1, Event::Failed, DOWN + SECOND);
    group.handle(0, Event::Recovered, DOWN + SECOND);
    assert_eq!(states(&group), [State::Fault; 2], "the other one is not well yet");
    group.handle(1, Event::Recovered, DOWN + SECOND);
    assert_eq!(states(&group), [State::Backup; 2]);
}

#[test]
fn group_with_a_failed_member_does_not_start() {
    let mut group = group();
    group.handle(0, Event::Failed, Moment::ZERO);
    group.handle(1, Event::Start, Moment::ZERO);
    assert_eq!(states(&group), [State::Fault; 2]);
}

#[test]
fn router_that_is_set_up_anew_keeps_its_place() {
    let now = SECOND / 2;
    let with = |priority| Config { addresses: vec![IpAddr::from([10, 8, 0, 101])], ..config(2, priority) };
    let mut master = router(100, State::Master);
    assert_eq!(names(&master.reconfigure(with(50), now)), ["add", "send 50", "announce"]);
    assert_eq!(master.deadline(), Some(now + SECOND));
    let mut backup = router(100, State::Backup);
    backup.handle(Event::Weighed(-20), now);
    assert!(backup.reconfigure(with(120), now).is_empty());
    assert_eq!(backup.deadline(), Some(DOWN), "the trackers' weight counts as before");
    assert_eq!(names(&backup.reconfigure(with(255), now)), ["add", "send 255", "announce", "MASTER"]);
    let mut failed = router(100, State::Fault);
    assert!(failed.reconfigure(with(255), now).is_empty());
}

#[test]
fn refreshed_announcements_begin_where_the_second_one_is_left_out() {
    let refreshed = Config { announce_again: None, announce_every: Some(SECOND / 2), ..config(2, 100) };
    let mut master = Router::new(refreshed);
    master.handle(Event::Start, Moment::ZERO);
    master.handle(Event::Take, Moment::ZERO);
    check(&mut master, Event::Timer, SECOND / 2, &["announce refresh"], Some(SECOND));
}

#[test]
fn after_a_split_the_better_one_announces_whoever_heard_the_other_first() {
    let mut worse = router(100, State::Master);
    let mut better = router(150, State::Master);
    let last = worse.handle(heard(3, 150), SECOND * 5);
    assert_eq!(
        last.last().map(|action| names(std::slice::from_ref(action))),
        Some(vec!["send 100".to_owned()])
    );
    assert_eq!(names(&better.handle(heard(1, 100), SECOND * 5)), ["rival", "send 150", "announce contested"]);
}

#[test]
fn router_that_was_master_in_another_process_is_master_from_the_first_moment() {
    let mut router = router(100, State::Init);
    let actions = router.handle(Event::Resume { consent: None }, SECOND);
    assert_eq!(actions.last(), Some(&Action::Became(State::Master, Reason::Resumed)));
    assert_eq!(&names(&actions)[..3], ["add", "send 100", "announce"]);
    assert_eq!(router.deadline(), Some(SECOND * 2));
}

#[test]
fn router_that_needs_consent_does_not_go_on_without() {
    let mut router = Router::new(Config { consent: Consent::Needed, ..config(2, 100) });
    router.handle(Event::Resume { consent: None }, SECOND);
    assert_eq!(router.state(), State::Backup);
    let mut late = Router::new(Config { consent: Consent::Needed, ..config(2, 100) });
    late.handle(Event::Resume { consent: Some(SECOND) }, SECOND);
    assert_eq!(late.state(), State::Backup);
}

#[test]
fn router_goes_on_with_the_consent_that_has_passed_with_it_and_not_beyond() {
    let mut router = Router::new(Config { consent: Consent::Needed, ..config(2, 100) });
    let actions = router.handle(Event::Resume { consent: Some(SECOND * 3) }, SECOND);
    assert_eq!(actions.last(), Some(&Action::Became(State::Master, Reason::Resumed)));
    assert!(!actions.contains(&Action::Ask), "whoever has it asks for more");
    assert_eq!(router.consent(), Some(SECOND * 3));
    let actions = router.handle(Event::Timer, SECOND * 3);
    assert!(actions.contains(&Action::Became(State::Backup, Reason::Lapsed)), "{actions:?}");
}

#[test]
fn master_answers_others_only_if_it_is_to() {
    let silent = Config { to_lower: Answer::Nothing, to_higher: Answer::Nothing, ..config(2, 100) };
    let master = |config: Config| {
        let mut router = Router::new(config);
        router.handle(Event::Start, Moment::ZERO);
        router.handle(Event::Take, Moment::ZERO);
        router
    };
    let (mut speaks, mut silent) = (master(config(2, 100)), master(silent));
    let now = SECOND / 2;
    let lower = ["rival", "send 100", "announce contested"];
    check(&mut speaks, heard(3, 50), now, &lower, Some(now + SECOND));
    // Its next word is due when it was.
    check(&mut silent, heard(3, 50), now, &["rival", "announce contested"], Some(SECOND));
    assert_eq!(names(&speaks.handle(heard(3, 150), now)), ["remove", "BACKUP", "send 100"]);
    assert_eq!(names(&silent.handle(heard(3, 150), now)), ["remove", "BACKUP"]);
    // One that stops is answered anyhow.
    let mut silent = master(Config { to_lower: Answer::Nothing, ..config(2, 100) });
    assert_eq!(names(&silent.handle(heard(3, 0), now)), ["send 100"]);
}

#[test]
fn router_that_begins_later_takes_nobody_for_gone_before() {
    let begins = SECOND * 10;
    let later = |priority| Router::new(Config { begins, ..config(2, priority) });
    let mut backup = later(100);
    check(&mut backup, Event::Start, Moment::ZERO, &["BACKUP"], Some(begins + DOWN));
    check(&mut backup, heard(3, 150), SECOND, &[], Some(begins + DOWN));
    check(&mut backup, heard(3, 0), SECOND * 2, &[], Some(begins + SKEW));
    check(&mut backup, heard(3, 150), SECOND * 11, &[], Some(SECOND * 11 + DOWN));
    // The owner of the addresses begins later, too.
    let mut owner = later(255);
    assert_eq!(names(&owner.handle(Event::Start, Moment::ZERO)), ["BACKUP"]);
    assert_eq!(owner.deadline(), Some(begins), "it waits for nobody");
    assert_eq!(names(&owner.handle(Event::Timer, begins)), ["add", "send 255", "announce", "MASTER"]);
    // A wait that another configuration does without is over at once.
    let mut backup = later(100);
    backup.handle(Event::Start, Moment::ZERO);
    backup.handle(heard(3, 150), SECOND);
    backup.reconfigure(config(2, 100), SECOND);
    assert_eq!(backup.deadline(), Some(SECOND + DOWN));
}
