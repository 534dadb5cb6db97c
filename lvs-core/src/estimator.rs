//! Rates per second out of counters, as IPVS estimates them.
//!
//! Every two seconds the rate since the last sample moves the estimate by a quarter of what they
//! differ by (`ip_vs_est.c`), in the kernel's fixed point: with samples two seconds apart the
//! numbers are the kernel's. A sample that comes late is divided by the time that did pass, where
//! the kernel would show the delay as a burst.

use std::time::Duration;

use crate::time::Time;

/// What passes in a second, by IPVS's estimate: a mean that forgets (`ipvsadm -L --rate`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rates {
    /// Connections scheduled (CPS).
    pub connections: u64,
    /// Packets from clients (InPPS).
    pub packets_in: u64,
    /// Packets to clients (OutPPS).
    pub packets_out: u64,
    /// Bytes from clients (InBPS).
    pub bytes_in: u64,
    /// Bytes to clients (OutBPS).
    pub bytes_out: u64,
}

/// Counters at one moment: connections, packets in and out, bytes in and out.
pub(crate) type Totals = [u64; 5];

/// The estimate of one service or server.
#[derive(Debug, Default)]
pub(crate) struct Estimator {
    last: Totals,
    /// The rates, with as many binary places as `PLACES` says.
    scaled: [u64; 5],
    sampled: Option<Time>,
}

impl Estimator {
    /// Takes in the counters, if it is time for a sample. The first call only notes the moment:
    /// what was counted before it belongs to the first sample.
    pub(crate) fn sample(&mut self, totals: Totals, now: Time) {
        let Some(sampled) = self.sampled else {
            self.sampled = Some(now);
            return;
        };
        let elapsed = now.since(sampled);
        if elapsed < DUE {
            return;
        }
        for ((scaled, places), (last, total)) in
            self.scaled.iter_mut().zip(PLACES).zip(self.last.iter_mut().zip(totals))
        {
            let counted = u128::from(total.saturating_sub(*last)) << places;
            let rate = u64::try_from(counted * NANOS / elapsed.as_nanos()).unwrap_or(u64::MAX);
            // As the kernel's arithmetic shift: down, also where the difference is negative.
            let step = (i128::from(rate) - i128::from(*scaled)) >> 2;
            *scaled = u64::try_from(i128::from(*scaled) + step).unwrap_or(u64::MAX);
            *last = total;
        }
        self.sampled = Some(now);
    }

    /// Starts anew from counters that have been set to zero.
    pub(crate) fn reset(&mut self) {
        *self = Estimator { sampled: self.sampled, ..Estimator::default() };
    }

    pub(crate) fn rates(&self) -> Rates {
        let rounded = |index: usize| {
            let places: u32 = PLACES[index];
            self.scaled[index].saturating_add((1 << (places - 1)) - 1) >> places
        };
        Rates {
            connections: rounded(0),
            packets_in: rounded(1),
            packets_out: rounded(2),
            bytes_in: rounded(3),
            bytes_out: rounded(4),
        }
    }
}

const PLACES: [u32; 5] = [10, 10, 10, 5, 5];

const NANOS: u128 = 1_000_000_000;

/// A little less than the two seconds that samples lie apart, so that a clock that is called every
/// second and sometimes a little early does not skip one.
const DUE: Duration = Duration::from_millis(1900);

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's arithmetic for one counter, two seconds a sample.
    fn kernel(samples: &[u64], places: u32) -> Vec<u64> {
        let (mut last, mut estimate) = (0i64, 0i64);
        let step = |total: &u64| {
            let total = i64::try_from(*total).unwrap();
            let rate = (total - last) << (places - 1);
            last = total;
            estimate += (rate - estimate) >> 2;
            u64::try_from((estimate + (1 << (places - 1)) - 1) >> places).unwrap()
        };
        samples.iter().map(step).collect()
    }

    fn at(millis: u64) -> Time {
        Time::from_epoch(Duration::from_millis(millis))
    }

    #[test]
    fn rates_at_two_seconds_are_the_kernels_to_the_last_unit() {
        let samples: Vec<u64> = (1..60u64).map(|n| n * n * 37 + if n > 30 { 90_000 } else { n }).collect();
        let (by_ten, by_five) = (kernel(&samples, 10), kernel(&samples, 5));
        let mut estimator = Estimator::default();
        estimator.sample([0; 5], at(0));
        for (place, total) in samples.iter().enumerate() {
            estimator.sample([*total; 5], at(2000 * (place as u64 + 1)));
            let Rates { connections, packets_in, packets_out, bytes_in, bytes_out } = estimator.rates();
            assert_eq!([connections, packets_in, packets_out], [by_ten[place]; 3]);
            assert_eq!([bytes_in, bytes_out], [by_five[place]; 2]);
        }
    }

    #[test]
    fn steady_traffic_is_estimated_at_its_rate_whatever_the_distance_of_samples() {
        for distance in [1900, 2000, 2300, 7000] {
            let mut estimator = Estimator::default();
            for sample in 0..60 {
                let millis = sample * distance;
                estimator.sample([millis / 2; 5], at(millis));
            }
            let rates = estimator.rates();
            assert!((499..=500).contains(&rates.connections), "{distance}: {rates:?}");
            assert!((499..=500).contains(&rates.bytes_in), "{distance}: {rates:?}");
        }
    }

    #[test]
    fn rate_falls_to_nothing_when_traffic_ends() {
        let mut estimator = Estimator::default();
        for second in 0..200 {
            estimator.sample([second.min(20) * 1000; 5], at(second * 1000));
        }
        assert_eq!(estimator.rates(), Rates::default());
    }

    #[test]
    fn counters_set_to_zero_are_no_negative_rate() {
        let mut estimator = Estimator::default();
        estimator.sample([0; 5], at(0));
        estimator.sample([1000; 5], at(2000));
        estimator.reset();
        assert_eq!(estimator.rates(), Rates::default());
        estimator.sample([8; 5], at(4000));
        assert_eq!(estimator.rates().connections, 1);
    }

    #[test]
    fn call_between_two_samples_changes_nothing() {
        let mut estimator = Estimator::default();
        estimator.sample([0; 5], at(0));
        estimator.sample([1000; 5], at(1000));
        assert_eq!(estimator.rates(), Rates::default());
        estimator.sample([2000; 5], at(2000));
        assert_eq!(estimator.rates().connections, 250);
    }
}
