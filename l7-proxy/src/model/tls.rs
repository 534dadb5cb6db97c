//! How TLS is spoken with clients and with servers.

use std::path::PathBuf;
use std::time::Duration;

/// How TLS is spoken with clients (`ssl_*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsServer {
    /// Certificates, each with its key; the one that fits the client best is shown.
    pub certificates: Vec<CertificatePair>,
    /// The versions that are spoken.
    pub versions: TlsVersions,
    /// The suites as OpenSSL names them; `None` takes all.
    pub ciphers: Option<String>,
    /// Whether clients are asked for a certificate.
    pub verify_client: VerifyClient,
    /// Certificates that sign those of clients, and are named to them.
    pub client_certificate: Option<PathBuf>,
    /// Certificates that sign those of clients, and are not named to them.
    pub trusted_certificate: Option<PathBuf>,
    /// Certificates that were revoked.
    pub crl: Option<PathBuf>,
    /// Whether sessions are kept here (`ssl_session_cache`).
    pub session_cache: SessionCache,
    /// Whether sessions are given to the client to keep (`ssl_session_tickets`, on by default).
    pub session_tickets: bool,
    /// Files with the secrets that tickets are sealed with, newest first; one is made up if there is none.
    pub ticket_keys: Vec<PathBuf>,
    /// How long a session can go on; 5 min by default.
    pub session_timeout: Duration,
    /// Whether every handshake is refused (`ssl_reject_handshake`).
    pub reject_handshake: bool,
    /// Protocols inside TLS that are agreed to; none takes any (`ssl_alpn`, of `stream` only).
    pub alpn: Vec<String>,
    /// How long a handshake may take; 60 s by default.
    pub handshake_timeout: Duration,
}

impl Default for TlsServer {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            versions: TlsVersions::default(),
            ciphers: None,
            verify_client: VerifyClient::Off,
            client_certificate: None,
            trusted_certificate: None,
            crl: None,
            session_cache: SessionCache::None,
            session_tickets: true,
            ticket_keys: Vec::new(),
            session_timeout: Duration::from_secs(300),
            reject_handshake: false,
            alpn: Vec::new(),
            handshake_timeout: Duration::from_secs(60),
        }
    }
}

/// A certificate with its chain, and its key, in PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificatePair {
    /// The certificate, and those that sign it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// The versions of TLS that are spoken; older ones than 1.2 are not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsVersions {
    /// TLS 1.2.
    pub tls12: bool,
    /// TLS 1.3.
    pub tls13: bool,
}

impl Default for TlsVersions {
    fn default() -> Self {
        Self { tls12: true, tls13: true }
    }
}

/// Whether clients are asked for a certificate (`ssl_verify_client`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerifyClient {
    /// No.
    #[default]
    Off,
    /// Yes, and it must be good.
    On,
    /// Yes, and it must be good if there is one.
    Optional,
    /// Yes, and it may be signed by whomever.
    OptionalNoCa,
}

/// Whether sessions are kept here so that they can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionCache {
    /// None are, and clients are told.
    Off,
    /// None are.
    #[default]
    None,
    /// As many as this.
    Keep(usize),
}

/// How TLS is spoken with servers (`proxy_ssl_*`), apart from the server's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TlsClient {
    /// Whether the server's certificate must be good.
    pub verify: bool,
    /// Certificates that sign those of servers.
    pub trusted_certificate: Option<PathBuf>,
    /// Certificates that were revoked.
    pub crl: Option<PathBuf>,
    /// What we show if asked: a certificate, and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Whether the server is told the name that is meant (`proxy_ssl_server_name`).
    pub send_name: bool,
    /// Whether sessions go on (`proxy_ssl_session_reuse`, on by default).
    pub session_reuse: bool,
    /// TLS 1.2 is spoken.
    pub tls12: bool,
    /// TLS 1.3 is spoken.
    pub tls13: bool,
    /// The suites as OpenSSL names them; `None` takes all.
    pub ciphers: Option<String>,
}

impl Default for TlsClient {
    fn default() -> Self {
        Self {
            verify: false,
            trusted_certificate: None,
            crl: None,
            certificate: None,
            send_name: false,
            session_reuse: true,
            tls12: true,
            tls13: true,
            ciphers: None,
        }
    }
}
