//! Arbiters at work: each asked on a thread of its own, which may wait for an answer while everything else
//! goes on, and told to the routers that want to know.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::clock;
use super::node::Handle;
use super::notice::Notice;
use crate::arbiter::{Action, Arbiter, Event, Note, Standing, Terms, Witness};
use crate::router::{self, Moment};

/// The arbiters of a node.
///
/// What the node tells goes through [`Arbiters::hear`]; what arbiters say goes to the node once it is
/// known ([`Arbiters::connect`]). Dropping them waits until what is held has been given back, or could
/// not be.
#[derive(Debug, Default)]
pub struct Arbiters {
    seats: Mutex<BTreeMap<String, Seat>>,
    node: Arc<OnceLock<Handle>>,
    echo: Arc<OnceLock<Echo>>,
}

/// Called when a consent has become another.
struct Echo(Box<dyn Fn() + Send + Sync>);

/// What an arbiter said of a virtual router, or that it says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The virtual router, or one of the group that it is about.
    pub instance: String,
    /// What.
    pub note: Note,
}

/// Until when an arbiter's consent lasts: a word that anyone may look at, without asking anybody.
///
/// It is on the node's clock, so that a process which was stopped, or slept with its host, finds it over
/// in its first moment, before anybody could have told it.
#[derive(Debug, Default)]
pub struct Consent {
    /// Nanoseconds of that clock.
    until: AtomicU64,
}

/// How an arbiter stands, for people and programs to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Whom it asks; of several, the one that answered last.
    pub whom: String,
    /// How it stands.
    pub standing: Standing,
    /// How long what it said counts yet.
    pub left: Duration,
    /// Why the last question brought no answer, if it brought none.
    pub silence: Option<String>,
}

/// One arbiter's thread.
#[derive(Debug)]
struct Seat {
    consent: Arc<Consent>,
    shown: Arc<Mutex<Shown>>,
    questions: SyncSender<Word>,
    thread: Option<JoinHandle<()>>,
}

/// What may be looked at; held for arithmetic, never while anybody is asked.
#[derive(Debug)]
struct Shown {
    arbiter: Arbiter,
    whom: String,
    bequest: String,
    /// Another process has what was held, or is about to: nothing is asked, nor given back.
    rests: bool,
}

/// What the thread of an arbiter is told.
#[derive(Debug)]
enum Word {
    Event(Event),
    /// Of another process.
    Inherit(String),
    Recover,
}

impl Arbiters {
    /// None yet.
    pub fn new() -> Arbiters {
        Arbiters::default()
    }

