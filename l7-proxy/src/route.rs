//! Which virtual server and which location a request belongs to, by nginx's precedence.
//!
//! *Server*: those that listen on the connection's local address; of them the one with the exact
//! name, else the longest leading wildcard, else the longest trailing wildcard, else the first
//! regular expression, else the address's default.
//!
//! *Location*, at each level: an exact one wins at once. Otherwise the longest prefix is found
//! and searched for nested locations first; if nothing in it was decisive and it is no `^~`, the
//! level's regular expressions are tried in the order of the file; if none matches, the longest
//! prefix has it.
//!
//! A pick reads tables that are laid out once: names in a hash map, prefixes in a sorted list in
//! which each knows the longest other that is a prefix of it. Only regular expressions cost more
//! than their length.

mod entries;
mod locations;
mod names;
mod needs;
mod script;
mod server;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use http::Method;

use crate::charset::Charsets;
use crate::model::{
    CacheZone, Gathering, Handler, Http, LogTarget, Matcher, Memory, PassModule, PassTo, ProxyPass,
    ProxySettings, Return, Settings, SocketOptions, TlsClient, TryFiles, Upstream, UpstreamId, Zone,
};
use crate::stream::access::Network;
use crate::variable::{Captures, Definitions};

use self::entries::{EntryDraft, sockets};
use self::locations::Level;
pub(crate) use self::names::NameTable;
pub use self::needs::Needs;
pub use self::script::{Branch, Order};
pub use self::server::Server;

/// A compiled [`Http`]: picks the virtual server and the location of a request.
#[derive(Debug)]
pub struct Router {
    upstreams: Vec<Upstream>,
    sockets: Vec<Socket>,
    /// The address as configured, the wildcard included, to its place in `entries`.
    addresses: HashMap<SocketAddr, usize, foldhash::fast::RandomState>,
    entries: Vec<NameTable>,
    /// What is spoken at each entry.
    endpoints: Vec<Endpoint>,
    servers: Vec<Server>,
    definitions: Definitions,
    charsets: Charsets,
    zones: Vec<Zone>,
    caches: Vec<CacheZone>,
    needs: Needs,
    log_memory: Vec<Arc<Memory>>,
    /// Who may ask for explanations.
    explain_from: Vec<Network>,
}

/// A socket to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// The address.
    pub addr: SocketAddr,
    /// How it is set up.
    pub options: SocketOptions,
}

/// The virtual servers of one address; found once per connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry(usize);

/// Where a [`Route`] is found again, without a hold on the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    server: usize,
    /// `None` for what holds where no location matches.
    location: Option<usize>,
    prefix_len: usize,
}

/// What is spoken with the clients of an address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// TLS.
    pub ssl: bool,
    /// HTTP/2, also without TLS.
    pub http2: bool,
    /// A header of the PROXY protocol, before anything else.
    pub proxy_protocol: bool,
}

/// A location with what is inside it.
#[derive(Debug)]
struct Location {
    label: Label,
    script: Box<[Order]>,
    reply: Option<Return>,
    /// The methods that the location is for, and the place of what holds for others.
    limit_except: Option<(Vec<Method>, usize)>,
    try_files: Option<TryFiles>,
    handler: Handler,
    settings: Settings,
    internal: bool,
    /// Bytes of its prefix; `None` for a regular expression or a name.
    prefix_len: Option<usize>,
    level: Level,
}

/// What a location is called, for explanations.
#[derive(Debug)]
pub(crate) struct Label {
    pub(crate) matcher: Matcher,
    pub(crate) place: Option<crate::conf::Place>,
}

/// Where a request belongs.
#[derive(Debug, Clone, Copy)]
pub struct Route<'r> {
    /// What is done first.
    pub script: &'r [Order],
    /// A `return` that answers then.
    pub reply: Option<&'r Return>,
    /// Paths that are tried before the handler is asked.
    pub try_files: Option<&'r TryFiles>,
    /// Who answers otherwise.
    pub handler: &'r Handler,
    /// What holds here.
    pub settings: &'r Settings,
    /// Bytes of the path that the location's prefix matched; all of it for a regular expression.
    ///
    /// This is the part that the path of a `proxy_pass` replaces.
    pub prefix_len: usize,
    /// Whether only internal redirects get here; others are answered 404.
    pub internal: bool,
    /// Where to find it again.
    pub place: Place,
}

impl<'r> Route<'r> {
    /// Returns how requests are forwarded here.
    pub fn proxy(&self) -> &'r ProxySettings {
        proxy_settings(self.handler, self.settings)
    }
}

