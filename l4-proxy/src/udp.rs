//! The datagrams of one virtual service: received, scheduled, sent on, and the answers sent back.
//!
//! A *flow* is what comes from one client address and port: a lease, and a socket that is connected to
//! the server. So each flow has a port of its own towards its server, answers find their client by the
//! socket they come in on, and an ICMP error tells which server it is about.
//!
//! There is one task for all the flows of a service and worker, not one for each. Their sockets
//! are in an epoll set of the task's own, so a flow costs a descriptor and a slot in a table, one
//! wake-up takes in the answers of many flows, and these leave with one system call. Everything is
//! owned by the one task; nothing is shared or locked on the way of a datagram.
//!
//! | what may happen | what becomes of it |
//! |---|---|
//! | a flow is silent for the timeout | it ends; its client's next datagram begins another |
//! | no server can be chosen | the datagram is dropped and counted: a socket cannot send the ICMP error that IPVS sends |
//! | there are as many flows as there may be | the longest silent of those that no server has answered makes room; if all were answered, the new client's datagram is dropped and counted |
//! | the server's host says that nobody listens | a failure of the server; the flow is scheduled anew, elsewhere |
//! | the server is found down, or deleted with `expire_nodest_conn`, or its drain is over | the flow is scheduled anew with the next datagram: no client of UDP would know to begin again |
//!
//! Under one-packet scheduling (`-o`) every datagram is scheduled for itself and its lease ends at
//! once; what is kept is only the way back, a socket per client and server.

mod batch;
mod table;

use std::hash::Hash;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lvs_core::{Account, Director, Event, Lease, Picker, Protocol, Refusal, ServiceKey, Time};
use rustix::event::epoll;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with};
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use self::batch::{BATCH, Buffers, Offload, Received, Reply};
use self::table::{Place, Table};
use crate::clock;
use crate::connections::{self, Connections, Entry, Open};
use crate::proxy::cause;
use crate::relay::{Progress, coarse_millis};

/// Forwards the datagrams of one virtual service.
///
/// Like [`Proxy`](crate::Proxy) it owns no thread, no runtime and no signal. A clone is the same proxy.
#[derive(Clone)]
pub struct DatagramProxy {
    shared: Arc<Shared>,
}

struct Shared {
    director: Arc<Director>,
    service: ServiceKey,
    /// Milliseconds; may change while datagrams come in.
    timeout: AtomicU64,
    one_packet: AtomicBool,
    flows: Arc<Connections>,
    dropped: [AtomicU64; REASONS.len()],
}

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dropped {
    /// No server could be chosen for a new flow.
    Refused,
    /// There were as many flows as there may be.
    Full,
    /// The system did not take it: too large for the way, or the queue was full.
    Unsendable,
}

/// Whether new clients are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// They are.
    Serving,
    /// They are not; flows go on until they have been silent for a moment.
    Draining,
}

/// Whose datagrams go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    client: SocketAddr,
    /// The address it sent to, where the socket is bound to all of them.
    to: Option<IpAddr>,
    /// Under one-packet scheduling, the server as well.
    server: Option<SocketAddr>,
}

/// One flow.
struct Flow {
    key: Key,
    server: SocketAddr,
    socket: OwnedFd,
    claim: Claim,
    began: u64,
    /// Its server's host has said that nobody listens.
    failed: bool,
    _place: connections::Place,
}

/// What a flow has of its server.
enum Claim {
    Leased { lease: Lease, entry: Entry },
    /// The lease has ended; what moves is counted still.
    Counted(Account),
}

/// The flows of a service on one worker, and the socket that its clients send to.
struct Worker<'a> {
    shared: &'a Shared,
    socket: UdpSocket,
    address: SocketAddr,
    offload: Offload,
    /// The sockets of the flows, by place in the table.
    sockets: AsyncFd<OwnedFd>,
    flows: Table<Key, Flow>,
    picker: Picker,
    phase: Phase,
    /// What this worker dropped since it last said so, and the last refusal.
    unsaid: [u64; REASONS.len()],
    refusal: Option<Refusal>,
}

