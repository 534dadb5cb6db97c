//! Structures that somebody signed: certificates and revocation lists have the same frame.

use l4_proxy::tls::PublicKey;
use l4_proxy::tls::der::{BIT_STRING, SEQUENCE, expect, expect_whole, whole_bits};
use rustls::crypto::WebPkiSupportedAlgorithms;

/// Something signed: the message, how it was signed, and the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signed<'a> {
    pub(super) message: &'a [u8],
    pub(super) algorithm: &'a [u8],
    pub(super) signature: &'a [u8],
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
                && key.has_signed(*known, self.message, self.signature)
        })
    }
}
