//! How long the servers of each upstream take to answer, up to the end of the head.
//!
//! Nothing is timed, and no clock read, unless a page of metrics shows it. What was counted stays
//! through reloads, as what Prometheus calls a counter has to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The times of all upstreams, by name.
#[derive(Default)]
pub(crate) struct Timings {
    upstreams: Mutex<BTreeMap<String, Arc<Histogram>>>,
}

/// How many answers took how long.
#[derive(Default)]
pub(crate) struct Histogram {
    /// Written by all workers. By the first of [`BOUNDS`] that an answer kept, and those that kept none.
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// What was counted up to a moment.
pub(crate) struct Counted {
    /// A bound in seconds, and how many answers kept it.
    pub(crate) within: [(f64, u64); BOUNDS.len()],
    pub(crate) count: u64,
    pub(crate) seconds: f64,
}

impl Timings {
    /// Returns where the times of an upstream are counted.
    pub(crate) fn of(&self, upstream: &str) -> Arc<Histogram> {
        let mut upstreams = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        match upstreams.get(upstream) {
            Some(histogram) => Arc::clone(histogram),
            None => Arc::clone(upstreams.entry(upstream.to_owned()).or_default()),
        }
    }

    /// Returns what was counted, by upstream.
    pub(crate) fn counted(&self) -> Vec<(String, Counted)> {
        let upstreams = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        upstreams.iter().map(|(name, histogram)| (name.clone(), histogram.counted())).collect()
    }
}

impl Histogram {
    /// Counts an answer.
    pub(crate) fn observe(&self, time: Duration) {
        let place = BOUNDS.partition_point(|bound| *bound < time);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    fn counted(&self) -> Counted {
        let mut count = 0;
        let mut within = [(0.0, 0); BOUNDS.len()];
        for ((place, bound), of_bound) in within.iter_mut().zip(BOUNDS).zip(&self.counts) {
            count += of_bound.load(Ordering::Relaxed);
            *place = (bound.as_secs_f64(), count);
        }
        count += self.counts[BOUNDS.len()].load(Ordering::Relaxed);
        let seconds = Duration::from_nanos(self.nanos.load(Ordering::Relaxed)).as_secs_f64();
        Counted { within, count, seconds }
    }
}

/// What answers are told apart by: those of Prometheus' own libraries, and one below for answers
/// from memory.
const BOUNDS: [Duration; 12] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_counts_for_every_bound_that_it_keeps() {
        let histogram = Histogram::default();
        for millis in [1, 2, 700, 20_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let Counted { within, count, seconds } = histogram.counted();
        let kept: Vec<u64> = within.iter().map(|(_, count)| *count).collect();
        assert_eq!(kept, [1, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3]);
        assert_eq!((within[0].0, within[9].0, count, seconds), (0.001, 2.5, 4, 20.703));
    }
}
