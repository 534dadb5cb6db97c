//! The one clock of a process: monotonic, and set once to the time of day.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lvs_core::Time;

/// The present moment since the Unix epoch, as a clock that never steps.
///
/// The time of day is read once, at the first call; from then on the clock only counts. A step of
/// the system's clock therefore expires no template and ends no ejection.
pub fn now() -> Time {
    static START: LazyLock<(Instant, Duration)> =
        LazyLock::new(|| (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()));
    Time::from_epoch(START.1 + START.0.elapsed())
}

/// The date of a moment in UTC: year, month and day, both counted from 1.
///
/// Days are counted from 1 March 0000, so that a leap day is the last of its year; 146 097 days
/// make 400 years.
pub fn date(moment: Time) -> (u64, u64, u64) {
    let days = moment.since_epoch().as_secs() / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
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
            assert_eq!(date(Time::from_epoch(Duration::from_secs(seconds))), wanted);
        }
    }
}
