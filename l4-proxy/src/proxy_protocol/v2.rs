//! Version 2: a signature, a length, addresses and TLVs.

use std::net::{IpAddr, SocketAddr};

use super::{Addresses, Header, LENGTH_MAX, ParseError, Parsed, crc32c, same_family};

/// What else a header says of a connection, in the order it came: types and values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tlvs {
    /// As on the wire; every length in it is right.
    bytes: Vec<u8>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// Its type, as in the specification: 1 ALPN, 2 authority, 3 CRC-32C, 4 no operation, 5 unique
    /// id, 32 TLS, 48 network namespace; from 224 for private use.
    pub kind: u8,
    /// Its value.
    pub value: &'a [u8],
}

impl Tlvs {
    /// Every one, in order.
    pub fn iter(&self) -> impl Iterator<Item = Tlv<'_>> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (tlv, after) = first(rest)?;
            rest = after;
            Some(tlv)
        })
    }

    /// Adds one at the end; `false` if the header would become too long.
    #[must_use]
    pub fn push(&mut self, kind: u8, value: &[u8]) -> bool {
        if HEAD + ADDRESSES_MAX + self.bytes.len() + TLV_HEAD + value.len() > LENGTH_MAX {
            return false;
        }
        self.bytes.push(kind);
        self.bytes.extend((value.len() as u16).to_be_bytes());
        self.bytes.extend(value);
        true
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn parse(bytes: &[u8]) -> Option<Tlvs> {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = first(rest)?.1;
        }
        Some(Tlvs { bytes: bytes.to_vec() })
    }

    /// Where in the bytes the value of the checksum lies, if there is one of the right length.
    fn checksum_at(&self) -> Option<usize> {
        let mut at = 0;
        for Tlv { kind, value } in self.iter() {
            if kind == CRC32C && value.len() == 4 {
                return Some(at + TLV_HEAD);
            }
            at += TLV_HEAD + value.len();
        }
        None
    }
}

fn first(bytes: &[u8]) -> Option<(Tlv<'_>, &[u8])> {
    let (&[kind, high, low], rest) = bytes.split_first_chunk::<TLV_HEAD>()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
    Some((Tlv { kind, value }, rest))
}

pub(super) fn encode(header: &Header) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    let (command, pair, transport) = match header.addresses {
        Addresses::Own if header.tlvs.is_empty() => (LOCAL, None, 0),
        Addresses::Own => (PROXY, None, 0),
        Addresses::Tcp(source, destination) => (PROXY, Some(same_family(source, destination)), STREAM),
        Addresses::Udp(source, destination) => (PROXY, Some(same_family(source, destination)), DATAGRAM),
    };
    let family = match pair {
        None => 0,
        Some((source, _)) if source.is_ipv4() => INET,
        Some(_) => INET6,
    };
    bytes.extend([command, family << 4 | transport, 0, 0]);
    if let Some((source, destination)) = pair {
        for address in [source.ip(), destination.ip()] {
            match address {
                IpAddr::V4(address) => bytes.extend(address.octets()),
                IpAddr::V6(address) => bytes.extend(address.octets()),
            }
        }
        bytes.extend(source.port().to_be_bytes());
        bytes.extend(destination.port().to_be_bytes());
    }
    let tlvs_at = bytes.len();
    bytes.extend(&header.tlvs.bytes);
    let length = (bytes.len() - HEAD) as u16;
    bytes[HEAD - 2..HEAD].copy_from_slice(&length.to_be_bytes());
    if let Some(at) = header.tlvs.checksum_at().map(|at| tlvs_at + at) {
        bytes[at..at + 4].fill(0);
        let sum = crc32c::of(&bytes);
        bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

/// Whether a header's checksum has to be right.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksum {
    Checked,
    Ignored,
}

/// `bytes` begin with the signature.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, ParseError> {
    parse_as(bytes, Checksum::Checked)
}

/// The same, with a say on the checksum.
pub(super) fn parse_as(bytes: &[u8], checksum: Checksum) -> Result<Parsed, ParseError> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else {
        return Ok(Parsed::Partial);
    };
    let [.., command, family, high, low] = *head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if !matches!(command, LOCAL | PROXY) {
        return Err(ParseError::Command);
    }
    if HEAD + length > LENGTH_MAX {
        return Err(ParseError::TooLong);
    }
    let Some(block) = rest.get(..length) else {
        return Ok(Parsed::Partial);
    };
    let whole = |header| Ok(Parsed::Whole(header, HEAD + length));
    if command == LOCAL {
        // The block is to be ignored, its family included.
        return whole(Header::own());
    }
    let (size, transport) = match (family >> 4, family & 15) {
        (0, 0) => (0, 0),
        (INET, transport @ (STREAM | DATAGRAM)) => (12, transport),
        (INET6, transport @ (STREAM | DATAGRAM)) => (36, transport),
        (UNIX, STREAM | DATAGRAM) => (216, 0),
        _ => return Err(ParseError::Family),
    };
    let (pair, tlvs) = block.split_at_checked(size).ok_or(ParseError::Length)?;
    let tlvs = Tlvs::parse(tlvs).ok_or(ParseError::Length)?;
    if checksum == Checksum::Checked
        && let Some(at) = tlvs.checksum_at().map(|at| HEAD + size + at)
    {
        let mut zeroed = bytes[..HEAD + length].to_vec();
        zeroed[at..at + 4].fill(0);
        if crc32c::of(&zeroed).to_be_bytes() != bytes[at..at + 4] {
            return Err(ParseError::Checksum);
        }
    }
    let addresses = match (addresses(pair), transport) {
        (Some((source, destination)), STREAM) => Addresses::Tcp(source, destination),
        (Some((source, destination)), DATAGRAM) => Addresses::Udp(source, destination),
        _ => Addresses::Own,
    };
    whole(Header { addresses, tlvs })
}

/// The two addresses of an IPv4 or IPv6 block.
fn addresses(pair: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (ips, ports) = pair.split_at_checked(pair.len().checked_sub(4)?)?;
    let ip = |bytes: &[u8]| -> Option<IpAddr> {
        let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok();
        v4.or_else(|| <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok())
    };
    let (source, destination) = ips.split_at(ips.len() / 2);
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Some((SocketAddr::new(ip(source)?, port(0)), SocketAddr::new(ip(destination)?, port(2))))
}

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, command, family, length.
const HEAD: usize = 16;
const TLV_HEAD: usize = 3;
const ADDRESSES_MAX: usize = 36;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const INET: u8 = 1;
const INET6: u8 = 2;
const UNIX: u8 = 3;
const STREAM: u8 = 1;
const DATAGRAM: u8 = 2;
const CRC32C: u8 = 3;
