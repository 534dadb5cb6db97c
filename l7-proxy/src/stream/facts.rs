//! What is known of a connection while it is served: what its variables show.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use l4_proxy::proxy_protocol::Header;

use crate::model::{LimitStatus, Transport};
use crate::tls::Handshake;
use crate::unix;
use crate::variable::Captures;

use super::defined::Definition;
use super::preread::ClientHello;

/// One connection, or session of datagrams, of `stream {}`, as its variables see it.
#[derive(Debug)]
pub struct Facts {
    /// Who connected.
    pub peer: SocketAddr,
    /// The client: who connected, unless a trusted proxy names somebody else.
    pub remote: SocketAddr,
    /// The address that was connected to.
    pub local: SocketAddr,
    /// How it came.
    pub transport: Transport,
    /// Number of the connection in this process.
    pub serial: u64,
    /// When it began.
    pub began: Instant,
    /// What it came to: 200, 400, 403, 500, 502 or 503.
    pub status: u16,
    /// Bytes that came from the client.
    pub received: u64,
    /// Bytes that went to the client.
    pub sent: u64,
    /// What a header of the PROXY protocol said.
    pub proxied: Option<Rc<Header>>,
    /// The client's first message of TLS, where it is only looked at.
    pub preread: Option<ClientHello>,
    /// TLS with the client.
    pub tls: Option<Handshake>,
    /// What `limit_conn` has said.
    pub limit: Option<LimitStatus>,
    /// The servers that were tried, in order.
    pub attempts: Vec<Attempt>,
    /// Groups of the regular expressions that matched.
    pub captures: Captures,
    /// The variables that blocks of the configuration define.
    pub definitions: Arc<[Definition]>,
    /// What those were found to be, as far as that holds for the whole connection.
    pub looked_up: RefCell<HashMap<usize, Vec<u8>>>,
    /// What `set` has given to variables, by their numbers.
    pub assigned: Vec<Option<Vec<u8>>>,
}

/// One server that a connection was given to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its address; the upstream's name where no server could be chosen.
    pub server: String,
    /// Bytes that went to it.
    pub sent: u64,
    /// Bytes that came from it.
    pub received: u64,
    /// How long the connecting took.
    pub connect: Option<Duration>,
    /// How long its first byte took.
    pub first_byte: Option<Duration>,
    /// How long the connection lasted.
    pub session: Option<Duration>,
}

impl Attempt {
    /// Returns an attempt that has come to nothing yet.
    pub fn new(server: String) -> Self {
        Self { server, sent: 0, received: 0, connect: None, first_byte: None, session: None }
    }
}

impl Facts {
    /// Returns what is known of a connection that was just accepted.
    pub fn new(peer: SocketAddr, local: SocketAddr, serial: u64) -> Self {
        Self {
            peer,
            remote: peer,
            local,
            transport: Transport::Tcp,
            serial,
            began: Instant::now(),
            status: 0,
            received: 0,
            sent: 0,
            proxied: None,
            preread: None,
            tls: None,
            limit: None,
            attempts: Vec::new(),
            captures: Captures::default(),
            definitions: Arc::default(),
            looked_up: RefCell::default(),
            assigned: Vec::new(),
        }
    }

    /// Returns how messages name the client, and where it came to.
    pub(super) fn client(&self) -> ClientName<'_> {
        ClientName(self)
    }

    /// Returns the same, and what has gone between client and server.
    pub(super) fn traffic(&self) -> TrafficName<'_> {
        TrafficName(self)
    }

    /// Gives the variable with this number a value.
    pub fn assign(&mut self, number: usize, value: Vec<u8>) {
        if self.assigned.len() <= number {
            self.assigned.resize(number + 1, None);
        }
        self.assigned[number] = Some(value);
    }

    /// Returns what a variable that the configuration defines is; one that was never set is empty.
    pub(super) fn defined(&self, number: usize) -> Option<Vec<u8>> {
        if let Some(Some(value)) = self.assigned.get(number) {
            return Some(value.clone());
        }
        let definition = self.definitions.iter().find(|definition| definition.variable == number);
        Some(definition.map_or_else(Vec::new, |definition| definition.value(self)))
    }

    /// Returns something of each server that was tried, joined as nginx does.
    pub(super) fn per_attempt(&self, show: impl Fn(&Attempt) -> String) -> Option<Vec<u8>> {
        if self.attempts.is_empty() {
            return None;
        }
        Some(self.attempts.iter().map(show).collect::<Vec<_>>().join(", ").into_bytes())
    }
}

/// A client as messages name it; see [`Facts::client`].
pub(super) struct ClientName<'a>(&'a Facts);

impl fmt::Display for ClientName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = self.0;
        let kind = if facts.transport == Transport::Udp { "udp client" } else { "client" };
        write!(f, "{kind}: {}, server: {}", shown_ip(facts.remote), unix::shown(facts.local))
    }
}

/// How messages name a client and its server, and what has gone between them, as nginx does.
pub(super) struct TrafficName<'a>(&'a Facts);

impl fmt::Display for TrafficName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = self.0;
        write!(f, "{}", facts.client())?;
        let attempt = facts.attempts.last();
        if let Some(attempt) = attempt {
            write!(f, ", upstream: \"{}\"", attempt.server)?;
        }
        let (from, to) = attempt.map_or((0, 0), |attempt| (attempt.received, attempt.sent));
        let Facts { received, sent, .. } = facts;
        write!(f, ", bytes from/to client:{received}/{sent}, bytes from/to upstream:{from}/{to}")
    }
}

/// An address without its port, or the path of a Unix socket.
fn shown_ip(addr: SocketAddr) -> String {
    match unix::is_unix(addr.ip()) {
        true => unix::shown(addr).to_string(),
        false => addr.ip().to_canonical().to_string(),
    }
}
