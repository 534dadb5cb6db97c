//! X.509 certificates, read from their DER (RFC 5280, 4.1): what variables show of them, and what
//! has to be known to judge them.
//!
//! Nothing here decides whether a certificate is good: `tls::chain` does that. A
//! certificate that cannot be read has no fields; every length is checked against what is there.

mod date;
mod extensions;
mod name;
mod text;

pub use self::date::Date;
pub(super) use self::extensions::{Extensions, usage};
pub use self::name::Name;
pub(super) use self::text::{hex, pem, sha1};

use super::signed::Signed;
use l4_proxy::tls::PublicKey;
use l4_proxy::tls::der::{INTEGER, SEQUENCE, expect, expect_whole, marked, optional};

/// The fields of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate<'a> {
    der: &'a [u8],
    signed: Signed<'a>,
    serial: &'a [u8],
    issuer: Name<'a>,
    subject: Name<'a>,
    not_before: Date<'a>,
    not_after: Date<'a>,
    key: PublicKey<'a>,
    extensions: Option<&'a [u8]>,
}

impl<'a> Certificate<'a> {
    /// Reads a certificate of any version.
    pub fn parse(der: &'a [u8]) -> Option<Self> {
        let (signed, fields) = Signed::parse(der)?;
        let (_version, rest) = optional(fields, marked(0));
        let (serial, rest) = expect(rest, INTEGER)?;
        let (_algorithm, rest) = expect(rest, SEQUENCE)?;
        let (issuer, rest) = expect(rest, SEQUENCE)?;
        let (validity, rest) = expect(rest, SEQUENCE)?;
        let (subject, rest) = expect(rest, SEQUENCE)?;
        let (key, rest) = expect_whole(rest, SEQUENCE)?;
        let (not_before, validity) = Date::take(validity)?;
        let (not_after, _) = Date::take(validity)?;
        // Two identifiers that nobody uses may stand before the extensions.
        let (_, rest) = optional(rest, ISSUER_ID);
        let (_, rest) = optional(rest, SUBJECT_ID);
        let extensions = match optional(rest, marked(3)) {
            (Some(contents), _) => Some(expect(contents, SEQUENCE)?.0),
            (None, _) => None,
        };
        Some(Self {
            der,
            signed,
            serial,
            issuer: Name(issuer),
            subject: Name(subject),
            not_before,
            not_after,
            key: PublicKey::parse(key)?,
            extensions,
        })
    }

    /// All of it, as it was read.
    pub(super) fn der(&self) -> &'a [u8] {
        self.der
    }

    /// What is signed, and by what signature.
    pub(super) fn signed(&self) -> &Signed<'a> {
        &self.signed
    }

    /// The key that it is about.
    pub(super) fn key(&self) -> &PublicKey<'a> {
        &self.key
    }

    /// What it says beyond its fields; `None` if that cannot be read.
    pub(super) fn extensions(&self) -> Option<Extensions<'a>> {
        Extensions::parse(self.extensions)
    }

    /// Whether it names itself as its signer.
    pub(super) fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
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

const ISSUER_ID: u8 = 0x81;
const SUBJECT_ID: u8 = 0x82;

#[cfg(test)]
mod tests {
    use super::*;
    use l4_proxy::tls::der::{BIT_STRING, GENERALIZED_TIME, OID, SET, UTC_TIME};

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
            der(marked(0), &der(INTEGER, &[2])),
            der(INTEGER, &[0, 0xfe, 1]),
            der(SEQUENCE, &[]),
            name(&[(&[0x55, 4, 3], "issuer"), (&[0x2a, 3, 0x81, 0x01], "x")]),
            der(SEQUENCE, &validity),
            subject,
            der(SEQUENCE, &[der(SEQUENCE, &[]), der(BIT_STRING, &[0, 4])].concat()),
        ]
        .concat();
        let signature = [der(SEQUENCE, &[]), der(BIT_STRING, &[0, 1, 2])].concat();
        der(SEQUENCE, &[der(SEQUENCE, &fields), signature].concat())
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
