//! TLS with servers: from `proxy_ssl_*` to a handshake.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use l4_proxy::tls::AnyServer;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::server::{provider, versions};
use super::verify::ServerVerifier;
use super::{TlsError, files};
use crate::model::{CertificatePair, TlsClient};

/// Speaks TLS with servers.
#[derive(Clone)]
pub(crate) struct Client {
    config: Arc<ClientConfig>,
}

/// Whom a handshake is with.
pub(crate) struct ClientTarget<'a> {
    /// The name that its certificate must have, and that it is told if it is to be told.
    pub(crate) name: &'a str,
    /// Stands in for a name that cannot be one.
    pub(crate) address: IpAddr,
    /// Protocols that we offer, in place of those that are configured.
    pub(crate) alpn: Option<Vec<Vec<u8>>>,
}

impl Client {
    /// Reads certificates and keys; `alpn` are the protocols that are offered.
    pub(crate) fn new(tls: &TlsClient, alpn: &[&[u8]]) -> Result<Self, TlsError> {
        let provider = provider(tls.ciphers.as_deref())?;
        let versions = versions(tls.tls12, tls.tls13)?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(TlsError::setup)?;
        let builder = match tls.verify {
            true => {
                let verifier = ServerVerifier::new(tls, &provider)?;
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
            false => {
                let any = AnyServer::new(&provider);
                builder.dangerous().with_custom_certificate_verifier(Arc::new(any))
            }
        };
        let mut config = match &tls.certificate {
            Some((certificate, key)) => {
                let pair = CertificatePair::files(certificate, key);
                let own = files::certified_key(&pair, &tls.passwords, &mut |_| Vec::new())?;
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.enable_sni = tls.send_name;
        if !tls.session_reuse {
            config.resumption = Resumption::disabled();
        }
        Ok(Self { config: Arc::new(config) })
    }

    /// Shakes hands with a server.
    pub(crate) async fn connect<S>(&self, stream: S, target: ClientTarget<'_>) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // As nginx: a port behind the name is none of it.
        let name = match target.name.rsplit_once(':') {
            Some((name, port)) if !name.contains(':') && port.bytes().all(|byte| byte.is_ascii_digit()) => {
                name
            }
            _ => target.name,
        };
        let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).unwrap_or(ServerName::IpAddress(target.address.into()));
        let config = match target.alpn {
            Some(alpn) => {
                let mut config = ClientConfig::clone(&self.config);
                config.alpn_protocols = alpn;
                Arc::new(config)
            }
            None => Arc::clone(&self.config),
        };
        TlsConnector::from(config).connect(name, stream).await
    }
}

impl PartialEq for Client {
    /// Two are the same if they share their sessions.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

impl Eq for Client {}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
