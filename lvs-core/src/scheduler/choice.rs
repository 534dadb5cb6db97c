//! Schedulers that draw by weight: `twos`, nginx's `random` and `random two`, and `ewma`.
//!
//! A draw is a mix of the ticket and the service's seed, so a run can be replayed. Where everyone
//! can be chosen, which is nearly always, a draw finds its server in a table of summed weights; who
//! cannot be chosen is drawn again, and after a few vain draws the walk that IPVS makes for every
//! pick is made.

use crate::flow::Flow;
use crate::pool::Pool;
use crate::scheduler::{Peek, Scheduler, Seat, Setup, Tickets};

/// Weights summed up over the servers with a weight, newest first, as IPVS walks them.
pub(super) struct Draws {
    /// Sum of the weights up to and including this server's, with its index.
    sums: Box<[(u64, u32)]>,
    /// Place in `sums` where the draws of each stretch of 2^`shift` begin.
    guide: Box<[u32]>,
    shift: u32,
    total: u64,
    /// Mixed, so that the draws of neighbouring seeds have nothing in common.
    seed: u64,
    /// What is drawn lies from here to the total.
    lowest: u64,
}

impl Draws {
    /// Draws that fall on each server as often as its weight says.
    fn fair(setup: &Setup<'_>) -> Draws {
        Draws { lowest: 1, ..Draws::new(setup.seats, setup.seed) }
    }

    /// Draws as IPVS makes them: 0 can be drawn too, and falls on the first server.
    fn new(seats: &[Seat], seed: u64) -> Draws {
        let mut total = 0;
        let weighted = seats.iter().enumerate().rev().filter(|(_, seat)| seat.weight > 0);
        let sums: Box<[(u64, u32)]> = weighted
            .map(|(server, seat)| {
                total += u64::from(seat.weight);
                (total, server as u32)
            })
            .collect();
        // About two stretches a server, so that most draws find their server at the first look.
        let stretches = 2 * sums.len() as u64 + 1;
        let shift = (0..u64::BITS).find(|shift| total >> shift <= stretches).unwrap_or(0);
        let starts = (0..=total >> shift).map(|stretch| stretch << shift);
        let guide = starts.map(|draw| sums.partition_point(|(sum, _)| *sum < draw) as u32).collect();
        Draws { sums, guide, shift, total, seed: mix(seed), lowest: 0 }
    }

    /// The server that a draw from 0 to the total falls on; the first for 0.
    #[inline]
    fn find(&self, draw: u64) -> Option<usize> {
        let stretch = (draw >> self.shift) as usize;
        let from = *self.guide.get(stretch)? as usize;
        match self.sums.get(from) {
            Some((sum, server)) if *sum >= draw => Some(*server as usize),
            _ => self.find_after(draw, stretch, from),
        }
    }

    /// The server of a draw that does not fall on the first server of its stretch.
    fn find_after(&self, draw: u64, stretch: usize, from: usize) -> Option<usize> {
        let to = self.guide.get(stretch + 1).map_or(self.sums.len(), |end| *end as usize + 1);
        let within = self.sums.get(from..to.min(self.sums.len()))?;
        let place = within.partition_point(|(sum, _)| *sum < draw);
        within.get(place).map(|(_, server)| *server as usize)
    }

    /// An eligible server, drawn by weight; `nth` tells the draws of one pick apart.
    #[inline]
    pub(super) fn draw(&self, pool: Pool<'_>, ticket: u64, nth: u64) -> Option<usize> {
        let first = ticket.wrapping_mul(DRAWS).wrapping_add(nth).wrapping_mul(ATTEMPTS + 1);
        let server = self.find(self.scale(self.number(first), self.total))?;
        if pool.is_eligible(server) { Some(server) } else { self.draw_again(pool, first) }
    }

    /// What [`Draws::draw`] draws when its first draw fell on somebody who cannot be chosen.
    #[cold]
    fn draw_again(&self, pool: Pool<'_>, first: u64) -> Option<usize> {
        for attempt in 1..ATTEMPTS {
            let server = self.find(self.scale(self.number(first.wrapping_add(attempt)), self.total))?;
            if pool.is_eligible(server) {
                return Some(server);
            }
        }
        let total = eligible_total(pool);
        walk(pool, self.scale(self.number(first.wrapping_add(ATTEMPTS)), total))
    }

