//! Firewall marks: what belongs to a service that has no address (`ipvsadm -f MARK`).
//!
//! IPVS looks at the mark that a rule of the packet filter gave to a packet. A proxy sees no packets; it
//! has *entrances*, addresses that it listens on for services by mark, and there are two kinds:
//!
//! | an entrance | needs | serves |
//! |---|---|---|
//! | of one mark | nothing: being there says what the packet filter's rule would say | connections and datagrams |
//! | where packets' marks decide | rules that mark, and `net.ipv4.tcp_fwmark_accept=1` | connections |
//!
//! With that setting the kernel gives the socket of a connection the mark of the packet that began it.
//! All entrances of a mark are one service: its clients' templates, its counters and its scheduler's turns
//! are the same at each, which is what marks are used for. Its servers have port 0 as a rule, and are
//! connected to at the port that the client asked for.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use arc_swap::ArcSwap;
use lvs_core::{Family, Protocol, ServiceKey};
use socket2::SockRef;
use tokio::net::TcpStream;
use tracing::info;

use crate::connections::{Connections, Place};
use crate::proxy::{Proxy, Reception};
use crate::relay::reset_on_drop;

/// An address that services by firewall mark are reached at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entrance {
    /// What arrives there has this mark.
    OfMark {
        /// The mark.
        mark: NonZeroU32,
        /// What is spoken there.
        protocol: Protocol,
        /// Where to listen.
        address: SocketAddr,
    },
    /// Connections that arrive there have the mark that their packets have.
    OfPackets {
        /// Where to listen.
        address: SocketAddr,
    },
}

impl Entrance {
    /// Whether it may lead to this service.
    pub fn leads_to(&self, service: &ServiceKey) -> bool {
        let ServiceKey::Mark { mark: wanted, family } = service else { return false };
        let (is_marked, address) = match self {
            Entrance::OfMark { mark, address, .. } => (mark == wanted, address),
            Entrance::OfPackets { address } => (true, address),
        };
        is_marked && *family == Family::of(address.ip())
    }
}

/// Takes in the connections of an entrance where packets' marks decide.
#[derive(Clone)]
pub(crate) struct ByMark {
    address: SocketAddr,
    connections: Arc<Connections>,
    /// By mark. Written by changes of configuration; who reads it late finds a service that has just gone.
    proxies: Arc<ArcSwap<HashMap<u32, Proxy>>>,
}

impl ByMark {
    pub(crate) fn new(address: SocketAddr, connections: Arc<Connections>) -> ByMark {
        ByMark { address, connections, proxies: Arc::default() }
    }

    /// The proxies that there are, by mark.
    pub(crate) fn proxies(&self) -> Arc<HashMap<u32, Proxy>> {
        self.proxies.load_full()
    }

    /// Leads to these from now on.
    pub(crate) fn set_proxies(&self, proxies: HashMap<u32, Proxy>) {
        self.proxies.store(Arc::new(proxies));
    }
}

impl Reception for ByMark {
    type Place = Place;

    fn name(&self) -> impl fmt::Display {
        format!("marks at {}", self.address)
    }

    fn full(&self) -> Option<usize> {
        (!self.connections.has_room()).then(|| self.connections.max())
    }

    fn try_place(&self) -> Result<Place, usize> {
        self.connections.try_place().ok_or_else(|| self.connections.max())
    }

    fn place(&self) -> Place {
        self.connections.place()
    }

    fn take_in(&self, client: TcpStream, peer: SocketAddr, own: Option<SocketAddr>, place: Place) {
        // A socket that cannot be asked has lost its connection; without a mark it is reset.
        let mark = SockRef::from(&client).mark().unwrap_or(0);
        match self.proxies.load().get(&mark) {
            Some(proxy) => proxy.take_in_with(client, peer, own, place),
            None => {
                reset_on_drop(&client);
                let address = own.unwrap_or(self.address);
                info!(target: "connection", client = %peer, %address, mark, "refused: no service has its mark");
            }
        }
    }
}

/// Whether the kernel tells connections' marks; unknown where it cannot be asked.
pub(crate) fn are_marks_told() -> Option<bool> {
    let set = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_fwmark_accept").ok()?;
    Some(set.trim() != "0")
}
