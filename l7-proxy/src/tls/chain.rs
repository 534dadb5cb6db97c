//! Whether a chain of certificates is good, by OpenSSL's rules and in its words.
//!
//! webpki does not read certificates of version 1, takes no authority's own certificate for that of
//! a server or client (which is what `openssl req -x509` makes), and no limit on the length of a
//! chain. All of these are in use with nginx, so the chain is followed here: names and keys lead
//! from one certificate to its signer, and every certificate on the way must be in time, allowed to
//! sign, meant for the purpose, and free of what we do not understand. As with nginx, a chain ends
//! at a certificate that is trusted and signed by itself. Signatures are ring's. Limits on names
//! are left to webpki: a path that has any must please it as well.

use std::collections::HashMap;
use std::fmt;

use rustls::RootCertStore;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::certificate::{Certificate, Extensions, usage};
use super::revocation::RevocationList;

/// Judges chains of certificates.
#[derive(Debug)]
pub(super) struct Judge {
    trusted: Vec<CertificateDer<'static>>,
    /// The places of trusted certificates, by their subjects.
    by_subject: HashMap<Box<[u8]>, Vec<usize>>,
    /// The trusted certificates as webpki knows them.
    anchors: RootCertStore,
    lists: Vec<RevocationList>,
    /// How many authorities may stand between the end of a chain and the trusted one.
    depth: usize,
    purpose: Purpose,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Whose certificate is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A client's.
    Client,
    /// A server's.
    Server,
}

/// What is wrong with a chain; shown in OpenSSL's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Malformed,
    NoIssuer,
    NoLocalIssuer,
    NoSigner,
    SelfSigned,
    SelfSignedInChain,
    TooLong,
    Signature,
    NotYetValid,
    Expired,
    NoAuthority,
    PathLength,
    Purpose,
    BeyondUs,
    ForbiddenName,
    Revoked,
    NoRevocationList,
    RevocationListNotYetValid,
    RevocationListExpired,
    RevocationListSignature,
    RevocationListBeyondUs,
    NoRevocationLists,
    WrongName,
}

impl Judge {
    /// Trusts these certificates, and nobody if there are none.
    pub(super) fn new(
        trusted: Vec<CertificateDer<'static>>,
        lists: Vec<RevocationList>,
        depth: usize,
        purpose: Purpose,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        let mut by_subject: HashMap<Box<[u8]>, Vec<usize>> = HashMap::new();
        for (place, der) in trusted.iter().enumerate() {
            if let Some(certificate) = Certificate::parse(der) {
                by_subject.entry(certificate.subject().0.into()).or_default().push(place);
            }
        }
        let mut anchors = RootCertStore::empty();
        anchors.add_parsable_certificates(trusted.iter().cloned());
        Self { trusted, by_subject, anchors, lists, depth, purpose, algorithms }
    }

    /// Judges a chain, the owner's certificate first.
    ///
    /// # Errors
    /// It is not good; of several faults the one that OpenSSL would come to last.
    pub(super) fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Fault> {
        let (own, others) = chain.split_first().ok_or(Fault::Malformed)?;
        let end = Certificate::parse(own).ok_or(Fault::Malformed)?;
        let given = others.iter().filter_map(|der| Certificate::parse(der)).collect();
        let mut search = Search { judge: self, given, path: vec![end], left: SIGNATURES_MAX, fault: None };
        if !search.follow(0) {
            return Err(search.fault.unwrap_or(Fault::TooLong));
        }
        let path = search.path;
        let now_seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let mut fault = self.check_extensions(&path).err();
        if !self.lists.is_empty() {
            fault = self.check_revocation(&path, now_seconds).or(fault);
        }
        for certificate in path.iter().rev() {
            if now_seconds < certificate.not_before().seconds() {
                fault = Some(Fault::NotYetValid);
            } else if certificate.not_after().seconds() < now_seconds {
                fault = Some(Fault::Expired);
            }
        }
        match fault {
            Some(fault) => Err(fault),
            None => self.check_names(&path, own, others, now),
        }
    }

