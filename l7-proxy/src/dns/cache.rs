//! Answers that are kept for as long as they hold, for names that requests bring.
//!
//! Each worker has its own, so that no request waits for a lock. A name is asked for once at a time,
//! however many wait for it, and in a task of its own: that a client goes away does not lose an answer.
//! What a client can name is bounded: the names that are remembered, and those that are asked for at a time.
//!
//! When the name servers cannot tell, an answer that has run out holds on for a while (RFC 8767), and
//! nobody waits long for a better one. nginx answers 502 then, after `resolver_timeout`.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tracing::warn;

use super::{Found, RETRY, ResolveError, addresses};
use crate::model::Resolver;
use crate::moment::Moment;

/// The names that a worker knows.
#[derive(Clone)]
pub(crate) struct Cache {
    names: Rc<RefCell<HashMap<Question, Rc<Name>>>>,
    /// Places for names that are asked for.
    places: Rc<Semaphore>,
}

/// A name, and who is asked for it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Question {
    name: Box<str>,
    resolver: Arc<Resolver>,
}

/// What is known of a name.
struct Name {
    answer: RefCell<Option<Answer>>,
    lookup: RefCell<Option<Lookup>>,
    used: Cell<Moment>,
}

#[derive(Clone)]
struct Answer {
    addresses: Rc<[IpAddr]>,
    /// When it was given.
    since: Moment,
    /// When it is to be asked for anew.
    until: Moment,
}

/// A question under way.
#[derive(Clone)]
struct Lookup {
    began: Moment,
    outcome: watch::Receiver<Option<Outcome>>,
}

type Outcome = Result<Rc<[IpAddr]>, ResolveError>;

impl Default for Cache {
    fn default() -> Cache {
        Cache { names: Rc::default(), places: Rc::new(Semaphore::new(LOOKUPS_MAX)) }
    }
}

impl Cache {
    /// Returns the addresses of a name, which are at least one.
    ///
    /// # Errors
    /// It has none, or nobody knows.
    pub(crate) async fn addresses(&self, resolver: &Arc<Resolver>, name: &str) -> Outcome {
        let resolver = Arc::clone(resolver);
        let question = Question { name: name.to_ascii_lowercase().into_boxed_str(), resolver };
        let Some(known) = self.name(&question) else { return Err(ResolveError::Busy) };
        let now = Moment::now();
        known.used.set(now);
        let answer = known.answer.borrow().clone();
        if let Some(answer) = &answer
            && now < answer.until
        {
            return Ok(Rc::clone(&answer.addresses));
        }
        let mut lookup = self.look_up(&question, &known);
        let outcome = lookup.outcome.wait_for(Option::is_some);
        let waited = match &answer {
            None => Some(outcome.await),
            Some(_) => timeout(STALE_AFTER.saturating_sub(now.since(lookup.began)), outcome).await.ok(),
        };
        match (waited, answer) {
            (Some(Ok(outcome)), _) => outcome.clone().unwrap_or(Err(ResolveError::TimedOut)),
            (None, Some(answer)) => Ok(answer.addresses),
            // The thread ends.
            (Some(Err(_)) | None, _) => Err(ResolveError::TimedOut),
        }
    }

    /// Returns what is known of a name; `None` if it is new and all that there is room for is being asked for.
    fn name(&self, question: &Question) -> Option<Rc<Name>> {
        let mut names = self.names.borrow_mut();
        if let Some(known) = names.get(question) {
            return Some(Rc::clone(known));
        }
        if names.len() >= NAMES_MAX {
            let idle = names.iter().filter(|(_, name)| name.lookup.borrow().is_none());
            let oldest = idle.min_by_key(|(_, name)| name.used.get()).map(|(question, _)| question.clone());
            names.remove(&oldest?);
        }
        let used = Cell::new(Moment::now());
        let name = Rc::new(Name { answer: RefCell::default(), lookup: RefCell::default(), used });
        names.insert(question.clone(), Rc::clone(&name));
        Some(name)
    }

    /// Asks for a name, unless that is being done.
    fn look_up(&self, question: &Question, name: &Rc<Name>) -> Lookup {
        if let Some(lookup) = &*name.lookup.borrow() {
            return lookup.clone();
        }
        let (done, outcome) = watch::channel(None);
        let lookup = Lookup { began: Moment::now(), outcome };
        name.lookup.replace(Some(lookup.clone()));
        let (cache, question, name) = (self.clone(), question.clone(), Rc::clone(name));
        tokio::task::spawn_local(async move {
            let found = cache.ask(&question).await;
            let outcome = name.take_in(&question.name, found, Moment::now());
            name.lookup.take();
            if outcome.is_err() {
                cache.names.borrow_mut().remove(&question);
            }
            // Who has asked may have gone.
            let _ = done.send(Some(outcome));
        });
        lookup
    }

    async fn ask(&self, question: &Question) -> Result<Found<IpAddr>, ResolveError> {
        let resolver = &question.resolver;
        let asked = async {
            // The semaphore is never closed.
            let _place = self.places.acquire().await;
            addresses(resolver, &question.name).await
        };
        // The time of a name counts while it waits, too.
        timeout(resolver.timeout, asked).await.unwrap_or(Err(ResolveError::TimedOut))
    }
}

impl Name {
    /// Takes in what was found; returns what goes by it.
    fn take_in(&self, name: &str, found: Result<Found<IpAddr>, ResolveError>, now: Moment) -> Outcome {
        let mut answer = self.answer.borrow_mut();
        match found {
            Ok(Found { found, valid, .. }) => {
                let addresses: Rc<[IpAddr]> = found.into();
                // nginx's clock counts seconds, so that a time to live of 0 is as good as one of 1.
                let until = now + valid.max(VALID_MIN);
                *answer = Some(Answer { addresses: Rc::clone(&addresses), since: now, until });
                Ok(addresses)
            }
            Err(error) => {
                let kept = answer.as_mut().filter(|_| !error.is_an_answer());
                match kept.filter(|kept| now.since(kept.since) < STALE_MAX) {
                    Some(kept) => {
                        warn!("{name} could not be resolved ({error}), its last addresses hold on");
                        kept.until = now + RETRY;
                        Ok(Rc::clone(&kept.addresses))
                    }
                    None => {
                        *answer = None;
                        Err(error)
                    }
                }
            }
        }
    }
}

/// How many names a worker remembers; the one that was not used for longest goes first.
const NAMES_MAX: usize = 1024;

/// How many names a worker asks for at a time; others wait.
const LOOKUPS_MAX: usize = 256;

/// So long is waited for a better answer than one that has run out (RFC 8767, section 5).
const STALE_AFTER: Duration = Duration::from_millis(1800);

/// Answers that are older hold on no longer.
const STALE_MAX: Duration = Duration::from_secs(3600);

const VALID_MIN: Duration = Duration::from_secs(1);
