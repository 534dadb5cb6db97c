//! Connecting to a server, from the right address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lvs_core::Cause;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::settings::{Settings, Source};
use crate::socket::{self, is_of_host};
use crate::{congestion, sys};

/// Why a connection to a server did not come about.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server did not accept, or not in time.
    Server(io::Error),
    /// From none of the source addresses a port to this server is free; another server may do.
    NoPort(io::Error),
    /// This host has no more descriptors or memory, or may not do what it is configured to do.
    Host(io::Error),
}

/// Connects to `server` for `client`, within the time that the settings give a server.
///
/// Nagle's algorithm is still on: whoever writes first turns it off, or leaves that to the relay.
///
/// `turn` counts the connections, so that source addresses take turns.
pub(super) async fn connect(
    server: SocketAddr,
    client: IpAddr,
    settings: &Settings,
    turn: &AtomicUsize,
) -> Result<TcpStream, Failure> {
    let from = |source| attempt(server, source, settings);
    match &settings.source {
        Source::System => from(Bind::System).await,
        Source::Client => from(Bind::Transparent(client.to_canonical())).await,
        Source::Addresses(addresses) => {
            let first = turn.fetch_add(1, Ordering::Relaxed);
            let mut last = io::ErrorKind::AddrNotAvailable.into();
            for step in 0..addresses.len() {
                let address = addresses[first.wrapping_add(step) % addresses.len()];
                if address.is_ipv4() != server.is_ipv4() {
                    continue;
                }
                match from(Bind::Address(address)).await {
                    Err(Failure::NoPort(error)) => last = error,
                    other => return other,
                }
            }
            Err(Failure::NoPort(last))
        }
    }
}

/// What a socket is bound to before it connects.
#[derive(Clone, Copy)]
enum Bind {
    System,
    Address(IpAddr),
    Transparent(IpAddr),
}

async fn attempt(server: SocketAddr, bind: Bind, settings: &Settings) -> Result<TcpStream, Failure> {
    let socket = prepare(server, bind, settings.user_timeout).map_err(Failure::of)?;
    match timeout(settings.connect, socket::connect(socket, server)).await {
        Ok(connected) => connected.map_err(Failure::of),
        Err(_) => Err(Failure::Server(io::ErrorKind::TimedOut.into())),
    }
}

fn prepare(server: SocketAddr, bind: Bind, user_timeout: Option<Duration>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if user_timeout.is_some() {
        socket.set_tcp_user_timeout(user_timeout)?;
    }
    congestion::unpace_if_local(SockRef::from(&socket), server.ip());
    let address = match bind {
        Bind::System => return Ok(socket),
        Bind::Address(address) => address,
        Bind::Transparent(address) if server.is_ipv4() => {
            socket.set_ip_transparent_v4(true)?;
            address
        }
        Bind::Transparent(address) => {
            socket.set_ip_transparent_v6(true)?;
            address
        }
    };
    // The port is chosen when the server is known, so that one port serves many servers.
    sys::set_bind_address_no_port(&socket)?;
    socket.bind(&SocketAddr::new(address, 0).into())?;
    Ok(socket)
}

impl Failure {
    /// Whose fault an error is.
    fn of(error: io::Error) -> Failure {
        match Errno::from_io_error(&error) {
            Some(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => Failure::NoPort(error),
            _ if is_of_host(&error) => Failure::Host(error),
            _ => Failure::Server(error),
        }
    }
}

/// A failed connect in the operator's words.
pub(crate) fn cause(error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect refused".into(),
        io::ErrorKind::TimedOut => "connect timed out".into(),
        io::ErrorKind::ConnectionReset => "connection reset".into(),
        io::ErrorKind::HostUnreachable => "host unreachable".into(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".into(),
        io::ErrorKind::AddrNotAvailable => "no free local port".into(),
        _ => error.to_string().into(),
    }
}
