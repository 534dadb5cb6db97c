//! Virtual servers, their locations and what a location does with a request.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::charset::Charsets;
use crate::conf::Place;
use crate::stream::access::Network;
use crate::variable::{Definitions, Value};

use super::cache::CacheZone;
use super::check::HealthCheck;
use super::limit::Zone;
use super::memory::Memory;
use super::pattern::Pattern;
use super::script::Instruction;
use super::settings::Settings;
use super::upstream::{Upstream, UpstreamId};

/// The HTTP side of a configuration.
#[derive(Debug, Clone, Default)]
pub struct Http {
    /// The upstreams that [`ProxyPass`] refers to, those implied by an address included.
    pub upstreams: Vec<Upstream>,
    /// The virtual servers in the order of the file; the order decides which is the default of an address.
    pub servers: Vec<VirtualServer>,
    /// The variables that the configuration defines.
    pub definitions: Definitions,
    /// The memory of the process's logs of errors, for pages that show them.
    pub log_memory: Vec<Arc<Memory>>,
    /// Who may ask why a request would be answered as it would be (`lvs_explain_from`).
    pub explain_from: Vec<Network>,
    /// What limits count by.
    pub zones: Vec<Zone>,
    /// Where answers are kept.
    pub caches: Vec<CacheZone>,
    /// The character sets that are named, and the maps between them (`charset_map`).
    pub charsets: Charsets,
}

impl Http {
    /// Adds an upstream; returns what `proxy_pass http://NAME` is with its name.
    ///
    /// ```
    /// use l7_proxy::model::{Handler, Http, Listen, Location, Matcher, Server, Upstream, VirtualServer};
    ///
    /// let mut http = Http::default();
    /// let servers = vec![Server::new("127.0.0.1:9001".parse()?), Server::new("127.0.0.1:9002".parse()?)];
    /// let app = http.add_upstream(Upstream::new("app", servers));
    /// let mut all = Location::new(Matcher::Prefix(b"/".into()), Default::default());
    /// all.handler = Handler::Proxy(app);
    /// http.servers.push(VirtualServer {
    ///     listen: vec![Listen::new("127.0.0.1:8080".parse()?)],
    ///     locations: vec![all],
    ///     ..Default::default()
    /// });
    /// # Ok::<_, std::net::AddrParseError>(())
    /// ```
    pub fn add_upstream(&mut self, upstream: Upstream) -> ProxyPass {
        let (host, id) = (upstream.name.clone(), UpstreamId(self.upstreams.len()));
        self.upstreams.push(upstream);
        ProxyPass {
            upstream: Some(id),
            tls: false,
            module: PassModule::Proxy,
            url: format!("http://{host}"),
            host,
            port: 80,
            uri: None,
        }
    }

    /// Returns the settings of all servers, and of all locations and of the blocks in those.
    pub fn settings(&self) -> Vec<&Settings> {
        let mut found = Vec::new();
        for server in &self.servers {
            found.push(&server.settings);
            server.locations.iter().for_each(|location| location.gather_settings(&mut found));
        }
        found
    }

    /// Returns the upstream that `id` stands for.
    ///
    /// # Panics
    /// If `id` belongs to another configuration.
    pub fn upstream(&self, id: UpstreamId) -> &Upstream {
        &self.upstreams[id.0]
    }
}

/// One `server {}`: a set of names on a set of addresses.
#[derive(Debug, Clone, Default)]
pub struct VirtualServer {
    /// The addresses it is reached at. Without any, only requests of the program reach it
    /// ([`Daemon::service`](crate::daemon::Daemon::service)), if no other server has one.
    pub listen: Vec<Listen>,
    /// The names it answers to; empty matches only as the default server of an address.
    pub names: Vec<ServerName>,
    /// What is done with a request before a location is looked for.
    pub script: Vec<Instruction>,
    /// `return` at server level: answers every request that the script lets through.
    pub reply: Option<Return>,
    /// The locations in the order of the file.
    pub locations: Vec<Location>,
    /// Paths that are tried for requests that no location matches (`try_files` at server level).
    pub try_files: Option<TryFiles>,
    /// What holds for requests that no location matches; they are served as files.
    pub settings: Settings,
    /// Where it is written, for explanations.
    pub place: Option<Place>,
}

/// One `listen`: an address and, if this directive has them, the socket's options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address; the unspecified address means all of its family.
    pub addr: SocketAddr,
    /// Whether this server is the one for requests whose name matches none (`default_server`).
    pub default_server: bool,
    /// How the socket is set up; `None` leaves it to another `listen` of the same address.
    pub socket: Option<SocketOptions>,
    /// Whether TLS is spoken (`ssl`).
    pub ssl: bool,
    /// Whether HTTP/2 is spoken by all servers of the address (`http2`).
    pub http2: bool,
    /// Whether connections begin with a header of the PROXY protocol (`proxy_protocol`).
    pub proxy_protocol: bool,
}

