//! What a decision may know about a client's connection or request.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::scheduler::Key;

/// The client side of one connection or request.
///
/// A packet director reads these fields off the first packet; a proxy off the accepted socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    client: SocketAddr,
    destination: Option<SocketAddr>,
    key: Option<Key>,
    draws: Option<[u64; 2]>,
}

impl Flow {
    /// A flow from this client address and port.
    pub fn new(client: SocketAddr) -> Flow {
        Flow { client, destination: None, key: None, draws: None }
    }

    /// The same flow, sent to this address: what destination hashing and the locality schedulers
    /// look at behind a firewall-mark service.
    #[must_use]
    pub fn to(self, destination: SocketAddr) -> Flow {
        Flow { destination: Some(destination), ..self }
    }

    /// The same flow, to be hashed by these bytes instead of the client's address: a URI, a session
    /// identifier, what nginx's `hash` is given. Only a digest of them is kept.
    #[must_use]
    pub fn key(self, bytes: &[u8]) -> Flow {
        Flow { key: Some(Key::new(bytes)), ..self }
    }

    /// The same flow, for which `twos` draws these numbers, each modulo the total of the weights plus
    /// one, as a replayed recording of the kernel's needs it.
    #[doc(hidden)]
    #[must_use]
    pub fn draws(self, first: u64, second: u64) -> Flow {
        Flow { draws: Some([first, second]), ..self }
    }

    /// Address and port of the client (CIP).
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Address that the client sent to, where the caller told it.
    pub fn destination(&self) -> Option<SocketAddr> {
        self.destination
    }

    /// What a scheduler that spreads by key hashes: the key that was given, else the client's
    /// address.
    pub fn hash_key(&self) -> Key {
        self.key.unwrap_or_else(|| Key::of_address(self.client.ip()))
    }

    pub(crate) fn forced_draws(&self) -> Option<[u64; 2]> {
        self.draws
    }
}

/// An address as one number in which IPv4 and its IPv6-mapped form are the same client.
///
/// A listener on `[::]` reports IPv4 clients as `::ffff:a.b.c.d`; persistence and hashing must
/// not send them elsewhere than a listener on `0.0.0.0` would.
pub(crate) fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => mapped_to_v4(v6).map_or(address, IpAddr::V4),
    }
}

fn mapped_to_v4(v6: Ipv6Addr) -> Option<std::net::Ipv4Addr> {
    v6.to_ipv4_mapped()
}
