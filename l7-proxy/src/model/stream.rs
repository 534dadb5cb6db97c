//! `stream {}`: servers that answer or relay whole connections, and datagrams.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use l4_proxy::proxy_protocol::Version;

use crate::stream::access::Rule;
use crate::stream::defined::Definition;
use crate::stream::text::Text;

use super::LogTarget;
use super::check::StreamCheck;
use super::http::{ServerName, SocketOptions};
use super::limit::Excess;
use super::log::{ErrorLog, Escape, Gathering, LogFileCache};
use super::resolver::Resolving;
use super::server_socket::ServerSocket;
use super::tls::{TlsClient, TlsServer};
use super::upstream::{Upstream, UpstreamId};

/// The TCP side of a configuration.
#[derive(Debug, Clone, Default)]
pub struct Stream {
    /// The upstreams that `proxy_pass` refers to, those implied by an address included.
    pub upstreams: Vec<StreamUpstream>,
    /// The servers in the order of the file; the order decides which is the default of an address.
    pub servers: Vec<StreamServer>,
    /// The logs of `stream {}` itself; their files are there also where no server writes to them.
    pub access_log: Vec<StreamLog>,
    /// The variables that blocks define.
    pub definitions: Arc<[Definition]>,
}

impl Stream {
    /// Returns the upstream that `id` stands for.
    ///
    /// # Panics
    /// If `id` belongs to another configuration.
    pub fn upstream(&self, id: UpstreamId) -> &StreamUpstream {
        &self.upstreams[id.0]
    }

    /// Returns the files that are known beforehand to be written to, and how.
    pub fn log_targets(&self) -> impl Iterator<Item = (&LogTarget, Option<Gathering>)> {
        let logs = self.servers.iter().flat_map(|server| &server.settings.access_log);
        logs.chain(&self.access_log).filter_map(|log| Some((log.target.fixed()?, log.gathering)))
    }
}

/// A group of servers; without a key it is the client's address that is hashed.
pub type StreamUpstream = Upstream<Text, StreamTimed>;

/// Up to where a server of `stream {}` is timed (`least_time`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamTimed {
    /// Up to when it is connected to (`connect`).
    Connect,
    /// Up to its first byte (`first_byte`).
    FirstByte,
    /// Up to its last one (`last_byte`).
    LastByte,
}

/// One `server {}` of `stream {}`.
#[derive(Debug, Clone)]
pub struct StreamServer {
    /// The addresses to accept on.
    pub listen: Vec<StreamListen>,
    /// The names that clients of TLS may ask for.
    pub names: Vec<ServerName>,
    /// What it does with a connection.
    pub content: StreamContent,
    /// How the servers are checked that it leads to (`health_check`).
    pub health_check: Option<StreamCheck>,
    /// Everything else.
    pub settings: StreamSettings,
}

/// What carries the bytes of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Transport {
    /// Connections.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
}

/// One `listen` of a stream server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamListen {
    /// What is listened for.
    pub transport: Transport,
    /// The address; the unspecified address means all of its family.
    pub addr: SocketAddr,
    /// How the socket is set up; `None` leaves it to another `listen` of the same address.
    pub socket: Option<SocketOptions>,
    /// Whether this server is the one for names that no other has.
    pub default_server: bool,
    /// Whether TLS is spoken.
    pub ssl: bool,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
}

/// What a server does with a connection.
#[derive(Debug, Clone)]
pub enum StreamContent {
    /// Gives it to a server of an upstream (`proxy_pass`).
    Proxy(StreamTarget),
    /// Answers it (`return`).
    Return(Text),
    /// Hands it over to whoever listens at an address, as if it had come there (`pass`).
    Pass(PassTarget),
}

/// Where a connection is handed over to.
#[derive(Debug, Clone)]
pub enum PassTarget {
    /// To who listens at this address.
    Address(SocketAddr),
    /// To who listens at the address that the text is.
    Computed(Text),
}

/// Where a connection is relayed to.
#[derive(Debug, Clone)]
pub enum StreamTarget {
    /// To an upstream.
    Upstream(UpstreamId),
    /// To what the text names: an upstream, or an address.
    Computed(Text),
}

