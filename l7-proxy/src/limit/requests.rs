//! How fast requests with a key follow each other: nginx's leaky bucket.
//!
//! A bucket holds what of its requests has not leaked away, in thousandths of a request, so that a
//! slow rate keeps its fractions. A zone that is full forgets the keys that were asked for longest
//! ago: they are in two lots, a key that is asked for goes into the younger one, and when that is
//! full it becomes the older one, whose keys go.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::cost;

/// Buckets of one zone.
pub(crate) struct Requests {
    /// Thousandths of a request per second.
    rate: u64,
    began: Instant,
    lots: Mutex<Lots>,
}

struct Lots {
    young: Lot,
    old: Lot,
    /// Bytes that the keys of the younger lot may still take.
    left: u64,
    /// Bytes that a lot may take.
    size: u64,
}

type Lot = HashMap<Box<[u8]>, Bucket, foldhash::fast::RandomState>;

#[derive(Clone, Copy, Default)]
struct Bucket {
    /// Thousandths of requests that have not leaked away.
    excess: u64,
    /// When that was so, in milliseconds.
    at: u64,
}

/// What a bucket says of one more request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It fits in; so much is in the bucket then.
    Fits { excess: u64 },
    /// It would be too much.
    Overflows { excess: u64 },
}

impl Requests {
    pub(super) fn new(size: u64, rate: u64) -> Requests {
        let size = size / 2;
        let lots = Lots { young: Lot::default(), old: Lot::default(), left: size, size };
        Requests { rate, began: Instant::now(), lots: Mutex::new(lots) }
    }

    /// Milliseconds since the zone was made.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Says whether one more request with this key fits in beside `burst` others; nothing changes.
    pub(crate) fn look(&self, key: &[u8], burst: u32, now: u64) -> Asked {
        let excess = self.lots().bucket(key).map_or(0, |bucket| self.with_one_more(*bucket, now));
        judge(excess, burst)
    }

    /// The same; a request that fits in is counted.
    pub(crate) fn take(&self, key: &[u8], burst: u32, now: u64) -> Asked {
        let mut lots = self.lots();
        let excess = lots.bucket(key).map_or(0, |bucket| self.with_one_more(*bucket, now));
        let asked = judge(excess, burst);
        if let Asked::Fits { excess } = asked {
            *lots.entry(key) = Bucket { excess, at: now };
        }
        asked
    }

    /// Counts a request that was found to fit in.
    pub(crate) fn count(&self, key: &[u8], now: u64) {
        self.take(key, u32::MAX, now);
    }

    /// How long a request waits until `beyond` thousandths of requests have leaked away.
    pub(crate) fn wait(&self, beyond: u64) -> Duration {
        Duration::from_millis(beyond.saturating_mul(1000) / self.rate)
    }

    fn with_one_more(&self, bucket: Bucket, now: u64) -> u64 {
        let leaked = self.rate.saturating_mul(now.saturating_sub(bucket.at)) / 1000;
        (bucket.excess + 1000).saturating_sub(leaked)
    }

    fn lots(&self) -> MutexGuard<'_, Lots> {
        self.lots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn judge(excess: u64, burst: u32) -> Asked {
    if excess > u64::from(burst) * 1000 { Asked::Overflows { excess } } else { Asked::Fits { excess } }
}

impl Lots {
    /// Returns the bucket of a key, which thereby is of the younger lot.
    fn bucket(&mut self, key: &[u8]) -> Option<&mut Bucket> {
        if let Some(bucket) = self.old.remove(key) {
            *self.entry(key) = bucket;
        }
        self.young.get_mut(key)
    }

    /// Returns the bucket of a key, a new one if there is none.
    fn entry(&mut self, key: &[u8]) -> &mut Bucket {
        if !self.young.contains_key(key) {
            match self.left.checked_sub(cost(key)) {
                Some(left) => self.left = left,
                None => {
                    self.old = std::mem::take(&mut self.young);
                    self.left = self.size.saturating_sub(cost(key));
                }
            }
        }
        self.young.entry(key.into()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FITS: Asked = Asked::Fits { excess: 0 };

    fn zone(rate: u64) -> Requests {
        Requests::new(1 << 20, rate)
    }

    #[test]
    fn one_request_per_second_is_one_per_second() {
        let zone = zone(1000);
        assert_eq!(zone.take(b"a", 0, 0), FITS);
        assert_eq!(zone.take(b"a", 0, 999), Asked::Overflows { excess: 1 });
        assert_eq!(zone.take(b"b", 0, 999), FITS);
        assert_eq!(zone.take(b"a", 0, 1000), FITS);
    }

    #[test]
    fn burst_is_taken_at_once_and_leaks_away() {
        let zone = zone(2000);
        let taken: Vec<Asked> = (0..4).map(|_| zone.take(b"a", 2, 5)).collect();
        let fits = |excess| Asked::Fits { excess };
        assert_eq!(taken, [fits(0), fits(1000), fits(2000), Asked::Overflows { excess: 3000 }]);
        assert_eq!(zone.take(b"a", 2, 505), fits(2000));
        assert_eq!(zone.wait(2000), Duration::from_secs(1));
    }

    #[test]
    fn looking_counts_nothing() {
        let zone = zone(1000);
        for _ in 0..3 {
            assert_eq!(zone.look(b"a", 0, 0), FITS);
        }
        zone.count(b"a", 0);
        assert_eq!(zone.look(b"a", 0, 0), Asked::Overflows { excess: 1000 });
    }

    #[test]
    fn full_zone_forgets_who_was_not_seen_for_longest() {
        let zone = Requests::new(4 * cost(b"0"), 1000);
        zone.take(b"a", 0, 0);
        for other in [b"1", b"2", b"3"] {
            zone.take(other, 0, 0);
            assert_eq!(zone.take(b"a", 0, 0), Asked::Overflows { excess: 1000 });
        }
        assert_eq!(zone.take(b"1", 0, 0), FITS);
    }
}
