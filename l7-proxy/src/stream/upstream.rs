//! A server for a connection: chosen, connected to, and shaken hands with.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use l4_proxy::congestion;
use l4_proxy::proxy_protocol::Header;
use lvs_core::{Cause, Event, Flow, Lease, Refusal, ServiceKey};
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsStream;
use tracing::error;

use super::facts::{Attempt, Facts};
use super::side::Side;
use super::text::Text;
use super::{Common, Server};
use crate::conf::split_address;
use crate::error_log::Errno;
use crate::model::{StreamSettings, StreamTarget, StreamUpstream};
use crate::server::Proxy;
use crate::site::stream_key;
use crate::tls::ClientTarget;
use crate::unix;
use crate::upstream::Pool;

/// An upstream, as connections are given to it.
pub(super) struct Group {
    name: String,
    service: ServiceKey,
    key: Option<Text>,
}

/// A server that was connected to.
pub(super) struct Reached {
    pub(super) side: Side,
    /// Counts the connection at the server.
    pub(super) lease: Lease,
    /// When its attempt began.
    pub(super) began: Instant,
}

impl Group {
    pub(super) fn new(upstream: &StreamUpstream) -> Self {
        Self {
            name: upstream.group.name.clone(),
            service: stream_key(&upstream.group),
            key: upstream.key.clone(),
        }
    }
}

/// Where a connection is to go.
enum Whereto<'a> {
    Group(&'a Group),
    /// Servers that no configuration lists.
    Named(Rc<Pool>),
}

/// Connects to a server; the attempts are noted in `facts`.
///
/// # Errors
/// The status that the connection then comes to: 500 or 502.
pub(super) async fn reach(
    worker: &Proxy,
    common: &Common,
    server: &Server,
    target: &StreamTarget,
    facts: &mut Facts,
) -> Result<Reached, u16> {
    let settings = &server.model.settings;
    let (whereto, name) = match target {
        StreamTarget::Upstream(id) => {
            let group = &common.groups[id.0];
            (Whereto::Group(group), group.name.clone())
        }
        StreamTarget::Computed(text) => {
            let text = String::from_utf8_lossy(&text.bytes(facts)).into_owned();
            // In a place of its own: most connections need no room for it.
            let found = Box::pin(find(worker, common, settings, &text)).await;
            found.map_err(|why| {
                error!("*{} {why}, client: {}, server: {}", facts.serial, facts.remote.ip(), facts.local);
                500_u16
            })?
        }
    };
    let (director, service) = match &whereto {
        Whereto::Group(group) => (&*common.director, &group.service),
        Whereto::Named(pool) => (pool.director(&common.director), &pool.key),
    };
    let tries = match (settings.next_upstream, settings.next_upstream_tries) {
        (false, _) => 1,
        (true, None) => usize::MAX,
        (true, Some(tries)) => tries as usize,
    };
    let key = match &whereto {
        Whereto::Group(Group { key: Some(key), .. }) => Some(key.bytes(facts)),
        _ => None,
    };
    let flow = Flow::new(facts.remote).to(facts.local);
    let flow = key.as_deref().map_or(flow, |key| flow.key(key));
    let began = Instant::now();
    let mut tried = Vec::new();
    loop {
        let lease = match director.schedule_except(service, &flow, &tried, l4_proxy::clock::now()) {
            Ok(lease) => lease,
            Err(refusal) => {
                if refusal != Refusal::AllTried && tried.is_empty() {
                    error!(
                        "*{} no live upstreams while connecting to upstream, client: {}, upstream: \"{name}\"",
                        facts.serial,
                        facts.remote.ip(),
                    );
                    facts.attempts.push(Attempt::new(name));
                }
                return Err(502);
            }
        };
        let addr = lease.server();
        let attempt_began = Instant::now();
        facts.attempts.push(Attempt::new(unix::shown(addr).to_string()));
        let connected = timeout(settings.connect_timeout, connect(server, facts, addr, &name)).await;
        let failure = match connected {
            Ok(Ok(side)) => {
                let latency = attempt_began.elapsed();
                if let Some(attempt) = facts.attempts.last_mut() {
                    attempt.connect = Some(latency);
                }
                director.report(&lease, Event::Responded { latency }, l4_proxy::clock::now());
                return Ok(Reached { side, lease, began: attempt_began });
            }
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        error!(
            "*{} connect() to {} failed ({}) while connecting to upstream, client: {}",
            facts.serial,
            unix::shown(addr),
            Errno(&failure),
            facts.remote.ip()
        );
        if let Some(attempt) = facts.attempts.last_mut() {
            attempt.session = Some(attempt_began.elapsed());
        }
        let event = Event::ConnectFailed(Cause::from(failure.to_string()));
        director.report(&lease, event, l4_proxy::clock::now());
        tried.push(addr);
        let late = settings.next_upstream_timeout.is_some_and(|limit| began.elapsed() >= limit);
        if tried.len() >= tries || late {
            return Err(502);
        }
    }
}

/// Returns what a computed `proxy_pass` names, and how that is spelled: an upstream, the path of a Unix
/// socket, an address, or a name that `resolver` is asked for.
///
/// # Errors
/// Why it names nothing.
async fn find<'c>(
    worker: &Proxy,
    common: &'c Common,
    settings: &StreamSettings,
    text: &str,
) -> Result<(Whereto<'c>, String), String> {
    let of_upstream = |reason: &str| format!("{reason} in upstream \"{text}\"");
    if let Some(group) = common.groups.iter().find(|group| group.name.eq_ignore_ascii_case(text)) {
        return Ok((Whereto::Group(group), group.name.clone()));
    }
    let (host, port) = split_address(text).map_err(of_upstream)?;
    let reached = worker.reached();
    let pool = if let Some(path) = host.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        let addr = unix::address_for_request(path).ok_or_else(|| of_upstream("too many paths"))?;
        reached.at(host, addr).map_err(|_| of_upstream("no server"))
    } else {
        let port = port.ok_or_else(|| of_upstream("no port"))?;
        match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(ip) => reached.at(host, SocketAddr::new(ip, port)).map_err(|_| of_upstream("no server")),
            Err(_) => {
                let resolver = settings.resolving.resolver();
                let resolver = resolver.ok_or_else(|| format!("no resolver defined to resolve {host}"))?;
                let found = reached.under(host, port, resolver).await;
                found.map_err(|error| format!("{host} could not be resolved ({error})"))
            }
        }
    };
    Ok((Whereto::Named(pool?), text.to_owned()))
}

