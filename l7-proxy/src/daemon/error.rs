//! What a daemon tells its program: why it does not serve, and what is left of what it served.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use lvs_core::ConfigError;

use crate::access_log::OpenError;
use crate::error_log::Errno;
use crate::site::SiteError;
use crate::unix;

/// Why a proxy cannot serve a configuration. What was served before is still served.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The configuration contradicts itself.
    Site(SiteError),
    /// An address cannot be listened at.
    Bind(SocketAddr, io::Error),
    /// A log cannot be written.
    Log(OpenError),
    /// The folder of a cache cannot be made.
    Cache(PathBuf, io::Error),
    /// The control socket cannot be bound.
    Control(io::Error),
    /// The system has no more threads.
    Threads(io::Error),
    /// Workers may not act as the user of the configuration.
    User(io::Error),
    /// The proxy is ending.
    Finishing,
}

/// The connections with clients that a proxy has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Remaining {
    /// Those that a request or a tunnel is at hand on.
    pub requests: u64,
    /// Those that wait for a request.
    pub idle: u64,
    /// Those of `stream {}`.
    pub relayed: usize,
}

impl fmt::Display for Remaining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Remaining { requests, idle, relayed } = self;
        write!(f, "requests on {requests} connections, {idle} idle connections, {relayed} of stream")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Site(error) => error.fmt(f),
            Error::Bind(addr, error) => {
                write!(f, "bind() to {} failed ({})", unix::shown(*addr), Errno(error))
            }
            Error::Log(error) => error.fmt(f),
            Error::Cache(folder, error) => {
                write!(f, "mkdir() \"{}\" failed ({})", folder.display(), Errno(error))
            }
            Error::Control(error) => write!(f, "cannot answer lvsadm ({error})"),
            Error::Threads(error) => write!(f, "cannot start worker threads ({})", Errno(error)),
            Error::User(error) => write!(f, "cannot become the user ({})", Errno(error)),
            Error::Finishing => f.write_str("the proxy is shutting down"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Site(error) => Some(error),
            Error::Bind(_, error)
            | Error::Cache(_, error)
            | Error::Threads(error)
            | Error::Control(error)
            | Error::User(error) => Some(error),
            Error::Log(error) => Some(error),
            Error::Finishing => None,
        }
    }
}

pub(super) fn of_service(error: ConfigError) -> Error {
    Error::Site(SiteError::Service(error))
}
