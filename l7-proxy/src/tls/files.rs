//! Certificates, keys and revocation lists from PEM files.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;
use super::revocation::RevocationList;
use super::{TlsError, key};
use crate::model::{CertificatePair, Passwords};

/// Reads a certificate with its chain, and its key, which one of the passwords may open.
pub(super) fn certified_key(
    pair: &CertificatePair,
    passwords: &Passwords,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates("certificate", &pair.certificate)?;
    let fault = |reason: String| TlsError::file("certificate key", &pair.key, reason);
    let pem = std::fs::read(&pair.key).map_err(|error| fault(error.to_string()))?;
    let key = key::read(&pem, passwords).map_err(fault)?;
    let key = any_supported_type(&key).map_err(|error| fault(error.to_string()))?;
    let Some(own) = chain.first().and_then(|der| Certificate::parse(der)) else {
        return Err(TlsError::file("certificate", &pair.certificate, "it cannot be read"));
    };
    // A key of an unknown kind cannot be compared, which is no proof that it does not fit.
    if key.public_key().is_some_and(|public| *public != *own.key().der) {
        return Err(fault("key values mismatch".to_owned()));
    }
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| TlsError::file(what, path, error))?;
    if found.is_empty() {
        return Err(TlsError::file(what, path, "no certificate in it"));
    }
    Ok(found)
}

/// Reads the certificates of a file that are trusted.
pub(super) fn trusted(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = certificates("trusted certificate", path)?;
    match found.iter().all(|der| Certificate::parse(der).is_some()) {
        true => Ok(found),
        false => Err(TlsError::file("trusted certificate", path, "one of them cannot be read")),
    }
}

/// Reads the revocation lists of a file.
pub(super) fn revocation_lists(path: &Path) -> Result<Vec<RevocationList>, TlsError> {
    let lists = CertificateRevocationListDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| TlsError::file("CRL", path, error))?;
    let lists: Option<Vec<_>> = lists.iter().map(|der| RevocationList::parse(der)).collect();
    match lists {
        Some(lists) if !lists.is_empty() => Ok(lists),
        Some(_) => Err(TlsError::file("CRL", path, "no revocation list in it")),
        None => Err(TlsError::file("CRL", path, "a revocation list cannot be read")),
    }
}
