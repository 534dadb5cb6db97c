//! Routers with an arbiter between them, on a network that parts and loses, with clocks that differ and
//! processes that are stopped: never two holders of the addresses, and soon one again after all is well.
//!
//! A run follows from its seed; a failure prints it, and `SIMULATION_SEED=N` plays it again.

use std::collections::BTreeMap;
use std::time::Duration;

use vrrp::arbiter::{self, Answer, Arbiter, Note, OnLoss, Standing, Terms};
use vrrp::router::{Action, Config, Consent, Event, Moment, Preempt, Router, State};

use crate::machine::{config, host_address};
use crate::simulation::{Random, heard_from};

const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(5);

fn terms(on_loss: OnLoss) -> Terms {
    Terms { ttl: TTL, on_loss }
}

/// A host: its router, its arbiter's client, and its kernel.
struct Site {
    router: Router,
    arbiter: Arbiter,
    /// Its clock runs so many parts of a million too fast, and began at this.
    pace: i64,
    began: Duration,
    /// It is not run before this.
    stopped_until: Moment,
    /// Until when its kernel has the addresses, if nobody takes them away, on the clock of the world.
    has_until: Option<Moment>,
    /// How often it gave its consent back; what was asked for before is another's.
    tenure: u64,
    /// Which question an answer is for: it may have been given up.
    question: u64,
    reaches_arbiter: bool,
    side: u64,
}

/// What is under way, to whom.
#[derive(Clone, Debug)]
enum Parcel {
    Advert(usize, Event),
    Question { from: usize, tenure: u64, serial: u64, asked: Moment, acquires: bool },
    Answer { to: usize, serial: u64, asked: Moment, answer: Answer },
    Revoke { from: usize, tenure: u64 },
}

