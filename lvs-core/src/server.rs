//! A real server: what belongs to one configuration, and what outlives it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Thresholds;
use crate::estimator::Estimator;
use crate::health::Health;
use crate::history::History;
use crate::latency::Latency;
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
///
/// The words that every lease writes come first, next to the reference count that it writes too:
/// one cache line moves between the threads that schedule, not one for each count.
#[repr(C)]
pub(crate) struct Live {
    /// Connections ever begun here. Written by leases; a late read picks a slightly busier server.
    begun: AtomicU64,
    /// Connections that ended. Written by leases. What began and has not ended is there now, so
    /// that neither the load nor the total needs a count of its own.
    ended: AtomicU64,
    /// Of the connections there now, those that are closing. Written by leases.
    closing: AtomicU64,
    /// Set by the connection that reaches the upper threshold, taken away by one that leaves room; a
    /// late read admits one more.
    full: AtomicBool,
    /// How connections count that are not closing.
    kind: Kind,
    /// How fast it answers.
    pub(crate) latency: Latency,
    /// Weight, or the last that was not 0. Written by `apply` only.
    last_weight: AtomicU32,
    /// Reasons against choosing this server. Written under the writer lock.
    standing: AtomicU8,
    /// Written by `apply` only.
    upper: AtomicU32,
    /// Written by `apply` only.
    lower: AtomicU32,
    /// Entries of the template table that lead here. Written by the table.
    pub(crate) templates: AtomicU32,
    pub(crate) service: Arc<ServiceState>,
    pub(crate) address: SocketAddr,
    /// After this moment a success in traffic clears failures, in nanoseconds of [`Time`]; saves
    /// the lock until then. Written under the writer lock.
    pardon: AtomicU64,
    /// What `begun` was when the counters were zeroed last.
    zero: AtomicU64,
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

impl Live {
    pub(crate) fn new(service: Arc<ServiceState>, address: SocketAddr, kind: Kind) -> Live {
        Live {
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            closing: AtomicU64::new(0),
            full: AtomicBool::new(false),
            kind,
            standing: AtomicU8::new(0),
            upper: AtomicU32::new(0),
            lower: AtomicU32::new(0),
            latency: Latency::default(),
            last_weight: AtomicU32::new(0),
            templates: AtomicU32::new(0),
            service,
            address,
            pardon: AtomicU64::new(Time::NEVER.as_nanos()),
            zero: AtomicU64::new(0),
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

    /// Connections now.
    #[inline]
    pub(crate) fn load(&self) -> Load {
        let closing = self.closing.load(Ordering::Relaxed);
        let total = self.total(Ordering::Relaxed);
        match self.kind {
            Kind::Active => {
                Load { active: clamp(total.saturating_sub(closing)), inactive: clamp(closing.min(total)) }
            }
            Kind::Inactive => Load { active: 0, inactive: clamp(total) },
        }
    }

    /// Active and inactive connections together. The ended are read first: none of them began
    /// after the begun were read.
    #[inline]
    fn total(&self, order: Ordering) -> u64 {
        let ended = self.ended.load(order);
        self.begun.load(order).saturating_sub(ended)
    }

    /// Connections scheduled since the counters were zeroed. The zero is read first: a later one
    /// would lie above an earlier count.
    pub(crate) fn connections(&self) -> u64 {
        let zero = self.zero.load(Ordering::Acquire);
        self.begun.load(Ordering::Relaxed).saturating_sub(zero)
    }

    /// Counts connections that began and ended elsewhere. They end first, so that nobody ever sees them
    /// open.
    pub(crate) fn add_ended(&self, connections: u64) {
        self.ended.fetch_add(connections, Ordering::Relaxed);
        self.begun.fetch_add(connections, Ordering::Relaxed);
    }

    /// Zeroes the count of connections scheduled; returns what it was.
    pub(crate) fn reset_connections(&self) -> u64 {
        let begun = self.begun.load(Ordering::Relaxed);
        begun.saturating_sub(self.zero.swap(begun, Ordering::AcqRel))
    }

    /// How a connection counts here as long as it is not closing.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
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
    #[inline]
    pub(crate) fn admit(&self) -> bool {
        if self.upper.load(Ordering::Relaxed) != 0 && self.is_full() {
            return false;
        }
        self.bind();
        true
    }

    /// Counts one more connection, full or not: what a template hit does.
    #[inline]
    pub(crate) fn bind(&self) {
        let begun = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let upper = self.upper.load(Ordering::Relaxed);
        if upper != 0 && begun.saturating_sub(self.ended.load(Ordering::Relaxed)) >= u64::from(upper) {
            self.full.swap(true, Ordering::SeqCst);
            // Connections that ended since they were counted have not seen the mark, and nobody
            // else would take it away.
            self.reopen();
        }
    }

    /// Counts an active connection as inactive from now on.
    pub(crate) fn deactivate(&self) {
        self.closing.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an inactive connection as active again.
    pub(crate) fn reactivate(&self) {
        self.closing.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts one connection less, which was closing or not.
    #[inline]
    pub(crate) fn release(&self, kind: Kind) {
        if kind != self.kind {
            self.closing.fetch_sub(1, Ordering::Relaxed);
        }
        self.ended.fetch_add(1, Ordering::SeqCst);
        if self.full.load(Ordering::SeqCst) {
            self.reopen();
        }
    }

    /// Takes the mark of fullness away if the connections leave enough room.
    fn reopen(&self) {
        let total = self.total(Ordering::SeqCst);
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

    /// Sets new thresholds. A raised or lifted limit opens the server at once; a lowered one shows
    /// at the next connection (`ip_vs_ctl.c`, `__ip_vs_update_dest`).
    pub(crate) fn set_thresholds(&self, thresholds: Thresholds) {
        self.lower.store(thresholds.lower(), Ordering::Relaxed);
        let before = self.upper.swap(thresholds.upper(), Ordering::Relaxed);
        if thresholds.upper() == 0 || thresholds.upper() > before {
            self.full.store(false, Ordering::SeqCst);
        }
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

fn credited(credit: u64, share: f64) -> u64 {
    (credit + (share * CHOICE as f64) as u64).min(2 * CHOICE)
}

fn clamp(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
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
