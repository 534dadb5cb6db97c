//! How many requests may be sent a second time.
//!
//! When servers fail because there is too much to do, trying everything twice is what keeps them
//! from getting up again. So at most a fifth of the requests of the last ten seconds are sent to
//! another server, and three at a time in any case: a quiet site has no fifth to speak of. A
//! request that no server got does not count, for it costs none of them anything.

use std::cell::Cell;
use std::time::Duration;

use crate::moment::Moment;

/// The budget of one upstream, on one worker.
#[derive(Debug)]
pub(crate) struct Budget {
    began: Cell<Moment>,
    /// Requests and repetitions of the present period and of the one before.
    present: Cell<(u64, u64)>,
    before: Cell<(u64, u64)>,
    /// Requests that are being repeated.
    under_way: Cell<u32>,
}

/// A repetition that is under way; over when dropped.
pub(crate) struct Repetition<'a>(&'a Budget);

impl Budget {
    pub(crate) fn new(now: Moment) -> Budget {
        Budget {
            began: Cell::new(now),
            present: Cell::new((0, 0)),
            before: Cell::new((0, 0)),
            under_way: Cell::new(0),
        }
    }

    /// Counts a request.
    pub(crate) fn count(&self, now: Moment) {
        let elapsed = now.since(self.began.get());
        if elapsed >= PERIOD {
            // What is older than two periods has no part in anything.
            let before = if elapsed < 2 * PERIOD { self.present.get() } else { (0, 0) };
            self.before.set(before);
            self.present.set((0, 0));
            self.began.set(now);
        }
        let (requests, repeated) = self.present.get();
        self.present.set((requests + 1, repeated));
    }

    /// Takes the means for a repetition, if there are any.
    pub(crate) fn repeat(&self) -> Option<Repetition<'_>> {
        let ((requests, repeated), before) = (self.present.get(), self.before.get());
        let affordable = (repeated + before.1 + 1) * SHARE <= requests + before.0;
        if !affordable && self.under_way.get() >= AT_A_TIME {
            return None;
        }
        self.present.set((requests, repeated + 1));
        self.under_way.set(self.under_way.get() + 1);
        Some(Repetition(self))
    }
}

impl Drop for Repetition<'_> {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
    }
}

/// One request in so many may be repeated.
const SHARE: u64 = 5;

/// As many may be repeated at a time, whatever the share.
const AT_A_TIME: u32 = 3;

/// Half of the time that is looked back on at most.
const PERIOD: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifth_of_the_requests_may_be_repeated() {
        let now = Moment::now();
        let budget = Budget::new(now);
        (0..100).for_each(|_| budget.count(now));
        let repetitions: Vec<_> = std::iter::from_fn(|| budget.repeat()).collect();
        assert_eq!(repetitions.len(), 20);
    }

    #[test]
    fn three_at_a_time_may_be_repeated_in_any_case() {
        let now = Moment::now();
        let budget = Budget::new(now);
        let mut repetitions: Vec<_> = std::iter::from_fn(|| budget.repeat()).collect();
        assert_eq!(repetitions.len(), 3);
        repetitions.pop();
        assert!(budget.repeat().is_some());
    }

    #[test]
    fn what_was_long_ago_does_not_count() {
        let now = Moment::now();
        let budget = Budget::new(now);
        (0..100).for_each(|_| budget.count(now));
        budget.count(now + PERIOD);
        let repetitions: Vec<_> = std::iter::from_fn(|| budget.repeat()).collect();
        assert_eq!(repetitions.len(), 101 / 5, "the period before counts");
        drop(repetitions);
        budget.count(now + 3 * PERIOD);
        let repetitions: Vec<_> = std::iter::from_fn(|| budget.repeat()).collect();
        assert_eq!(repetitions.len(), 3);
    }
}
