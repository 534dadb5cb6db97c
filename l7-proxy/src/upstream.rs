//! Connections to servers: made, kept for the next request, and found dead.
//!
//! Every worker keeps its own: a connection that is given back is used next by the thread that has
//! it in its cache ([`idle`] says which one, and which goes when there is no room).
//!
//! hyper's client drives a connection in a task of its own, to which requests go through a channel
//! and from which answers come back through another. Here whoever forwards a request speaks HTTP on
//! the socket itself ([`ask`]), which halves what the server's side of a request costs. That a server has
//! closed an idle connection is seen when it is taken, and once a second. One that is closed while
//! a request is on its way is for the retries to sort out.

mod answer;
mod beginning;
mod budget;
mod chunks;
mod gathering;
mod head;
mod http2;
mod idle;
mod line;
mod link;
mod malformed;
mod sticky;
mod timing;
mod upload;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lvs_core::{Director, Flow, Lease, Picker, Refusal, ServiceKey};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(crate) use self::answer::{AskError, BrokenOff, Incoming, Question, ask};
pub(crate) use self::budget::Budget;
pub(crate) use self::chunks::{Chunks, Piece};
pub(crate) use self::head::{Asked, Fields, Head, Hint, parse_length};
pub(crate) use self::http2::{Call, Channels, Route, Slot, Streamed, call, dial_alone};
use self::idle::Idle;
pub(crate) use self::line::Line;
pub(crate) use self::link::{Expired, Link, Transport};
pub(crate) use self::malformed::Malformed;
pub(crate) use self::sticky::{Bound, Known, SessionZones};
pub(crate) use self::timing::{Histogram, Timings};
use crate::leg::{Leg, Refused};
use crate::model::{Keepalive, Server, Timed, Upstream};
use crate::moment::Moment;
use crate::server::Worker;
use crate::tls::{Client, ClientTarget};
use crate::unix;
use crate::variable::Value;

/// One upstream as a worker has it: who chooses its servers, and the connections to them.
pub(crate) struct Pool {
    /// What the upstream is called where servers are chosen.
    pub(crate) key: ServiceKey,
    /// Who chooses servers that no configuration lists.
    own: Option<Arc<Director>>,
    /// Who does it: the service, looked up once.
    picker: RefCell<Option<Picker>>,
    /// What `hash` is given.
    pub(crate) hashed: Option<Value>,
    /// The servers that are listed more than once, and how often.
    repeated: Vec<(SocketAddr, usize)>,
    /// Up to where answers are timed, where servers are chosen by that.
    pub(crate) timed: Option<Timed>,
    /// Where it is counted how long answers take, if a page of metrics shows it.
    pub(crate) timing: Option<Arc<Histogram>>,
    pub(crate) line: Option<Line>,
    /// What binds clients to servers, if anything does.
    pub(crate) bound: Option<Bound>,
    pub(crate) budget: Budget,
    pub(crate) keepalive: Option<Keepalive>,
    /// Connections of HTTP/2.
    pub(crate) channels: Rc<Channels>,
    idle: Rc<Idle>,
}

/// A connection to a server, ready for a request or carrying one.
pub(crate) struct Connection {
    pub(crate) link: Rc<Link>,
    pub(crate) server: SocketAddr,
    /// What TLS was spoken as; none in the clear.
    secure: Option<Secure>,
    opened: Moment,
    requests: u64,
}

/// How TLS is spoken with a server: two requests may share a connection only if they agree on it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secure {
    pub(crate) client: Client,
    pub(crate) name: Rc<str>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// The server did not take it.
    Failed(io::Error),
    /// The server did not answer in time.
    TimedOut,
    /// This machine has no descriptor, port or memory for it; the server is not to blame.
    Local(Refused),
}

impl Pool {
    pub(crate) fn new(
        upstream: &Upstream,
        key: ServiceKey,
        zones: &SessionZones,
        timing: Option<Arc<Histogram>>,
    ) -> Pool {
        let balance = &upstream.balance;
        Pool {
            key,
            own: None,
            picker: RefCell::default(),
            hashed: balance.key.clone(),
            repeated: repeated(&upstream.servers),
            timed: balance.timed,
            timing,
            line: upstream.queue.map(Line::new),
            bound: Bound::new(upstream, zones),
            budget: Budget::new(Moment::now()),
            keepalive: upstream.keepalive.clone(),
            channels: Rc::default(),
            idle: Rc::default(),
        }
    }

    /// Goes on with the connections of the pool that has had its name so far, as far as they hold good still:
    /// TLS is spoken with servers in a way that is `still_meant`. Which servers they lead to is looked at
    /// by [`sweep`](Pool::sweep).
    ///
    /// The two share them, for requests that began with the other give theirs back later.
    pub(crate) fn succeed(&mut self, before: &Pool, still_meant: impl Fn(&Secure) -> bool) {
        if let Some(keepalive) = &self.keepalive {
            (self.idle, self.channels) = (Rc::clone(&before.idle), Rc::clone(&before.channels));
            self.idle.adopt(keepalive, &still_meant);
            self.channels.adopt(still_meant);
        }
    }

    /// For servers that no configuration lists, and that this director chooses among.
    pub(crate) fn reached(upstream: &Upstream, key: ServiceKey, director: Arc<Director>) -> Pool {
        Pool { own: Some(director), ..Pool::new(upstream, key, &SessionZones::default(), None) }
    }

