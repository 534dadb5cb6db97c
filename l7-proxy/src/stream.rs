//! `stream {}`, whose servers answer or relay whole connections, and datagrams.
//!
//! A connection passes through nginx's phases: the PROXY protocol header, who may connect, TLS, a
//! look at the client's first message, `set`, and then an answer or a server. A plain connection is
//! carried by the relay of `l4-proxy`; one with TLS or a rate by a copy of our own.

pub mod access;
mod choice;
mod copy;
mod datagram;
pub mod defined;
mod facts;
mod limit;
mod pass;
mod preread;
mod session;
mod side;
pub mod text;
mod upstream;
mod visit;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use l4_proxy::connections::Connections;
use lvs_core::Director;

use self::choice::Group;
use self::defined::Definition;
use crate::access_log::LogFiles;
use crate::model::{SocketOptions, Stream, StreamContent, StreamServer, TlsServer, Transport};
use crate::route::NameTable;
use crate::site::SiteError;
use crate::tls::{Client, Terminator};

pub(crate) use self::copy::{Count, Terms, copy};
pub(crate) use self::datagram::Inlet;
pub use self::facts::{Attempt, Facts};
pub(crate) use self::limit::Zones;
pub use self::preread::{ClientHello, Preread, read as read_client_hello};
pub(crate) use self::session::serve;
pub(crate) use self::side::Side;

/// One address of the TCP side and what serves it.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) transport: Transport,
    pub(crate) addr: SocketAddr,
    pub(crate) options: SocketOptions,
    pub(crate) door: Arc<Door>,
}

/// What serves the connections of one address.
pub(crate) struct Door {
    common: Arc<Common>,
    entrance: Arc<Entrance>,
}

/// What is said of one address.
struct Entrance {
    transport: Transport,
    ssl: bool,
    proxy_protocol: bool,
    names: NameTable,
    servers: Arc<[Arc<Server>]>,
}

/// What all addresses share.
struct Common {
    director: Arc<Director>,
    connections: Arc<Connections>,
    serial: Arc<AtomicU64>,
    groups: Box<[Group]>,
    definitions: Arc<[Definition]>,
    zones: Zones,
    /// Where connections are taken, to be handed those that came to another address. Of this configuration
    /// for as long as one that began by it goes on.
    entrances: HashMap<SocketAddr, Arc<Entrance>>,
}

/// One `server {}` made ready to serve.
struct Server {
    model: StreamServer,
    terminator: Arc<Terminator>,
    /// Speaks TLS with servers, where that is wanted.
    client: Option<Client>,
}

