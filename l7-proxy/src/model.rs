//! What the proxy is told to do, as plain checked data.
//!
//! [`crate::conf`] turns an nginx.conf into a [`Config`]; a program can as well build one by hand:
//! every type has public fields, and a [`Default`] that equals nginx's default, or a `new` that asks for
//! what has none. Nothing is written unasked: without an [`AccessLog`] there is none, where nginx has a file.
//!
//! ```
//! use l7_proxy::model::{
//!     Config, Handler, Http, Keepalive, Listen, Location, Matcher, ProxySettings, Server, SetHeader, Settings,
//!     Upstream, VirtualServer,
//! };
//!
//! let mut http = Http::default();
//! let mut upstream = Upstream::new("app", vec![Server::new("127.0.0.1:9001".parse()?)]);
//! upstream.keepalive = Some(Keepalive::new(32));
//! let pass = http.add_upstream(upstream);
//!
//! let mut proxy = ProxySettings::default();
//! proxy.set_headers.push(SetHeader::new("X-Real-IP", "$remote_addr")?);
//! let settings = Settings { proxy: proxy.into(), ..Settings::default() };
//! let mut location = Location::new(Matcher::Prefix(b"/".into()), settings);
//! location.handler = Handler::Proxy(pass);
//! http.servers.push(VirtualServer {
//!     listen: vec![Listen::new("127.0.0.1:8080".parse()?)],
//!     locations: vec![location],
//!     ..VirtualServer::default()
//! });
//! let config = Config { http: Some(http), ..Config::default() };
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! Inheritance is resolved here and not at run time: nginx lets `http`, `server` and `location`
//! set the same directives, the innermost winning. In the model every [`Location`] carries its own
//! complete [`Settings`], so a request needs one reference and no walk up a tree.
//!
//! Nothing in this module opens a socket or a file. [`crate::route::Router`] compiles an [`Http`]
//! into what picks a location for a request.

mod addition;
mod answer;
mod auth;
mod browsers;
mod cache;
mod charset;
mod check;
mod client_addr;
mod compress;
mod field;
mod files;
mod http;
mod limit;
mod log;
mod memory;
mod mirror;
mod pattern;
mod proxy;
mod referers;
mod resolver;
mod script;
mod secure_link;
mod server_socket;
mod settings;
mod sticky;
mod stream;
mod substitution;
mod syslog;
mod tls;
mod upstream;
mod userid;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use self::addition::Addition;
pub use self::answer::{
    CookieFlags, Errors, Expires, ExpiresFrom, ExpiryTime, RedirectRule, RedirectRules, Relay, Replace,
    ServerRanges, Subject, Trailers,
};
pub use self::auth::{Auth, Satisfy};
pub(crate) use self::browsers::version as browser_version;
pub use self::browsers::{Browser, Browsers};
pub use self::cache::{
    CacheId, CacheRules, CacheUse, CacheValid, CacheZone, Rhythm, TemporaryFiles, UseStale,
};
pub use self::charset::Charset;
pub use self::check::{
    Cadence, Expectation, Expected, Field, FieldTest, GrpcCheck, HealthCheck, Holds, Mismatch, Statuses,
    StreamCheck, Talk, Unchecked,
};
pub use self::client_addr::{Depth, RealIp, RealIpSource};
pub use self::compress::{Gzip, GzipProxied, MediaTypes, OldestVersion, Prepared};
pub use self::field::FieldError;
pub use self::files::{
    CacheErrors, FileCache, Files, Follow, IfModifiedSince, Listing, ListingForm, Root, Sizes, Symlinks,
    Types,
};
pub use self::http::{
    Fallback, Handler, Http, KeepaliveProbes, LimitExcept, Listen, Location, Matcher, PassModule, PassTo,
    PassUri, ProxyPass, Return, ReturnBody, ServerName, SocketOptions, StatusPage, Tried, TriedKind,
    TryFiles, VirtualServer,
};
pub use self::limit::{
    ConnectionsLimit, Enforcement, Excess, LimitStatus, Limits, RequestsLimit, Zone, ZoneId, ZoneKind,
};
pub use self::log::{
    AccessLog, AccessLogTarget, ErrorLog, ErrorLogTarget, Escape, Gathering, LogFileCache, LogFormat,
    LogLevel, LogNotFound, LogTarget, Packing,
};
pub use self::memory::Memory;
pub use self::mirror::{Mirror, MirrorBody};
pub use self::pattern::{Pattern, PatternError};
pub use self::proxy::{
    Buffers, ClientAbort, GrpcSettings, HttpVersion, NextUpstream, PassRequest, ProxySettings,
    RequestBuffering, RetryOn, SetHeader, Storing,
};
pub use self::referers::{Pages, Referers};
pub use self::resolver::{Families, Resolver, Resolving};
pub use self::script::{Condition, If, Instruction, PathKind, Rewrite, Sense, Settable, Test, Then};
pub use self::secure_link::SecureLink;
pub use self::server_socket::ServerSocket;
pub use self::settings::{
    AddHeader, BodyStore, Client, ConnectionSettings, ErrorPage, ErrorPageStatus, FieldNames, HeadLimits,
    Http2, Inherit, Inheritance, KeepaliveDisabled, Linger, Lingering, Padding, Recursion, Redirects,
    ServerTokens, Settings, Slashes, When,
};
pub use self::sticky::{Learn, Sticky, StickyCookie};
pub use self::stream::{
    ConnectionLimit, ConnectionZone, PassTarget, Stream, StreamContent, StreamFormat, StreamListen,
    StreamLog, StreamLogTarget, StreamServer, StreamSettings, StreamTarget, StreamTimed, StreamUpstream,
    Transport,
};
pub use self::substitution::Substitution;
pub use self::syslog::{Facility, Hostname, Syslog};
pub use self::tls::{
    CertificateCache, CertificatePair, Curve, Passwords, Pem, PemText, SessionCache, TlsClient, TlsCommand,
    TlsServer, TlsVersion, TlsVersions, VerifyClient,
};
pub use self::upstream::{Balance, Keepalive, NamedServer, Queue, Role, Server, Timed, Upstream, UpstreamId};
pub use self::userid::{UserId, UserIdExpires, UserIdMode};
pub use crate::affinity::Affinity;
pub use crate::identity::Identity;

