//! How many connections and requests there are and have been: the page of `stub_status`.
//!
//! Each worker writes what it has to where the others read it, once a second and when it is asked
//! itself; so nothing is counted at a request beyond a number of its worker's own.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Worker;
use crate::variable::{Around, Connections};

/// The latest census of each worker.
#[derive(Default)]
pub(crate) struct Censuses {
    workers: Mutex<Vec<Arc<Mutex<Census>>>>,
}

/// Connections and requests of a worker, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// Connections that were accepted.
    pub(crate) accepted: u64,
    /// Requests that were begun.
    pub(crate) requests: u64,
    /// Connections that a head is being read of.
    pub(crate) reading: u64,
    /// Connections that a request of is being answered.
    pub(crate) writing: u64,
    /// Connections that wait for a request.
    pub(crate) waiting: u64,
    /// Answers, by the first digit of their status.
    pub(crate) responses: [u64; 5],
}

impl Censuses {
    /// Returns where one worker's census is written.
    pub(super) fn join(&self) -> Arc<Mutex<Census>> {
        let place = Arc::default();
        lock(&self.workers).push(Arc::clone(&place));
        place
    }

    /// Returns the sum over all workers.
    pub(crate) fn sum(&self) -> Census {
        lock(&self.workers).iter().map(|census| *lock(census)).sum()
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

impl Around for Worker {
    fn connections(&self) -> Connections {
        // Whoever asks while a connection is being taken off the list gets the latest count before that.
        if self.sessions.try_borrow().is_ok() {
            self.publish();
        }
        self.shared.censuses.sum().into()
    }
}

/// Writes a worker's census.
pub(super) fn publish(place: &Mutex<Census>, census: Census) {
    *lock(place) = census;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<Census> for Connections {
    fn from(Census { reading, writing, waiting, .. }: Census) -> Connections {
        Connections { reading, writing, waiting }
    }
}

impl Add for Census {
    type Output = Census;

    fn add(self, other: Census) -> Census {
        Census {
            accepted: self.accepted + other.accepted,
            requests: self.requests + other.requests,
            reading: self.reading + other.reading,
            writing: self.writing + other.writing,
            waiting: self.waiting + other.waiting,
            responses: std::array::from_fn(|class| self.responses[class] + other.responses[class]),
        }
    }
}

impl Sum for Census {
    fn sum<I: Iterator<Item = Census>>(censuses: I) -> Census {
        censuses.fold(Census::default(), Add::add)
    }
}

impl fmt::Display for Census {
    /// Writes nginx's page, trailing blanks included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Census { accepted, requests, reading, writing, waiting, .. } = self;
        let active = reading + writing + waiting;
        writeln!(f, "Active connections: {active} ")?;
        writeln!(f, "server accepts handled requests")?;
        writeln!(f, " {accepted} {accepted} {requests} ")?;
        writeln!(f, "Reading: {reading} Writing: {writing} Waiting: {waiting} ")
    }
}
