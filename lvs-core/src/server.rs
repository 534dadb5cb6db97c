//! A real server: what belongs to one configuration, and what outlives it.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

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
    pub(crate) live: Handle,
}

/// A reference to a server that stands for no connection.
///
/// Every other reference is a connection's: a lease keeps the server alive anyhow, so the count of
/// references is the count of connections, and a connection writes one word less as it comes and
/// one less as it goes. While a handle is made or dropped in another thread, the load reads one too
/// high.
pub(crate) struct Handle(Arc<Live>);

/// What a server keeps through every reload and re-weighting: counters, health, fullness.
///
/// It is known by its service and address. A server that is deleted lives on in its leases, and
/// comes back with its counts if it is added again before the last of them ends, as in IPVS.
///
/// The word that every lease writes comes first, next to the reference count that it writes too:
/// one cache line moves between the threads that schedule, not one for each count.
#[repr(C)]
pub(crate) struct Live {
    /// Connections ever begun here. Written by leases.
    begun: AtomicU64,
    /// Of the connections there now, those that are closing. Written by leases.
    closing: AtomicU64,
    /// How many of the references are [`Handle`]s.
    handles: AtomicUsize,
    /// Set by the connection that reaches the upper threshold; whoever looks next after enough of
    /// them have left takes it away. A late read admits one more.
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
    /// Connections that had ended when the thresholds were set. Written by `apply` only.
    ended_before: AtomicU64,
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

impl Handle {
    pub(crate) fn new(live: Arc<Live>) -> Handle {
        live.handles.fetch_add(1, Ordering::Relaxed);
        Handle(live)
    }

    /// A handle on a connection's server.
    pub(crate) fn of(live: &Arc<Live>) -> Handle {
        Handle::new(Arc::clone(live))
    }

    pub(crate) fn downgrade(&self) -> Weak<Live> {
        Arc::downgrade(&self.0)
    }

    /// Connections now.
    #[inline]
    pub(crate) fn load(&self) -> Load {
        let closing = self.closing.load(Ordering::Relaxed);
        let total = self.total();
        match self.kind {
            Kind::Active => {
                Load { active: clamp(total.saturating_sub(closing)), inactive: clamp(closing.min(total)) }
            }
            Kind::Inactive => Load { active: 0, inactive: clamp(total) },
        }
    }

    /// Active and inactive connections together.
    #[inline]
    fn total(&self) -> u64 {
        Arc::strong_count(&self.0).saturating_sub(self.handles.load(Ordering::Relaxed)) as u64
    }

    /// Whether it reached its upper threshold and too few have left since.
    ///
    /// IPVS takes the mark away when a connection ends. Here it is done by the next who looks, also
    /// before the load grows again, which comes to the same and costs those who leave nothing.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed) && !self.reopen()
    }

    /// Takes the mark of fullness away if the connections leave enough room.
    fn reopen(&self) -> bool {
        let total = self.total();
        let upper = u64::from(self.upper.load(Ordering::Relaxed));
        let lower = u64::from(self.lower.load(Ordering::Relaxed));
        let roomy = match (lower, upper) {
            (0, 0) => true,
            (0, _) => total * 4 < upper * 3,
            _ => total < lower,
        };
        // New thresholds take effect when a connection ends.
        let open = roomy && self.ended() != self.ended_before.load(Ordering::Relaxed);
        if open {
            self.full.store(false, Ordering::Relaxed);
        }
        open
    }

    /// Connections that came and went.
    fn ended(&self) -> u64 {
        self.begun.load(Ordering::Relaxed).wrapping_sub(self.total())
    }

    /// Counts one more connection, unless another one filled the server since it was chosen.
    ///
    /// Whoever brings the total to the upper threshold marks the server full. The mark, not the
    /// total, refuses: after the threshold was lowered below the total, IPVS still takes one.
    #[inline]
    pub(crate) fn admit(&self) -> Option<Arc<Live>> {
        if self.upper.load(Ordering::Relaxed) != 0 && self.is_full() {
            return None;
        }
        Some(self.bind())
    }

    /// Counts one more connection, full or not: what a template hit does.
    #[inline]
    pub(crate) fn bind(&self) -> Arc<Live> {
        let upper = self.upper.load(Ordering::Relaxed);
        if upper == 0 {
            return self.begin();
        }
        // The last moment to see that there had been room.
        self.is_full();
        let live = self.begin();
        if self.total() >= u64::from(upper) {
            self.full.store(true, Ordering::Relaxed);
        }
        live
    }

    /// Counts one more connection where there is no threshold.
    #[inline]
    pub(crate) fn begin(&self) -> Arc<Live> {
        self.add_begun(1);
        self.claim()
    }

    /// Counts one more connection, but for the total that have begun.
    #[inline]
    pub(crate) fn claim(&self) -> Arc<Live> {
        Arc::clone(&self.0)
    }

    /// Adds to the total that have begun, but not to those that are there now.
    pub(crate) fn add_begun(&self, connections: u64) {
        self.begun.fetch_add(connections, Ordering::Relaxed);
    }

    /// Sets new thresholds. A raised or lifted limit opens the server at once; a lowered one shows
    /// at the next connection (`ip_vs_ctl.c`, `__ip_vs_update_dest`).
    pub(crate) fn set_thresholds(&self, thresholds: Thresholds) {
        // What has ended until now counts by the old ones.
        self.is_full();
        self.ended_before.store(self.ended(), Ordering::Relaxed);
        self.lower.store(thresholds.lower(), Ordering::Relaxed);
        let before = self.upper.swap(thresholds.upper(), Ordering::Relaxed);
        if thresholds.upper() == 0 || thresholds.upper() > before {
            self.full.store(false, Ordering::Relaxed);
        }
    }
}

impl Clone for Handle {
    fn clone(&self) -> Handle {
        Handle::new(Arc::clone(&self.0))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.handles.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Deref for Handle {
    type Target = Live;

    #[inline]
    fn deref(&self) -> &Live {
        &self.0
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
            begun: AtomicU64::new(0),
            closing: AtomicU64::new(0),
            handles: AtomicUsize::new(0),
            full: AtomicBool::new(false),
            kind,
            standing: AtomicU8::new(0),
            upper: AtomicU32::new(0),
            lower: AtomicU32::new(0),
            ended_before: AtomicU64::new(0),
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

    /// Connections scheduled since the counters were zeroed. The zero is read first: a later one
    /// would lie above an earlier count.
    pub(crate) fn connections(&self) -> u64 {
        let zero = self.zero.load(Ordering::Acquire);
        self.begun.load(Ordering::Relaxed).saturating_sub(zero)
    }

    /// Zeroes the count of connections scheduled; returns what it was.
    pub(crate) fn reset_connections(&self) -> u64 {
        let begun = self.begun.load(Ordering::Relaxed);
        begun.saturating_sub(self.zero.swap(begun, Ordering::AcqRel))
    }

    /// Adds what it has counted to the totals of servers that are gone.
    pub(crate) fn depart(&self) {
        let departed = &self.service.departed;
        departed.connections.add(self.reset_connections());
        departed.bytes_in.add(self.bytes_in.reset());
        departed.bytes_out.add(self.bytes_out.reset());
        departed.packets_in.add(self.packets_in.reset());
        departed.packets_out.add(self.packets_out.reset());
    }

    /// How a connection counts here as long as it is not closing.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
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

    /// Counts an active connection as inactive from now on.
    pub(crate) fn deactivate(&self) {
        self.closing.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an inactive connection as active again, or no more.
    pub(crate) fn reactivate(&self) {
        self.closing.fetch_sub(1, Ordering::Relaxed);
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
