//! A moment that the caller hands in.
//!
//! The crate never reads a clock, so a test, a simulation and a proxy run the same code. The
//! caller chooses the epoch; the Unix epoch lets reports print dates.

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

    /// The date in UTC, if the epoch is Unix's: year, month and day, both counted from 1.
    ///
    /// Days are counted from 1 March 0000, so that a leap day is the last of its year; 146 097 days
    /// make 400 years.
    pub fn date(self) -> (u64, u64, u64) {
        let days = self.since_epoch().as_secs() / 86_400 + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        (era * 400 + year + u64::from(month <= 2), month, day)
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Saturates at [`Time::NEVER`].
    fn add(self, later: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(later.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Date and time of day in UTC, as `2038-01-19 03:14:07Z`, if the epoch is Unix's; with digits of the second as
/// the precision says.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000_000_000 % 86_400;
        let (year, month, day) = self.date();
        write!(f, "{year:04}-{month:02}-{day:02} ")?;
        write!(f, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
        if let Some(digits @ 1..) = f.precision() {
            let digits = digits.min(9);
            let part = self.0 % 1_000_000_000 / 10_u64.pow(9 - digits as u32);
            write!(f, ".{part:0digits$}")?;
        }
        f.write_str("Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days() {
        for (seconds, wanted) in [
            (0, (1970, 1, 1)),
            (951_782_399, (2000, 2, 28)),
            (951_782_400, (2000, 2, 29)),
            (951_868_800, (2000, 3, 1)),
            (4_107_542_400, (2100, 3, 1)),
            (1_795_392_000, (2026, 11, 23)),
            (1_798_761_599, (2026, 12, 31)),
        ] {
            assert_eq!(Time::from_epoch(Duration::from_secs(seconds)).date(), wanted);
        }
    }

    #[test]
    fn moment_is_told_with_its_date_and_zone() {
        let moment = Time::from_nanos(2_147_483_647_012_345_678);
        assert_eq!(moment.to_string(), "2038-01-19 03:14:07Z");
        assert_eq!(format!("{moment:.0}"), "2038-01-19 03:14:07Z");
        assert_eq!(format!("{moment:.3}"), "2038-01-19 03:14:07.012Z");
        assert_eq!(format!("{moment:.20}"), "2038-01-19 03:14:07.012345678Z");
    }
}
