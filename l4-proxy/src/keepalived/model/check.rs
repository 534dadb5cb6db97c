//! Checks as plain data: what is asked of a server, from where, and how often.

use std::net::SocketAddr;
use std::time::Duration;

use super::{NumberFile, Script};

/// One check of one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Checker {
    /// What is asked.
    pub kind: Kind,
    /// How often, and how patiently.
    pub rhythm: Rhythm,
    /// The server counts as down until this check has passed.
    pub alpha: bool,
    /// Failures are logged even where they change nothing.
    pub log_all_failures: bool,
}

impl Checker {
    /// Its keyword.
    pub fn name(&self) -> &'static str {
        match &self.kind {
            Kind::Tcp(_) => "TCP_CHECK",
            Kind::Http(_, Method { tls: false, .. }) => "HTTP_GET",
            Kind::Http(..) => "SSL_GET",
            Kind::Smtp(..) => "SMTP_CHECK",
            Kind::Dns(..) => "DNS_CHECK",
            Kind::Udp(..) => "UDP_CHECK",
            Kind::Ping(_) => "PING_CHECK",
            Kind::Misc { .. } => "MISC_CHECK",
            Kind::File { .. } => "FILE_CHECK",
        }
    }
}

/// How often a check is made, and how patiently.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rhythm {
    /// From one check to the next.
    pub delay_loop: Duration,
    /// How many more checks must fail after the first.
    pub retry: u32,
    /// From a failed check to its repetition.
    pub delay_before_retry: Duration,
    /// The first check comes at a random moment within this time.
    pub warmup: Duration,
    /// How long one check may take.
    pub timeout: Duration,
}

/// Where a check connects to and from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// What it connects to.
    pub target: SocketAddr,
    /// Source address and port; each may be unspecified.
    pub bind: Option<SocketAddr>,
    /// Interface to leave by.
    pub interface: Option<String>,
    /// Mark of the packets.
    pub mark: Option<u32>,
}

/// What is asked of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It accepts a connection.
    Tcp(Origin),
    /// It answers requests as it should.
    Http(Origin, Method),
    /// It greets, takes a HELO and lets go; each of these hosts does.
    Smtp(Vec<SmtpHost>, String),
    /// It answers a question without an error.
    Dns(Origin, Query),
    /// It takes a datagram without an ICMP error, or answers it.
    Udp(Origin, Body),
    /// It answers a ping.
    Ping(Origin),
    /// A program says so.
    Misc {
        /// The program.
        script: Script,
        /// Its exit code sets the weight.
        dynamic: bool,
    },
    /// A number in a file says so.
    File {
        /// The file.
        file: NumberFile,
        /// Its number is added to the weight.
        dynamic: bool,
    },
}

/// How HTTP is spoken, and what is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Method {
    /// Over TLS, whose certificates are not verified.
    pub tls: bool,
    /// The name asked for in the TLS handshake: none, the host of the request, or another.
    pub sni: Option<Option<String>>,
    /// Version of the request.
    pub protocol: Protocol,
    /// All urls are asked for at once while the server is down, not one a round.
    pub fast_recovery: bool,
    /// At least one.
    pub urls: Vec<Url>,
}

/// Version of an HTTP request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `1.0`
    #[default]
    Http10,
    /// `1.0C`: with `Connection: close`.
    Http10Close,
    /// `1.0K`: with `Connection: keep-alive`.
    Http10KeepAlive,
    /// `1.1`: with `Connection: close`.
    Http11,
    /// `1.1K`: with `Connection: keep-alive`.
    Http11KeepAlive,
}

/// One `url` block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Url {
    /// What is asked for.
    pub path: String,
    /// Host that is asked for it.
    pub host: Option<String>,
    /// Codes that are good.
    pub status: StatusCodes,
    /// MD5 of the body.
    pub digest: Option<[u8; 16]>,
    /// What the answer must look like.
    pub regex: Option<Match>,
}

/// Ranges of status codes; none stands for any, where a digest or pattern is what counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StatusCodes(pub Vec<(u16, u16)>);

/// A pattern that the body has to match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Match {
    /// The pattern, with its options in it.
    pub pattern: String,
    /// It must not match.
    pub inverted: bool,
    /// Where in the body a match may begin.
    pub offsets: (usize, usize),
}

/// One host of an SMTP check.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SmtpHost {
    /// Where it is.
    pub origin: Origin,
    /// How long its dialogue may take.
    pub timeout: Duration,
}

/// A DNS question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Query {
    /// Number of the record's type.
    pub record: u16,
    /// Name asked for.
    pub name: String,
}

/// What a UDP check sends and wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Body {
    /// What is sent, if not something random.
    pub payload: Option<Vec<u8>>,
    /// An answer is needed, and begins like this.
    pub reply: Option<Vec<Wildcard>>,
    /// How long the answer may be.
    pub reply_length: (usize, usize),
}

/// One byte of which some bits do not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wildcard {
    /// The byte.
    pub byte: u8,
    /// Bits that matter.
    pub mask: u8,
}
