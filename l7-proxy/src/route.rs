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

mod locations;
mod names;
mod needs;
mod script;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use http::Method;

use crate::charset::Charsets;
use crate::model::{
    CacheZone, Gathering, Handler, Http, LogTarget, Matcher, Memory, PassModule, PassTo, ProxyPass,
    ProxySettings, Return, ServerName, Settings, SocketOptions, TlsClient, TryFiles, Upstream, UpstreamId,
    VirtualServer, Zone,
};
use crate::stream::access::Network;
use crate::variable::{Captures, Definitions};

use self::locations::{Level, Step};
pub(crate) use self::names::NameTable;
pub use self::needs::Needs;
pub use self::script::{Branch, Order};

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

/// A virtual server with its locations.
#[derive(Debug)]
pub struct Server {
    /// Its place among the router's servers.
    number: usize,
    /// Whether it speaks HTTP/2 where the client asks for it.
    http2: bool,
    name: String,
    /// All its names.
    names: Vec<ServerName>,
    /// Where it is written.
    place: Option<crate::conf::Place>,
    script: Box<[Order]>,
    reply: Option<Return>,
    settings: Settings,
    /// Paths that are tried where no location matches.
    try_files: Option<TryFiles>,
    level: Level,
    named: HashMap<String, usize>,
    locations: Vec<Location>,
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
            entries.push(EntryDraft { servers: within, ..EntryDraft::new(WITHIN) });
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

impl Server {
    /// Its place among the router's servers.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    fn new(number: usize, server: VirtualServer, upstreams: &[Upstream]) -> Result<Self, RouteError> {
        let http2 = server.settings.http2.on || server.listen.iter().any(|listen| listen.http2);
        let name = match server.names.first() {
            // The dot in front only says that other names belong to it.
            Some(ServerName::NameAndSubdomains(name)) => name.clone(),
            name => name.map(ToString::to_string).unwrap_or_default(),
        };
        let mut locations = Vec::new();
        let mut named = HashMap::new();
        let (outside, inside): (Vec<_>, Vec<_>) =
            server.locations.into_iter().partition(|location| matches!(location.matcher, Matcher::Named(_)));
        for mut location in outside {
            let Matcher::Named(name) = &location.matcher else { continue };
            let name = name.clone();
            let nested = std::mem::take(&mut location.locations);
            let level = Level::compile(nested, upstreams, &mut locations)?;
            let place = Location::push(location, level, upstreams, &mut locations)?;
            if named.insert(name.clone(), place).is_some() {
                return Err(RouteError::DuplicateLocation(format!("@{name}")));
            }
        }
        let level = Level::compile(inside, upstreams, &mut locations)?;
        let script = script::compile(server.script, upstreams, &mut locations)?;
        let (settings, names, place) = (server.settings, server.names, server.place);
        Ok(Self {
            number,
            http2,
            name,
            names,
            place,
            script,
            reply: server.reply,
            settings,
            try_files: server.try_files,
            level,
            named,
            locations,
        })
    }

    /// Whether it speaks HTTP/2 where the client asks for it.
    pub(crate) fn speaks_http2(&self) -> bool {
        self.http2
    }

    /// Returns the first of its names, empty if it has none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its names, and where it is written.
    pub(crate) fn label(&self) -> (&[ServerName], Option<&crate::conf::Place>) {
        (&self.names, self.place.as_ref())
    }

    /// What the location of a route is called; `None` for what holds where no location matches.
    pub(crate) fn location_label(&self, route: &Route<'_>) -> Option<&Label> {
        route.place.location.map(|place| &self.locations[place].label)
    }

    /// Returns what is done with a request before a location is looked for.
    pub fn script(&self) -> &[Order] {
        &self.script
    }

    /// Returns the `return` at server level, which answers before a location is looked for.
    pub fn reply(&self) -> Option<&Return> {
        self.reply.as_ref()
    }

