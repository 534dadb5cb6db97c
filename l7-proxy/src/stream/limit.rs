//! How many connections have something in common: what `limit_conn` counts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::ConnectionZone;

/// The zones of a proxy, shared by all workers; they outlive a configuration, as connections do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Zones {
    counts: Arc<Mutex<Counts>>,
}

/// By zone and key.
type Counts = HashMap<Key, u32, foldhash::fast::RandomState>;
type Key = (Arc<ConnectionZone>, Vec<u8>);

/// A place among the connections of a zone with one key; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    zones: Zones,
    key: Key,
}

impl Zones {
    /// Takes a place, unless there are `most` already. A connection without a key is not counted.
    ///
    /// There are never more keys than connections, so that the table needs no bound of its own.
    pub(super) fn enter(
        &self,
        zone: &Arc<ConnectionZone>,
        key: Vec<u8>,
        most: u32,
    ) -> Result<Option<Place>, Full> {
        if key.is_empty() {
            return Ok(None);
        }
        let key = (Arc::clone(zone), key);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.clone()).or_default();
        if *count >= most {
            return Err(Full);
        }
        *count += 1;
        drop(counts);
        Ok(Some(Place { zones: self.clone(), key }))
    }
}

/// There are as many connections as there may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.zones.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_free_again_when_its_connection_ends() {
        let zones = Zones::default();
        let zone = |name: &str, size| Arc::new(ConnectionZone { name: name.to_owned(), size });
        let (here, other, larger) = (zone("zone", 1), zone("other", 1), zone("zone", 2));
        let first = zones.enter(&here, b"a".to_vec(), 1).unwrap();
        assert_eq!(zones.enter(&zone("zone", 1), b"a".to_vec(), 1).unwrap_err(), Full);
        assert!(zones.enter(&other, b"a".to_vec(), 1).unwrap().is_some());
        assert!(zones.enter(&larger, b"a".to_vec(), 1).unwrap().is_some());
        assert!(zones.enter(&here, Vec::new(), 0).unwrap().is_none());
        drop(first);
        assert!(zones.enter(&here, b"a".to_vec(), 1).unwrap().is_some());
        assert!(zones.counts.lock().unwrap().is_empty());
    }
}