async fn connect(server: &Server, facts: &Facts, addr: SocketAddr, name: &str) -> io::Result<Side> {
    let settings = &server.model.settings;
    let mut socket = open(settings, facts, addr).await?;
    if let Some(version) = settings.proxy_protocol {
        let header = Header::tcp(facts.remote, facts.local).encode(version);
        socket.write_all(&header).await?;
    }
    let Some(client) = &server.client else { return Ok(Side::Plain(socket)) };
    let given = settings.proxy_tls_name.as_ref().map(|name| name.bytes(facts));
    let given = given.map(|name| String::from_utf8_lossy(&name).into_owned());
    let alpn: Vec<Vec<u8>> = settings.proxy_tls_alpn.iter().map(|text| text.bytes(facts)).collect();
    let alpn: Vec<Vec<u8>> = alpn.into_iter().filter(|protocol| !protocol.is_empty()).collect();
    let target = ClientTarget {
        name: given.as_deref().unwrap_or(name),
        address: addr.ip(),
        alpn: Some(alpn).filter(|alpn| !alpn.is_empty()),
    };
    let client = client.identified(&mut |text| text.stream(facts)).map_err(io::Error::other)?;
    let stream = client.connect(socket, target).await?;
    Ok(Side::Tls(Box::new(TlsStream::Client(stream))))
}

async fn open(settings: &StreamSettings, facts: &Facts, addr: SocketAddr) -> io::Result<TcpStream> {
    if let Some(path) = unix::path(addr) {
        return unix::connect(path).await;
    }
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_nodelay(settings.tcp_nodelay)?;
    congestion::unpace_if_local(SockRef::from(&socket), addr.ip());
    if let Some(bind) = &settings.bind {
        let bind = bind.bytes(facts);
        let bind = String::from_utf8_lossy(&bind);
        let local = bind
            .parse::<SocketAddr>()
            .ok()
            .or_else(|| Some(SocketAddr::new(bind.parse::<IpAddr>().ok()?, 0)));
        match local {
            Some(local) => socket.bind(local)?,
            None if bind.is_empty() => {}
            None => error!("*{} invalid local address \"{bind}\"", facts.serial),
        }
    }
    socket.connect(addr).await
}

/// Reads a rate: bytes per second, with nginx's units; nothing that can be read sets no limit.
pub(super) fn rate(text: &Text, facts: &Facts) -> u64 {
    let text = text.bytes(facts);
    std::str::from_utf8(&text).ok().and_then(crate::conf::parse_size).unwrap_or(0)
}

/// How long one side may go on after the other has ended, unless `proxy_half_close` is on.
pub(super) const HALF_CLOSED_MAX: Duration = Duration::from_secs(5);