/// Returns how a handler forwards.
pub(crate) fn proxy_settings<'s>(handler: &Handler, settings: &'s Settings) -> &'s ProxySettings {
    match handler {
        Handler::Proxy(ProxyPass { module: PassModule::Grpc, .. })
        | Handler::ProxyTo(PassTo { module: PassModule::Grpc, .. }) => &settings.grpc.0,
        Handler::Proxy(_) | Handler::ProxyTo(_) | Handler::Files | Handler::Status(_) | Handler::EmptyGif => {
            &settings.proxy
        }
    }
}

/// What [`Server::locate`] finds.
#[derive(Debug, Clone, Copy)]
pub enum Located<'r> {
    /// The location that answers.
    Found(Route<'r>),
    /// The path lacks the slash at the end of a forwarding location: 301 to the path with it.
    AddSlash(Route<'r>),
}

impl<'r> Located<'r> {
    /// Returns the route, whichever way it was found.
    pub fn route(self) -> Route<'r> {
        match self {
            Self::Found(route) | Self::AddSlash(route) => route,
        }
    }
}

/// Why a configuration cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouteError {
    /// Two servers are the default of this address.
    DuplicateDefault(SocketAddr),
    /// Two `listen` of this address say how its socket is set up.
    DuplicateOptions(SocketAddr),
    /// A location forwards to an upstream that is not there.
    UnknownUpstream(UpstreamId),
    /// Two locations of a server have this name or path.
    DuplicateLocation(String),
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateDefault(addr) => write!(f, "a duplicate default server for {addr}"),
            Self::DuplicateOptions(addr) => write!(f, "duplicate listen options for {addr}"),
            Self::UnknownUpstream(id) => write!(f, "no upstream number {}", id.0),
            Self::DuplicateLocation(name) => write!(f, "duplicate location \"{name}\""),
        }
    }
}

impl std::error::Error for RouteError {}

