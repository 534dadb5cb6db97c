//! The flows of a service on one worker, and the socket that its clients send to: what servers answer,
//! and how flows end. How they begin is in [`clients`].

mod clients;
mod succession;

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lvs_core::{Account, Event, Lease, Picker, Refusal, Time};
use rustix::event::{Timespec, epoll};
use tokio::net::UdpSocket;
use tokio::net::unix::pipe;
use tracing::{debug, info, warn};

pub(crate) use self::succession::{FlowRecord, Passing};
use super::batch::{BATCH, Buffers, Offload, Reply};
use super::table::{Place, Table};
use super::{Dropped, Phase, Shared, is_of_server};
use crate::clock;
use crate::connections::{self, Entry};
use crate::proxy::cause;
use crate::relay::coarse_millis;

/// A task's own: nothing here is shared or locked.
pub(super) struct Worker<'a> {
    shared: &'a Shared,
    /// Which of the service's sockets it has.
    index: usize,
    socket: UdpSocket,
    address: SocketAddr,
    offload: Offload,
    /// An epoll set of the flows' sockets, by place in the table. It is no pipe, but that is the type
    /// in which the runtime takes a descriptor that only becomes readable.
    sockets: Arc<pipe::Receiver>,
    flows: Table<Key, Flow>,
    picker: Picker,
    phase: Phase,
    /// What was dropped since it was last said, and the last refusal.
    unsaid: [u64; Dropped::ALL.len()],
    refusal: Option<Refusal>,
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
    /// Where its datagrams go: the server, at the client's port if it has none of its own.
    target: SocketAddr,
    /// Connected to the target.
    socket: OwnedFd,
    account: Account,
    /// Nothing under one-packet scheduling, where each datagram has a lease of its own.
    claim: Option<Claim>,
    /// What the server's host has said in place of an answer.
    failure: Option<io::Error>,
    /// Whether another process has it as well.
    passed: bool,
    _room: connections::Place,
}

/// What a flow has of its server, and its entry in the list of connections.
struct Claim {
    lease: Lease,
    entry: Entry,
    /// Milliseconds of the coarse clock.
    began: u64,
}

/// One moment on the clocks that are needed.
#[derive(Clone, Copy)]
struct Moment {
    time: Time,
    /// Of the coarse clock.
    millis: u64,
}

