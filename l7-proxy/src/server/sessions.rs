//! The open client connections of a worker, so that they can be told to end.

use std::rc::Rc;

use super::{Session, Worker};

/// The open connections; places that are free are used again.
#[derive(Default)]
pub(crate) struct Sessions {
    places: Vec<Option<Rc<Session>>>,
    free: Vec<usize>,
}

/// A connection's entry in the list; taken out when dropped.
pub(super) struct Listed {
    worker: Rc<Worker>,
    place: usize,
}

impl Sessions {
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    /// Returns those that are open now.
    pub(super) fn all(&self) -> Vec<Rc<Session>> {
        self.places.iter().flatten().cloned().collect()
    }
}

/// Lists a connection.
pub(super) fn enter(worker: &Rc<Worker>, session: &Rc<Session>) -> Listed {
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
