//! TLS with clients: from a server block's directives to a handshake.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureAlgorithm, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::handshake::{Handshake, SessionId, Verified, curve, joined, offered, signature};
use super::kept::Kept;
use super::sessions::{Cache, NoTickets, Tickets};
use super::suites::provider;
use super::verify::ClientVerifier;
use super::{TlsError, files};
use crate::model::{CertificatePair, Passwords, PemText, SessionCache, TlsServer, VerifyClient};

/// What a server block does with a client that wants to speak TLS.
pub(crate) struct Terminator {
    /// `None` where the block has no certificate: that of the default server is used.
    config: Option<Arc<ServerConfig>>,
    /// Certificates that take a handshake to know, with what may open their keys; they take the place
    /// of those in `config`.
    computed: Option<Computed>,
    verifier: Option<Arc<ClientVerifier>>,
    policy: VerifyClient,
    rejects: bool,
    pub(crate) timeout: Duration,
}

/// Certificates that variables name.
struct Computed {
    pairs: Vec<CertificatePair>,
    passwords: Passwords,
    /// Those that were used before, where they may be used again.
    kept: Option<Kept<Arc<CertifiedKey>>>,
}

/// Says what the server block does that has the name which a client asks for.
pub(crate) trait Chooser {
    /// Finds the block.
    fn choose(&mut self, name: &str) -> Arc<Terminator>;

    /// Writes a text of that block, with what is known of the handshake so far.
    fn tell(&mut self, text: &PemText, begun: &Handshake) -> Vec<u8>;
}

/// A client whose handshake is done.
pub(crate) struct Accepted<S> {
    pub(crate) stream: TlsStream<S>,
    pub(crate) handshake: Handshake,
}

impl Terminator {
    /// Reads certificates and keys; `alpn` are the protocols that are agreed to.
    pub(crate) fn new(tls: &TlsServer, alpn: &[&[u8]]) -> Result<Self, TlsError> {
        let mut tls = tls.commanded();
        // A key alone is of no use and no fault, as in nginx.
        tls.certificates.retain(|pair| pair.certificate.is_some());
        let tls = &tls;
        let provider = provider(tls.ciphers.as_deref(), tls.suites.as_deref(), &tls.curves)?;
        let verifier = match tls.verify_client {
            VerifyClient::Off => None,
            _ => Some(ClientVerifier::new(tls, &provider)?),
        };
        let config = match tls.certificates.is_empty() {
            true => None,
            false => Some(config(tls, &provider, verifier.as_ref(), alpn)?),
        };
        let computed = tls.certificates.iter().any(CertificatePair::is_computed);
        let computed = computed.then(|| Computed {
            pairs: tls.certificates.clone(),
            passwords: tls.passwords.clone(),
            kept: tls.certificate_cache.map(Kept::new),
        });
        Ok(Self {
            config,
            computed,
            verifier,
            policy: tls.verify_client,
            rejects: tls.reject_handshake,
            timeout: tls.handshake_timeout,
        })
    }

    /// Whether a handshake can come to something by this alone.
    pub(crate) fn is_complete(&self) -> bool {
        self.rejects || self.config.is_some()
    }

    /// Whether clients are asked for a certificate.
    pub(crate) fn asks_for_certificates(&self) -> bool {
        self.policy != VerifyClient::Off
    }

    /// Whether a client with this certificate is served.
    pub(crate) fn admits(&self, verified: &Verified) -> bool {
        match (self.policy, verified) {
            (VerifyClient::Off, _) | (_, Verified::Success) => true,
            (VerifyClient::On, Verified::None) => false,
            (VerifyClient::Optional | VerifyClient::OptionalNoCa, Verified::None) => true,
            (VerifyClient::OptionalNoCa, Verified::Unknown(_)) => true,
            (VerifyClient::On | VerifyClient::Optional, Verified::Unknown(_)) => false,
            (_, Verified::Failed(_)) => false,
        }
    }
}

impl fmt::Debug for Terminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminator")
            .field("policy", &self.policy)
            .field("rejects", &self.rejects)
            .finish_non_exhaustive()
    }
}

