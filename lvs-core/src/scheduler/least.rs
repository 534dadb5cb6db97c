//! Schedulers that choose the server with the least of something: `lc`, `wlc`, `sed`, `nq`, `fo` and
//! `ovf`.
//!
//! One loop, a cost each. The loop walks newest first and replaces its choice only by a strictly
//! cheaper server, so a tie goes to the newest, as in IPVS (`ip_vs_lc.c` and its likes).

use crate::flow::Flow;
use crate::occupancy::Load;
use crate::pool::Pool;
use crate::scheduler::{Peek, Scheduler, Tickets};

/// A cost as a fraction, load over weight, so that comparing needs no division.
pub(super) struct Cost {
    load: u64,
    weight: u32,
}

/// Chooses the server whose cost is least, among those that have one.
pub(super) struct Least<F> {
    cost: F,
}

impl<F: Fn(Load, u32) -> Option<Cost>> Least<F> {
    pub(super) fn new(cost: F) -> Least<F> {
        Least { cost }
    }
}

/// `lc`: overhead, whatever the weight.
pub(super) fn connections(load: Load, _weight: u32) -> Option<Cost> {
    Some(Cost { load: load.overhead(), weight: 1 })
}

/// `wlc`: overhead for its weight.
pub(super) fn weighted_connections(load: Load, weight: u32) -> Option<Cost> {
    Some(Cost { load: load.overhead(), weight })
}

/// `sed`: the delay that the flow would meet, active connections and itself for the weight.
pub(super) fn expected_delay(load: Load, weight: u32) -> Option<Cost> {
    Some(Cost { load: u64::from(load.active) + 1, weight })
}

/// `nq`: nothing where nobody waits, so that the first idle server wins; else as `sed`.
pub(super) fn never_queue(load: Load, weight: u32) -> Option<Cost> {
    if load.active == 0 { Some(Cost { load: 0, weight }) } else { expected_delay(load, weight) }
}

/// `fo`: the heavier, the cheaper, whatever the load.
pub(super) fn failover(_load: Load, weight: u32) -> Option<Cost> {
    Some(Cost { load: 1, weight })
}

/// `ovf`: as `fo`, until there are more active connections than the weight says.
pub(super) fn overflow(load: Load, weight: u32) -> Option<Cost> {
    (load.active <= weight).then_some(Cost { load: 1, weight })
}

impl Cost {
    pub(super) fn is_below(&self, other: &Cost) -> bool {
        let narrow = |load: u64, weight: u32| load.checked_mul(u64::from(weight));
        match (narrow(self.load, other.weight), narrow(other.load, self.weight)) {
            (Some(own), Some(others)) => own < others,
            // Millions of connections, or weights as large as they can be.
            _ => {
                u128::from(self.load) * u128::from(other.weight)
                    < u128::from(other.load) * u128::from(self.weight)
            }
        }
    }
}

/// The server that `wlc` chooses.
pub(super) fn least_loaded(pool: Pool<'_>) -> Option<usize> {
    least(pool.newest_first(), pool, weighted_connections)
}

/// The first of these servers whose cost is least.
pub(super) fn least(
    servers: impl Iterator<Item = usize>,
    pool: Pool<'_>,
    cost: impl Fn(Load, u32) -> Option<Cost>,
) -> Option<usize> {
    let mut least: Option<(usize, Cost)> = None;
    // An iterator made of parts runs through its parts by itself several times as fast as it is
    // asked for one after the other.
    servers.for_each(|server| {
        if let Some(cost) = cost(pool.load(server), pool.weight(server))
            && least.as_ref().is_none_or(|(_, best)| cost.is_below(best))
        {
            least = Some((server, cost));
        }
    });
    least.map(|(server, _)| server)
}

impl<F: Fn(Load, u32) -> Option<Cost> + Send + Sync + 'static> Scheduler for Least<F> {
    fn schedule(&self, pool: Pool<'_>, _flow: &Flow, _ticket: u64) -> Option<usize> {
        least(pool.newest_first(), pool, &self.cost)
    }

    fn peek(&self, pool: Pool<'_>, flow: &Flow, ticket: u64) -> Peek {
        // Nothing is remembered between two choices.
        Peek::Choice(self.schedule(pool, flow, ticket))
    }

    fn tickets(&self) -> Tickets {
        Tickets::Unused
    }
}
