//! A real server: what belongs to one configuration, and what outlives it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_utils::CachePadded;

use crate::config::Thresholds;
use crate::health::Health;
use crate::pool::Load;
use crate::service::ServiceState;
use crate::time::Time;

/// A server in one snapshot.
pub(crate) struct Server {
    pub(crate) weight: u32,
    pub(crate) live: Arc<Live>,
}

/// What a server keeps through every reload and re-weighting: counters, health, fullness.
///
/// It is known by its service and address. A server that is deleted lives on in its leases, and
/// comes back with its counts if it is added again before the last of them ends, as in IPVS.
pub(crate) struct Live {
    pub(crate) service: Arc<ServiceState>,
    pub(crate) address: SocketAddr,
    /// Active connections in the high half, inactive in the low half. Written by leases.
    load: CachePadded<AtomicU64>,
    /// Connections ever scheduled here. Written by leases.
    pub(crate) connections: Counter,
    /// Bytes from clients to the server. Written by leases.
    pub(crate) bytes_in: Counter,
    /// Bytes from the server to clients. Written by leases.
    pub(crate) bytes_out: Counter,
    /// Entries of the template table that lead here. Written by the table.
    pub(crate) templates: AtomicU32,
    /// Set by the connection that reaches the upper threshold, taken away by one that leaves room; a
    /// late read admits one more.
    full: AtomicBool,
    /// Written by `apply` only.
    upper: AtomicU32,
    /// Written by `apply` only.
    lower: AtomicU32,
    /// Reasons against choosing this server. Written under the writer lock.
    standing: AtomicU8,
    /// After this moment a success in traffic clears failures, in nanoseconds of [`Time`]; saves
    /// the lock until then. Written under the writer lock.
    pardon: AtomicU64,
    health: Mutex<Health>,
}

/// A counter that can be set to zero without disturbing those who add to it.
#[derive(Default)]
pub(crate) struct Counter {
    value: AtomicU64,
    zero: AtomicU64,
}

/// The server is no longer configured.
pub(crate) const REMOVED: u8 = 1;
/// Its weight is 0.
pub(crate) const QUIESCED: u8 = 2;
/// Probes failed.
pub(crate) const DOWN: u8 = 4;
/// Traffic failed.
pub(crate) const EJECTED: u8 = 8;

/// How a lease counts at its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Active,
    Inactive,
}

const ACTIVE: u64 = 1 << 32;
const INACTIVE: u64 = 1;

impl Kind {
    fn unit(self) -> u64 {
        match self {
            Kind::Active => ACTIVE,
            Kind::Inactive => INACTIVE,
        }
    }
}

impl Live {
    pub(crate) fn new(service: Arc<ServiceState>, address: SocketAddr) -> Live {
        Live {
            service,
            address,
            load: CachePadded::new(AtomicU64::new(0)),
            connections: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            templates: AtomicU32::new(0),
            full: AtomicBool::new(false),
            upper: AtomicU32::new(0),
            lower: AtomicU32::new(0),
            standing: AtomicU8::new(0),
            pardon: AtomicU64::new(Time::NEVER.as_nanos()),
            health: Mutex::new(Health::default()),
        }
    }

    pub(crate) fn load(&self) -> Load {
        unpack(self.load.load(Ordering::Relaxed))
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(crate) fn standing(&self) -> u8 {
        self.standing.load(Ordering::Acquire)
    }

    /// The moment after which a success in traffic has failures to clear.
    pub(crate) fn pardon(&self) -> Time {
        Time::from_nanos(self.pardon.load(Ordering::Relaxed))
    }

    pub(crate) fn set_pardon(&self, after: Time) {
        self.pardon.store(after.as_nanos(), Ordering::Relaxed);
    }

    pub(crate) fn set_standing(&self, standing: u8) {
        self.standing.store(standing, Ordering::Release);
    }

    /// Counts one more connection, unless another one filled the server since it was chosen.
    ///
    /// Whoever brings the total to the upper threshold marks the server full. The mark, not the
    /// total, refuses: after the threshold was lowered below the total, IPVS still takes one.
    pub(crate) fn admit(&self, kind: Kind) -> bool {
        if self.upper.load(Ordering::Relaxed) != 0 && self.is_full() {
            return false;
        }
        self.bind(kind);
        true
    }

    /// Counts one more connection, full or not: what a template hit does.
    pub(crate) fn bind(&self, kind: Kind) {
        let before = self.load.fetch_add(kind.unit(), Ordering::SeqCst);
        let upper = self.upper.load(Ordering::Relaxed);
        if upper != 0 && unpack(before).total() + 1 >= upper {
            self.full.swap(true, Ordering::SeqCst);
            // Connections that ended since they were counted have not seen the mark, and nobody
            // else would take it away.
            self.reopen(self.load.load(Ordering::SeqCst));
        }
        self.connections.add(1);
    }

    /// Counts an active connection as inactive from now on.
    pub(crate) fn deactivate(&self) {
        self.load.fetch_sub(ACTIVE - INACTIVE, Ordering::Relaxed);
    }

    /// Counts one connection less.
    pub(crate) fn release(&self, kind: Kind) {
        let before = self.load.fetch_sub(kind.unit(), Ordering::SeqCst);
        if self.full.load(Ordering::SeqCst) {
            self.reopen(before - kind.unit());
        }
    }

    /// Takes the mark of fullness away if these connections leave enough room.
    fn reopen(&self, load: u64) {
        let total = u64::from(unpack(load).total());
        let upper = u64::from(self.upper.load(Ordering::Relaxed));
        let lower = u64::from(self.lower.load(Ordering::Relaxed));
        let open = match (lower, upper) {
            (0, 0) => true,
            (0, _) => total * 4 < upper * 3,
            _ => total < lower,
        };
        if open {
            self.full.store(false, Ordering::SeqCst);
        }
    }

    /// Sets new thresholds. A raised or lifted limit opens the server at once; a lowered one shows
    /// at the next connection (`ip_vs_ctl.c`, `__ip_vs_update_dest`).
    pub(crate) fn set_thresholds(&self, thresholds: Thresholds) {
        self.lower.store(thresholds.lower(), Ordering::Relaxed);
        let before = self.upper.swap(thresholds.upper(), Ordering::Relaxed);
        if thresholds.upper() == 0 || thresholds.upper() > before {
            self.full.store(false, Ordering::SeqCst);
        }
    }

    /// Health is only arithmetic, which a panic elsewhere cannot leave half done.
    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.value.fetch_add(count, Ordering::Relaxed);
    }

    /// The zero is read first: a later one would lie above an earlier value.
    pub(crate) fn get(&self) -> u64 {
        let zero = self.zero.load(Ordering::Acquire);
        self.value.load(Ordering::Relaxed).saturating_sub(zero)
    }

    /// Sets the counter to zero; returns what it had counted.
    pub(crate) fn reset(&self) -> u64 {
        let value = self.value.load(Ordering::Relaxed);
        value.saturating_sub(self.zero.swap(value, Ordering::AcqRel))
    }
}

fn unpack(load: u64) -> Load {
    Load { active: (load >> 32) as u32, inactive: load as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counter_that_is_zeroed_while_it_is_read_never_shows_more_than_was_counted() {
        let counter = Counter::default();
        std::thread::scope(|scope| {
            let counting = scope.spawn(|| {
                for _ in 0..200_000 {
                    counter.add(1);
                    counter.reset();
                }
            });
            while !counting.is_finished() {
                assert!(counter.get() <= 200_000);
            }
        });
        assert_eq!(counter.get(), 0);
    }
}
