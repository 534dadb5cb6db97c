//! Whether a client is sent gzip: by what it takes, and by what stands between it and us.
//!
//! The rules are nginx's. An answer that goes through another proxy may be kept there for clients that
//! take no gzip, so that behind one (`Via`) nothing is compressed unless it is said what may be.

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, DATE, ETAG, EXPIRES, LAST_MODIFIED, USER_AGENT, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use crate::model::{Gzip, GzipProxied, OldestVersion};

/// Returns whether an answer with these fields may be sent as gzip.
pub(crate) fn takes_gzip(gzip: &Gzip, version: Version, request: &HeaderMap, answer: &HeaderMap) -> bool {
    let accepts = request.get_all(ACCEPT_ENCODING).iter().any(|value| lists_gzip(value.as_bytes()));
    if !accepts || (version < Version::HTTP_11 && gzip.http_version == OldestVersion::Http11) {
        return false;
    }
    if request.contains_key(VIA) && !may_be_kept(gzip.proxied, request, answer) {
        return false;
    }
    match request.get(USER_AGENT) {
        Some(agent) => !gzip.disable.iter().any(|pattern| pattern.is_match(agent.as_bytes())),
        None => true,
    }
}

/// Returns whether a list of codings has gzip, and not with a weight of zero.
fn lists_gzip(list: &[u8]) -> bool {
    list.split(|&byte| byte == b',').any(|item| {
        let mut parts = item.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"gzip"));
        named && !parts.any(is_zero)
    })
}

/// Returns whether a parameter is a weight of zero.
fn is_zero(parameter: &[u8]) -> bool {
    let Some(weight) = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q=")) else {
        return false;
    };
    weight.starts_with(b"0") && weight.iter().all(|byte| matches!(byte, b'0' | b'.'))
}

/// Returns whether a proxy may get an answer as gzip.
fn may_be_kept(proxied: GzipProxied, request: &HeaderMap, answer: &HeaderMap) -> bool {
    if proxied == GzipProxied::default() {
        return false;
    }
    if proxied.any || (proxied.auth && request.contains_key(AUTHORIZATION)) {
        return true;
    }
    let date = |name: HeaderName| httpdate::parse_http_date(answer.get(name)?.to_str().ok()?).ok();
    if answer.contains_key(EXPIRES) {
        let sent = date(DATE).unwrap_or_else(std::time::SystemTime::now);
        return proxied.expired && date(EXPIRES).is_some_and(|expires| expires < sent);
    }
    if answer.contains_key(CACHE_CONTROL) {
        let says = |word| answer.get_all(CACHE_CONTROL).iter().any(|value| has_word(value, word));
        return (proxied.no_cache && says("no-cache"))
            || (proxied.no_store && says("no-store"))
            || (proxied.private && says("private"));
    }
    if proxied.no_last_modified && answer.contains_key(LAST_MODIFIED) {
        return false;
    }
    !(proxied.no_etag && answer.contains_key(ETAG))
}

fn has_word(value: &HeaderValue, word: &str) -> bool {
    let mut words = value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    words.any(|found| found.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_by_name_unless_its_weight_is_zero() {
        for list in ["gzip", "gzip, br", "br,GZIP", "deflate, gzip;q=0.5", "gzip; q=0.001"] {
            assert!(lists_gzip(list.as_bytes()), "{list}");
        }
        for list in ["", "*", "xgzip", "gzip2", "gzip;q=0", "br, gzip; q=0.000", "identity"] {
            assert!(!lists_gzip(list.as_bytes()), "{list}");
        }
    }

    #[test]
    fn proxy_gets_gzip_only_where_it_may_not_keep_it() {
        let answer = |name, value| HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        let request = HeaderMap::new();
        let none = GzipProxied::default();
        let past = answer(EXPIRES, "Thu, 01 Jan 1970 00:00:01 GMT");
        let private = answer(CACHE_CONTROL, "max-age=1, Private");
        let rows = [
            (none, &past, false),
            (GzipProxied { any: true, ..none }, &past, true),
            (GzipProxied { expired: true, ..none }, &past, true),
            (GzipProxied { private: true, ..none }, &past, false),
            (GzipProxied { private: true, ..none }, &private, true),
            (GzipProxied { no_cache: true, ..none }, &private, false),
            (GzipProxied { no_etag: true, ..none }, &answer(ETAG, "\"x\""), false),
            (GzipProxied { no_etag: true, ..none }, &HeaderMap::new(), true),
        ];
        for (row, (proxied, answer, expected)) in rows.into_iter().enumerate() {
            assert_eq!(may_be_kept(proxied, &request, answer), expected, "row {row}");
        }
    }
}
