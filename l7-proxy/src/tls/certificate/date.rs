//! Moments, as certificates write them and as OpenSSL prints them.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use l4_proxy::tls::der::{GENERALIZED_TIME, UTC_TIME, take};

/// A moment, as certificates write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date<'a> {
    year_digits: usize,
    text: &'a [u8],
}

impl<'a> Date<'a> {
    /// Takes one off the front.
    pub(in crate::tls) fn take(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (tag, text, rest) = take(bytes)?;
        let year_digits = match tag {
            UTC_TIME => 2,
            GENERALIZED_TIME => 4,
            _ => return None,
        };
        let date = Self { year_digits, text };
        date.fields().map(|_| (date, rest))
    }

    /// Year, month, day, hour, minute, second.
    fn fields(&self) -> Option<[i64; 6]> {
        let (year, rest) = self.text.split_at_checked(self.year_digits)?;
        let rest = rest.strip_suffix(b"Z")?;
        if rest.len() != 10 {
            return None;
        }
        let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<i64>().ok();
        let mut fields = [number(year)?, 0, 0, 0, 0, 0];
        for (field, digits) in fields[1..].iter_mut().zip(rest.chunks(2)) {
            *field = number(digits)?;
        }
        if self.year_digits == 2 {
            // Two digits are a year between 1950 and 2049.
            fields[0] += if fields[0] < 50 { 2000 } else { 1900 };
        }
        (1..=12).contains(&fields[1]).then_some(fields)
    }

    /// Returns the seconds since 1970.
    pub(in crate::tls) fn seconds(&self) -> i64 {
        let [year, month, day, hour, minute, second] = self.fields().unwrap_or_default();
        // Days of the proleptic Gregorian calendar, counted in years that begin in March.
        let shifted = if month <= 2 { year - 1 } else { year };
        let era = shifted.div_euclid(400);
        let of_era = shifted.rem_euclid(400);
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
        days * 86_400 + hour * 3600 + minute * 60 + second
    }

    /// Returns the whole days that are left of it; 0 if it is over.
    pub fn days_left(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        (self.seconds() - i64::try_from(now).unwrap_or(i64::MAX)).max(0) / 86_400
    }
}

impl fmt::Display for Date<'_> {
    /// As OpenSSL prints it: `Jan  2 03:04:05 2026 GMT`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [year, month, day, hour, minute, second] = self.fields().unwrap_or_default();
        let month = usize::try_from(month - 1).ok().and_then(|month| MONTHS.get(month)).unwrap_or(&"");
        write!(f, "{month} {day:2} {hour:02}:{minute:02}:{second:02} {year} GMT")
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
