//! How a connection to a server is made, below all protocols: from where, and with which options of its
//! socket (`proxy_bind`, `proxy_socket_*` and their like).

use std::fmt;
use std::io;
use std::net::SocketAddr;

use l4_proxy::congestion;
use lvs_core::Cause;
use socket2::SockRef;
use tokio::net::TcpSocket;

use crate::error_log::Errno;
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

/// Why there is no leg to a server.
#[derive(Debug)]
pub(crate) enum Unconnected {
    /// The system does not allow what the configuration wants; no server has to do with it.
    Refused(Refused),
    /// The server did not take it.
    Failed(io::Error),
    /// The server did not answer in time.
    TimedOut,
}

/// A call to the system that failed before any server was asked.
#[derive(Debug)]
pub(crate) struct Refused {
    call: String,
    error: io::Error,
}

impl Leg {
    /// Returns a socket that can be connected to `server`.
    ///
    /// # Errors
    /// The system has none, or does not allow what it is to be.
    pub(crate) fn socket(&self, server: SocketAddr) -> Result<TcpSocket, Refused> {
        let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
            .map_err(Refused::at("socket()"))?;
        let options = SockRef::from(&socket);
        options.set_tcp_nodelay(self.nodelay).map_err(Refused::at("setsockopt(TCP_NODELAY)"))?;
        congestion::unpace_if_local(SockRef::from(&socket), server.ip());
        if self.socket.keepalive {
            options.set_keepalive(true).map_err(Refused::at("setsockopt(SO_KEEPALIVE)"))?;
        }
        if self.origin.is_some() {
            // The same port may serve for connections to several servers.
            options.set_reuse_address(true).map_err(Refused::at("setsockopt(SO_REUSEADDR)"))?;
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
) -> Result<(), Refused> {
    let bytes = |size| usize::try_from(size).unwrap_or(usize::MAX);
    if let Some(size) = wanted.receive {
        socket.set_recv_buffer_size(bytes(size)).map_err(Refused::at("setsockopt(SO_RCVBUF)"))?;
    }
    if let Some(size) = wanted.send {
        socket.set_send_buffer_size(bytes(size)).map_err(Refused::at("setsockopt(SO_SNDBUF)"))?;
    }
    let Some(origin) = origin else { return Ok(()) };
    match origin {
        _ if !wanted.transparent => {}
        SocketAddr::V4(_) => {
            socket.set_ip_transparent_v4(true).map_err(Refused::at("setsockopt(IP_TRANSPARENT)"))?;
        }
        SocketAddr::V6(_) => {
            socket.set_ip_transparent_v6(true).map_err(Refused::at("setsockopt(IPV6_TRANSPARENT)"))?;
        }
    }
    socket.bind(&origin.into()).map_err(|error| {
        let call = match origin.port() {
            0 => format!("bind({})", origin.ip()),
            _ => format!("bind({origin})"),
        };
        Refused { call, error }
    })
}

impl Unconnected {
    /// Whether no server is to blame, and none would do better.
    pub(crate) fn is_own(&self) -> bool {
        match self {
            Unconnected::Refused(_) => true,
            Unconnected::Failed(error) => l4_proxy::socket::is_of_host(error),
            Unconnected::TimedOut => false,
        }
    }

    /// In the words of the director's listings.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Unconnected::Refused(refused) => refused.to_string().into(),
            Unconnected::Failed(error) => cause(error),
            Unconnected::TimedOut => "connect timed out".into(),
        }
    }
}

/// A failed connect in the words of the director's listings.
pub(crate) fn cause(error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect refused".into(),
        io::ErrorKind::ConnectionReset => "connection reset".into(),
        io::ErrorKind::HostUnreachable => "host unreachable".into(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".into(),
        _ => Errno(error).to_string().into(),
    }
}

impl From<io::Error> for Unconnected {
    fn from(error: io::Error) -> Unconnected {
        Unconnected::Failed(error)
    }
}

impl From<Refused> for Unconnected {
    fn from(refused: Refused) -> Unconnected {
        Unconnected::Refused(refused)
    }
}

impl fmt::Display for Unconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unconnected::Refused(refused) => refused.fmt(f),
            Unconnected::Failed(error) => write!(f, "connect() failed ({})", Errno(error)),
            Unconnected::TimedOut => f.write_str("upstream timed out (110: Connection timed out)"),
        }
    }
}

impl Refused {
    /// What comes of an error of this call.
    pub(crate) fn at(call: &'static str) -> impl FnOnce(io::Error) -> Refused {
        move |error| Refused { call: call.to_owned(), error }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed ({})", self.call, Errno(&self.error))
    }
}
