//! The header of the PROXY protocol in front of a connection (`listen … proxy_protocol`).

use std::io;
use std::time::Duration;

use l4_proxy::proxy_protocol::{self, Header, Parsed};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::moment::COARSE;

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
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        match proxy_protocol::parse_unchecked(&seen[..count]).map_err(invalid)? {
            Parsed::Whole(header, size) => {
                stream.read_exact(&mut seen[..size]).await?;
                return Ok(header);
            }
            Parsed::Partial if count == before || count == seen.len() => {
                // The end of the stream looks like this, and so does a header that comes in pieces:
                // the socket does not tell when more has come.
                if count == seen.len() {
                    return Err(io::Error::from(io::ErrorKind::InvalidData));
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
