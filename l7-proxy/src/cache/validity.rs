//! How long an answer is good, by what its server says and what the configuration says, in nginx's reading.
//!
//! `X-Accel-Expires` is for caches like this one and holds over `Cache-Control`, which holds over `Expires`.
//! What sets a cookie, or varies with everything, is never kept.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{CACHE_CONTROL, EXPIRES, HeaderName, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderValue};

use crate::date;

/// Seconds since 1970: how times are kept in files, and told by servers.
pub(crate) type Seconds = u64;

/// Returns the present second.
pub(crate) fn now() -> Seconds {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// How long an answer is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Validity {
    /// The last second in which it is; 0 while that is not known.
    pub(crate) until: Seconds,
    /// So many seconds longer while another is being fetched (`stale-while-revalidate`).
    pub(crate) while_updating: u64,
    /// So many seconds longer while none can be fetched (`stale-if-error`).
    pub(crate) if_error: u64,
}

impl Validity {
    pub(crate) fn is_over(&self, now: Seconds) -> bool {
        self.until < now
    }

    /// Whether it is good as long as another is being fetched.
    pub(crate) fn serves_updating(&self, now: Seconds) -> bool {
        self.until.saturating_add(self.while_updating) >= now
    }

    /// Whether it is good as long as none can be fetched.
    pub(crate) fn serves_errors(&self, now: Seconds) -> bool {
        self.until.saturating_add(self.if_error) >= now
    }

    /// The same with this where its server says nothing.
    pub(crate) fn or_for(self, time: Option<Duration>, now: Seconds) -> Validity {
        match time {
            Some(time) if self.until == 0 => Validity { until: now.saturating_add(time.as_secs()), ..self },
            _ => self,
        }
    }
}

/// What a server says of keeping its answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Said {
    /// Whether it may be kept.
    pub(crate) allows: bool,
    pub(crate) validity: Validity,
    /// The fields of requests that it depends on, as a list.
    pub(crate) vary: Vec<u8>,
}

impl Said {
    /// Reads the fields of an answer; `ignored` are not obeyed.
    pub(crate) fn by(headers: &HeaderMap, ignored: &[HeaderName], now: Seconds) -> Said {
        let mut reading = Reading { now, ..Reading::default() };
        let obeyed = |name: &HeaderName| !ignored.contains(name);
        if let Some(value) = headers.get(&X_ACCEL_EXPIRES).filter(|_| obeyed(&X_ACCEL_EXPIRES)) {
            reading.accel_expires(value.as_bytes());
        }
        // Here nothing was said yet but by a field that holds over all others.
        let settled = reading.validity.until != 0;
        if obeyed(&CACHE_CONTROL) {
            for value in headers.get_all(CACHE_CONTROL) {
                reading.cache_control(value.as_bytes(), settled);
            }
        }
        if let Some(value) = headers.get(EXPIRES).filter(|_| obeyed(&EXPIRES)) {
            reading.expires(value);
        }
        let sets_cookie = obeyed(&SET_COOKIE) && headers.contains_key(SET_COOKIE);
        let mut vary = Vec::new();
        if obeyed(&VARY) {
            let values: Vec<_> = headers.get_all(VARY).iter().map(HeaderValue::as_bytes).collect();
            vary = values.join(&b", "[..]);
        }
        let by_all = vary.split(|&byte| byte == b',').any(|name| name.trim_ascii() == b"*");
        let allows =
            !reading.refuses && !reading.expired && !sets_cookie && !by_all && vary.len() <= VARY_MAX;
        Said { allows, validity: reading.validity, vary }
    }
}

#[derive(Default)]
struct Reading {
    now: Seconds,
    validity: Validity,
    refuses: bool,
    /// `Expires` names a moment that is over, and nothing else says more.
    expired: bool,
}

impl Reading {
    fn accel_expires(&mut self, value: &[u8]) {
        match value.strip_prefix(b"@") {
            Some(moment) => self.validity.until = digits(moment).unwrap_or(0),
            None => match digits(value) {
                Some(0) => self.refuses = true,
                Some(seconds) => self.validity.until = self.now.saturating_add(seconds),
                None => {}
            },
        }
    }

    fn cache_control(&mut self, value: &[u8], settled: bool) {
        let value = value.to_ascii_lowercase();
        let has = |word: &str| memchr::memmem::find(&value, word.as_bytes()).is_some();
        if !settled {
            if has("no-cache") || has("no-store") || has("private") {
                self.refuses = true;
                return;
            }
            match directive(&value, "s-maxage=").or_else(|| directive(&value, "max-age=")) {
                Some(Some(seconds @ 1..)) => self.validity.until = self.now.saturating_add(seconds),
                Some(_) => {
                    self.refuses = true;
                    return;
                }
                None => {}
            }
        }
        match directive(&value, "stale-while-revalidate=") {
            Some(Some(seconds)) => {
                (self.validity.while_updating, self.validity.if_error) = (seconds, seconds);
            }
            Some(None) => {
                self.refuses = true;
                return;
            }
            None => {}
        }
        match directive(&value, "stale-if-error=") {
            Some(Some(seconds)) => self.validity.if_error = seconds,
            Some(None) => self.refuses = true,
            None => {}
        }
    }

