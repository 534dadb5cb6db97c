//! `host[:port]` and numbers, as they are written on the command line.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lvs_core::Protocol;

use crate::names::Names;

/// An address as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) host: IpAddr,
    /// `None` if no port was written, which is not always the same as port 0.
    pub(crate) port: Option<u16>,
}

impl Endpoint {
    /// Reads `192.0.2.1`, `192.0.2.1:80`, `host:http`, `[2001:db8::1]:80` or `2001:db8::1`.
    ///
    /// IPv6 with a port needs brackets, and brackets need a port.
    pub(crate) fn parse(text: &str, protocol: Protocol, names: &Names) -> Option<Endpoint> {
        if let Some(bracketed) = text.strip_prefix('[') {
            let (host, port) = bracketed.split_once("]:")?;
            let host: Ipv6Addr = host.parse().ok()?;
            return Some(Endpoint { host: host.into(), port: Some(port_number(port, protocol, names)?) });
        }
        if let Ok(host) = text.parse::<Ipv6Addr>() {
            return Some(Endpoint { host: host.into(), port: None });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port_number(port, protocol, names)?)),
            None => (text, None),
        };
        let host = match host.parse::<Ipv4Addr>() {
            Ok(host) => host.into(),
            Err(_) => names.address(host)?,
        };
        Some(Endpoint { host, port })
    }
}

fn port_number(text: &str, protocol: Protocol, names: &Names) -> Option<u16> {
    match number(text, 0, u16::MAX.into()) {
        Some(port) => u16::try_from(port).ok(),
        None => names.port(text, protocol),
    }
}

/// Reads a decimal number as `strtol` does: blanks and a sign may come first, nothing after it.
pub(crate) fn number(text: &str, min: u32, max: u32) -> Option<u32> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    let negative = negative && number != 0;
    (!negative && (min..=max).contains(&number)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, Option<u16>)>) {
        let names = Names::from_text("", "http 80/tcp www\ndomain 53/udp\n");
        let expected = expected.map(|(host, port)| Endpoint { host: host.parse().unwrap(), port });
        assert_eq!(Endpoint::parse(text, Protocol::Tcp, &names), expected, "{text}");
    }

    #[test]
    fn every_documented_form_is_read() {
        check("192.0.2.1", Some(("192.0.2.1", None)));
        check("192.0.2.1:80", Some(("192.0.2.1", Some(80))));
        check("192.0.2.1:0", Some(("192.0.2.1", Some(0))));
        check("192.0.2.1:http", Some(("192.0.2.1", Some(80))));
        check("192.0.2.1:www", Some(("192.0.2.1", Some(80))));
        check("localhost:80", Some(("127.0.0.1", Some(80))));
        check("[2001:db8::1]:80", Some(("2001:db8::1", Some(80))));
        check("[2001:db8::1]:http", Some(("2001:db8::1", Some(80))));
        check("2001:db8::1", Some(("2001:db8::1", None)));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ":80",
            "1234",
            "1234:80",
            "1.2.3:80",
            "256.1.1.1:80",
            "1.2.3.4:",
            "1.2.3.4:65536",
            "1.2.3.4:-1",
            "1.2.3.4:80x",
            "1.2.3.4:0x50",
            "1.2.3.4:80:90",
            "1.2.3.4:domain",
            "1.2.3.4:nosuch",
            "[2001:db8::1]",
            "[2001:db8::1]80",
            "[2001:db8::1]:",
            "[1.2.3.4]:80",
            "[localhost]:80",
            "[]:80",
            "fe80::1%lo",
            " 1.2.3.4:80",
            "no such host:80",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn number_is_read_as_strtol_reads_it() {
        assert_eq!(number("010", 0, 65_535), Some(10));
        assert_eq!(number(" +3", 0, 65_535), Some(3));
        assert_eq!(number("-0", 0, 65_535), Some(0));
        assert_eq!(number("65535", 0, 65_535), Some(65_535));
        for text in ["", " ", "-1", "65536", "3 ", "3x", "0x10", "+", "--3", "99999999999999999999"] {
            assert_eq!(number(text, 0, 65_535), None, "{text:?}");
        }
    }
}
