//! `swrr`: smooth weighted round robin as nginx deals it.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;

use crate::flow::Flow;
use crate::pool::Pool;
use crate::scheduler::turn::gcd_with;
use crate::scheduler::{Change, Peek, Scheduler, Seat, Tickets};

/// `swrr`: weighted turns, spread as evenly as they can be (nginx's smooth weighted round robin).
///
/// nginx finds each turn by a walk over all servers. Here the turns of a whole period are laid out
/// once for the servers that can be used, so a pick is one array read. When one of them fails, or
/// only the backups are left, others can be used and another period is laid out; the last few are
/// kept with their place, so that those who come back go on where they were. A server that is
/// merely full is stepped over.
pub(super) struct Swrr {
    /// The latest laid out first.
    periods: ArcSwap<Vec<Arc<Period>>>,
}

/// Servers of one weight, while turns are laid out.
struct Class {
    weight: i32,
    /// Indexes, the one listed first in front.
    servers: Vec<u32>,
    /// How many have had one turn more than the others.
    served: usize,
}

/// One round of turns.
struct Period {
    /// The servers it was laid out for, one bit each.
    servers: Box<[u64]>,
    /// Indexes in the order of their turns.
    turns: Box<[u32]>,
    next: CachePadded<AtomicUsize>,
}

impl Swrr {
    pub(super) fn new(seats: &[Seat]) -> Swrr {
        let mut servers = vec![0; seats.len().div_ceil(64)];
        for (index, _) in seats.iter().enumerate().filter(|(_, seat)| seat.weight > 0) {
            servers[index / 64] |= 1 << (index % 64);
        }
        let weights = seats.iter().enumerate().map(|(index, seat)| (index as u32, seat.weight)).collect();
        let period = Period::lay_out(servers.into(), weights);
        Swrr { periods: ArcSwap::from_pointee(vec![Arc::new(period)]) }
    }
}

impl Swrr {
    /// Turns that are laid out when they are first asked for: of those who hardly ever need any.
    pub(super) fn not_laid_out() -> Swrr {
        Swrr { periods: ArcSwap::default() }
    }
}

impl Scheduler for Swrr {
    fn schedule(&self, pool: Pool<'_>, _flow: &Flow, ticket: u64) -> Option<usize> {
        if let Some(period) = self.periods.load().iter().find(|period| period.fits(pool)) {
            return period.turn(pool, ticket);
        }
        let fresh = Arc::new(Period::of(pool));
        self.periods.rcu(|periods| {
            let others = periods.iter().filter(|period| period.servers != fresh.servers);
            std::iter::once(&fresh).chain(others.take(PERIODS_KEPT - 1)).cloned().collect::<Vec<_>>()
        });
        fresh.turn(pool, ticket)
    }

    fn tickets(&self) -> Tickets {
        Tickets::Distinct
    }

    fn peek(&self, pool: Pool<'_>, _flow: &Flow, ticket: u64) -> Peek {
        let periods = self.periods.load();
        match periods.iter().find(|period| period.fits(pool)) {
            Some(period) => Peek::Choice(period.next_turn(pool, ticket)),
            None => Peek::Choice(Period::of(pool).next_turn(pool, ticket)),
        }
    }

    fn inherit(&mut self, old: &dyn Scheduler, change: &Change<'_>) {
        let Some(old) = (old as &dyn Any).downcast_ref::<Swrr>() else { return };
        if change.old == change.new {
            self.periods.store(old.periods.load_full());
        }
    }
}

impl Period {
    /// The turns of the servers that can be used now, whether they are full or not.
    fn of(pool: Pool<'_>) -> Period {
        let servers: Box<[u64]> = (0..pool.words()).map(|word| pool.word(word)).collect();
        let chosen = (0..pool.len()).filter(|index| servers[index / 64] >> (index % 64) & 1 == 1);
        let weights = chosen.map(|index| (index as u32, pool.weight(index))).collect();
        Period::lay_out(servers, weights)
    }

