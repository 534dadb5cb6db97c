//! The authentication header before a v2 advertisement (`auth_type AH`), as keepalived writes it:
//! HMAC-MD5-96 (RFC 2403) over the IP header, this header and the advertisement.
//!
//! The IP header counts without its type of service and checksum, but, other than in RFC 4302, with
//! its TTL: it is 255 at both ends, or the advertisement is not for us.

use std::fmt;
use std::net::Ipv4Addr;

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;

use crate::packet::{PROTOCOL, TTL};

/// IP protocol number of the authentication header.
pub const PROTOCOL_AH: u8 = 51;

/// Bytes of the header.
pub const LENGTH: usize = 24;

/// What of the IP header is authenticated and not the same in every advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Sender.
    pub source: Ipv4Addr,
    /// Receiver.
    pub destination: Ipv4Addr,
    /// Identification field.
    pub identification: u16,
}

/// Why an authentication header does not vouch for what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Forged {
    /// Fewer bytes than the header has.
    Short,
    /// It is not made as one before an advertisement is.
    Header,
    /// The keys differ, or the bytes do.
    Signature,
    /// Not newer than the one before.
    Replayed {
        /// Its number.
        number: u32,
        /// The number before.
        last: u32,
    },
}

/// The header and the advertisement behind it.
pub fn seal(key: &[u8], envelope: Envelope, number: u32, advert: &[u8]) -> Vec<u8> {
    let mut bytes = vec![PROTOCOL, WORDS, 0, 0];
    bytes.extend(envelope.source.octets());
    bytes.extend(number.to_be_bytes());
    bytes.extend([0; SIGNATURE]);
    bytes.extend(advert);
    let signature = sign(key, envelope, &bytes).finalize().into_bytes();
    bytes[UNSIGNED..LENGTH].copy_from_slice(&signature[..SIGNATURE]);
    bytes
}

/// The advertisement behind a header that vouches for it, and the number of the header, which has
/// to be above the `last`.
///
/// # Errors
/// Says why it does not.
pub fn open<'a>(
    key: &[u8],
    envelope: Envelope,
    last: Option<u32>,
    bytes: &'a [u8],
) -> Result<(u32, &'a [u8]), Forged> {
    let Some((header, advert)) = bytes.split_first_chunk::<LENGTH>() else { return Err(Forged::Short) };
    if header[..4] != [PROTOCOL, WORDS, 0, 0] || header[4..8] != envelope.source.octets() {
        return Err(Forged::Header);
    }
    let mut unsigned = bytes.to_vec();
    unsigned[UNSIGNED..LENGTH].fill(0);
    let signature = sign(key, envelope, &unsigned);
    signature.verify_truncated_left(&header[UNSIGNED..]).map_err(|_| Forged::Signature)?;
    let number = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    match last {
        Some(last) if number <= last => Err(Forged::Replayed { number, last }),
        _ => Ok((number, advert)),
    }
}

fn sign(key: &[u8], envelope: Envelope, bytes: &[u8]) -> Hmac<Md5> {
    let mut mac =
        <Hmac<Md5> as KeyInit>::new_from_slice(key).unwrap_or_else(|_| unreachable!("any length will do"));
    let length = (IP_HEADER + bytes.len()) as u16;
    mac.update(&[0x45, 0]);
    mac.update(&length.to_be_bytes());
    mac.update(&envelope.identification.to_be_bytes());
    mac.update(&[0, 0, TTL, PROTOCOL_AH, 0, 0]);
    mac.update(&envelope.source.octets());
    mac.update(&envelope.destination.octets());
    mac.update(bytes);
    mac
}

impl fmt::Display for Forged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Forged::Short => f.write_str("the authentication header is cut off"),
            Forged::Header => f.write_str("not the authentication header of an advertisement"),
            Forged::Signature => f.write_str("wrong signature: the passwords differ"),
            Forged::Replayed { number, last } => write!(f, "number {number} after {last}: replayed"),
        }
    }
}

impl std::error::Error for Forged {}

/// Length of the header in words, less 2.
const WORDS: u8 = 4;
const UNSIGNED: usize = 12;
const SIGNATURE: usize = 12;
const IP_HEADER: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::GROUP_V4;

    const ADVERT: [u8; 20] = [0x21, 0x33, 150, 1, 2, 1, 0x3c, 0x5e, 10, 8, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0];

    fn envelope() -> Envelope {
        Envelope { source: Ipv4Addr::new(10, 8, 0, 2), destination: GROUP_V4, identification: 1 }
    }

    #[test]
    fn bytes_are_those_of_keepalived() {
        let sealed = seal(b"secret12", envelope(), 11, &ADVERT);
        let header = [
            0x70, 4, 0, 0, 10, 8, 0, 2, 0, 0, 0, 11, 0x80, 0xae, 0xc1, 0xae, 0x85, 0xbd, 0x62, 0x40, 0xf6,
            0x63, 0x2c, 0xf0,
        ];
        assert_eq!(sealed[..LENGTH], header);
        assert_eq!(sealed[LENGTH..], ADVERT);
        assert_eq!(open(b"secret12", envelope(), Some(10), &sealed), Ok((11, &ADVERT[..])));
    }

    #[test]
    fn nothing_that_was_changed_is_opened() {
        let sealed = seal(b"secret12", envelope(), 11, &ADVERT);
        let open = |last, bytes: &[u8]| open(b"secret12", envelope(), last, bytes).map(|(number, _)| number);
        assert_eq!(open(Some(11), &sealed), Err(Forged::Replayed { number: 11, last: 11 }));
        assert_eq!(open(None, &sealed[..23]), Err(Forged::Short));
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(open(None, &changed).is_err(), "byte {place}");
        }
        let elsewhere = Envelope { identification: 2, ..envelope() };
        assert_eq!(super::open(b"secret12", elsewhere, None, &sealed), Err(Forged::Signature));
        assert_eq!(super::open(b"secret13", envelope(), None, &sealed), Err(Forged::Signature));
    }
}
