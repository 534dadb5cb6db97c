//! What zones have counted, and the words for it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Store;

/// What became of requests, and the bytes of bodies.
#[derive(Default)]
pub(super) struct Counts {
    requests: [AtomicU64; Outcome::ALL.len()],
    bytes_served: AtomicU64,
    pub(super) bytes_stored: AtomicU64,
}

/// What a zone has to do with a request's answer, as `$upstream_cache_status` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// There was none.
    Miss,
    /// The zone was not asked (`proxy_cache_bypass`).
    Bypass,
    /// The time of what there was is over, and a server was asked.
    Expired,
    /// The same, and what there was is sent since no server could do better, or while one is asked.
    Stale,
    /// The same, and somebody else is asking a server.
    Updating,
    /// The same, and a server has said that nothing has changed.
    Revalidated,
    /// It was there.
    Hit,
}

impl Outcome {
    pub(crate) const ALL: [Outcome; 7] = [
        Outcome::Miss,
        Outcome::Bypass,
        Outcome::Expired,
        Outcome::Stale,
        Outcome::Updating,
        Outcome::Revalidated,
        Outcome::Hit,
    ];

    /// Returns nginx's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Miss => "MISS",
            Self::Bypass => "BYPASS",
            Self::Expired => "EXPIRED",
            Self::Stale => "STALE",
            Self::Updating => "UPDATING",
            Self::Revalidated => "REVALIDATED",
            Self::Hit => "HIT",
        }
    }
}

impl Store {
    /// Counts what became of a request.
    pub(crate) fn count(&self, outcome: Outcome) {
        self.counts.requests[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the bytes of a body that no server had to send.
    pub(crate) fn count_served(&self, bytes: u64) {
        self.counts.bytes_served.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns what was counted.
    pub(crate) fn census(&self) -> Census {
        let (entries, size, evictions) = {
            let state = self.state();
            let (entries, size) = state.index.extent();
            (entries, size, state.index.evictions())
        };
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Census {
            requests: Outcome::ALL.map(|outcome| (outcome, read(&self.counts.requests[outcome as usize]))),
            bytes_served: read(&self.counts.bytes_served),
            bytes_stored: read(&self.counts.bytes_stored),
            entries,
            size,
            evictions,
        }
    }
}

/// What a zone has counted.
pub(crate) struct Census {
    pub(crate) requests: [(Outcome, u64); Outcome::ALL.len()],
    pub(crate) bytes_served: u64,
    pub(crate) bytes_stored: u64,
    pub(crate) entries: usize,
    pub(crate) size: u64,
    pub(crate) evictions: u64,
}
