//! `Expires` and `Cache-Control` as the `expires` directive says.

use std::time::{Duration, SystemTime};

use http::header::LAST_MODIFIED;
use http::{HeaderMap, HeaderValue};

use crate::conf;
use crate::date;
use crate::model::{Expires, ExpiresFrom, ExpiryTime, When};
use crate::variable::Exchange;

/// Returns the values of `Expires` and `Cache-Control` for an answer with these fields; `None` where
/// nothing is to be said.
pub(super) fn of(
    expires: &Expires,
    exchange: &Exchange<'_>,
    status: u16,
    headers: &HeaderMap,
) -> Option<(HeaderValue, HeaderValue)> {
    if !When::Good.holds(status) {
        return None;
    }
    let time = match expires {
        Expires::Off => return None,
        Expires::Known(time) => *time,
        Expires::Value { from, text } => {
            let mut scratch = Vec::new();
            let text = std::str::from_utf8(text.bytes(exchange, &mut scratch)).ok()?;
            conf::parse_expires(text, *from)?
        }
    };
    let modified = headers.get(LAST_MODIFIED).and_then(|value| value.to_str().ok());
    fields(time, SystemTime::now(), modified.and_then(|text| httpdate::parse_http_date(text).ok()))
}

/// Whether what it says may depend on the fields of an answer.
pub(super) fn looks(expires: &Expires) -> bool {
    match expires {
        Expires::Off => false,
        Expires::Known(time) => {
            matches!(
                time,
                ExpiryTime::Before(ExpiresFrom::Modified, _) | ExpiryTime::After(ExpiresFrom::Modified, _)
            )
        }
        Expires::Value { .. } => true,
    }
}

/// Returns the values of `Expires` and `Cache-Control`; `None` where nothing is said.
fn fields(
    time: ExpiryTime,
    now: SystemTime,
    modified: Option<SystemTime>,
) -> Option<(HeaderValue, HeaderValue)> {
    let fixed = |date, control| Some((HeaderValue::from_static(date), HeaderValue::from_static(control)));
    let since = |from| match from {
        ExpiresFrom::Access => Some(now),
        // What has no such date is as old as the answer, as in nginx.
        ExpiresFrom::Modified => Some(modified.unwrap_or(now)),
    };
    let at = match time {
        ExpiryTime::Off => return None,
        ExpiryTime::Epoch => return fixed("Thu, 01 Jan 1970 00:00:01 GMT", "no-cache"),
        ExpiryTime::Max => return fixed("Thu, 31 Dec 2037 23:55:55 GMT", "max-age=315360000"),
        ExpiryTime::Before(from, time) => since(from)?.checked_sub(time)?,
        ExpiryTime::After(from, time) => since(from)?.checked_add(time)?,
        ExpiryTime::Daily(time) => next_daily(now, time)?,
    };
    // A date that the format does not hold is none.
    if date::sendable(at) != at {
        return None;
    }
    let date = HeaderValue::from_str(&date::http(at)).ok()?;
    let left = at.duration_since(now).map(|left| left.as_secs());
    let control = match left {
        Err(_) => HeaderValue::from_static("no-cache"),
        Ok(_) if matches!(time, ExpiryTime::Before(..)) => HeaderValue::from_static("no-cache"),
        Ok(left) => HeaderValue::from_str(&format!("max-age={left}")).ok()?,
    };
    Some((date, control))
}

/// Returns when it is next this time of day.
fn next_daily(now: SystemTime, time: Duration) -> Option<SystemTime> {
    const DAY: u64 = 24 * 3600;
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    let today = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds - seconds % DAY) + time;
    if today > now { Some(today) } else { today.checked_add(Duration::from_secs(DAY)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(time: ExpiryTime, expected: Option<(&str, &str)>) {
        // Fri, 02 Jan 2026 12:00:00 GMT
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_355_200);
        let modified = now - Duration::from_secs(60);
        let found = fields(time, now, Some(modified));
        let found = found.as_ref().map(|(date, control)| (date.to_str().unwrap(), control.to_str().unwrap()));
        assert_eq!(found, expected, "{time:?}");
    }

    #[test]
    fn times_are_said_in_both_fields() {
        let hour = Duration::from_secs(3600);
        let (access, modified) = (ExpiresFrom::Access, ExpiresFrom::Modified);
        check(ExpiryTime::Off, None);
        check(ExpiryTime::Epoch, Some(("Thu, 01 Jan 1970 00:00:01 GMT", "no-cache")));
        check(ExpiryTime::After(access, hour), Some(("Fri, 02 Jan 2026 13:00:00 GMT", "max-age=3600")));
        check(ExpiryTime::Before(access, hour), Some(("Fri, 02 Jan 2026 11:00:00 GMT", "no-cache")));
        check(ExpiryTime::After(modified, hour), Some(("Fri, 02 Jan 2026 12:59:00 GMT", "max-age=3540")));
        check(ExpiryTime::Daily(hour * 13), Some(("Fri, 02 Jan 2026 13:00:00 GMT", "max-age=3600")));
        check(ExpiryTime::Daily(hour * 12), Some(("Sat, 03 Jan 2026 12:00:00 GMT", "max-age=86400")));
        check(ExpiryTime::After(access, Duration::from_secs(u64::MAX / 4)), None);
    }
}
