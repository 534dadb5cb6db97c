//! Distinguished names, in the two forms in which OpenSSL writes them.

use std::fmt::Write as _;

use l4_proxy::tls::der::{OID, SEQUENCE, SET, expect, take};

/// A distinguished name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a>(pub(in crate::tls) &'a [u8]);

impl<'a> Name<'a> {
    /// The attributes in order: their kinds as identifiers, and their texts.
    fn attributes(self) -> Vec<(&'a [u8], &'a [u8])> {
        let mut found = Vec::new();
        let mut sets = self.0;
        while let Some((mut set, rest)) = expect(sets, SET) {
            while let Some((pair, more)) = expect(set, SEQUENCE) {
                if let Some((kind, value)) = expect(pair, OID)
                    && let Some((_, text, _)) = take(value)
                {
                    found.push((kind, text));
                }
                set = more;
            }
            sets = rest;
        }
        found
    }

    /// Returns the common names, the last one first, which is the most special.
    pub fn common_names(self) -> impl Iterator<Item = &'a [u8]> {
        let named = self.attributes().into_iter().rev();
        named.filter(|(kind, _)| *kind == [0x55, 4, 3]).map(|(_, text)| text)
    }

    /// Returns the name as RFC 2253 writes it: last attribute first, joined by commas.
    pub fn rfc2253(self) -> String {
        let mut out = String::new();
        for (kind, text) in self.attributes().into_iter().rev() {
            if !out.is_empty() {
                out.push(',');
            }
            out.push_str(&kind_name(kind));
            out.push('=');
            escape_rfc2253(text, &mut out);
        }
        out
    }

    /// Returns the name in OpenSSL's older form: `/C=…/CN=…`.
    pub fn one_line(self) -> String {
        let mut out = String::new();
        for (kind, text) in self.attributes() {
            out.push('/');
            out.push_str(&kind_name(kind));
            out.push('=');
            for &byte in text {
                match byte {
                    b' '..=b'~' => out.push(char::from(byte)),
                    // Writing to a String cannot fail.
                    _ => _ = write!(out, "\\x{byte:02X}"),
                }
            }
        }
        out
    }
}

/// Escapes as OpenSSL does with `XN_FLAG_RFC2253`.
fn escape_rfc2253(text: &[u8], out: &mut String) {
    let last = text.len().saturating_sub(1);
    for (place, &byte) in text.iter().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => out.extend(['\\', char::from(byte)]),
            b'#' | b' ' if place == 0 => out.extend(['\\', char::from(byte)]),
            b' ' if place == last => out.push_str("\\ "),
            b' '..=b'~' => out.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => _ = write!(out, "\\{byte:02X}"),
        }
    }
}

/// Returns the short name of an attribute, or its identifier in dots.
fn kind_name(oid: &[u8]) -> String {
    let name = match oid {
        [0x55, 4, 3] => "CN",
        [0x55, 4, 4] => "SN",
        [0x55, 4, 5] => "serialNumber",
        [0x55, 4, 6] => "C",
        [0x55, 4, 7] => "L",
        [0x55, 4, 8] => "ST",
        [0x55, 4, 9] => "street",
        [0x55, 4, 10] => "O",
        [0x55, 4, 11] => "OU",
        [0x55, 4, 12] => "title",
        [0x55, 4, 42] => "GN",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1] => "emailAddress",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1] => "UID",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25] => "DC",
        _ => return dotted(oid),
    };
    name.to_owned()
}

fn dotted(oid: &[u8]) -> String {
    let mut numbers = Vec::new();
    let mut number = 0_u64;
    for &byte in oid {
        number = number.wrapping_shl(7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            numbers.push(number);
            number = 0;
        }
    }
    let mut parts = Vec::with_capacity(numbers.len() + 1);
    if let Some((&first, rest)) = numbers.split_first() {
        let top = (first / 40).min(2);
        parts.extend([top, first - top * 40]);
        parts.extend_from_slice(rest);
    }
    parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
}
