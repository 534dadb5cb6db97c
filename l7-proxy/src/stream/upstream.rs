//! A server for a connection: chosen, connected to, and shaken hands with.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use l4_proxy::proxy_protocol::Header;
use lvs_core::{Cause, Event, Flow, Lease, Refusal, ServiceKey};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsStream;
use tracing::error;

use super::facts::{Attempt, Facts};
use super::side::Side;
use super::text::Text;
use super::{Common, Server};
use crate::error_log::Errno;
use crate::model::{StreamSettings, StreamTarget, StreamUpstream};
use crate::site::stream_key;
use crate::tls::ClientTarget;
use crate::unix;

/// An upstream, as connections are given to it.
pub(super) struct Group {
    name: String,
    service: ServiceKey,
    key: Option<Text>,
    size: usize,
}

/// A server that was connected to.
pub(super) struct Reached {
    pub(super) side: Side,
    /// Counts the connection at the server; none where an address was computed.
    pub(super) lease: Option<Lease>,
    /// When its attempt began.
    pub(super) began: Instant,
}

impl Group {
    pub(super) fn new(upstream: &StreamUpstream) -> Self {
        Self {
            name: upstream.group.name.clone(),
            service: stream_key(&upstream.group),
            key: upstream.key.clone(),
            size: upstream.group.servers.len(),
        }
    }
}

/// Where a connection is to go.
enum Whereto<'a> {
    Group(&'a Group),
    Address(SocketAddr),
}

/// Connects to a server; the attempts are noted in `facts`.
///
/// # Errors
/// The status that the connection then comes to: 500 or 502.
pub(super) async fn reach(
    common: &Common,
    server: &Server,
    target: &StreamTarget,
    facts: &mut Facts,
) -> Result<Reached, u16> {
    let (whereto, name) = match target {
        StreamTarget::Upstream(id) => {
            let group = &common.groups[id.0];
            (Whereto::Group(group), group.name.clone())
        }
        StreamTarget::Computed(text) => {
            let text = String::from_utf8_lossy(&text.bytes(facts)).into_owned();
            (common.find(&text).ok_or(500_u16)?, text)
        }
    };
    let settings = &server.model.settings;
    let tries = match (&whereto, settings.next_upstream, settings.next_upstream_tries) {
        (Whereto::Address(_), ..) | (_, false, _) => 1,
        (Whereto::Group(group), true, None) => group.size,
        (Whereto::Group(_), true, Some(tries)) => tries as usize,
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
        let (addr, lease) = match &whereto {
            Whereto::Address(addr) => (*addr, None),
            Whereto::Group(group) => {
                let now = l4_proxy::clock::now();
                match common.director.schedule_except(&group.service, &flow, &tried, now) {
                    Ok(lease) => (lease.server(), Some(lease)),
                    Err(refusal) => {
                        if refusal != Refusal::AllTried && tried.is_empty() {
                            error!(
                                "*{} no live upstreams while connecting to upstream, client: {}, upstream: \"{}\"",
                                facts.serial,
                                facts.remote.ip(),
                                group.name
                            );
                            facts.attempts.push(Attempt::new(group.name.clone()));
                        }
                        return Err(502);
                    }
                }
            }
        };
        let attempt_began = Instant::now();
        facts.attempts.push(Attempt::new(unix::shown(addr).to_string()));
        let connected = timeout(settings.connect_timeout, connect(server, facts, addr, &name)).await;
        let failure = match connected {
            Ok(Ok(side)) => {
                if let Some(attempt) = facts.attempts.last_mut() {
                    attempt.connect = Some(attempt_began.elapsed());
                }
                if let Some(lease) = &lease {
                    let latency = attempt_began.elapsed();
                    common.director.report(lease, Event::Responded { latency }, l4_proxy::clock::now());
                }
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
        if let Some(lease) = &lease {
            let event = Event::ConnectFailed(Cause::from(failure.to_string()));
            common.director.report(lease, event, l4_proxy::clock::now());
        }
        tried.push(addr);
        let late = settings.next_upstream_timeout.is_some_and(|limit| began.elapsed() >= limit);
        if tried.len() >= tries || late {
            return Err(502);
        }
    }
}

impl Common {
    /// Returns what a computed `proxy_pass` names: an upstream, or an address with a port.
    fn find(&self, text: &str) -> Option<Whereto<'_>> {
        if let Some(group) = self.groups.iter().find(|group| group.name.eq_ignore_ascii_case(text)) {
            return Some(Whereto::Group(group));
        }
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Some(Whereto::Address(unix::address(path)));
        }
        match text.parse() {
            Ok(addr) => Some(Whereto::Address(addr)),
            Err(_) => {
                error!("no resolver defined to resolve {text}");
                None
            }
        }
    }
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
    let stream = client.connect(socket, target).await?;
    Ok(Side::Tls(Box::new(TlsStream::Client(stream))))
}

async fn open(settings: &StreamSettings, facts: &Facts, addr: SocketAddr) -> io::Result<TcpStream> {
    if let Some(path) = unix::path(addr) {
        return unix::connect(path).await;
    }
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_nodelay(settings.tcp_nodelay)?;
    if let Some(bind) = &settings.bind {
        let bind = bind.bytes(facts);
        let bind = String::from_utf8_lossy(&bind);
        let local = bind
            .parse::<SocketAddr>()
            .ok()
            .or_else(|| Some(SocketAddr::new(bind.parse::<IpAddr>().ok()?, 0)));
        if let Some(local) = local {
            socket.bind(local)?;
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
