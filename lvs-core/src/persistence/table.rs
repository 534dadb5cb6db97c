//! A map from client networks to what is known of them, in one block of memory.
//!
//! With a million clients the cost of finding one is the cost of the memory that nobody has looked
//! at for a while. A map that keeps its tags, its keys and its values in three places waits for
//! memory three times; here all of it lies together, and the next slot is the neighbour (open
//! addressing with linear probing, Knuth, TAOCP 3, section 6.4; removal moves the followers up,
//! algorithm R there).

use std::hash::BuildHasher;

/// A client network as a number, high half and low half: a `u128` would be aligned to 16 bytes and
/// waste 8 of them in each slot.
pub(crate) type Network = (u64, u64);

type Hasher = foldhash::fast::RandomState;

/// The map.
pub(super) struct Table<V> {
    /// Never full, so that each search ends.
    slots: Box<[Option<(Network, V)>]>,
    len: usize,
    hasher: Hasher,
}

impl<V> Default for Table<V> {
    fn default() -> Table<V> {
        Table { slots: Box::default(), len: 0, hasher: Hasher::default() }
    }
}

impl<V> Table<V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn get(&self, network: Network) -> Option<&V> {
        self.slots[self.find(network)?].as_ref().map(|(_, value)| value)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, network: Network) -> Option<&mut V> {
        let slot = self.find(network)?;
        self.slots[slot].as_mut().map(|(_, value)| value)
    }

    /// Puts in a value, and returns the one that was there.
    pub(super) fn insert(&mut self, network: Network, value: V) -> Option<V> {
        if let Some(present) = self.get_mut(network) {
            return Some(std::mem::replace(present, value));
        }
        if (self.len + 1) * FULL.1 > self.slots.len() * FULL.0 {
            self.resize((self.slots.len() + self.slots.len() / 2).max(SMALLEST));
        }
        self.place(network, value);
        self.len += 1;
        None
    }

    /// Removes those whose `keep` is false; of a few it may ask twice.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut V) -> bool) {
        for slot in 0..self.slots.len() {
            while self.slots[slot].as_mut().is_some_and(|(_, value)| !keep(value)) {
                self.remove(slot);
            }
        }
        // What a rush of clients took is given back when they are gone.
        if self.slots.len() > SHRUNK_ABOVE && self.len < self.slots.len() / 8 {
            self.resize((self.len * 2).max(SMALLEST));
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Network, &V)> {
        self.slots.iter().flatten().map(|(network, value)| (*network, value))
    }

    /// Where a network is.
    #[inline]
    fn find(&self, network: Network) -> Option<usize> {
        if self.len == 0 {
            return None;
        }
        let mut slot = self.home(network);
        loop {
            match &self.slots[slot] {
                Some((found, _)) if *found == network => return Some(slot),
                Some(_) => slot = self.after(slot),
                None => return None,
            }
        }
    }

    /// The slot where the search for a network begins.
    #[inline]
    fn home(&self, network: Network) -> usize {
        let hash = self.hasher.hash_one(network);
        ((u128::from(hash) * self.slots.len() as u128) >> 64) as usize
    }

    #[inline]
    fn after(&self, slot: usize) -> usize {
        if slot + 1 == self.slots.len() { 0 } else { slot + 1 }
    }

    /// Puts in what is not there yet.
    fn place(&mut self, network: Network, value: V) {
        let mut slot = self.home(network);
        while self.slots[slot].is_some() {
            slot = self.after(slot);
        }
        self.slots[slot] = Some((network, value));
    }

    fn remove(&mut self, slot: usize) {
        let size = self.slots.len();
        let distance = |from: usize, to: usize| if to >= from { to - from } else { to + size - from };
        let (mut hole, mut next) = (slot, self.after(slot));
        self.slots[hole] = None;
        self.len -= 1;
        while let Some((network, _)) = &self.slots[next] {
            // Whoever would be found from the hole on as well moves there.
            if distance(self.home(*network), next) >= distance(hole, next) {
                self.slots.swap(hole, next);
                hole = next;
            }
            next = self.after(next);
        }
    }

    fn resize(&mut self, size: usize) {
        let slots = (0..size).map(|_| None).collect();
        let old = std::mem::replace(&mut self.slots, slots);
        for (network, value) in old.into_iter().flatten() {
            self.place(network, value);
        }
    }
}

/// The part of the slots that is used before there are more.
const FULL: (usize, usize) = (7, 10);

/// Slots of a table that has any.
const SMALLEST: usize = 8;

/// Slots below which no memory is given back.
const SHRUNK_ABOVE: usize = 256;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64, u32),
        Change(u64, u32),
        /// Removes values that leave this rest.
        Retain(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0..500u64, any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
            4 => (0..500u64, any::<u32>()).prop_map(|(key, value)| Step::Change(key, value)),
            1 => (0..4u32).prop_map(Step::Retain),
        ];
        prop::collection::vec(step, 0..600)
    }

    proptest! {
        #[test]
        fn table_is_a_map(steps in steps()) {
            let (mut table, mut twin) = (Table::default(), HashMap::new());
            for step in steps {
                match step {
                    Step::Insert(key, value) => {
                        prop_assert_eq!(table.insert((key % 7, key), value), twin.insert((key % 7, key), value));
                    }
                    Step::Change(key, value) => {
                        let (found, expected) = (table.get_mut((key % 7, key)), twin.get_mut(&(key % 7, key)));
                        prop_assert_eq!(&found, &expected);
                        if let (Some(found), Some(expected)) = (found, expected) {
                            (*found, *expected) = (value, value);
                        }
                    }
                    Step::Retain(rest) => {
                        table.retain(|value| *value % 4 != rest);
                        twin.retain(|_, value| *value % 4 != rest);
                    }
                }
                prop_assert_eq!(table.len(), twin.len());
            }
            for key in 0..500 {
                prop_assert_eq!(table.get((key % 7, key)), twin.get(&(key % 7, key)));
            }
            prop_assert_eq!(table.iter().map(|(key, value)| (key, *value)).collect::<HashMap<_, _>>(), twin);
        }
    }

    #[test]
    fn table_that_was_large_gives_its_memory_back() {
        let mut table = Table::default();
        for key in 0..100_000 {
            table.insert((0, key), key);
        }
        assert!(table.slots.len() < 100_000 * 10 / 7 * 3 / 2);
        table.retain(|key| *key < 10);
        assert_eq!((table.len(), table.slots.len()), (10, 20));
    }
}
