//! What is known of a zone's entries without a look at the disk: which there are, how often and when they were
//! asked for, and who is fetching one.
//!
//! It has a bound, at which the entry goes that was not asked for for longest. An entry that somebody is at
//! work with stays. Nothing here waits or touches a file.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::key::Key;
use super::validity::Seconds;
use crate::moment::Moment;

/// The entries of a zone.
#[derive(Default)]
pub(super) struct Index {
    nodes: HashMap<Key, Node, foldhash::fast::RandomState>,
    /// All of them by their turns: the first was not asked for for longest.
    order: BTreeMap<u64, Key>,
    turn: u64,
    /// Bytes of all files.
    size: u64,
    /// The most entries.
    capacity: usize,
    /// How many entries have gone.
    evicted: u64,
}

/// One entry.
struct Node {
    /// When it was asked for last, as a place in the order.
    turn: u64,
    touched: Moment,
    uses: u32,
    /// How many are at work with it.
    claims: u32,
    /// The size of its file, if there is one.
    file: Option<u64>,
    /// When that was written, as a place in the order.
    written: u64,
    /// A status that stands for an answer, and the last second in which it does.
    refusal: Option<(u16, Seconds)>,
    /// Who fetches a new answer, and until when nobody else does.
    updating: Option<(Ticket, Moment)>,
    /// Is told when that is over.
    freed: Option<Arc<Notify>>,
}

/// What tells one who fetches an answer from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// What is known of an entry that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has a file.
    Stored,
    /// It was asked for often enough to have one.
    Wanted,
    /// It was not.
    Scarce,
    /// Nobody has asked for it before.
    New,
    /// Its server's failure is remembered: the status that stands for it.
    Refused(u16),
}

/// Whether one may fetch a new answer.
pub(super) enum Turn {
    Own(Ticket),
    /// Another does, until this moment at most.
    Others(Ticket, Moment, Arc<Notify>),
}

/// No room for one more entry: there is work at hand with all of those that could go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// An entry that has gone from the index.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Evicted {
    pub(super) key: Key,
    /// Whether its file is to go, too.
    pub(super) has_file: bool,
}