impl Listen {
    /// Returns a plain `listen` on `addr`.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, default_server: false, socket: None, ssl: false, http2: false, proxy_protocol: false }
    }
}

/// How a listening socket is set up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SocketOptions {
    /// Length of the queue of connections not yet accepted; `None` is nginx's 511.
    pub backlog: Option<u32>,
    /// One socket per worker, the kernel spreading connections over them (`reuseport`).
    ///
    /// Recorded; workers have a socket each in any case.
    pub reuseport: bool,
    /// Whether an IPv6 socket takes IPv4 connections as well; `None` is nginx's "no".
    pub ipv6only: Option<bool>,
    /// Size of the send buffer (`sndbuf=`).
    pub sndbuf: Option<u64>,
    /// Size of the receive buffer (`rcvbuf=`).
    pub rcvbuf: Option<u64>,
    /// Whether clients may come on several paths at once, by Multipath TCP (`multipath`).
    pub multipath: bool,
    /// Whether the kernel looks after silent clients (`so_keepalive=`).
    pub keepalive: Option<KeepaliveProbes>,
}

/// How the kernel looks after a silent peer (tcp(7)); what is `None` is the system's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeepaliveProbes {
    /// How long it has to be silent.
    pub idle: Option<Duration>,
    /// The time between questions.
    pub interval: Option<Duration>,
    /// How many have no answer before it is taken for gone.
    pub count: Option<u32>,
}

/// One name of a virtual server, lower case.
#[derive(Debug, Clone)]
pub enum ServerName {
    /// `www.example.org`; the empty name matches a request without `Host`.
    Exact(String),
    /// `*.example.org`, given as `example.org`.
    LeadingWildcard(String),
    /// `.example.org`, given as `example.org`: the name itself and everything under it.
    NameAndSubdomains(String),
    /// `www.example.*`, given as `www.example`.
    TrailingWildcard(String),
    /// `~^www\d+\.example\.org$`.
    Regex(Pattern),
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::LeadingWildcard(name) => write!(f, "*.{name}"),
            Self::NameAndSubdomains(name) => write!(f, ".{name}"),
            Self::TrailingWildcard(name) => write!(f, "{name}.*"),
            Self::Regex(pattern) => write!(f, "~{}", pattern.source()),
        }
    }
}

/// One `location {}`.
#[derive(Debug, Clone)]
pub struct Location {
    /// Which paths it takes.
    pub matcher: Matcher,
    /// What is done with a request first.
    pub script: Vec<Instruction>,
    /// `return`: answers after the script, before the handler is asked.
    pub reply: Option<Return>,
    /// What holds for other methods than these (`limit_except`).
    pub limit_except: Option<LimitExcept>,
    /// Who answers.
    pub handler: Handler,
    /// Everything else that holds here, inherited values included.
    pub settings: Settings,
    /// Locations inside this one.
    pub locations: Vec<Location>,
    /// Paths that are tried before the handler is asked (`try_files`).
    pub try_files: Option<TryFiles>,
    /// Reachable by internal redirects only (`internal`); others get 404.
    pub internal: bool,
    /// How the servers that it forwards to are checked (`health_check`).
    pub health_check: Option<HealthCheck>,
    /// Where it is written, for explanations.
    pub place: Option<Place>,
}

impl Location {
    /// Returns a location that serves files under the given settings.
    pub fn new(matcher: Matcher, settings: Settings) -> Self {
        Self {
            matcher,
            script: Vec::new(),
            reply: None,
            limit_except: None,
            try_files: None,
            handler: Handler::Files,
            settings,
            locations: Vec::new(),
            internal: false,
            health_check: None,
            place: None,
        }
    }

    /// Returns whether no request of its server is left for what has no location.
    pub fn takes_everything(&self) -> bool {
        matches!(&self.matcher, Matcher::Prefix(path) | Matcher::FinalPrefix(path) if **path == b"/"[..])
    }
}

impl Location {
    fn gather_settings<'a>(&'a self, found: &mut Vec<&'a Settings>) {
        found.push(&self.settings);
        let branches = self.script.iter().filter_map(|instruction| match instruction {
            Instruction::If(branch) => branch.location.as_deref(),
            Instruction::Set { .. } | Instruction::Rewrite(_) | Instruction::Break => None,
        });
        let except = self.limit_except.iter().map(|except| &*except.location);
        let inside = self.locations.iter().chain(branches).chain(except);
        inside.for_each(|location| location.gather_settings(found));
    }
}

/// `limit_except`: what holds for all methods but some.
#[derive(Debug, Clone)]
pub struct LimitExcept {
    /// The methods that are not concerned; `GET` stands for `HEAD` too.
    pub methods: Vec<::http::Method>,
    /// What holds for the others.
    pub location: Box<Location>,
}

