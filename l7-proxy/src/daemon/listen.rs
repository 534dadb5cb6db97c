//! Listening sockets, one per worker on the same address.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use l4_proxy::congestion;
use l4_proxy::inherit::Inherited;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use crate::model::{KeepaliveProbes, SocketOptions, Transport};
use crate::unix;

/// What is listened at: connections and datagrams may have one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Endpoint {
    pub(super) transport: Transport,
    pub(super) addr: SocketAddr,
}

/// A bound socket of either kind.
pub(super) enum Listener {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Endpoint {
    pub(super) fn tcp(addr: SocketAddr) -> Endpoint {
        Endpoint { transport: Transport::Tcp, addr }
    }
}

impl Listener {
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Listener::Tcp(socket) => socket.local_addr(),
            Listener::Udp(socket) => socket.local_addr(),
        }
    }

    /// Another hold on the same socket.
    pub(super) fn try_clone(&self) -> io::Result<Listener> {
        match self {
            Listener::Tcp(socket) => socket.try_clone().map(Listener::Tcp),
            Listener::Udp(socket) => socket.try_clone().map(Listener::Udp),
        }
    }
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> OwnedFd {
        match listener {
            Listener::Tcp(socket) => socket.into(),
            Listener::Udp(socket) => socket.into(),
        }
    }
}

/// Opens `count` listeners on `addr`, among which the kernel spreads the connections
/// (`SO_REUSEPORT`).
///
/// Options that accepted sockets inherit are set here once instead of on each of them.
///
/// # Errors
/// The address cannot be bound. A port that another process listens on is refused even if that
/// process would share it, since sharing it by accident loses half the connections.
pub(super) fn group(endpoint: Endpoint, options: &SocketOptions, count: usize) -> io::Result<Vec<Listener>> {
    let Endpoint { transport, addr } = endpoint;
    if let Some(path) = unix::path(addr) {
        // A path has one queue, of which all workers take.
        return Ok(vec![Listener::Tcp(unix::listen(path)?)]);
    }
    let open = |addr, sharing| match transport {
        Transport::Tcp => socket(addr, options, sharing).map(Listener::Tcp),
        Transport::Udp => datagram_socket(addr, options, sharing).map(Listener::Udp),
    };
    let first = open(addr, Sharing::Alone)?;
    if count <= 1 {
        return Ok(vec![first]);
    }
    // The first bind proved that nobody else listens; now all of the group must share.
    let addr = first.local_addr()?;
    drop(first);
    (0..count).map(|_| open(addr, Sharing::Group)).collect()
}

/// Checks that an endpoint can be bound. Whether somebody listens there already, such as the proxy whose
/// next configuration this is, does not count; nobody is let in.
///
/// # Errors
/// The system refuses the address.
pub(super) fn check(endpoint: Endpoint, options: &SocketOptions) -> io::Result<()> {
    let Endpoint { transport, addr } = endpoint;
    if unix::path(addr).is_some() {
        return Ok(());
    }
    let bound = match transport {
        Transport::Tcp => bind(addr, options, Sharing::Alone).map(drop),
        Transport::Udp => datagram_socket(addr, options, Sharing::Alone).map(drop),
    };
    bound.or_else(|error| if error.kind() == io::ErrorKind::AddrInUse { Ok(()) } else { Err(error) })
}

/// Returns the sockets that a predecessor had at an endpoint, if any.
///
/// # Errors
/// The system has no descriptor left.
pub(super) fn inherited(endpoint: Endpoint, inherited: &Inherited) -> io::Result<Vec<Listener>> {
    let Endpoint { transport, addr } = endpoint;
    let listeners = match (transport, unix::path(addr)) {
        (Transport::Udp, _) => {
            return Ok(inherited.datagrams(addr)?.into_iter().map(Listener::Udp).collect());
        }
        (Transport::Tcp, Some(path)) => {
            inherited.listeners_at(&path)?.into_iter().map(unix::disguised).collect()
        }
        (Transport::Tcp, None) => inherited.listeners(addr)?,
    };
    Ok(listeners.into_iter().map(Listener::Tcp).collect())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    Group,
}

fn socket(addr: SocketAddr, options: &SocketOptions, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = bind(addr, options, sharing)?;
    socket.listen(options.backlog.map_or(BACKLOG, |backlog| i32::try_from(backlog).unwrap_or(i32::MAX)))?;
    Ok(socket.into())
}

fn bind(addr: SocketAddr, options: &SocketOptions, sharing: Sharing) -> io::Result<Socket> {
    // Who does not know of several paths is served all the same, by a plain socket.
    let protocol = if options.multipath { Protocol::MPTCP } else { Protocol::TCP };
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(protocol))?;
    socket.set_reuse_address(true)?;
    prepare(&socket, addr, options, sharing)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(KeepaliveProbes { idle, interval, count }) = options.keepalive {
        socket.set_keepalive(true)?;
        let mut probes = TcpKeepalive::new();
        if let Some(idle) = idle {
            probes = probes.with_time(idle);
        }
        if let Some(interval) = interval {
            probes = probes.with_interval(interval);
        }
        if let Some(count) = count {
            probes = probes.with_retries(count);
        }
        socket.set_tcp_keepalive(&probes)?;
    }
    congestion::unpace_if_local(SockRef::from(&socket), addr.ip());
    socket.bind(&SockAddr::from(addr))?;
    Ok(socket)
}

/// Each client's datagrams go to one socket of a group, so that a worker has the whole of a session.
fn datagram_socket(addr: SocketAddr, options: &SocketOptions, sharing: Sharing) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    // Datagrams that find the queue full are lost; the kernel gives what `rmem_max` allows.
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    prepare(&socket, addr, options, sharing)?;
    socket.bind(&SockAddr::from(addr))?;
    Ok(socket.into())
}

/// Sets what both kinds of socket have.
fn prepare(socket: &Socket, addr: SocketAddr, options: &SocketOptions, sharing: Sharing) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    if sharing == Sharing::Group {
        socket.set_reuse_port(true)?;
    }
    if addr.is_ipv6() {
        socket.set_only_v6(options.ipv6only.unwrap_or(true))?;
    }
    if let Some(size) = options.sndbuf {
        socket.set_send_buffer_size(usize::try_from(size).unwrap_or(usize::MAX))?;
    }
    if let Some(size) = options.rcvbuf {
        socket.set_recv_buffer_size(usize::try_from(size).unwrap_or(usize::MAX))?;
    }
    Ok(())
}

/// nginx's length of the queue of connections that wait to be accepted.
const BACKLOG: i32 = 511;

/// Room for datagrams that came while the worker was busy, unless `rcvbuf=` says otherwise.
const RECEIVE_BUFFER: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_is_of_the_protocol_that_is_asked_for() {
        let protocol = |multipath| -> io::Result<Option<Protocol>> {
            let options = SocketOptions { multipath, ..SocketOptions::default() };
            let listener = socket(([127, 0, 0, 1], 0).into(), &options, Sharing::Alone)?;
            SockRef::from(&listener).protocol()
        };
        assert_eq!(protocol(false).unwrap(), Some(Protocol::TCP));
        match protocol(true) {
            Ok(protocol) => assert_eq!(protocol, Some(Protocol::MPTCP)),
            // The kernel has none, or has it switched off.
            Err(error) => assert!(matches!(error.raw_os_error(), Some(22 | 92 | 93)), "{error}"),
        }
    }
}
