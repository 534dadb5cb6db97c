//! Listening sockets: one per worker on the same address.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use crate::congestion;

/// Whether an address has to be on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It has to.
    Here,
    /// It comes and goes, as one that VRRP moves between hosts: who listens there is reached once the
    /// address is here (`IP_FREEBIND`).
    Floating,
}

/// Opens `count` listeners on `address`, among which the kernel spreads the connections
/// (`SO_REUSEPORT`).
///
/// Options that accepted sockets inherit are set here once instead of on each of them. Keepalive probes are
/// none of them: they are asked for once a connection has been silent for a while.
///
/// # Errors
/// The address cannot be bound. A port that another process listens on is refused even if that
/// process would share it, since sharing it by accident loses half the connections.
pub fn group(address: SocketAddr, presence: Presence, count: usize) -> io::Result<Vec<TcpListener>> {
    let first = socket(address, presence, Sharing::Alone)?;
    if count <= 1 {
        return Ok(vec![first]);
    }
    // The first bind proved that nobody else listens; now all of the group must share.
    let address = first.local_addr()?;
    drop(first);
    (0..count).map(|_| socket(address, presence, Sharing::Group)).collect()
}

/// Opens `count` sockets for datagrams on `address`, among which the kernel spreads the clients.
///
/// # Errors
/// As for [`group`].
pub fn datagrams(address: SocketAddr, presence: Presence, count: usize) -> io::Result<Vec<UdpSocket>> {
    let first = datagram_socket(address, presence, Sharing::Alone)?;
    if count <= 1 {
        return Ok(vec![first]);
    }
    let address = first.local_addr()?;
    drop(first);
    (0..count).map(|_| datagram_socket(address, presence, Sharing::Group)).collect()
}

/// Sets how long bytes may stay unacknowledged before a peer counts as gone: that of a connection, or of all
/// that a listener accepts from now on. Without one it is the kernel's time.
pub(crate) fn end_silence(socket: &impl AsFd, user_timeout: Option<Duration>) -> io::Result<()> {
    SockRef::from(socket).set_tcp_user_timeout(user_timeout)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    Group,
}

fn datagram_socket(address: SocketAddr, presence: Presence, sharing: Sharing) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if sharing == Sharing::Group {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Datagrams that find the queue full are lost; the kernel gives what `rmem_max` allows.
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    allow(presence, &socket, address)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

fn socket(address: SocketAddr, presence: Presence, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if sharing == Sharing::Group {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    congestion::unpace_if_local(SockRef::from(&socket), address.ip());
    allow(presence, &socket, address)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn allow(presence: Presence, socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match (presence, address) {
        (Presence::Here, _) => Ok(()),
        (Presence::Floating, SocketAddr::V4(_)) => socket.set_freebind_v4(true),
        (Presence::Floating, SocketAddr::V6(_)) => socket.set_freebind_v6(true),
    }
}

/// Takes what is in a listener's queue, and listens no more: closing it would reset that.
///
/// The queue itself is asked, not the runtime, which may not have heard yet of who came last. Where another
/// process has the same listener clients come on, so no more are taken than a queue can hold.
pub fn queued(
    listener: tokio::net::TcpListener,
) -> impl Iterator<Item = (tokio::net::TcpStream, SocketAddr)> {
    let listener = listener.into_std();
    std::iter::from_fn(move || {
        loop {
            match listener.as_ref().ok()?.accept() {
                Ok((stream, peer)) => {
                    stream.set_nonblocking(true).ok()?;
                    return Some((tokio::net::TcpStream::from_std(stream).ok()?, peer));
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => return None,
            }
        }
    })
    .take(BACKLOG as usize)
}

/// Whether an accept failed for a reason of that connection alone, which the next one need not
/// share (accept(2), "Error handling").
pub fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::PermissionDenied
    )
}

/// Probes for a peer that has gone without a word: after a minute, five times, 12 s apart.
pub fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(12))
        .with_retries(5)
}

/// Connections that may wait to be accepted; the kernel lowers it to `somaxconn`.
pub const BACKLOG: i32 = 65_535;

/// Room for datagrams that came while the worker was busy.
const RECEIVE_BUFFER: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    #[test]
    fn client_that_acknowledges_nothing_has_the_time_that_was_set() {
        let listeners = group((Ipv4Addr::LOCALHOST, 0).into(), Presence::Here, 2).expect("a free port");
        let address = listeners[0].local_addr().expect("bound");
        let heard = |time: Option<Duration>| {
            listeners.iter().for_each(|listener| end_silence(listener, time).expect("a valid time"));
            let client = TcpStream::connect(address).expect("it listens");
            let own = client.local_addr().expect("connected");
            let (accepted, peer) = lab::wait_for("the client is accepted", || {
                listeners.iter().find_map(|listener| listener.accept().ok())
            });
            assert_eq!(peer, own);
            SockRef::from(&accepted).tcp_user_timeout().expect("open")
        };
        assert_eq!(heard(Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(heard(None), None);
    }
}
