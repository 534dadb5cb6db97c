//! Schedulers that choose the server with the least of something: `lc` and `wlc`.
//!
//! One loop, a cost each. The loop walks newest first and replaces its choice only by a strictly
//! cheaper server, so a tie goes to the newest, as in IPVS (`ip_vs_lc.c`, `ip_vs_wlc.c`).

use crate::flow::Flow;
use crate::pool::{Load, Pool};
use crate::scheduler::Scheduler;

/// A cost as a fraction, load over weight, so that comparing needs no division.
pub(super) struct Cost {
    load: u64,
    weight: u32,
}

/// Chooses the server whose cost is least.
pub(super) struct Least {
    cost: fn(Load, u32) -> Cost,
}

impl Least {
    pub(super) fn new(cost: fn(Load, u32) -> Cost) -> Least {
        Least { cost }
    }
}

/// `lc`: overhead, whatever the weight.
pub(super) fn connections(load: Load, _weight: u32) -> Cost {
    Cost { load: load.overhead(), weight: 1 }
}

/// `wlc`: overhead for its weight.
pub(super) fn weighted_connections(load: Load, weight: u32) -> Cost {
    Cost { load: load.overhead(), weight }
}

impl Cost {
    fn is_below(&self, other: &Cost) -> bool {
        u128::from(self.load) * u128::from(other.weight) < u128::from(other.load) * u128::from(self.weight)
    }
}

impl Scheduler for Least {
    fn schedule(&self, pool: Pool<'_>, _flow: &Flow, _ticket: u64) -> Option<usize> {
        let mut least: Option<(usize, Cost)> = None;
        for server in pool.newest_first() {
            let cost = (self.cost)(pool.load(server), pool.weight(server));
            if least.as_ref().is_none_or(|(_, best)| cost.is_below(best)) {
                least = Some((server, cost));
            }
        }
        least.map(|(server, _)| server)
    }

    fn uses_ticket(&self) -> bool {
        false
    }
}
