//! TLS with servers: from `proxy_ssl_*` to a handshake.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use l4_proxy::tls::AnyServer;
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::kept::Kept;
use super::server::versions;
use super::suites::provider;
use super::verify::ServerVerifier;
use super::{Tell, TlsError, files};
use crate::model::{CertificateCache, CertificatePair, Passwords, Pem, TlsClient};

/// Speaks TLS with servers.
#[derive(Clone)]
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    /// What it was made of; nothing where a request has its own certificate.
    source: Option<Arc<Source>>,
}

/// What a client was made of, to be known again in another configuration.
struct Source {
    tls: TlsClient,
    alpn: Vec<Vec<u8>>,
    /// What stands in the files.
    files: [u8; SHA256_OUTPUT_LEN],
    /// A certificate to show that variables name.
    computed: Option<Computed>,
}

/// A certificate that variables name. Whatever they make of it, what is shown has sessions of its own:
/// nobody goes on with those of somebody else.
struct Computed {
    pair: CertificatePair,
    passwords: Passwords,
    session_reuse: bool,
    /// By what variables make of the names, where files need not be read each time.
    named: Option<Kept<Arc<ClientConfig>>>,
    /// By what stands in the files.
    read: Kept<Arc<ClientConfig>>,
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
        let tls = &tls.commanded();
        let provider = provider(tls.ciphers.as_deref(), tls.suites.as_deref(), &tls.curves)?;
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
            // A key alone is of no use, as in nginx.
            Some(pair) if !pair.is_computed() && pair.certificate.is_some() => {
                let own = files::certified_key(pair, &tls.passwords, &mut |_| Vec::new())?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)))
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.enable_sni = tls.send_name;
        if !tls.session_reuse {
            config.resumption = Resumption::disabled();
        }
        let computed = tls.certificate.as_ref().filter(|pair| pair.is_computed()).map(|pair| Computed {
            pair: pair.clone(),
            passwords: tls.passwords.clone(),
            session_reuse: tls.session_reuse,
            named: tls.certificate_cache.map(Kept::new),
            read: Kept::new(IDENTITIES),
        });
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let source = Source { tls: tls.clone(), alpn, files: digest(tls)?, computed };
        Ok(Self { config: Arc::new(config), source: Some(Arc::new(source)) })
    }

    /// Returns who shows the certificate that variables name now; whoever has a fixed one is that already.
    ///
    /// # Errors
    /// There is no such certificate.
    pub(crate) fn identified(&self, tell: &mut Tell<'_>) -> Result<Client, TlsError> {
        let computed = self.source.as_ref().and_then(|source| source.computed.as_ref());
        let Some(computed) = computed else { return Ok(self.clone()) };
        let with = |config: Arc<ClientConfig>| Client { config, source: None };
        let (names, now) = (files::names(&computed.pair, tell), Instant::now());
        if let Some(Pem::Computed { .. }) = computed.pair.certificate
            && names.first() == Some(&0)
        {
            // Nothing is shown, as in nginx.
            return Ok(with(Arc::clone(&self.config)));
        }
        if let Some(config) = computed.named.as_ref().and_then(|named| named.get(&names, now)) {
            return Ok(with(config));
        }
        let material = files::material(&computed.pair, tell)?;
        let fingerprint = material.fingerprint();
        let config = match computed.read.get(&fingerprint, now) {
            Some(config) => config,
            None => {
                let own = material.certified_key(&computed.passwords)?;
                let mut config = ClientConfig::clone(&self.config);
                config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(own));
                if computed.session_reuse {
                    config.resumption = Resumption::default();
                }
                let config = Arc::new(config);
                computed.read.put(&fingerprint, Arc::clone(&config), now);
                config
            }
        };
        if let Some(named) = &computed.named {
            named.put(&names, Arc::clone(&config), now);
        }
        Ok(with(config))
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

/// Tells what stands in the files that settings name.
fn digest(tls: &TlsClient) -> Result<[u8; SHA256_OUTPUT_LEN], TlsError> {
    let mut context = Context::new(&SHA256);
    if tls.verify {
        for (what, path) in [("trusted certificate", &tls.trusted_certificate), ("CRL", &tls.crl)] {
            let text = path.as_deref().map(|path| files::contents(what, path)).transpose()?;
            let text = text.unwrap_or_default();
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(&text);
        }
    }
    if let Some(pair) = &tls.certificate
        && !pair.is_computed()
        && pair.certificate.is_some()
    {
        context.update(&files::material(pair, &mut |_| Vec::new())?.fingerprint());
    }
    let mut digest = [0; SHA256_OUTPUT_LEN];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(digest)
}

/// As many certificates are told apart; who has not been seen for an hour begins new sessions.
const IDENTITIES: CertificateCache =
    CertificateCache { most: 256, inactive: Duration::from_secs(3600), valid: Duration::MAX };

impl PartialEq for Client {
    /// Two are the same if they share their sessions, or were made of the same.
    fn eq(&self, other: &Self) -> bool {
        let is_alike = |(one, other): (&Arc<Source>, &Arc<Source>)| {
            (&one.tls, &one.alpn, one.files) == (&other.tls, &other.alpn, other.files)
        };
        Arc::ptr_eq(&self.config, &other.config)
            || self.source.as_ref().zip(other.source.as_ref()).is_some_and(is_alike)
    }
}

impl Eq for Client {}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
