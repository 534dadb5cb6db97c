//! What each picker has counted, in words that nobody else writes.
//!
//! How many connections a server was ever given is counted for every connection and read once in
//! a while. A count that all threads share costs each connection an atomic addition on a cache line
//! that others want; a word with one writer costs it next to nothing, and whoever wants the total
//! gathers the words.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crossbeam_utils::CachePadded;

use crate::service::Service;

/// The counts of one picker, by index in the snapshot that it schedules by. They only grow.
pub(crate) struct Tally {
    blocks: Box<[Block]>,
}

/// Neighbours of one tally share a cache line, neighbours of two do not.
type Block = CachePadded<[AtomicU64; BLOCK]>;

/// The tallies of a service's pickers.
#[derive(Default)]
pub(crate) struct Tallies {
    entries: Mutex<Vec<Entry>>,
}

struct Entry {
    /// What the indexes mean. The picker keeps it alive.
    service: Weak<Service>,
    tally: Arc<Tally>,
    /// What has been added to the servers' totals already.
    gathered: Box<[u64]>,
}

impl Tally {
    fn new(servers: usize) -> Tally {
        Tally { blocks: (0..servers.div_ceil(BLOCK)).map(|_| Block::default()).collect() }
    }

    /// Counts one more connection. Called by its picker only, so that no addition is lost.
    #[inline]
    pub(crate) fn count(&self, server: usize) {
        let word = &self.blocks[server / BLOCK][server % BLOCK];
        word.store(word.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn words(&self) -> impl Iterator<Item = &AtomicU64> {
        self.blocks.iter().flat_map(|block| block.iter())
    }
}

impl Tallies {
    /// A tally for a picker that schedules by this snapshot.
    pub(crate) fn join(&self, service: &Arc<Service>) -> Arc<Tally> {
        let tally = Arc::new(Tally::new(service.servers.len()));
        self.lock().push(Entry {
            service: Arc::downgrade(service),
            tally: Arc::clone(&tally),
            gathered: vec![0; service.servers.len()].into(),
        });
        tally
    }

    /// The picker goes, or goes on by another snapshot.
    pub(crate) fn leave(&self, tally: &Arc<Tally>) {
        let mut entries = self.lock();
        if let Some(place) = entries.iter().position(|entry| Arc::ptr_eq(&entry.tally, tally)) {
            entries.swap_remove(place).gather();
        }
    }

    /// Adds what has been counted since the last time to the totals of the servers.
    pub(crate) fn gather(&self) {
        self.lock().iter_mut().for_each(Entry::gather);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn gather(&mut self) {
        let Some(service) = self.service.upgrade() else { return };
        for ((server, word), gathered) in
            service.servers.iter().zip(self.tally.words()).zip(&mut self.gathered)
        {
            let counted = word.load(Ordering::Relaxed);
            if counted != *gathered {
                server.live.add_begun(counted - std::mem::replace(gathered, counted));
            }
        }
    }
}

/// Words in two cache lines, which processors fetch together.
const BLOCK: usize = 16;
