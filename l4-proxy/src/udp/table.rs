//! The flows of one worker: by key, and in the order in which they fell silent.
//!
//! All flows of a table have the same timeout, so the order in which something was last heard of
//! them is the order in which they run out: whoever is heard of moves to the end of a list, and what
//! has run out is taken from its front. There is no sweep, and nothing is looked at in vain, however
//! many flows there are.
//!
//! There are two such lists. Flows that their server has answered are in one, the others in the other:
//! a flood of forged senders fills only the latter, and when there is no more room it is the one that
//! gives way, as in the kernel's connection tracking.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use foldhash::fast::RandomState;

/// Flows by key. Times are milliseconds of any clock that does not go back.
pub(crate) struct Table<K, F> {
    index: HashMap<K, u32, RandomState>,
    slots: Vec<Slot<K, F>>,
    free: Vec<u32>,
    /// Flows so far: what tells a flow from the next one in its slot.
    born: u32,
    unanswered: List,
    answered: List,
}

/// A flow's place, which no later flow in the same slot is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    slot: u32,
    generation: u32,
}

struct Slot<K, F> {
    generation: u32,
    /// Neighbours in the list: who was heard of before, and after.
    before: u32,
    after: u32,
    heard_at: u64,
    answered: bool,
    flow: Option<(K, F)>,
}

/// Who was not heard of for longest, and who was heard of last.
#[derive(Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

/// Slots for which room is kept when all are free.
const KEPT: usize = 64;

/// The end of a list.
const NOBODY: u32 = u32::MAX;

