//! Structures that somebody signed: certificates and revocation lists have the same frame.

use rustls::crypto::WebPkiSupportedAlgorithms;

use super::der::{BIT_STRING, SEQUENCE, expect, expect_whole, whole_bits};

/// Something signed: the message, how it was signed, and the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signed<'a> {
    pub(super) message: &'a [u8],
    pub(super) algorithm: &'a [u8],
    pub(super) signature: &'a [u8],
}

/// A public key: its kind, and its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PublicKey<'a> {
    /// All of it, with tag and length.
    pub(super) der: &'a [u8],
    algorithm: &'a [u8],
    bits: &'a [u8],
}

impl<'a> Signed<'a> {
    /// Takes the frame off; returns what is inside of the message as well.
    pub(super) fn parse(der: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (whole, _) = expect(der, SEQUENCE)?;
        let (message, rest) = expect_whole(whole, SEQUENCE)?;
        let (algorithm, rest) = expect(rest, SEQUENCE)?;
        let (signature, _) = expect(rest, BIT_STRING)?;
        let (fields, _) = expect(message, SEQUENCE)?;
        Some((Self { message, algorithm, signature: whole_bits(signature)? }, fields))
    }

    /// Whether the holder of this key signed it.
    pub(super) fn is_by(&self, key: &PublicKey<'_>, algorithms: &WebPkiSupportedAlgorithms) -> bool {
        algorithms.all.iter().any(|known| {
            known.signature_alg_id().as_ref() == self.algorithm
                && known.public_key_alg_id().as_ref() == key.algorithm
                && known.verify_signature(key.bits, self.message, self.signature).is_ok()
        })
    }
}

impl<'a> PublicKey<'a> {
    /// Reads a `SubjectPublicKeyInfo`.
    pub(super) fn parse(der: &'a [u8]) -> Option<Self> {
        let (contents, _) = expect(der, SEQUENCE)?;
        let (algorithm, rest) = expect(contents, SEQUENCE)?;
        let (bits, _) = expect(rest, BIT_STRING)?;
        Some(Self { der, algorithm, bits: whole_bits(bits)? })
    }

    /// Whether a signature over `message` is this key's, in one of the ways that a scheme of TLS 1.2
    /// can mean.
    pub(super) fn signed(
        &self,
        message: &[u8],
        signature: &[u8],
        scheme: rustls::SignatureScheme,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> bool {
        let meant = algorithms.mapping.iter().find(|(known, _)| *known == scheme);
        meant.into_iter().flat_map(|(_, ways)| ways.iter()).any(|way| {
            way.public_key_alg_id().as_ref() == self.algorithm
                && way.verify_signature(self.bits, message, signature).is_ok()
        })
    }
}
