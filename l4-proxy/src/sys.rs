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

fn set(socket: impl AsFd, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    let (address, length) = ((&raw const value).cast(), size_of::<c_int>() as libc::socklen_t);
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open, since it is borrowed; the address and length are those of
    // `value`, which outlives the call, and the kernel only reads it.
    let result = unsafe { libc::setsockopt(socket, level, option, address, length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
