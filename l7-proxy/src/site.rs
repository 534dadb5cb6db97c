//! A configuration made ready to serve: shared by all workers, replaced as a whole.
//!
//! Upstreams become services of a [`Director`](lvs_core::Director) under their names, so that
//! every worker sees one count of requests, one turn and one verdict on health.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lvs_core::{ConfigError, Passive, ServerConfig, ServiceConfig, ServiceKey, Thresholds, Weight};

use crate::access_log::LogFiles;
use crate::check::{self, Checked};
use crate::model::{self, Http, Role, Settings, Stream, StreamUpstream, TlsClient, TlsServer, Upstream};
use crate::route::{RouteError, Router, Server};
use crate::tls::{Client, Terminator, TlsError};

/// A compiled configuration of the HTTP side.
#[derive(Debug)]
pub struct Site {
    pub(crate) router: Router,
    /// The services of the upstreams, by the upstream's number.
    pub(crate) keys: Box<[ServiceKey]>,
    /// The shortest time that a client may make us wait; how often a connection looks at the clock.
    pub(crate) client_patience: Duration,
    /// The same for servers.
    pub(crate) server_patience: Duration,
    /// How TLS is spoken with clients, by the number of the virtual server.
    pub(crate) terminators: Box<[Arc<Terminator>]>,
    /// How TLS is spoken with servers, by what is configured of it.
    clients: HashMap<TlsClient, Client>,
    /// How servers are checked.
    pub(crate) checks: Vec<Arc<Checked>>,
}

/// Why a configuration cannot be served.
#[derive(Debug)]
#[non_exhaustive]
pub enum SiteError {
    /// Its parts contradict each other.
    Route(RouteError),
    /// A service of it contradicts itself.
    Service(ConfigError),
    /// TLS cannot be set up.
    Tls(TlsError),
}

impl Site {
    /// Compiles a configuration.
    ///
    /// # Errors
    /// For contradictions between its parts.
    pub fn new(http: Http) -> Result<Site, SiteError> {
        let keys = http.upstreams.iter().map(|upstream| ServiceKey::name(&upstream.name)).collect();
        let checks = check::prepare(&http).map_err(SiteError::Tls)?;
        let router = Router::new(http).map_err(SiteError::Route)?;
        let least = |times: fn(&Settings) -> [Duration; 4]| {
            let times = router.all_settings().flat_map(times);
            times.min().unwrap_or(Duration::MAX).clamp(PATIENCE_MIN, PATIENCE_MAX)
        };
        let client_patience = least(|settings| {
            let client = &settings.client;
            let keepalive = settings.connection.keepalive_timeout.unwrap_or(Duration::MAX);
            [client.body_timeout, client.header_timeout, client.send_timeout, keepalive]
        });
        let server_patience = least(|settings| {
            let (proxy, grpc) = (&settings.proxy, &settings.grpc.0);
            [proxy.read_timeout, proxy.send_timeout, grpc.read_timeout, grpc.send_timeout]
        });
        let terminators = router.servers().iter().map(terminator).collect::<Result<Box<[_]>, _>>()?;
        if let Some(server) = router.tls_defaults().find(|&server| !terminators[server].is_complete()) {
            let (_, place) = router.servers()[server].label();
            return Err(SiteError::Tls(TlsError::NoCertificate(place.cloned())));
        }
        let mut clients = HashMap::new();
        for tls in router.secured_passes() {
            if !clients.contains_key(tls) {
                clients.insert(tls.clone(), Client::new(tls, &[]).map_err(SiteError::Tls)?);
            }
        }
        Ok(Site { router, keys, client_patience, server_patience, terminators, clients, checks })
    }

    /// Returns how TLS is spoken with the servers of a location that forwards by `https://`.
    pub(crate) fn client(&self, tls: &TlsClient) -> Option<&Client> {
        self.clients.get(tls)
    }

    /// Whether a request may go to a server in this way of speaking TLS.
    pub(crate) fn has_client(&self, client: &Client) -> bool {
        self.clients.values().any(|other| other == client)
    }

    /// Keeps its logs open as long as anything is served by it.
    pub(crate) fn hold(self: &Arc<Site>, logs: &LogFiles) {
        logs.used_by(self, self.router.log_targets().map(|(target, _)| target));
    }

    /// Returns the compiled routes.
    pub fn router(&self) -> &Router {
        &self.router
    }
}

/// Returns how a virtual server speaks TLS.
fn terminator(server: &Server) -> Result<Arc<Terminator>, SiteError> {
    let settings = server.settings();
    let handshake_timeout = settings.client.header_timeout;
    let tls = TlsServer { handshake_timeout, ..TlsServer::clone(&settings.tls) };
    let alpn: &[&[u8]] = match server.speaks_http2() {
        true => &[b"h2", b"http/1.1", b"http/1.0"],
        false => &[b"http/1.1", b"http/1.0"],
    };
    Terminator::new(&tls, alpn).map(Arc::new).map_err(SiteError::Tls)
}

/// Returns the services that the upstreams of the HTTP side stand for.
///
/// # Errors
/// A server's parameters contradict each other.
pub fn services(http: &Http) -> Result<Vec<ServiceConfig>, SiteError> {
    let services = http.upstreams.iter().map(|upstream| service(ServiceKey::name(&upstream.name), upstream));
    let mut services = services.collect::<Result<Vec<_>, _>>()?;
    for (upstream, health) in check::checks(http) {
        if let Some(service) = services.get_mut(upstream) {
            (service.health.fall, service.health.rise) = (health.cadence.fails, health.cadence.passes);
        }
    }
    Ok(services)
}

