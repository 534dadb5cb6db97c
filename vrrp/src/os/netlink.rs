//! Talking to the kernel about interfaces and addresses: requests that are answered at once, and news.
//!
//! The kernel has done what it was asked, or refused, before `send` returns; so a request waits for
//! nobody but the kernel itself.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with, sockopt,
};

/// A way to ask for something.
pub(super) struct Requests {
    socket: OwnedFd,
    serial: u32,
}

impl Requests {
    pub(super) fn open() -> io::Result<Requests> {
        let socket = open(0, SocketFlags::CLOEXEC)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Requests { socket, serial: 0 })
    }

    /// Has something done.
    pub(super) fn ask(&mut self, wanted: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.send(wanted, flags | NLM_F_ACK)?;
        self.answers(|_| {})
    }

    /// Every interface, then every address.
    pub(super) fn survey(&mut self, mut found: impl FnMut(RouteNetlinkMessage)) -> io::Result<()> {
        self.send(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)?;
        self.answers(&mut found)?;
        self.send(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)?;
        self.answers(&mut found)
    }

    fn send(&mut self, wanted: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.serial = self.serial.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.serial;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(wanted));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        send(&self.socket, &bytes, SendFlags::empty())?;
        Ok(())
    }

    fn answers(&self, mut found: impl FnMut(RouteNetlinkMessage)) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let (length, _) = recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty())?;
            for message in messages(&buffer[..length]) {
                if message.header.sequence_number != self.serial {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(message) => found(message),
                    _ => {}
                }
            }
        }
    }
}

/// What the kernel says unasked about interfaces and addresses.
pub(super) struct News {
    socket: OwnedFd,
}

impl News {
    pub(super) fn open() -> io::Result<News> {
        let socket = open(LINKS | ADDRESSES_V4 | ADDRESSES_V6, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        // So that a thousand interfaces that come at once lose nothing; without the right to it, the
        // usual buffer has to do.
        if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
        }
        Ok(News { socket })
    }

    /// Hands on what has come. Returns whether some was lost, so that all has to be asked for again.
    pub(super) fn read(&self, mut found: impl FnMut(RouteNetlinkMessage)) -> io::Result<Completeness> {
        let mut buffer = vec![0; BUFFER];
        loop {
            match recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((length, _)) => {
                    for message in messages(&buffer[..length]) {
                        if let NetlinkPayload::InnerMessage(message) = message.payload {
                            found(message);
                        }
                    }
                }
                Err(Errno::AGAIN) => return Ok(Completeness::Complete),
                Err(Errno::NOBUFS) => return Ok(Completeness::Lost),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Whether nothing is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completeness {
    Complete,
    Lost,
}

impl AsFd for News {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open(groups: u32, flags: SocketFlags) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// The messages in what was received. One that cannot be read is passed over: it says something that
/// this program does not know of.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = NetlinkMessage<RouteNetlinkMessage>> {
    std::iter::from_fn(move || {
        loop {
            let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
            if length < HEADER || length > bytes.len() {
                return None;
            }
            let message = NetlinkMessage::deserialize(&bytes[..length]);
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            if let Ok(message) = message {
                return Some(message);
            }
        }
    })
}

/// Groups of news, as `RTMGRP_*` has them.
const LINKS: u32 = 0x1;
const ADDRESSES_V4: u32 = 0x10;
const ADDRESSES_V6: u32 = 0x100;
/// Bytes of a message's header.
const HEADER: usize = 16;
/// The kernel fills as much at a time as is read with.
const BUFFER: usize = 64 * 1024;
const RECEIVE_BUFFER: usize = 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(2);
