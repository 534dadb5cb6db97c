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
    let value = c_int::try_from(bytes).unwrap_or(c_int::MAX);
    let (address, length) = ((&raw const value).cast(), size_of::<c_int>() as libc::socklen_t);
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open, since it is borrowed; the address and length are those of
    // `value`, which outlives the call, and the kernel only reads it.
    let result = unsafe { libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, address, length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