impl DatagramProxy {
    /// A proxy for one service of a director. Flows end after `timeout` of silence; they share their bound
    /// and their list with those of other proxies that were given the same `flows`.
    pub fn new(
        director: Arc<Director>,
        service: ServiceKey,
        timeout: Duration,
        flows: Arc<Connections>,
    ) -> DatagramProxy {
        let shared = Shared {
            director,
            service,
            timeout: AtomicU64::new(0),
            one_packet: AtomicBool::new(false),
            flows,
            dropped: Default::default(),
        };
        let proxy = DatagramProxy { shared: Arc::new(shared) };
        proxy.set_timeout(timeout);
        proxy
    }

    /// The service it forwards.
    pub fn service(&self) -> &ServiceKey {
        &self.shared.service
    }

    /// Changes the timeout, also of flows that are there.
    pub fn set_timeout(&self, timeout: Duration) {
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.shared.timeout.store(millis, Ordering::Relaxed);
    }

    /// Schedules every datagram by itself from now on, or no longer (`ipvsadm -o`).
    pub fn set_one_packet(&self, one_packet: bool) {
        self.shared.one_packet.store(one_packet, Ordering::Relaxed);
    }

    /// Datagrams that were dropped, by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (Dropped, u64)> {
        REASONS.into_iter().zip(&self.shared.dropped).map(|(why, count)| (why, count.load(Ordering::Relaxed)))
    }

    /// Forwards what comes in on `socket` until `shutdown` is done; then only what belongs to flows that
    /// are there, until they have been silent for three seconds.
    ///
    /// # Errors
    /// The socket is none for datagrams, or the system has no descriptor left.
    pub async fn serve(&self, socket: StdSocket, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let (phase, phases) = watch::channel(Phase::Serving);
        let ends = async {
            shutdown.await;
            let _ = phase.send(Phase::Draining);
            std::future::pending().await
        };
        tokio::select! {
            served = self.serve_phases(socket, phases) => served,
            () = ends => Ok(()),
        }
    }

    /// The same, and a drain may be called off.
    pub(crate) async fn serve_phases(
        &self,
        socket: StdSocket,
        mut phases: watch::Receiver<Phase>,
    ) -> io::Result<()> {
        let phase = *phases.borrow_and_update();
        let mut worker = Worker::new(&self.shared, socket, phase)?;
        let sockets = Arc::clone(&worker.sockets);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watched = true;
        while worker.phase == Phase::Serving || worker.flows.len() > 0 {
            tokio::select! {
                readable = worker.socket.readable() => {
                    readable?;
                    worker.pass_on();
                }
                answered = sockets.readable() => {
                    let mut answered = answered?;
                    if worker.answer() == Left::Nothing {
                        answered.clear_ready();
                    }
                }
                _ = ticks.tick(), if worker.is_restless() => {
                    if worker.tick() == Left::Something {
                        ticks.reset_immediately();
                    }
                }
                changed = phases.changed(), if watched => match changed {
                    Ok(()) => worker.phase = *phases.borrow_and_update(),
                    // Whoever could change the phase is gone, and with it the reason to serve.
                    Err(_) => (worker.phase, watched) = (Phase::Draining, false),
                },
            }
        }
        Ok(())
    }
}

/// Whether there is more to do at once.
#[derive(PartialEq, Eq)]
enum Left {
    Nothing,
    Something,
}

impl<'a> Worker<'a> {
    fn new(shared: &'a Shared, socket: StdSocket, phase: Phase) -> io::Result<Worker<'a>> {
        socket.set_nonblocking(true)?;
        let offload = Offload::new(&socket)?;
        let sockets = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Worker {
            shared,
            address: socket.local_addr()?,
            socket: UdpSocket::from_std(socket)?,
            offload,
            sockets: Arc::new(AsyncFd::with_interest(sockets, Interest::READABLE)?),
            flows: Table::new(),
            picker: shared.director.picker(&shared.service),
            phase,
            unsaid: Default::default(),
            refusal: None,
        })
    }

