//! What a flow is hashed by: digests of a key, taken once.
//!
//! nginx hashes with CRC-32, and on each further try hashes the number of the try and the key once
//! more. A checksum of two strings follows from the checksums of both and the length of the second,
//! so a digest is enough to try again, and a flow carries no bytes.

use std::net::IpAddr;

use crate::flow::canonical;

/// Digests of the bytes that a flow is hashed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    crc: u32,
    length: u32,
    hash: u64,
}

impl Key {
    /// The digests of these bytes.
    pub fn new(bytes: &[u8]) -> Key {
        let hash = siphasher::sip::SipHasher13::new().hash(bytes);
        Key { crc: crc32(0, bytes), length: bytes.len() as u32, hash }
    }

    /// The digests of an address as it is written, which is what `hash $remote_addr` hashes.
    pub(crate) fn of_address(address: IpAddr) -> Key {
        use std::io::Write;
        let mut text = [0; ADDRESS_LONGEST];
        let mut rest = &mut text[..];
        // It fits, and if it did not the beginning would do.
        let _ = write!(rest, "{}", canonical(address));
        let length = ADDRESS_LONGEST - rest.len();
        Key::new(&text[..length])
    }

    /// Whether the key has no bytes.
    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// CRC-32 (IEEE 802.3) of the key.
    pub fn crc32(&self) -> u32 {
        self.crc
    }

    /// A 64-bit hash of the key (SipHash-1-3), the same in every process.
    pub fn hash64(&self) -> u64 {
        self.hash
    }

    /// CRC-32 of `prefix` followed by the key.
    pub(crate) fn crc32_after(&self, prefix: &[u8]) -> u32 {
        if prefix.is_empty() {
            return self.crc;
        }
        shifted(crc32(0, prefix), self.length) ^ self.crc
    }
}

/// Continues a CRC-32 that stands at `crc` with these bytes.
pub(super) fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!crc, |crc, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8)
}

/// What remains of a checksum when so many bytes have followed: the checksum, as a polynomial over
/// bits, times x to the number of bits.
fn shifted(crc: u32, bytes: u32) -> u32 {
    // x to the eighth, squared for each bit of the length.
    let (mut power, mut length, mut crc) = (1 << (31 - 8), bytes, crc);
    while length != 0 {
        if length & 1 == 1 {
            crc = product(crc, power);
        }
        power = product(power, power);
        length >>= 1;
    }
    crc
}

/// The product of two polynomials modulo that of the checksum. Bit 31 is the coefficient of 1.
fn product(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    for bit in (0..32).rev() {
        if a >> bit & 1 == 1 {
            product ^= b;
        }
        b = times_x(b);
    }
    product
}

const fn times_x(polynomial: u32) -> u32 {
    polynomial >> 1 ^ if polynomial & 1 == 1 { POLYNOMIAL } else { 0 }
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = times_x(crc);
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

const POLYNOMIAL: u32 = 0xEDB8_8320;

/// Letters of the longest IPv6 address.
const ADDRESS_LONGEST: usize = 45;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_that_of_ieee() {
        assert_eq!(Key::new(b"123456789").crc32(), 0xCBF4_3926);
    }

    #[test]
    fn key_after_a_prefix_is_as_if_both_had_been_hashed() {
        for key in ["", "a", "/index.html", "0123456789012345678901234567890123456789"] {
            for prefix in ["", "1", "20"] {
                let whole = Key::new(format!("{prefix}{key}").as_bytes());
                assert_eq!(Key::new(key.as_bytes()).crc32_after(prefix.as_bytes()), whole.crc32());
            }
        }
    }

    #[test]
    fn mapped_client_is_hashed_as_the_ipv4_client_it_is() {
        let written = Key::new(b"10.1.0.1");
        assert_eq!(Key::of_address("10.1.0.1".parse().expect("an address")), written);
        assert_eq!(Key::of_address("::ffff:10.1.0.1".parse().expect("an address")), written);
    }
}
