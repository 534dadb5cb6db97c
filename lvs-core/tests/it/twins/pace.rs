//! What a server's answers leave behind, and `least_time`, which goes by it.

use std::collections::BTreeMap;

use lvs_core::Algorithm;
use proptest::prelude::*;

use super::kernel::{Kernel, Node, Rule};
use super::{Call, Pair, answering_steps, limited_wish, without_ejection};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn least_time_picks_as_its_twin(steps in answering_steps(limited_wish().boxed())) {
        Pair::of(without_ejection(Algorithm::LeastTime), Kernel::new(LeastTime::default())).play(steps)?;
    }
}

/// A server's answers: their mean in nanoseconds, and their peak in microseconds with the tick when
/// that was.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) mean: Option<u64>,
    peak: Option<(u64, u64)>,
}

/// About a sixtieth of a second.
fn tick(seconds: u64) -> u64 {
    (seconds * 1_000_000_000) >> 24
}

/// Half of it after five seconds, and a straight line from half to half.
fn decayed(mut peak: u64, mut ticks: u64) -> u64 {
    while ticks >= 298 && peak > 0 {
        peak /= 2;
        ticks -= 298;
    }
    peak - peak / 2 * ticks.min(298) / 298
}

impl Answers {
    /// An answer that took so many milliseconds, or a failure.
    pub(super) fn take(&mut self, millis: Option<u64>, now: u64) {
        let micros = match millis {
            Some(millis) => {
                let nanos = millis * 1_000_000;
                self.mean = Some(self.mean.map_or(nanos, |mean| mean - mean / 8 + nanos / 8).max(1));
                (millis * 1_000).max(1)
            }
            None => (2 * self.peak.map_or(0, |(peak, _)| peak)).clamp(10_000_000, 60_000_000),
        };
        let (peak, at) = self.peak.unwrap_or_default();
        let kept = decayed(peak, tick(now) - at);
        let moved = if kept < micros { micros } else { kept + micros * (peak - kept) / peak.max(1) };
        self.peak = Some((moved, tick(now)));
    }

    /// Microseconds.
    pub(super) fn peak(&self, now: u64) -> Option<u64> {
        self.peak.map(|(peak, at)| decayed(peak, tick(now) - at).max(1))
    }
}

#[derive(Default)]
struct LeastTime {
    credit: BTreeMap<u8, i64>,
    /// Server, weight and weight before it was quiesced, as the credits were given.
    seats: Vec<(u8, u32, u32)>,
}

impl Rule for LeastTime {
    fn pick(&mut self, list: &[Node], _call: &Call) -> Option<usize> {
        let usable: Vec<usize> = (0..list.len())
            .rev()
            .filter(|place| list[*place].can_serve() && list[*place].wish.weight > 0)
            .collect();
        let fastest = usable.iter().filter_map(|place| list[*place].answers.mean).min().unwrap_or(1);
        let cost = |place: usize| {
            let pace = list[place].answers.mean.unwrap_or(fastest);
            u128::from(pace) * (u128::from(list[place].total()) + 1)
        };
        let weight = |place: usize| u128::from(list[place].wish.weight);
        let no_more = |one: usize, other: usize| cost(one) * weight(other) <= cost(other) * weight(one);
        let least: Vec<usize> =
            usable.iter().copied().filter(|one| usable.iter().all(|other| no_more(*one, *other))).collect();
        if least.len() < 2 {
            return least.first().copied();
        }
        for place in &least {
            *self.credit.entry(list[*place].server).or_default() += i64::from(list[*place].wish.weight);
        }
        let credits = least.iter().map(|place| self.credit[&list[*place].server]);
        let most = credits.max().expect("two at least");
        let best = *least.iter().find(|place| self.credit[&list[**place].server] == most).expect("the most");
        let total: i64 = least.iter().map(|place| i64::from(list[*place].wish.weight)).sum();
        *self.credit.entry(list[best].server).or_default() -= total;
        Some(best)
    }

    fn changed(&mut self, list: &[Node]) {
        let seats = list.iter().map(|node| (node.server, node.wish.weight, node.last_weight)).collect();
        if self.seats != seats {
            self.seats = seats;
            self.credit.clear();
        }
    }
}
