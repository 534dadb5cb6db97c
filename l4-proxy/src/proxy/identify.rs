//! Reading the PROXY header at the beginning of a client's stream, and not one byte more.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::proxy_protocol::{Header, LENGTH_MAX, ParseError, Parsed, parse};

/// Why a client that must send a PROXY header was not taken.
#[derive(Debug)]
#[non_exhaustive]
pub enum Unidentified {
    /// What it sent is no header.
    Malformed(ParseError),
    /// It ended or failed before its header was whole.
    Failed(io::Error),
    /// Its header was not whole in time.
    TimedOut,
}

impl fmt::Display for Unidentified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unidentified::Malformed(error) => error.fmt(f),
            Unidentified::Failed(error) => write!(f, "no PROXY header: {error}"),
            Unidentified::TimedOut => f.write_str("no PROXY header in time"),
        }
    }
}

impl std::error::Error for Unidentified {}

/// Takes the header off the stream, within `deadline` as a whole.
pub(super) async fn read_header(client: &mut TcpStream, deadline: Duration) -> Result<Header, Unidentified> {
    timeout(deadline, read(client)).await.unwrap_or(Err(Unidentified::TimedOut))
}

/// Looks at what is there, and takes only what belongs to the header.
async fn read(client: &mut TcpStream) -> Result<Header, Unidentified> {
    let mut seen = Vec::new();
    let mut buffer = [0; LENGTH_MAX];
    loop {
        let taken = seen.len();
        let there = client.peek(&mut buffer[taken..]).await.map_err(Unidentified::Failed)?;
        if there == 0 {
            return Err(Unidentified::Failed(io::ErrorKind::UnexpectedEof.into()));
        }
        let (header, length) = match parse(&buffer[..taken + there]) {
            Ok(Parsed::Whole(header, length)) => (Some(header), length),
            // All of it belongs to the header, and has to go for more to be waited for.
            Ok(Parsed::Partial) => (None, taken + there),
            Err(error) => return Err(Unidentified::Malformed(error)),
        };
        client.read_exact(&mut buffer[taken..length]).await.map_err(Unidentified::Failed)?;
        seen.extend_from_slice(&buffer[taken..length]);
        if let Some(header) = header {
            return Ok(header);
        }
    }
}
