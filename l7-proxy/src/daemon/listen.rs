//! Listening sockets, one per worker on the same address.

use std::io;
use std::net::{SocketAddr, TcpListener};

use l4_proxy::congestion;
use l4_proxy::inherit::Inherited;
use l4_proxy::listen::keepalive;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::model::SocketOptions;
use crate::unix;

/// Opens `count` listeners on `addr`, among which the kernel spreads the connections
/// (`SO_REUSEPORT`).
///
/// Options that accepted sockets inherit are set here once instead of on each of them.
///
/// # Errors
/// The address cannot be bound. A port that another process listens on is refused even if that
/// process would share it, since sharing it by accident loses half the connections.
pub(super) fn group(addr: SocketAddr, options: &SocketOptions, count: usize) -> io::Result<Vec<TcpListener>> {
    if let Some(path) = unix::path(addr) {
        // A path has one queue, of which all workers take.
        return Ok(vec![unix::listen(path)?]);
    }
    let first = socket(addr, options, Sharing::Alone)?;
    if count <= 1 {
        return Ok(vec![first]);
    }
    // The first bind proved that nobody else listens; now all of the group must share.
    let addr = first.local_addr()?;
    drop(first);
    (0..count).map(|_| socket(addr, options, Sharing::Group)).collect()
}

/// Returns the listeners that a predecessor had on `addr`, if any.
///
/// # Errors
/// The system has no descriptor left.
pub(super) fn inherited(addr: SocketAddr, inherited: &Inherited) -> io::Result<Vec<TcpListener>> {
    match unix::path(addr) {
        Some(path) => Ok(inherited.listeners_at(&path)?.into_iter().map(unix::disguised).collect()),
        None => inherited.listeners(addr),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    Group,
}

fn socket(addr: SocketAddr, options: &SocketOptions, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
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
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive())?;
    congestion::unpace_if_local(SockRef::from(&socket), addr.ip());
    socket.bind(&SockAddr::from(addr))?;
    socket.listen(options.backlog.map_or(BACKLOG, |backlog| i32::try_from(backlog).unwrap_or(i32::MAX)))?;
    Ok(socket.into())
}

/// nginx's length of the queue of connections that wait to be accepted.
const BACKLOG: i32 = 511;