impl Index {
    pub(super) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity.max(1);
    }

    /// How many entries there are, and the bytes of their files.
    pub(super) fn extent(&self) -> (usize, u64) {
        (self.nodes.len(), self.size)
    }

    /// Asks for an entry and holds it until [`release`](Self::release); one that had to make place for it is
    /// returned beside.
    pub(super) fn claim(
        &mut self,
        key: Key,
        now: Moment,
        second: Seconds,
        min_uses: u32,
    ) -> Result<(Standing, Option<Evicted>), Full> {
        let mut evicted = None;
        let is_new = !self.nodes.contains_key(&key);
        if is_new {
            if self.nodes.len() >= self.capacity {
                evicted = Some(self.evict().ok_or(Full)?);
            }
            self.insert(key, now);
        }
        self.touch(key, now);
        let Some(node) = self.nodes.get_mut(&key) else { return Err(Full) };
        node.claims += 1;
        node.uses = node.uses.saturating_add(1);
        let standing = if is_new { Standing::New } else { node.standing(second, min_uses) };
        Ok((standing, evicted))
    }

    /// Looks again at an entry that is held.
    pub(super) fn look(&mut self, key: Key, second: Seconds, min_uses: u32) -> Standing {
        self.nodes.get_mut(&key).map_or(Standing::New, |node| node.standing(second, min_uses))
    }

    /// Takes one's turn to fetch an answer that there is none of, unless another has it.
    pub(super) fn lock(&mut self, key: Key, now: Moment, age: Duration) -> Option<Turn> {
        let ticket = self.next_ticket();
        let node = self.nodes.get_mut(&key)?;
        match node.updating {
            Some((others, until)) if until > now => {
                let freed = node.freed.get_or_insert_default();
                Some(Turn::Others(others, until, Arc::clone(freed)))
            }
            _ => {
                node.updating = Some((ticket, now + age));
                Some(Turn::Own(ticket))
            }
        }
    }

    /// Whose turn it is to fetch an answer, if it is somebody's.
    pub(super) fn turn_of(&self, key: Key) -> Option<Ticket> {
        Some(self.nodes.get(&key)?.updating?.0)
    }

    /// Takes one's turn to fetch an answer in place of one whose time is over, unless another has it.
    pub(super) fn begin_update(&mut self, key: Key, now: Moment) -> Option<Ticket> {
        let ticket = self.next_ticket();
        let node = self.nodes.get_mut(&key)?;
        if node.updating.is_some() {
            return None;
        }
        // Whoever finds that there is none any more need not wait for this one.
        node.updating = Some((ticket, now));
        Some(ticket)
    }

    /// Does not hold an entry any more. What has come to nothing is forgotten, unless its uses are counted.
    pub(super) fn release(&mut self, key: Key, ticket: Option<Ticket>, min_uses: u32) {
        let Some(node) = self.nodes.get_mut(&key) else { return };
        node.claims = node.claims.saturating_sub(1);
        node.end_update(ticket);
        if node.claims == 0 && node.file.is_none() && node.refusal.is_none() && min_uses <= 1 {
            self.remove(key);
        }
    }

    /// Remembers that a status stands for the answer.
    pub(super) fn refuse(&mut self, key: Key, status: u16, until: Seconds) {
        if let Some(node) = self.nodes.get_mut(&key) {
            node.refusal = Some((status, until));
        }
    }

    /// An entry has got a file of this size.
    pub(super) fn store(&mut self, key: Key, size: u64) {
        let written = self.next_turn();
        let Some(node) = self.nodes.get_mut(&key) else { return };
        node.written = written;
        self.size = self.size - node.file.unwrap_or(0) + size;
        (node.file, node.refusal) = (Some(size), None);
        node.updating = None;
        node.wake();
    }

    /// An entry's file was found on the disk; `false` if there is no room for it.
    pub(super) fn find(&mut self, key: Key, size: u64, now: Moment) -> bool {
        if !self.nodes.contains_key(&key) {
            if self.nodes.len() >= self.capacity {
                return false;
            }
            self.insert(key, now);
        }
        if let Some(node) = self.nodes.get_mut(&key)
            && node.file.is_none()
        {
            node.file = Some(size);
            node.uses = node.uses.max(1);
            self.size += size;
        }
        true
    }

    /// What tells an entry's file from one that is written after it.
    pub(super) fn written(&self, key: Key) -> u64 {
        self.nodes.get(&key).map_or(0, |node| node.written)
    }

    /// An entry's file has gone, or is none; `false` if it has got another meanwhile.
    pub(super) fn lose(&mut self, key: Key, written: u64) -> bool {
        let Some(node) = self.nodes.get_mut(&key) else { return true };
        if node.written != written {
            return false;
        }
        self.size -= node.file.take().unwrap_or(0);
        true
    }

    /// Takes the entry away that was not asked for for longest, if that was before `earliest`.
    pub(super) fn expire(&mut self, earliest: Moment) -> Option<Evicted> {
        let key = self.oldest_idle()?;
        if self.nodes.get(&key)?.touched > earliest {
            return None;
        }
        self.evicted += 1;
        self.remove(key)
    }

    /// When the next one is to go that nobody has asked for in this time.
    pub(super) fn next_expiry(&self, inactive: Duration) -> Option<Moment> {
        let (_, key) = self.order.first_key_value()?;
        Some(self.nodes.get(key)?.touched + inactive)
    }

    /// Takes away the entry that was not asked for for longest.
    pub(super) fn evict(&mut self) -> Option<Evicted> {
        let key = self.oldest_idle()?;
        self.evicted += 1;
        self.remove(key)
    }

    /// The entry that was not asked for for longest, of those that nobody is at work with.
    fn oldest_idle(&self) -> Option<Key> {
        let idle = |key: &Key| self.nodes.get(key).is_some_and(|node| node.claims == 0);
        self.order.values().take(EVICTION_TRIES).copied().find(idle)
    }

    /// Whether there are more than there may be, for there may be fewer than before.
    pub(super) fn is_over_capacity(&self) -> bool {
        self.nodes.len() > self.capacity
    }

    /// How many entries have gone for want of room, or of anybody who wanted them.
    pub(super) fn evictions(&self) -> u64 {
        self.evicted
    }

    fn insert(&mut self, key: Key, now: Moment) {
        let turn = self.next_turn();
        let node = Node {
            turn,
            touched: now,
            uses: 0,
            claims: 0,
            file: None,
            written: 0,
            refusal: None,
            updating: None,
            freed: None,
        };
        self.nodes.insert(key, node);
        self.order.insert(turn, key);
    }

    fn remove(&mut self, key: Key) -> Option<Evicted> {
        let node = self.nodes.remove(&key)?;
        self.order.remove(&node.turn);
        self.size -= node.file.unwrap_or(0);
        Some(Evicted { key, has_file: node.file.is_some() })
    }

    fn touch(&mut self, key: Key, now: Moment) {
        let turn = self.next_turn();
        if let Some(node) = self.nodes.get_mut(&key) {
            self.order.remove(&node.turn);
            self.order.insert(turn, key);
            (node.turn, node.touched) = (turn, now);
        }
    }

    fn next_turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    fn next_ticket(&mut self) -> Ticket {
        Ticket(self.next_turn())
    }
}

