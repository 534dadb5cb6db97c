//! Who is at a server: how many connections it has, and whether it is full.
//!
//! A lease keeps its server alive anyhow, so the references to a server are its connections, but for
//! those that [`Handle`]s are. A connection then writes one word as it comes and one as it goes.
//!
//! `loom/` plays these words through every order of threads.

use std::ops::Deref;

use crate::counter::Counter;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// A reference to a server that stands for no connection.
///
/// While a handle is made or dropped in another thread, the load reads one too high, and a server may
/// be marked full one connection early.
pub(crate) struct Handle<T: Occupied>(Arc<T>);

/// What has an [`Occupancy`].
pub(crate) trait Occupied {
    fn occupancy(&self) -> &Occupancy;
}

/// The counts of a server's connections, and what the thresholds make of them.
#[repr(C)]
pub(crate) struct Occupancy {
    /// Connections ever begun here. Written by leases.
    begun: Counter,
    /// Of the connections there now, those that are closing. Written by leases.
    closing: AtomicU64,
    /// How many of the references are [`Handle`]s.
    handles: AtomicUsize,
    /// Set by the connection that reaches the upper threshold; whoever looks next after enough of
    /// them have left takes it away. A late read admits one more.
    full: AtomicBool,
    /// How connections count that are not closing.
    kind: Kind,
    /// Written by `apply` only.
    upper: AtomicU32,
    /// Written by `apply` only.
    lower: AtomicU32,
    /// Connections that had ended when the thresholds were set. Written by `apply` only.
    ended_before: AtomicU64,
}

/// How a lease counts at its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Active,
    Inactive,
}

/// Connections of a server at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Load {
    /// Connections in use.
    pub active: u32,
    /// Connections that are closing, and all UDP flows.
    pub inactive: u32,
}

impl<T: Occupied> Handle<T> {
    pub(crate) fn new(live: Arc<T>) -> Handle<T> {
        live.occupancy().handles.fetch_add(1, Ordering::Relaxed);
        Handle(live)
    }

    /// A handle on a connection's server.
    pub(crate) fn of(live: &Arc<T>) -> Handle<T> {
        Handle::new(Arc::clone(live))
    }

    /// The reference that it is.
    pub(crate) fn reference(&self) -> &Arc<T> {
        &self.0
    }

    #[inline]
    fn counts(&self) -> &Occupancy {
        self.0.occupancy()
    }

    /// Connections now.
    #[inline]
    pub(crate) fn load(&self) -> Load {
        let closing = self.counts().closing.load(Ordering::Relaxed);
        let total = self.total();
        match self.counts().kind {
            Kind::Active => {
                Load { active: clamp(total.saturating_sub(closing)), inactive: clamp(closing.min(total)) }
            }
            Kind::Inactive => Load { active: 0, inactive: clamp(total) },
        }
    }

    /// Active and inactive connections together.
    #[inline]
    fn total(&self) -> u64 {
        Arc::strong_count(&self.0).saturating_sub(self.counts().handles.load(Ordering::Relaxed)) as u64
    }

