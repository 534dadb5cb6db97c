//! How a connection to a server is made, below all protocols: from where, and with which options of its
//! socket (`proxy_bind`, `proxy_socket_*` and their like).

use std::io;
use std::net::SocketAddr;

use l4_proxy::congestion;
use socket2::SockRef;
use tokio::net::TcpSocket;

use crate::model::ServerSocket;

/// A connection that is to be made.
#[derive(Clone, Copy)]
pub(crate) struct Leg {
    /// Where it comes from; `None` is the system's choice.
    pub(crate) origin: Option<SocketAddr>,
    /// Whether Nagle's algorithm is off.
    pub(crate) nodelay: bool,
    pub(crate) socket: ServerSocket,
}

impl Leg {
    /// Returns a socket that can be connected to `server`.
    ///
    /// # Errors
    /// The system has none, or does not allow what it is to be.
    pub(crate) fn socket(&self, server: SocketAddr) -> io::Result<TcpSocket> {
        let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        let options = SockRef::from(&socket);
        options.set_tcp_nodelay(self.nodelay)?;
        congestion::unpace_if_local(SockRef::from(&socket), server.ip());
        if self.socket.keepalive {
            options.set_keepalive(true)?;
        }
        if self.origin.is_some() {
            // The same port may serve for connections to several servers.
            options.set_reuse_address(true)?;
        }
        prepare(options, self.origin, &self.socket)?;
        Ok(socket)
    }
}

/// Sets what sockets of connections and of datagrams have alike.
///
/// # Errors
/// The system does not allow it.
pub(crate) fn prepare(
    socket: SockRef<'_>,
    origin: Option<SocketAddr>,
    wanted: &ServerSocket,
) -> io::Result<()> {
    let bytes = |size| usize::try_from(size).unwrap_or(usize::MAX);
    if let Some(size) = wanted.receive {
        socket.set_recv_buffer_size(bytes(size))?;
    }
    if let Some(size) = wanted.send {
        socket.set_send_buffer_size(bytes(size))?;
    }
    let Some(origin) = origin else { return Ok(()) };
    match origin {
        _ if !wanted.transparent => {}
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    socket.bind(&origin.into())
}
