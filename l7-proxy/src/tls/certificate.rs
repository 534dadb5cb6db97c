//! The few fields of an X.509 certificate that variables show, read from its DER (RFC 5280, 4.1).
//!
//! Nothing here decides whether a certificate is good: webpki does that. A certificate that cannot
//! be read has no fields; every length is checked against what is there.

use std::fmt::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

/// The fields of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate<'a> {
    serial: &'a [u8],
    issuer: Name<'a>,
    subject: Name<'a>,
    not_before: Date<'a>,
    not_after: Date<'a>,
}

/// A distinguished name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a>(&'a [u8]);

/// A moment, as certificates write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date<'a> {
    year_digits: usize,
    text: &'a [u8],
}

const INTEGER: u8 = 0x02;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// Takes one value off the front: its tag, its contents, and what follows.
fn take(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
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
fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    take(bytes).filter(|(found, ..)| *found == tag).map(|(_, contents, rest)| (contents, rest))
}

impl<'a> Certificate<'a> {
    /// Reads a certificate.
    pub fn parse(der: &'a [u8]) -> Option<Self> {
        let (certificate, _) = expect(der, SEQUENCE)?;
        let (mut rest, _) = expect(certificate, SEQUENCE)?;
        if let Some((_, after)) = expect(rest, VERSION) {
            rest = after;
        }
        let (serial, rest) = expect(rest, INTEGER)?;
        let (_algorithm, rest) = expect(rest, SEQUENCE)?;
        let (issuer, rest) = expect(rest, SEQUENCE)?;
        let (validity, rest) = expect(rest, SEQUENCE)?;
        let (subject, _) = expect(rest, SEQUENCE)?;
        let (not_before, validity) = Date::take(validity)?;
        let (not_after, _) = Date::take(validity)?;
        Some(Self { serial, issuer: Name(issuer), subject: Name(subject), not_before, not_after })
    }

    /// The serial number, without the zero that keeps it positive.
    pub fn serial(&self) -> &'a [u8] {
        match self.serial {
            [0, rest @ ..] if !rest.is_empty() => rest,
            serial => serial,
        }
    }

    /// Who signed it.
    pub fn issuer(&self) -> Name<'a> {
        self.issuer
    }

    /// Whose it is.
    pub fn subject(&self) -> Name<'a> {
        self.subject
    }

    /// When it begins to hold.
    pub fn not_before(&self) -> Date<'a> {
        self.not_before
    }

    /// When it ceases to hold.
    pub fn not_after(&self) -> Date<'a> {
        self.not_after
    }
}

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

impl<'a> Date<'a> {
    fn take(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (tag, text, rest) = take(bytes)?;
        let year_digits = match tag {
            UTC_TIME => 2,
            GENERALIZED_TIME => 4,
            _ => return None,
        };
        let date = Self { year_digits, text };
        date.fields().map(|_| (date, rest))
    }

    /// Year, month, day, hour, minute, second.
    fn fields(&self) -> Option<[i64; 6]> {
        let (year, rest) = self.text.split_at_checked(self.year_digits)?;
        let rest = rest.strip_suffix(b"Z")?;
        if rest.len() != 10 {
            return None;
        }
        let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<i64>().ok();
        let mut fields = [number(year)?, 0, 0, 0, 0, 0];
        for (field, digits) in fields[1..].iter_mut().zip(rest.chunks(2)) {
            *field = number(digits)?;
        }
        if self.year_digits == 2 {
            // Two digits are a year between 1950 and 2049.
            fields[0] += if fields[0] < 50 { 2000 } else { 1900 };
        }
        (1..=12).contains(&fields[1]).then_some(fields)
    }

    /// Returns the seconds since 1970.
    fn seconds(&self) -> i64 {
        let [year, month, day, hour, minute, second] = self.fields().unwrap_or_default();
        // Days of the proleptic Gregorian calendar, counted in years that begin in March.
        let shifted = if month <= 2 { year - 1 } else { year };
        let era = shifted.div_euclid(400);
        let of_era = shifted.rem_euclid(400);
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
        days * 86_400 + hour * 3600 + minute * 60 + second
    }

    /// Returns the whole days that are left of it; 0 if it is over.
    pub fn days_left(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        (self.seconds() - i64::try_from(now).unwrap_or(i64::MAX)).max(0) / 86_400
    }
}

