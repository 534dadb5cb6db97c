//! What can go wrong with a request at a server, and what follows from it.

use std::io;

use crate::body::Cut;
use crate::error_log::Errno;
use crate::model::RetryOn;
use crate::upstream::{ConnectError, Expired, Malformed};

/// Why an attempt brought no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no connection.
    Connect(ConnectError),
    /// The connection broke before an answer came.
    Broken {
        error: Option<io::Error>,
        reach: Reach,
        /// Whether the connection was a kept one that its server may have closed meanwhile.
        kept: bool,
    },
    /// The server has said that it has not begun with the request.
    Refused {
        what: &'static str,
        /// Whether the connection had been idle.
        kept: bool,
    },
    /// The answer took too long.
    TimedOut(Expired),
    /// The answer is no HTTP.
    Invalid(Malformed),
    /// The client is at fault, or gone.
    Client(Cut),
}

/// Why a request has no answer of a server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unanswered {
    /// The status that the client gets for it.
    pub(crate) status: u16,
    pub(crate) fault: Fault,
}

/// Whose fault it is that there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No server could be reached, or the connection broke.
    Connection,
    /// A server took too long.
    Time,
    /// What a server answered is no HTTP.
    Answer,
    /// A server has answered with a status that stands for a failure.
    Status,
    /// Not a server's: the client's, or ours.
    Own,
}

impl Unanswered {
    /// One that no server has to do with.
    pub(crate) fn own(status: u16) -> Unanswered {
        Unanswered { status, fault: Fault::Own }
    }
}

/// How far a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Not a byte of it was sent.
    Nowhere,
    /// The server may have acted on it.
    Server,
}

impl Failure {
    /// The status that the client gets for it.
    pub(super) fn status(&self) -> u16 {
        match self {
            Failure::Connect(ConnectError::TimedOut) | Failure::TimedOut(_) => 504,
            Failure::Connect(ConnectError::Local(_)) => 500,
            Failure::Client(Cut::TooLarge) => 413,
            Failure::Client(_) => 400,
            Failure::Connect(ConnectError::Failed(_))
            | Failure::Broken { .. }
            | Failure::Refused { .. }
            | Failure::Invalid(_) => 502,
        }
    }

    /// What it comes to if no other server does better.
    pub(super) fn outcome(&self) -> Unanswered {
        let fault = match self {
            Failure::Connect(ConnectError::TimedOut) | Failure::TimedOut(_) => Fault::Time,
            Failure::Connect(ConnectError::Failed(_)) | Failure::Broken { .. } | Failure::Refused { .. } => {
                Fault::Connection
            }
            Failure::Invalid(_) => Fault::Answer,
            Failure::Connect(ConnectError::Local(_)) | Failure::Client(_) => Fault::Own,
        };
        Unanswered { status: self.status(), fault }
    }

    /// Whether it is a reason to try another server.
    pub(super) fn is_among(&self, on: &RetryOn) -> bool {
        match self {
            Failure::Connect(ConnectError::Failed(_)) | Failure::Broken { .. } | Failure::Refused { .. } => {
                on.error
            }
            Failure::Connect(ConnectError::TimedOut) | Failure::TimedOut(_) => on.timeout,
            Failure::Invalid(_) => on.invalid_header,
            Failure::Connect(ConnectError::Local(_)) | Failure::Client(_) => false,
        }
    }

    /// Whether it says nothing about the server but that it had closed a kept connection.
    pub(super) fn is_stale(&self) -> bool {
        matches!(self, Failure::Broken { kept: true, .. } | Failure::Refused { kept: true, .. })
    }

    pub(super) fn reach(&self) -> Reach {
        match self {
            Failure::Connect(_) | Failure::Refused { .. } => Reach::Nowhere,
            Failure::Broken { reach, .. } => *reach,
            Failure::TimedOut(_) | Failure::Invalid(_) | Failure::Client(_) => Reach::Server,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Connect(ConnectError::Failed(error)) => write!(f, "connect() failed ({})", Errno(error)),
            Failure::Connect(ConnectError::Local(refused)) => refused.fmt(f),
            Failure::Connect(ConnectError::TimedOut) | Failure::TimedOut(_) => {
                f.write_str("upstream timed out (110: Connection timed out)")
            }
            Failure::Broken { error: Some(error), .. } => write!(f, "recv() failed ({})", Errno(error)),
            Failure::Broken { error: None, .. } => f.write_str("upstream prematurely closed connection"),
            Failure::Refused { what, .. } => f.write_str(what),
            Failure::Invalid(malformed) => malformed.fmt(f),
            Failure::Client(cut) => cut.fmt(f),
        }
    }
}
