//! The open client connections of a worker, so that they can be told to end.

use std::rc::Rc;

use super::census::Census;
use super::session::Phase;
use super::{Session, Worker};

/// The open connections; places that are free are used again.
#[derive(Default)]
pub(crate) struct Sessions {
    places: Vec<Option<Rc<Session>>>,
    free: Vec<usize>,
    /// Connections that had to be asked first what they speak.
    strangers: usize,
}

/// A connection that has to be asked first what it speaks, and is no session until then; it counts as
/// open until dropped.
pub(super) struct Stranger {
    worker: Rc<Worker>,
}

/// A connection's entry in the list; taken out when dropped.
pub(super) struct Listed {
    worker: Rc<Worker>,
    place: usize,
}

impl Sessions {
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len() && self.strangers == 0
    }

    /// Counts what they are about.
    pub(super) fn count(&self, census: &mut Census) {
        for session in self.places.iter().flatten() {
            match session.phase() {
                Phase::Head => census.reading += 1,
                Phase::Request | Phase::Lingering { .. } => census.writing += 1,
                Phase::Fresh | Phase::Idle => census.waiting += 1,
            }
        }
    }

    /// Returns those that are open now.
    pub(super) fn all(&self) -> Vec<Rc<Session>> {
        self.places.iter().flatten().cloned().collect()
    }
}

/// Lists a connection.
pub(super) fn enter(worker: &Rc<Worker>, session: &Rc<Session>) -> Listed {
    worker.accepted.set(worker.accepted.get() + 1);
    list(worker, session)
}

/// Takes one down that no client has opened.
pub(super) fn list(worker: &Rc<Worker>, session: &Rc<Session>) -> Listed {
    let mut sessions = worker.sessions.borrow_mut();
    let place = match sessions.free.pop() {
        Some(place) => {
            sessions.places[place] = Some(Rc::clone(session));
            place
        }
        None => {
            sessions.places.push(Some(Rc::clone(session)));
            sessions.places.len() - 1
        }
    };
    Listed { worker: Rc::clone(worker), place }
}

impl Stranger {
    pub(super) fn new(worker: &Rc<Worker>) -> Stranger {
        worker.sessions.borrow_mut().strangers += 1;
        Stranger { worker: Rc::clone(worker) }
    }

    /// Returns what comes of a first exchange with the client; `None` if the process is to end, and has
    /// given the client a moment: it may just have connected.
    pub(super) async fn hear<T>(&self, exchange: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            heard = exchange => Some(heard),
            () = self.worker.hurries() => None,
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut sessions = self.worker.sessions.borrow_mut();
        sessions.strangers -= 1;
        if sessions.is_empty() {
            self.worker.emptied.notify_waiters();
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut sessions = self.worker.sessions.borrow_mut();
        // The last hold on the session may hold the worker, but never the list.
        let session = sessions.places[self.place].take();
        sessions.free.push(self.place);
        if sessions.is_empty() {
            self.worker.emptied.notify_waiters();
        }
        drop(sessions);
        drop(session);
    }
}