impl fmt::Display for Date<'_> {
    /// As OpenSSL prints it: `Jan  2 03:04:05 2026 GMT`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [year, month, day, hour, minute, second] = self.fields().unwrap_or_default();
        let month = usize::try_from(month - 1).ok().and_then(|month| MONTHS.get(month)).unwrap_or(&"");
        write!(f, "{month} {day:2} {hour:02}:{minute:02}:{second:02} {year} GMT")
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Returns bytes in hexadecimal; `letter` tells the case.
pub(super) fn hex(bytes: &[u8], letter: char) -> Vec<u8> {
    let digits: &[u8; 16] =
        if letter.is_ascii_uppercase() { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    bytes.iter().flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]).collect()
}

/// Returns the SHA-1 of a certificate, which is how nginx tells certificates apart in logs.
pub(super) fn sha1(der: &[u8]) -> [u8; 20] {
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, der);
    let mut out = [0; 20];
    out.copy_from_slice(digest.as_ref());
    out
}

/// Returns a certificate in PEM.
pub(super) fn pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let byte = |place: usize| u32::from(group.get(place).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for place in 0..4 {
                let digit = ALPHABET[(bits >> (18 - 6 * place)) as usize & 63];
                out.push(if place <= group.len() { char::from(digit) } else { '=' });
            }
        }
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value with its tag and length in front.
    fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        match contents.len() {
            length @ 0..=0x7f => out.push(length as u8),
            length => out.extend([0x82, (length >> 8) as u8, length as u8]),
        }
        out.extend_from_slice(contents);
        out
    }

    fn name(attributes: &[(&[u8], &str)]) -> Vec<u8> {
        let sets = attributes.iter().flat_map(|(kind, text)| {
            let pair = [der(OID, kind), der(0x0c, text.as_bytes())].concat();
            der(SET, &der(SEQUENCE, &pair))
        });
        der(SEQUENCE, &sets.collect::<Vec<_>>())
    }

    fn certificate() -> Vec<u8> {
        let subject = name(&[(&[0x55, 4, 6], "DE"), (&[0x55, 4, 10], "A, B"), (&[0x55, 4, 3], " a#b")]);
        let validity = [der(UTC_TIME, b"500101000000Z"), der(GENERALIZED_TIME, b"21000228235959Z")].concat();
        let fields = [
            der(VERSION, &der(INTEGER, &[2])),
            der(INTEGER, &[0, 0xfe, 1]),
            der(SEQUENCE, &[]),
            name(&[(&[0x55, 4, 3], "issuer"), (&[0x2a, 3, 0x81, 0x01], "x")]),
            der(SEQUENCE, &validity),
            subject,
        ]
        .concat();
        der(SEQUENCE, &der(SEQUENCE, &fields))
    }

    #[test]
    fn names_are_written_as_openssl_writes_them() {
        let der = certificate();
        let certificate = Certificate::parse(&der).unwrap();
        assert_eq!(certificate.subject().rfc2253(), r"CN=\ a#b,O=A\, B,C=DE");
        assert_eq!(certificate.subject().one_line(), "/C=DE/O=A, B/CN= a#b");
        assert_eq!(certificate.issuer().rfc2253(), "1.2.3.129=x,CN=issuer");
        assert_eq!(hex(certificate.serial(), 'A'), b"FE01");
    }

    #[test]
    fn dates_are_written_as_openssl_writes_them() {
        let der = certificate();
        let certificate = Certificate::parse(&der).unwrap();
        assert_eq!(certificate.not_before().to_string(), "Jan  1 00:00:00 1950 GMT");
        assert_eq!(certificate.not_after().to_string(), "Feb 28 23:59:59 2100 GMT");
        assert_eq!(certificate.not_before().days_left(), 0);
        assert_eq!(certificate.not_after().seconds(), 4_107_542_399);
    }

    #[test]
    fn cut_certificate_has_no_fields_and_does_no_harm() {
        let der = certificate();
        for end in 0..der.len() {
            assert_eq!(Certificate::parse(&der[..end]), None, "{end}");
        }
        for place in 0..der.len() {
            for value in [0, 0x7f, 0x84, 0xff] {
                let mut wrong = der.clone();
                wrong[place] = value;
                if let Some(found) = Certificate::parse(&wrong) {
                    let _ = (found.subject().rfc2253(), found.issuer().one_line());
                    let _ = (found.not_after().to_string(), found.not_after().days_left());
                }
            }
        }
    }

    #[test]
    fn pem_has_lines_of_64_characters() {
        let text = pem(&[0xff; 50]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "/".repeat(64));
        assert_eq!(lines[2], "//8=");
    }
}
