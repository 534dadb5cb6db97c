//! Sockets that a director was given instead of binding them itself: by systemd's socket activation, or
//! by the director whose place it takes.
//!
//! They are known by their protocol and address, or by their path, so nobody has to say which belongs
//! to which service.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use lvs_core::Protocol;
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::udp::Passing;

/// Sockets that are bound, and not used yet.
#[derive(Debug, Default)]
pub struct Inherited {
    listeners: Vec<(SocketAddr, TcpListener)>,
    datagrams: Vec<(SocketAddr, UdpSocket)>,
    /// Listeners that have a path for an address.
    paths: Vec<(PathBuf, UnixListener)>,
    /// Flows of datagrams, by the address they came to and the number of the socket there.
    flows: Vec<(SocketAddr, usize, Passing)>,
}

impl Inherited {
    /// Takes in a bound socket of either kind.
    ///
    /// # Errors
    /// It is no socket, or one of another kind.
    pub fn add(&mut self, socket: OwnedFd) -> io::Result<()> {
        // Nobody that is started from here is meant to have it.
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
        let is_unix = sockopt::socket_domain(&socket)? == AddressFamily::UNIX;
        match sockopt::socket_type(&socket)? {
            SocketType::STREAM if is_unix && sockopt::socket_acceptconn(&socket)? => {
                let listener = UnixListener::from(socket);
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                let path =
                    address.as_pathname().ok_or_else(|| io::Error::other("a socket without a path"))?;
                self.paths.push((path.to_owned(), listener));
            }
            SocketType::STREAM if sockopt::socket_acceptconn(&socket)? => {
                let listener = TcpListener::from(socket);
                listener.set_nonblocking(true)?;
                self.listeners.push((listener.local_addr()?, listener));
            }
            SocketType::DGRAM => {
                let socket = UdpSocket::from(socket);
                socket.set_nonblocking(true)?;
                self.datagrams.push((socket.local_addr()?, socket));
            }
            _ => return Err(io::Error::other("a socket that neither listens nor is for datagrams")),
        }
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.listeners.len() + self.datagrams.len() + self.paths.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is left of those that have an address of the network.
    pub fn addresses(&self) -> impl Iterator<Item = (Protocol, SocketAddr)> {
        let listeners = self.listeners.iter().map(|(address, _)| (Protocol::Tcp, *address));
        listeners.chain(self.datagrams.iter().map(|(address, _)| (Protocol::Udp, *address)))
    }

    /// The listeners of an address, which stay here until they are [forgotten](Inherited::forget).
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn listeners(&self, address: SocketAddr) -> io::Result<Vec<TcpListener>> {
        let found = self.listeners.iter().filter(|(other, _)| *other == address);
        found.map(|(_, listener)| listener.try_clone()).collect()
    }

    /// The listeners of a path, likewise.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn listeners_at(&self, path: &Path) -> io::Result<Vec<UnixListener>> {
        let found = self.paths.iter().filter(|(other, _)| other == path);
        found.map(|(_, listener)| listener.try_clone()).collect()
    }

    /// The paths among the addresses.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter().map(|(path, _)| &**path)
    }

    /// The datagram sockets of an address, likewise.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn datagrams(&self, address: SocketAddr) -> io::Result<Vec<UdpSocket>> {
        let found = self.datagrams.iter().filter(|(other, _)| *other == address);
        found.map(|(_, socket)| socket.try_clone()).collect()
    }

    /// Takes in a flow that came to a socket of this number of this address.
    pub(crate) fn add_flow(&mut self, at: SocketAddr, number: usize, flow: Passing) {
        self.flows.push((at, number, flow));
    }

    /// The flows that came to an address, by the number of their socket.
    pub(crate) fn take_flows(&mut self, at: SocketAddr) -> Vec<(usize, Passing)> {
        let flows = self.flows.extract_if(.., |(other, ..)| *other == at);
        flows.map(|(_, number, flow)| (number, flow)).collect()
    }

    /// Lets go of the sockets of an address: they are in use, or in nobody's.
    pub fn forget(&mut self, protocol: Protocol, address: SocketAddr) {
        match protocol {
            Protocol::Udp => self.datagrams.retain(|(other, _)| *other != address),
            _ => self.listeners.retain(|(other, _)| *other != address),
        }
    }
}