impl Computed {
    /// Returns `config` with the certificates for this handshake.
    fn config(
        &self,
        config: &ServerConfig,
        begun: &Handshake,
        chooser: &mut impl Chooser,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let mut tell = |text: &PemText| chooser.tell(text, begun);
        let keys = self.pairs.iter().map(|pair| self.key(pair, &mut tell));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let mut config = config.clone();
        config.cert_resolver = Arc::new(ByAlgorithm { keys });
        Ok(Arc::new(config))
    }
}

impl Computed {
    fn key(&self, pair: &CertificatePair, tell: &mut files::Tell<'_>) -> Result<Arc<CertifiedKey>, TlsError> {
        let Some(kept) = &self.kept else { return files::certified_key(pair, &self.passwords, tell) };
        let (names, now) = (files::names(pair, tell), Instant::now());
        if let Some(key) = kept.get(&names, now) {
            return Ok(key);
        }
        let key = files::certified_key(pair, &self.passwords, tell)?;
        kept.put(&names, Arc::clone(&key), now);
        Ok(key)
    }
}

/// Shakes hands with a client; `default` is what the address does whatever the name.
pub(crate) async fn accept<S>(
    stream: S,
    default: &Arc<Terminator>,
    mut chooser: impl Chooser,
) -> io::Result<Accepted<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let shake = async {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
        let name = start.client_hello().server_name().unwrap_or_default().to_ascii_lowercase();
        let hello = start.client_hello();
        let begun = Handshake {
            server_name: name.clone(),
            ciphers: offered(hello.cipher_suites()),
            curves: hello.named_groups().map_or_else(String::new, |groups| joined(groups, curve)),
            signatures: joined(hello.signature_schemes(), signature),
            ..Handshake::default()
        };
        let chosen = chooser.choose(&name);
        let source = if chosen.config.is_some() { &chosen } else { default };
        let Some(config) = source.config.as_ref().filter(|_| !chosen.rejects) else {
            refuse(start.io, UNRECOGNIZED_NAME).await?;
            let words = if chosen.rejects { "handshake rejected" } else { "no \"ssl_certificate\"" };
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, words));
        };
        let config = match &source.computed {
            None => Arc::clone(config),
            Some(computed) => match computed.config(config, &begun, &mut chooser) {
                Ok(config) => config,
                Err(error) => {
                    refuse(start.io, INTERNAL_ERROR).await?;
                    return Err(io::Error::other(error));
                }
            },
        };
        // Whom rustls will ask as well; it does not tell afterwards.
        let hello = start.client_hello();
        let schemes = hello.signature_schemes().to_vec();
        let signer = config.cert_resolver.resolve(hello);
        let mut session = SessionId::default();
        SystemRandom::new().fill(&mut session).map_err(|_| io::ErrorKind::Other)?;
        let stream = start.into_stream_with(config, |begun| begun.set_resumption_data(&session)).await?;
        let handshake = Handshake::of(stream.get_ref().1, &session, |chain| {
            chosen.verifier.as_ref().map_or(Verified::None, |verifier| verifier.judge(chain))
        });
        let Handshake { ciphers, curves, signatures, .. } = begun;
        let signature =
            signer.filter(|_| !handshake.resumed).and_then(|key| signed(&key, schemes, &handshake));
        let signature = signature.unwrap_or_default();
        Ok(Accepted { stream, handshake: Handshake { ciphers, curves, signatures, signature, ..handshake } })
    };
    timeout(default.timeout, shake).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Returns how a key has signed for a client that can check these.
fn signed(key: &CertifiedKey, mut schemes: Vec<SignatureScheme>, handshake: &Handshake) -> Option<String> {
    if handshake.protocol == "TLSv1.3" {
        // Those of the old kind are offered for certificates only (RFC 8446, section 4.2.3).
        schemes.retain(|scheme| !is_pkcs1(*scheme));
    }
    Some(signature(&key.key.choose_scheme(&schemes)?.scheme()))
}