/// A whole configuration: the process, and the protocols that it serves.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// What concerns the process as such.
    pub process: Process,
    /// Limits of the event loop, from `events {}`.
    pub events: Events,
    /// The HTTP side, from `http {}`; `None` where there is no such block.
    pub http: Option<Http>,
    /// The TCP side, from `stream {}`; `None` where there is no such block.
    pub stream: Option<Stream>,
}

impl Config {
    /// Returns the diagnostic logs of servers and locations that have their own.
    pub fn error_logs(&self) -> Vec<Arc<Vec<ErrorLog>>> {
        let http = self.http.iter().flat_map(Http::settings).map(|settings| &settings.error_log);
        let stream = self.stream.iter().flat_map(|stream| &stream.servers);
        let stream = stream.map(|server| &server.settings.error_log);
        http.chain(stream).flatten().cloned().collect()
    }
}

/// Settings of the process: workers, files that it writes, how it runs.
#[derive(Debug, Clone)]
pub struct Process {
    /// How many workers serve connections.
    pub workers: Workers,
    /// Where diagnostics go; empty means standard error at level `error`.
    pub error_log: Vec<ErrorLog>,
    /// The file that receives the process id.
    pub pid: PathBuf,
    /// Whether to leave the terminal and run in the background (`daemon`). Off by default, unlike in
    /// nginx: whoever wants it says so, as service managers' units for nginx do.
    pub daemon: bool,
    /// `master_process`; recorded, the workers are threads of one process either way.
    pub master_process: bool,
    /// Which processors workers run on (`worker_cpu_affinity`); `None` leaves it to the system.
    pub affinity: Option<Affinity>,
    /// How many descriptors the process may have (`worker_rlimit_nofile`); for programs, the library sets no
    /// limits. So it is with the next two.
    pub open_files: Option<u64>,
    /// The size of what is left of a process that fails (`worker_rlimit_core`).
    pub core_size: Option<u64>,
    /// How far other processes come first, from -20 to 20 (`worker_priority`).
    pub priority: Option<i32>,
    /// Whom workers act as, where the process is root's (`user`); `None` is whoever started it.
    pub user: Option<Identity>,
    /// How long open connections may take to end after a graceful stop, and after a reload those that the
    /// configuration before still serves. Without a word 30 s after a stop, for ever after a reload.
    pub shutdown_timeout: Option<Duration>,
    /// Where `lvsadm` finds the upstreams, if it may (`lvs_control`).
    pub control: Option<ControlSocket>,
}

/// A Unix socket on which the upstreams are listed and administered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlSocket {
    /// Where it is.
    pub path: PathBuf,
    /// Who may use it, as the mode of a file.
    pub mode: u32,
}

impl ControlSocket {
    /// Returns a socket that only its owner can use.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), mode: 0o600 }
    }
}

impl Default for Process {
    fn default() -> Self {
        Self {
            workers: Workers::default(),
            error_log: Vec::new(),
            pid: PathBuf::from("logs/nginx.pid"),
            daemon: false,
            master_process: true,
            affinity: None,
            open_files: None,
            core_size: None,
            priority: None,
            user: None,
            shutdown_timeout: None,
            control: None,
        }
    }
}

/// How many workers serve connections (`worker_processes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// As many as there are processors.
    Auto,
    /// This many.
    Count(NonZeroUsize),
}

impl Default for Workers {
    fn default() -> Self {
        Self::Count(NonZeroUsize::MIN)
    }
}

/// Settings of `events {}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// Connections a worker may have open, those to servers included; 512 by default.
    pub worker_connections: usize,
}

impl Default for Events {
    fn default() -> Self {
        Self { worker_connections: 512 }
    }
}