/// Returns the services that the upstreams of the TCP side stand for.
///
/// Their names begin with `stream/`, for both sides may have an upstream of one name.
///
/// # Errors
/// As [`services`].
pub fn stream_services(stream: &Stream) -> Result<Vec<ServiceConfig>, SiteError> {
    let services = stream.upstreams.iter().map(|upstream| service(stream_key(upstream), upstream));
    let mut services = services.collect::<Result<Vec<_>, _>>()?;
    for (upstream, _, check) in check::stream_checks(stream) {
        if let Some(service) = services.get_mut(upstream) {
            (service.health.fall, service.health.rise) = (check.cadence.fails, check.cadence.passes);
        }
    }
    Ok(services)
}

pub(crate) fn stream_key(upstream: &StreamUpstream) -> ServiceKey {
    ServiceKey::name(&format!("stream/{}", upstream.name))
}

pub(crate) fn service<K, T>(key: ServiceKey, upstream: &Upstream<K, T>) -> Result<ServiceConfig, SiteError> {
    let mut servers: Vec<ServerConfig> = Vec::with_capacity(upstream.servers.len());
    let mut places: HashMap<SocketAddr, usize> = HashMap::new();
    for server in &upstream.servers {
        let weight = if server.down || server.drain { 0 } else { u32::from(server.weight.get()) };
        if let Some(&place) = places.get(&server.addr) {
            // nginx lets a server be listed again; to the balancer it is one with more weight.
            let sum = servers[place].weight.value().saturating_add(weight);
            servers[place].weight = Weight::new(sum).unwrap_or(Weight::MAX);
            let upper = match (servers[place].thresholds.upper(), server.max_conns) {
                (0, _) | (_, None) => 0,
                (before, Some(most)) => before.saturating_add(most.get()),
            };
            servers[place].thresholds = Thresholds::new(upper, upper).map_err(SiteError::Service)?;
            continue;
        }
        places.insert(server.addr, servers.len());
        servers.push(server_config(server)?);
    }
    let mut config = ServiceConfig::new(key, upstream.balance.algorithm);
    config.servers = servers;
    Ok(config)
}

/// Returns what the director is told of a server.
///
/// # Errors
/// Its parameters contradict each other.
pub(crate) fn server_config(server: &model::Server) -> Result<ServerConfig, SiteError> {
    let weight = if server.down || server.drain { 0 } else { u32::from(server.weight.get()) };
    let mut config = ServerConfig::new(server.addr);
    config.weight = Weight::new(weight).map_err(SiteError::Service)?;
    config.slow_start = server.slow_start;
    config.backup = server.role == Role::Backup;
    config.passive =
        Some(Passive { fails: server.max_fails, window: server.fail_timeout, eject: server.fail_timeout });
    if let Some(most) = server.max_conns {
        // Open again as soon as one request ends, as in nginx.
        config.thresholds = Thresholds::new(most.get(), most.get()).map_err(SiteError::Service)?;
    }
    Ok(config)
}

impl fmt::Display for SiteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SiteError::Route(error) => error.fmt(f),
            SiteError::Service(error) => error.fmt(f),
            SiteError::Tls(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SiteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SiteError::Route(error) => Some(error),
            SiteError::Service(error) => Some(error),
            SiteError::Tls(error) => Some(error),
        }
    }
}

/// Below this a timer costs more than it is worth.
const PATIENCE_MIN: Duration = Duration::from_millis(10);

/// A day: far enough for a timer that is never to fire, near enough to be added to any moment.
const PATIENCE_MAX: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU16, NonZeroU32};

    use super::*;
    use crate::model::Server;

    fn upstream(servers: Vec<Server>) -> Upstream {
        Upstream::new("app", servers)
    }

    fn server(port: u16) -> Server {
        Server::new(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    #[test]
    fn parameters_of_a_server_reach_the_director() {
        let upstream = upstream(vec![
            Server { weight: NonZeroU16::new(5).unwrap(), max_fails: 2, ..server(1) },
            Server { down: true, max_conns: NonZeroU32::new(7), ..server(2) },
            Server { role: Role::Backup, fail_timeout: Duration::from_secs(3), ..server(3) },
        ]);
        let service = service(ServiceKey::name("app"), &upstream).unwrap();
        let [first, second, third] = &*service.servers else { panic!("three servers") };
        assert_eq!(first.weight.value(), 5);
        assert_eq!(first.passive.unwrap().fails, 2);
        assert_eq!(second.weight, Weight::ZERO);
        assert_eq!((second.thresholds.upper(), second.thresholds.lower()), (7, 7));
        assert!(third.backup && !first.backup);
        assert_eq!(third.passive.unwrap().eject, Duration::from_secs(3));
    }

    #[test]
    fn draining_server_has_no_weight_and_a_slow_start_is_the_servers_own() {
        let slow = Server { slow_start: Duration::from_secs(30), ..server(2) };
        let upstream = upstream(vec![Server { drain: true, ..server(1) }, slow]);
        let service = service(ServiceKey::name("app"), &upstream).unwrap();
        assert_eq!(service.servers[0].weight, Weight::ZERO);
        assert_eq!(service.servers[1].slow_start, Duration::from_secs(30));
    }

    #[test]
    fn server_listed_twice_counts_twice() {
        let service = service(ServiceKey::name("app"), &upstream(vec![server(1), server(2), server(1)]));
        let weights: Vec<u32> = service.unwrap().servers.iter().map(|server| server.weight.value()).collect();
        assert_eq!(weights, [2, 1]);
    }
}
