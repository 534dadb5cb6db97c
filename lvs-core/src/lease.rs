//! The claim of one connection or request on a real server.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::ServiceKey;
use crate::flow::Flow;
use crate::occupancy::Kind;
use crate::persistence::{Network, Tie};
use crate::server::{DOWN, Handle, Live, REMOVED};
use crate::time::Time;

/// One connection's or request's place on a real server: counted once when it is taken, given back
/// once when it is dropped, whatever became of the connection.
///
/// Hold it as long as the server works for the client: a tunnel to its end, a response to the last
/// byte of its body. It holds on to nothing but counters, so it outlives reloads, and the removal
/// of its server.
///
/// Dropping a lease says nothing about health: a client that gave up counts neither for nor against
/// the server. What did is said with [`Director::report`](crate::Director::report).
#[must_use = "dropping the lease gives the place back"]
pub struct Lease {
    /// The reference is the count: see [`Handle`](crate::server::Handle).
    live: Arc<Live>,
    /// Whose template it is under, if it is under one; apart, since together they take more room.
    network: Network,
    template: Option<NonZeroU32>,
    /// Counted as inactive since it was taken.
    closing: AtomicBool,
}

/// Counts what moves at a lease's server, also when the lease has ended: the answer to a datagram that
/// was scheduled by itself. It takes no place there.
#[derive(Clone)]
pub struct Account {
    live: Handle,
}

impl Account {
    /// Adds to the counts of what went from the client to the server.
    pub fn count_to_server(&self, packets: u64, bytes: u64) {
        self.live.packets_in.add(packets);
        self.live.bytes_in.add(bytes);
    }

    /// Adds to the counts of what went from the server to the client.
    pub fn count_to_client(&self, packets: u64, bytes: u64) {
        self.live.packets_out.add(packets);
        self.live.bytes_out.add(bytes);
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("server", &self.live.address).finish()
    }
}

impl Lease {
    /// The caller has counted the connection at its server, and under its template.
    pub(crate) fn new(live: Arc<Live>, tie: Option<Tie>) -> Lease {
        let (network, template) = tie.map_or(((0, 0), None), |tie| (tie.network, Some(tie.number)));
        Lease { live, network, template, closing: AtomicBool::new(false) }
    }

    fn tie(&self) -> Option<Tie> {
        self.template.map(|number| Tie { network: self.network, number })
    }

    /// Address of the real server.
    pub fn server(&self) -> SocketAddr {
        self.live.address
    }

    /// Where to connect for this flow: the server's address; and where the server has port 0, as
    /// those of port-0 and firewall-mark services have, the port that the client asked for.
    pub fn target(&self, flow: &Flow) -> SocketAddr {
        let mut server = self.live.address;
        if let (0, Some(destination)) = (server.port(), flow.destination()) {
            server.set_port(destination.port());
        }
        server
    }

    /// Whether the server was deleted and the service wants such connections cut off
    /// ([`ServiceConfig::expire_nodest_conn`](crate::ServiceConfig)). A proxy asks between two
    /// pieces of its work.
    pub fn is_cut_off(&self) -> bool {
        self.live.standing() & REMOVED != 0 && self.live.service.expires_nodest_conn()
    }

    /// Whether the server is none of its service any more. Connections stay; who can begin anew without
    /// its client may want to.
    pub fn is_removed(&self) -> bool {
        self.live.standing() & REMOVED != 0
    }

    /// Whether its server drains and the deadline has come ([`Director::drain`](crate::Director::drain)).
    pub fn is_overdue(&self, now: Time) -> bool {
        self.live.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Whether probes have found its server down since. A proxy that can begin anew without its client,
    /// as one of datagrams can, asks between two pieces of its work.
    pub fn is_down(&self) -> bool {
        self.live.standing() & DOWN != 0
    }

    /// Counts what moves at the server for as long as it is needed.
    pub fn account(&self) -> Account {
        Account { live: Handle::of(&self.live) }
    }

    /// The service it was scheduled for.
    pub fn service(&self) -> &ServiceKey {
        &self.live.service.key
    }

    /// Whether persistence decided, not the scheduler.
    pub fn is_persistent(&self) -> bool {
        self.template.is_some()
    }

    /// Counts the connection as inactive from now on: one side has ended its half. IPVS counts
    /// connections past ESTABLISHED the same way.
    pub fn closing(&self) {
        if self.live.occupancy.kind() == Kind::Active && !self.closing.swap(true, Ordering::Relaxed) {
            self.live.occupancy.deactivate();
        }
    }

    /// Counts a closing connection as active again: its client began anew from the same port, and
    /// IPVS lets the entry live on unless it was about to leave the table (`conn_reuse_mode`).
    pub fn reopened(&self) {
        if self.closing.swap(false, Ordering::Relaxed) {
            self.live.occupancy.reactivate();
        }
    }

    /// Adds to the count of bytes that went from the client to the server.
    pub fn count_to_server(&self, bytes: u64) {
        self.live.bytes_in.add(bytes);
    }

    /// Adds to the count of bytes that went from the server to the client.
    pub fn count_to_client(&self, bytes: u64) {
        self.live.bytes_out.add(bytes);
    }

    /// Adds to the count of packets that went from the client to the server, where packets are seen.
    pub fn count_packets_to_server(&self, packets: u64) {
        self.live.packets_in.add(packets);
    }

    /// Adds to the count of packets that went from the server to the client, where packets are seen.
    pub fn count_packets_to_client(&self, packets: u64) {
        self.live.packets_out.add(packets);
    }

    /// The server was reached.
    pub(crate) fn assure(&self) {
        if let Some(tie) = self.tie() {
            self.live.service.templates.assure(tie);
        }
    }

    pub(crate) fn live(&self) -> &Live {
        &self.live
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if *self.closing.get_mut() {
            self.live.occupancy.reactivate();
        }
        if let Some(tie) = self.tie() {
            self.live.service.templates.release(tie);
        }
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("service", self.service())
            .field("server", &self.server())
            .field("persistent", &self.is_persistent())
            .finish()
    }
}
