//! Certificates, keys and revocation lists from PEM files.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;
use super::revocation::RevocationList;
use super::{TlsError, key};
use crate::model::{CertificatePair, Passwords, Pem, PemText};

/// Says what a text with variables comes to.
pub(crate) type Tell<'a> = dyn FnMut(&PemText) -> Vec<u8> + 'a;

/// Reads a certificate with its chain, and its key, which one of the passwords may open.
pub(super) fn certified_key(
    pair: &CertificatePair,
    passwords: &Passwords,
    tell: &mut Tell<'_>,
) -> Result<Arc<CertifiedKey>, TlsError> {
    material(pair, tell)?.certified_key(passwords)
}

/// A certificate with its chain and its key as they are written, and what to call each in a message.
pub(super) struct Material {
    certificate: (PathBuf, Vec<u8>),
    key: (PathBuf, Vec<u8>),
}

/// Reads a certificate and its key.
pub(super) fn material(pair: &CertificatePair, tell: &mut Tell<'_>) -> Result<Material, TlsError> {
    let Some(certificate) = &pair.certificate else {
        return Err(TlsError::setup("no \"ssl_certificate\" is defined for a \"ssl_certificate_key\""));
    };
    let Some(key) = &pair.key else {
        let shown = format!("{certificate:?}");
        return Err(TlsError::Setup(format!(
            "no \"ssl_certificate_key\" is defined for certificate \"{shown}\""
        )));
    };
    Ok(Material {
        certificate: read("certificate", certificate, tell)?,
        key: read("certificate key", key, tell)?,
    })
}

impl Material {
    /// Tells it from others.
    pub(super) fn fingerprint(&self) -> [u8; SHA256_OUTPUT_LEN] {
        let mut context = Context::new(&SHA256);
        let (certificate, key) = (&self.certificate.1, &self.key.1);
        context.update(&(certificate.len() as u64).to_be_bytes());
        context.update(certificate);
        context.update(key);
        let mut fingerprint = [0; SHA256_OUTPUT_LEN];
        fingerprint.copy_from_slice(context.finish().as_ref());
        fingerprint
    }

    /// Makes of it what signs; one of the passwords may open the key.
    pub(super) fn certified_key(&self, passwords: &Passwords) -> Result<Arc<CertifiedKey>, TlsError> {
        let (path, pem) = &self.certificate;
        let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| TlsError::file("certificate", path, error))?;
        let Some(own) = chain.first().and_then(|der| Certificate::parse(der)) else {
            return Err(TlsError::file("certificate", path, "no certificate in it"));
        };
        let (path, pem) = &self.key;
        let fault = |reason: String| TlsError::file("certificate key", path, reason);
        let key = key::read(pem, passwords).map_err(fault)?;
        let key = any_supported_type(&key).map_err(|error| fault(error.to_string()))?;
        // A key of an unknown kind cannot be compared, which is no proof that it does not fit.
        if key.public_key().is_some_and(|public| *public != *own.key().der()) {
            return Err(fault("key values mismatch".to_owned()));
        }
        Ok(Arc::new(CertifiedKey::new(chain, key)))
    }
}

/// Returns what variables make of the names of a pair, to find again what was made of it.
pub(super) fn names(pair: &CertificatePair, tell: &mut Tell<'_>) -> Vec<u8> {
    let mut names = Vec::new();
    for pem in [&pair.certificate, &pair.key] {
        if let Some(Pem::Computed { text, .. }) = pem {
            names.extend_from_slice(&tell(text));
        }
        names.push(0);
    }
    names
}

/// Reads PEM; returns what to call it in a message as well.
fn read(what: &'static str, pem: &Pem, tell: &mut Tell<'_>) -> Result<(PathBuf, Vec<u8>), TlsError> {
    let path = match pem {
        Pem::Data(data) => return Ok((PathBuf::from("data:"), data.as_bytes().to_vec())),
        Pem::File(path) => path.clone(),
        Pem::Computed { text, folder } => {
            let text = tell(text);
            if let Some(data) = text.strip_prefix(b"data:") {
                return Ok((PathBuf::from("data:"), data.to_vec()));
            }
            folder.join(Path::new(OsStr::from_bytes(&text)))
        }
    };
    match std::fs::read(&path) {
        Ok(text) => Ok((path, text)),
        Err(error) => Err(TlsError::file(what, &path, error)),
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

/// Reads the certificates of a file that are trusted.
pub(super) fn trusted(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = certificates("trusted certificate", path)?;
    match found.iter().all(|der| Certificate::parse(der).is_some()) {
        true => Ok(found),
        false => Err(TlsError::file("trusted certificate", path, "one of them cannot be read")),
    }
}

/// Reads all of a file.
pub(super) fn contents(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::file(what, path, error))
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