    fn check_extensions(&self, path: &[Certificate<'_>]) -> Result<(), Fault> {
        // How many authorities that are not their own signers stand below.
        let mut below = 0;
        for (place, certificate) in path.iter().enumerate() {
            let found = certificate.extensions().ok_or(Fault::Malformed)?;
            if found.is_beyond_us {
                return Err(Fault::BeyondUs);
            }
            if place > 0 {
                if !is_authority(certificate, &found) {
                    return Err(Fault::NoAuthority);
                }
                if found.path_length.is_some_and(|most| below > most) {
                    return Err(Fault::PathLength);
                }
                below += usize::from(!certificate.is_self_issued());
            }
            let (purpose, uses) = match self.purpose {
                Purpose::Client => (CLIENT_AUTH, usage::DIGITAL_SIGNATURE | usage::KEY_AGREEMENT),
                Purpose::Server => {
                    (SERVER_AUTH, usage::DIGITAL_SIGNATURE | usage::KEY_ENCIPHERMENT | usage::KEY_AGREEMENT)
                }
            };
            let fits_use = place > 0 || found.usage.is_none_or(|bits| bits & uses != 0);
            if !found.allows(purpose) || !fits_use {
                return Err(Fault::Purpose);
            }
        }
        Ok(())
    }

    fn check_revocation(&self, path: &[Certificate<'_>], now: i64) -> Option<Fault> {
        let check = |(place, certificate): (usize, &Certificate<'_>)| {
            // The last one is signed by itself.
            let issuer = path.get(place + 1).unwrap_or(certificate);
            RevocationList::check(&self.lists, certificate, issuer, now, &self.algorithms).err()
        };
        path.iter().enumerate().filter_map(check).last()
    }

    /// Asks webpki where an authority limits the names below it.
    fn check_names(
        &self,
        path: &[Certificate<'_>],
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Fault> {
        let constrains = |certificate: &Certificate<'_>| {
            certificate.extensions().is_none_or(|found| found.constrains_names)
        };
        if !path.iter().any(constrains) {
            return Ok(());
        }
        let usage = match self.purpose {
            Purpose::Client => KeyUsage::client_auth(),
            Purpose::Server => KeyUsage::server_auth(),
        };
        let end = EndEntityCert::try_from(own).map_err(|_| Fault::ForbiddenName)?;
        let found =
            end.verify_for_usage(self.algorithms.all, &self.anchors.roots, others, now, usage, None, None);
        found.map(drop).map_err(|_| Fault::ForbiddenName)
    }
}

/// Whether a certificate may sign others. One of version 1 says nothing of it, and is believed where
/// it is trusted and signed by itself.
fn is_authority(certificate: &Certificate<'_>, extensions: &Extensions<'_>) -> bool {
    let may_sign = extensions.usage.is_none_or(|bits| bits & usage::CERTIFICATES != 0);
    may_sign
        && match extensions.authority {
            Some(authority) => authority,
            None => extensions.usage.is_some() || certificate.is_self_issued(),
        }
}

/// The search for a way from a certificate to one that is trusted.
struct Search<'a> {
    judge: &'a Judge,
    /// What came along with the certificate.
    given: Vec<Certificate<'a>>,
    /// From the owner's certificate on.
    path: Vec<Certificate<'a>>,
    /// How many more signatures are looked at, so that nobody can have us search forever.
    left: usize,
    /// Why the longest way has failed.
    fault: Option<Fault>,
}

impl<'a> Search<'a> {
    /// Goes on from the end of the path, on which so many are trusted ones; returns whether a way was
    /// found.
    fn follow(&mut self, trusted: usize) -> bool {
        let Some(&last) = self.path.last() else { return false };
        let judge = self.judge;
        let signers = || judge.by_subject.get(last.issuer().0).into_iter().flatten();
        if last.is_self_issued() {
            let is_trusted = trusted > 0
                || signers().any(|&place| judge.trusted.get(place).is_some_and(|der| **der == *last.der()));
            if is_trusted {
                return true;
            }
        }
        let mut broken = false;
        // A signer has its place on the path while there is room between the ends.
        let has_room = self.path.len() <= judge.depth;
        for &place in signers() {
            let Some(signer) = judge.trusted.get(place).and_then(|der| Certificate::parse(der)) else {
                continue;
            };
            if !(has_room || signer.is_self_issued()) || self.path.contains(&signer) || !fits(&last, &signer)
            {
                continue;
            }
            if !self.is_signed(&last, &signer) {
                broken = true;
                continue;
            }
            self.path.push(signer);
            if self.follow(trusted + 1) {
                return true;
            }
            self.path.pop();
        }
        for place in 0..self.given.len() {
            let Some(&signer) = self.given.get(place) else { break };
            if !has_room || signer.subject() != last.issuer() || self.path.contains(&signer) {
                continue;
            }
            if !fits(&last, &signer) {
                continue;
            }
            if !self.is_signed(&last, &signer) {
                broken = true;
                continue;
            }
            self.path.push(signer);
            if self.follow(trusted) {
                return true;
            }
            self.path.pop();
        }
        let alone = self.path.len() == 1;
        self.fault.get_or_insert(match () {
            () if broken => Fault::Signature,
            () if last.is_self_issued() && alone => Fault::SelfSigned,
            () if last.is_self_issued() => Fault::SelfSignedInChain,
            () if !has_room => Fault::TooLong,
            () if trusted > 0 => Fault::NoIssuer,
            () if alone => Fault::NoSigner,
            () => Fault::NoLocalIssuer,
        });
        false
    }

    fn is_signed(&mut self, certificate: &Certificate<'_>, signer: &Certificate<'_>) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left > 0 && certificate.signed().is_by(signer.key(), &self.judge.algorithms)
    }
}

/// Whether the key is the one that the certificate names, if it names one.
fn fits(certificate: &Certificate<'_>, signer: &Certificate<'_>) -> bool {
    let wanted = certificate.extensions().and_then(|found| found.authority_key);
    let had = signer.extensions().and_then(|found| found.subject_key);
    wanted.zip(had).is_none_or(|(wanted, had)| wanted == had)
}

impl Fault {
    /// Whether all that is wrong is that nobody who is trusted has signed it.
    pub(super) fn is_unknown_signer(self) -> bool {
        matches!(self, Self::NoLocalIssuer | Self::NoSigner | Self::SelfSigned | Self::SelfSignedInChain)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "invalid certificate",
            Self::NoIssuer => "unable to get issuer certificate",
            Self::NoLocalIssuer => "unable to get local issuer certificate",
            Self::NoSigner => "unable to verify the first certificate",
            Self::SelfSigned => "self-signed certificate",
            Self::SelfSignedInChain => "self-signed certificate in certificate chain",
            Self::TooLong => "certificate chain too long",
            Self::Signature => "certificate signature failure",
            Self::NotYetValid => "certificate is not yet valid",
            Self::Expired => "certificate has expired",
            Self::NoAuthority => "invalid CA certificate",
            Self::PathLength => "path length constraint exceeded",
            Self::Purpose => "unsuitable certificate purpose",
            Self::BeyondUs => "unhandled critical extension",
            Self::ForbiddenName => "permitted subtree violation",
            Self::Revoked => "certificate revoked",
            Self::NoRevocationList => "unable to get certificate CRL",
            Self::RevocationListNotYetValid => "CRL is not yet valid",
            Self::RevocationListExpired => "CRL has expired",
            Self::RevocationListSignature => "CRL signature failure",
            Self::RevocationListBeyondUs => "unhandled critical CRL extension",
            Self::NoRevocationLists => "key usage does not include CRL signing",
            Self::WrongName => "hostname mismatch",
        })
    }
}

impl std::error::Error for Fault {}

/// More signatures than this no honest chain makes us look at.
const SIGNATURES_MAX: usize = 64;

/// 1.3.6.1.5.5.7.3.1
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];

/// 1.3.6.1.5.5.7.3.2
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
