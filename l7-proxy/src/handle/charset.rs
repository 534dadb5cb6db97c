//! The character set that is added to the type of an answer (`charset`).

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

use crate::model::Charset;
use crate::variable::Exchange;

/// Adds the character set that is configured, or that a server has asked for (`X-Accel-Charset`).
pub(super) fn add(charset: &Charset, asked: Option<&str>, exchange: &Exchange<'_>, headers: &mut HeaderMap) {
    let Some(said) = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes) else { return };
    // Old browsers took that of a redirect for that of the page they were sent to, and nginx still spares
    // them.
    let redirects = exchange.response.is_some_and(|response| matches!(response.status, 301 | 302));
    let (media_type, own) = split(said);
    let mut scratch = Vec::new();
    let name = match (asked, &charset.name) {
        _ if redirects => return,
        (Some(asked), _) => asked.as_bytes(),
        (None, None) => return,
        (None, Some(_)) if own && !charset.overrides => return,
        (None, Some(_)) if !charset.types.contain(Some(media_type)) => return,
        (None, Some(name)) => name.bytes(exchange, &mut scratch),
    };
    if name.is_empty() || name == b"off" {
        return;
    }
    if let Ok(value) = HeaderValue::from_bytes(&[media_type, b"; charset=", name].concat()) {
        headers.insert(CONTENT_TYPE, value);
    }
}

/// Splits a type into what stands before its character set, and whether it has one.
fn split(value: &[u8]) -> (&[u8], bool) {
    let mut semicolons = memchr::memchr_iter(b';', value);
    let found = semicolons.find(|&semicolon| {
        let parameter = value[semicolon + 1..].trim_ascii_start();
        parameter.get(..CHARSET.len()).is_some_and(|start| start.eq_ignore_ascii_case(CHARSET))
    });
    match found {
        Some(semicolon) => (value[..semicolon].trim_ascii_end(), true),
        None => (value, false),
    }
}

const CHARSET: &[u8] = b"charset=";

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn character_set_is_told_from_other_parameters() {
        for (value, expected) in [
            ("text/html", ("text/html", false)),
            ("text/html;charset=utf-8", ("text/html", true)),
            ("text/html; a=b; Charset=\"x\"", ("text/html; a=b", true)),
            ("multipart/mixed; boundary=charset=", ("multipart/mixed; boundary=charset=", false)),
        ] {
            let (before, has) = split(value.as_bytes());
            assert_eq!((std::str::from_utf8(before).unwrap(), has), expected, "{value}");
        }
    }
}
