//! Whether clients' certificates are good, judged after the handshake.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};

use super::handshake::Verified;
use super::{TlsError, files};
use crate::model::{TlsServer, VerifyClient};

/// Judges clients' certificates.
///
/// In the handshake only the signature counts, which proves that the client has the key. The chain
/// is judged afterwards, so that a client with a bad one can be told in HTTP.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    /// Who judges; `None` where nobody is trusted.
    judge: Option<Arc<dyn ClientCertVerifier>>,
    provider: Arc<CryptoProvider>,
    /// Signers that are named to the client.
    hints: Vec<DistinguishedName>,
}

impl ClientVerifier {
    pub(super) fn new(tls: &TlsServer, provider: &Arc<CryptoProvider>) -> Result<Arc<Self>, TlsError> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &tls.client_certificate {
            files::trust(&mut roots, path)?;
        }
        let hints = roots.subjects();
        if let Some(path) = &tls.trusted_certificate {
            files::trust(&mut roots, path)?;
        }
        if tls.verify_client != VerifyClient::OptionalNoCa && roots.is_empty() {
            return Err(TlsError::NoClientCertificate);
        }
        let judge = match roots.is_empty() {
            true => None,
            false => {
                let mut builder =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
                if let Some(path) = &tls.crl {
                    builder = builder.with_crls(files::revocation_lists(path)?);
                }
                Some(builder.build().map_err(TlsError::setup)?)
            }
        };
        Ok(Arc::new(Self { judge, provider: Arc::clone(provider), hints }))
    }

    /// Judges a chain, the client's own certificate first.
    pub(super) fn judge(&self, chain: &[CertificateDer<'_>]) -> Verified {
        let Some((own, signers)) = chain.split_first() else { return Verified::None };
        let Some(judge) = &self.judge else {
            return Verified::Failed(UNKNOWN_SIGNER.to_owned());
        };
        match judge.verify_client_cert(own, signers, UnixTime::now()) {
            Ok(_) => Verified::Success,
            Err(error) => Verified::Failed(reason(&error)),
        }
    }
}

/// What OpenSSL says of a chain that leads to nobody who is trusted.
pub(crate) const UNKNOWN_SIGNER: &str = "unable to verify the first certificate";

/// Returns OpenSSL's words for what is wrong with a certificate.
fn reason(error: &Error) -> String {
    let words = match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => UNKNOWN_SIGNER,
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "certificate has expired"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "certificate is not yet valid",
        Error::InvalidCertificate(CertificateError::Revoked) => "certificate revoked",
        Error::InvalidCertificate(CertificateError::UnknownRevocationStatus) => {
            "unable to get certificate CRL"
        }
        Error::InvalidCertificate(CertificateError::BadSignature) => "certificate signature failure",
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => "unsuitable certificate purpose",
        other => return other.to_string(),
    };
    words.to_owned()
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