struct World {
    random: Random,
    now: Moment,
    sites: Vec<Site>,
    under_way: BTreeMap<(Moment, u64), Parcel>,
    sent: u64,
    trouble: u64,
    /// Who holds the lease, and until when.
    lease: Option<(usize, u64, Moment)>,
    seed: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random(seed);
        let size = 2 + random.below(2) as usize;
        let sites = (0..size).map(|host| {
            let preempt = if random.below(3) == 0 { Preempt::Never } else { Preempt::AtOnce };
            let priority = 1 + random.below(254) as u8;
            let own = Config { preempt, consent: Consent::Needed, ..config(host as u8 + 1, priority) };
            Site {
                router: Router::new(own),
                arbiter: Arbiter::new(terms(OnLoss::Yield)),
                pace: random.below(1000) as i64 - 500,
                began: Duration::from_millis(random.below(1_000_000)),
                stopped_until: Moment::ZERO,
                has_until: None,
                tenure: 0,
                question: 0,
                reaches_arbiter: true,
                side: 0,
            }
        });
        let sites = sites.collect();
        World {
            now: Moment::ZERO,
            sites,
            under_way: BTreeMap::new(),
            sent: 0,
            trouble: 0,
            lease: None,
            seed,
            random,
        }
    }

    fn clock(&self, place: usize) -> Moment {
        let site = &self.sites[place];
        site.began + scaled(self.now, 1_000_000 + site.pace, 1_000_000)
    }

    /// When it is that moment on a site's clock, in the world.
    fn when(&self, place: usize, moment: Moment) -> Moment {
        let site = &self.sites[place];
        scaled(moment.saturating_sub(site.began), 1_000_000, 1_000_000 + site.pace)
    }

    fn send(&mut self, parcel: Parcel, delay: Duration) {
        self.sent += 1;
        self.under_way.insert((self.now + delay, self.sent), parcel);
    }

    /// A part of a second, and sometimes much longer: a server that was stopped, a packet sent again.
    fn delay(&mut self) -> Duration {
        let most = if self.random.below(100) < self.trouble / 2 { 8000 } else { 20 };
        Duration::from_millis(self.random.below(most))
    }

    fn is_lost(&mut self) -> bool {
        self.random.below(100) < self.trouble
    }

    fn tell(&mut self, place: usize, event: Event) {
        let now = self.clock(place);
        let actions = self.sites[place].router.handle(event, now);
        for action in actions {
            match action {
                Action::Send(advert) => {
                    let event = heard_from(place, &advert);
                    for to in (0..self.sites.len()).filter(|to| *to != place) {
                        if self.sites[to].side == self.sites[place].side && !self.is_lost() {
                            let delay = Duration::from_micros(self.random.below(20_000));
                            self.send(Parcel::Advert(to, event.clone()), delay);
                        }
                    }
                }
                Action::AddAddresses | Action::ProlongAddresses => self.have_addresses(place),
                Action::RemoveAddresses => self.sites[place].has_until = None,
                Action::Ask => self.arbitrate(place, arbiter::Event::Ask),
                Action::Release => {
                    assert_eq!(self.sites[place].has_until, None, "released before the addresses were gone");
                    self.arbitrate(place, arbiter::Event::Release);
                }
                Action::Announce(_) | Action::Became(..) | Action::Warn(_) => {}
            }
        }
    }

    /// The kernel counts whole seconds, and is up to one late.
    fn have_addresses(&mut self, place: usize) {
        let until = self.sites[place].router.consent().expect("a master with consent");
        let left = Duration::from_secs(until.saturating_sub(self.clock(place)).as_secs());
        let late = Duration::from_millis(999 - self.random.below(1000) * self.random.below(2));
        self.sites[place].has_until = Some(self.now + left + late);
    }

    fn arbitrate(&mut self, place: usize, event: arbiter::Event) {
        let now = self.clock(place);
        let actions = self.sites[place].arbiter.handle(event, now);
        for action in actions {
            match action {
                arbiter::Action::Acquire => self.ask(place, true),
                arbiter::Action::Renew => self.ask(place, false),
                arbiter::Action::Revoke => {
                    let tenure = self.sites[place].tenure;
                    self.sites[place].tenure += 1;
                    if self.sites[place].reaches_arbiter && !self.is_lost() {
                        let delay = self.delay();
                        self.send(Parcel::Revoke { from: place, tenure }, delay);
                    }
                }
                arbiter::Action::Tell(event) => self.tell(place, event),
                arbiter::Action::Note(_) => {}
            }
        }
    }

    fn ask(&mut self, from: usize, acquires: bool) {
        let asked = self.clock(from);
        let site = &mut self.sites[from];
        site.question += 1;
        let (serial, tenure) = (site.question, site.tenure);
        if site.reaches_arbiter && !self.is_lost() {
            let delay = self.delay();
            self.send(Parcel::Question { from, tenure, serial, asked, acquires }, delay);
        }
        let silence = Parcel::Answer { to: from, serial, asked, answer: Answer::Silence(String::new()) };
        self.send(silence, terms(OnLoss::Yield).patience());
    }

    /// What the arbiter makes of a question.
    fn judge(&mut self, from: usize, tenure: u64, acquires: bool) -> Answer {
        self.lease = self.lease.filter(|(_, _, ends)| *ends > self.now);
        match self.lease {
            Some((holder, of, _)) if (holder, of) != (from, tenure) => return Answer::Held(String::new()),
            None if !acquires => return Answer::Gone,
            _ => {}
        }
        self.lease = Some((from, tenure, self.now + TTL));
        Answer::Yes
    }

    fn deliver(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::Advert(to, event) => self.tell(to, event),
            Parcel::Question { from, tenure, serial, asked, acquires } => {
                let answer = self.judge(from, tenure, acquires);
                if self.sites[from].reaches_arbiter && !self.is_lost() {
                    let delay = self.delay();
                    self.send(Parcel::Answer { to: from, serial, asked, answer }, delay);
                }
            }
            Parcel::Answer { to, serial, asked, answer } => {
                if self.sites[to].question == serial {
                    self.sites[to].question += 1;
                    self.arbitrate(to, arbiter::Event::Answered { asked, answer });
                }
            }
            Parcel::Revoke { from, tenure } => {
                self.lease = self.lease.filter(|(holder, of, _)| (*holder, *of) != (from, tenure));
            }
        }
    }

    /// Who it is for, if it is for a process that may be stopped.
    fn reader(parcel: &Parcel) -> Option<usize> {
        match parcel {
            Parcel::Advert(to, _) | Parcel::Answer { to, .. } => Some(*to),
            Parcel::Question { .. } | Parcel::Revoke { .. } => None,
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let mut next: Option<(Moment, Due)> = None;
            let mut consider = |at: Moment, due: Due| {
                if next.as_ref().is_none_or(|(first, _)| at < *first) {
                    next = Some((at, due));
                }
            };
            for (key, parcel) in &self.under_way {
                // What arrives at a stopped process waits.
                let at = World::reader(parcel).map_or(key.0, |to| key.0.max(self.sites[to].stopped_until));
                consider(at, Due::Arrival(*key));
            }
            for (place, site) in self.sites.iter().enumerate() {
                let runs = |moment| self.when(place, moment).max(site.stopped_until);
                if let Some(due) = site.router.deadline() {
                    consider(runs(due), Due::Router(place));
                }
                if let Some(due) = site.arbiter.deadline() {
                    consider(runs(due), Due::Arbiter(place));
                }
            }
            let Some((at, due)) = next.filter(|(at, _)| *at <= end) else { break };
            self.now = self.now.max(at);
            match due {
                Due::Arrival(key) => {
                    if let Some(parcel) = self.under_way.remove(&key) {
                        self.deliver(parcel);
                    }
                }
                Due::Router(place) => {
                    // A nanosecond may be lost between two clocks.
                    if self.sites[place].router.deadline().is_some_and(|due| due > self.clock(place)) {
                        self.now += Duration::from_nanos(10);
                    }
                    self.tell(place, Event::Timer);
                }
                Due::Arbiter(place) => {
                    if self.sites[place].arbiter.deadline().is_some_and(|due| due > self.clock(place)) {
                        self.now += Duration::from_nanos(10);
                    }
                    self.arbitrate(place, arbiter::Event::Timer);
                }
            }
            self.check();
        }
        self.now = end;
        self.check();
    }

    fn check(&self) {
        let holders: Vec<usize> = (0..self.sites.len())
            .filter(|place| self.sites[*place].has_until.is_some_and(|until| until > self.now))
            .collect();
        assert!(holders.len() <= 1, "seed {}: {holders:?} hold the addresses at {:?}", self.seed, self.now);
        // Who runs does not wait for its kernel.
        let running = |place: &usize| self.sites[*place].stopped_until < self.now;
        let masters: Vec<usize> = self.masters().into_iter().filter(running).collect();
        assert!(masters.len() <= 1, "seed {}: {masters:?} are master at {:?}", self.seed, self.now);
        for place in masters {
            let until = self.sites[place].router.consent().expect("a master with consent");
            let late = Duration::from_micros(1);
            assert!(until + late > self.clock(place), "seed {}: {place} leads without consent", self.seed);
        }
    }

    fn masters(&self) -> Vec<usize> {
        (0..self.sites.len()).filter(|place| self.sites[*place].router.state() == State::Master).collect()
    }

    fn disturb(&mut self) {
        let place = self.random.below(self.sites.len() as u64) as usize;
        match self.random.below(9) {
            0 => self.tell(place, Event::Failed),
            1 => self.tell(place, Event::Recovered),
            2 => self.tell(place, Event::Stop),
            3 => self.tell(place, Event::Start),
            4 | 5 => {
                let masters = self.masters();
                let place = masters.first().copied().unwrap_or(place);
                let time = Duration::from_millis(self.random.below(12_000));
                self.sites[place].stopped_until = self.now + time;
            }
            6 => {
                let weight = self.random.below(200) as i32 - 100;
                self.tell(place, Event::Weighed(weight));
            }
            _ => self.sites[place].reaches_arbiter = self.random.below(2) == 0,
        }
        self.check();
    }

    fn heal(&mut self) {
        self.trouble = 0;
        for place in 0..self.sites.len() {
            let site = &mut self.sites[place];
            (site.side, site.reaches_arbiter, site.stopped_until) = (0, true, self.now);
            self.tell(place, Event::Start);
            self.tell(place, Event::Recovered);
        }
    }
}

