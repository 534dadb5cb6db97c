//! Version 1: one line of text, at most 107 bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Addresses, Header, ParseError, Parsed, same_family};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

pub(super) fn encode(header: &Header) -> Vec<u8> {
    let Addresses::Tcp(source, destination) = header.addresses else {
        return b"PROXY UNKNOWN\r\n".to_vec();
    };
    let (source, destination) = same_family(source, destination);
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

/// `bytes` begin with the signature.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, ParseError> {
    let seen = &bytes[..bytes.len().min(LINE_MAX)];
    let Some(end) = seen.iter().position(|byte| *byte == b'\n') else {
        return if seen.len() < LINE_MAX { Ok(Parsed::Partial) } else { Err(ParseError::Line) };
    };
    let line = seen[..end].strip_suffix(b"\r").ok_or(ParseError::Line)?;
    let line = std::str::from_utf8(line).map_err(|_| ParseError::Line)?;
    let addresses = addresses(line).ok_or(ParseError::Line)?;
    Ok(Parsed::Whole(Header { addresses, tlvs: Default::default() }, end + 1))
}

fn addresses(line: &str) -> Option<Addresses> {
    let mut words = line.split(' ').skip(1);
    let (source, destination) = match words.next()? {
        "TCP4" => (address::<Ipv4Addr>(words.next()?)?, address::<Ipv4Addr>(words.next()?)?),
        "TCP6" => (address::<Ipv6Addr>(words.next()?)?, address::<Ipv6Addr>(words.next()?)?),
        // What follows is to be ignored.
        "UNKNOWN" => return Some(Addresses::Own),
        _ => return None,
    };
    let (from, to) = (port(words.next()?)?, port(words.next()?)?);
    let none_left = words.next().is_none();
    none_left.then(|| Addresses::Tcp(SocketAddr::new(source, from), SocketAddr::new(destination, to)))
}

fn address<A: FromStr + Into<IpAddr>>(text: &str) -> Option<IpAddr> {
    text.parse::<A>().ok().map(Into::into)
}

/// Decimal, without a sign and without leading zeros.
fn port(text: &str) -> Option<u16> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok()).flatten()
}

/// With its end; the specification's count.
const LINE_MAX: usize = 107;
