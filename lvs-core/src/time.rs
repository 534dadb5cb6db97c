//! A moment that the caller hands in.
//!
//! The crate never reads a clock, so a test, a simulation and a proxy run the same code. The
//! caller chooses the epoch; the Unix epoch lets reports print times of day.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// A moment, in nanoseconds since an epoch that the caller chose.
///
/// All moments given to one [`Director`](crate::Director) must come from one clock. A clock that
/// steps back does no harm beyond late timeouts: differences saturate at zero. With a clock that
/// stands still no ejection ends and no template runs out.
///
/// ```
/// # use std::time::{Instant, SystemTime};
/// # use lvs_core::Time;
/// // Either of these is a clock; the first one never steps, the second one outlives the process.
/// let started = Instant::now();
/// let monotonic = || Time::from_epoch(started.elapsed());
/// let of_day = || Time::from_epoch(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default());
/// # assert!(monotonic() < of_day());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The epoch itself.
    pub const ZERO: Time = Time(0);
    /// Later than any moment: the time of what never happens.
    pub const NEVER: Time = Time(u64::MAX);

    /// The moment this long after the epoch; past the year 2554 it is [`Time::NEVER`].
    pub const fn from_epoch(elapsed: Duration) -> Time {
        let nanos = elapsed.as_nanos();
        if nanos > u64::MAX as u128 { Time::NEVER } else { Time(nanos as u64) }
    }

    /// The moment `nanos` nanoseconds after the epoch.
    pub const fn from_nanos(nanos: u64) -> Time {
        Time(nanos)
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time since the epoch.
    pub const fn since_epoch(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// How long `self` is after `earlier`; zero if it is not.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Saturates at [`Time::NEVER`].
    fn add(self, later: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(later.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Time of day in UTC, as `12:03:04`.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000_000_000 % 86_400;
        write!(f, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}