/// What is to happen next.
enum Due {
    Arrival((Moment, u64)),
    Router(usize),
    Arbiter(usize),
}

fn scaled(time: Duration, up: i64, down: i64) -> Duration {
    let nanos = time.as_nanos() * up.unsigned_abs() as u128 / down.unsigned_abs() as u128;
    Duration::from_nanos(nanos as u64)
}

fn play(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..10 {
        world.trouble = world.random.below(60);
        let sides = 1 + world.random.below(3);
        for place in 0..world.sites.len() {
            world.sites[place].side = world.random.below(sides);
        }
        for _ in 0..world.random.below(10) {
            world.disturb();
            let time = Duration::from_millis(world.random.below(5000));
            world.run(time);
        }
        world.heal();
        // A lease that nobody uses ends, somebody is silent for long enough, and what was late arrives.
        world.run(TTL + SECOND * 16);
        let best = world.masters();
        let [first] = best[..] else { panic!("seed {seed}: {best:?} are master") };
        // One that preempts may have claimed in vain in the bad time, and waits before it does again.
        world.run(SECOND * 60);
        let masters = world.masters();
        let [last] = masters[..] else { panic!("seed {seed}: {masters:?} are master") };
        let rank = |place: usize| (world.sites[place].router.priority(), host_address(place as u8 + 1));
        assert!(rank(last) >= rank(first), "seed {seed}: who took over ranks lower");
        let preempting = world.sites.iter().all(|site| site.router.config().preempt == Preempt::AtOnce);
        let highest = world.sites.iter().map(|site| site.router.priority()).max();
        if preempting {
            assert_eq!(Some(world.sites[last].router.priority()), highest, "seed {seed}");
        }
    }
}