fn is_pkcs1(scheme: SignatureScheme) -> bool {
    use SignatureScheme::{RSA_PKCS1_SHA1, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512};
    matches!(scheme, RSA_PKCS1_SHA1 | RSA_PKCS1_SHA256 | RSA_PKCS1_SHA384 | RSA_PKCS1_SHA512)
}

/// Ends a handshake that has come no further than the client's first message.
async fn refuse(mut stream: impl AsyncWrite + Unpin, alert: u8) -> io::Result<()> {
    // A fatal alert in a record of its own.
    stream.write_all(&[21, 3, 3, 0, 2, 2, alert]).await?;
    stream.shutdown().await
}

/// RFC 6066, section 3.
const UNRECOGNIZED_NAME: u8 = 112;

const INTERNAL_ERROR: u8 = 80;

fn config(
    tls: &TlsServer,
    provider: &Arc<CryptoProvider>,
    verifier: Option<&Arc<ClientVerifier>>,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, TlsError> {
    let fixed = tls.certificates.iter().filter(|pair| !pair.is_computed());
    let keys = fixed.map(|pair| files::certified_key(pair, &tls.passwords, &mut |_| Vec::new()));
    let mut keys = keys.collect::<Result<Vec<_>, _>>()?;
    if let (Some(path), Some(first)) = (&tls.stapling_file, keys.first_mut()) {
        Arc::make_mut(first).ocsp = Some(files::contents("OCSP response", path)?);
    }
    let versions = versions(tls.versions.tls12, tls.versions.tls13)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&versions)
        .map_err(TlsError::setup)?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier) as _),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByAlgorithm { keys }));
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.ignore_client_order = tls.prefer_server_ciphers;
    config.max_fragment_size = tls.record_size;
    config.session_storage = match tls.session_cache {
        SessionCache::Keep(room) => Cache::new(room, tls.session_timeout),
        SessionCache::Off | SessionCache::None => Arc::new(NoServerSessionStorage {}),
    };
    config.ticketer = match tls.session_tickets {
        true => Arc::new(Tickets::new(&tls.ticket_keys, tls.session_timeout)?),
        false => Arc::new(NoTickets),
    };
    Ok(Arc::new(config))
}

/// Returns the versions that are spoken.
pub(super) fn versions(tls12: bool, tls13: bool) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let known = [(tls12, &rustls::version::TLS12), (tls13, &rustls::version::TLS13)];
    let found: Vec<_> = known.into_iter().filter(|(on, _)| *on).map(|(_, version)| version).collect();
    if found.is_empty() {
        return Err(TlsError::setup("no version of TLS that is configured is supported by l7-proxy"));
    }
    Ok(found)
}

/// Shows the first certificate whose key can sign what the client can check.
#[derive(Debug)]
struct ByAlgorithm {
    keys: Vec<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByAlgorithm {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        // Elliptic keys are the cheaper ones to sign with.
        let is_rsa = |key: &&Arc<CertifiedKey>| key.key.algorithm() == SignatureAlgorithm::RSA;
        let elliptic = self.keys.iter().find(|key| fits(key) && !is_rsa(key));
        elliptic.or_else(|| self.keys.iter().find(fits)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_certificate_is_admitted_only_where_its_signer_does_not_count() {
        let terminator = |verify_client| {
            let tls = TlsServer::default();
            let mut terminator = Terminator::new(&tls, &[]).unwrap();
            terminator.policy = verify_client;
            terminator
        };
        let unknown = Verified::Unknown("self-signed certificate".to_owned());
        let expired = Verified::Failed("certificate has expired".to_owned());
        for (policy, none, by_unknown, when_expired) in [
            (VerifyClient::Off, true, true, true),
            (VerifyClient::On, false, false, false),
            (VerifyClient::Optional, true, false, false),
            (VerifyClient::OptionalNoCa, true, true, false),
        ] {
            let terminator = terminator(policy);
            assert_eq!(terminator.admits(&Verified::None), none, "{policy:?}");
            assert_eq!(terminator.admits(&unknown), by_unknown, "{policy:?}");
            assert_eq!(terminator.admits(&expired), when_expired, "{policy:?}");
            assert!(terminator.admits(&Verified::Success));
        }
    }
}