    fn number(&self, nth: u64) -> u64 {
        mix(self.seed.wrapping_add(nth))
    }

    /// The draw that a number stands for, which may be any of 64 bits.
    #[inline]
    fn scale(&self, number: u64, total: u64) -> u64 {
        let count = total - self.lowest.min(total) + 1;
        self.lowest + ((u128::from(number) * u128::from(count)) >> 64) as u64
    }

    /// Another eligible server than this one, drawn by weight; none if there is no other.
    fn draw_other(&self, pool: Pool<'_>, ticket: u64, than: usize) -> Option<usize> {
        let drawn = (1..=OTHER_ATTEMPTS).filter_map(|nth| self.draw(pool, ticket, nth));
        let other = drawn.into_iter().find(|server| *server != than);
        // Where one server has nearly all the weight, any other will do.
        other.or_else(|| pool.newest_first().find(|server| *server != than))
    }

    /// Whether this pick is one of those that explore.
    fn explores(&self, ticket: u64) -> bool {
        mix(!self.seed.wrapping_add(ticket)).is_multiple_of(EXPLORED)
    }
}

/// `twos`: of two servers drawn by weight, the one with less load for its weight.
pub(super) struct Twos {
    draws: Draws,
}

impl Twos {
    pub(super) fn new(setup: &Setup<'_>) -> Twos {
        Twos { draws: Draws::new(setup.seats, setup.seed) }
    }
}

impl Scheduler for Twos {
    fn schedule(&self, pool: Pool<'_>, flow: &Flow, ticket: u64) -> Option<usize> {
        let (first, second) = match flow.forced_draws() {
            None => (self.draws.draw(pool, ticket, 0)?, self.draws.draw(pool, ticket, 1)?),
            Some(draws) => {
                let total = eligible_total(pool);
                let [first, second] = draws.map(|draw| walk(pool, draw % (total + 1)));
                (first?, second?)
            }
        };
        let cost = |server: usize, weight: usize| {
            u128::from(pool.load(server).overhead()) * u128::from(pool.weight(weight))
        };
        Some(if cost(first, second) > cost(second, first) { second } else { first })
    }

    fn tickets(&self) -> Tickets {
        Tickets::Distinct
    }

    fn peek(&self, pool: Pool<'_>, flow: &Flow, ticket: u64) -> Peek {
        // Nothing is remembered between two choices.
        Peek::Choice(self.schedule(pool, flow, ticket))
    }
}

/// `random`: a server drawn by weight.
pub(super) struct Random {
    draws: Draws,
}

impl Random {
    pub(super) fn new(setup: &Setup<'_>) -> Random {
        Random { draws: Draws::fair(setup) }
    }
}

impl Scheduler for Random {
    fn schedule(&self, pool: Pool<'_>, _flow: &Flow, ticket: u64) -> Option<usize> {
        self.draws.draw(pool, ticket, 0)
    }

    fn peek(&self, pool: Pool<'_>, flow: &Flow, ticket: u64) -> Peek {
        // Nothing is remembered between two choices.
        Peek::Choice(self.schedule(pool, flow, ticket))
    }

    fn tickets(&self) -> Tickets {
        Tickets::Distinct
    }
}

/// `random_two`: of two different servers drawn by weight, the one with fewer connections for its
/// weight; the second if they are equal.
pub(super) struct RandomTwo {
    draws: Draws,
}

impl RandomTwo {
    pub(super) fn new(setup: &Setup<'_>) -> RandomTwo {
        RandomTwo { draws: Draws::fair(setup) }
    }
}

impl Scheduler for RandomTwo {
    fn schedule(&self, pool: Pool<'_>, _flow: &Flow, ticket: u64) -> Option<usize> {
        let first = self.draws.draw(pool, ticket, 0)?;
        let Some(second) = self.draws.draw_other(pool, ticket, first) else { return Some(first) };
        let cost = |server: usize, weight: usize| {
            u64::from(pool.load(server).total()) * u64::from(pool.weight(weight))
        };
        Some(if cost(second, first) > cost(first, second) { first } else { second })
    }