#[test]
fn never_two_hold_the_addresses_and_soon_one_does_after_every_trouble() {
    match std::env::var("SIMULATION_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => play(seed),
        None => (0..150).for_each(play),
    }
}

fn answered(asked: Moment, answer: Answer) -> arbiter::Event {
    arbiter::Event::Answered { asked, answer }
}

/// One that has had its consent since the beginning.
fn holding(on_loss: OnLoss) -> Arbiter {
    let mut arbiter = Arbiter::new(terms(on_loss));
    let asked = arbiter.handle(arbiter::Event::Ask, Moment::ZERO);
    assert_eq!(asked, [arbiter::Action::Note(Note::Asked), arbiter::Action::Acquire]);
    let until = terms(on_loss).until(Moment::ZERO);
    let granted = arbiter.handle(answered(Moment::ZERO, Answer::Yes), SECOND / 100);
    assert_eq!(granted, [arbiter::Action::Tell(Event::Granted { until })]);
    arbiter
}

/// Lets nobody answer until a moment; returns the last consent that was told, and the notes.
fn silence(arbiter: &mut Arbiter, until: Moment) -> (Option<Moment>, Vec<Note>) {
    let (mut now, mut told, mut notes) = (Moment::ZERO, None, Vec::new());
    while now < until {
        now = now.max(arbiter.deadline().expect("it goes on asking"));
        arbiter.handle(arbiter::Event::Timer, now);
        let asked = now;
        now += terms(OnLoss::Yield).patience();
        for action in arbiter.handle(answered(asked, Answer::Silence("gone".to_owned())), now) {
            match action {
                arbiter::Action::Tell(Event::Granted { until }) => told = Some(until),
                arbiter::Action::Note(note) => notes.push(note),
                other => panic!("{other:?}"),
            }
        }
    }
    (told, notes)
}

#[test]
fn consent_ends_with_an_arbiter_that_is_gone_or_is_kept_beyond_it_as_configured() {
    let gone = Note::Lost("gone".to_owned());
    assert_eq!(silence(&mut holding(OnLoss::Yield), SECOND * 60), (None, vec![gone.clone()]));
    let (told, notes) = silence(&mut holding(OnLoss::Keep), SECOND * 60);
    assert!(told > Some(SECOND * 60), "{told:?}");
    assert_eq!(notes, [gone, Note::Kept]);
}

