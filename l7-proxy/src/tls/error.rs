//! Why TLS cannot be set up as configured.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::conf::Place;

/// Why TLS cannot be set up as configured, in nginx's words where it has any.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or does not hold what it should.
    File {
        /// What was to be taken from it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A server that is to speak TLS has no certificate: the one that is written there, if it is in a file.
    NoCertificate(Option<Place>),
    /// A server is to check client certificates and does not know against what.
    NoClientCertificate,
    /// The directives contradict each other, or rustls cannot do what they ask for.
    Setup(String),
}

impl TlsError {
    pub(super) fn file(what: &'static str, path: &Path, reason: impl fmt::Display) -> Self {
        Self::File { what, path: path.to_owned(), reason: reason.to_string() }
    }

    pub(super) fn setup(reason: impl fmt::Display) -> Self {
        Self::Setup(reason.to_string())
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { what, path, reason } => {
                write!(f, "cannot load {what} \"{}\": {reason}", path.display())
            }
            Self::NoCertificate(place) => {
                f.write_str("no \"ssl_certificate\" is defined for the \"listen ... ssl\" directive")?;
                place.iter().try_for_each(|place| write!(f, " in {place}"))
            }
            Self::NoClientCertificate => {
                f.write_str("no ssl_client_certificate or ssl_trusted_certificate for ssl_verify_client")
            }
            Self::Setup(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for TlsError {}
