//! How many requests with a key are being served.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cost;

/// Counts of one zone.
pub(crate) struct Connections {
    counts: Arc<Mutex<Counts>>,
}

struct Counts {
    by_key: HashMap<Box<[u8]>, u32, foldhash::fast::RandomState>,
    /// Bytes that may still be taken by keys.
    left: u64,
}

/// A place among the requests with one key; given back when dropped.
pub(crate) struct Place {
    counts: Arc<Mutex<Counts>>,
    key: Box<[u8]>,
}

/// There are as many requests as there may be, or as many keys.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Connections {
    pub(super) fn new(size: u64) -> Connections {
        let counts = Counts { by_key: HashMap::default(), left: size };
        Connections { counts: Arc::new(Mutex::new(counts)) }
    }

    /// Takes a place, unless there are `most` already.
    pub(crate) fn enter(&self, key: &[u8], most: u32) -> Result<Place, Full> {
        let counts = &mut *lock(&self.counts);
        match counts.by_key.get_mut(key) {
            Some(count) if *count >= most => return Err(Full),
            Some(count) => *count += 1,
            None => {
                counts.left = counts.left.checked_sub(cost(key)).ok_or(Full)?;
                counts.by_key.insert(key.into(), 1);
            }
        }
        Ok(Place { counts: Arc::clone(&self.counts), key: key.into() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let counts = &mut *lock(&self.counts);
        let Some(count) = counts.by_key.get_mut(&self.key) else { return };
        *count -= 1;
        if *count == 0 {
            counts.by_key.remove(&self.key);
            counts.left += cost(&self.key);
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_free_again_when_its_request_ends() {
        let zone = Connections::new(1 << 20);
        let first = zone.enter(b"a", 1).ok();
        assert_eq!(zone.enter(b"a", 1).err(), Some(Full));
        assert!(zone.enter(b"b", 1).is_ok());
        drop(first);
        assert!(zone.enter(b"a", 1).is_ok());
        assert!(lock(&zone.counts).by_key.is_empty());
        assert_eq!(lock(&zone.counts).left, 1 << 20);
    }

    #[test]
    fn zone_takes_no_more_keys_than_fit() {
        let zone = Connections::new(2 * cost(b"1"));
        let held: Vec<_> = [b"1", b"2", b"3"].map(|key| zone.enter(key, 9)).into_iter().flatten().collect();
        assert_eq!(held.len(), 2);
        // A key that is there needs no more room.
        assert!(zone.enter(b"1", 9).is_ok());
    }
}