    /// Has a witness asked for some virtual routers: one by itself, or all of a group. One that was
    /// asked for them before is not any more, and what they have by its consent they give away first.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn add(
        &self,
        instances: &[String],
        terms: Terms,
        witness: Box<dyn Witness>,
        told: impl FnMut(Said) + Send + 'static,
    ) -> io::Result<()> {
        let Some(first) = instances.first() else { return Ok(()) };
        self.withdraw(instances);
        let (sender, questions) = sync_channel(QUESTIONS);
        let consent = Arc::new(Consent::default());
        let shown = Shown {
            arbiter: Arbiter::new(terms),
            whom: witness.whom(),
            bequest: witness.bequest(),
            rests: false,
        };
        let shown = Arc::new(Mutex::new(shown));
        let desk = Desk {
            instance: first.clone(),
            consent: Arc::clone(&consent),
            shown: Arc::clone(&shown),
            patience: terms.patience(),
            witness,
            node: Arc::clone(&self.node),
            echo: Arc::clone(&self.echo),
            told: Box::new(told),
        };
        let thread = thread::Builder::new().name("arbiter".to_owned()).spawn(move || desk.run(&questions))?;
        let mut seats = self.seats();
        for instance in &instances[1..] {
            let (consent, shown) = (Arc::clone(&consent), Arc::clone(&shown));
            seats.insert(instance.clone(), Seat { consent, shown, questions: sender.clone(), thread: None });
        }
        seats.insert(first.clone(), Seat { consent, shown, questions: sender, thread: Some(thread) });
        Ok(())
    }

    fn withdraw(&self, instances: &[String]) {
        let replaced: Vec<String> = {
            let seats = self.seats();
            instances.iter().filter(|instance| seats.contains_key(*instance)).cloned().collect()
        };
        if let Some(node) = self.node.get() {
            for instance in &replaced {
                // A node that is gone has no addresses.
                let _ = node.withdraw(instance);
            }
        }
        self.remove(&replaced);
    }

    /// Has nobody asked for these any more; waits until what is held has been given back, or could not
    /// be.
    pub fn remove(&self, instances: &[String]) {
        let gone: Vec<Seat> = {
            let mut seats = self.seats();
            instances.iter().filter_map(|instance| seats.remove(instance)).collect()
        };
        leave(gone);
    }

    /// The consent for a virtual router, if it has an arbiter.
    pub fn consent(&self, instance: &str) -> Option<Arc<Consent>> {
        self.seats().get(instance).map(|seat| Arc::clone(&seat.consent))
    }

    /// How a virtual router's arbiter stands, if it has one.
    pub fn view(&self, instance: &str) -> Option<View> {
        let shown = self.seats().get(instance).map(|seat| Arc::clone(&seat.shown))?;
        let (shown, now) = (lock(&shown), clock::now());
        let standing = shown.arbiter.standing(now);
        let left = match standing {
            Standing::Held(until) | Standing::Kept(until) => until.saturating_sub(now),
            _ => Duration::ZERO,
        };
        let silence = shown.arbiter.silence().map(str::to_owned);
        Some(View { whom: shown.whom.clone(), standing, left, silence })
    }

    fn seats(&self) -> MutexGuard<'_, BTreeMap<String, Seat>> {
        lock(&self.seats)
    }

    /// Leaves what is held for these virtual routers to another process of this host: from now on nothing is
    /// asked, and nothing given back. Returns by what the other one knows it, for each that has an arbiter.
    ///
    /// What was asked just now may still be answered; nobody is told.
    pub fn rest(&self, instances: &[String]) -> Vec<(String, String)> {
        let seats = self.seats();
        let left = instances.iter().filter_map(|instance| {
            let mut shown = lock(&seats.get(instance)?.shown);
            shown.rests = true;
            Some((instance.clone(), shown.bequest.clone()))
        });
        left.collect()
    }

    /// Goes on with what was left after all.
    pub fn recover(&self) {
        self.tell_all(&|| Word::Recover);
    }

    /// Goes on for a virtual router with what another process has left, and with the consent until that
    /// moment, if it had it.
    pub fn resume(&self, instance: &str, bequest: &str, until: Option<Moment>) {
        let seats = self.seats();
        let Some(seat) = seats.get(instance) else { return };
        if let Some(until) = until {
            lock(&seat.shown).arbiter.resume(until, clock::now());
            seat.consent.last(until);
        }
        // Nobody has asked for anything yet, so there is room.
        let _ = seat.questions.try_send(Word::Inherit(bequest.to_owned()));
    }

    fn tell_all(&self, word: &dyn Fn() -> Word) {
        for seat in self.seats().values() {
            let _ = seat.questions.try_send(word());
        }
    }

    /// Has this called whenever a consent was given, prolonged or ended before its time; it is called
    /// before what has ended is given back.
    pub fn echo(&self, echo: impl Fn() + Send + Sync + 'static) {
        // It is one for all time.
        let _ = self.echo.set(Echo(Box::new(echo)));
    }

    /// Says who is to be told.
    pub fn connect(&self, node: Handle) {
        // It is one node for all time.
        let _ = self.node.set(node);
    }

    /// Takes in what the node tells: that consent is wanted, or no more. Never waits.
    pub fn hear(&self, notice: &Notice) {
        let (instance, event) = match notice {
            Notice::Asks { instance } => (instance, Event::Ask),
            Notice::Releases { instance } => (instance, Event::Release),
            _ => return,
        };
        if let Some(seat) = self.seats().get(instance) {
            // A router asks again; and what is not given back ends by itself.
            let _ = seat.questions.try_send(Word::Event(event));
        }
    }
}

