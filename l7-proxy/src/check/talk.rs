//! What is said to a server of `stream {}`, and what it says.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{Checked, exchange};
use crate::model::{Expectation, Talk};
use crate::stream::Side;
use crate::unix;

/// Connects to a server, and hears what it has to say.
///
/// # Errors
/// In words, why it did not pass.
pub(super) async fn connect(checked: &Checked, talk: &Talk, server: SocketAddr) -> Result<(), String> {
    let stream = exchange::reach(checked, checked.target(server), None).await?;
    let heard = timeout(checked.read_timeout, converse(talk, stream)).await;
    heard.map_err(|_| TIMED_OUT.to_owned())?
}

async fn converse(talk: &Talk, mut stream: Side) -> Result<(), String> {
    stream.write_all(&talk.send).await.map_err(|error| exchange::words(&error))?;
    stream.flush().await.map_err(|error| exchange::words(&error))?;
    let Some(expected) = &talk.expect else { return Ok(()) };
    let mut heard = Vec::new();
    loop {
        match expected.judge(&heard) {
            Some(true) => return Ok(()),
            None if heard.len() < HEARD_MAX => {}
            Some(false) | None => return Err(MISMATCH.to_owned()),
        }
        let read = (&mut stream).take((HEARD_MAX - heard.len()) as u64).read_buf(&mut heard).await;
        if read.map_err(|error| exchange::words(&error))? == 0 {
            return Err(if heard.is_empty() { CLOSED } else { MISMATCH }.to_owned());
        }
    }
}

/// Sends a datagram to a server. Where no answer is expected, it is enough that the system hears of nobody
/// who refuses it.
///
/// # Errors
/// In words, why it did not pass.
pub(super) async fn send(checked: &Checked, talk: &Talk, server: SocketAddr) -> Result<(), String> {
    if unix::is_unix(server.ip()) {
        return Err(NO_DATAGRAMS.to_owned());
    }
    let failed = |error: io::Error| exchange::words(&error);
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await.map_err(failed)?;
    socket.connect(checked.target(server)).await.map_err(failed)?;
    let said = if talk.send.is_empty() { GREETING } else { &talk.send };
    socket.send(said).await.map_err(failed)?;
    let Some(expected) = &talk.expect else {
        let patience = checked.read_timeout.min(REFUSAL_MAX);
        // Whatever comes is sent by somebody who is there.
        return timeout(patience, socket.recv(&mut [0]))
            .await
            .map_or(Ok(()), |heard| heard.map(drop).map_err(failed));
    };
    let heard = timeout(checked.read_timeout, hear(expected, &socket)).await;
    heard.map_err(|_| TIMED_OUT.to_owned())?.map_err(failed)
}

/// Waits for a datagram that is as expected.
async fn hear(expected: &Expectation, socket: &UdpSocket) -> io::Result<()> {
    let mut heard = vec![0; HEARD_MAX];
    loop {
        let count = socket.recv(&mut heard).await?;
        if expected.judge(&heard[..count]) == Some(true) {
            return Ok(());
        }
    }
}

/// What a server of datagrams is sent that no `match` says more of, as by nginx.
const GREETING: &[u8] = b"nginx health check";

/// As much as is looked at.
const HEARD_MAX: usize = 16 * 1024;

/// How long a host may take to refuse a datagram: the way there and back.
const REFUSAL_MAX: Duration = Duration::from_secs(1);

const NO_DATAGRAMS: &str = "a Unix socket takes no datagrams";
const TIMED_OUT: &str = "the answer timed out";
const CLOSED: &str = "the connection was closed before an answer";
const MISMATCH: &str = "the answer does not match";
