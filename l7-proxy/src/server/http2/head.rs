//! Heads of requests of HTTP/2: how large they may be, and what they are in HTTP/1.1, by which
//! everything behind goes.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, COOKIE, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};

use crate::handle::Refused;
use crate::model::HeadLimits;

/// Whether a head is larger than `large_client_header_buffers` allow: a name or a value than one of
/// them, or all together than all of them. Such a client is not answered but sent away, as in nginx.
pub(super) fn is_too_large(parts: &Parts, limits: &HeadLimits) -> bool {
    let uri = &parts.uri;
    let pseudo = [
        (":method", Some(parts.method.as_str().len())),
        (":scheme", uri.scheme_str().map(str::len)),
        (":authority", uri.authority().map(|name| name.as_str().len())),
        (":path", uri.path_and_query().map(|path| path.as_str().len())),
    ];
    let pseudo = pseudo.into_iter().filter_map(|(name, size)| Some((name.len(), size?)));
    let fields = parts.headers.iter().map(|(name, value)| (name.as_str().len(), value.len()));
    let mut left = limits.line.saturating_mul(limits.lines);
    for (name, value) in pseudo.chain(fields) {
        let (name, value) = (name as u64, value as u64);
        match left.checked_sub(name + value) {
            Some(rest) if name.max(value) <= limits.line => left = rest,
            _ => return true,
        }
    }
    false
}

/// Makes of a head what it would be in HTTP/1.1: one `Host`, and one `Cookie`, which may come in
/// crumbs (RFC 9113, section 8.2.3).
///
/// # Errors
/// It names two hosts, or two lengths.
pub(super) fn make_plain(parts: &mut Parts) -> Result<(), Refused> {
    let bad = |reason| Refused { status: 400, reason };
    let headers = &mut parts.headers;
    headers.values_mut().for_each(strip);
    join_cookies(headers);
    if headers.get_all(CONTENT_LENGTH).iter().count() > 1 {
        return Err(bad("client sent duplicate header line: \"Content-Length\""));
    }
    let Some(authority) = parts.uri.authority().map(http::uri::Authority::as_str) else { return Ok(()) };
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => {
            let value = HeaderValue::from_str(authority).map_err(|_| bad("client sent invalid host"))?;
            headers.insert(HOST, value);
            Ok(())
        }
        (Some(host), None) if host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => Ok(()),
        _ => Err(bad("client sent \"Host\" header that differs from \":authority\"")),
    }
}

/// Takes blanks around a value away, which are no part of it: a server of HTTP/2 would have to refuse it
/// (RFC 9113, section 8.2.1).
fn strip(value: &mut HeaderValue) {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let bytes = value.as_bytes();
    if (blank(bytes.first()) || blank(bytes.last()))
        && let Ok(stripped) = HeaderValue::from_bytes(bytes.trim_ascii())
    {
        *value = stripped;
    }
}

fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    if let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) {
        let mut whole = BytesMut::from(first.as_bytes());
        for crumb in std::iter::once(second).chain(crumbs) {
            whole.extend_from_slice(b"; ");
            whole.extend_from_slice(crumb.as_bytes());
        }
        if let Ok(whole) = HeaderValue::from_maybe_shared(Bytes::from(whole)) {
            headers.insert(COOKIE, whole);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(uri: &str, fields: &[(&str, &str)]) -> Parts {
        let request =
            fields.iter().fold(Request::get(uri), |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn one_host_is_made_of_two_that_agree_and_none_of_two_that_do_not() {
        for (fields, expected) in [
            (&[][..], Ok("a.b:81")),
            (&[("host", "A.b:81")], Ok("A.b:81")),
            (&[("host", "a.b")], Err(400)),
            (&[("host", "c:81")], Err(400)),
            (&[("host", "a.b:81"), ("host", "a.b:81")], Err(400)),
        ] {
            let mut parts = parts("http://a.b:81/", fields);
            let made = make_plain(&mut parts).map_err(|refused| refused.status);
            let host = parts.headers.get(HOST).map(|host| host.to_str().unwrap()).unwrap_or_default();
            assert_eq!(made.map(|()| host), expected, "{fields:?}");
        }
    }

    #[test]
    fn blanks_around_a_value_are_no_part_of_it() {
        let fields =
            [("host", " a.b"), ("x", "\t y  z \t"), ("w", " "), ("cookie", "a=1 "), ("cookie", " b=2")];
        let mut parts = parts("http://a.b/", &fields);
        make_plain(&mut parts).unwrap();
        for (name, expected) in [("host", "a.b"), ("x", "y  z"), ("w", ""), ("cookie", "a=1; b=2")] {
            assert_eq!(parts.headers[name], expected);
        }
    }

    #[test]
    fn two_lengths_are_none() {
        let mut parts = parts("http://a/", &[("content-length", "3"), ("content-length", "3")]);
        assert_eq!(make_plain(&mut parts).map_err(|refused| refused.status), Err(400));
    }

    #[test]
    fn crumbs_make_one_cookie_in_their_order() {
        let mut parts = parts("http://a/", &[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
        make_plain(&mut parts).unwrap();
        assert_eq!(parts.headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    }

    #[test]
    fn name_value_and_sum_are_measured_to_the_byte() {
        let sized = |name: usize, value: usize, lines| {
            let (name, value) = ("n".repeat(name), "v".repeat(value));
            let limits = HeadLimits { first: 1, lines, line: 64, fields: 10 };
            is_too_large(&parts("http://a/", &[(&name, &value)]), &limits)
        };
        assert!(!sized(64, 1, 4) && sized(65, 1, 4));
        assert!(!sized(1, 64, 4) && sized(1, 65, 4));
        // ":method" "GET" ":scheme" "http" ":authority" "a" ":path" "/" are 38 bytes.
        assert!(!sized(16, 10, 1) && sized(16, 11, 1));
    }
}