/// What holds for the connections of a server.
#[derive(Debug, Clone)]
pub struct StreamSettings {
    /// Time to establish a connection with a server; 60 s by default.
    pub connect_timeout: Duration,
    /// Time without a byte in either direction after which both sides are closed; 10 min by default.
    pub timeout: Duration,
    /// The sockets of connections to servers.
    pub socket: ServerSocket,
    /// Whether Nagle's algorithm is off on both sides (`tcp_nodelay`, on by default).
    pub tcp_nodelay: bool,
    /// Whether one side may go on for as long as it likes after the other has ended (`proxy_half_close`).
    pub half_close: bool,
    /// Whether another server is tried if one cannot be connected to (`proxy_next_upstream`, on by default).
    pub next_upstream: bool,
    /// The most servers that are tried; `None` tries each once.
    pub next_upstream_tries: Option<u32>,
    /// Time after which no further server is tried; `None` sets no limit.
    pub next_upstream_timeout: Option<Duration>,
    /// How many datagrams of a client make a session; the next begins another. `None` sets no limit.
    pub requests: Option<NonZeroU32>,
    /// How many datagrams answer each of a client's, after which the session is over; `None` leaves that
    /// to `timeout`.
    pub responses: Option<u32>,
    /// Bytes per second from the client; 0 or nothing sets no limit.
    pub upload_rate: Text,
    /// Bytes per second to the client; 0 or nothing sets no limit.
    pub download_rate: Text,
    /// The address that connections to servers come from; `None` or nothing leaves it to the system.
    pub bind: Option<Text>,
    /// By what PROXY protocol header servers are told the client, if they are.
    pub proxy_protocol: Option<Version>,
    /// Time for the client's PROXY protocol header; 30 s by default.
    pub proxy_protocol_timeout: Duration,
    /// Peers whose PROXY protocol header names the client (`set_real_ip_from`).
    pub real_ip_from: Vec<crate::stream::access::Network>,
    /// Who may connect; the first that holds counts.
    pub access: Vec<Rule>,
    /// How many connections there may be.
    pub limits: Vec<ConnectionLimit>,
    /// What becomes of a connection that is one too many; its status is 503.
    pub on_limits: Excess,
    /// Whether the client's first message is looked at before a server is chosen.
    pub preread: bool,
    /// The longest message that is looked at; 16 kB by default.
    pub preread_size: usize,
    /// Time for that message; 30 s by default.
    pub preread_timeout: Duration,
    /// Who is asked for the addresses of names that a connection brings (`resolver`).
    pub resolving: Resolving,
    /// What `set` gives to variables, by their numbers.
    pub set: Vec<(usize, Text)>,
    /// The logs.
    pub access_log: Vec<StreamLog>,
    /// How many files of logs whose names vary are kept open (`open_log_file_cache`).
    pub log_files: LogFileCache,
    /// Where diagnostics of its connections go; `None` leaves them to the log of the process.
    pub error_log: Option<Arc<Vec<ErrorLog>>>,
    /// How TLS is spoken with clients.
    pub tls: Arc<TlsServer>,
    /// How long a server may take over what a check has it say (`health_check_timeout`); 5 s by default.
    pub check_timeout: Duration,
    /// Whether TLS is spoken with servers (`proxy_ssl`).
    pub proxy_ssl: bool,
    /// How TLS is spoken with servers.
    pub proxy_tls: TlsClient,
    /// The name of a server in TLS; `None` is that of `proxy_pass`.
    pub proxy_tls_name: Option<Text>,
    /// Protocols inside TLS that are offered to servers.
    pub proxy_tls_alpn: Vec<Text>,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(60),
            timeout: Duration::from_secs(600),
            socket: ServerSocket::default(),
            tcp_nodelay: true,
            half_close: false,
            next_upstream: true,
            next_upstream_tries: None,
            next_upstream_timeout: None,
            requests: None,
            responses: None,
            upload_rate: Text::literal(""),
            download_rate: Text::literal(""),
            bind: None,
            proxy_protocol: None,
            proxy_protocol_timeout: Duration::from_secs(30),
            real_ip_from: Vec::new(),
            access: Vec::new(),
            limits: Vec::new(),
            on_limits: Excess::default(),
            preread: false,
            preread_size: 16 * 1024,
            preread_timeout: Duration::from_secs(30),
            resolving: Resolving::default(),
            set: Vec::new(),
            access_log: Vec::new(),
            log_files: LogFileCache::default(),
            error_log: None,
            tls: Arc::default(),
            check_timeout: Duration::from_secs(5),
            proxy_ssl: false,
            proxy_tls: TlsClient::default(),
            proxy_tls_name: None,
            proxy_tls_alpn: Vec::new(),
        }
    }
}

/// A bound on the connections that have something in common (`limit_conn`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimit {
    /// The zone that counts.
    pub zone: Arc<ConnectionZone>,
    /// What they have in common.
    pub key: Text,
    /// How many there may be.
    pub most: u32,
}

/// What counts connections that have something in common (`limit_conn_zone`): the same one as long as its
/// name and its size stay, over reloads too.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConnectionZone {
    /// Its name.
    pub name: String,
    /// How large it is, which tells zones apart and bounds nothing: there are never more keys than connections.
    pub size: u64,
}

/// A log that gets a line for each connection.
#[derive(Debug, Clone)]
pub struct StreamLog {
    /// Where the lines go.
    pub target: StreamLogTarget,
    /// What a line says.
    pub format: Arc<StreamFormat>,
    /// The line is written unless this is empty or 0.
    pub condition: Option<Text>,
    /// How lines are gathered; `None` writes each by itself.
    pub gathering: Option<Gathering>,
}

/// Where the lines of a log go.
#[derive(Debug, Clone)]
pub enum StreamLogTarget {
    /// To this file.
    Fixed(LogTarget),
    /// To the file that the text names.
    Computed(Text),
}

impl StreamLogTarget {
    /// Returns where lines go, if that is the same for all connections.
    pub fn fixed(&self) -> Option<&LogTarget> {
        match self {
            Self::Fixed(target) => Some(target),
            Self::Computed(_) => None,
        }
    }
}

/// What a line of a log says.
#[derive(Debug, Clone)]
pub struct StreamFormat {
    /// The line, without its end.
    pub line: Text,
    /// How bytes are written that would break a line.
    pub escape: Escape,
}
