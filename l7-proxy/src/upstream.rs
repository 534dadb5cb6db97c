//! Connections to servers: made, kept for the next request, and found dead.
//!
//! Every worker keeps its own: a connection that is given back is used next by the thread that has
//! it in its cache. The one that was given back last is taken first, so that a quiet hour lets the
//! others run out.
//!
//! hyper's client drives a connection in a task of its own, to which requests go through a channel
//! and from which answers come back through another. Here whoever forwards a request speaks HTTP on
//! the socket itself ([`ask`]), which halves what the server's side of a request costs. That a server has
//! closed an idle connection is seen when it is taken, and once a second. One that is closed while
//! a request is on its way is for the retries to sort out.

mod answer;
mod chunks;
mod head;
mod link;
mod upload;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use lvs_core::ServiceKey;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

pub(crate) use self::answer::{AskError, BrokenOff, Incoming, Question, ask};
pub(crate) use self::head::{Asked, Fields, Head};
pub(crate) use self::link::{Expired, Link, Transport};
use crate::model::{Keepalive, Upstream};
use crate::moment::Moment;
use crate::server::Worker;

/// The idle connections of a worker to the servers of one upstream.
pub(crate) struct Pool {
    /// What the upstream is called where servers are chosen.
    pub(crate) key: ServiceKey,
    keepalive: Option<Keepalive>,
    /// The one given back last is at the end.
    idle: RefCell<VecDeque<Idle>>,
}

struct Idle {
    connection: Connection,
    since: Moment,
}

/// A connection to a server, ready for a request or carrying one.
pub(crate) struct Connection {
    pub(crate) link: Rc<Link>,
    pub(crate) server: SocketAddr,
    opened: Moment,
    requests: u64,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// The server did not take it.
    Failed(io::Error),
    /// The server did not answer in time.
    TimedOut,
    /// This machine has no descriptor, port or memory for it; the server is not to blame.
    Local(io::Error),
}

impl Pool {
    pub(crate) fn new(upstream: &Upstream, key: ServiceKey) -> Pool {
        Pool { key, keepalive: upstream.keepalive.clone(), idle: RefCell::default() }
    }

    /// Whether connections are kept.
    pub(crate) fn keeps(&self) -> bool {
        self.keepalive.is_some()
    }

    /// Takes an idle connection to `server`.
    pub(crate) fn take(&self, server: SocketAddr, now: Moment) -> Option<Connection> {
        let keepalive = self.keepalive.as_ref()?;
        let mut idle = self.idle.borrow_mut();
        while let Some(place) = idle.iter().rposition(|idle| idle.connection.server == server) {
            let Idle { connection, since } = idle.remove(place)?;
            if now.since(since) < keepalive.timeout && connection.link.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection that may carry another request, or closes it.
    pub(crate) fn put(&self, mut connection: Connection) {
        let Some(keepalive) = &self.keepalive else { return };
        connection.requests += 1;
        let now = Moment::now();
        let worn =
            connection.requests >= keepalive.requests || now.since(connection.opened) >= keepalive.time;
        if worn || keepalive.idle_max == 0 {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        while idle.len() >= keepalive.idle_max {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, since: now });
    }

    /// Closes all idle connections.
    pub(crate) fn clear(&self) {
        self.idle.borrow_mut().clear();
    }

    /// Closes connections that were idle for too long, and those that servers have closed.
    pub(crate) fn sweep(&self, now: Moment) {
        let Some(keepalive) = &self.keepalive else { return };
        self.idle
            .borrow_mut()
            .retain(|idle| now.since(idle.since) < keepalive.timeout && idle.connection.link.is_quiet());
    }
}

/// Connects to a server.
pub(crate) async fn connect(
    worker: &Rc<Worker>,
    server: SocketAddr,
    within: Duration,
) -> Result<Connection, ConnectError> {
    let place = worker.place();
    let stream = match timeout(within, open(server)).await {
        Ok(opened) => opened?,
        Err(_) => return Err(ConnectError::TimedOut),
    };
    let patience = worker.current().site.server_patience;
    let link = Rc::new(Link::new(Transport::Plain(stream), patience, place));
    Ok(Connection { link, server, opened: Moment::now(), requests: 0 })
}

async fn open(server: SocketAddr) -> Result<TcpStream, ConnectError> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(ConnectError::Local)?;
    socket.set_nodelay(true).map_err(ConnectError::Local)?;
    socket.connect(server).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory => ConnectError::Local(error),
        _ => ConnectError::Failed(error),
    })
}
