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
}

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
    questions: SyncSender<Event>,
    thread: Option<JoinHandle<()>>,
}

/// What may be looked at; held for arithmetic, never while anybody is asked.
#[derive(Debug)]
struct Shown {
    arbiter: Arbiter,
    whom: String,
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
        let shown = Arc::new(Mutex::new(Shown { arbiter: Arbiter::new(terms), whom: witness.whom() }));
        let desk = Desk {
            instance: first.clone(),
            consent: Arc::clone(&consent),
            shown: Arc::clone(&shown),
            patience: terms.patience(),
            witness,
            node: Arc::clone(&self.node),
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
            let _ = seat.questions.try_send(event);
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
    told: Box<dyn FnMut(Said) + Send>,
}

impl Desk {
    fn run(mut self, questions: &Receiver<Event>) {
        loop {
            let deadline = lock(&self.shown).arbiter.deadline();
            let wait = deadline.map_or(LONG, |due| due.saturating_sub(clock::now()));
            match questions.recv_timeout(wait) {
                Ok(event) => self.handle(event),
                Err(RecvTimeoutError::Timeout) => self.handle(Event::Timer),
                Err(RecvTimeoutError::Disconnected) => return self.handle(Event::Release),
            }
        }
    }

    fn handle(&mut self, event: Event) {
        if event == Event::Release {
            self.consent.end();
        }
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let actions = lock(&self.shown).arbiter.handle(event, clock::now());
            for action in actions {
                // Counted from before the question, however long the answer takes.
                let asked = clock::now();
                let answer = match action {
                    Action::Acquire => self.witness.acquire(self.patience),
                    Action::Renew => self.witness.renew(self.patience),
                    Action::Revoke => {
                        self.witness.revoke(self.patience);
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
                lock(&self.shown).whom = self.witness.whom();
                events.push(Event::Answered { asked, answer });
            }
        }
    }

    fn tell(&self, event: &router::Event) {
        match event {
            router::Event::Granted { until } => self.consent.last(*until),
            _ => self.consent.end(),
        }
        let Some(node) = self.node.get() else { return };
        // A node that is gone has no addresses.
        let _ = match event {
            router::Event::Granted { until } => node.grant(&self.instance, *until),
            _ => node.refuse(&self.instance),
        };
    }
}

impl Consent {
    /// Whether it lasts at this moment.
    pub fn holds(&self) -> bool {
        nanos(clock::now()) < self.until.load(Ordering::Acquire)
    }

    fn last(&self, until: Moment) {
        self.until.store(nanos(until), Ordering::Release);
    }

    fn end(&self) {
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
