//! How fast a server answers, as its clients report it.
//!
//! Two estimates, since two schedulers ask different questions. The *mean* follows the answers, an
//! eighth of the way each. The *peak* (Finagle's peak-EWMA) jumps to a slow answer at once and comes
//! back by half every few seconds; without any answer it goes on sinking, so that a server that was
//! slow is tried again. A failure is an answer that took very long: a server that refuses at once
//! must not look fast.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::Time;

/// Written by whoever reports; a lost update costs one answer.
#[derive(Default)]
pub(crate) struct Latency {
    /// Nanoseconds; 0 before the first answer.
    mean: AtomicU64,
    /// Microseconds in the high half, 0 before the first answer; when that was in the low half, in
    /// ticks of 2²⁴ ns, which wrap after two years.
    peak: AtomicU64,
}

impl Latency {
    /// Takes in an answer.
    pub(crate) fn observe(&self, latency: Duration, now: Time) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1);
        let mean = self.mean.load(Ordering::Relaxed);
        let moved = if mean == 0 { nanos } else { mean - mean / SHARE + nanos / SHARE };
        self.mean.store(moved.max(1), Ordering::Relaxed);
        self.move_peak(micros(latency), now);
    }

    /// Takes in a failure.
    pub(crate) fn failed(&self, now: Time) {
        let (peak, _) = unpack(self.peak.load(Ordering::Relaxed));
        let penalty = PENALTY.max(Duration::from_micros(u64::from(peak)).saturating_mul(2)).min(PENALTY_MAX);
        self.move_peak(micros(penalty), now);
    }

    fn move_peak(&self, sample: u32, now: Time) {
        let tick = ticks(now);
        // The closure never declines.
        let _ = self.peak.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |packed| {
            let (peak, at) = unpack(packed);
            let kept = decayed(peak, tick.wrapping_sub(at));
            let moved = if kept < sample {
                sample
            } else {
                // As much as has decayed is made up for by the answer.
                kept + (u64::from(sample) * u64::from(peak - kept) / u64::from(peak.max(1))) as u32
            };
            Some(u64::from(moved) << 32 | u64::from(tick))
        });
    }

    /// The mean of the answers, if there were any.
    pub(crate) fn mean(&self) -> Option<Duration> {
        let nanos = self.mean.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// What is to be feared of the server now, if anything is known.
    pub(crate) fn peak(&self, now: Time) -> Option<Duration> {
        let packed = self.peak.load(Ordering::Relaxed);
        let (peak, at) = unpack(packed);
        let micros = decayed(peak, ticks(now).wrapping_sub(at)).max(1);
        (packed != 0).then(|| Duration::from_micros(u64::from(micros)))
    }
}

/// What is left after so many ticks: halved every half-life, and on a straight line in between.
fn decayed(peak: u32, ticks: u32) -> u32 {
    // A clock that stepped back looks like one that ran far ahead.
    if ticks > u32::MAX / 2 {
        return peak;
    }
    let halved = peak.checked_shr(ticks / HALF_LIFE_TICKS).unwrap_or(0);
    halved - (u64::from(halved / 2) * u64::from(ticks % HALF_LIFE_TICKS) / u64::from(HALF_LIFE_TICKS)) as u32
}

/// At least one: nothing known is another thing than nothing taken.
fn micros(latency: Duration) -> u32 {
    u32::try_from(latency.as_micros()).unwrap_or(u32::MAX).max(1)
}

fn ticks(now: Time) -> u32 {
    (now.as_nanos() >> 24) as u32
}

fn unpack(packed: u64) -> (u32, u32) {
    ((packed >> 32) as u32, packed as u32)
}

/// An answer moves the mean by one part of so many.
const SHARE: u64 = 8;

/// About five seconds.
const HALF_LIFE_TICKS: u32 = 298;

/// What a failure counts as, at least.
const PENALTY: Duration = Duration::from_secs(10);

/// What failures in a row count as, at most.
const PENALTY_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_epoch(Duration::from_millis(millis))
    }

    const FAST: Duration = Duration::from_millis(10);

    #[test]
    fn slow_answer_counts_at_once_and_is_halved_in_five_seconds() {
        let latency = Latency::default();
        assert_eq!(latency.peak(at(0)), None);
        latency.observe(FAST, at(0));
        latency.observe(FAST * 100, at(0));
        assert_eq!(latency.peak(at(0)), Some(FAST * 100));
        let later = latency.peak(at(5_000)).expect("known");
        assert!((FAST * 50..FAST * 52).contains(&later), "{later:?}");
        assert!(latency.peak(at(3_600_000)).expect("known") < FAST);
    }

    #[test]
    fn peak_settles_at_the_answers_that_keep_coming() {
        let latency = Latency::default();
        latency.observe(FAST * 100, at(0));
        (1..1000).for_each(|n| latency.observe(FAST, at(n * 100)));
        let settled = latency.peak(at(99_900)).expect("known");
        assert!((FAST * 9 / 10..FAST * 12 / 10).contains(&settled), "{settled:?}");
    }

    #[test]
    fn failure_is_worse_than_any_common_answer() {
        let latency = Latency::default();
        latency.observe(FAST, at(0));
        latency.failed(at(0));
        assert!(latency.peak(at(0)) >= Some(PENALTY));
    }
}
