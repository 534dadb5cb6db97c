//! Counts by key that the workers of a proxy share: what `limit_conn` and `limit_req` go by.
//!
//! A table lives as long as a configuration that names it, and is handed on by a reload that leaves
//! its zone as it was. A table has a bound, which is its zone's size.

mod connections;
mod requests;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::model::{Zone, ZoneKind};

pub(crate) use self::connections::{Connections, Place};
pub(crate) use self::requests::{Asked, Requests};

/// The tables of a proxy, by their zones.
#[derive(Default)]
pub(crate) struct Zones {
    known: Mutex<Vec<(Zone, Weak<Table>)>>,
}

/// What a zone counts.
pub(crate) enum Table {
    Connections(Connections),
    Requests(Requests),
}

impl Zones {
    /// Returns the tables of a configuration's zones, in their order.
    pub(crate) fn of(&self, zones: &[Zone]) -> Box<[Arc<Table>]> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(_, table)| table.strong_count() > 0);
        let mut table = |zone: &Zone| {
            let mut found = known.iter().filter(|(other, _)| other == zone);
            if let Some(table) = found.find_map(|(_, table)| table.upgrade()) {
                return table;
            }
            let table = Arc::new(Table::new(zone));
            known.push((zone.clone(), Arc::downgrade(&table)));
            table
        };
        zones.iter().map(&mut table).collect()
    }
}

impl Table {
    fn new(zone: &Zone) -> Table {
        match zone.kind {
            ZoneKind::Connections => Table::Connections(Connections::new(zone.size)),
            ZoneKind::Requests { rate } => Table::Requests(Requests::new(zone.size, rate)),
        }
    }
}

/// What an entry takes beside its key, about: nginx's figure, so that a size means the same.
const ENTRY_SIZE: u64 = 64;

fn cost(key: &[u8]) -> u64 {
    ENTRY_SIZE + key.len() as u64
}