    /// Takes in one batch from clients and passes it on.
    fn pass_on(&mut self) {
        Buffers::with(|buffers| {
            let mut count = 0;
            let received = self.socket.try_io(Interest::READABLE, || {
                count = self.offload.receive(&self.socket, buffers, 0)?;
                // After a batch that is not full there is nothing more, which the system need not be asked.
                if count < BATCH { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            if let Err(error) = received
                && error.kind() != io::ErrorKind::WouldBlock
            {
                debug!(service = %self.shared.service, %error, "cannot receive");
            }
            let now = Moment::now();
            for index in 0..count {
                let meta = &buffers.metas[index];
                let key = Key { client: meta.addr, to: self.offload.sent_to(meta), server: None };
                let (bytes, stride) = (&buffers.slots[index][..meta.len], meta.stride);
                if self.shared.one_packet.load(Ordering::Relaxed) {
                    // A stride of nothing is an empty datagram.
                    for bytes in bytes.chunks(stride.max(1)) {
                        self.pass_alone(key, bytes, now);
                    }
                    if bytes.is_empty() {
                        self.pass_alone(key, bytes, now);
                    }
                } else {
                    self.pass(key, bytes, stride, now);
                }
            }
        });
    }

    /// Passes datagrams of one client on to its server.
    fn pass(&mut self, key: Key, bytes: &[u8], stride: usize, now: Moment) {
        let mut tried = None;
        let mut place = self.flows.find(&key);
        if let Some(stale) = place.filter(|place| self.is_stale(*place, now)) {
            tried = self.end(stale).map(|flow| flow.server);
            place = None;
        }
        for _ in 0..ATTEMPTS {
            let opened = place.or_else(|| self.open(key, tried, now));
            let Some(there) = opened else { return };
            let Some(flow) = self.flows.get_mut(there) else { return };
            match self.offload.send_on(&flow.socket, flow.server, bytes, stride) {
                Ok(()) => {
                    flow.claim.passed(bytes.len(), stride);
                    self.flows.client_heard(there, now.millis);
                    return;
                }
                Err(error) if is_of_server(&error) => {
                    // What was sent before has come back; this one has not left yet.
                    self.report(there, &error, now);
                    tried = self.end(there).map(|flow| flow.server);
                    place = None;
                }
                Err(_) => return self.drop_datagrams(Dropped::Unsendable, 1),
            }
        }
        self.drop_datagrams(Dropped::Unsendable, 1);
    }

    /// Schedules one datagram for itself and sends it on.
    fn pass_alone(&mut self, key: Key, bytes: &[u8], now: Moment) {
        let mut tried = None;
        for _ in 0..ATTEMPTS {
            let Some(lease) = self.schedule(key, tried, now) else { return };
            let key = Key { server: Some(lease.server()), ..key };
            let place = match self.flows.find(&key) {
                Some(place) => place,
                None => match self.connect(key, lease, now) {
                    Ok(Some(place)) => place,
                    Ok(None) => return,
                    Err(server) => {
                        tried = Some(server);
                        continue;
                    }
                },
            };
            let Some(flow) = self.flows.get_mut(place) else { return };
            match self.offload.send_on(&flow.socket, flow.server, bytes, bytes.len()) {
                Ok(()) => {
                    flow.claim.passed(bytes.len(), bytes.len());
                    self.flows.client_heard(place, now.millis);
                    return;
                }
                Err(error) if is_of_server(&error) => {
                    self.report(place, &error, now);
                    tried = self.end(place).map(|flow| flow.server);
                }
                Err(_) => return self.drop_datagrams(Dropped::Unsendable, 1),
            }
        }
        self.drop_datagrams(Dropped::Unsendable, 1);
    }
