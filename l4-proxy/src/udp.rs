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
//! | a service keeps calls together (`--pe sip`), and the datagram that would begin a flow names none | it is dropped and counted, as by IPVS |
//! | there are as many flows as there may be | the longest silent of those that no server has answered makes room; if all were answered, the new client's datagram is dropped and counted |
//! | the server's host says that nobody listens | a failure of the server; the flow is scheduled anew, elsewhere |
//! | the server is found down, or deleted with `expire_nodest_conn`, or its drain is over | the flow is scheduled anew with the next datagram: no client of UDP would know to begin again |
//!
//! Under one-packet scheduling (`-o`) every datagram is scheduled for itself and its lease ends at
//! once; what is kept is only the way back, a socket per client and server.

mod batch;
mod port;
mod sip;
mod table;
mod worker;

use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lvs_core::{Director, ServiceKey};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

pub use self::port::{Datagram, More, Port};
pub(crate) use self::worker::{FlowRecord, Passing};
use self::worker::{Left, Worker};
use crate::connections::Connections;

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
    /// Flows of this service. Written by its workers.
    open: AtomicUsize,
    /// By reason, in the order of [`Dropped::ALL`].
    dropped: [AtomicU64; Dropped::ALL.len()],
    /// Where each worker sends its flows when it pauses, for another process to go on with.
    heir: Mutex<Option<Heir>>,
}

/// Takes the flows of a worker, with the number of its socket.
type Heir = Sender<(usize, Vec<Passing>)>;

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dropped {
    /// No server could be chosen, or none of those tried could be reached.
    Refused,
    /// There were as many flows as there may be.
    Full,
    /// The system did not take it: it was too large for the way, or a queue was full.
    Unsendable,
    /// The virtual address may be another director's by now.
    Elsewhere,
}

/// Whether new clients are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// They are.
    Serving,
    /// Nothing is read for a moment, and nothing ends.
    Paused,
    /// They are not; flows go on until they have been silent for a moment.
    Draining,
    /// Another process reads the socket; answers to what was passed on still go back.
    Answering,
    /// Nothing is taken any more.
    Ended,
}

impl DatagramProxy {
    /// A proxy for one service of a director. Flows end after `timeout` of silence; they share their
    /// bound and their list with those of other proxies that were given the same `flows`.
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
            open: AtomicUsize::new(0),
            dropped: Default::default(),
            heir: Mutex::default(),
        };
        let proxy = DatagramProxy { shared: Arc::new(shared) };
        proxy.set_timeout(timeout);
        proxy
    }

    /// The service it forwards.
    pub fn service(&self) -> &ServiceKey {
        &self.shared.service
    }

    /// Its flows, and those of the proxies it shares the list with.
    pub fn flows(&self) -> &Arc<Connections> {
        &self.shared.flows
    }

    /// Changes the timeout, also of flows that are there.
    pub fn set_timeout(&self, timeout: Duration) {
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.shared.timeout.store(millis, Ordering::Relaxed);
    }

    /// Schedules every datagram by itself from now on, or no longer (`ipvsadm -o`).
    pub fn set_scheduling(&self, scheduling: Scheduling) {
        let one_packet = scheduling == Scheduling::OnePacket;
        self.shared.one_packet.store(one_packet, Ordering::Relaxed);
    }

    /// How many datagrams were dropped, by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (Dropped, u64)> {
        let counts = self.shared.dropped.iter().map(|count| count.load(Ordering::Relaxed));
        Dropped::ALL.into_iter().zip(counts)
    }

    /// Forwards what comes in on `socket` until `shutdown` is done; then only what belongs to flows that
    /// are there, until each has been silent for three seconds.
    ///
    /// # Errors
    /// The system has no descriptor left, or takes back the socket.
    pub async fn serve(&self, socket: UdpSocket, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let (phase, phases) = watch::channel(Phase::Serving);
        let ends = async {
            shutdown.await;
            let _ = phase.send(Phase::Draining);
            while self.open() > 0 {
                sleep(DRAIN_POLL).await;
            }
        };
        tokio::select! {
            served = self.serve_phases((0, socket), Vec::new(), phases) => served,
            () = ends => Ok(()),
        }
    }

    /// How many flows this service has.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Has each worker that pauses send its flows, with the number of its socket.
    pub(crate) fn ask_for_flows(&self) -> Receiver<(usize, Vec<Passing>)> {
        let (heir, flows) = channel();
        *self.shared.heir.lock().unwrap_or_else(PoisonError::into_inner) = Some(heir);
        flows
    }

    /// The same, in phases, which may be called off, on the socket of this number and with flows that
    /// another process began there.
    pub(crate) async fn serve_phases(
        &self,
        (index, socket): (usize, UdpSocket),
        flows: Vec<Passing>,
        mut phases: watch::Receiver<Phase>,
    ) -> io::Result<()> {
        let mut worker = Worker::new(&self.shared, index, socket, *phases.borrow_and_update())?;
        worker.take_up(flows);
        let sockets = worker.sockets();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while worker.phase() != Phase::Ended {
            tokio::select! {
                readable = worker.readable(), if worker.reads() => {
                    readable?;
                    worker.pass_on();
                }
                answered = sockets.readable() => {
                    answered?;
                    let answer = || match worker.answer()? {
                        Left::Something => Ok(()),
                        Left::Nothing => Err(io::ErrorKind::WouldBlock.into()),
                    };
                    match sockets.try_io(answer) {
                        Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                        _ => {}
                    }
                }
                _ = ticks.tick(), if worker.needs_ticks() => {
                    if worker.tick() == Left::Something {
                        ticks.reset_immediately();
                    }
                }
                changed = phases.changed() => match changed {
                    Ok(()) => worker.enter(*phases.borrow_and_update()),
                    // Whoever could change the phase is gone, and with it the reason to serve.
                    Err(_) => return Ok(()),
                },
            }
        }
        Ok(())
    }
}

/// What is scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduling {
    /// A client's first datagram; those that follow go to the same server.
    Flow,
    /// Every datagram by itself.
    OnePacket,
}

impl Dropped {
    /// Every reason there is.
    pub const ALL: [Dropped; 4] = [Dropped::Refused, Dropped::Full, Dropped::Unsendable, Dropped::Elsewhere];

    /// The reason in one word, as metrics label it.
    pub fn name(self) -> &'static str {
        match self {
            Dropped::Refused => "refused",
            Dropped::Full => "full",
            Dropped::Unsendable => "unsendable",
            Dropped::Elsewhere => "elsewhere",
        }
    }
}

/// Whether an error says that a server, or the way to it, is not there (ICMP, or the routing table).
pub fn is_of_server(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    )
}

/// How often flows are looked at that have run out.
const TICK: Duration = Duration::from_secs(1);

const DRAIN_POLL: Duration = Duration::from_millis(50);
