//! The servers that a request was given to, as far as a variable may show them.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::variable::Attempt;

/// What became of a request at each server that it was given to.
#[derive(Default)]
pub(crate) struct Attempts {
    list: Vec<Attempt>,
    /// When the latest began, while it goes on.
    began: Option<Instant>,
    /// How long it took the latest to connect.
    connected: Cell<Option<Duration>>,
    /// Whether the next one comes after an internal redirect.
    apart: bool,
}

impl Attempts {
    /// Returns them in order.
    pub(crate) fn list(&self) -> &[Attempt] {
        &self.list
    }

    /// The request is forwarded, perhaps once more.
    pub(crate) fn forwarded(&mut self) {
        self.apart = !self.list.is_empty();
    }

    /// A server is asked.
    pub(crate) fn begin(&mut self, server: SocketAddr, now: Instant) {
        self.push(Attempt::new(Some(server), None, None));
        self.began = Some(now);
        self.connected.set(None);
    }

    /// No server could be asked, and this status stands for that.
    pub(crate) fn none(&mut self, status: u16) {
        self.push(Attempt::new(None, Some(status), Some(Duration::ZERO)));
    }

    fn push(&mut self, attempt: Attempt) {
        let apart = std::mem::take(&mut self.apart);
        self.list.push(Attempt { apart, ..attempt });
    }

    /// There is a connection to the server: after so long.
    pub(crate) fn connected(&self, after: Duration) {
        self.connected.set(Some(after));
    }

    /// The server has answered with this status.
    pub(crate) fn answered(&mut self, status: u16) {
        let answered = self.began.map(|began| began.elapsed());
        if let Some(attempt) = self.list.last_mut() {
            (attempt.status, attempt.answered) = (Some(status), answered);
            attempt.connected = self.connected.get();
        }
    }

    /// The server has not answered, and this status stands for that.
    pub(crate) fn failed(&mut self, status: u16) {
        if let Some(attempt) = self.list.last_mut() {
            attempt.status = Some(status);
        }
    }

    /// So much of the body of the latest one's answer was passed on.
    pub(crate) fn count(&mut self, body: u64) {
        if let Some(attempt) = self.list.last_mut() {
            attempt.length = body;
        }
    }

    /// The latest one is over, after so many bytes to the server and from it.
    pub(crate) fn end(&mut self, traffic: (u64, u64)) {
        let Some(began) = self.began.take() else { return };
        if let Some(attempt) = self.list.last_mut() {
            attempt.elapsed = Some(began.elapsed());
            attempt.connected = self.connected.get();
            attempt.traffic = traffic;
        }
    }
}
