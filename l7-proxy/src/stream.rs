//! The TCP side of a configuration: each of its servers is a proxy of `l4-proxy`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use l4_proxy::connections::Connections;
use l4_proxy::relay::{Engine, Timeouts};
use l4_proxy::{Proxy, Settings};
use lvs_core::Director;

use crate::model::{SocketOptions, Stream};
use crate::site::stream_key;

/// One address of the TCP side and what serves it.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) addr: SocketAddr,
    pub(crate) options: SocketOptions,
    pub(crate) proxy: Proxy,
}

/// Returns what the servers of the TCP side listen at.
pub(crate) fn relays(
    stream: &Stream,
    director: &Arc<Director>,
    connections: &Arc<Connections>,
) -> Vec<Relay> {
    let mut relays = Vec::new();
    for server in &stream.servers {
        let upstream = stream.upstream(server.proxy_pass);
        let settings = Settings {
            engine: Engine::Auto,
            timeouts: Timeouts { idle: server.timeout, half_closed: server.timeout.min(HALF_CLOSED_MAX) },
            connect: server.connect_timeout,
            // Each once, as nginx's `proxy_next_upstream` does unless told otherwise.
            attempts: upstream.servers.len(),
        };
        let (director, connections) = (Arc::clone(director), Arc::clone(connections));
        let proxy = Proxy::with_connections(director, stream_key(upstream), settings, connections);
        for listen in &server.listen {
            let (addr, options) = (listen.addr, listen.socket.clone());
            relays.push(Relay { addr, options, proxy: proxy.clone() });
        }
    }
    relays
}

/// How long one side may go on after the other has ended.
const HALF_CLOSED_MAX: Duration = Duration::from_secs(5);
