//! Verifiers for rustls: clients' certificates are judged after the handshake, servers' during it.

use std::sync::Arc;

use l4_proxy::tls::{verify_tls12, verify_tls13};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::certificate::Certificate;
use super::chain::{Fault, Judge, Purpose};
use super::handshake::Verified;
use super::{TlsError, files, name};
use crate::model::{TlsClient, TlsServer, VerifyClient};

/// Judges clients' certificates.
///
/// In the handshake only the signature counts, which proves that the client has the key. The chain
/// is judged afterwards, so that a client with a bad one can be told in HTTP.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    judge: Judge,
    algorithms: WebPkiSupportedAlgorithms,
    /// Signers that are named to the client.
    hints: Vec<DistinguishedName>,
}

impl ClientVerifier {
    pub(super) fn new(tls: &TlsServer, provider: &Arc<CryptoProvider>) -> Result<Arc<Self>, TlsError> {
        let named = tls.client_certificate.as_deref().map(files::trusted).transpose()?.unwrap_or_default();
        let subjects = named.iter().filter_map(|der| Certificate::parse(der));
        let hints = subjects.map(|found| DistinguishedName::in_sequence(found.subject().0)).collect();
        let mut trusted = named;
        if let Some(path) = &tls.trusted_certificate {
            trusted.extend(files::trusted(path)?);
        }
        if tls.verify_client != VerifyClient::OptionalNoCa && trusted.is_empty() {
            return Err(TlsError::NoClientCertificate);
        }
        let lists = tls.crl.as_deref().map(files::revocation_lists).transpose()?.unwrap_or_default();
        let algorithms = provider.signature_verification_algorithms;
        let judge = Judge::new(trusted, lists, tls.verify_depth, Purpose::Client, algorithms);
        Ok(Arc::new(Self { judge, algorithms, hints }))
    }

    /// Judges a chain, the client's own certificate first.
    pub(super) fn judge(&self, chain: &[CertificateDer<'_>]) -> Verified {
        if chain.is_empty() {
            return Verified::None;
        }
        match self.judge.judge(chain, UnixTime::now()) {
            Ok(()) => Verified::Success,
            Err(fault) if fault.is_unknown_signer() => Verified::Unknown(fault.to_string()),
            Err(fault) => Verified::Failed(fault.to_string()),
        }
    }
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
        verify_tls12(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Judges servers' certificates: their chains, and their names.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    judge: Judge,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    pub(super) fn new(tls: &TlsClient, provider: &Arc<CryptoProvider>) -> Result<Arc<Self>, TlsError> {
        let Some(path) = &tls.trusted_certificate else {
            return Err(TlsError::setup("no proxy_ssl_trusted_certificate for proxy_ssl_verify"));
        };
        let trusted = files::trusted(path)?;
        let lists = tls.crl.as_deref().map(files::revocation_lists).transpose()?.unwrap_or_default();
        let algorithms = provider.signature_verification_algorithms;
        let judge = Judge::new(trusted, lists, tls.verify_depth, Purpose::Server, algorithms);
        Ok(Arc::new(Self { judge, algorithms }))
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<CertificateDer<'_>> = std::iter::once(own).chain(others).cloned().collect();
        let judged = self.judge.judge(&chain, now).and_then(|()| {
            let certificate = Certificate::parse(own).ok_or(Fault::Malformed)?;
            if name::is_of(&certificate, server) { Ok(()) } else { Err(Fault::WrongName) }
        });
        judged.map(|()| ServerCertVerified::assertion()).map_err(|fault| match fault {
            Fault::Expired => CertificateError::Expired.into(),
            Fault::NotYetValid => CertificateError::NotValidYet.into(),
            Fault::Revoked => CertificateError::Revoked.into(),
            Fault::WrongName => CertificateError::NotValidForName.into(),
            Fault::Signature => CertificateError::BadSignature.into(),
            fault if fault.is_unknown_signer() => CertificateError::UnknownIssuer.into(),
            fault => CertificateError::Other(OtherError(Arc::new(fault))).into(),
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
