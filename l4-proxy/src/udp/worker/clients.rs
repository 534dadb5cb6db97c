//! From clients to servers: datagrams are received, scheduled, and sent on in flows that begin here.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lvs_core::{Lease, PersistenceEngine, Protocol};
use rustix::event::epoll;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
use tokio::io::Interest;
use tracing::debug;

use super::{Claim, Flow, Key, Moment, Worker};
use crate::connections::{self, Call, Open};
use crate::relay::Progress;
use crate::udp::batch::{BATCH, Buffers};
use crate::udp::table::Place;
use crate::udp::{Dropped, Phase, is_of_server, sip};

/// Datagrams of one client that go on together.
#[derive(Clone, Copy)]
struct Datagrams<'a> {
    bytes: &'a [u8],
    /// Size of each but the last.
    stride: usize,
}

/// Why a datagram did not go to a server.
pub(super) enum Stopped {
    /// This server cannot be reached.
    ByServer(SocketAddr, io::Error),
    /// For a reason that another server would not change.
    Here(Dropped),
}

impl Worker<'_> {
    /// Takes in one batch from clients and passes it on.
    pub(in crate::udp) fn pass_on(&mut self) {
        Buffers::with(|buffers| {
            let mut count = 0;
            let received = self.socket.try_io(Interest::READABLE, || {
                count = self.offload.receive(&self.socket, buffers, 0)?;
                // After a batch that is not full there is nothing more: the kernel need not be asked.
                if count < BATCH { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            if let Err(error) = received
                && error.kind() != io::ErrorKind::WouldBlock
            {
                debug!(service = %self.shared.service, %error, "cannot receive");
            }
            let now = Moment::now();
            let one_packet = self.shared.one_packet.load(Ordering::Relaxed);
            for (buffer, meta) in buffers.slots.iter().zip(&*buffers.metas).take(count) {
                let key = Key { client: meta.addr, to: self.offload.sent_to(meta), server: None };
                let joined = Datagrams { bytes: &buffer[..meta.len], stride: meta.stride };
                let outcome = if !self.shared.flows.may_serve(self.sent_to(key).ip()) {
                    Err(Dropped::Elsewhere)
                } else if one_packet {
                    joined.apart().try_for_each(|alone| self.pass_alone(key, alone, now))
                } else {
                    self.pass(key, joined, now)
                };
                if let Err(dropped) = outcome {
                    self.count_dropped(dropped, joined.count());
                }
            }
        });
    }

    /// Passes datagrams of one client on to its server, which is chosen if it has none.
    fn pass(&mut self, key: Key, datagrams: Datagrams<'_>, now: Moment) -> Result<(), Dropped> {
        let mut tried = Vec::new();
        let mut place = self.flows.find(&key);
        if let Some(there) = place
            && let Some(flow) = self.flows.get_mut(there)
            && flow.is_stale(now)
        {
            tried.push(flow.server);
            self.end(there, "moved");
            place = None;
        }
        for _ in 0..ATTEMPTS {
            let sent = match place.take() {
                Some(there) => self.send(there, datagrams, now),
                None => {
                    // Nobody is scheduled, counted and given a template who cannot be served.
                    if !self.shared.flows.has_room() && !self.flows.has_unanswered() {
                        return Err(Dropped::Full);
                    }
                    let lease = self.schedule(key, datagrams, &tried, now)?;
                    let opened = self.open(key, lease, now);
                    opened.and_then(|there| self.send(there, datagrams, now))
                }
            };
            match sent {
                Ok(()) => return Ok(()),
                Err(Stopped::Here(dropped)) => return Err(dropped),
                // The error is of what was sent before; this datagram has not left yet.
                Err(Stopped::ByServer(server, error)) => {
                    if let Some(there) = self.flows.find(&key) {
                        self.report_failure(there, &error, now);
                        self.end(there, "server failed");
                    }
                    tried.push(server);
                }
            }
        }
        Err(Dropped::Refused)
    }

    /// Schedules one datagram by itself and passes it on; the lease ends with that.
    fn pass_alone(&mut self, key: Key, datagram: Datagrams<'_>, now: Moment) -> Result<(), Dropped> {
        let mut tried = Vec::new();
        for _ in 0..ATTEMPTS {
            // Without asking for room first, as a flow does: only a server says whether there is a way back
            // already. A datagram that finds no room has had its turn and is counted.
            let lease = self.schedule(key, datagram, &tried, now)?;
            let server = lease.server();
            let key = Key { server: Some(server), ..key };
            let failure = self.flows.find(&key).and_then(|there| self.flows.get_mut(there)?.failure.take());
            let sent = match (failure, self.flows.find(&key)) {
                (Some(error), _) => Err(Stopped::ByServer(server, error)),
                (None, Some(there)) => self.send(there, datagram, now),
                (None, None) => {
                    let opened = self.open_way_back(key, &lease, now);
                    opened.and_then(|there| self.send(there, datagram, now))
                }
            };
            match sent {
                Ok(()) => return Ok(()),
                Err(Stopped::Here(dropped)) => return Err(dropped),
                Err(Stopped::ByServer(server, error)) => {
                    self.shared.report_failure(&lease, &error, now);
                    if let Some(there) = self.flows.find(&key) {
                        self.end(there, "server failed");
                    }
                    tried.push(server);
                }
            }
        }
        Err(Dropped::Refused)
    }

    fn send(&mut self, there: Place, datagrams: Datagrams<'_>, now: Moment) -> Result<(), Stopped> {
        let Some(flow) = self.flows.get_mut(there) else { return Err(Stopped::Here(Dropped::Full)) };
        match self.offload.send_on(&flow.socket, flow.target, datagrams.bytes, datagrams.stride) {
            Ok(()) => {
                let bytes = datagrams.bytes.len() as u64;
                flow.account.count_to_server(datagrams.count(), bytes);
                if let Some(claim) = &flow.claim {
                    claim.entry.open.progress.moved_to_server(bytes);
                }
                self.flows.client_heard(there, now.millis);
                Ok(())
            }
            Err(error) if is_of_server(&error) => Err(Stopped::ByServer(flow.server, error)),
            Err(_) => Err(Stopped::Here(Dropped::Unsendable)),
        }
    }

    fn schedule(
        &mut self,
        key: Key,
        datagrams: Datagrams<'_>,
        tried: &[SocketAddr],
        now: Moment,
    ) -> Result<Lease, Dropped> {
        if self.phase != Phase::Serving {
            return Err(Dropped::Refused);
        }
        let flow = self.flow(key);
        let session = match self.picker.persistence_engine() {
            Some(PersistenceEngine::Sip) => sip::call_id(datagrams.first()),
            _ => None,
        };
        let lease = match session {
            Some(session) => self.picker.schedule_session(&flow, session, tried, now.time),
            None => self.picker.schedule_except(&flow, tried, now.time),
        };
        lease.map_err(|refusal| {
            self.refusal = Some(refusal);
            Dropped::Refused
        })
    }

    /// Begins a flow to the server of a lease.
    fn open(&mut self, key: Key, lease: Lease, now: Moment) -> Result<Place, Stopped> {
        let target = lease.target(&self.flow(key));
        let (socket, room) = self.reach(&lease, target, now)?;
        let open = Open {
            protocol: Protocol::Udp,
            client: key.client,
            virtual_address: self.sent_to(key),
            server: target,
            progress: Progress::default(),
            call: Call::default(),
        };
        let entry = self.shared.flows.enter(open);
        let (server, account) = (lease.server(), lease.account());
        let claim = Some(Claim { lease, entry, began: now.millis });
        self.keep(
            Flow { key, server, target, socket, account, claim, failure: None, passed: false, _room: room },
            now,
        )
    }

    /// Begins what one-packet scheduling has in the place of a flow.
    fn open_way_back(&mut self, key: Key, lease: &Lease, now: Moment) -> Result<Place, Stopped> {
        let target = lease.target(&self.flow(key));
        let (socket, room) = self.reach(lease, target, now)?;
        let (server, account) = (lease.server(), lease.account());
        self.keep(
            Flow {
                key,
                server,
                target,
                socket,
                account,
                claim: None,
                failure: None,
                passed: false,
                _room: room,
            },
            now,
        )
    }

    /// Makes room for one more flow, and a socket for it that is connected to its target.
    fn reach(
        &mut self,
        lease: &Lease,
        target: SocketAddr,
        now: Moment,
    ) -> Result<(OwnedFd, connections::Place), Stopped> {
        let flows = Arc::clone(&self.shared.flows);
        if !flows.has_room() && !self.give_way() {
            return Err(Stopped::Here(Dropped::Full));
        }
        let room = flows.place();
        let server = lease.server();
        let connected = match connected(target) {
            Err(error) if is_of_descriptors(&error) && self.give_way() => connected(target),
            connected => connected,
        };
        match connected {
            Ok(socket) => Ok((socket, room)),
            Err(error) if is_of_server(&error) => {
                self.shared.report_failure(lease, &error, now);
                Err(Stopped::ByServer(server, error))
            }
            Err(error) => {
                debug!(service = %self.shared.service, %server, %error, "cannot open a flow");
                Err(Stopped::Here(Dropped::Full))
            }
        }
    }

    /// Ends a flow that nobody may miss; says whether there was one.
    fn give_way(&mut self) -> bool {
        let flow = self.flows.give_way();
        flow.map(|flow| self.shared.ended(&flow, "gave way to another client")).is_some()
    }

    pub(super) fn keep(&mut self, flow: Flow, now: Moment) -> Result<Place, Stopped> {
        let there = self.flows.insert(flow.key, flow, now.millis);
        self.shared.open.fetch_add(1, Ordering::Relaxed);
        let Some(flow) = self.flows.get_mut(there) else { return Err(Stopped::Here(Dropped::Full)) };
        let data = epoll::EventData::new_u64(there.to_bits());
        match epoll::add(&*self.sockets, &flow.socket, data, epoll::EventFlags::IN) {
            Ok(()) => Ok(there),
            Err(error) => {
                debug!(service = %self.shared.service, %error, "cannot wait for answers");
                self.end(there, "no room to wait for answers");
                Err(Stopped::Here(Dropped::Full))
            }
        }
    }
}

impl<'a> Datagrams<'a> {
    fn count(&self) -> u64 {
        self.bytes.len().div_ceil(self.stride.max(1)).max(1) as u64
    }

    fn first(self) -> &'a [u8] {
        &self.bytes[..self.stride.min(self.bytes.len())]
    }

    /// Each by itself; an empty one is one as well.
    fn apart(self) -> impl Iterator<Item = Datagrams<'a>> {
        let empty = self.bytes.is_empty().then_some(self.bytes);
        let parts = self.bytes.chunks(self.stride.max(1)).chain(empty);
        parts.map(|bytes| Datagrams { bytes, stride: bytes.len() })
    }
}

/// A socket that sends to this server and hears of nobody else.
fn connected(server: SocketAddr) -> io::Result<OwnedFd> {
    let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))?;
    rustix::net::connect(&socket, &server)?;
    Ok(socket)
}

/// Whether there are too many sockets in this process or on this machine.
fn is_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let raw = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS].iter().any(|errno| raw == Some(errno.raw_os_error()))
}

/// Servers that are tried for one datagram.
const ATTEMPTS: usize = 3;
