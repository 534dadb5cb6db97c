//! The public key of a certificate, and whether it signed something.
//!
//! webpki reads certificates of version 3 alone; a key stands in those of version 1 as well, which
//! `openssl x509 -req` makes unless it is told of extensions.

use rustls::SignatureScheme;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::SignatureVerificationAlgorithm;

use super::der::{BIT_STRING, INTEGER, SEQUENCE, expect, expect_whole, marked, optional, whole_bits};

/// A public key: its kind, and its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey<'a> {
    der: &'a [u8],
    algorithm: &'a [u8],
    bits: &'a [u8],
}

impl<'a> PublicKey<'a> {
    /// Reads a `SubjectPublicKeyInfo` (RFC 5280, 4.1).
    pub fn parse(der: &'a [u8]) -> Option<Self> {
        let (contents, _) = expect(der, SEQUENCE)?;
        let (algorithm, rest) = expect(contents, SEQUENCE)?;
        let (bits, _) = expect(rest, BIT_STRING)?;
        Some(Self { der, algorithm, bits: whole_bits(bits)? })
    }

    /// Finds the key in a certificate of any version.
    pub fn of_certificate(der: &'a [u8]) -> Option<Self> {
        let (whole, _) = expect(der, SEQUENCE)?;
        let (fields, _) = expect(whole, SEQUENCE)?;
        let (_version, rest) = optional(fields, marked(0));
        let (_serial, rest) = expect(rest, INTEGER)?;
        let (_algorithm, rest) = expect(rest, SEQUENCE)?;
        let (_issuer, rest) = expect(rest, SEQUENCE)?;
        let (_validity, rest) = expect(rest, SEQUENCE)?;
        let (_subject, rest) = expect(rest, SEQUENCE)?;
        Self::parse(expect_whole(rest, SEQUENCE)?.0)
    }

    /// All of it, with tag and length.
    pub fn der(&self) -> &'a [u8] {
        self.der
    }

    /// Whether a signature over `message` is this key's, made in this way.
    pub fn has_signed(
        &self,
        way: &dyn SignatureVerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        way.public_key_alg_id().as_ref() == self.algorithm
            && way.verify_signature(self.bits, message, signature).is_ok()
    }

    /// Whether a signature over `message` is this key's, in one of the ways that a scheme of TLS 1.2
    /// can mean.
    pub(super) fn has_signed_by_scheme(
        &self,
        scheme: SignatureScheme,
        message: &[u8],
        signature: &[u8],
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> bool {
        let meant = algorithms.mapping.iter().find(|(known, _)| *known == scheme);
        let mut ways = meant.into_iter().flat_map(|(_, ways)| ways.iter());
        ways.any(|way| self.has_signed(*way, message, signature))
    }
}