/// Which paths a location takes.
#[derive(Debug, Clone)]
pub enum Matcher {
    /// `= /path`: exactly this one.
    Exact(Vec<u8>),
    /// `/path`: those that begin with it, unless a regular expression matches.
    Prefix(Vec<u8>),
    /// `^~ /path`: those that begin with it; no regular expression is asked.
    FinalPrefix(Vec<u8>),
    /// `~ regex` or `~* regex`.
    Regex(Pattern),
    /// `@name`: reached by name only.
    Named(String),
}

/// As in the configuration: `= /path`, `~ regex`, `@name`.
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => write!(f, "= {}", path.escape_ascii()),
            Self::Prefix(path) => write!(f, "{}", path.escape_ascii()),
            Self::FinalPrefix(path) => write!(f, "^~ {}", path.escape_ascii()),
            Self::Regex(pattern) => write!(f, "~ {}", pattern.source()),
            Self::Named(name) => write!(f, "@{name}"),
        }
    }
}

/// `try_files`: the first path that is there is served.
#[derive(Debug, Clone)]
pub struct TryFiles {
    /// What is looked for, in order.
    pub paths: Vec<Tried>,
    /// What happens if none is there.
    pub last: Fallback,
}

/// A path that `try_files` looks for.
#[derive(Debug, Clone)]
pub struct Tried {
    /// The path.
    pub path: Value,
    /// What it has to be.
    pub kind: TriedKind,
}

/// What a path of `try_files` has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TriedKind {
    /// Anything but a directory.
    File,
    /// A directory: it is written with a slash at its end.
    Directory,
}

/// What happens if no path of a `try_files` is there.
#[derive(Debug, Clone)]
pub enum Fallback {
    /// The request starts anew with this path, or at this named location.
    Path(Value),
    /// This status.
    Status(u16),
}

/// Who answers a request at a location.
#[derive(Debug, Clone)]
pub enum Handler {
    /// Files under the location's root.
    Files,
    /// The servers of an upstream.
    Proxy(ProxyPass),
    /// Servers that are known only with the request: a `proxy_pass` with variables in its host.
    ProxyTo(PassTo),
    /// A page of counts.
    Status(StatusPage),
    /// One transparent pixel (`empty_gif`).
    EmptyGif,
}

/// Which page about the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusPage {
    /// nginx's (`stub_status`).
    Stub,
    /// That which Prometheus reads (`lvs_metrics`).
    Metrics,
    /// The upstreams and their servers, as JSON (`lvs_status`).
    Upstreams,
    /// What the logs of errors that hold here have in memory (`lvs_log`).
    Log,
}

/// `proxy_pass`, `grpc_pass`: where requests go, and under which path.
#[derive(Debug, Clone)]
pub struct ProxyPass {
    /// The servers that get the requests; `None` in what a request makes of a [`Handler::ProxyTo`] whose
    /// servers no configuration lists.
    pub upstream: Option<UpstreamId>,
    /// Whether TLS is spoken with them (`https://`, `grpcs://`).
    pub tls: bool,
    /// Which of a location's settings hold.
    pub module: PassModule,
    /// Name (and port, unless the scheme's) as written: the value of `$proxy_host`.
    pub host: String,
    /// Scheme, name and port as written, and the path if it has no variables: what
    /// `proxy_redirect default` replaces.
    pub url: String,
    /// Port as written or the scheme's: the value of `$proxy_port`.
    pub port: u16,
    /// The path that servers are asked for; `None` keeps the client's.
    pub uri: Option<PassUri>,
}

/// `proxy_pass`, `grpc_pass` with variables in what says who the servers are.
#[derive(Debug, Clone)]
pub struct PassTo {
    /// Scheme, host and path: of an upstream, an address, or a name that `resolver` knows.
    pub url: Value,
    /// Which of a location's settings hold.
    pub module: PassModule,
}

/// The path that a `proxy_pass` has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PassUri {
    /// It takes the place of what the location's prefix matched.
    Prefix(String),
    /// It is the whole of the request's target, for it has variables in it.
    Whole(Value),
}

/// Which directives say how requests are forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassModule {
    /// `proxy_*`
    Proxy,
    /// `grpc_*`
    Grpc,
}

impl ProxyPass {
    /// Returns the scheme of its URL.
    pub fn scheme(&self) -> &'static str {
        match (self.module, self.tls) {
            (PassModule::Proxy, false) => "http",
            (PassModule::Proxy, true) => "https",
            (PassModule::Grpc, false) => "grpc",
            (PassModule::Grpc, true) => "grpcs",
        }
    }
}

/// `return`: an answer without a handler.
#[derive(Debug, Clone)]
pub struct Return {
    /// The status; 444 closes the connection without an answer.
    pub status: u16,
    /// What goes with it.
    pub body: ReturnBody,
}

/// What goes with the status of a `return`.
#[derive(Debug, Clone)]
pub enum ReturnBody {
    /// The built-in page of the status, or the `error_page` for it.
    Page,
    /// This text, with the location's default type.
    Text(Value),
    /// A redirect to this place (301, 302, 303, 307, 308).
    Location(Value),
}
