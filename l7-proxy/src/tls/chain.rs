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
        path.iter().enumerate().filter_map(check).next_back()
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
        let (mut broken, mut blocked) = (false, false);
        // A signer has its place on the path while there is room between the ends.
        let has_room = self.path.len() <= judge.depth;
        for &place in signers() {
            let Some(signer) = judge.trusted.get(place).and_then(|der| Certificate::parse(der)) else {
                continue;
            };
            if self.path.contains(&signer) || !fits(&last, &signer) {
                continue;
            }
            if !has_room && !signer.is_self_issued() {
                blocked = true;
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
            if signer.subject() != last.issuer() || self.path.contains(&signer) || !fits(&last, &signer) {
                continue;
            }
            if !has_room {
                blocked = true;
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
            () if blocked => Fault::TooLong,
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

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::time::Duration;

    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::tls::files;

    /// A file that `make.sh` beside it made.
    fn file(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls/chain").join(name)
    }

    fn pem(name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(file(&format!("{name}.pem"))).unwrap()
    }

    /// The chain, who is trusted, revocation lists, how many authorities are allowed, and what is
    /// wrong with it.
    type Case = (&'static str, &'static str, &'static str, usize, &'static str);

    const CASES: &[Case] = &[
        ("under-root", "root", "", 0, ""),
        ("under-one one", "root", "", 1, ""),
        ("under-one one", "root", "", 0, "certificate chain too long"),
        ("end two one", "root", "", 2, ""),
        ("end one two", "root", "", 2, ""),
        ("end two one", "root", "", 1, "certificate chain too long"),
        ("end two one root", "root", "", 2, ""),
        // Who is trusted may stand between, but is no end.
        ("end", "root one two", "", 2, ""),
        ("end two", "one", "", 2, "unable to get issuer certificate"),
        ("under-one", "root", "", 0, "unable to verify the first certificate"),
        ("end two", "root", "", 2, "unable to get local issuer certificate"),
        // Another key of the same name.
        ("under-root", "impostor", "", 1, "unable to verify the first certificate"),
        ("under-root", "impostor root", "", 1, ""),
        ("under-root impostor", "root", "", 1, ""),
        // Signed by themselves.
        ("alone", "alone", "", 0, ""),
        ("root", "root", "", 0, ""),
        ("alone", "root", "", 0, "self-signed certificate"),
        ("under-root root", "alone", "", 1, "self-signed certificate in certificate chain"),
        // Authorities' certificates, and those of version 1.
        ("authority-end", "root", "", 0, ""),
        ("first", "root", "", 0, ""),
        ("under-old", "old", "", 0, ""),
        // Who may sign, and whom.
        ("under-plain under-root", "root", "", 1, "invalid CA certificate"),
        ("under-silent silent", "root", "", 1, "invalid CA certificate"),
        ("under-short short", "root", "", 1, ""),
        ("under-two-short two-short short", "root", "", 2, "path length constraint exceeded"),
        ("inside narrow", "root", "", 1, ""),
        ("outside narrow", "root", "", 1, "permitted subtree violation"),
        // What it is for, what it says, and how long.
        ("server", "root", "", 0, "unsuitable certificate purpose"),
        ("beyond", "root", "", 0, "unhandled critical extension"),
        ("expired", "root", "", 0, "certificate has expired"),
        // Every certificate of the chain must be looked up.
        ("under-root", "root", "root", 0, ""),
        ("under-one one", "root", "root one", 1, ""),
        ("under-one one", "root", "root", 1, "unable to get certificate CRL"),
        ("under-one one", "root", "root-revoked one", 1, "certificate revoked"),
        ("one", "root", "root-revoked", 0, "certificate revoked"),
        ("under-root", "root", "root-old", 0, "CRL has expired"),
        ("under-root", "root", "root-old root", 0, ""),
    ];

    fn judged(case: Case) -> String {
        let (chain, trusted, lists, depth, _) = case;
        let names = |words: &'static str| words.split(' ').filter(|name| !name.is_empty());
        let lists =
            names(lists).flat_map(|name| files::revocation_lists(&file(&format!("{name}.crl"))).unwrap());
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let trusted = names(trusted).map(pem).collect();
        let judge = Judge::new(trusted, lists.collect(), depth, Purpose::Client, algorithms);
        let chain: Vec<_> = names(chain).map(pem).collect();
        judge.judge(&chain, UnixTime::now()).err().map(|fault| fault.to_string()).unwrap_or_default()
    }

    #[test]
    fn chain_is_good_or_has_the_fault_that_openssl_names() {
        for &case in CASES {
            assert_eq!(judged(case), case.4, "{case:?}");
        }
    }

    #[test]
    fn openssl_is_of_the_same_opinion() {
        let folder = tempfile::tempdir().unwrap();
        for (chain, trusted, lists, depth, fault) in CASES {
            let joined = |name: &str, kind: &str, words: &str| {
                let path = folder.path().join(name);
                let parts = words.split(' ').filter(|name| !name.is_empty());
                let parts = parts.map(|name| std::fs::read(file(&format!("{name}.{kind}"))).unwrap());
                std::fs::write(&path, parts.collect::<Vec<_>>().concat()).unwrap();
                path
            };
            let (own, others) = chain.split_once(' ').unwrap_or((chain, ""));
            let mut openssl = Command::new("openssl");
            openssl.args(["verify", "-no-CApath", "-no-CAstore", "-purpose", "sslclient", "-verify_depth"]);
            openssl.arg(depth.to_string()).arg("-CAfile").arg(joined("trusted", "pem", trusted));
            if !others.is_empty() {
                openssl.arg("-untrusted").arg(joined("others", "pem", others));
            }
            if !lists.is_empty() {
                openssl.arg("-crl_check_all").arg("-CRLfile").arg(joined("lists", "crl", lists));
            }
            let Ok(output) = openssl.arg(file(&format!("{own}.pem"))).output() else {
                assert!(std::env::var_os("REQUIRE_PEERS").is_none(), "openssl is missing");
                return;
            };
            assert_eq!(output.status.success(), fault.is_empty(), "{chain} {lists}: {output:?}");
        }
    }

    #[test]
    fn certificate_holds_from_its_first_second_to_its_last() {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let judge = Judge::new(vec![pem("root")], Vec::new(), 0, Purpose::Client, algorithms);
        let own = pem("under-root");
        let certificate = Certificate::parse(&own).unwrap();
        let at = |seconds: i64| {
            let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().unwrap()));
            judge.judge(std::slice::from_ref(&own), now)
        };
        assert_eq!(at(certificate.not_before().seconds()), Ok(()));
        assert_eq!(at(certificate.not_before().seconds() - 1), Err(Fault::NotYetValid));
        assert_eq!(at(certificate.not_after().seconds() + 1), Err(Fault::Expired));
    }

    #[test]
    fn changed_byte_is_never_believed() {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let judge = Judge::new(vec![pem("root")], Vec::new(), 0, Purpose::Client, algorithms);
        let good = pem("under-root");
        for place in 0..good.len() {
            let mut wrong = good.to_vec();
            wrong[place] ^= 1;
            let judged = judge.judge(&[wrong.into()], UnixTime::now());
            // Only what is signed counts: the outer frame may say its length in another way.
            assert!(judged.is_err() || place < 4, "{place}");
        }
    }
}
