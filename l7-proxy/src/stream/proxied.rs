//! The PROXY protocol header that a connection begins with, taken off and nothing else.

use std::io;
use std::net::SocketAddr;

use l4_proxy::proxy_protocol::{Addresses, LENGTH_MAX, Parsed, parse};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::moment::COARSE;
use crate::server::BrokenHeader;

/// Reads the header; returns client and server as it names them, if it does.
///
/// What follows stays in the socket, for TLS or whoever reads next. Whoever calls sees to the time.
///
/// # Errors
/// What comes is no header, or the connection ends or breaks before it is whole.
pub(super) async fn take_header(stream: &mut TcpStream) -> io::Result<Option<(SocketAddr, SocketAddr)>> {
    let mut bytes = vec![0; LENGTH_MAX];
    let mut seen = 0;
    loop {
        let count = stream.peek(&mut bytes).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if count > seen {
            let parsed = parse(&bytes[..count]).map_err(|_| BrokenHeader::of(&bytes[..count]))?;
            if let Parsed::Whole(header, length) = parsed {
                stream.read_exact(&mut bytes[..length]).await?;
                return Ok(match header.addresses {
                    Addresses::Tcp(client, server) => Some((client, server)),
                    Addresses::Own | Addresses::Udp(..) => None,
                });
            }
            seen = count;
        }
        // A header in pieces is rare; the socket does not tell when more has come.
        sleep(COARSE).await;
    }
}
