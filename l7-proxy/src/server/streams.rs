//! The requests of one HTTP/2 connection that are being answered.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use h2::Reason;

use super::flood::{Flood, Offence};
use super::session::{Overdue, Session};
use crate::moment::Moment;

/// The open streams of a connection.
pub(crate) struct Streams {
    open: Cell<usize>,
    /// For their limits; those that have ended are left out when the list is next looked through.
    list: RefCell<Vec<Weak<Session>>>,
    flood: RefCell<Flood>,
    /// Since when a head has been coming.
    head_since: Cell<Option<Moment>>,
    /// Why the client is to be sent away, if it is.
    pub(super) violation: Cell<Option<Reason>>,
}

impl Streams {
    /// A connection that has just been made.
    pub(super) fn new() -> Streams {
        Streams {
            open: Cell::new(0),
            list: RefCell::default(),
            flood: RefCell::new(Flood::new(Moment::now())),
            head_since: Cell::new(None),
            violation: Cell::new(None),
        }
    }

    /// The client has sent this.
    pub(super) fn received(&self, bytes: &[u8]) -> Result<(), Offence> {
        let now = Moment::now();
        let mut flood = self.flood.borrow_mut();
        flood.feed(bytes, now)?;
        let since = self.head_since.get().unwrap_or(now);
        self.head_since.set(flood.is_amid_head().then_some(since));
        Ok(())
    }

    /// Since when a head has been coming that is not whole yet.
    pub(super) fn head_since(&self) -> Option<Moment> {
        self.head_since.get()
    }

    /// The client has been sent so much.
    pub(super) fn sent(&self, count: usize) {
        self.flood.borrow_mut().written(count);
    }

    pub(super) fn begin(&self, stream: &Rc<Session>) {
        self.open.set(self.open.get() + 1);
        let mut list = self.list.borrow_mut();
        // As many are open as the client was allowed, so that the list stays as short as twice that.
        if list.len() >= 2 * self.open.get().max(8) {
            list.retain(|stream| stream.strong_count() > 0);
        }
        list.push(Rc::downgrade(stream));
    }

    /// A stream has ended; returns how many are left.
    pub(super) fn end(&self) -> usize {
        self.open.set(self.open.get().saturating_sub(1));
        self.open.get()
    }

    /// Returns when one of them is next overdue, and by what.
    pub(super) fn deadline(&self) -> Option<(Moment, Overdue)> {
        let list = self.list.borrow();
        let deadlines = list.iter().filter_map(Weak::upgrade).filter_map(|stream| stream.stream_deadline());
        deadlines.min_by_key(|(when, _)| *when)
    }

    /// Ends those that are overdue.
    pub(super) fn expire(&self, now: Moment) {
        let list = self.list.borrow();
        for stream in list.iter().filter_map(Weak::upgrade) {
            if let Some((_, overdue)) = stream.stream_deadline().filter(|(when, _)| *when <= now) {
                stream.close_for(overdue);
                stream.wake();
            }
        }
    }
}