    /// Whether it reached its upper threshold and too few have left since.
    ///
    /// IPVS takes the mark away when a connection ends. Here it is done by the next who looks, also
    /// before the load grows again, which comes to the same and costs those who leave nothing.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.counts().full.load(Ordering::Relaxed) && !self.reopen()
    }

    /// Takes the mark of fullness away if the connections leave enough room.
    fn reopen(&self) -> bool {
        let total = self.total();
        let upper = u64::from(self.counts().upper.load(Ordering::Relaxed));
        let lower = u64::from(self.counts().lower.load(Ordering::Relaxed));
        let roomy = match (lower, upper) {
            (0, 0) => true,
            (0, _) => total * 4 < upper * 3,
            _ => total < lower,
        };
        // New thresholds take effect when a connection ends.
        let open = roomy && self.ended() != self.counts().ended_before.load(Ordering::Relaxed);
        if open {
            self.counts().full.store(false, Ordering::Relaxed);
        }
        open
    }

    /// Connections that came and went.
    fn ended(&self) -> u64 {
        self.counts().begun.ever().wrapping_sub(self.total())
    }

    /// Counts one more connection, unless another one filled the server since it was chosen.
    ///
    /// Whoever brings the total to the upper threshold marks the server full. The mark, not the
    /// total, refuses: after the threshold was lowered below the total, IPVS still takes one.
    #[inline]
    pub(crate) fn admit(&self) -> Option<Arc<T>> {
        if self.counts().upper.load(Ordering::Relaxed) != 0 && self.is_full() {
            return None;
        }
        Some(self.bind())
    }

    /// Counts one more connection, full or not: what a template hit does.
    #[inline]
    pub(crate) fn bind(&self) -> Arc<T> {
        let upper = self.counts().upper.load(Ordering::Relaxed);
        if upper == 0 {
            return self.begin();
        }
        // The last moment to see that there had been room.
        self.is_full();
        let live = self.begin();
        if self.total() >= u64::from(upper) {
            self.fill(upper);
        }
        live
    }

    /// Marks the server full by this threshold, unless it has been raised since it was read: whoever
    /// raised it has opened the server already and does not look again.
    fn fill(&self, upper: u32) {
        // After a swap in `set_thresholds` this one sees the threshold that was set before it.
        self.counts().full.swap(true, Ordering::AcqRel);
        let present = self.counts().upper.load(Ordering::Relaxed);
        if present != upper && (present == 0 || self.total() < u64::from(present)) {
            self.counts().full.store(false, Ordering::Relaxed);
        }
    }

    /// Counts one more connection where there is no threshold.
    #[inline]
    pub(crate) fn begin(&self) -> Arc<T> {
        self.add_begun(1);
        self.claim()
    }

    /// Counts one more connection, but for the total that have begun.
    #[inline]
    pub(crate) fn claim(&self) -> Arc<T> {
        Arc::clone(&self.0)
    }

    /// Adds to the total that have begun, but not to those that are there now.
    pub(crate) fn add_begun(&self, connections: u64) {
        self.counts().begun.add(connections);
    }

    /// Sets new thresholds. A raised or lifted limit opens the server at once; a lowered one shows
    /// at the next connection (`ip_vs_ctl.c`, `__ip_vs_update_dest`).
    pub(crate) fn set_thresholds(&self, upper: u32, lower: u32) {
        // What has ended until now counts by the old ones.
        self.is_full();
        self.counts().ended_before.store(self.ended(), Ordering::Relaxed);
        self.counts().lower.store(lower, Ordering::Relaxed);
        let before = self.counts().upper.swap(upper, Ordering::Relaxed);
        if upper == 0 || upper > before {
            self.counts().full.swap(false, Ordering::AcqRel);
        }
    }
}

impl<T: Occupied> Clone for Handle<T> {
    fn clone(&self) -> Handle<T> {
        Handle::new(Arc::clone(&self.0))
    }
}

impl<T: Occupied> Drop for Handle<T> {
    fn drop(&mut self) {
        self.counts().handles.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T: Occupied> Deref for Handle<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl Occupancy {
    pub(crate) fn new(kind: Kind) -> Occupancy {
        Occupancy {
            begun: Counter::default(),
            closing: AtomicU64::new(0),
            handles: AtomicUsize::new(0),
            full: AtomicBool::new(false),
            kind,
            upper: AtomicU32::new(0),
            lower: AtomicU32::new(0),
            ended_before: AtomicU64::new(0),
        }
    }

    /// Connections scheduled since the counters were zeroed.
    pub(crate) fn connections(&self) -> u64 {
        self.begun.get()
    }

    /// Zeroes the count of connections scheduled; returns what it was.
    pub(crate) fn reset_connections(&self) -> u64 {
        self.begun.reset()
    }

    /// How a connection counts here as long as it is not closing.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Counts an active connection as inactive from now on.
    pub(crate) fn deactivate(&self) {
        self.closing.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an inactive connection as active again, or no more.
    pub(crate) fn reactivate(&self) {
        self.closing.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Load {
    /// What IPVS counts as load: an active connection is worth 256 inactive ones.
    pub fn overhead(self) -> u64 {
        u64::from(self.active) * 256 + u64::from(self.inactive)
    }

    /// Active and inactive together, as thresholds count them.
    pub fn total(self) -> u32 {
        self.active.saturating_add(self.inactive)
    }
}

fn clamp(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
