//! What a connection or a stream waits for, since when, and how long it may.

use std::time::Duration;

use super::{Order, Phase, Protocol, Session};
use crate::model::{Lingering, Settings};
use crate::moment::Moment;

/// How long a client may make us wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    header: Duration,
    keepalive: Duration,
    /// How long it may be when the process is to end.
    keepalive_min: Duration,
    body: Duration,
    send: Duration,
    lingering: Lingering,
    resets_timed_out: bool,
    pub(super) http2_chunk: usize,
}

/// Why a connection is closed by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Overdue {
    /// No head came, or not all of it.
    Head,
    /// No further request came.
    KeepAlive,
    /// The body of a request stopped coming.
    Body,
    /// The client stopped reading.
    Send,
    /// The client has not closed its side.
    Lingering,
}

impl Session {
    /// A request's body waits for the client.
    pub(crate) fn body_waits(&self) {
        if self.body_since.get().is_none() {
            self.body_since.set(Some(Moment::now()));
        }
    }

    /// A request's body has got something.
    pub(crate) fn body_moves(&self) {
        self.body_since.set(None);
    }

    /// Whether there is something to wait for on a connection that is to end soon: anything but a
    /// further request, or that for a short while.
    pub(in crate::server) fn is_awaited(&self) -> bool {
        self.phase.get() != Phase::Idle
            || Moment::now().since(self.since.get()) < self.limits.get().keepalive_min
    }

    /// From now on what the client sends is thrown away.
    pub(in crate::server) fn begin_lingering(&self) {
        let now = Moment::now();
        self.phase.set(Phase::Lingering { began: now });
        self.since.set(now);
        self.body_since.set(None);
    }

    /// The client still sends what is thrown away.
    pub(in crate::server) fn lingers(&self) {
        self.since.set(Moment::now());
        self.body_since.set(None);
    }

    /// How the client is parted from if it still sends.
    pub(in crate::server) fn lingering(&self) -> Lingering {
        self.limits.get().lingering
    }

    /// Whether a client that made us wait for this is sent a reset: what it has of an answer is of no use, and
    /// the kernel need not keep the rest for it. Who was idle ends like any other.
    pub(in crate::server) fn resets_for(&self, overdue: Overdue) -> bool {
        let timed_out = match overdue {
            Overdue::Head => self.phase.get() == Phase::Head,
            Overdue::Body | Overdue::Send => true,
            Overdue::KeepAlive | Overdue::Lingering => false,
        };
        timed_out && self.limits.get().resets_timed_out
    }

    /// Something was written.
    pub(in crate::server) fn written(&self) {
        self.write_since.set(None);
    }

    /// A write has to wait for the client.
    pub(in crate::server) fn write_waits(&self) {
        if self.write_since.get().is_none() {
            self.write_since.set(Some(Moment::now()));
        }
    }

    /// It is closed by the clock.
    pub(in crate::server) fn close_for(&self, overdue: Overdue) {
        self.overdue.set(Some(overdue));
    }

    /// Whether it is closed by the clock.
    pub(in crate::server) fn is_overdue(&self) -> bool {
        self.overdue.get().is_some()
    }

    /// Closes streams by the clock.
    pub(in crate::server) fn expire_streams(&self, now: Moment) {
        if let Protocol::Http2(streams) = &self.protocol {
            streams.expire(now);
        }
    }

    /// Returns when the connection is next overdue, and by what, if nothing moves until then.
    pub(in crate::server) fn deadline(&self) -> Option<(Moment, Overdue)> {
        let limits = self.limits.get();
        let since = self.since.get();
        let by_phase = match self.phase.get() {
            // A client that has not said a word yet holds up nobody but a process that is to end.
            Phase::Fresh if self.order.get() != Order::Serve => Some((since + FRESH_GRACE, Overdue::Head)),
            Phase::Fresh | Phase::Head => Some((since + limits.header, Overdue::Head)),
            // It has been told; there is nothing to wait for but its word that it has heard.
            Phase::Idle if self.is_http2() && self.order.get() != Order::Serve => {
                Some((since + limits.keepalive_min.max(GOODBYE_GRACE), Overdue::KeepAlive))
            }
            Phase::Idle if self.order.get() != Order::Serve => {
                Some((since + limits.keepalive_min, Overdue::KeepAlive))
            }
            Phase::Idle => Some((since + limits.keepalive, Overdue::KeepAlive)),
            Phase::Request => None,
            Phase::Lingering { began } => {
                let Lingering { pause, whole, .. } = limits.lingering;
                Some(((since + pause).min(began + whole), Overdue::Lingering))
            }
        };
        let by_body = self.body_since.get().map(|since| (since + limits.body, Overdue::Body));
        let by_send = self.write_since.get().map(|since| (since + limits.send, Overdue::Send));
        let own = sooner(sooner(by_phase, by_body), by_send);
        match &self.protocol {
            Protocol::Http2(streams) => {
                let by_head = streams.head_since().map(|since| (since + limits.header, Overdue::Head));
                sooner(sooner(streams.deadline(), by_head), own)
            }
            _ => own,
        }
    }

    fn is_http2(&self) -> bool {
        matches!(self.protocol, Protocol::Http2(_))
    }

    /// When a stream is next overdue.
    pub(in crate::server) fn stream_deadline(&self) -> Option<(Moment, Overdue)> {
        if self.is_overdue() {
            return None;
        }
        let limits = self.limits.get();
        let by_body = self.body_since.get().map(|since| (since + limits.body, Overdue::Body));
        let by_send = self.write_since.get().map(|since| (since + limits.send, Overdue::Send));
        sooner(by_body, by_send)
    }
}

/// Returns the deadline that comes first.
fn sooner(one: Option<(Moment, Overdue)>, other: Option<(Moment, Overdue)>) -> Option<(Moment, Overdue)> {
    match (one, other) {
        (Some(one), Some(other)) if other.0 < one.0 => Some(other),
        (one, other) => one.or(other),
    }
}

impl Limits {
    pub(super) fn of(settings: &Settings) -> Limits {
        Limits {
            header: settings.client.header_timeout,
            // Without keep-alive the connection is closed after its answer; this is for the client
            // that does not read it.
            keepalive: settings.connection.keepalive_timeout.unwrap_or(settings.connection.lingering.whole),
            keepalive_min: settings.connection.keepalive_min,
            body: settings.client.body_timeout,
            send: settings.client.send_timeout,
            lingering: settings.connection.lingering,
            resets_timed_out: settings.connection.resets_timed_out,
            http2_chunk: settings.http2.chunk,
        }
    }
}

/// How long a client of HTTP/2 may take to hear that its idle connection is closed, and to have what it
/// has sent before that answered: its word that it has heard ends it sooner. As much as a long way there
/// and back takes; curl 7.88 fails with what it asks on a connection that has said goodbye and is still open.
const GOODBYE_GRACE: Duration = Duration::from_millis(300);

/// How long a connection on which nothing was said may hold up the end of the process.
pub(in crate::server) const FRESH_GRACE: Duration = Duration::from_secs(1);