/// Returns what the servers of the TCP side listen at.
///
/// # Errors
/// Certificates cannot be read, or an address that is to speak TLS has none.
pub(crate) fn relays(
    stream: &Stream,
    director: &Arc<Director>,
    connections: &Arc<Connections>,
    serial: &Arc<AtomicU64>,
    zones: &Zones,
) -> Result<Vec<Relay>, SiteError> {
    let servers = stream.servers.iter().map(Server::new).collect::<Result<Arc<[_]>, _>>()?;
    let mut order: Vec<(Transport, SocketAddr)> = Vec::new();
    let mut by_address: HashMap<(Transport, SocketAddr), Vec<usize>> = HashMap::new();
    for (place, server) in stream.servers.iter().enumerate() {
        for listen in &server.listen {
            let known = by_address.entry((listen.transport, listen.addr)).or_default();
            if known.is_empty() {
                order.push((listen.transport, listen.addr));
            }
            known.push(place);
        }
    }
    let mut found = Vec::with_capacity(order.len());
    for (transport, addr) in order {
        let places = &by_address[&(transport, addr)];
        let listens = || {
            places.iter().flat_map(|&place| {
                let listens = stream.servers[place].listen.iter();
                let here = listens.filter(|listen| listen.addr == addr && listen.transport == transport);
                here.map(move |listen| (place, listen))
            })
        };
        let default =
            listens().find(|(_, listen)| listen.default_server).map_or(places[0], |(place, _)| place);
        let ssl = listens().any(|(_, listen)| listen.ssl);
        if ssl && !servers[default].terminator.is_complete() {
            return Err(SiteError::Tls(crate::tls::TlsError::NoCertificate(None)));
        }
        let names = places.iter().map(|&place| (place, &*stream.servers[place].names));
        let entrance = Entrance {
            transport,
            ssl,
            proxy_protocol: listens().any(|(_, listen)| listen.proxy_protocol),
            names: NameTable::new(default, names),
            servers: Arc::clone(&servers),
        };
        let options = listens().find_map(|(_, listen)| listen.socket.clone()).unwrap_or_default();
        found.push((addr, options, Arc::new(entrance)));
    }
    let tcp = found.iter().filter(|(.., entrance)| entrance.transport == Transport::Tcp);
    let common = Arc::new(Common {
        director: Arc::clone(director),
        connections: Arc::clone(connections),
        serial: Arc::clone(serial),
        groups: stream.upstreams.iter().map(Group::new).collect(),
        definitions: Arc::clone(&stream.definitions),
        zones: zones.clone(),
        entrances: tcp.map(|(addr, _, entrance)| (*addr, Arc::clone(entrance))).collect(),
    });
    let relays = found.into_iter().map(|(addr, options, entrance)| {
        let transport = entrance.transport;
        let door = Arc::new(Door { common: Arc::clone(&common), entrance });
        Relay { transport, addr, options, door }
    });
    Ok(relays.collect())
}

impl Common {
    /// What serves connections that come to this address.
    fn door(self: &Arc<Self>, addr: SocketAddr) -> Option<Arc<Door>> {
        let any: IpAddr =
            if addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let entrances = &self.entrances;
        let entrance = entrances.get(&addr).or_else(|| entrances.get(&SocketAddr::new(any, addr.port())))?;
        Some(Arc::new(Door { common: Arc::clone(self), entrance: Arc::clone(entrance) }))
    }
}

impl Door {
    /// Keeps the logs of its servers open as long as anybody is served by them.
    pub(crate) fn hold(&self, logs: &LogFiles) {
        for server in &*self.entrance.servers {
            let named = &server.model.settings.access_log;
            logs.used_by(server, named.iter().filter_map(|log| log.target.fixed()));
        }
    }
}

/// Checks what takes more than reading a configuration: that certificates can be used.
///
/// # Errors
/// Certificates cannot be read, or an address that is to speak TLS has none.
pub fn check(stream: &Stream) -> Result<(), SiteError> {
    relays(stream, &Arc::new(Director::new()), &Connections::new(0), &Arc::default(), &Zones::default())
        .map(drop)
}

impl Server {
    /// Whether it hands its connections over.
    fn passes(&self) -> bool {
        matches!(self.model.content, StreamContent::Pass(_))
    }

    fn new(model: &StreamServer) -> Result<Arc<Server>, SiteError> {
        let settings = &model.settings;
        let alpn: Vec<&[u8]> = settings.tls.alpn.iter().map(|name| name.as_bytes()).collect();
        // Where nobody speaks TLS nothing that is said of it has to be right, as in nginx.
        let speaks_tls = model.listen.iter().any(|listen| listen.ssl) || !model.names.is_empty();
        let unused = TlsServer::default();
        let tls = if speaks_tls { &settings.tls } else { &unused };
        let terminator = Arc::new(Terminator::new(tls, &alpn).map_err(SiteError::Tls)?);
        let client = match (&model.content, settings.proxy_ssl) {
            (StreamContent::Proxy(_), true) => {
                Some(Client::new(&settings.proxy_tls, &[]).map_err(SiteError::Tls)?)
            }
            _ => None,
        };
        Ok(Arc::new(Server { model: model.clone(), terminator, client }))
    }
}
