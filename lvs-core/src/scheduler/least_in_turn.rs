//! Schedulers that choose the least of something and let equals take turns: nginx's `least_conn`
//! and `least_time`.

use std::any::Any;
use std::cmp::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::flow::Flow;
use crate::pool::Pool;
use crate::scheduler::{Change, Peek, Scheduler, Seat, Tickets};

/// Chooses the server whose cost for its weight is least; equals are dealt smooth weighted turns
/// among themselves.
pub(super) struct LeastInTurn<M> {
    measure: M,
    /// What each server has coming to it, as in nginx's `current_weight`. Held for one deal among
    /// equals.
    credit: Mutex<Box<[i64]>>,
}

/// What a server costs.
pub(super) trait Measure: Send + Sync + 'static {
    /// What has to be known of the servers together.
    fn common(&self, pool: Pool<'_>) -> u64;

    fn cost(&self, pool: Pool<'_>, server: usize, common: u64) -> u128;
}

/// `least_conn`: connections.
pub(super) struct Connections;

/// `least_time`: how long the connections that are there and one more would take, at the pace of the
/// server's answers so far; at that of the fastest if it has not answered yet.
pub(super) struct AnswerTime;

impl<M> LeastInTurn<M> {
    pub(super) fn new(seats: &[Seat], measure: M) -> LeastInTurn<M> {
        LeastInTurn { measure, credit: Mutex::new(vec![0; seats.len()].into()) }
    }
}

impl Measure for Connections {
    fn common(&self, _pool: Pool<'_>) -> u64 {
        0
    }

    fn cost(&self, pool: Pool<'_>, server: usize, _common: u64) -> u128 {
        u128::from(pool.load(server).total())
    }
}

impl Measure for AnswerTime {
    fn common(&self, pool: Pool<'_>) -> u64 {
        pool.oldest_first().filter_map(|server| pool.latency(server)).min().map_or(1, nanos)
    }

    fn cost(&self, pool: Pool<'_>, server: usize, common: u64) -> u128 {
        let pace = pool.latency(server).map_or(common, nanos);
        u128::from(pace) * (u128::from(pool.load(server).total()) + 1)
    }
}

fn nanos(latency: Duration) -> u64 {
    u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX)
}

/// The least cost for a weight, and who has it.
struct Least {
    cost: u128,
    weight: u32,
    /// The first of them.
    first: usize,
    /// Whether there are others.
    equals: bool,
    common: u64,
}

impl<M: Measure> LeastInTurn<M> {
    fn least(&self, pool: Pool<'_>) -> Option<Least> {
        let common = self.measure.common(pool);
        let mut least: Option<Least> = None;
        for server in pool.oldest_first() {
            let (cost, weight) = (self.measure.cost(pool, server, common), pool.weight(server));
            let order = least.as_ref().map(|best| scaled(cost, best.weight).cmp(&scaled(best.cost, weight)));
            match order {
                None | Some(Ordering::Less) => {
                    least = Some(Least { cost, weight, first: server, equals: false, common });
                }
                Some(Ordering::Equal) => {
                    if let Some(least) = &mut least {
                        least.equals = true;
                    }
                }
                Some(Ordering::Greater) => {}
            }
        }
        least
    }

    /// Deals one turn among the equals.
    fn deal(&self, pool: Pool<'_>, least: &Least, credit: &mut [i64]) -> usize {
        let (mut chosen, mut total) = (least.first, 0);
        for server in pool.oldest_first().skip_while(|server| *server != least.first) {
            let weight = pool.weight(server);
            let cost = self.measure.cost(pool, server, least.common);
            if scaled(cost, least.weight) != scaled(least.cost, weight) {
                continue;
            }
            credit[server] += i64::from(weight);
            total += i64::from(weight);
            if credit[server] > credit[chosen] {
                chosen = server;
            }
        }
        credit[chosen] -= total;
        chosen
    }

    fn credit(&self) -> MutexGuard<'_, Box<[i64]>> {
        self.credit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Measure> Scheduler for LeastInTurn<M> {
    fn schedule(&self, pool: Pool<'_>, _flow: &Flow, _ticket: u64) -> Option<usize> {
        let least = self.least(pool)?;
        // nginx takes nothing from the credit of a server that has no equals.
        Some(if least.equals { self.deal(pool, &least, &mut self.credit()) } else { least.first })
    }

    fn peek(&self, pool: Pool<'_>, _flow: &Flow, _ticket: u64) -> Peek {
        let least = self.least(pool);
        Peek::Choice(least.map(|least| self.deal(pool, &least, &mut self.credit().clone())))
    }

    fn tickets(&self) -> Tickets {
        Tickets::Unused
    }

    fn inherit(&mut self, old: &dyn Scheduler, change: &Change<'_>) {
        let Some(old) = (old as &dyn Any).downcast_ref::<LeastInTurn<M>>() else { return };
        if change.old == change.new {
            self.credit = Mutex::new(old.credit().clone());
        }
    }
}

/// Both sides of a comparison of two fractions are brought to one denominator.
fn scaled(cost: u128, other_weight: u32) -> u128 {
    cost.saturating_mul(u128::from(other_weight))
}