    /// The turns of these servers (index, weight), as nginx would deal them.
    fn lay_out(servers: Box<[u64]>, mut weights: Vec<(u32, u32)>) -> Period {
        weights.retain(|(_, weight)| *weight > 0);
        let gcd = weights.iter().fold(0, |gcd, (_, weight)| gcd_with(gcd, *weight)).max(1);
        let total: u64 = weights.iter().map(|(_, weight)| u64::from(weight / gcd)).sum();
        let mut distinct: Vec<u32> = weights.iter().map(|(_, weight)| *weight).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let longest = (LAY_OUT_STEPS / distinct.len().max(1)).max(weights.len()) as u64;
        let scaled = |weight: u32| {
            let weight = u64::from(weight / gcd);
            if total <= longest { weight } else { (weight * longest / total).max(1) }
        };
        // A period is shorter than 2³¹ turns, and no credit is larger than it is long.
        let weights: Vec<(u32, i32)> =
            weights.iter().map(|(index, weight)| (*index, scaled(*weight) as i32)).collect();
        let total: i32 = weights.iter().map(|(_, weight)| weight).sum();
        if total as usize == weights.len() {
            // Equals take turns in the order they are listed, which needs no working out.
            let turns = weights.iter().map(|(index, _)| *index).collect();
            return Period { servers, turns, next: CachePadded::new(AtomicUsize::new(0)) };
        }

        let mut classes: Vec<Class> = Vec::with_capacity(distinct.len());
        for (index, weight) in weights {
            match classes.binary_search_by_key(&weight, |class| class.weight) {
                Ok(place) => classes[place].servers.push(index),
                Err(place) => classes.insert(place, Class { weight, servers: vec![index], served: 0 }),
            }
        }
        // Servers of one weight gain credit alike, and the one to be served is the one served least
        // often, the first of them: they take turns. So it is enough to look at one of each weight.
        // Credits and servers stand apart from the classes, since all time is spent looking there.
        let gains: Vec<i32> = classes.iter().map(|class| class.weight).collect();
        let mut credits = vec![0; classes.len()];
        let mut heads: Vec<u32> = classes.iter().map(|class| class.servers[0]).collect();
        let mut turns = Vec::with_capacity(total as usize);
        for _ in 0..total {
            let mut most = i32::MIN;
            for (credit, gain) in credits.iter_mut().zip(&gains) {
                *credit += gain;
                most = most.max(*credit);
            }
            let Some(first) = credits.iter().position(|credit| *credit == most) else { break };
            // Ties go to the server listed first, as nginx does.
            let equals = (first..credits.len()).filter(|place| credits[*place] == most);
            let best = equals.min_by_key(|place| heads[*place]).unwrap_or(first);
            turns.push(heads[best]);
            let Class { servers, served, .. } = &mut classes[best];
            *served = (*served + 1) % servers.len();
            heads[best] = servers[*served];
            // The next one has been served once less, until all have.
            if *served == 0 {
                credits[best] -= total;
            }
        }
        Period { servers, turns: turns.into(), next: CachePadded::new(AtomicUsize::new(0)) }
    }

    fn fits(&self, pool: Pool<'_>) -> bool {
        self.servers.iter().enumerate().all(|(word, bits)| *bits == pool.word(word))
    }

    fn turn(&self, pool: Pool<'_>, ticket: u64) -> Option<usize> {
        for _ in 0..self.turns.len().min(TURNS_PASSED) {
            let place = self.next.fetch_add(1, Ordering::Relaxed) % self.turns.len();
            let server = self.turns[place] as usize;
            if pool.is_eligible(server) {
                return Some(server);
            }
        }
        share(pool, ticket)
    }
}

/// What [`Period::turn`] would return.
impl Period {
    fn next_turn(&self, pool: Pool<'_>, ticket: u64) -> Option<usize> {
        let next = self.next.load(Ordering::Relaxed);
        let turns = (0..self.turns.len().min(TURNS_PASSED)).map(|turn| next.wrapping_add(turn));
        let mut servers = turns.map(|turn| self.turns[turn % self.turns.len()] as usize);
        servers.find(|server| pool.is_eligible(*server)).or_else(|| share(pool, ticket))
    }
}

/// The eligible server whose share of the weights the ticket falls into.
pub(super) fn share(pool: Pool<'_>, ticket: u64) -> Option<usize> {
    let total: u64 = pool.oldest_first().map(|server| u64::from(pool.weight(server))).sum();
    let mut rest = ticket.checked_rem(total)?;
    pool.oldest_first().find(|server| {
        let weight = u64::from(pool.weight(*server));
        let falls_here = rest < weight;
        rest = rest.saturating_sub(weight);
        falls_here
    })
}

/// Turns of full servers that a pick passes over before it deals by ticket: the next turn of a
/// light server may be a million turns away.
const TURNS_PASSED: usize = 256;

/// How many periods are remembered: those of the servers, of the backups, of all that are tried
/// when they are ejected, and of a server less.
const PERIODS_KEPT: usize = 4;

/// Bound on the work of laying out one period, in steps of the inner loop: a few milliseconds.
/// Weights of a pool that would need more are scaled down to the longest period that fits.
const LAY_OUT_STEPS: usize = 4_000_000;
