//! Certificates, keys and revocation lists from PEM files.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::TlsError;
use crate::model::CertificatePair;

/// Reads a certificate with its chain, and its key.
pub(super) fn certified_key(pair: &CertificatePair) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates("certificate", &pair.certificate)?;
    let fault = |reason: String| TlsError::file("certificate key", &pair.key, reason);
    let key = PrivateKeyDer::from_pem_file(&pair.key).map_err(|error| fault(error.to_string()))?;
    let key = any_supported_type(&key).map_err(|error| fault(error.to_string()))?;
    let pair = CertifiedKey::new(chain, key);
    // A key of an unknown kind cannot be compared, which is no proof that it does not fit.
    match pair.keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err(fault("key values mismatch".to_owned()))
        }
        Err(rustls::Error::InvalidCertificate(error)) => Err(fault(format!("{error:?}"))),
        _ => Ok(Arc::new(pair)),
    }
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

/// Adds the certificates of a file to those that are trusted.
pub(super) fn trust(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    for certificate in certificates("trusted certificate", path)? {
        roots.add(certificate).map_err(|error| TlsError::file("trusted certificate", path, error))?;
    }
    Ok(())
}

/// Reads the revocation lists of a file.
pub(super) fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    CertificateRevocationListDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| TlsError::file("CRL", path, error))
}
