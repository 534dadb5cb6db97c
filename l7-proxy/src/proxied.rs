//! The header of the PROXY protocol in front of a connection (`listen … proxy_protocol`), of `http {}` and
//! of `stream {}`: taken off, and nothing else.
//!
//! What is a header is nginx's to say: a checksum is not looked at. Only, one that comes in pieces is waited
//! for, where nginx wants it whole at once.

use std::time::Duration;
use std::{fmt, io};

use l4_proxy::proxy_protocol::{self, Header, Parsed};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error_log::Errno;

/// Why there is no header, as the log tells it.
#[derive(Debug)]
pub(crate) enum BrokenHeader {
    /// What came is none: its first line, as nginx shows it.
    Shown(String),
    /// The connection ended or broke before there was one, or it did not come in time.
    Failed(io::Error),
}

impl BrokenHeader {
    fn of(bytes: &[u8]) -> BrokenHeader {
        let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        BrokenHeader::Shown(line.escape_ascii().to_string())
    }
}

impl fmt::Display for BrokenHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BrokenHeader::Shown(line) => write!(f, "broken header: \"{line}\""),
            BrokenHeader::Failed(error) => write!(f, "broken header ({})", Errno(error)),
        }
    }
}

impl From<io::Error> for BrokenHeader {
    fn from(error: io::Error) -> BrokenHeader {
        BrokenHeader::Failed(error)
    }
}

/// Reads the header; what follows it stays in the socket, for TLS or whoever reads next.
///
/// # Errors
/// What comes is no header, or it does not come whole, or not in time.
pub(crate) async fn read(stream: &mut TcpStream, within: Duration) -> Result<Header, BrokenHeader> {
    let found = timeout(within, find(stream)).await;
    found.unwrap_or_else(|_| Err(BrokenHeader::Failed(io::ErrorKind::TimedOut.into())))
}

async fn find(stream: &mut TcpStream) -> Result<Header, BrokenHeader> {
    let mut bytes = vec![0; proxy_protocol::LENGTH_MAX];
    let mut taken = 0;
    loop {
        let there = taken + stream.peek(&mut bytes[taken..]).await?;
        if there == taken {
            // The end of the connection: what there was of a header is none.
            return Err(match taken {
                0 => BrokenHeader::Failed(io::ErrorKind::UnexpectedEof.into()),
                taken => BrokenHeader::of(&bytes[..taken]),
            });
        }
        let parsed = proxy_protocol::parse_unchecked(&bytes[..there]);
        let (header, length) = match parsed.map_err(|_| BrokenHeader::of(&bytes[..there]))? {
            Parsed::Whole(header, length) => (Some(header), length),
            // All of it belongs to the header, and has to go for more to be waited for.
            Parsed::Partial => (None, there),
        };
        stream.read_exact(&mut bytes[taken..length]).await?;
        if let Some(header) = header {
            return Ok(header);
        }
        taken = length;
    }
}
