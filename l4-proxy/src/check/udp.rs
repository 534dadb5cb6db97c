//! `UDP_CHECK`: nobody says that a datagram cannot be delivered; with `require_reply`, somebody
//! answers it.

use std::time::Duration;

use lvs_core::Cause;
use tokio::time::timeout;

use super::{Report, origin};
use crate::keepalived::model::{Body, Origin};
use crate::proxy::cause;

pub(super) async fn check(origin: &Origin, body: &Body, patience: Duration) -> Report {
    match timeout(patience, ask(origin, body)).await {
        Ok(Ok(())) => Report::Passed,
        Ok(Err(cause)) => Report::Failed(cause),
        // No ICMP error in all that time.
        Err(_) if body.reply.is_none() => Report::Passed,
        Err(_) => Report::Failed(Cause::from("no reply")),
    }
}

async fn ask(origin: &Origin, body: &Body) -> Result<(), Cause> {
    let socket = origin::datagrams(origin).await.map_err(|error| cause(&error))?;
    socket.send(body.payload.as_deref().unwrap_or(PAYLOAD)).await.map_err(|error| cause(&error))?;
    let mut datagram = vec![0; usize::from(u16::MAX)];
    let length = socket.recv(&mut datagram).await.map_err(|error| cause(&error))?;
    let Some(wanted) = &body.reply else { return Ok(()) };
    let (least, most) = body.reply_length;
    if !(least..=most).contains(&length) {
        return Err(Cause::from(format!("the reply has {length} bytes, wanted {least} to {most}")));
    }
    let differs = wanted
        .iter()
        .zip(&datagram[..length])
        .position(|(wanted, byte)| (wanted.byte ^ byte) & wanted.mask != 0);
    match differs {
        Some(place) => Err(Cause::from(format!("the reply differs at byte {place}"))),
        None => Ok(()),
    }
}

/// keepalived sends random bytes; these say who sent them to whoever looks.
const PAYLOAD: &[u8] = b"l4-proxy UDP_CHECK";
