//! Names that one process at a time has, until it ends, however it does.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// A socket with a name: the kernel gives a name once, and takes it back. What it counts for is the network
/// namespace.
pub(crate) struct Claim(#[expect(dead_code, reason = "it is there to be held")] UnixDatagram);

impl Claim {
    /// A name, unless somebody has it, which must be short.
    pub(crate) fn on(name: &str) -> Option<Claim> {
        let name = SocketAddr::from_abstract_name(name).expect("a short name");
        UnixDatagram::bind_addr(&name).ok().map(Claim)
    }
}
