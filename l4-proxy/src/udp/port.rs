//! A socket that many clients send to, for whoever answers them otherwise than a [`DatagramProxy`] does.
//!
//! [`DatagramProxy`]: super::DatagramProxy

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdSocket};

use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::batch::{BATCH, Buffers, Offload};

/// Datagrams of many clients, received in batches, and the way back to each.
pub struct Port {
    socket: UdpSocket,
    address: SocketAddr,
    offload: Offload,
}

/// What a client has sent.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub client: SocketAddr,
    /// The address it was sent to, where the socket is bound to all of them: replies must come from it.
    pub to: Option<IpAddr>,
    /// What it says, which may be nothing.
    pub bytes: &'a [u8],
}

/// Whether there is more to be received at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// There may be.
    Maybe,
    /// [`Port::readable`] says when.
    Later,
}

impl Port {
    /// Takes a bound socket over, for the runtime it is called in.
    ///
    /// # Errors
    /// The system cannot watch it, or refuses what every Linux since 5.0 grants.
    pub fn new(socket: StdSocket) -> io::Result<Port> {
        socket.set_nonblocking(true)?;
        let offload = Offload::new(&socket)?;
        Ok(Port { address: socket.local_addr()?, socket: UdpSocket::from_std(socket)?, offload })
    }

    /// The address it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until there is something to be received.
    ///
    /// # Errors
    /// The runtime is going.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Receives one batch and hands it over, one datagram after the other. Their bytes lie in memory that
    /// the thread's ports share, so `take` must not receive anything itself.
    ///
    /// # Errors
    /// The system's, which are of no single client.
    pub fn receive(&self, mut take: impl FnMut(Datagram<'_>)) -> io::Result<More> {
        Buffers::with(|buffers| {
            let mut count = 0;
            let received = self.socket.try_io(Interest::READABLE, || {
                count = self.offload.receive(&self.socket, buffers, 0)?;
                // After a batch that is not full there is nothing more: the kernel need not be asked.
                if count < BATCH { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            for (buffer, meta) in buffers.slots.iter().zip(&*buffers.metas).take(count) {
                let to = self.offload.sent_to(meta);
                let joined = &buffer[..meta.len];
                let mut take = |bytes| take(Datagram { client: meta.addr, to, bytes });
                match joined {
                    [] => take(joined),
                    joined => joined.chunks(meta.stride.max(1)).for_each(&mut take),
                }
            }
            match received {
                Ok(()) => Ok(More::Maybe),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(More::Later),
                Err(error) => Err(error),
            }
        })
    }

    /// Sends a client a datagram, from the address it has sent to.
    ///
    /// # Errors
    /// The system does not take it: it is too large for the way, or a queue is full.
    pub fn reply(&self, client: SocketAddr, to: Option<IpAddr>, bytes: &[u8]) -> io::Result<()> {
        self.offload.send_to(&self.socket, client, to, bytes)
    }
}
