//! What no crate wraps safely.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has the runtime watch for a descriptor to become readable.
pub(crate) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is open, and `OwnedFd` neither closes nor replaces it before it is
    // dropped, which `AsyncFd` does after it has deregistered it.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}

/// Sets how many bytes must have come before a reader of the socket is woken (`SO_RCVLOWAT`).
pub(crate) fn set_receive_low_water(socket: impl AsFd, bytes: usize) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, c_int::try_from(bytes).unwrap_or(c_int::MAX))
}

/// Has `bind` leave the port open until `connect` (`IP_BIND_ADDRESS_NO_PORT`, for IPv6 as well).
pub(crate) fn set_bind_address_no_port(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// Packets that came in on a TCP connection and that went out, as far as the kernel has counted
/// (`tcpi_segs_in`, `tcpi_segs_out` of `TCP_INFO`, which wrap); none on a kernel before Linux 4.2.
pub(crate) fn segments(socket: impl AsFd) -> Option<(u32, u32)> {
    let info = tcp_info::<{ SEGMENTS_IN + 1 }>(socket)?;
    Some((info[SEGMENTS_IN], info[SEGMENTS_OUT]))
}

/// The first words of 32 bits of what the kernel knows of a TCP connection (`struct tcp_info` of
/// `linux/tcp.h`); none on a kernel that knows less, and of a socket that is no such connection.
pub(crate) fn tcp_info<const WORDS: usize>(socket: impl AsFd) -> Option<[u32; WORDS]> {
    let mut info = [0_u32; WORDS];
    let mut length = size_of_val(&info) as libc::socklen_t;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open, since it is borrowed; the address and length are those of `info`,
    // which outlives the call. The kernel writes at most that much, and any bits make numbers.
    let result = unsafe {
        let address = (&raw mut info).cast();
        libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, address, &raw mut length)
    };
    let whole = result == 0 && length as usize == size_of_val(&info);
    whole.then_some(info)
}

/// Where they are in `struct tcp_info` (`linux/tcp.h`), in words of 32 bits.
const SEGMENTS_OUT: usize = 34;
const SEGMENTS_IN: usize = 35;

fn set(socket: impl AsFd, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    let (address, length) = ((&raw const value).cast(), size_of::<c_int>() as libc::socklen_t);
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open, since it is borrowed; the address and length are those of
    // `value`, which outlives the call, and the kernel only reads it.
    let result = unsafe { libc::setsockopt(socket, level, option, address, length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
