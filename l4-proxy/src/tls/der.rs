//! Distinguished Encoding Rules, as far as certificates and revocation lists need them (X.690).
//!
//! Every length is checked against what is there; nothing is copied.

/// The tag of `BOOLEAN`.
pub const BOOLEAN: u8 = 0x01;
/// The tag of `INTEGER`.
pub const INTEGER: u8 = 0x02;
/// The tag of `BIT STRING`.
pub const BIT_STRING: u8 = 0x03;
/// The tag of `OCTET STRING`.
pub const OCTET_STRING: u8 = 0x04;
/// The tag of `OBJECT IDENTIFIER`.
pub const OID: u8 = 0x06;
/// The tag of `UTCTime`.
pub const UTC_TIME: u8 = 0x17;
/// The tag of `GeneralizedTime`.
pub const GENERALIZED_TIME: u8 = 0x18;
/// The tag of `SEQUENCE`.
pub const SEQUENCE: u8 = 0x30;
/// The tag of `SET`.
pub const SET: u8 = 0x31;

/// The tag of a value that is marked by a number of its place, and has others in it.
pub const fn marked(number: u8) -> u8 {
    0xa0 | number
}

/// Takes one value off the front: its tag, its contents, and what follows.
pub fn take(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |sum, &digit| sum << 8 | usize::from(digit)), rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

/// Takes a value of this kind off the front.
pub fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    take(bytes).filter(|(found, ..)| *found == tag).map(|(_, contents, rest)| (contents, rest))
}

/// Takes a value of this kind off the front, with its tag and length; returns what follows as well.
pub fn expect_whole(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (_, rest) = expect(bytes, tag)?;
    Some((&bytes[..bytes.len() - rest.len()], rest))
}

/// Takes a value of this kind off the front if there is one: its contents, and what follows.
pub fn optional(bytes: &[u8], tag: u8) -> (Option<&[u8]>, &[u8]) {
    expect(bytes, tag).map_or((None, bytes), |(contents, rest)| (Some(contents), rest))
}

/// Reads a string of bits that fill whole bytes.
pub fn whole_bits(contents: &[u8]) -> Option<&[u8]> {
    match contents.split_first()? {
        (0, bytes) => Some(bytes),
        _ => None,
    }
}

/// The values that follow each other, as tags and contents; ends with `None` where something is broken.
pub fn each(mut bytes: &[u8]) -> impl Iterator<Item = Option<(u8, &[u8])>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let found = take(bytes);
        bytes = found.map_or(&[], |(.., rest)| rest);
        Some(found.map(|(tag, contents, _)| (tag, contents)))
    })
}