    /// Returns what holds where no location matches.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns where requests go that no location matches: files under the server's root.
    pub fn fallback(&self) -> Route<'_> {
        Route {
            script: &[],
            reply: None,
            try_files: self.try_files.as_ref(),
            handler: &Handler::Files,
            settings: &self.settings,
            prefix_len: 0,
            internal: false,
            place: Place { server: self.number, location: None, prefix_len: 0 },
        }
    }

    /// Returns where a decoded and normalised path belongs.
    pub fn locate(&self, path: &[u8], captures: &mut Captures) -> Located<'_> {
        match self.search(&self.level, path, captures) {
            Step::Decided(place) | Step::Undecided(Some(place)) => Located::Found(self.route(place, path)),
            Step::AddSlash(place) => Located::AddSlash(self.route(place, path)),
            Step::Undecided(None) => Located::Found(self.fallback()),
        }
    }

    /// Returns the location called `@name`, given without the `@`.
    pub fn named(&self, name: &str) -> Option<Route<'_>> {
        self.named.get(name).map(|&place| self.route(place, b""))
    }

    /// Returns what holds for a method at a location: the location itself, unless it is for other
    /// methods (`limit_except`).
    pub fn for_method<'r>(&'r self, route: Route<'r>, method: &Method) -> Route<'r> {
        let location = route.place.location.map(|place| &self.locations[place]);
        match location.and_then(|location| location.limit_except.as_ref()) {
            Some((methods, place)) if !allows(methods, method) => self.route_after(*place, route.prefix_len),
            _ => route,
        }
    }

    /// Returns what holds in an `if` of a location.
    pub fn inside<'r>(&'r self, branch: &'r Branch, outside: Route<'r>) -> Route<'r> {
        match branch.place {
            Some(place) => self.route_after(place, outside.prefix_len),
            None => outside,
        }
    }

    fn search(&self, level: &Level, path: &[u8], captures: &mut Captures) -> Step {
        let mut found = None;
        let (by_text, regexes) = level.by_text(path);
        match by_text {
            Step::Undecided(None) => {}
            Step::Undecided(Some(place)) => {
                found = Some(place);
                match self.search(&self.locations[place].level, path, captures) {
                    Step::Undecided(nested) => found = nested.or(found),
                    decided => return decided,
                }
            }
            decided => return decided,
        }
        for (pattern, place) in regexes {
            if captures.matches(pattern, path) {
                let nested = self.search(&self.locations[*place].level, path, captures);
                return match nested {
                    Step::Undecided(nested) => Step::Decided(nested.unwrap_or(*place)),
                    decided => decided,
                };
            }
        }
        Step::Undecided(found)
    }

    fn route(&self, place: usize, path: &[u8]) -> Route<'_> {
        self.route_after(place, self.locations[place].prefix_len.unwrap_or(path.len()))
    }

    fn route_after(&self, place: usize, prefix_len: usize) -> Route<'_> {
        let location = &self.locations[place];
        Route {
            script: &location.script,
            reply: location.reply.as_ref(),
            try_files: location.try_files.as_ref(),
            handler: &location.handler,
            settings: &location.settings,
            prefix_len,
            internal: location.internal,
            place: Place { server: self.number, location: Some(place), prefix_len },
        }
    }
}

fn allows(methods: &[Method], method: &Method) -> bool {
    methods.contains(method) || (*method == Method::HEAD && methods.contains(&Method::GET))
}

/// One address while its servers are gathered.
struct EntryDraft {
    addr: SocketAddr,
    servers: Vec<usize>,
    default: Option<usize>,
    options: Option<SocketOptions>,
}

impl EntryDraft {
    /// Returns what is spoken here: TLS and HTTP/2 if any of the servers says so of the address.
    fn endpoint(&self, servers: &[VirtualServer]) -> Endpoint {
        let of = |place: &usize| servers[*place].listen.iter().filter(|listen| listen.addr == self.addr);
        let mut listens = self.servers.iter().flat_map(of);
        let default = self.default.or(self.servers.first().copied());
        Endpoint {
            ssl: listens.clone().any(|listen| listen.ssl),
            proxy_protocol: listens.clone().any(|listen| listen.proxy_protocol),
            http2: listens.any(|listen| listen.http2)
                || default.is_some_and(|place| servers[place].settings.http2.on),
        }
    }

    fn new(addr: SocketAddr) -> Self {
        Self { addr, servers: Vec::new(), default: None, options: None }
    }

    fn add(&mut self, server: usize, listen: &crate::model::Listen) -> Result<(), RouteError> {
        if !self.servers.contains(&server) {
            self.servers.push(server);
        }
        if listen.default_server && self.default.replace(server).is_some() {
            return Err(RouteError::DuplicateDefault(self.addr));
        }
        if let Some(options) = &listen.socket
            && self.options.replace(options.clone()).is_some()
        {
            return Err(RouteError::DuplicateOptions(self.addr));
        }
        Ok(())
    }

    fn compile(self, servers: &[VirtualServer]) -> NameTable {
        // The first server of an address is its default unless another says that it is.
        let default = self.default.or(self.servers.first().copied()).unwrap_or(0);
        NameTable::new(default, self.servers.iter().map(|&number| (number, &*servers[number].names)))
    }
}

/// Where servers are that listen nowhere, so that only requests of the program reach them: nobody's address
/// (RFC 6666), at which nothing can listen.
const WITHIN: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 1, 0, 0)), 0);

/// Returns the sockets that the addresses need.
fn sockets(entries: &[EntryDraft]) -> Vec<Socket> {
    let covered = |entry: &EntryDraft| {
        !entry.addr.ip().is_unspecified()
            && entry.options.is_none()
            && entries.iter().any(|other| {
                other.addr.ip().is_unspecified()
                    && other.addr.port() == entry.addr.port()
                    && other.addr.is_ipv4() == entry.addr.is_ipv4()
            })
    };
    entries
        .iter()
        .filter(|entry| !covered(entry))
        .map(|entry| Socket { addr: entry.addr, options: entry.options.clone().unwrap_or_default() })
        .collect()
}
