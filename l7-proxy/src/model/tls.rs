//! How TLS is spoken with clients and with servers.

mod command;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use self::command::{TlsCommand, TlsVersion};
use crate::stream::Facts;
use crate::stream::text::Text;
use crate::variable::{Exchange, Value};

/// How TLS is spoken with clients (`ssl_*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsServer {
    /// Certificates, each with its key; the one that fits the client best is shown.
    pub certificates: Vec<CertificatePair>,
    /// How long those that variables name are kept (`ssl_certificate_cache`); they are read each time by
    /// default.
    pub certificate_cache: Option<CertificateCache>,
    /// The versions that are spoken.
    pub versions: TlsVersions,
    /// The suites of TLS 1.2 as OpenSSL names them; `None` takes all.
    pub ciphers: Option<String>,
    /// The suites of TLS 1.3; `None` takes all.
    pub suites: Option<String>,
    /// What is said in OpenSSL's own words, and holds over the rest (`ssl_conf_command`).
    pub commands: Vec<TlsCommand>,
    /// The curves that keys are exchanged over, best first; none takes all (`ssl_ecdh_curve`).
    pub curves: Vec<Curve>,
    /// What an authority says of the certificate, to be shown along with it (`ssl_stapling_file`).
    pub stapling_file: Option<PathBuf>,
    /// What may open keys that are sealed (`ssl_password_file`).
    pub passwords: Passwords,
    /// Whether the order of suites is ours and not the client's (`ssl_prefer_server_ciphers`).
    pub prefer_server_ciphers: bool,
    /// How many bytes are sealed together at most; 16 kB by default (`ssl_buffer_size`).
    pub record_size: Option<usize>,
    /// Whether clients are asked for a certificate.
    pub verify_client: VerifyClient,
    /// Certificates that sign those of clients, and are named to them.
    pub client_certificate: Option<PathBuf>,
    /// Certificates that sign those of clients, and are not named to them.
    pub trusted_certificate: Option<PathBuf>,
    /// Certificates that were revoked.
    pub crl: Option<PathBuf>,
    /// How many authorities may stand between a client's certificate and the trusted one; 1 by default.
    pub verify_depth: usize,
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
            certificate_cache: None,
            versions: TlsVersions::default(),
            ciphers: None,
            suites: None,
            commands: Vec::new(),
            curves: Vec::new(),
            stapling_file: None,
            passwords: Passwords::default(),
            prefer_server_ciphers: false,
            record_size: None,
            verify_client: VerifyClient::Off,
            client_certificate: None,
            trusted_certificate: None,
            crl: None,
            verify_depth: 1,
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

/// A certificate with its chain, and its key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct CertificatePair {
    /// The certificate, and those that sign it.
    pub certificate: Option<Pem>,
    /// Its key.
    pub key: Option<Pem>,
}

/// Where PEM is to be had.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// In this file.
    File(PathBuf),
    /// Here (`data:`).
    Data(Box<str>),
    /// Where variables say, at each handshake.
    Computed {
        /// The path of a file, or `data:` and the text itself.
        text: PemText,
        /// What a relative path is in.
        folder: PathBuf,
    },
}

/// A text with variables, of the one side or the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PemText {
    /// Of `http {}`.
    Http(Value),
    /// Of `stream {}`.
    Stream(Text),
}

impl PemText {
    /// Returns what it comes to for a request.
    pub(crate) fn http(&self, exchange: &Exchange<'_>) -> Vec<u8> {
        let mut text = Vec::new();
        if let Self::Http(value) = self {
            value.write(exchange, &mut text);
        }
        text
    }

    /// Returns what it comes to for a connection.
    pub(crate) fn stream(&self, facts: &Facts) -> Vec<u8> {
        match self {
            Self::Stream(text) => text.bytes(facts),
            Self::Http(_) => Vec::new(),
        }
    }
}

impl CertificatePair {
    /// A certificate in a file, and its key in another.
    pub fn files(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { certificate: Some(Pem::File(certificate.into())), key: Some(Pem::File(key.into())) }
    }

    /// Whether it is known only at the handshake which it is.
    pub fn is_computed(&self) -> bool {
        let pems = [&self.certificate, &self.key];
        pems.into_iter().flatten().any(|pem| matches!(pem, Pem::Computed { .. }))
    }
}

impl Hash for Pem {
    /// Texts with variables count for nothing: few configurations differ by them alone.
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::File(path) => path.hash(state),
            Self::Data(data) => data.hash(state),
            Self::Computed { folder, .. } => folder.hash(state),
        }
    }
}

/// How long certificates that variables name are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CertificateCache {
    /// The most that are kept.
    pub most: usize,
    /// How long one is kept that nobody asks for.
    pub inactive: Duration,
    /// How long one is kept in any case.
    pub valid: Duration,
}

impl fmt::Debug for Pem {
    /// Without what a `data:` holds, which may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Data(_) => f.write_str("data:"),
            Self::Computed { text, .. } => write!(f, "{text:?}"),
        }
    }
}

/// Passwords that may open a sealed key, tried in turn; never shown.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Passwords(Arc<[Vec<u8>]>);

impl Passwords {
    /// Takes the lines of a file, each a password.
    pub fn from_lines(text: &[u8]) -> Self {
        let mut lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
        lines.pop_if(|last| last.is_empty());
        let lines = lines.into_iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec());
        Self(lines.collect())
    }
}

impl std::ops::Deref for Passwords {
    type Target = [Vec<u8>];

    fn deref(&self) -> &[Vec<u8>] {
        &self.0
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Passwords({})", self.0.len())
    }
}

/// The versions of TLS that are spoken; older ones than 1.2 are not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// A curve that keys are exchanged over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Curve {
    /// X25519.
    X25519,
    /// Also called prime256v1.
    P256,
    /// Also called secp384r1.
    P384,
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
    /// How many authorities may stand between a server's certificate and the trusted one; 1 by default.
    pub verify_depth: usize,
    /// What we show if asked: a certificate, and its key. None is shown where variables name an empty one.
    pub certificate: Option<CertificatePair>,
    /// How long those that variables name are kept (`proxy_ssl_certificate_cache`).
    pub certificate_cache: Option<CertificateCache>,
    /// What may open that key if it is sealed (`proxy_ssl_password_file`).
    pub passwords: Passwords,
    /// Whether the server is told the name that is meant (`proxy_ssl_server_name`).
    pub send_name: bool,
    /// Whether sessions go on (`proxy_ssl_session_reuse`, on by default).
    pub session_reuse: bool,
    /// TLS 1.2 is spoken.
    pub tls12: bool,
    /// TLS 1.3 is spoken.
    pub tls13: bool,
    /// The suites of TLS 1.2 as OpenSSL names them; `None` takes all.
    pub ciphers: Option<String>,
    /// The suites of TLS 1.3; `None` takes all.
    pub suites: Option<String>,
    /// The curves that keys are exchanged over, best first; none takes all.
    pub curves: Vec<Curve>,
    /// What is said in OpenSSL's own words, and holds over the rest (`proxy_ssl_conf_command`).
    pub commands: Vec<TlsCommand>,
}

impl Default for TlsClient {
    fn default() -> Self {
        Self {
            verify: false,
            trusted_certificate: None,
            crl: None,
            verify_depth: 1,
            certificate: None,
            certificate_cache: None,
            passwords: Passwords::default(),
            send_name: false,
            session_reuse: true,
            tls12: true,
            tls13: true,
            ciphers: None,
            suites: None,
            curves: Vec::new(),
            commands: Vec::new(),
        }
    }
}
