//! Lists of revoked certificates (RFC 5280, 5), of either version.
//!
//! `openssl ca` writes lists of version 1 unless told otherwise, which webpki does not read.

use std::collections::HashSet;

use rustls::crypto::WebPkiSupportedAlgorithms;

use super::certificate::{Certificate, Date, usage};
use super::chain::Fault;
use super::signed::Signed;
use l4_proxy::tls::der::{BOOLEAN, INTEGER, OID, SEQUENCE, each, expect, marked, optional};

/// A list of revoked certificates.
#[derive(Debug)]
pub(super) struct RevocationList {
    message: Box<[u8]>,
    algorithm: Box<[u8]>,
    signature: Box<[u8]>,
    issuer: Box<[u8]>,
    /// Seconds since 1970.
    this_update: i64,
    next_update: Option<i64>,
    /// The serial numbers, without leading zeros.
    revoked: HashSet<Box<[u8]>>,
    /// Whether it says something that must be understood and is not: it is a part of a list, or
    /// holds for a part of the certificates.
    is_beyond_us: bool,
}

impl RevocationList {
    /// Reads a list.
    pub(super) fn parse(der: &[u8]) -> Option<Self> {
        let (signed, fields) = Signed::parse(der)?;
        let (_version, rest) = optional(fields, INTEGER);
        let (_algorithm, rest) = expect(rest, SEQUENCE)?;
        let (issuer, rest) = expect(rest, SEQUENCE)?;
        let (this_update, mut rest) = Date::take(rest)?;
        let mut next_update = None;
        if let Some((date, after)) = Date::take(rest) {
            (next_update, rest) = (Some(date.seconds()), after);
        }
        let (entries, rest) = optional(rest, SEQUENCE);
        let mut is_beyond_us = match optional(rest, marked(0)) {
            (Some(extensions), _) => has_critical(expect(extensions, SEQUENCE)?.0)?,
            (None, _) => false,
        };
        let mut revoked = HashSet::new();
        for entry in each(entries.unwrap_or_default()) {
            let (serial, rest) = expect(entry.filter(|(tag, _)| *tag == SEQUENCE)?.1, INTEGER)?;
            let (_date, rest) = Date::take(rest)?;
            if let (Some(extensions), _) = optional(rest, SEQUENCE) {
                is_beyond_us |= has_critical(extensions)?;
            }
            let serial = match serial {
                [0, serial @ ..] if !serial.is_empty() => serial,
                serial => serial,
            };
            revoked.insert(serial.into());
        }
        Some(Self {
            message: signed.message.into(),
            algorithm: signed.algorithm.into(),
            signature: signed.signature.into(),
            issuer: issuer.into(),
            this_update: this_update.seconds(),
            next_update,
            revoked,
            is_beyond_us,
        })
    }

    fn is_current(&self, now: i64) -> bool {
        self.this_update <= now && self.next_update.is_none_or(|next| now <= next)
    }

    /// Says whether a list of the issuer has the certificate.
    ///
    /// # Errors
    /// It has, or no list of the issuer can be relied on.
    pub(super) fn check(
        lists: &[Self],
        certificate: &Certificate<'_>,
        issuer: &Certificate<'_>,
        now: i64,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Fault> {
        let of_issuer = || lists.iter().filter(|list| *list.issuer == *certificate.issuer().0);
        let list = of_issuer().find(|list| list.is_current(now)).or_else(|| of_issuer().next());
        let list = list.ok_or(Fault::NoRevocationList)?;
        let extensions = issuer.extensions().ok_or(Fault::Malformed)?;
        if extensions.usage.is_some_and(|bits| bits & usage::REVOCATION_LISTS == 0) {
            return Err(Fault::NoRevocationLists);
        }
        let signed =
            Signed { message: &list.message, algorithm: &list.algorithm, signature: &list.signature };
        if !signed.is_by(issuer.key(), algorithms) {
            return Err(Fault::RevocationListSignature);
        }
        if list.is_beyond_us {
            return Err(Fault::RevocationListBeyondUs);
        }
        // What is revoked stays so, however old the list is.
        if list.revoked.contains(certificate.serial()) {
            return Err(Fault::Revoked);
        }
        if now < list.this_update {
            return Err(Fault::RevocationListNotYetValid);
        }
        if !list.is_current(now) {
            return Err(Fault::RevocationListExpired);
        }
        Ok(())
    }
}

/// Whether one of these extensions must be understood. None is, so that it would be a fault.
fn has_critical(extensions: &[u8]) -> Option<bool> {
    let mut found = false;
    for extension in each(extensions) {
        let (_kind, rest) = expect(extension.filter(|(tag, _)| *tag == SEQUENCE)?.1, OID)?;
        found |= optional(rest, BOOLEAN).0.is_some_and(|critical| critical != [0]);
    }
    Some(found)
}