    fn peek(&self, pool: Pool<'_>, flow: &Flow, ticket: u64) -> Peek {
        // Nothing is remembered between two choices.
        Peek::Choice(self.schedule(pool, flow, ticket))
    }

    fn tickets(&self) -> Tickets {
        Tickets::Distinct
    }
}

/// `ewma`: of two different servers drawn by weight, the one that is expected to answer sooner: its
/// peak latency, times the connections it has and one more, for its weight.
///
/// One pick in sixty-four takes the first draw as it comes, so that nobody is forgotten. A failure
/// counts as a very slow answer, so that a server which fails fast draws no traffic.
pub(super) struct Ewma {
    draws: Draws,
}

impl Ewma {
    pub(super) fn new(setup: &Setup<'_>) -> Ewma {
        Ewma { draws: Draws::fair(setup) }
    }
}

impl Scheduler for Ewma {
    fn schedule(&self, pool: Pool<'_>, _flow: &Flow, ticket: u64) -> Option<usize> {
        let first = self.draws.draw(pool, ticket, 0)?;
        if self.draws.explores(ticket) {
            return Some(first);
        }
        let Some(second) = self.draws.draw_other(pool, ticket, first) else { return Some(first) };
        let latencies = [first, second].map(|server| pool.peak_latency(server));
        // Who has not answered yet is taken to be as fast as the other: load decides.
        let known = latencies[0].or(latencies[1]).map_or(1, |latency| latency.as_micros());
        let cost = |place: usize, server: usize, weight: usize| {
            let latency = latencies[place].map_or(known, |latency| latency.as_micros());
            let load = u128::from(pool.load(server).active) + 1;
            latency * load * u128::from(pool.weight(weight))
        };
        Some(if cost(1, second, first) < cost(0, first, second) { second } else { first })
    }

    fn peek(&self, pool: Pool<'_>, flow: &Flow, ticket: u64) -> Peek {
        // Nothing is remembered between two choices.
        Peek::Choice(self.schedule(pool, flow, ticket))
    }

    fn tickets(&self) -> Tickets {
        Tickets::Distinct
    }
}

fn eligible_total(pool: Pool<'_>) -> u64 {
    pool.newest_first().map(|server| u64::from(pool.weight(server))).sum()
}

/// The eligible server at which so much weight is used up, newest first; the first for 0.
fn walk(pool: Pool<'_>, mut draw: u64) -> Option<usize> {
    let mut last = None;
    for server in pool.newest_first() {
        let weight = u64::from(pool.weight(server));
        if draw <= weight {
            return Some(server);
        }
        draw -= weight;
        last = Some(server);
    }
    // Somebody has gone since the total was taken.
    last
}

/// One step of SplitMix64: each bit of the outcome depends on each of the input.
pub(super) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

/// Draws that may come upon somebody who cannot be chosen.
const ATTEMPTS: u64 = 16;

/// Draws that may come upon the server that was drawn before.
const OTHER_ATTEMPTS: u64 = 16;

/// Draws that one pick may need.
const DRAWS: u64 = OTHER_ATTEMPTS + 1;

/// One pick of so many explores.
const EXPLORED: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_finds_whom_a_walk_finds() {
        for weights in [&[1, 1, 1][..], &[3, 0, 2, 1], &[1_000_000, 1, 1, 1, 1], &[7], &[1, 2_147_483_647]] {
            let seats: Vec<Seat> = weights.iter().map(|weight| Seat::of_weight(*weight)).collect();
            let draws = Draws::new(&seats, 0);
            let edges = draws.sums.iter().flat_map(|(sum, _)| [*sum - 1, *sum, (*sum + 1).min(draws.total)]);
            for draw in edges.chain([0, draws.total / 2, draws.total]) {
                let slow =
                    draws.sums.iter().find(|(sum, _)| *sum >= draw).map(|(_, server)| *server as usize);
                assert_eq!(draws.find(draw), slow, "{weights:?} {draw}");
            }
        }
    }

    #[test]
    fn nobody_is_found_in_an_empty_table() {
        assert_eq!(Draws::new(&[], 0).find(0), None);
    }
}
