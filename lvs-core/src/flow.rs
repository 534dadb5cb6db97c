//! What a decision may know about a client's connection or request.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The client side of one connection or request.
///
/// A packet director reads these fields off the first packet; a proxy off the accepted socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    client: SocketAddr,
    destination: Option<SocketAddr>,
}

impl Flow {
    /// A flow from this client address and port.
    pub fn new(client: SocketAddr) -> Flow {
        Flow { client, destination: None }
    }

    /// The same flow, sent to this address: what destination hashing and the locality schedulers
    /// look at behind a firewall-mark service.
    #[must_use]
    pub fn to(self, destination: SocketAddr) -> Flow {
        Flow { destination: Some(destination), ..self }
    }

    /// Address and port of the client (CIP).
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Address that the client sent to, where the caller told it.
    pub fn destination(&self) -> Option<SocketAddr> {
        self.destination
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
