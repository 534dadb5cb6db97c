//! What can be told of a request that cannot be read, for logs and error pages.
//!
//! Nothing of it says where a body ends, and nothing of it is obeyed: a request whose head has two readings
//! is refused whatever is found here.

use http::header::{HOST, REFERER, USER_AGENT};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version};

/// Reads what is well-formed in the beginning of a head, or of what is none.
pub(super) fn salvage(bytes: &[u8]) -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    let mut lines = bytes.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut words = lines.next().unwrap_or_default().split(|&byte| byte == b' ');
    // Of the last line nobody knows whether there is more to come.
    let whole = memchr::memchr_iter(b'\n', bytes).count().saturating_sub(1);
    if let Some(Ok(method)) = words.next().map(Method::from_bytes) {
        parts.method = method;
    }
    if let Some(Ok(uri)) = words.next().map(Uri::try_from) {
        parts.uri = uri;
    }
    if words.next() == Some(b"HTTP/1.0") {
        parts.version = Version::HTTP_10;
    }
    for line in lines.take(whole.min(FIELDS_MAX)) {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let known = SHOWN.iter().find(|known| name.eq_ignore_ascii_case(known.as_str().as_bytes()));
        if let (Some(known), Ok(value)) = (known, HeaderValue::from_bytes(value)) {
            // The first one, as in nginx's logs.
            parts.headers.entry(known).or_insert(value);
        }
    }
    parts
}

/// Fields that logs show.
static SHOWN: [HeaderName; 4] = [HOST, REFERER, USER_AGENT, HeaderName::from_static("x-forwarded-for")];

/// As many lines are looked at.
const FIELDS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], line: &str, host: Option<&str>) {
        let parts = salvage(bytes);
        assert_eq!(format!("{} {} {:?}", parts.method, parts.uri, parts.version), line);
        assert_eq!(parts.headers.get(HOST).map(HeaderValue::as_bytes), host.map(str::as_bytes));
    }

    #[test]
    fn what_is_well_formed_is_told() {
        check(b"POST /a HTTP/1.0\r\nHost: x\r\nHost: y\r\nbad\r\n", "POST /a HTTP/1.0", Some("x"));
        check(b"GET /a", "GET /a HTTP/1.1", None);
        check(b"GET /a HTTP/1.1\r\nHost: x", "GET /a HTTP/1.1", None);
        check(b"GET /a\x01b HTTP/1.1\nhost:a b\n", "GET / HTTP/1.1", Some("a b"));
        check(b"\x16\x03\x01", "GET / HTTP/1.1", None);
        check(b"", "GET / HTTP/1.1", None);
    }

    #[test]
    fn nothing_that_frames_a_body_is_kept() {
        let parts = salvage(b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert!(parts.headers.is_empty());
    }
}
