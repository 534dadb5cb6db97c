//! Connections to servers: made, kept for the next request, and found dead.
//!
//! Every worker keeps its own: a connection that is given back is used next by the thread that has
//! it in its cache. The one that was given back last is taken first, so that a quiet hour lets the
//! others run out.
//!
//! A connection is driven by a task of its own, which notices at once that the server has closed
//! it, and which keeps the time limits of whatever request it carries.

mod link;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use lvs_core::ServiceKey;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

pub(crate) use self::link::{Expired, Link};
use crate::body::RequestBody;
use crate::model::{Keepalive, Upstream};
use crate::moment::Moment;
use crate::server::Worker;
use crate::wire::Wire;

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
    pub(crate) sender: SendRequest<RequestBody>,
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
            if connection.sender.is_ready() && now.since(since) < keepalive.timeout {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose response has been read to its end, or closes it.
    pub(crate) fn put(self: &Rc<Pool>, mut connection: Connection) {
        let Some(keepalive) = &self.keepalive else { return };
        connection.requests += 1;
        let now = Moment::now();
        let worn =
            connection.requests >= keepalive.requests || now.since(connection.opened) >= keepalive.time;
        if worn || keepalive.idle_max == 0 || connection.sender.is_closed() {
            return;
        }
        connection.link.rest();
        if connection.sender.is_ready() {
            self.keep(connection, keepalive.idle_max, now);
            return;
        }
        // The last bytes of the request may still be on their way: an answer can be early.
        let pool = Rc::clone(self);
        let idle_max = keepalive.idle_max;
        tokio::task::spawn_local(async move {
            let ready = timeout(READY_WITHIN, connection.sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                pool.keep(connection, idle_max, Moment::now());
            }
        });
    }

    fn keep(&self, connection: Connection, idle_max: usize, since: Moment) {
        let mut idle = self.idle.borrow_mut();
        while idle.len() >= idle_max {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, since });
    }

    /// Closes all idle connections.
    pub(crate) fn clear(&self) {
        self.idle.borrow_mut().clear();
    }

    /// Closes connections that were idle for too long, and forgets those that servers have closed.
    pub(crate) fn sweep(&self, now: Moment) {
        let Some(keepalive) = &self.keepalive else { return };
        self.idle
            .borrow_mut()
            .retain(|idle| now.since(idle.since) < keepalive.timeout && !idle.connection.sender.is_closed());
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
    let link = Rc::new(Link::new());
    let (sender, http) = http1::Builder::new()
        .title_case_headers(true)
        .handshake(Wire::new(stream, Rc::clone(&link)))
        .await
        .map_err(|error| ConnectError::Failed(io::Error::other(error)))?;
    let patience = worker.current().site.server_patience;
    tokio::task::spawn_local(link::drive(http, Rc::clone(&link), patience, place));
    Ok(Connection { sender, link, server, opened: Moment::now(), requests: 0 })
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

/// How long a connection may take to become ready after its response ended.
const READY_WITHIN: Duration = Duration::from_secs(5);
