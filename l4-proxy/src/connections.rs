//! The open connections of a director: how many there are, how many there may be, and a look at
//! each.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Waker};

use lvs_core::Protocol;

use crate::consents::Consents;
use crate::relay::Progress;

/// Every open connection, or every flow of datagrams, of the proxies that share it.
pub struct Connections {
    max: usize,
    count: AtomicUsize,
    serial: AtomicU64,
    /// What keeps clients out although there is room.
    consents: Consents,
    /// How many stand in front of those that are asked next to count.
    next: AtomicUsize,
    /// By serial number, spread so that workers seldom meet.
    shards: [Mutex<Shard>; SHARDS],
}

type Shard = HashMap<u64, Arc<Open>, foldhash::fast::RandomState>;

/// One open connection.
#[derive(Debug)]
pub struct Open {
    /// What it speaks.
    pub protocol: Protocol,
    /// Address of the client.
    pub client: SocketAddr,
    /// Address it connected, or sent, to.
    pub virtual_address: SocketAddr,
    /// The real server it was given to.
    pub server: SocketAddr,
    /// What has moved so far.
    pub progress: Progress,
    pub(crate) call: Call,
}

/// Calls a connection off its work for a look at whether it may go on: a drain has met its deadline,
/// or the server was deleted. A connection that nobody calls pays one load for it when it is polled,
/// and no timer.
#[derive(Debug, Default)]
pub(crate) struct Call {
    /// Written by whoever calls, taken back by the connection.
    called: AtomicBool,
    /// It counts its packets when it is asked to.
    counts: AtomicBool,
    /// It is to count its packets now. Written by whoever asks, taken back by the connection.
    to_count: AtomicBool,
    /// Of the task that the connection runs in.
    waker: OnceLock<Waker>,
}

/// A place among the connections that there may be; given back when dropped.
pub struct Place {
    connections: Arc<Connections>,
}

/// A connection's entry in the list; taken out when dropped.
pub(crate) struct Entry {
    connections: Arc<Connections>,
    serial: u64,
    pub(crate) open: Arc<Open>,
}

impl Connections {
    /// None yet, and never more than `max`.
    pub fn new(max: usize) -> Arc<Connections> {
        Connections::with_consents(max, Consents::default())
    }

    pub(crate) fn with_consents(max: usize, consents: Consents) -> Arc<Connections> {
        Arc::new(Connections {
            max,
            consents,
            count: AtomicUsize::new(0),
            serial: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            shards: Default::default(),
        })
    }

