//! What is known of one connection to a server, and the task that drives it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use hyper::client::conn::http1;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use crate::body::RequestBody;
use crate::model::ProxySettings;
use crate::moment::{COARSE, Moment};
use crate::server::{Place, Spelling};
use crate::wire::{Closing, Watch, Wire};

/// One connection to a server, as the wire, the request and the task that drives it see it.
pub(crate) struct Link {
    /// Whether a request is under way.
    busy: Cell<bool>,
    /// Whether the request has been handed over whole.
    sent: Cell<bool>,
    /// Whether anything was received since the request began.
    heard: Cell<bool>,
    read_since: Cell<Option<Moment>>,
    write_since: Cell<Option<Moment>>,
    read_timeout: Cell<Duration>,
    send_timeout: Cell<Duration>,
    expired: Cell<Option<Expired>>,
    /// Bytes written and read since they were last counted.
    traffic: Cell<(u64, u64)>,
    handover: RefCell<Handover>,
}

/// Which limit a server has not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// It did not answer, or its answer paused for too long.
    Read,
    /// It did not take the request.
    Send,
}

/// The socket on its way from the task that drove it to whoever speaks another protocol on it.
enum Handover {
    Nobody,
    Awaited(Waker),
    /// With what was received after the head.
    Ready(TcpStream, Bytes),
    /// There is nothing to hand over.
    Gone,
}

impl Link {
    pub(super) fn new() -> Link {
        Link {
            busy: Cell::new(false),
            sent: Cell::new(false),
            heard: Cell::new(false),
            read_since: Cell::new(None),
            write_since: Cell::new(None),
            read_timeout: Cell::new(Duration::MAX),
            send_timeout: Cell::new(Duration::MAX),
            expired: Cell::new(None),
            traffic: Cell::new((0, 0)),
            handover: RefCell::new(Handover::Nobody),
        }
    }

    /// A request begins.
    pub(crate) fn begin(&self, settings: &ProxySettings) {
        self.busy.set(true);
        self.sent.set(false);
        self.heard.set(false);
        self.read_timeout.set(settings.read_timeout);
        self.send_timeout.set(settings.send_timeout);
    }

    /// The request has been handed over whole; from now on the answer is waited for.
    pub(crate) fn sent(&self) {
        self.sent.set(true);
        self.read_since.set(Some(Moment::now()));
    }

    /// No request is under way any more.
    pub(super) fn rest(&self) {
        self.busy.set(false);
    }

    /// Whether anything was received since the request began.
    pub(crate) fn heard(&self) -> bool {
        self.heard.get()
    }

    /// The limit by which the connection was closed.
    pub(crate) fn expired(&self) -> Option<Expired> {
        self.expired.get()
    }

    /// Returns the bytes to the server and from it since the last call.
    pub(crate) fn take_traffic(&self) -> (u64, u64) {
        self.traffic.take()
    }

    /// Takes the socket after the server has agreed to another protocol.
    pub(crate) async fn take_over(&self) -> Option<(TcpStream, Bytes)> {
        poll_fn(|cx| {
            let mut handover = self.handover.borrow_mut();
            match std::mem::replace(&mut *handover, Handover::Gone) {
                Handover::Ready(stream, received) => Poll::Ready(Some((stream, received))),
                Handover::Gone => Poll::Ready(None),
                Handover::Nobody | Handover::Awaited(_) => {
                    *handover = Handover::Awaited(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn hand_over(&self, handover: Handover) {
        if let Handover::Awaited(waker) = self.handover.replace(handover) {
            waker.wake();
        }
    }

    fn deadline(&self) -> Option<(Moment, Expired)> {
        if !self.busy.get() {
            return None;
        }
        let read = self.read_since.get().filter(|_| self.sent.get());
        let read = read.map(|since| since + self.read_timeout.get());
        let send = self.write_since.get().map(|since| since + self.send_timeout.get());
        match (read, send) {
            (Some(read), Some(send)) if send < read => Some((send, Expired::Send)),
            (Some(read), _) => Some((read, Expired::Read)),
            (None, Some(send)) => Some((send, Expired::Send)),
            (None, None) => None,
        }
    }

    /// Whether a limit was passed; sets the timer to the next look if none was.
    fn poll_expired(&self, mut timer: Pin<&mut Sleep>, patience: Duration, cx: &mut Context<'_>) -> Poll<()> {
        while timer.as_mut().poll(cx).is_ready() {
            let now = Moment::now();
            let next = now + patience;
            let until = match self.deadline() {
                Some((deadline, expired)) if deadline <= now => {
                    self.expired.set(Some(expired));
                    return Poll::Ready(());
                }
                // Whatever begins to wait from now on may wait as long as the patience at least.
                Some((deadline, _)) => deadline.min(next),
                None => next,
            };
            timer.as_mut().reset(Instant::now() + until.since(now).max(COARSE));
        }
        Poll::Pending
    }
}

impl Watch for Link {
    fn read(&self, bytes: &[u8]) {
        let (to_server, to_client) = self.traffic.get();
        self.traffic.set((to_server, to_client + bytes.len() as u64));
        self.heard.set(self.heard.get() || !bytes.is_empty());
        self.read_since.set(None);
    }

    fn read_waits(&self) {
        if self.read_since.get().is_none() {
            self.read_since.set(Some(Moment::now()));
        }
    }

    fn written(&self, count: usize) {
        let (to_server, to_client) = self.traffic.get();
        self.traffic.set((to_server + count as u64, to_client));
        self.write_since.set(None);
    }

    fn write_waits(&self) {
        if self.write_since.get().is_none() {
            self.write_since.set(Some(Moment::now()));
        }
    }

    fn spelling(&self) -> Option<&Spelling> {
        None
    }

    fn closing(&self) -> Closing {
        Closing::Close
    }
}

/// Drives a connection until it ends, passes a limit, or changes its protocol.
pub(super) async fn drive(
    mut http: http1::Connection<Wire<Link>, RequestBody>,
    link: Rc<Link>,
    patience: Duration,
    place: Place,
) {
    let mut timer = pin!(sleep(patience));
    let mut armed = false;
    let ended = poll_fn(|cx| match Pin::new(&mut http).poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(outcome.is_ok()),
        // A timer that has not fired knows already that it is this task that it has to wake.
        Poll::Pending if armed && !timer.is_elapsed() => Poll::Pending,
        Poll::Pending => {
            armed = true;
            link.poll_expired(timer.as_mut(), patience, cx).map(|()| false)
        }
    })
    .await;
    // Requests that wait for an answer learn here that there will be none.
    let parts = http.into_parts();
    link.hand_over(match parts.io.into_open() {
        Some(stream) if ended => Handover::Ready(stream, parts.read_buf),
        _ => Handover::Gone,
    });
    drop(place);
}
