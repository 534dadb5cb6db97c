//! Cookies of a server in our terms: `proxy_cookie_domain`, `proxy_cookie_path`,
//! `proxy_cookie_flags`.

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};

use super::{Extent, replaced, text_of};
use crate::model::{CookieFlags, Relay, Replace, Subject};
use crate::variable::Exchange;

/// Rewrites the `Set-Cookie` fields of an answer.
pub(super) fn rewrite(relay: &Relay, exchange: &Exchange<'_>, headers: &mut HeaderMap) {
    let Relay { cookie_domain, cookie_path, cookie_flags, .. } = relay;
    if cookie_domain.is_empty() && cookie_path.is_empty() && cookie_flags.is_empty() {
        return;
    }
    let cookies: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().cloned().collect();
    headers.remove(SET_COOKIE);
    for cookie in cookies {
        let text = one(relay, exchange, cookie.as_bytes());
        headers.append(SET_COOKIE, HeaderValue::from_bytes(&text).unwrap_or(cookie));
    }
}

/// Returns one cookie rewritten.
fn one(relay: &Relay, exchange: &Exchange<'_>, cookie: &[u8]) -> Vec<u8> {
    let mut parts = cookie.split(|&byte| byte == b';').map(<[u8]>::to_vec);
    let Some(pair) = parts.next() else { return cookie.to_vec() };
    let mut attributes: Vec<Vec<u8>> = parts.collect();
    for attribute in &mut attributes {
        rewrite_attribute(attribute, b"domain", &relay.cookie_domain, exchange, Extent::Whole);
        rewrite_attribute(attribute, b"path", &relay.cookie_path, exchange, Extent::Beginning);
    }
    let name = pair.split(|&byte| byte == b'=').next().unwrap_or_default().trim_ascii();
    let mut rules = relay.cookie_flags.iter();
    if let Some(rule) = rules.find(|rule| concerns(rule, exchange, name)) {
        for flag in &rule.flags {
            apply(&text_of(flag, exchange).to_ascii_lowercase(), &mut attributes);
        }
    }
    attributes.insert(0, pair);
    attributes.join(&b';')
}

/// Replaces the value of an attribute by the first rule that fits.
fn rewrite_attribute(
    attribute: &mut Vec<u8>,
    name: &[u8],
    rules: &[Replace],
    exchange: &Exchange<'_>,
    extent: Extent,
) {
    let Some(equals) = memchr::memchr(b'=', attribute) else { return };
    let (key, value) = attribute.split_at(equals);
    if !key.trim_ascii().eq_ignore_ascii_case(name) {
        return;
    }
    let value = value[1..].trim_ascii();
    // A dot in front of a domain says nothing (RFC 6265): it stays, and is not compared.
    let (dot, value) = match (extent, value.strip_prefix(b".")) {
        (Extent::Whole, Some(rest)) => (&b"."[..], rest),
        _ => (&b""[..], value),
    };
    if let Some(text) = rules.iter().find_map(|rule| replaced(rule, exchange, value, extent)) {
        let text = match extent {
            Extent::Whole => text.strip_prefix(b".").unwrap_or(&text),
            Extent::Beginning => &text,
        };
        let text = [dot, text].concat();
        attribute.truncate(equals + 1);
        attribute.extend_from_slice(&text);
    }
}

/// Whether a rule is for the cookie of that name.
fn concerns(rule: &CookieFlags, exchange: &Exchange<'_>, name: &[u8]) -> bool {
    match &rule.cookie {
        Subject::Text(value) => text_of(value, exchange).eq_ignore_ascii_case(name),
        Subject::Pattern(pattern) => pattern.is_match(name),
    }
}

/// Adds a flag, or takes it away.
fn apply(flag: &[u8], attributes: &mut Vec<Vec<u8>>) {
    let written: Option<&[u8]> = match flag {
        b"secure" => Some(b" Secure"),
        b"httponly" => Some(b" HttpOnly"),
        b"samesite" => Some(b" SameSite"),
        b"samesite=strict" => Some(b" SameSite=Strict"),
        b"samesite=lax" => Some(b" SameSite=Lax"),
        b"samesite=none" => Some(b" SameSite=None"),
        b"nosecure" | b"nohttponly" | b"nosamesite" => None,
        // What a variable yields may be nothing, or nothing known.
        _ => return,
    };
    let name = flag.strip_prefix(b"no").filter(|_| written.is_none()).unwrap_or(flag);
    let name = name.split(|&byte| byte == b'=').next().unwrap_or_default();
    attributes.retain(|attribute| {
        let key = attribute.split(|&byte| byte == b'=').next().unwrap_or_default();
        !key.trim_ascii().eq_ignore_ascii_case(name)
    });
    if let Some(written) = written {
        attributes.push(written.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::apply;

    #[track_caller]
    fn check(cookie: &str, flags: &[&str], expected: &str) {
        let mut attributes: Vec<Vec<u8>> = cookie.split(';').map(|part| part.as_bytes().to_vec()).collect();
        flags.iter().for_each(|flag| apply(flag.as_bytes(), &mut attributes));
        assert_eq!(String::from_utf8(attributes.join(&b';')).unwrap(), expected);
    }

    #[test]
    fn flag_is_there_once_or_not_at_all() {
        check("a=1; Path=/", &["secure", "secure", "httponly"], "a=1; Path=/; Secure; HttpOnly");
        check("a=1; secure; SameSite=Lax", &["nosecure", "samesite=none"], "a=1; SameSite=None");
        check("a=1; HttpOnly", &["nohttponly", "nosamesite", ""], "a=1");
    }
}