    /// How many there are, those still connecting included.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// How many there may be.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Those that have a server, in no order.
    pub fn list(&self) -> Vec<Arc<Open>> {
        self.shards.iter().flat_map(|shard| lock(shard).values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Has the connections to a server look whether they are to be cut off; to any port of it, if it has
    /// port 0.
    pub fn recall(&self, server: SocketAddr) {
        let is_to = |open: &&Arc<Open>| {
            open.server.ip() == server.ip() && (server.port() == 0 || open.server.port() == server.port())
        };
        for shard in &self.shards {
            lock(shard).values().filter(is_to).for_each(|open| open.call.ring());
        }
    }

    /// Has connections that count their packets do so now, so many at most: where there are more, others than
    /// the last time. Returns those that were asked.
    pub(crate) fn ask_to_count(&self, most: usize) -> Vec<Arc<Open>> {
        let begin = self.next.load(Ordering::Relaxed);
        let counts = |open: &&Arc<Open>| open.call.counts.load(Ordering::Relaxed);
        let (mut asked, mut before, mut all) = (Vec::new(), Vec::new(), 0);
        for shard in &self.shards {
            for open in lock(shard).values().filter(counts) {
                // Those in front have their turn if there are not enough behind.
                let taken = if all < begin { &mut before } else { &mut asked };
                if taken.len() < most {
                    taken.push(Arc::clone(open));
                }
                all += 1;
            }
        }
        before.truncate(most - asked.len());
        asked.append(&mut before);
        let next = if all > most { (begin.min(all) + most) % all } else { 0 };
        self.next.store(next, Ordering::Relaxed);
        for open in &asked {
            open.call.to_count.store(true, Ordering::Relaxed);
            open.call.ring();
        }
        asked
    }

    /// Whether there is room for one more.
    pub fn has_room(&self) -> bool {
        self.count() < self.max
    }

    /// Whether this address may be served: it may have become another director's.
    pub(crate) fn may_serve(&self, address: IpAddr) -> bool {
        self.consents.allow(address)
    }

    /// Takes a place if there is room.
    pub(crate) fn try_place(self: &Arc<Connections>) -> Option<Place> {
        take_below(&self.count, self.max).then(|| Place { connections: Arc::clone(self) })
    }

    /// Takes a place, whether there is room or not. Workers that looked for room at the same moment may
    /// together exceed the bound by one each.
    pub fn place(self: &Arc<Connections>) -> Place {
        self.count.fetch_add(1, Ordering::Relaxed);
        Place { connections: Arc::clone(self) }
    }

    pub(crate) fn enter(self: &Arc<Connections>, open: Open) -> Entry {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let open = Arc::new(open);
        lock(&self.shards[serial as usize % SHARDS]).insert(serial, Arc::clone(&open));
        Entry { connections: Arc::clone(self), serial, open }
    }
}

impl Entry {
    /// Whether its virtual address may still be served here: it may have become another director's.
    pub(crate) fn may_go_on(&self) -> bool {
        self.connections.may_serve(self.open.virtual_address.ip())
    }
}

impl Call {
    /// Whether there was a call since the last look. The task that asks is woken by the next one.
    pub(crate) fn is_called(&self, cx: &Context<'_>) -> bool {
        if self.waker.get().is_none() && self.waker.set(cx.waker().clone()).is_ok() {
            // Against a call at this moment: it sees the waker, or its flag is seen below.
            fence(Ordering::SeqCst);
        }
        self.called.load(Ordering::Relaxed) && self.called.swap(false, Ordering::Relaxed)
    }

    /// Its packets can be counted from now on.
    pub(crate) fn will_count(&self) {
        self.counts.store(true, Ordering::Relaxed);
    }

    /// Whether its packets are to be counted.
    pub(crate) fn is_to_count(&self) -> bool {
        self.to_count.load(Ordering::Acquire)
    }

    /// They are, and whoever waited for that sees them.
    pub(crate) fn has_counted(&self) {
        self.to_count.store(false, Ordering::Release);
    }

    fn ring(&self) {
        self.called.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut shard = lock(&self.connections.shards[self.serial as usize % SHARDS]);
        shard.remove(&self.serial);
        // What a rush took up is given back after it, long before it could be wanted again.
        if shard.capacity() > KEPT.max(shard.len() * 8) {
            let wanted = shard.len() * 2;
            shard.shrink_to(wanted.max(KEPT));
        }
    }
}

/// Counts one more unless there are as many as there may be.
pub(crate) fn take_below(count: &AtomicUsize, max: usize) -> bool {
    let more = |count: usize| (count < max).then_some(count + 1);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

/// A map is left whole by every operation on it, also if one panics for want of memory.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

const SHARDS: usize = 32;

/// Entries for which a shard keeps room.
const KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_that_take_places_at_the_same_moment_do_not_exceed_the_bound() {
        let connections = Connections::new(1000);
        let places: usize = std::thread::scope(|scope| {
            let take = || std::iter::from_fn(|| connections.try_place()).collect::<Vec<_>>();
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            let all: Vec<_> = workers.into_iter().map(|worker| worker.join().expect("it ends")).collect();
            all.iter().map(Vec::len).sum()
        });
        assert_eq!((places, connections.count()), (1000, 0));
    }

    #[test]
    fn those_that_count_are_asked_in_turns_and_no_others() {
        let connections = Connections::new(100);
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        let entries: Vec<Entry> = (0..40)
            .map(|number| {
                let entry = connections.enter(Open {
                    protocol: Protocol::Tcp,
                    client: addr,
                    virtual_address: addr,
                    server: addr,
                    progress: Progress::default(),
                    call: Call::default(),
                });
                if number % 4 != 0 {
                    entry.open.call.will_count();
                }
                entry
            })
            .collect();
        // Thirty count; all of them have had a turn after three times ten.
        for _ in 0..3 {
            assert_eq!(connections.ask_to_count(10).len(), 10);
        }
        for (number, entry) in entries.iter().enumerate() {
            assert_eq!(entry.open.call.is_to_count(), number % 4 != 0, "{number}");
        }
        assert_eq!(connections.ask_to_count(100).len(), 30);
    }
}
