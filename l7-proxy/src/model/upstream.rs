//! Groups of servers that requests and connections are forwarded to.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use lvs_core::Algorithm;

use crate::variable::Value;

use super::resolver::Resolver;
use super::sticky::Sticky;

/// Position of an [`Upstream`] in its configuration's `upstreams`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamId(pub usize);

/// A group of servers, from `upstream NAME {}` or implied by an address in `proxy_pass`.
///
/// `stream {}` chooses by texts and moments of its own: [`StreamUpstream`](super::StreamUpstream).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream<K = Value, T = Timed> {
    /// The name of the block, or the `host:port` of an implied one.
    pub name: String,
    /// The servers in the order of the file; a name with several addresses gives several servers.
    pub servers: Vec<Server>,
    /// Idle connections that are kept for later requests; `None` opens one per request.
    pub keepalive: Option<Keepalive>,
    /// How a server is chosen.
    pub balance: Balance<K, T>,
    /// Servers that are known by name, and whose addresses are asked for while the proxy runs.
    pub named: Vec<NamedServer>,
    /// Who is asked for them; without anybody they have no addresses.
    pub resolver: Option<Arc<Resolver>>,
    /// What binds a client to one server, if anything does.
    pub sticky: Option<Sticky>,
    /// What becomes of requests while every server has reached its `max_conns`; `None` refuses them.
    pub queue: Option<Queue>,
}

impl<K, T> Upstream<K, T> {
    /// Returns a group whose servers take turns, without kept connections and without a queue.
    pub fn new(name: impl Into<String>, servers: Vec<Server>) -> Self {
        Self {
            name: name.into(),
            servers,
            keepalive: None,
            balance: Balance::default(),
            named: Vec::new(),
            resolver: None,
            sticky: None,
            queue: None,
        }
    }
}

/// How a server of an upstream is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance<K = Value, T = Timed> {
    /// The algorithm; by default turns in proportion to weights, spread out evenly.
    pub algorithm: Algorithm,
    /// What `hash` is given.
    pub key: Option<K>,
    /// Up to where an answer is timed, if it is for the algorithm.
    pub timed: Option<T>,
}

/// Up to where a server's answers are timed (`least_time`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timed {
    /// Up to the end of the head (`header`).
    Head,
    /// Up to the end of the body (`last_byte`).
    LastByte,
}

impl<K, T> Default for Balance<K, T> {
    fn default() -> Self {
        Self { algorithm: Algorithm::Swrr, key: None, timed: None }
    }
}

/// Where requests wait for a server (`queue`), per worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// The most requests that wait.
    pub length: usize,
    /// How long one waits before it is refused; 60 s by default.
    pub timeout: Duration,
}

/// One server of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it listens.
    pub addr: SocketAddr,
    /// The address as the configuration spells it.
    pub name: String,
    /// Its share of the requests relative to the others; 1 by default.
    pub weight: NonZeroU16,
    /// Failures within [`fail_timeout`](Self::fail_timeout) that take it out; 0 never does, 1 by default.
    pub max_fails: u32,
    /// The window for counting failures and the time it then stays out; 10 s by default.
    pub fail_timeout: Duration,
    /// The most connections at a time; `None` sets no limit.
    pub max_conns: Option<NonZeroU32>,
    /// Whether it serves always or only while all primary ones are unavailable.
    pub role: Role,
    /// Marked permanently unavailable (`down`).
    pub down: bool,
    /// Gets no new clients, and keeps those that are bound to it (`drain`).
    pub drain: bool,
    /// What clients are bound to it by (`route`), in place of its address.
    pub route: Option<String>,
    /// How long it takes to get its whole share after it was unavailable; 0 by default.
    pub slow_start: Duration,
}

impl Server {
    /// Returns a primary server at `addr` with nginx's default parameters.
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            name: addr.to_string(),
            weight: NonZeroU16::MIN,
            max_fails: 1,
            fail_timeout: Duration::from_secs(10),
            max_conns: None,
            role: Role::Primary,
            down: false,
            drain: false,
            route: None,
            slow_start: Duration::ZERO,
        }
    }
}

/// A server that is known by name (`server NAME resolve`): each of its addresses is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedServer {
    /// The name.
    pub host: String,
    /// The port; of no meaning where `service` names the port too.
    pub port: u16,
    /// What is looked for under the name (`service=`): `http`, or a name with dots.
    pub service: Option<String>,
    /// The parameters of each server, with an address that means nothing.
    pub server: Server,
}

impl NamedServer {
    /// Returns the name that is asked for.
    pub fn question(&self) -> String {
        let host = &self.host;
        match &self.service {
            None => host.clone(),
            Some(service) if service.contains('.') => format!("{service}.{host}"),
            Some(service) => format!("_{service}._tcp.{host}"),
        }
    }
}

/// When a server of an upstream gets requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Always.
    Primary,
    /// Only while no primary server is available (`backup`).
    Backup,
}

/// How idle connections to an upstream's servers are kept, per worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keepalive {
    /// The most idle connections of a worker to the whole group; the least recently used goes first,
    /// but not the last one of a server for one of a server that has several.
    pub idle_max: usize,
    /// The most of them to one server; `None` sets no bound of its own, as in nginx.
    pub idle_max_per_server: Option<usize>,
    /// Requests after which a connection is closed; 1000 by default.
    pub requests: u64,
    /// How long a connection may stay idle; 60 s by default.
    pub timeout: Duration,
    /// How old a connection may become before it is closed after its request; 1 h by default.
    pub time: Duration,
}

impl Keepalive {
    /// Returns nginx's defaults with room for `idle_max` idle connections.
    pub fn new(idle_max: usize) -> Self {
        Self {
            idle_max,
            idle_max_per_server: None,
            requests: 1000,
            timeout: Duration::from_secs(60),
            time: Duration::from_secs(3600),
        }
    }
}
