//! A real server: what belongs to one configuration, and what outlives it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::counter::Counter;
use crate::estimator::Estimator;
use crate::health::Health;
use crate::history::History;
use crate::latency::Latency;
use crate::occupancy::{self, Kind, Occupancy, Occupied};
use crate::service::ServiceState;
use crate::time::Time;

/// A reference to a server that stands for no connection.
pub(crate) type Handle = occupancy::Handle<Live>;

/// A server in one snapshot.
pub(crate) struct Server {
    pub(crate) weight: u32,
    pub(crate) live: Handle,
}

/// What a server keeps through every reload and re-weighting: counters, health, fullness.
///
/// It is known by its service and address. A server that is deleted lives on in its leases, and
/// comes back with its counts if it is added again before the last of them ends, as in IPVS.
///
/// The word that every lease writes comes first, next to the reference count that it writes too:
/// one cache line moves between the threads that schedule, not one for each count.
#[repr(C)]
pub(crate) struct Live {
    pub(crate) occupancy: Occupancy,
    /// How fast it answers.
    pub(crate) latency: Latency,
    /// Weight, or the last that was not 0. Written by `apply` only.
    last_weight: AtomicU32,
    /// Reasons against choosing this server. Written under the writer lock.
    standing: AtomicU8,
    /// Entries of the template table that lead here. Written by the table.
    pub(crate) templates: AtomicU32,
    pub(crate) service: Arc<ServiceState>,
    pub(crate) address: SocketAddr,
    /// After this moment a success in traffic clears failures, in nanoseconds of [`Time`]; saves
    /// the lock until then. Written under the writer lock.
    pardon: AtomicU64,
    /// When it began to warm up, in nanoseconds of [`Time`]; never if it is warm. Written under the
    /// writer lock.
    warming: AtomicU64,
    /// The part of the choices that it may still have while it warms up. Written by all threads.
    credit: AtomicU64,
    /// When whoever is left is to be cut off, in nanoseconds of [`Time`]; never if it does not
    /// drain. Written under the writer lock.
    deadline: AtomicU64,
    history: Mutex<History>,
    /// Bytes from clients to the server. Written by leases.
    pub(crate) bytes_in: Counter,
    /// Bytes from the server to clients. Written by leases.
    pub(crate) bytes_out: Counter,
    /// Packets from clients to the server. Written by leases that see packets.
    pub(crate) packets_in: Counter,
    /// Packets from the server to clients. Written by leases that see packets.
    pub(crate) packets_out: Counter,
    /// Written under the writer lock.
    rates: Mutex<Estimator>,
    health: Mutex<Health>,
}

/// The server is no longer configured.
pub(crate) const REMOVED: u8 = 1;
/// Its weight is 0.
pub(crate) const QUIESCED: u8 = 2;
/// Probes failed.
pub(crate) const DOWN: u8 = 4;
/// Traffic failed.
pub(crate) const EJECTED: u8 = 8;
/// Its weight is 0 because probes failed; it is quiesced, too.
pub(crate) const INHIBITED: u8 = 16;

impl Occupied for Live {
    #[inline]
    fn occupancy(&self) -> &Occupancy {
        &self.occupancy
    }
}

/// What was counted after the server was deleted, by those who still saw it, is the service's.
impl Drop for Live {
    fn drop(&mut self) {
        self.depart();
    }
}

impl Live {
    pub(crate) fn new(service: Arc<ServiceState>, address: SocketAddr, kind: Kind) -> Live {
        Live {
            occupancy: Occupancy::new(kind),
            standing: AtomicU8::new(0),
            latency: Latency::default(),
            last_weight: AtomicU32::new(0),
            templates: AtomicU32::new(0),
            service,
            address,
            pardon: AtomicU64::new(Time::NEVER.as_nanos()),
            warming: AtomicU64::new(Time::NEVER.as_nanos()),
            credit: AtomicU64::new(0),
            deadline: AtomicU64::new(Time::NEVER.as_nanos()),
            history: Mutex::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            packets_in: Counter::default(),
            packets_out: Counter::default(),
            rates: Mutex::default(),
            health: Mutex::new(Health::default()),
        }
    }

    /// Adds what it has counted to the totals of servers that are gone.
    pub(crate) fn depart(&self) {
        let departed = &self.service.departed;
        departed.connections.add(self.occupancy.reset_connections());
        departed.bytes_in.add(self.bytes_in.reset());
        departed.bytes_out.add(self.bytes_out.reset());
        departed.packets_in.add(self.packets_in.reset());
        departed.packets_out.add(self.packets_out.reset());
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

    /// Begins to warm up, or is warm.
    pub(crate) fn set_warming(&self, since: Option<Time>) {
        self.warming.store(since.unwrap_or(Time::NEVER).as_nanos(), Ordering::Relaxed);
    }

    /// When it began to warm up.
    pub(crate) fn warming(&self) -> Option<Time> {
        Some(Time::from_nanos(self.warming.load(Ordering::Relaxed))).filter(|since| *since != Time::NEVER)
    }

    /// Lets it have this share of one choice; what it does not use it keeps, but not for long.
    pub(crate) fn add_credit(&self, share: f64) {
        let add = |credit| Some(credited(credit, share));
        let _ = self.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Whether it has a whole choice, once it has got this share of one.
    pub(crate) fn could_spend_credit(&self, share: f64) -> bool {
        credited(self.credit.load(Ordering::Relaxed), share) >= CHOICE
    }

    /// Uses up a whole choice, if there is one.
    pub(crate) fn spend_credit(&self) -> bool {
        let spend = |credit: u64| credit.checked_sub(CHOICE);
        self.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok()
    }

    /// Whoever is left after this is to be cut off.
    pub(crate) fn set_deadline(&self, deadline: Option<Time>) {
        self.deadline.store(deadline.unwrap_or(Time::NEVER).as_nanos(), Ordering::Relaxed);
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        Some(Time::from_nanos(self.deadline.load(Ordering::Relaxed))).filter(|end| *end != Time::NEVER)
    }

    /// Its history, and a lock that is held for arithmetic.
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn last_weight(&self) -> u32 {
        self.last_weight.load(Ordering::Relaxed)
    }

    pub(crate) fn set_last_weight(&self, weight: u32) {
        self.last_weight.store(weight, Ordering::Relaxed);
    }

    /// Its rates, and a lock that is held for arithmetic.
    pub(crate) fn rates(&self) -> MutexGuard<'_, Estimator> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Health is only arithmetic, which a panic elsewhere cannot leave half done.
    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn credited(credit: u64, share: f64) -> u64 {
    (credit + (share * CHOICE as f64) as u64).min(2 * CHOICE)
}

/// One choice as credit.
const CHOICE: u64 = 1_000_000;

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
