//! The PROXY protocol, versions 1 and 2: the client's address, told to a server that sees only the
//! proxy's.
//!
//! A pure codec: bytes in, a [`Header`] out, and back. Nothing is believed that the specification
//! does not allow, since whoever can forge a header can be any client: a receiver reads it from
//! networks it was told to trust, and from nobody else.
//!
//! ```
//! use l4_proxy::proxy_protocol::{Header, Parsed, Version, parse};
//!
//! let header = Header::tcp("192.0.2.7:40000".parse()?, "198.51.100.1:80".parse()?);
//! let bytes = header.encode(Version::V1);
//! assert_eq!(bytes, b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 80\r\n");
//! assert_eq!(parse(&bytes), Ok(Parsed::Whole(header, bytes.len())));
//! assert_eq!(parse(&bytes[..9]), Ok(Parsed::Partial));
//! # Ok::<(), std::net::AddrParseError>(())
//! ```
//!
//! Source: "The PROXY protocol, versions 1 & 2", haproxy.org, 2020/03/05.

mod crc32c;
mod v1;
mod v2;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

pub use self::v2::{Tlv, Tlvs};

/// Which of the two formats is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text; it knows TCP only and has no room for more than the addresses.
    V1,
    /// Binary.
    V2,
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Between whom the connection is.
    pub addresses: Addresses,
    /// What else is known of it; version 2 only.
    pub tlvs: Tlvs,
}

/// Between whom a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// The connection speaks for itself: the sender's own (`LOCAL`), or of a kind that this codec
    /// has no use for (`UNKNOWN`, Unix sockets).
    Own,
    /// TCP, from and to.
    Tcp(SocketAddr, SocketAddr),
    /// UDP, from and to; version 1 cannot say it and says `UNKNOWN`.
    Udp(SocketAddr, SocketAddr),
}

/// How far the bytes so far go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A header, and how many of the bytes it took.
    Whole(Header, usize),
    /// The beginning of one.
    Partial,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseError {
    /// They begin like neither version.
    NotAHeader,
    /// A line of version 1 that says nothing the specification knows, or has no end.
    Line,
    /// A version 2 header of another version or with another command.
    Command,
    /// A family or transport that the specification does not know.
    Family,
    /// The block is too short for its addresses or cuts a TLV.
    Length,
    /// It is longer than [`LENGTH_MAX`].
    TooLong,
    /// Its checksum is wrong.
    Checksum,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ParseError::NotAHeader => "no PROXY header",
            ParseError::Line => "malformed PROXY line",
            ParseError::Command => "unknown version or command in the PROXY header",
            ParseError::Family => "unknown address family in the PROXY header",
            ParseError::Length => "wrong length in the PROXY header",
            ParseError::TooLong => "PROXY header too long",
            ParseError::Checksum => "wrong checksum in the PROXY header",
        })
    }
}

impl std::error::Error for ParseError {}

impl Header {
    /// A TCP connection between these two.
    pub fn tcp(source: SocketAddr, destination: SocketAddr) -> Header {
        Header { addresses: Addresses::Tcp(source, destination), tlvs: Tlvs::default() }
    }

    /// A connection that speaks for itself, as a health check's does.
    pub fn own() -> Header {
        Header { addresses: Addresses::Own, tlvs: Tlvs::default() }
    }

    /// The bytes to be sent before anything else.
    ///
    /// A checksum among the TLVs is calculated anew; version 1 leaves the TLVs out.
    pub fn encode(&self, version: Version) -> Vec<u8> {
        match version {
            Version::V1 => v1::encode(self),
            Version::V2 => v2::encode(self),
        }
    }
}

/// Reads a header of either version at the beginning of a stream.
///
/// # Errors
/// What came cannot become a header, whatever follows.
pub fn parse(bytes: &[u8]) -> Result<Parsed, ParseError> {
    let begins = |signature: &[u8]| bytes.iter().zip(signature).all(|(byte, wanted)| byte == wanted);
    if begins(v2::SIGNATURE) {
        if bytes.len() < v2::SIGNATURE.len() { Ok(Parsed::Partial) } else { v2::parse(bytes) }
    } else if begins(v1::SIGNATURE) {
        if bytes.len() < v1::SIGNATURE.len() { Ok(Parsed::Partial) } else { v1::parse(bytes) }
    } else {
        Err(ParseError::NotAHeader)
    }
}

/// The same, except that a checksum is not looked at: what nginx does.
///
/// # Errors
/// As [`parse`].
pub fn parse_unchecked(bytes: &[u8]) -> Result<Parsed, ParseError> {
    match bytes.strip_prefix(v2::SIGNATURE) {
        Some(_) => v2::parse_as(bytes, v2::Checksum::Ignored),
        None => parse(bytes),
    }
}

/// The pair in one family: both as they are, or both as IPv6.
fn same_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let (source, destination) = (canonical(source), canonical(destination));
    if source.is_ipv4() == destination.is_ipv4() {
        return (source, destination);
    }
    let mapped = |address: SocketAddr| SocketAddr::new(IpAddr::V6(as_v6(address.ip())), address.port());
    (mapped(source), mapped(destination))
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Longest header that is read: far above what anybody sends, far below what hurts.
pub const LENGTH_MAX: usize = 4096;
