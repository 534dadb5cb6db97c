//! The name that a request is for, from its `Host` field or its absolute target.
//!
//! Stricter than nginx, which takes nearly any byte: a name that a second reader could take apart
//! in another way (user information, a comma, a path) is refused with 400.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;
use std::rc::Rc;

use crate::short;

/// A host name without its port, lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host<'a> {
    name: Cow<'a, str>,
    port: Option<u16>,
}

/// Why a host is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadHost;

impl fmt::Display for BadHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid host")
    }
}

impl std::error::Error for BadHost {}

impl<'a> Host<'a> {
    /// Reads `name`, `name:port`, `[address]` or `[address]:port`.
    ///
    /// ```
    /// # use l7_proxy::host::Host;
    /// assert_eq!(Host::parse(b"WWW.Example.org.:8080").unwrap().name(), "www.example.org");
    /// assert!(Host::parse(b"good.example,bad.example").is_err());
    /// ```
    ///
    /// # Errors
    /// If it is empty or not a name, an IPv4 address or an IPv6 address in brackets.
    pub fn parse(text: &'a [u8]) -> Result<Self, BadHost> {
        // One look at each byte says all there is to know of the usual name.
        let (mut colon, mut upper, mut odd) = (None, false, false);
        for (place, &byte) in text.iter().enumerate() {
            match CLASS[usize::from(byte)] {
                Class::Name => {}
                Class::Upper => upper = true,
                Class::Colon if colon.is_none() => colon = Some(place),
                Class::Colon | Class::Other => odd = true,
            }
        }
        let text = std::str::from_utf8(text).map_err(|_| BadHost)?;
        let (name, port) = if odd {
            bracketed(text)?
        } else {
            let (name, port) = match colon {
                Some(colon) => (&text[..colon], Some(&text[colon + 1..])),
                None => (text, None),
            };
            if name.as_bytes().windows(2).any(|pair| pair == b"..") {
                return Err(BadHost);
            }
            // The root's dot at the end changes nothing.
            let name = name.strip_suffix('.').unwrap_or(name);
            if name.is_empty() {
                return Err(BadHost);
            }
            (name, port)
        };
        let port = match port {
            // RFC 3986 allows a colon without a port.
            None | Some("") => None,
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(port.parse().map_err(|_| BadHost)?)
            }
            Some(_) => return Err(BadHost),
        };
        let name = if upper { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) };
        Ok(Self { name, port })
    }

    /// Returns the name in lower case; an IPv6 address keeps its brackets.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the port, if one is given.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

/// The name that was read last: requests ask for the same one over and over.
#[derive(Debug)]
pub(crate) struct Recent {
    text: Vec<u8>,
    name: Rc<str>,
}

impl Recent {
    /// Reads a name; returns it in lower case and without its port.
    ///
    /// # Errors
    /// If it is [none](Host::parse).
    pub(crate) fn read(&mut self, text: &[u8]) -> Result<Rc<str>, BadHost> {
        if !short::same(&self.text, text) || text.is_empty() {
            self.name = Host::parse(text)?.name().into();
            self.text.clear();
            self.text.extend_from_slice(text);
        }
        Ok(Rc::clone(&self.name))
    }

    /// The name of a request that names none.
    pub(crate) fn none() -> Rc<str> {
        thread_local! { static NONE: Rc<str> = Rc::from(""); }
        NONE.with(Rc::clone)
    }
}

impl Default for Recent {
    fn default() -> Recent {
        Recent { text: Vec::new(), name: Recent::none() }
    }
}

/// Takes `[address]` or `[address]:port` apart.
fn bracketed(text: &str) -> Result<(&str, Option<&str>), BadHost> {
    let end = text.find(']').filter(|_| text.starts_with('[')).ok_or(BadHost)?;
    let (name, rest) = text.split_at(end + 1);
    name[1..end].parse::<Ipv6Addr>().map_err(|_| BadHost)?;
    match rest.strip_prefix(':') {
        Some(port) => Ok((name, Some(port))),
        None if rest.is_empty() => Ok((name, None)),
        None => Err(BadHost),
    }
}

#[derive(Clone, Copy)]
enum Class {
    /// May stand in a registered name (RFC 3986, section 3.2.2), the comma and percent-encoding
    /// left out.
    Name,
    /// The same, and has a lower case.
    Upper,
    Colon,
    Other,
}

static CLASS: [Class; 256] = {
    let mut table = [Class::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'A'..=b'Z' => Class::Upper,
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => Class::Name,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => Class::Name,
            b':' => Class::Colon,
            _ => Class::Other,
        };
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::Host;

    fn check(text: &str, expected: Option<(&str, Option<u16>)>) {
        let host = Host::parse(text.as_bytes()).ok();
        let host = host.as_ref().map(|host| (host.name(), host.port()));
        assert_eq!(host, expected, "{text:?}");
    }

    #[test]
    fn name_and_port_are_taken_apart() {
        check("example.org", Some(("example.org", None)));
        check("Example.ORG:80", Some(("example.org", Some(80))));
        check("example.org.", Some(("example.org", None)));
        check("example.org:", Some(("example.org", None)));
        check("under_score", Some(("under_score", None)));
        check("127.0.0.1:8080", Some(("127.0.0.1", Some(8080))));
        check("[::1]", Some(("[::1]", None)));
        check("[2001:DB8::1]:443", Some(("[2001:db8::1]", Some(443))));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for text in [
            "",
            ".",
            ":80",
            "a..b",
            "user@host",
            "a,b",
            "a/b",
            "a\\b",
            "a b",
            "a\tb",
            "a%41",
            "a:b",
            "a:65536",
            "a:80:80",
            "a:+80",
            "::1",
            "[::1",
            "[::1]x",
            "[1.2.3.4]",
            "[::1%25eth0]",
            "a#b",
            "a?b",
            "ä",
            "a\0",
        ] {
            check(text, None);
        }
    }
}