    fn expires(&mut self, value: &HeaderValue) {
        if self.validity.until != 0 {
            return;
        }
        match date::parse(value).filter(|&date| date >= self.now) {
            Some(date) => self.validity.until = date,
            None => self.expired = true,
        }
    }
}

/// Returns the number behind a word of `Cache-Control`: `None` if the word is not there, `Some(None)` if what
/// follows it is no number.
fn directive(value: &[u8], word: &str) -> Option<Option<u64>> {
    let at = memchr::memmem::find(value, word.as_bytes())? + word.len();
    let rest = &value[at..];
    let end = rest.iter().position(|byte| matches!(byte, b',' | b';' | b' ')).unwrap_or(rest.len());
    Some(match &rest[..end] {
        // What is not there is nothing, as in nginx.
        b"" => Some(0),
        number => digits(number),
    })
}

/// Reads digits; what is too large is as large as can be.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let most = i64::MAX as u64;
    Some(std::str::from_utf8(text).ok()?.parse().map_or(most, |number: u64| number.min(most)))
}

/// A `Vary` that is longer is not looked into, and its answer not kept.
const VARY_MAX: usize = 128;

static X_ACCEL_EXPIRES: HeaderName = HeaderName::from_static("x-accel-expires");

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Seconds = 1_700_000_000;

    fn said(fields: &[(&'static str, &'static str)], ignored: &[HeaderName]) -> Said {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Said::by(&headers, ignored, NOW)
    }

    /// Expects that an answer with these fields is good for so many seconds; 0 says that it does not tell, and
    /// `None` that it is not to be kept.
    #[track_caller]
    fn check(fields: &[(&'static str, &'static str)], expected: Option<u64>) {
        let said = said(fields, &[]);
        let found = said.allows.then(|| said.validity.until.saturating_sub(NOW));
        assert_eq!(found, expected, "{fields:?}");
    }

    #[test]
    fn answer_is_good_for_as_long_as_its_server_says() {
        check(&[], Some(0));
        check(&[("cache-control", "max-age=10")], Some(10));
        check(&[("cache-control", "public, Max-Age=10; x")], Some(10));
        check(&[("cache-control", "max-age=10, s-maxage=5")], Some(5));
        check(&[("cache-control", "max-age=10"), ("expires", "Thu, 01 Jan 1970 00:00:01 GMT")], Some(10));
        check(&[("expires", "Tue, 14 Nov 2023 22:13:50 GMT")], Some(30));
        check(&[("x-accel-expires", "7"), ("cache-control", "no-store, max-age=1")], Some(7));
        check(&[("x-accel-expires", "@1700000005"), ("expires", "0")], Some(5));
        check(&[("x-accel-expires", "soon"), ("cache-control", "max-age=3")], Some(3));
    }

    #[test]
    fn answer_is_not_kept_that_must_not_be() {
        for value in ["no-cache", "no-store", "PRIVATE", "max-age=0", "s-maxage=0, max-age=9", "max-age=a"] {
            check(&[("cache-control", value)], None);
        }
        check(&[("cache-control", "max-age=9"), ("cache-control", "no-cache")], None);
        check(&[("cache-control", "stale-if-error=x")], None);
        check(&[("expires", "Tue, 14 Nov 2023 22:13:19 GMT")], None);
        check(&[("expires", "0")], None);
        check(&[("x-accel-expires", "0"), ("cache-control", "max-age=9")], None);
        check(&[("set-cookie", "a=b"), ("cache-control", "max-age=9")], None);
        check(&[("vary", "*")], None);
        check(&[("vary", "Accept"), ("vary", "x, *")], None);
    }

    #[test]
    fn what_is_ignored_says_nothing() {
        let ignored = [SET_COOKIE, VARY, CACHE_CONTROL, EXPIRES, X_ACCEL_EXPIRES.clone()];
        let fields = [
            ("set-cookie", "a"),
            ("vary", "*"),
            ("cache-control", "no-store"),
            ("expires", "0"),
            ("x-accel-expires", "0"),
        ];
        let said = said(&fields, &ignored);
        assert_eq!(said, Said { allows: true, ..Said::default() });
    }

    #[test]
    fn stale_answer_is_good_in_some_cases() {
        let control = "max-age=10, stale-while-revalidate=20, stale-if-error=30";
        let validity = said(&[("cache-control", control)], &[]).validity;
        assert_eq!((validity.while_updating, validity.if_error), (20, 30));
        assert!(validity.is_over(NOW + 11) && !validity.is_over(NOW + 10));
        assert!(validity.serves_updating(NOW + 30) && !validity.serves_updating(NOW + 31));
        assert!(validity.serves_errors(NOW + 40) && !validity.serves_errors(NOW + 41));
        let validity = said(&[("cache-control", "max-age=1, stale-while-revalidate=20")], &[]).validity;
        assert_eq!(validity.if_error, 20);
        let accel = said(&[("x-accel-expires", "5"), ("cache-control", "no-cache, stale-if-error=9")], &[]);
        assert_eq!((accel.allows, accel.validity.if_error), (true, 9));
    }
}
