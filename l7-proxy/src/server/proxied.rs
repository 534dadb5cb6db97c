//! The header of the PROXY protocol in front of a connection (`listen … proxy_protocol`).

use std::time::Duration;
use std::{fmt, io};

use l4_proxy::proxy_protocol::{self, Header, Parsed};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::error_log::Errno;
use crate::moment::COARSE;

/// Why there is no header, as the log tells it.
pub(crate) struct BrokenHeader<'a>(pub(crate) &'a io::Error);

impl BrokenHeader<'_> {
    /// The error of who reads these bytes and finds no header: it shows their first line, as nginx does.
    pub(crate) fn of(bytes: &[u8]) -> io::Error {
        let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let text = format!("broken header: \"{}\"", line.escape_ascii());
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}

impl fmt::Display for BrokenHeader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind() {
            io::ErrorKind::InvalidData => self.0.fmt(f),
            _ => write!(f, "broken header ({})", Errno(self.0)),
        }
    }
}

/// Reads the header, and nothing that follows it.
///
/// # Errors
/// There is none, it is broken, or it does not come in time.
pub(super) async fn read(stream: &mut TcpStream, within: Duration) -> io::Result<Header> {
    match timeout(within, find(stream)).await {
        Ok(found) => found,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
    }
}

async fn find(stream: &mut TcpStream) -> io::Result<Header> {
    let mut seen = vec![0; proxy_protocol::LENGTH_MAX];
    let mut before = 0;
    loop {
        // What follows belongs to another reader: the bytes stay where they are.
        let count = stream.peek(&mut seen).await?;
        let parsed = proxy_protocol::parse_unchecked(&seen[..count]);
        match parsed.map_err(|_| BrokenHeader::of(&seen[..count]))? {
            Parsed::Whole(header, size) => {
                stream.read_exact(&mut seen[..size]).await?;
                return Ok(header);
            }
            Parsed::Partial if count == before || count == seen.len() => {
                // The end of the stream looks like this, and so does a header that comes in pieces:
                // the socket does not tell when more has come.
                if count == seen.len() {
                    return Err(BrokenHeader::of(&seen));
                }
                sleep(COARSE).await;
            }
            Parsed::Partial => before = count,
        }
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
    }
}
