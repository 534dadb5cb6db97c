//! Schedulers that choose the least of something and let equals take turns: nginx's `least_conn`
//! and `least_time`.

use std::any::Any;
use std::sync::{Mutex, PoisonError};

use crate::flow::Flow;
use crate::pool::Pool;
use crate::scheduler::{Change, Scheduler, Seat};

/// Chooses the server whose cost for its weight is least; equals are dealt smooth weighted turns
/// among themselves.
pub(super) struct LeastInTurn<F> {
    cost: F,
    /// What each server has coming to it, as in nginx's `current_weight`. Held for one deal among
    /// equals.
    credit: Mutex<Box<[i64]>>,
}

impl<F> LeastInTurn<F> {
    pub(super) fn new(seats: &[Seat], cost: F) -> LeastInTurn<F> {
        LeastInTurn { cost, credit: Mutex::new(vec![0; seats.len()].into()) }
    }
}

/// `least_conn`: connections.
pub(super) fn connections(pool: Pool<'_>, server: usize) -> u128 {
    u128::from(pool.load(server).total())
}

/// `least_time`: how long the connections that are there and one more would take, at the pace of the
/// server's answers so far; at that of the fastest if it has not answered yet.
pub(super) fn time(pool: Pool<'_>, server: usize) -> u128 {
    let pace =
        pool.latency(server).or_else(|| pool.oldest_first().filter_map(|other| pool.latency(other)).min());
    let pace = pace.map_or(1, |pace| pace.as_nanos()).min(u128::from(u64::MAX));
    pace * (u128::from(pool.load(server).total()) + 1)
}

impl<F> Scheduler for LeastInTurn<F>
where
    F: Fn(Pool<'_>, usize) -> u128 + Send + Sync + 'static,
{
    fn schedule(&self, pool: Pool<'_>, _flow: &Flow, _ticket: u64) -> Option<usize> {
        // Cost and weight of the least, and where the first of them is.
        let mut least: Option<(u128, u32, usize)> = None;
        let mut equals = false;
        for server in pool.oldest_first() {
            let (cost, weight) = ((self.cost)(pool, server), pool.weight(server));
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
            if scaled((self.cost)(pool, server), of) != scaled(best, weight) {
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
        let Some(old) = (old as &dyn Any).downcast_ref::<LeastInTurn<F>>() else { return };
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
