//! Schedulers that choose the least of something and let equals take turns: nginx's `least_conn`
//! and `least_time`.

use std::any::Any;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::flow::Flow;
use crate::pool::Pool;
use crate::scheduler::{Change, Scheduler, Seat};

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

impl<M: Measure> Scheduler for LeastInTurn<M> {
    fn schedule(&self, pool: Pool<'_>, _flow: &Flow, _ticket: u64) -> Option<usize> {
        let common = self.measure.common(pool);
        let cost = |server: usize| self.measure.cost(pool, server, common);
        // Cost and weight of the least, and where the first of them is.
        let mut least: Option<(u128, u32, usize)> = None;
        let mut equals = false;
        for server in pool.oldest_first() {
            let (cost, weight) = (cost(server), pool.weight(server));
            let order = least.map(|(best, of, _)| scaled(cost, of).cmp(&scaled(best, weight)));
            match order {
                None | Some(std::cmp::Ordering::Less) => {
                    least = Some((cost, weight, server));
                    equals = false;
                }
                Some(std::cmp::Ordering::Equal) => equals = true,
                Some(std::cmp::Ordering::Greater) => {}
            }
        }
        let (best, of, first) = least?;
        if !equals {
            // nginx takes nothing from the credit of a server that has no equals.
            return Some(first);
        }
        let mut credit = self.credit.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut chosen, mut total) = (first, 0);
        for server in pool.oldest_first().skip_while(|server| *server != first) {
            let weight = pool.weight(server);
            if scaled(cost(server), of) != scaled(best, weight) {
                continue;
            }
            credit[server] += i64::from(weight);
            total += i64::from(weight);
            if credit[server] > credit[chosen] {
                chosen = server;
            }
        }
        credit[chosen] -= total;
        Some(chosen)
    }

    fn uses_ticket(&self) -> bool {
        false
    }

    fn inherit(&mut self, old: &dyn Scheduler, change: &Change<'_>) {
        let Some(old) = (old as &dyn Any).downcast_ref::<LeastInTurn<M>>() else { return };
        if change.old == change.new {
            let credit = old.credit.lock().unwrap_or_else(PoisonError::into_inner).clone();
            *self.credit.get_mut().unwrap_or_else(PoisonError::into_inner) = credit;
        }
    }
}

/// Both sides of a comparison of two fractions are brought to one denominator.
fn scaled(cost: u128, other_weight: u32) -> u128 {
    cost.saturating_mul(u128::from(other_weight))
}
