//! Sockets of checks: bound, marked and on the interface that the configuration names.

use std::io;
use std::net::SocketAddr;

use lvs_core::Cause;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use crate::keepalived::model::Origin;
use crate::proxy::cause;
use crate::relay::reset_on_drop;

/// A connection to the target.
pub(super) async fn connect(origin: &Origin) -> Result<TcpStream, Cause> {
    let opened = socket(origin, Type::STREAM, Protocol::TCP);
    let opened = opened.map_err(|error| Cause::from(format!("no socket for the check: {error}")))?;
    let socket = TcpSocket::from_std_stream(opened.into());
    let stream = socket.connect(origin.target).await.map_err(|error| cause(&error))?;
    // No half-open connection at the server afterwards, and no port in TIME_WAIT here.
    reset_on_drop(&stream);
    Ok(stream)
}

/// A socket for datagrams to and from the target.
pub(super) async fn datagrams(origin: &Origin) -> io::Result<UdpSocket> {
    let socket = UdpSocket::from_std(socket(origin, Type::DGRAM, Protocol::UDP)?.into())?;
    socket.connect(origin.target).await?;
    Ok(socket)
}

/// A socket on its way to the target, not yet connected.
pub(super) fn socket(origin: &Origin, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(origin.target), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if let Some(mark) = origin.mark {
        socket.set_mark(mark)?;
    }
    if let Some(interface) = &origin.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    if let Some(bind) = origin.bind {
        if bind.port() != 0 {
            socket.set_reuse_address(true)?;
        }
        socket.bind(&bind.into())?;
    }
    Ok(socket)
}

/// Whether an address is on this host: only then a socket can be bound to it.
pub(crate) fn is_local(address: SocketAddr) -> bool {
    let address = SocketAddr::new(address.ip(), 0);
    let bound = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))
        .and_then(|socket| socket.bind(&address.into()));
    !matches!(bound, Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable)
}
