//! Schedulers that draw, with a walk for every draw: `random`, `random_two` and `ewma`.
//!
//! What they draw follows from the seed and the number of the call, so the twins draw the same.

use lvs_core::{Algorithm, ServiceConfig};
use proptest::prelude::*;

use super::kernel::{Kernel, Node, Rule};
use super::{Call, Pair, answering_steps, limited_wish, steps, without_ejection};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_picks_as_its_twin(steps in steps(limited_wish().boxed()), seed in any::<u64>()) {
        Pair::of(seeded(Algorithm::Random, seed), Kernel::new(Random { seed })).play(steps)?;
    }

    #[test]
    fn random_two_picks_as_its_twin(steps in steps(limited_wish().boxed()), seed in any::<u64>()) {
        Pair::of(seeded(Algorithm::RandomTwo, seed), Kernel::new(RandomTwo { seed })).play(steps)?;
    }

    #[test]
    fn ewma_picks_as_its_twin(steps in answering_steps(limited_wish().boxed()), seed in any::<u64>()) {
        Pair::of(seeded(Algorithm::Ewma, seed), Kernel::new(Ewma { seed })).play(steps)?;
    }
}

fn seeded(algorithm: Algorithm, seed: u64) -> ServiceConfig {
    let mut service = without_ejection(algorithm);
    service.seed = seed;
    service
}

/// SplitMix64.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

fn is_usable(node: &Node) -> bool {
    node.can_serve() && node.wish.weight > 0
}

/// The server at which the number, as a part of all numbers, uses up the weights; each has as many
/// numbers as its weight says.
fn at_weight(list: &[Node], places: &[usize], number: u64) -> Option<usize> {
    let total: u64 = places.iter().map(|place| u64::from(list[*place].wish.weight)).sum();
    let mut left = ((u128::from(number) * u128::from(total)) >> 64) as i64;
    places.iter().copied().find(|place| {
        left -= i64::from(list[*place].wish.weight);
        left < 0
    })
}

/// The draws of one call.
struct Draws<'a> {
    list: &'a [Node],
    seed: u64,
    ticket: u64,
}

impl Draws<'_> {
    /// Sixteen looks at all servers, then one at those that can be chosen.
    fn draw(&self, nth: u64) -> Option<usize> {
        let all: Vec<usize> = (0..self.list.len()).collect();
        let usable: Vec<usize> = all.iter().copied().filter(|place| is_usable(&self.list[*place])).collect();
        let number = |look: u64| mix(mix(self.seed).wrapping_add((self.ticket * 17 + nth) * 17 + look));
        let mut looks = (0..16).filter_map(|look| at_weight(self.list, &all, number(look)));
        looks.find(|place| usable.contains(place)).or_else(|| at_weight(self.list, &usable, number(16)))
    }

    /// Somebody else, if there is one: sixteen draws, then the newest.
    fn other(&self, than: usize) -> Option<usize> {
        let newest = || (0..self.list.len()).find(|place| is_usable(&self.list[*place]) && *place != than);
        (1..=16).filter_map(|nth| self.draw(nth)).find(|place| *place != than).or_else(newest)
    }
}

struct Random {
    seed: u64,
}

impl Rule for Random {
    fn pick(&mut self, list: &[Node], call: &Call) -> Option<usize> {
        Draws { list, seed: self.seed, ticket: call.ticket }.draw(0)
    }
}

struct RandomTwo {
    seed: u64,
}

impl Rule for RandomTwo {
    fn pick(&mut self, list: &[Node], call: &Call) -> Option<usize> {
        let draws = Draws { list, seed: self.seed, ticket: call.ticket };
        let first = draws.draw(0)?;
        let Some(second) = draws.other(first) else { return Some(first) };
        let (one, two) = (&list[first], &list[second]);
        let first_is_freer = one.total() * two.wish.weight < two.total() * one.wish.weight;
        Some(if first_is_freer { first } else { second })
    }
}

struct Ewma {
    seed: u64,
}

impl Rule for Ewma {
    fn pick(&mut self, list: &[Node], call: &Call) -> Option<usize> {
        let draws = Draws { list, seed: self.seed, ticket: call.ticket };
        let first = draws.draw(0)?;
        if mix(!mix(self.seed).wrapping_add(call.ticket)).is_multiple_of(64) {
            return Some(first);
        }
        let Some(second) = draws.other(first) else { return Some(first) };
        let (one, two) = (&list[first], &list[second]);
        let known = |node: &Node, other: &Node| {
            let peak = |node: &Node| node.answers.peak(call.now);
            u128::from(peak(node).or_else(|| peak(other)).unwrap_or(1))
        };
        let cost = |node: &Node, other: &Node| known(node, other) * u128::from(node.active + 1);
        let second_is_sooner =
            cost(two, one) * u128::from(one.wish.weight) < cost(one, two) * u128::from(two.wish.weight);
        Some(if second_is_sooner { second } else { first })
    }
}