impl Router {
    /// Compiles a configuration.
    ///
    /// # Errors
    /// For contradictions between its parts, see [`RouteError`].
    pub fn new(http: Http) -> Result<Self, RouteError> {
        let needs = Needs::of(&http);
        let mut addresses: HashMap<SocketAddr, usize, _> = HashMap::default();
        let mut entries: Vec<EntryDraft> = Vec::new();
        for (number, server) in http.servers.iter().enumerate() {
            for listen in &server.listen {
                let place = *addresses.entry(listen.addr).or_insert(entries.len());
                if place == entries.len() {
                    entries.push(EntryDraft::new(listen.addr));
                }
                entries[place].add(number, listen)?;
            }
        }
        let sockets = sockets(&entries);
        let within = (0..http.servers.len()).filter(|&number| http.servers[number].listen.is_empty());
        let within: Vec<usize> = within.collect();
        if !within.is_empty() {
            addresses.insert(WITHIN, entries.len());
            entries.push(EntryDraft::of(WITHIN, within));
        }
        let endpoints = entries.iter().map(|entry| entry.endpoint(&http.servers)).collect();
        let entries = entries.into_iter().map(|entry| entry.compile(&http.servers)).collect::<Vec<_>>();
        let Http { upstreams, definitions, zones, caches, charsets, .. } = http;
        let servers = http
            .servers
            .into_iter()
            .enumerate()
            .map(|(number, server)| Server::new(number, server, &upstreams))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            upstreams,
            sockets,
            addresses,
            entries,
            endpoints,
            servers,
            definitions,
            zones,
            caches,
            charsets,
            needs,
            log_memory: http.log_memory,
            explain_from: http.explain_from,
        })
    }

    /// Returns the sockets to listen on.
    ///
    /// An address without options of its own is left out where a wildcard has its port: one
    /// socket serves both, and [`entry`](Self::entry) tells them apart, as in nginx.
    pub fn sockets(&self) -> &[Socket] {
        &self.sockets
    }

    /// Returns the upstream that `id` stands for.
    ///
    /// # Panics
    /// If `id` belongs to another configuration.
    pub fn upstream(&self, id: UpstreamId) -> &Upstream {
        &self.upstreams[id.0]
    }

    /// Returns all upstreams; the place of each is its [`UpstreamId`].
    pub fn upstreams(&self) -> &[Upstream] {
        &self.upstreams
    }

    /// Returns whether a peer may ask why its request would be answered as it would be.
    pub(crate) fn explains_to(&self, peer: IpAddr) -> bool {
        self.explain_from.iter().any(|network| network.contains(peer))
    }

    /// Returns the variables that the configuration defines.
    pub fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    /// Returns the character sets that are named, and the maps between them.
    pub fn charsets(&self) -> &Charsets {
        &self.charsets
    }

    /// Returns what the process's logs of errors have in memory.
    pub(crate) fn log_memory(&self) -> &[Arc<Memory>] {
        &self.log_memory
    }

    /// Returns what limits count by; the place of each is its [`ZoneId`](crate::model::ZoneId).
    pub fn zones(&self) -> &[Zone] {
        &self.zones
    }

    /// Returns where answers are kept; the place of each is its [`CacheId`](crate::model::CacheId).
    pub fn caches(&self) -> &[CacheZone] {
        &self.caches
    }

    /// Returns what is spoken at an entry.
    ///
    /// # Panics
    /// If the entry belongs to another configuration.
    pub fn endpoint(&self, entry: Entry) -> Endpoint {
        self.endpoints[entry.0]
    }

    /// Returns what is configured of TLS at the locations that forward by `https://`.
    pub(crate) fn secured_passes(&self) -> impl Iterator<Item = &TlsClient> {
        let locations = self.servers.iter().flat_map(|server| &server.locations);
        locations
            .filter(|location| match &location.handler {
                Handler::Proxy(pass) => pass.tls,
                Handler::ProxyTo(_) => true,
                Handler::Files | Handler::Status(_) | Handler::EmptyGif => false,
            })
            .map(|location| &proxy_settings(&location.handler, &location.settings).tls)
    }

    /// Returns the places of the servers that are the default of an address where TLS is spoken.
    pub(crate) fn tls_defaults(&self) -> impl Iterator<Item = usize> {
        let entries = self.entries.iter().zip(&self.endpoints);
        entries.filter(|(_, endpoint)| endpoint.ssl).map(|(names, _)| names.default())
    }

    /// Returns what the configuration's variables show.
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// Returns all virtual servers in the order of the configuration.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Returns the settings of every server and every location, for what must be known of them all.
    pub fn all_settings(&self) -> impl Iterator<Item = &Settings> {
        self.servers.iter().flat_map(|server| {
            let locations = server.locations.iter().map(|location| &location.settings);
            std::iter::once(&server.settings).chain(locations)
        })
    }

    /// Returns the logs of requests that are known beforehand to be written to, and how.
    pub fn log_targets(&self) -> impl Iterator<Item = (&LogTarget, Option<Gathering>)> {
        let logs = self.all_settings().flat_map(|settings| &settings.access_log);
        logs.filter_map(|log| Some((log.target.fixed()?, log.gathering)))
    }

    /// Returns the route at a place of this router, and its server.
    ///
    /// # Panics
    /// If the place belongs to another configuration.
    pub fn at(&self, place: Place) -> (&Server, Route<'_>) {
        let server = &self.servers[place.server];
        let route = match place.location {
            Some(location) => server.route_after(location, place.prefix_len),
            None => server.fallback(),
        };
        (server, route)
    }

    /// Returns where requests go that come by no connection and name no address: to the first one, or to
    /// the servers that have none.
    pub(crate) fn first_address(&self) -> Option<SocketAddr> {
        let first = self.sockets.first().map(|socket| socket.addr);
        first.or_else(|| self.addresses.contains_key(&WITHIN).then_some(WITHIN))
    }

    /// Returns the virtual servers of a connection to `local`; `None` if no server listens there.
    pub fn entry(&self, local: SocketAddr) -> Option<Entry> {
        let canonical = SocketAddr::new(local.ip().to_canonical(), local.port());
        let any = |ip: IpAddr| SocketAddr::new(ip, local.port());
        let any_v4 = any(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let any_v6 = any(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        // A socket of IPv6 may take connections of IPv4, so that both wildcards are asked.
        let order = match canonical {
            SocketAddr::V4(_) => [canonical, any_v4, any_v6],
            SocketAddr::V6(_) => [canonical, any_v6, any_v6],
        };
        order.iter().find_map(|addr| self.addresses.get(addr)).map(|&place| Entry(place))
    }

    /// Returns the server for requests that come before any name is known: the address's default.
    pub fn default_server(&self, entry: Entry) -> &Server {
        &self.servers[self.entries[entry.0].default]
    }

    /// Returns the server of that name, a lower case name without a port; empty if there is none.
    pub fn server(&self, entry: Entry, host: &str, captures: &mut Captures) -> &Server {
        &self.servers[self.entries[entry.0].find(host, captures)]
    }
}

/// Where servers are that listen nowhere, so that only requests of the program reach them: nobody's address
/// (RFC 6666), at which nothing can listen.
const WITHIN: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 1, 0, 0)), 0);
