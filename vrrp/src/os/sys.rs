//! What no crate wraps safely: frames out of a packet socket, datagrams with what the kernel says about
//! them, and the class of a thread.

#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use socket2::SockAddr;

/// Sends a whole frame out of an interface, through a packet socket.
pub(super) fn send_frame(socket: impl AsFd, interface: u32, frame: &[u8]) -> io::Result<()> {
    // SAFETY: all fields of a `sockaddr_ll` are integers, for which zero is a value.
    let mut to: libc::sockaddr_ll = unsafe { zeroed() };
    to.sll_family = libc::AF_PACKET as libc::c_ushort;
    to.sll_ifindex = interface.cast_signed();
    let (address, length) = ((&raw const to).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t);
    let (bytes, size) = (frame.as_ptr().cast(), frame.len());
    // SAFETY: the descriptor is open, since it is borrowed; both pointers go with the lengths of what
    // they point at, which outlives the call, and the kernel only reads it.
    let sent = unsafe { libc::sendto(socket.as_fd().as_raw_fd(), bytes, size, 0, address, length) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives a whole frame from a packet socket. Returns how long it is and which interface it came in on.
pub(super) fn receive_frame(socket: impl AsFd, frame: &mut [u8]) -> io::Result<(usize, u32)> {
    // SAFETY: all fields of a `sockaddr_ll` are integers, for which zero is a value.
    let mut from: libc::sockaddr_ll = unsafe { zeroed() };
    let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    let (address, bytes, size) = ((&raw mut from).cast(), frame.as_mut_ptr().cast(), frame.len());
    // SAFETY: the descriptor is open, since it is borrowed; both pointers go with the lengths of what
    // they point at, which outlives the call and is nobody else's meanwhile.
    let got = unsafe { libc::recvfrom(socket.as_fd().as_raw_fd(), bytes, size, 0, address, &raw mut length) };
    let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    Ok((got, from.sll_ifindex.cast_unsigned()))
}

/// What a datagram came with.
pub(super) struct Arrival {
    /// Its bytes.
    pub(super) length: usize,
    /// Who sent it.
    pub(super) from: IpAddr,
    /// Bytes of control messages.
    pub(super) control: usize,
}

/// Receives one datagram and its control messages.
pub(super) fn receive(socket: impl AsFd, bytes: &mut [u8], control: &mut [u8]) -> io::Result<Arrival> {
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut received = (Ok(0), 0);
    // SAFETY: the closure writes an address no longer than the storage, and its length, as the kernel
    // reports both; it fails otherwise.
    let ((), from) = unsafe {
        SockAddr::try_init(|storage, length| {
            let mut message: libc::msghdr = zeroed();
            message.msg_name = storage.cast();
            message.msg_namelen = *length;
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = control.len();
            // The descriptor is open, since it is borrowed; every pointer goes with the length of what
            // it points at, which outlives the call and is nobody else's meanwhile.
            let got = libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, 0);
            received = (usize::try_from(got).map_err(|_| io::Error::last_os_error()), message.msg_controllen);
            *length = message.msg_namelen;
            if got < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        })
    }?;
    let from = from.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?.ip();
    Ok(Arrival { length: received.0?, from, control: received.1 })
}

/// Puts the calling thread into the round-robin class, ahead of all that are in none; what it starts is
/// not in it.
pub(super) fn run_first(priority: u8) -> io::Result<()> {
    // SAFETY: all fields are integers, for which zero is a value.
    let mut wanted: libc::sched_param = unsafe { zeroed() };
    wanted.sched_priority = priority.into();
    // SAFETY: the structure outlives the call, and the kernel only reads it; 0 is the calling thread.
    let result =
        unsafe { libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &raw const wanted) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