    /// Who chooses among its servers: the worker's director, unless it has its own.
    pub(crate) fn director<'d>(&'d self, workers: &'d Arc<Director>) -> &'d Arc<Director> {
        self.own.as_ref().unwrap_or(workers)
    }

    /// Chooses a server that has not been tried.
    pub(crate) fn schedule(
        &self,
        workers: &Arc<Director>,
        flow: &Flow,
        tried: &[SocketAddr],
    ) -> Result<Lease, Refusal> {
        let mut picker = self.picker.borrow_mut();
        let picker = picker.get_or_insert_with(|| self.director(workers).picker(&self.key));
        picker.schedule_except(flow, tried, Moment::now().as_time())
    }

    /// A server has got rid of a request: somebody who waits may have its place.
    pub(crate) fn call(&self) {
        if let Some(line) = &self.line {
            line.call();
        }
    }

    /// How often a server is listed: as often it may be given one request.
    pub(crate) fn times_listed(&self, server: SocketAddr) -> usize {
        self.repeated.iter().find(|(listed, _)| *listed == server).map_or(1, |(_, times)| *times)
    }

    /// Whether connections are kept.
    pub(crate) fn keeps(&self) -> bool {
        self.keepalive.is_some()
    }

    /// Whether anybody wants to know how long answers take.
    pub(crate) fn is_clocked(&self) -> bool {
        self.timed.is_some() || self.timing.is_some()
    }

    /// Takes an idle connection to `server`.
    pub(crate) fn take(
        &self,
        server: SocketAddr,
        secure: Option<&Secure>,
        now: Moment,
    ) -> Option<Connection> {
        let keepalive = self.keepalive.as_ref()?;
        self.idle.take(server, secure, keepalive, now)
    }

    /// Keeps a connection that may carry another request, or closes it.
    pub(crate) fn put(&self, mut connection: Connection) {
        let Some(keepalive) = &self.keepalive else { return };
        connection.requests += 1;
        let now = Moment::now();
        let worn =
            connection.requests >= keepalive.requests || now.since(connection.opened) >= keepalive.time;
        if !worn {
            self.idle.put(connection, keepalive, now);
        }
    }

    /// Closes all idle connections.
    pub(crate) fn clear(&self) {
        self.idle.clear();
        self.channels.clear();
    }

    /// Closes connections that were idle for too long, those that servers have closed, and those to
    /// servers that are listed no more.
    pub(crate) fn sweep(&self, workers: &Arc<Director>, now: Moment) {
        let Some(keepalive) = &self.keepalive else { return };
        let director = self.director(workers);
        let is_listed = |server| director.explain_on(&self.key, server, now.as_time()).is_some();
        self.channels.sweep(keepalive, now, is_listed);
        self.idle.sweep(keepalive, now, is_listed);
    }
}

impl Connection {
    /// Whether a request to `server` may go on it.
    fn leads_to(&self, server: SocketAddr, secure: Option<&Secure>) -> bool {
        self.server == server && self.secure.as_ref() == secure
    }
}

/// Returns the servers that are listed more than once, and how often.
fn repeated(servers: &[Server]) -> Vec<(SocketAddr, usize)> {
    let mut repeated: Vec<(SocketAddr, usize)> = Vec::new();
    for (place, server) in servers.iter().enumerate() {
        let times = servers.iter().filter(|other| other.addr == server.addr).count();
        let is_first = servers[..place].iter().all(|other| other.addr != server.addr);
        if times > 1 && is_first {
            repeated.push((server.addr, times));
        }
    }
    repeated
}

/// Connects to a server.
pub(crate) async fn connect(
    worker: &Rc<Worker>,
    server: SocketAddr,
    secure: Option<&Secure>,
    leg: Leg,
    within: Duration,
) -> Result<Connection, ConnectError> {
    let place = worker.place();
    let opened = match secure {
        None => timeout(within, async { open(server, leg).await.map(Transport::Plain) }).await,
        // In a place of its own: plain requests have no room for it.
        Some(secure) => Box::pin(timeout(within, open_secure(server, leg, secure, None))).await,
    };
    let transport = opened.map_err(|_| ConnectError::TimedOut)??;
    let patience = worker.current().site.server_patience;
    let link = Rc::new(Link::new(transport, patience, place));
    Ok(Connection { link, server, secure: secure.cloned(), opened: Moment::now(), requests: 0 })
}

async fn open_secure(
    server: SocketAddr,
    leg: Leg,
    secure: &Secure,
    alpn: Option<Vec<Vec<u8>>>,
) -> Result<Transport, ConnectError> {
    let stream = open(server, leg).await?;
    let target = ClientTarget { name: &secure.name, address: server.ip(), alpn };
    let stream = secure.client.connect(stream, target).await.map_err(ConnectError::Failed)?;
    Ok(Transport::Tls(Box::new(stream)))
}

async fn open(server: SocketAddr, leg: Leg) -> Result<TcpStream, ConnectError> {
    if let Some(path) = unix::path(server) {
        return unix::connect(path).await.map_err(ConnectError::Failed);
    }
    let socket = leg.socket(server).map_err(ConnectError::Local)?;
    socket.connect(server).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory => {
            ConnectError::Local(Refused::at("connect()")(error))
        }
        _ => ConnectError::Failed(error),
    })
}
