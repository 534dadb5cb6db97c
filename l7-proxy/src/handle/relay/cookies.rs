//! Cookies of a server in our terms: `proxy_cookie_domain`, `proxy_cookie_path`,
//! `proxy_cookie_flags`.
//!
//! A cookie that no rule concerns stays as it was, to the blank; of another the parts are put together anew.

use std::borrow::Cow;

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
        let rewritten = text.and_then(|text| HeaderValue::from_bytes(&text).ok());
        headers.append(SET_COOKIE, rewritten.unwrap_or(cookie));
    }
}

/// Returns one cookie rewritten; `None` if it stays as it is.
fn one(relay: &Relay, exchange: &Exchange<'_>, cookie: &[u8]) -> Option<Vec<u8>> {
    let mut parts = cookie.split(|&byte| byte == b';').map(Part::read);
    let pair = parts.next()?;
    // What has no value is no cookie.
    pair.value.as_ref()?;
    let mut attributes: Vec<Part<'_>> = parts.collect();
    let mut changes = false;
    for attribute in &mut attributes {
        changes |= attribute.rewrite(b"domain", &relay.cookie_domain, exchange, Extent::Whole);
        changes |= attribute.rewrite(b"path", &relay.cookie_path, exchange, Extent::Beginning);
    }
    let mut rules = relay.cookie_flags.iter();
    if let Some(rule) = rules.find(|rule| concerns(rule, exchange, &pair.key)) {
        let mut flags: Vec<Vec<u8>> =
            rule.flags.iter().map(|flag| text_of(flag, exchange).to_ascii_lowercase()).collect();
        // Those that are added come in this order, however they are written.
        flags.sort_by_key(|flag| match &**flag {
            b"secure" => 0,
            b"httponly" => 1,
            _ => 2,
        });
        for flag in &flags {
            changes |= apply(flag, &mut attributes);
        }
    }
    changes.then(|| {
        let mut text = Vec::with_capacity(cookie.len() + 32);
        pair.write(&mut text);
        for attribute in &attributes {
            text.extend_from_slice(b"; ");
            attribute.write(&mut text);
        }
        text
    })
}

/// What stands between two semicolons, without the blanks around it.
#[derive(Debug, Clone)]
struct Part<'a> {
    key: Cow<'a, [u8]>,
    value: Option<Cow<'a, [u8]>>,
}

impl<'a> Part<'a> {
    fn read(text: &'a [u8]) -> Part<'a> {
        match memchr::memchr(b'=', text) {
            Some(equals) => Part {
                key: text[..equals].trim_ascii().into(),
                value: Some(text[equals + 1..].trim_ascii().into()),
            },
            None => Part { key: text.trim_ascii().into(), value: None },
        }
    }

    fn is(&self, name: &[u8]) -> bool {
        self.key.eq_ignore_ascii_case(name)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key);
        if let Some(value) = &self.value {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }

    /// Replaces the value of an attribute by the first rule that fits; says whether one does.
    fn rewrite(&mut self, name: &[u8], rules: &[Replace], exchange: &Exchange<'_>, extent: Extent) -> bool {
        let Some(value) = self.value.as_ref().filter(|_| self.key.eq_ignore_ascii_case(name)) else {
            return false;
        };
        // A dot in front of a domain says nothing (RFC 6265): it stays, and is not compared.
        let (dot, value) = match (extent, value.strip_prefix(b".")) {
            (Extent::Whole, Some(rest)) => (&b"."[..], rest),
            _ => (&b""[..], &**value),
        };
        let Some(text) = rules.iter().find_map(|rule| replaced(rule, exchange, value, extent)) else {
            return false;
        };
        let text = match extent {
            Extent::Whole => text.strip_prefix(b".").unwrap_or(&text),
            Extent::Beginning => &text,
        };
        self.value = Some([dot, text].concat().into());
        true
    }
}

/// Whether a rule is for the cookie of that name.
fn concerns(rule: &CookieFlags, exchange: &Exchange<'_>, name: &[u8]) -> bool {
    match &rule.cookie {
        Subject::Text(value) => text_of(value, exchange).eq_ignore_ascii_case(name),
        Subject::Pattern(pattern) => pattern.is_match(name),
    }
}

/// Adds a flag, or takes it away; says whether it is one. What is there already stays in its place.
fn apply(flag: &[u8], attributes: &mut Vec<Part<'_>>) -> bool {
    let (name, value): (&'static str, Option<&'static str>) = match flag {
        b"secure" => ("Secure", None),
        b"httponly" => ("HttpOnly", None),
        b"samesite" => ("SameSite", None),
        b"samesite=strict" => ("SameSite", Some("Strict")),
        b"samesite=lax" => ("SameSite", Some("Lax")),
        b"samesite=none" => ("SameSite", Some("None")),
        b"nosecure" | b"nohttponly" | b"nosamesite" => {
            attributes.retain(|attribute| !attribute.is(&flag[2..]));
            return true;
        }
        // What a variable yields may be nothing, or nothing known.
        _ => return false,
    };
    let wanted = Part { key: name.as_bytes().into(), value: value.map(|value| value.as_bytes().into()) };
    let mut there = false;
    for attribute in attributes.iter_mut().filter(|attribute| attribute.is(name.as_bytes())) {
        there = true;
        let differs = value.is_some_and(|value| {
            attribute.value.as_ref().is_none_or(|other| !other.eq_ignore_ascii_case(value.as_bytes()))
        });
        if differs {
            *attribute = wanted.clone();
        }
    }
    if !there {
        attributes.push(wanted);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::{Part, apply};

    #[track_caller]
    fn check(cookie: &str, flags: &[&str], expected: &str) {
        let mut attributes: Vec<Part<'_>> =
            cookie.split(';').map(|part| Part::read(part.as_bytes())).collect();
        flags.iter().for_each(|flag| _ = apply(flag.as_bytes(), &mut attributes));
        let mut text = Vec::new();
        for attribute in &attributes {
            attribute.write(&mut text);
            text.push(b';');
        }
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn flag_is_there_once_or_not_at_all() {
        check("a=1; Path=/", &["secure", "secure", "httponly"], "a=1;Path=/;Secure;HttpOnly;");
        check("a=1; secure; SameSite=Lax", &["nosecure", "samesite=none"], "a=1;SameSite=None;");
        check("a=1; HttpOnly", &["nohttponly", "nosamesite", ""], "a=1;");
    }

    #[test]
    fn flag_that_is_there_stays_as_it_is_spelled() {
        check("a=1; secure ; b", &["secure"], "a=1;secure;b;");
        check("a=1; samesite = strict; b", &["samesite=strict"], "a=1;samesite=strict;b;");
        check("a=1; samesite; b", &["samesite=lax"], "a=1;SameSite=Lax;b;");
    }
}