impl Node {
    fn standing(&mut self, second: Seconds, min_uses: u32) -> Standing {
        match self.refusal {
            Some((status, until)) if until >= second => return Standing::Refused(status),
            Some(_) => {
                self.refusal = None;
                self.uses = 1;
                return Standing::New;
            }
            None => {}
        }
        match self.file {
            Some(_) => Standing::Stored,
            None if self.uses >= min_uses => Standing::Wanted,
            None => Standing::Scarce,
        }
    }

    fn end_update(&mut self, ticket: Option<Ticket>) {
        if let (Some(ticket), Some((other, _))) = (ticket, self.updating)
            && ticket == other
        {
            self.updating = None;
            self.wake();
        }
    }

    fn wake(&mut self) {
        if let Some(freed) = self.freed.take() {
            freed.notify_waiters();
        }
    }
}

/// How many of the oldest entries are looked at for one that nobody is at work with.
const EVICTION_TRIES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn index(capacity: usize) -> Index {
        let mut index = Index::default();
        index.set_capacity(capacity);
        index
    }

    fn key(number: u8) -> Key {
        Key([number; 16])
    }

    /// Asks for an entry and lets go of it.
    fn ask(index: &mut Index, number: u8, now: Moment, min_uses: u32) -> Standing {
        let (standing, _) = index.claim(key(number), now, 100, min_uses).unwrap();
        index.release(key(number), None, min_uses);
        standing
    }

    #[test]
    fn entry_that_was_not_asked_for_for_longest_makes_place() {
        let (mut index, now) = (index(2), Moment::now());
        for number in [1, 2] {
            index.claim(key(number), now, 100, 1).unwrap();
            index.store(key(number), 10);
            index.release(key(number), None, 1);
        }
        assert_eq!(ask(&mut index, 1, now, 1), Standing::Stored);
        let (standing, evicted) = index.claim(key(3), now, 100, 1).unwrap();
        assert_eq!(standing, Standing::New);
        assert_eq!(evicted, Some(Evicted { key: key(2), has_file: true }));
        assert_eq!(index.extent(), (2, 10));
    }

    #[test]
    fn entry_that_somebody_works_with_stays() {
        let (mut index, now) = (index(1), Moment::now());
        index.claim(key(1), now, 100, 1).unwrap();
        assert_eq!(index.claim(key(2), now, 100, 1).unwrap_err(), Full);
        assert!(index.expire(now + Duration::from_secs(1)).is_none());
        index.release(key(1), None, 1);
        assert!(index.claim(key(2), now, 100, 1).is_ok());
    }

    #[test]
    fn uses_are_counted_until_there_are_enough() {
        let (mut index, now) = (index(9), Moment::now());
        let standings = [0; 4].map(|_| ask(&mut index, 1, now, 3));
        assert_eq!(standings, [Standing::New, Standing::Scarce, Standing::Wanted, Standing::Wanted]);
        // Where they do not matter, what came to nothing is forgotten.
        assert_eq!([0; 2].map(|_| ask(&mut index, 2, now, 1)), [Standing::New; 2]);
    }

    #[test]
    fn one_fetches_and_the_others_wait_until_it_is_done_or_too_slow() {
        let (mut index, now) = (index(9), Moment::now());
        let age = Duration::from_secs(5);
        index.claim(key(1), now, 100, 1).unwrap();
        index.claim(key(1), now, 100, 1).unwrap();
        let Some(Turn::Own(first)) = index.lock(key(1), now, age) else { panic!("nobody else is there") };
        assert!(
            matches!(index.lock(key(1), now, age), Some(Turn::Others(_, until, _)) if until == now + age)
        );
        let Some(Turn::Own(second)) = index.lock(key(1), now + age, age) else { panic!("it took too long") };
        // Who was too slow takes nobody's turn away.
        index.release(key(1), Some(first), 1);
        assert!(matches!(index.lock(key(1), now + age, age), Some(Turn::Others(..))));
        index.release(key(1), Some(second), 1);
        assert_eq!(index.extent(), (0, 0));
    }

    #[test]
    fn refusal_stands_for_its_time() {
        let (mut index, now) = (index(9), Moment::now());
        index.claim(key(1), now, 100, 1).unwrap();
        index.refuse(key(1), 502, 100);
        index.release(key(1), None, 1);
        assert_eq!(ask(&mut index, 1, now, 1), Standing::Refused(502));
        assert_eq!(index.claim(key(1), now, 101, 1).unwrap().0, Standing::New);
    }

    #[test]
    fn entries_expire_in_the_order_of_their_last_use() {
        let (mut index, now) = (index(9), Moment::now());
        let later = now + Duration::from_secs(10);
        for (number, moment) in [(1, now), (2, now), (1, later)] {
            index.claim(key(number), moment, 100, 1).unwrap();
            index.store(key(number), 1);
            index.release(key(number), None, 1);
        }
        assert_eq!(index.expire(now), Some(Evicted { key: key(2), has_file: true }));
        assert_eq!(index.expire(now), None);
        assert_eq!(index.expire(later).map(|evicted| evicted.key), Some(key(1)));
    }

    #[test]
    fn entry_that_is_at_work_for_long_takes_no_other_with_it() {
        let (mut index, now) = (index(9), Moment::now());
        let later = now + Duration::from_secs(10);
        index.claim(key(1), now, 100, 1).unwrap();
        index.claim(key(2), later, 100, 1).unwrap();
        index.store(key(2), 1);
        index.release(key(2), None, 1);
        assert_eq!(index.expire(now), None);
        assert_eq!(index.expire(later).map(|evicted| evicted.key), Some(key(2)));
    }

    #[test]
    fn file_that_was_written_meanwhile_is_not_lost() {
        let (mut index, now) = (index(9), Moment::now());
        index.claim(key(1), now, 100, 1).unwrap();
        let before = index.written(key(1));
        index.store(key(1), 7);
        assert!(!index.lose(key(1), before));
        assert_eq!(index.extent(), (1, 7));
    }

    #[test]
    fn there_may_be_fewer_than_there_are() {
        let (mut index, now) = (index(2), Moment::now());
        for number in [1, 2] {
            assert!(index.find(key(number), 1, now));
        }
        assert!(!index.is_over_capacity());
        index.set_capacity(1);
        assert!(index.is_over_capacity());
        index.evict().unwrap();
        assert!(!index.is_over_capacity());
    }

    #[test]
    fn file_that_is_found_is_counted_once() {
        let (mut index, now) = (index(1), Moment::now());
        assert!(index.find(key(1), 7, now) && index.find(key(1), 7, now));
        assert!(!index.find(key(2), 7, now));
        assert_eq!(index.extent(), (1, 7));
        assert!(index.lose(key(1), index.written(key(1))));
        assert_eq!(index.extent(), (1, 0));
    }
}