impl Drop for Arbiters {
    fn drop(&mut self) {
        let seats = std::mem::take(&mut *self.seats());
        leave(seats.into_values().collect());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets threads end, and waits for it.
fn leave(seats: Vec<Seat>) {
    // A thread ends when nobody can ask it any more: all ways to it go before it is waited for.
    let threads: Vec<_> = seats.into_iter().filter_map(|seat| seat.thread).collect();
    for thread in threads {
        // A panic of the thread was told when it happened.
        let _ = thread.join();
    }
}

/// Where one arbiter is asked.
struct Desk {
    instance: String,
    consent: Arc<Consent>,
    shown: Arc<Mutex<Shown>>,
    patience: Duration,
    witness: Box<dyn Witness>,
    node: Arc<OnceLock<Handle>>,
    echo: Arc<OnceLock<Echo>>,
    told: Box<dyn FnMut(Said) + Send>,
}

impl Desk {
    fn run(mut self, questions: &Receiver<Word>) {
        loop {
            let deadline = {
                let shown = lock(&self.shown);
                shown.arbiter.deadline().filter(|_| !shown.rests)
            };
            let wait = deadline.map_or(LONG, |due| due.saturating_sub(clock::now()));
            match questions.recv_timeout(wait) {
                Ok(Word::Event(event)) => self.handle(event),
                Ok(Word::Inherit(bequest)) => {
                    self.witness.inherit(&bequest);
                    lock(&self.shown).bequest = self.witness.bequest();
                    self.handle(Event::Timer);
                }
                Ok(Word::Recover) => {
                    if std::mem::take(&mut lock(&self.shown).rests) {
                        self.witness.recover();
                        lock(&self.shown).arbiter.ask_anew(clock::now());
                        self.handle(Event::Timer);
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.handle(Event::Timer),
                Err(RecvTimeoutError::Disconnected) => return self.handle(Event::Release),
            }
        }
    }

    fn rests(&self) -> bool {
        lock(&self.shown).rests
    }

    fn handle(&mut self, event: Event) {
        if event == Event::Release && !self.rests() {
            self.consent.end();
            self.echo();
        }
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            // Also what was under way when it was left.
            if self.rests() {
                return;
            }
            let actions = lock(&self.shown).arbiter.handle(event, clock::now());
            for action in actions {
                // Counted from before the question, however long the answer takes.
                let asked = clock::now();
                let answer = match action {
                    Action::Acquire => self.witness.acquire(self.patience),
                    Action::Renew => self.witness.renew(self.patience),
                    Action::Revoke => {
                        self.witness.revoke(self.patience);
                        lock(&self.shown).bequest = self.witness.bequest();
                        continue;
                    }
                    Action::Tell(event) => {
                        self.tell(&event);
                        continue;
                    }
                    Action::Note(note) => {
                        (self.told)(Said { instance: self.instance.clone(), note });
                        continue;
                    }
                };
                {
                    let mut shown = lock(&self.shown);
                    (shown.whom, shown.bequest) = (self.witness.whom(), self.witness.bequest());
                }
                events.push(Event::Answered { asked, answer });
            }
        }
    }

    fn tell(&self, event: &router::Event) {
        match event {
            router::Event::Granted { until } => self.consent.last(*until),
            _ => self.consent.end(),
        }
        self.echo();
        let Some(node) = self.node.get() else { return };
        // A node that is gone has no addresses.
        let _ = match event {
            router::Event::Granted { until } => node.grant(&self.instance, *until),
            _ => node.refuse(&self.instance),
        };
    }

    fn echo(&self) {
        if let Some(Echo(echo)) = self.echo.get() {
            echo();
        }
    }
}

impl fmt::Debug for Echo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Echo").finish_non_exhaustive()
    }
}

impl Consent {
    /// Whether it lasts at this moment.
    pub fn holds(&self) -> bool {
        nanos(clock::now()) < self.until.load(Ordering::Acquire)
    }

    /// The moment at which it ends, or has ended.
    pub fn until(&self) -> Moment {
        Moment::from_nanos(self.until.load(Ordering::Acquire))
    }

    /// Has it last until then. Who asks the arbiter itself does that ([`Arbiters`]); another process of this
    /// host, which goes by that one's word, does it so.
    pub fn last(&self, until: Moment) {
        self.until.store(nanos(until), Ordering::Release);
    }

    /// Ends it.
    pub fn end(&self) {
        self.until.store(0, Ordering::Release);
    }
}

fn nanos(moment: Moment) -> u64 {
    u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.instance, self.note)
    }
}

/// Words of one router that wait at most; it repeats those that matter.
const QUESTIONS: usize = 64;
const LONG: Moment = Moment::from_secs(3600);
