//! A server for a connection: chosen, connected to, and shaken hands with.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use l4_proxy::proxy_protocol::Header;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsStream;
use tracing::error;

use super::choice::{Choice, Chosen};
use super::facts::Facts;
use super::side::Side;
use super::text::Text;
use super::{Common, Server};
use crate::leg::{Leg, Unconnected};
use crate::model::{StreamSettings, StreamTarget, StreamTimed, Transport};
use crate::server::Proxy;
use crate::tls::ClientTarget;
use crate::unix;

/// A server that was connected to.
pub(super) struct Reached {
    pub(super) side: Side,
    pub(super) choice: Choice,
    pub(super) chosen: Chosen,
    /// When its attempt began.
    pub(super) began: Instant,
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
    let mut choice = match target {
        StreamTarget::Upstream(id) => Choice::of(common, settings, *id, facts),
        StreamTarget::Computed(text) => Choice::computed(worker, common, settings, text, facts).await?,
    };
    loop {
        let chosen = choice.next(common, facts)?;
        let began = Instant::now();
        let connecting = connect(server, facts, chosen.addr, choice.name());
        let failure = match timeout(settings.connect_timeout, connecting).await {
            Ok(Ok(side)) => {
                let latency = began.elapsed();
                if let Some(attempt) = facts.attempts.last_mut() {
                    attempt.connect = Some(latency);
                }
                choice.report_done(common, &chosen, Transport::Tcp, StreamTimed::Connect, latency);
                return Ok(Reached { side, choice, chosen, began });
            }
            Ok(Err(error)) => error,
            Err(_) => Unconnected::TimedOut,
        };
        error!("*{} {failure} while connecting to upstream, {}", facts.serial, facts.traffic());
        if let Some(attempt) = facts.attempts.last_mut() {
            attempt.session = Some(began.elapsed());
        }
        if failure.is_own() {
            return Err(500);
        }
        if !choice.failed(common, settings, &chosen, failure.cause(), facts) {
            return Err(502);
        }
    }
}

async fn connect(
    server: &Server,
    facts: &mut Facts,
    addr: SocketAddr,
    name: &str,
) -> Result<Side, Unconnected> {
    let settings = &server.model.settings;
    let mut socket = open(settings, facts, addr).await?;
    if let Some(version) = settings.proxy_protocol {
        let header = Header::tcp(facts.remote, facts.local).encode(version);
        socket.write_all(&header).await?;
        if let Some(attempt) = facts.attempts.last_mut() {
            attempt.sent = header.len() as u64;
        }
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

async fn open(settings: &StreamSettings, facts: &Facts, addr: SocketAddr) -> Result<TcpStream, Unconnected> {
    if let Some(path) = unix::path(addr) {
        return Ok(unix::connect(path).await?);
    }
    let origin = own_address(settings, facts);
    let leg = Leg { origin, nodelay: settings.tcp_nodelay, socket: settings.socket };
    Ok(leg.socket(addr)?.connect(addr).await?)
}

/// Returns where connections to servers come from, if `proxy_bind` says it.
pub(super) fn own_address(settings: &StreamSettings, facts: &Facts) -> Option<SocketAddr> {
    let text = settings.bind.as_ref()?.bytes(facts);
    let text = String::from_utf8_lossy(&text);
    let own = crate::conf::own_address(&text);
    if own.is_none() && !text.is_empty() {
        error!("*{} invalid local address \"{text}\"", facts.serial);
    }
    own
}

/// Reads a rate: bytes per second, with nginx's units; nothing that can be read sets no limit.
pub(super) fn rate(text: &Text, facts: &Facts) -> u64 {
    let text = text.bytes(facts);
    std::str::from_utf8(&text).ok().and_then(crate::conf::parse_size).unwrap_or(0)
}

/// How long one side may go on after the other has ended, unless `proxy_half_close` is on.
pub(super) const HALF_CLOSED_MAX: Duration = Duration::from_secs(5);