/// Whether there is more to do at once.
#[derive(PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    Something,
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        index: usize,
        socket: StdSocket,
        phase: Phase,
    ) -> io::Result<Worker<'a>> {
        socket.set_nonblocking(true)?;
        let offload = Offload::new(&socket)?;
        let sockets = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Worker {
            shared,
            index,
            address: socket.local_addr()?,
            socket: UdpSocket::from_std(socket)?,
            offload,
            sockets: Arc::new(pipe::Receiver::from_owned_fd_unchecked(sockets)?),
            flows: Table::new(),
            picker: shared.director.picker(&shared.service),
            phase,
            unsaid: Default::default(),
            refusal: None,
        })
    }

    /// What becomes readable when a server has answered.
    pub(super) fn sockets(&self) -> Arc<pipe::Receiver> {
        Arc::clone(&self.sockets)
    }

    /// Waits until a client has sent something.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Whether what clients send is this worker's to read.
    pub(super) fn reads(&self) -> bool {
        matches!(self.phase, Phase::Serving | Phase::Draining)
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether [`Worker::tick`] would find something to do sooner or later.
    pub(super) fn needs_ticks(&self) -> bool {
        self.flows.len() > 0 || self.unsaid != [0; Dropped::ALL.len()]
    }

    /// Takes in what servers have answered and sends it to the clients.
    pub(super) fn answer(&mut self) -> io::Result<Left> {
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; BATCH];
        let count = match epoll::wait(&*self.sockets, &mut events, Some(&AT_ONCE)) {
            Err(rustix::io::Errno::INTR) => return Ok(Left::Something),
            count => count?,
        };
        let mut left = if count < events.len() { Left::Nothing } else { Left::Something };
        Buffers::with(|buffers| {
            let now = Moment::now();
            let mut replies = Vec::with_capacity(BATCH);
            for event in &events[..count] {
                if replies.len() == BATCH {
                    // The kernel tells of the others again.
                    left = Left::Something;
                    break;
                }
                self.collect(Place::from_bits(event.data.u64()), buffers, &mut replies, now);
                if replies.len() == BATCH {
                    left = Left::Something;
                }
            }
            let unsent = self.offload.reply(&self.socket, buffers, &replies);
            if unsent > 0 {
                self.count_dropped(Dropped::Unsendable, unsent as u64);
            }
        });
        Ok(left)
    }

    /// Receives a flow's answers into the buffers that are free.
    fn collect(&mut self, there: Place, buffers: &mut Buffers<'_>, replies: &mut Vec<Reply>, now: Moment) {
        let Some(flow) = self.flows.get_mut(there) else { return };
        let first = replies.len();
        match self.offload.receive(&flow.socket, buffers, first) {
            Ok(count) => {
                let mut bytes = 0;
                for buffer in first..first + count {
                    let len = buffers.metas[buffer].len;
                    replies.push(Reply { client: flow.key.client, from: flow.key.to, buffer, len });
                    bytes += len as u64;
                }
                flow.account.count_to_client(count as u64, bytes);
                if let Some(claim) = &flow.claim {
                    claim.entry.open.progress.moved_to_client(bytes);
                }
                if self.flows.server_heard(there, now.millis)
                    && let Some(Flow { claim: Some(claim), .. }) = self.flows.get_mut(there)
                {
                    self.shared.director.report(&claim.lease, Event::Succeeded, now.time);
                }
            }
            Err(error) if is_of_server(&error) => {
                self.report_failure(there, &error, now);
                if let Some(flow) = self.flows.get_mut(there) {
                    flow.failure = Some(error);
                }
            }
            Err(_) => {}
        }
    }

    /// Ends flows that have run out, a part of them at a time, and says what was dropped.
    pub(super) fn tick(&mut self) -> Left {
        self.say_dropped();
        let timeout = Duration::from_millis(self.shared.timeout.load(Ordering::Relaxed));
        let silence = match self.phase {
            Phase::Serving | Phase::Paused => timeout,
            Phase::Draining | Phase::Answering | Phase::Ended => timeout.min(DRAIN_SILENCE),
        };
        let now = coarse_millis();
        for _ in 0..ENDED_AT_ONCE {
            match self.flows.expire(now, silence) {
                Some(flow) => self.shared.ended(&flow, "timed out"),
                None => return Left::Nothing,
            }
        }
        Left::Something
    }

    fn say_dropped(&mut self) {
        let unsaid = std::mem::take(&mut self.unsaid);
        let service = &self.shared.service;
        for (why, datagrams) in Dropped::ALL.into_iter().zip(unsaid).filter(|(_, count)| *count > 0) {
            match (why, self.refusal.take()) {
                (Dropped::Refused, Some(refusal)) => warn!(%service, datagrams, "dropped: {refusal}"),
                (Dropped::Refused, None) => warn!(%service, datagrams, "dropped: no server could be reached"),
                (Dropped::Full, _) => {
                    warn!(%service, datagrams, max = self.shared.flows.max(), "dropped: no room for more flows");
                }
                (Dropped::Unsendable, _) => warn!(%service, datagrams, "dropped: could not be sent"),
                (Dropped::Elsewhere, _) => {
                    info!(%service, datagrams, "dropped: the address may be another director's");
                }
            }
        }
    }

    fn count_dropped(&mut self, why: Dropped, datagrams: u64) {
        self.unsaid[why as usize] += datagrams;
        self.shared.dropped[why as usize].fetch_add(datagrams, Ordering::Relaxed);
    }

    fn report_failure(&mut self, there: Place, error: &io::Error, now: Moment) {
        if let Some(Flow { claim: Some(claim), failure: None, .. }) = self.flows.get_mut(there) {
            self.shared.report_failure(&claim.lease, error, now);
        }
    }

    fn end(&mut self, there: Place, why: &str) {
        if let Some(flow) = self.flows.remove(there) {
            self.shared.ended(&flow, why);
        }
    }

    fn flow(&self, key: Key) -> lvs_core::Flow {
        lvs_core::Flow::new(key.client).to(self.sent_to(key))
    }

    fn sent_to(&self, key: Key) -> SocketAddr {
        key.to.map_or(self.address, |ip| SocketAddr::new(ip, self.address.port()))
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        self.say_dropped();
        while let Some(flow) = self.flows.pop() {
            self.shared.ended(&flow, "cut");
        }
    }
}

impl Flow {
    /// Whether it had better begin anew, at another server.
    fn is_stale(&self, now: Moment) -> bool {
        let gone = |lease: &Lease| lease.is_cut_off() || lease.is_down() || lease.is_overdue(now.time);
        self.failure.is_some() || self.claim.as_ref().is_some_and(|claim| gone(&claim.lease))
    }
}

impl Shared {
    fn report_failure(&self, lease: &Lease, error: &io::Error, now: Moment) {
        let (service, server) = (&self.service, lease.server());
        debug!(%service, %server, %error, "cannot reach");
        if let Some(transition) = self.director.report(lease, Event::ConnectFailed(cause(error)), now.time) {
            warn!(%service, %server, "server is {}", transition.condition);
        }
    }

    /// Takes in that a flow is no longer in the table, and why.
    fn ended(&self, flow: &Flow, why: &str) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        let Some(claim) = &flow.claim else { return };
        let (service, client, server) = (&self.service, flow.key.client, flow.server);
        let progress = &claim.entry.open.progress;
        let (to_server, to_client) = (progress.bytes_to_server(), progress.bytes_to_client());
        let ms = coarse_millis().saturating_sub(claim.began);
        debug!(target: "connection", %client, %service, %server, to_server, to_client, ms, "{why}");
    }
}

impl Moment {
    fn now() -> Moment {
        Moment { time: clock::now(), millis: coarse_millis() }
    }
}

/// How long a flow must have been silent to be over when its service drains.
const DRAIN_SILENCE: Duration = Duration::from_secs(3);

/// Flows that are ended before others have their turn: some milliseconds, since each closes a socket.
const ENDED_AT_ONCE: usize = 256;

const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