#[test]
fn kept_consent_is_never_interrupted() {
    let mut arbiter = holding(OnLoss::Keep);
    let mut end = terms(OnLoss::Keep).until(Moment::ZERO);
    for second in 1..100 {
        let now = SECOND * second;
        if let (Some(told), _) = silence(&mut arbiter, now) {
            end = told;
        }
        assert!(end > now, "at {now:?} it had ended");
    }
}

#[test]
fn one_who_has_none_is_not_kept() {
    let mut arbiter = Arbiter::new(terms(OnLoss::Keep));
    arbiter.handle(arbiter::Event::Ask, Moment::ZERO);
    arbiter.handle(answered(Moment::ZERO, Answer::Silence(String::new())), SECOND);
    assert_eq!(silence(&mut arbiter, SECOND * 30), (None, Vec::new()));
}

#[test]
fn one_who_kept_the_addresses_gives_way_to_the_one_who_has_the_consent() {
    let mut arbiter = holding(OnLoss::Keep);
    silence(&mut arbiter, SECOND * 30);
    let now = SECOND * 40;
    assert_eq!(arbiter.handle(arbiter::Event::Timer, now), [arbiter::Action::Acquire]);
    let said = arbiter.handle(answered(now, Answer::Held("lb2".to_owned())), now);
    assert_eq!(
        said,
        [
            arbiter::Action::Note(Note::Found),
            arbiter::Action::Note(Note::Held("lb2".to_owned())),
            arbiter::Action::Tell(Event::Refused)
        ]
    );
}

#[test]
fn standing_is_what_was_answered_while_that_counts() {
    let mut arbiter = Arbiter::new(terms(OnLoss::Yield));
    assert_eq!(arbiter.standing(Moment::ZERO), Standing::Idle);
    arbiter.handle(arbiter::Event::Ask, Moment::ZERO);
    assert_eq!(arbiter.standing(Moment::ZERO), Standing::Asked);
    arbiter.handle(answered(Moment::ZERO, Answer::Held("lb2".to_owned())), Moment::ZERO);
    assert_eq!(arbiter.standing(Moment::ZERO), Standing::Refused { by: "lb2".to_owned() });
    arbiter.handle(arbiter::Event::Timer, SECOND);
    arbiter.handle(answered(SECOND, Answer::Yes), SECOND);
    let until = terms(OnLoss::Yield).until(SECOND);
    assert_eq!(arbiter.standing(SECOND), Standing::Held(until));
    silence(&mut arbiter, SECOND * 2);
    assert_eq!((arbiter.standing(SECOND * 2), arbiter.silence()), (Standing::Held(until), Some("gone")));
    assert_eq!(arbiter.standing(until), Standing::Lost);

    let mut kept = holding(OnLoss::Keep);
    let (told, _) = silence(&mut kept, SECOND * 60);
    assert_eq!(kept.standing(SECOND * 60), Standing::Kept(told.expect("it goes on")));
    kept.handle(arbiter::Event::Release, SECOND * 60);
    assert_eq!(kept.standing(SECOND * 60), Standing::Idle);
}

#[test]
fn answer_that_nobody_waits_for_is_given_back() {
    let mut arbiter = Arbiter::new(terms(OnLoss::Yield));
    arbiter.handle(arbiter::Event::Ask, Moment::ZERO);
    assert_eq!(arbiter.handle(arbiter::Event::Release, SECOND), []);
    assert_eq!(arbiter.handle(answered(Moment::ZERO, Answer::Yes), SECOND), [arbiter::Action::Revoke]);
    assert_eq!(arbiter.deadline(), None);
}

#[test]
fn asking_again_is_answered_with_what_is_known() {
    let mut arbiter = holding(OnLoss::Yield);
    let until = terms(OnLoss::Yield).until(Moment::ZERO);
    let told = arbiter.handle(arbiter::Event::Ask, SECOND);
    assert_eq!(told, [arbiter::Action::Tell(Event::Granted { until })]);
}