impl<K: Hash + Eq + Clone, F> Table<K, F> {
    /// No flows yet.
    pub(crate) fn new() -> Table<K, F> {
        let empty = List { first: NOBODY, last: NOBODY };
        Table {
            index: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            born: 0,
            unanswered: empty,
            answered: empty,
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// The flow of this key.
    pub(crate) fn find(&self, key: &K) -> Option<Place> {
        self.index.get(key).map(|&slot| self.place(slot))
    }

    /// The flow at this place, if it is still there.
    pub(crate) fn get_mut(&mut self, place: Place) -> Option<&mut F> {
        let slot = self.slots.get_mut(place.slot as usize)?;
        if slot.generation != place.generation {
            return None;
        }
        slot.flow.as_mut().map(|(_, flow)| flow)
    }

    /// Puts a flow in that begins now, in the place of one with the same key.
    pub(crate) fn insert(&mut self, key: K, flow: F, now: u64) -> Place {
        if let Some(place) = self.find(&key) {
            self.remove(place);
        }
        self.born = self.born.wrapping_add(1);
        let fresh = Slot {
            generation: self.born,
            before: NOBODY,
            after: NOBODY,
            heard_at: now,
            answered: false,
            flow: Some((key.clone(), flow)),
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = fresh;
                slot
            }
            None => {
                self.slots.push(fresh);
                u32::try_from(self.slots.len() - 1).expect("there are not that many descriptors")
            }
        };
        self.index.insert(key, slot);
        self.link(slot);
        self.place(slot)
    }

    /// Notes that the client was heard of.
    pub(crate) fn client_heard(&mut self, place: Place, now: u64) {
        self.heard(place.slot, now);
    }

    /// Notes that the server was heard of; says whether for the first time.
    pub(crate) fn server_heard(&mut self, place: Place, now: u64) -> bool {
        let slot = place.slot;
        self.unlink(slot);
        let entry = &mut self.slots[slot as usize];
        let first = !std::mem::replace(&mut entry.answered, true);
        entry.heard_at = now;
        self.link(slot);
        first
    }

    /// Takes a flow out.
    pub(crate) fn remove(&mut self, place: Place) -> Option<F> {
        self.get_mut(place)?;
        self.unlink(place.slot);
        let (key, flow) = self.slots[place.slot as usize].flow.take()?;
        self.index.remove(&key);
        self.free.push(place.slot);
        if self.index.is_empty() && self.slots.len() > KEPT {
            // What a rush of clients took up is given back when the last of them is gone.
            (self.index, self.slots, self.free) = Default::default();
        }
        Some(flow)
    }

    /// Takes out a flow that has been silent for `timeout`, the one that was so first.
    pub(crate) fn expire(&mut self, now: u64, timeout: Duration) -> Option<F> {
        let (slot, heard_at) = self.oldest()?;
        let over = u128::from(now.saturating_sub(heard_at)) >= timeout.as_millis();
        over.then(|| self.remove(self.place(slot))).flatten()
    }

    /// Whether there are flows that no server has answered.
    pub(crate) fn has_unanswered(&self) -> bool {
        self.unanswered.first != NOBODY
    }

    /// Takes out the flow that has been silent longest of those that no server has answered.
    pub(crate) fn give_way(&mut self) -> Option<F> {
        let first = self.unanswered.first;
        (first != NOBODY).then(|| self.remove(self.place(first))).flatten()
    }

    /// Looks at every flow, with the time something was last heard of it and whether its server was.
    pub(crate) fn for_each(&mut self, mut look: impl FnMut(&mut F, u64, bool)) {
        for slot in &mut self.slots {
            if let Some((_, flow)) = &mut slot.flow {
                look(flow, slot.heard_at, slot.answered);
            }
        }
    }

    /// Looks at every flow, with its place.
    pub(crate) fn for_each_place(&self, mut look: impl FnMut(Place, &F)) {
        for (slot, entry) in (0..).zip(&self.slots) {
            if let Some((_, flow)) = &entry.flow {
                look(Place { slot, generation: entry.generation }, flow);
            }
        }
    }

    /// Takes out any flow.
    pub(crate) fn pop(&mut self) -> Option<F> {
        let (slot, _) = self.oldest()?;
        self.remove(self.place(slot))
    }

    /// The flow that has been silent longest, and since when.
    fn oldest(&self) -> Option<(u32, u64)> {
        let fronts = [self.unanswered.first, self.answered.first];
        let fronts = fronts.into_iter().filter(|slot| *slot != NOBODY);
        fronts.map(|slot| (slot, self.slots[slot as usize].heard_at)).min_by_key(|(_, heard_at)| *heard_at)
    }

    fn place(&self, slot: u32) -> Place {
        Place { slot, generation: self.slots[slot as usize].generation }
    }

    fn heard(&mut self, slot: u32, now: u64) {
        self.unlink(slot);
        self.slots[slot as usize].heard_at = now;
        self.link(slot);
    }

    /// Puts a slot at the end of its list.
    fn link(&mut self, slot: u32) {
        let answered = self.slots[slot as usize].answered;
        let list = if answered { &mut self.answered } else { &mut self.unanswered };
        let last = std::mem::replace(&mut list.last, slot);
        match last {
            NOBODY => list.first = slot,
            last => self.slots[last as usize].after = slot,
        }
        let entry = &mut self.slots[slot as usize];
        (entry.before, entry.after) = (last, NOBODY);
    }

    /// Takes a slot out of its list.
    fn unlink(&mut self, slot: u32) {
        let Slot { before, after, answered, .. } = self.slots[slot as usize];
        let list = if answered { &mut self.answered } else { &mut self.unanswered };
        match before {
            NOBODY => list.first = after,
            before => self.slots[before as usize].after = after,
        }
        let list = if answered { &mut self.answered } else { &mut self.unanswered };
        match after {
            NOBODY => list.last = before,
            after => self.slots[after as usize].before = before,
        }
    }
}

impl Place {
    /// The place as one number, as the kernel keeps it with a descriptor.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// The place that had this number.
    pub(crate) fn from_bits(bits: u64) -> Place {
        Place { slot: bits as u32, generation: (bits >> 32) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(300);

    fn expired(table: &mut Table<u32, char>, now: u64) -> String {
        std::iter::from_fn(|| table.expire(now, TIMEOUT)).collect()
    }

    #[test]
    fn flow_ends_when_it_has_been_silent_for_the_timeout_and_not_before() {
        let mut table = Table::new();
        let a = table.insert(1, 'a', 1_000);
        table.insert(2, 'b', 2_000);
        table.client_heard(a, 100_000);
        assert_eq!(expired(&mut table, 301_999), "");
        assert_eq!(expired(&mut table, 302_000), "b");
        assert_eq!(expired(&mut table, 399_999), "");
        assert_eq!(expired(&mut table, 400_000), "a");
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn word_of_the_server_keeps_a_flow_as_one_of_the_client_does() {
        let mut table = Table::new();
        let a = table.insert(1, 'a', 0);
        assert!(table.server_heard(a, 200_000));
        assert!(!table.server_heard(a, 250_000));
        assert_eq!(expired(&mut table, 549_999), "");
        assert_eq!(expired(&mut table, 550_000), "a");
    }

    #[test]
    fn shorter_timeout_holds_for_flows_that_are_there() {
        let mut table = Table::new();
        table.insert(1, 'a', 0);
        assert_eq!(table.expire(1_000, Duration::from_secs(2)), None);
        assert_eq!(table.expire(2_000, Duration::from_secs(2)), Some('a'));
    }

    #[test]
    fn who_was_never_answered_gives_way_and_the_longest_silent_first() {
        let mut table = Table::new();
        let [a, b, c] =
            [(1, 'a', 0), (2, 'b', 1), (3, 'c', 2)].map(|(key, flow, now)| table.insert(key, flow, now));
        table.server_heard(a, 3);
        table.client_heard(b, 4);
        assert_eq!(table.give_way(), Some('c'));
        assert_eq!(table.get_mut(c), None);
        assert_eq!(table.give_way(), Some('b'));
        assert_eq!(table.give_way(), None, "the one that is left was answered");
    }

    #[test]
    fn place_of_a_flow_that_ended_is_not_that_of_its_successor() {
        let mut table = Table::new();
        let a = table.insert(1, 'a', 0);
        assert_eq!(Place::from_bits(a.to_bits()), a);
        assert_eq!(table.remove(a), Some('a'));
        let b = table.insert(2, 'b', 0);
        assert_eq!(table.get_mut(a), None);
        assert_eq!(table.remove(a), None);
        assert_eq!(table.get_mut(b), Some(&mut 'b'));
    }

    #[test]
    fn room_for_a_rush_is_given_back_after_it() {
        let mut table = Table::new();
        let places: Vec<_> = (0..10_000).map(|key| table.insert(key, 'a', 0)).collect();
        for place in &places {
            table.remove(*place);
        }
        assert_eq!((table.slots.capacity(), table.free.capacity(), table.index.capacity()), (0, 0, 0));
        table.insert(1, 'b', 0);
        assert!(places.iter().all(|place| table.get_mut(*place).is_none()), "none is taken for the new one");
    }

    /// A random history beside a list that is searched each time.
    #[test]
    fn table_does_what_a_plain_list_would() {
        let mut dice = 0x2545_F491_4F6C_DD1D_u64;
        let mut roll = move |sides: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % sides
        };
        let timeout = Duration::from_millis(60);
        let mut table: Table<u32, u32> = Table::new();
        // By key: when it was heard of last, the order of that, whether it was answered.
        let mut naive: BTreeMap<u32, (u64, u64, bool)> = BTreeMap::new();
        let mut now = 0;
        for turn in 0..200_000_u64 {
            now += roll(3);
            let key = roll(40) as u32;
            match (roll(8), table.find(&key)) {
                (0..4, Some(place)) => {
                    table.client_heard(place, now);
                    let (_, _, answered) = naive[&key];
                    naive.insert(key, (now, turn, answered));
                }
                (4, Some(place)) => {
                    assert_eq!(table.server_heard(place, now), !naive[&key].2);
                    naive.insert(key, (now, turn, true));
                }
                (5, Some(place)) => {
                    assert_eq!(table.remove(place), Some(key));
                    naive.remove(&key);
                }
                (6, _) => {
                    let unanswered = naive.iter().filter(|(_, (_, _, answered))| !answered);
                    let first = unanswered.min_by_key(|(_, (_, order, _))| *order).map(|(key, _)| *key);
                    assert_eq!(table.give_way(), first);
                    first.map(|key| naive.remove(&key));
                }
                (7, _) => {
                    while let Some(key) = table.expire(now, timeout) {
                        let (heard, _, _) = naive.remove(&key).expect("it was there");
                        assert!(now - heard >= 60);
                    }
                    assert!(naive.values().all(|(heard, _, _)| now - heard < 60));
                }
                (_, None) => {
                    table.insert(key, key, now);
                    naive.insert(key, (now, turn, false));
                }
                (_, Some(_)) => {}
            }
            assert_eq!(table.len(), naive.len());
        }
    }
}
