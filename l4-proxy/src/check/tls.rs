//! The TLS of `SSL_GET`. Certificates are not verified, as in keepalived: a check asks whether the
//! server works, and a certificate that has run out is no reason to take the last server away.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use lvs_core::Cause;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Speaks TLS over a connection; the name is told to the server if there is one.
pub(super) async fn handshake(
    stream: TcpStream,
    name: Option<&str>,
    target: IpAddr,
) -> Result<TlsStream<TcpStream>, Cause> {
    let name = match name {
        Some(name) => ServerName::try_from(name.to_owned())
            .map_err(|_| Cause::from(format!("\"{name}\" is no name for TLS")))?,
        // An address is not told: keepalived sends no name unless asked to.
        None => ServerName::IpAddress(target.into()),
    };
    let config = CONFIG.as_ref().map_err(|error| Cause::from(format!("TLS: {error}")))?;
    let connector = TlsConnector::from(Arc::clone(config));
    connector.connect(name, stream).await.map_err(|error| Cause::from(format!("TLS handshake: {error}")))
}

static CONFIG: LazyLock<Result<Arc<ClientConfig>, Error>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = AnyCertificate { algorithms: provider.signature_verification_algorithms };
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = config.with_no_client_auth();
    // Each check is a handshake of its own: what is tested is that the server can make one.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
});

/// Takes every certificate whose owner proves to have the key.
#[derive(Debug)]
struct AnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
