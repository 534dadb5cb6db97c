//! `DNS_CHECK`: a question over UDP is answered without an error. What the answer says is not
//! looked at; a name that does not exist is an error.

use lvs_core::Cause;
use tokio::net::UdpSocket;

use super::origin;
use crate::keepalived::model::{Origin, Query};
use crate::proxy::cause;

pub(super) async fn check(origin: &Origin, query: &Query) -> Result<(), Cause> {
    let socket = origin::datagrams(origin).await.map_err(|error| cause(&error))?;
    let id = id();
    let question = question(id, query);
    socket.send(&question).await.map_err(|error| cause(&error))?;
    loop {
        match answer(&socket, id).await? {
            // An answer to somebody else, or to a question before this one.
            None => {}
            Some(0) => return Ok(()),
            Some(code) => return Err(Cause::from(format!("DNS {}", name(code)))),
        }
    }
}

/// The code of an answer to the question with this number.
async fn answer(socket: &UdpSocket, id: [u8; 2]) -> Result<Option<u8>, Cause> {
    let mut datagram = [0; 1024];
    let length = socket.recv(&mut datagram).await.map_err(|error| cause(&error))?;
    Ok(match &datagram[..length] {
        [first, second, flags, code, ..]
            if length >= HEAD && [*first, *second] == id && flags & ANSWER != 0 =>
        {
            Some(code & 0x0f)
        }
        _ => None,
    })
}

fn question(id: [u8; 2], query: &Query) -> Vec<u8> {
    // One question; recursion is asked for, as resolvers do.
    let mut bytes = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in query.name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&query.record.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    bytes
}

/// Different from check to check, so that a late answer is not taken for a new one.
fn id() -> [u8; 2] {
    let nanos = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.subsec_nanos());
    ((nanos >> 7) as u16).to_be_bytes()
}

fn name(code: u8) -> String {
    match code {
        1 => "FORMERR".to_owned(),
        2 => "SERVFAIL".to_owned(),
        3 => "NXDOMAIN".to_owned(),
        4 => "NOTIMP".to_owned(),
        5 => "REFUSED".to_owned(),
        code => format!("error {code}"),
    }
}

const HEAD: usize = 12;

/// The bit that tells an answer from a question.
const ANSWER: u8 = 0x80;
