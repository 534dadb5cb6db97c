//! Times as logs and fields show them: logs in the time of this machine, as nginx's, whatever goes out in UTC.

use std::cell::RefCell;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderValue;
use rustix::time::{ClockId, clock_gettime};

use crate::zone;

/// Appends `02/Jan/2026:15:04:05 +0100`.
pub(crate) fn write_log(time: SystemTime, out: &mut Vec<u8>) {
    write_log_in(ahead(time), time, out);
}

fn write_log_in(ahead: i64, time: SystemTime, out: &mut Vec<u8>) {
    let Utc { year, month, day, hour, minute, second } = Utc::new(moved(time, ahead));
    let month = MONTHS[month as usize - 1];
    // Writing to a Vec cannot fail.
    _ = write!(out, "{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} ");
    write_offset(ahead, "", out);
}

/// Appends `2026-01-02T15:04:05+01:00`.
pub(crate) fn write_iso8601(time: SystemTime, out: &mut Vec<u8>) {
    write_iso8601_in(ahead(time), time, out);
}

fn write_iso8601_in(ahead: i64, time: SystemTime, out: &mut Vec<u8>) {
    let Utc { year, month, day, hour, minute, second } = Utc::new(moved(time, ahead));
    _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    write_offset(ahead, ":", out);
}

/// Appends `2026-01-02T15:04:05Z`.
pub(crate) fn write_utc(time: SystemTime, out: &mut Vec<u8>) {
    let Utc { year, month, day, hour, minute, second } = Utc::new(time);
    _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
}

/// Appends `02-Jan-2026 15:04` in a zone that is so many seconds ahead of UTC.
pub(crate) fn write_listing(time: SystemTime, ahead: i64, out: &mut Vec<u8>) {
    let Utc { year, month, day, hour, minute, .. } = Utc::new(moved(time, ahead));
    let month = MONTHS[month as usize - 1];
    _ = write!(out, "{day:02}-{month}-{year:04} {hour:02}:{minute:02}");
}

/// How many seconds the clocks of this machine are ahead of UTC.
pub(crate) fn ahead(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    zone::offset(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// What the clocks of this machine show.
fn local(time: SystemTime) -> Utc {
    Utc::new(moved(time, ahead(time)))
}

fn moved(time: SystemTime, ahead: i64) -> SystemTime {
    let by = Duration::from_secs(ahead.unsigned_abs());
    let moved = if ahead < 0 { time.checked_sub(by) } else { time.checked_add(by) };
    moved.unwrap_or(time)
}

fn write_offset(ahead: i64, between: &str, out: &mut Vec<u8>) {
    let (sign, minutes) = (if ahead < 0 { '-' } else { '+' }, ahead.abs() / 60);
    _ = write!(out, "{sign}{:02}{between}{:02}", minutes / 60, minutes % 60);
}

/// Appends `2026/01/02 15:04:05`.
pub(crate) fn write_error(time: SystemTime, out: &mut Vec<u8>) {
    let Utc { year, month, day, hour, minute, second } = local(time);
    _ = write!(out, "{year:04}/{month:02}/{day:02} {hour:02}:{minute:02}:{second:02}");
}

/// Appends `Jan  2 15:04:05`.
pub(crate) fn write_syslog(time: SystemTime, out: &mut Vec<u8>) {
    let Utc { month, day, hour, minute, second, .. } = local(time);
    let month = MONTHS[month as usize - 1];
    _ = write!(out, "{month} {day:2} {hour:02}:{minute:02}:{second:02}");
}

/// Returns a time as cookies of old have it: `Fri, 02-Jan-26 15:04:05 GMT`; the year is whole from 2038 on.
pub(crate) fn cookie(time: SystemTime) -> String {
    let Utc { year, month, day, hour, minute, second } = Utc::new(time);
    let days = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400;
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][days as usize % 7];
    let month = MONTHS[month as usize - 1];
    let year = if year > 2037 { format!("{year}") } else { format!("{:02}", year % 100) };
    format!("{weekday}, {day:02}-{month}-{year} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Returns a time as fields of HTTP have it: `Fri, 02 Jan 2026 15:04:05 GMT`; one that they cannot have is
/// the nearest that they can.
pub(crate) fn http(time: SystemTime) -> String {
    httpdate::fmt_http_date(sendable(time))
}

/// Appends the present time as fields of HTTP have it.
///
/// It is written anew once a second.
pub(crate) fn write_http(out: &mut Vec<u8>) {
    thread_local! {
        static LATEST: RefCell<(i64, String)> = const { RefCell::new((-1, String::new())) };
    }
    let second = clock_gettime(ClockId::RealtimeCoarse).tv_sec;
    LATEST.with_borrow_mut(|(latest, text)| {
        if *latest != second {
            let since = Duration::from_secs(second.unsigned_abs());
            (*latest, *text) = (second, http(SystemTime::UNIX_EPOCH + since));
        }
        out.extend_from_slice(text.as_bytes());
    });
}

/// The present time as the value of a field.
pub(crate) fn header() -> HeaderValue {
    let mut text = Vec::new();
    write_http(&mut text);
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static(""))
}

/// Reads a date in one of the three formats of HTTP, as seconds since 1970.
pub(crate) fn parse(value: &HeaderValue) -> Option<u64> {
    let date = httpdate::parse_http_date(value.to_str().ok()?).ok()?;
    Some(date.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
}

/// A time that a field can have: what is earlier or later than those is the first or the last of them.
pub(crate) fn sendable(time: SystemTime) -> SystemTime {
    let last = SystemTime::UNIX_EPOCH + LAST;
    time.clamp(SystemTime::UNIX_EPOCH, last)
}

/// The end of the year 9999.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// A time of the Gregorian calendar.
struct Utc {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Utc {
    fn new(time: SystemTime) -> Self {
        let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
        // Years begin in March here, so that the leap day is the last of its year: days since
        // 0000-03-01, then the 400-year cycle, the year in it, and the day of that year.
        let days = days + 719_468;
        let (cycle, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day_of_year = day - (365 * year + year / 4 - year / 100);
        // Months have 30.6 days on average from March on.
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Self {
            year: cycle * 400 + year + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            hour: second_of_day / 3600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
        }
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    #[test]
    fn every_day_of_four_centuries_follows_its_predecessor() {
        let mut expected = (1970, 1, 1);
        for day in 0..146_097_u64 {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(day * 86_400 + 86_399);
            let utc = super::Utc::new(time);
            assert_eq!((utc.year, utc.month, utc.day), expected);
            assert_eq!((utc.hour, utc.minute, utc.second), (23, 59, 59));
            expected = next(expected);
        }
    }

    fn next((year, month, day): (u64, u64, u64)) -> (u64, u64, u64) {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        match (month, day) {
            (12, 31) => (year + 1, 1, 1),
            (_, day) if day == length => (year, month + 1, 1),
            (_, day) => (year, month, day + 1),
        }
    }

    #[test]
    fn logs_show_the_time_as_nginx_does() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_366_245);
        let mut line = Vec::new();
        super::write_log_in(3600, time, &mut line);
        line.push(b' ');
        super::write_iso8601_in(-9 * 1800, time, &mut line);
        assert_eq!(line, b"02/Jan/2026:16:04:05 +0100 2026-01-02T10:34:05-04:30");
    }
}
