//! Datagrams in batches: up to 32 with one system call, in both directions.
//!
//! Receiving is `recvmmsg` with segments that the kernel has joined (GRO), by way of quinn-udp.
//! Sending to many clients is one `sendmmsg`; sending joined segments on to one server is one
//! `sendmsg` that the kernel takes apart again (GSO).

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::net::addr::SocketAddrArg;
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags};

/// What the kernel offers for the sockets of one service.
pub(crate) struct Offload {
    state: UdpSocketState,
    /// Replies need their source address said, since the socket is bound to all of them.
    wildcard: bool,
}

/// A worker's buffers: where datagrams are between being received and being sent, and what is known
/// of those that were received.
pub(crate) struct Buffers<'a> {
    /// Each holds one datagram or some that were joined.
    pub(crate) slots: [IoSliceMut<'a>; BATCH],
    pub(crate) metas: &'a mut [RecvMeta; BATCH],
}

/// A datagram for a client.
pub(crate) struct Reply {
    pub(crate) client: SocketAddr,
    /// The address it is to come from, where the socket is bound to all of them.
    pub(crate) from: Option<IpAddr>,
    pub(crate) buffer: usize,
    pub(crate) len: usize,
}

impl Offload {
    /// Sets a service's socket up.
    ///
    /// # Errors
    /// The system refuses what every Linux since 5.0 grants.
    pub(crate) fn new(socket: &UdpSocket) -> io::Result<Offload> {
        let own = socket.local_addr()?;
        let wildcard = own.ip().is_unspecified();
        // quinn-udp's options also forbid fragments, as QUIC wants it. For IPv4 that is taken back; for
        // IPv6 it cannot be, so there the options go to a socket that is not used, unless they are needed
        // to learn the address that clients send to.
        if own.is_ipv6() && !wildcard {
            let state = UdpSocketState::new(UdpSockRef::from(&UdpSocket::bind((own.ip(), 0))?))?;
            return Ok(Offload { state, wildcard });
        }
        let state = UdpSocketState::new(UdpSockRef::from(socket))?;
        if own.is_ipv6() {
            sockopt::set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::WANT)?;
        } else {
            sockopt::set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::WANT)?;
        }
        Ok(Offload { state, wildcard })
    }

    /// Receives what is there into the buffers from `first` on; says into how many.
    pub(crate) fn receive(
        &self,
        socket: impl AsFd,
        buffers: &mut Buffers<'_>,
        first: usize,
    ) -> io::Result<usize> {
        let socket = socket.as_fd();
        self.state.recv(UdpSockRef::from(&socket), &mut buffers.slots[first..], &mut buffers.metas[first..])
    }

    /// The address a datagram was sent to, where the socket is bound to all of them.
    pub(crate) fn sent_to(&self, meta: &RecvMeta) -> Option<IpAddr> {
        meta.dst_ip.filter(|_| self.wildcard)
    }

    /// Sends a datagram, or joined ones of `stride` bytes, on a socket that is connected to `server`.
    pub(crate) fn send_on(
        &self,
        socket: impl AsFd,
        server: SocketAddr,
        bytes: &[u8],
        stride: usize,
    ) -> io::Result<()> {
        let socket = socket.as_fd();
        if bytes.len() <= stride {
            rustix::net::send(socket, bytes, SendFlags::empty())?;
            return Ok(());
        }
        let whole = self.state.max_gso_segments().max(1) * stride;
        for part in bytes.chunks(whole) {
            let transmit = Transmit {
                destination: server,
                ecn: None,
                contents: part,
                segment_size: Some(stride),
                src_ip: None,
            };
            match self.state.try_send(UdpSockRef::from(&socket), &transmit) {
                // The way to this server does not take them apart.
                Err(error) if matches!(error.raw_os_error(), Some(EINVAL | EIO | EMSGSIZE)) => {
                    for datagram in part.chunks(stride) {
                        rustix::net::send(socket, datagram, SendFlags::empty())?;
                    }
                }
                sent => sent?,
            }
        }
        Ok(())
    }

    /// Sends one datagram to a client, from the address it has sent to.
    pub(crate) fn send_to(
        &self,
        socket: impl AsFd,
        client: SocketAddr,
        from: Option<IpAddr>,
        bytes: &[u8],
    ) -> io::Result<()> {
        let socket = socket.as_fd();
        if from.is_none() {
            rustix::net::sendto(socket, bytes, SendFlags::empty(), &client)?;
            return Ok(());
        }
        let (segment_size, ecn) = (None, None);
        let transmit = Transmit { destination: client, ecn, contents: bytes, segment_size, src_ip: from };
        self.state.try_send(UdpSockRef::from(&socket), &transmit)
    }

    /// Sends replies to clients; says how many could not be sent.
    pub(crate) fn reply(&self, socket: impl AsFd, buffers: &Buffers<'_>, replies: &[Reply]) -> usize {
        let socket = socket.as_fd();
        match replies {
            [] => 0,
            replies if replies.len() == 1 || self.wildcard => {
                let unsent = |reply: &&Reply| {
                    let bytes = &buffers.slots[reply.buffer][..reply.len];
                    self.send_to(socket, reply.client, reply.from, bytes).is_err()
                };
                replies.iter().filter(unsent).count()
            }
            replies => reply_at_once(socket, buffers, replies),
        }
    }
}

fn reply_at_once(socket: impl AsFd, buffers: &Buffers<'_>, replies: &[Reply]) -> usize {
    let addresses: Vec<_> = replies.iter().map(|reply| reply.client.as_any()).collect();
    let bytes: Vec<_> =
        replies.iter().map(|reply| [IoSlice::new(&buffers.slots[reply.buffer][..reply.len])]).collect();
    let mut controls: Vec<_> = replies.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let messages = addresses.iter().zip(&bytes).zip(&mut controls);
    let mut messages: Vec<_> =
        messages.map(|((address, bytes), control)| MMsgHdr::new_with_addr(address, bytes, control)).collect();
    let (mut next, mut failed) = (0, 0);
    while next < messages.len() {
        match rustix::net::sendmmsg(socket.as_fd(), &mut messages[next..], SendFlags::empty()) {
            Ok(sent) => next += sent.max(1),
            // The error is that of the first; the others are none the worse for it.
            Err(_) => (next, failed) = (next + 1, failed + 1),
        }
    }
    failed
}

impl Buffers<'_> {
    /// Lends the buffers of this thread.
    pub(crate) fn with<R>(use_them: impl FnOnce(&mut Buffers<'_>) -> R) -> R {
        thread_local! {
            static OWNED: RefCell<(Box<[u8]>, [RecvMeta; BATCH])> =
                RefCell::new((vec![0; BATCH * SIZE].into(), [RecvMeta::default(); BATCH]));
        }
        OWNED.with_borrow_mut(|(bytes, metas)| {
            let mut parts = bytes.chunks_exact_mut(SIZE);
            let slots = std::array::from_fn(|_| IoSliceMut::new(parts.next().unwrap_or_default()));
            use_them(&mut Buffers { slots, metas })
        })
    }
}

/// Datagrams per system call.
pub(crate) const BATCH: usize = quinn_udp::BATCH_SIZE;

/// As large as a datagram, or joined ones, can be.
const SIZE: usize = 64 << 10;

const EINVAL: i32 = rustix::io::Errno::INVAL.raw_os_error();
const EIO: i32 = rustix::io::Errno::IO.raw_os_error();
const EMSGSIZE: i32 = rustix::io::Errno::MSGSIZE.raw_os_error();
