//! Flows that pass to another process, with their sockets: their clients stay with their servers, and
//! their servers hear from the same port.
//!
//! Until the other process serves, both have them, and either may pass an answer on.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::PoisonError;
use std::time::Duration;

use lvs_core::Protocol;
use rustix::event::epoll;
use tracing::debug;

use super::{Claim, Flow, Key, Moment, Phase, Worker};
use crate::connections::{Call, Open};
use crate::relay::Progress;

/// A flow on its way to another process.
#[derive(Debug)]
pub(crate) struct Passing {
    pub(crate) record: FlowRecord,
    /// Connected to the server.
    pub(crate) socket: OwnedFd,
}

/// What is told of a flow.
#[derive(Clone, Debug)]
pub(crate) struct FlowRecord {
    /// Whose it is.
    pub(crate) client: SocketAddr,
    /// The address it sent to, where the socket is bound to all of them.
    pub(crate) to: Option<IpAddr>,
    /// As it is configured.
    pub(crate) server: SocketAddr,
    /// Whether the server has ever answered.
    pub(crate) answered: bool,
    pub(crate) silent: Duration,
    pub(crate) lasted: Duration,
    /// To the server, and to the client.
    pub(crate) bytes: [u64; 2],
}

impl Worker<'_> {
    pub(in crate::udp) fn enter(&mut self, phase: Phase) {
        match phase {
            Phase::Paused => self.tell_heir(),
            // Those that have passed are read there, and must not be here.
            Phase::Answering => self.let_go(),
            _ => {}
        }
        self.phase = phase;
    }

    /// Sends a copy of every flow to whoever asked for them.
    fn tell_heir(&mut self) {
        let heir = self.shared.heir.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(heir) = heir else { return };
        let now = Moment::now();
        let mut passing = Vec::with_capacity(self.flows.len());
        self.flows.for_each(|flow, heard_at, answered| {
            flow.passed = false;
            let Some(claim) = &flow.claim else { return };
            // One that cannot be copied stays here, and begins anew there.
            let Ok(socket) = flow.socket.try_clone() else { return };
            flow.passed = true;
            let progress = &claim.entry.open.progress;
            let record = FlowRecord {
                client: flow.key.client,
                to: flow.key.to,
                server: flow.server,
                answered,
                silent: Duration::from_millis(now.millis.saturating_sub(heard_at)),
                lasted: Duration::from_millis(now.millis.saturating_sub(claim.began)),
                bytes: [progress.bytes_to_server(), progress.bytes_to_client()],
            };
            passing.push(Passing { record, socket });
        });
        // Nobody waits any more.
        let _ = heir.send((self.index, passing));
    }

    /// Ends the flows that have passed to the heir.
    fn let_go(&mut self) {
        let mut passed = Vec::new();
        self.flows.for_each_place(|there, flow| passed.extend(flow.passed.then_some(there)));
        for there in passed {
            let Some(flow) = self.flows.remove(there) else { continue };
            // The socket lives on in the other process, and so would its place in the set.
            if let Err(error) = epoll::delete(&*self.sockets, &flow.socket) {
                debug!(service = %self.shared.service, %error, "a flow that has passed may be heard here");
            }
            self.shared.ended(&flow, "handed over");
        }
    }

    /// Goes on with flows of another process. Those whose server is not configured here end.
    pub(in crate::udp) fn take_up(&mut self, mut flows: Vec<Passing>) {
        // As if each had just been heard of, one after the other.
        flows.sort_by_key(|passing| std::cmp::Reverse(passing.record.silent));
        let now = Moment::now();
        for Passing { record, socket } in flows {
            let FlowRecord { client, to, server, answered, silent, lasted, bytes } = record;
            let Some(lease) = self.shared.director.resume(&self.shared.service, server) else { continue };
            let key = Key { client, to, server: None };
            let target = lease.target(&self.flow(key));
            let progress = Progress::default();
            progress.moved_to_server(bytes[0]);
            progress.moved_to_client(bytes[1]);
            let virtual_address = self.sent_to(key);
            let call = Call::default();
            let open =
                Open { protocol: Protocol::Udp, client, virtual_address, server: target, progress, call };
            let room = self.shared.flows.place();
            let entry = self.shared.flows.enter(open);
            let before = |time: Duration| {
                now.millis.saturating_sub(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
            };
            let heard = Moment { millis: before(silent), ..now };
            let (account, began) = (lease.account(), before(lasted));
            let claim = Some(Claim { lease, entry, began });
            let flow = Flow {
                key,
                server,
                target,
                socket,
                account,
                claim,
                failure: None,
                passed: false,
                _room: room,
            };
            // If the set has no room for it, it has ended by now.
            if let Ok(there) = self.keep(flow, heard)
                && answered
            {
                self.flows.server_heard(there, heard.millis);
            }
        }
    }
}
