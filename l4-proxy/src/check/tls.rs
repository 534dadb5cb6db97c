//! The TLS of `SSL_GET`. Certificates are not verified, as in keepalived: a check asks whether the
//! server works, and a certificate that has run out is no reason to take the last server away.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use lvs_core::Cause;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tls::AnyServer;

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
    let verifier = AnyServer::new(&provider);
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = config.with_no_client_auth();
    // Each check is a handshake of its own: what is tested is that the server can make one.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
});
