//! What is known of one client connection while it is open.
//!
//! The wire notes here what it waits for, the requests what they are about, and the task that
//! drives the connection looks at the notes when its one timer fires.

mod clock;

use std::cell::{Cell, RefCell, RefMut};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use http::HeaderMap;
use l4_proxy::proxy_protocol::Header;
use tracing::info;

use self::clock::Limits;
pub(super) use self::clock::{FRESH_GRACE, Overdue};
use super::flood::Offence;
use super::spelling::Spelling;
use super::streams::Streams;
use super::{Generation, Worker};
use crate::error_log::{self, Places};
use crate::forward::Tunnel;
use crate::model::{ClientAbort, HeadLimits, Settings};
use crate::moment::Moment;
use crate::route::Entry;
use crate::tls::Handshake;
use crate::transaction::CLIENT_CLOSED_REQUEST;
use crate::variable::{self, Scheme};
use crate::wire::{Verdict, Watch};

/// One client connection.
pub(crate) struct Session {
    pub(crate) worker: Rc<Worker>,
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) serial: u64,
    /// What a header of the PROXY protocol said of the connection.
    pub(crate) proxied: Option<Rc<Header>>,
    /// The socket once more, where a variable asks the kernel about it.
    pub(crate) socket: Option<Rc<OwnedFd>>,
    opened: Moment,
    /// The same on the clock that variables go by.
    born: Instant,
    requests: Cell<u64>,
    /// The head of the latest request as it was sent; empty in HTTP/2.
    head: RefCell<Bytes>,
    /// Whether it had begun before the one before it was answered.
    pipelined: Cell<bool>,
    /// Bytes of its body that have come, as they came.
    received: Cell<u64>,
    /// The configuration of the latest request, and where the connection's address is in it.
    generation: RefCell<(Rc<Generation>, Entry)>,
    pub(crate) spelling: Spelling,
    phase: Cell<Phase>,
    /// When the phase began.
    since: Cell<Moment>,
    /// Since when a write waits for the client.
    write_since: Cell<Option<Moment>>,
    /// Since when a request's body waits for the client.
    body_since: Cell<Option<Moment>>,
    limits: Cell<Limits>,
    /// Whether the client holds a body back until it is told to send it.
    pub(super) expects_word: Cell<bool>,
    /// What becomes of the request that was forwarded last, should its client leave.
    abort: Cell<ClientAbort>,
    order: Cell<Order>,
    parting: Cell<Parting>,
    /// What it was closed for by the clock, if it was.
    overdue: Cell<Option<Overdue>>,
    waker: RefCell<Option<Waker>>,
    /// Where diagnostics of the latest request go; `None` where those of the process go.
    places: RefCell<Option<Places>>,
    /// Interim answers that are to be written.
    hints: RefCell<Vec<u8>>,
    /// The other protocol that the connection changes to when the answer is out.
    tunnel: RefCell<Option<Box<Tunnel>>>,
    pub(crate) protocol: Protocol,
    /// TLS with the client, if it is spoken.
    pub(crate) tls: Option<Rc<Handshake>>,
    /// The scheme that requests are for.
    pub(super) scheme: Scheme,
}

/// What a session is one of.
pub(crate) enum Protocol {
    /// A connection on which requests follow each other.
    Http1,
    /// The same, of a client that speaks HTTP where TLS is wanted.
    Http1InTheClear,
    /// A connection of HTTP/2.
    Http2(Streams),
    /// One request on such a connection.
    Stream(Carrier),
}

/// The connection that carries a stream; it is told when the stream ends.
pub(crate) struct Carrier {
    pub(crate) connection: Rc<Session>,
    /// Interim answers that are to be sent on the stream.
    early_hints: RefCell<Vec<HeaderMap>>,
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.connection.end_stream();
    }
}

/// What a connection is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing has been received yet.
    Fresh,
    /// A head is being received.
    Head,
    /// A request is being answered.
    Request,
    /// Waits for the next request.
    Idle,
    /// Our end is sent, the client's is awaited.
    Lingering {
        /// When that began.
        began: Moment,
    },
}

/// What a connection is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Serve requests.
    Serve,
    /// Serve the request at hand, then close.
    Finish,
    /// Close now.
    Abort,
}

/// How a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parting {
    /// As any.
    Plain,
    /// By a reset: a plain end would make a cut answer look whole.
    Reset,
}

impl Session {
    pub(crate) fn new(
        worker: Rc<Worker>,
        remote: SocketAddr,
        local: SocketAddr,
        generation: Rc<Generation>,
        entry: Entry,
        protocol: Protocol,
        tls: Option<Rc<Handshake>>,
    ) -> Session {
        let settings = generation.site.router.default_server(entry).settings();
        let limits = Limits::of(settings);
        let now = Moment::now();
        Session {
            serial: worker.next_serial(),
            proxied: None,
            socket: None,
            worker,
            remote,
            local,
            opened: now,
            born: Instant::now(),
            requests: Cell::new(0),
            head: RefCell::default(),
            pipelined: Cell::new(false),
            received: Cell::new(0),
            generation: RefCell::new((generation, entry)),
            spelling: Spelling::default(),
            phase: Cell::new(Phase::Fresh),
            since: Cell::new(now),
            write_since: Cell::new(None),
            body_since: Cell::new(None),
            limits: Cell::new(limits),
            expects_word: Cell::new(false),
            abort: Cell::new(ClientAbort::Heeded),
            order: Cell::new(Order::Serve),
            parting: Cell::new(Parting::Plain),
            overdue: Cell::new(None),
            waker: RefCell::new(None),
            places: RefCell::new(None),
            hints: RefCell::default(),
            tunnel: RefCell::new(None),
            protocol,
            scheme: if tls.is_some() { Scheme::Https } else { Scheme::Http },
            tls,
        }
    }

    /// Begins a request on a connection of HTTP/2.
    pub(crate) fn stream(connection: &Rc<Session>) -> Rc<Session> {
        let (generation, entry) = connection.generation();
        let mut stream = Session::new(
            Rc::clone(&connection.worker),
            connection.remote,
            connection.local,
            generation,
            entry,
            Protocol::Stream(Carrier { connection: Rc::clone(connection), early_hints: RefCell::default() }),
            connection.tls.clone(),
        );
        (stream.serial, stream.opened, stream.born) = (connection.serial, connection.opened, connection.born);
        stream.requests = Cell::new(connection.requests.get());
        stream.proxied.clone_from(&connection.proxied);
        stream.socket.clone_from(&connection.socket);
        stream.scheme = connection.scheme;
        let stream = Rc::new(stream);
        connection.requests.set(connection.requests.get() + 1);
        connection.phase.set(Phase::Request);
        if let Protocol::Http2(streams) = &connection.protocol {
            streams.begin(&stream);
        }
        stream
    }

    /// A stream of this connection has ended.
    fn end_stream(&self) {
        if let Protocol::Http2(streams) = &self.protocol
            && streams.end() == 0
        {
            self.phase.set(Phase::Idle);
            self.since.set(Moment::now());
        }
    }

    /// The beginning of a head has come, and not the rest.
    pub(super) fn begin_head(&self) {
        self.phase.set(Phase::Head);
        self.since.set(Moment::now());
    }

    /// Begins a request.
    pub(crate) fn begin_request(&self, now: Moment) {
        self.phase.set(Phase::Request);
        self.since.set(now);
        self.requests.set(self.requests.get() + 1);
        self.received.set(0);
        self.worker.begin_request();
    }

    /// When it began to wait for what it waits for.
    pub(crate) fn since(&self) -> Moment {
        self.since.get()
    }

    /// Takes down the head of the next request.
    pub(crate) fn note_head(&self, head: Bytes, pipelined: bool) {
        self.head.replace(head);
        self.pipelined.set(pipelined);
    }

    /// Returns the head of the latest request as it was sent, once.
    pub(crate) fn take_head(&self) -> Bytes {
        self.head.take()
    }

    /// Hands over an interim answer.
    pub(crate) fn hint(&self, head: &[u8]) {
        self.hints.borrow_mut().extend_from_slice(head);
    }

    /// Hands over the fields of an interim answer, where it goes out on a stream.
    pub(crate) fn hint_early(&self, fields: HeaderMap) {
        if let Protocol::Stream(Carrier { early_hints, .. }) = &self.protocol {
            let mut early_hints = early_hints.borrow_mut();
            // Nobody has that many to give.
            if early_hints.len() < EARLY_HINTS_MAX {
                early_hints.push(fields);
            }
        }
    }

    /// Takes interim answers that are to be sent on the stream.
    pub(super) fn take_early_hints(&self) -> Vec<HeaderMap> {
        match &self.protocol {
            Protocol::Stream(Carrier { early_hints, .. }) => early_hints.take(),
            _ => Vec::new(),
        }
    }

    /// Interim answers that are to be written.
    pub(super) fn hints(&self) -> RefMut<'_, Vec<u8>> {
        self.hints.borrow_mut()
    }

    /// Something of a request's body has come.
    pub(crate) fn receive(&self, bytes: u64) {
        self.received.set(self.received.get() + bytes);
    }

    /// How much of the latest request's body has come.
    pub(crate) fn received(&self) -> u64 {
        self.received.get()
    }

    /// How large a head may be.
    pub(super) fn head_limits(&self) -> HeadLimits {
        let (generation, entry) = &*self.generation.borrow();
        generation.site.router.default_server(*entry).settings().client.head
    }

    /// Whether the client holds a body back until it is told to send it.
    pub(crate) fn expects_word(&self) -> bool {
        self.expects_word.get()
    }

    /// Says what becomes of a request that is about to be forwarded, should its client leave.
    pub(crate) fn settle_abort(&self, abort: ClientAbort) {
        self.abort.set(abort);
    }

    /// Whether a request goes on without its client.
    pub(super) fn ignores_leaving(&self) -> bool {
        self.abort.get() == ClientAbort::Ignored
    }

    /// The configuration that the next request is answered by.
    ///
    /// A connection goes over to a new configuration between two requests. If that does not
    /// listen at the connection's address any more, the old one answers once more and the
    /// connection ends.
    pub(crate) fn generation(&self) -> (Rc<Generation>, Entry) {
        if !self.go_over() {
            self.finish_soon();
        }
        let latest = self.generation.borrow();
        (Rc::clone(&latest.0), latest.1)
    }

    /// Lets go of a configuration that another has taken the place of, if nothing is being answered: a kept
    /// connection is no reason to keep its logs open, and none to be cut with what is left of it. One that has
    /// asked for nothing yet is cut with it, as in nginx.
    pub(super) fn go_over_if_idle(&self) {
        if matches!(self.phase.get(), Phase::Head | Phase::Idle) {
            self.go_over();
        }
    }

    /// Goes over to the present configuration; says whether that listens at the connection's address.
    fn go_over(&self) -> bool {
        let mut latest = self.generation.borrow_mut();
        let current = self.worker.current();
        if Rc::ptr_eq(&latest.0, &current) {
            return true;
        }
        let entry = current.site.router.entry(self.local);
        if let Some(entry) = entry {
            *latest = (current, entry);
        }
        entry.is_some()
    }

    /// Whether its latest request was answered by this configuration.
    pub(super) fn is_answered_by(&self, generation: &Rc<Generation>) -> bool {
        Rc::ptr_eq(&self.generation.borrow().0, generation)
    }

    /// What the settings of a request's location say of waiting and of logs holds from now on.
    pub(crate) fn adopt(&self, settings: &Settings) {
        self.limits.set(Limits::of(settings));
        self.log_to(settings);
        error_log::go_on_with(self.places());
    }

    /// Lets diagnostics go where settings say.
    pub(crate) fn log_to(&self, settings: &Settings) {
        let mut places = self.places.borrow_mut();
        if places.is_some() || settings.error_log.is_some() {
            places.clone_from(&settings.error_log);
        }
    }

    /// Where diagnostics go, if not where those of the process go.
    pub(crate) fn places(&self) -> Option<Places> {
        self.places.borrow().clone()
    }

    pub(crate) fn connection(&self) -> variable::Connection {
        variable::Connection {
            remote: self.remote,
            peer: self.remote,
            local: self.local,
            serial: self.serial,
            requests: self.requests.get(),
            scheme: self.scheme,
            opened: self.born,
            pipelined: self.pipelined.get(),
        }
    }

    /// How old it was when its latest request began.
    pub(crate) fn age(&self) -> Duration {
        self.since.get().since(self.opened)
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// The answer has been handed over whole, or will never be.
    pub(crate) fn end_response(&self) {
        self.phase.set(Phase::Idle);
        self.since.set(Moment::now());
        self.body_since.set(None);
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(crate) fn order(&self) -> Order {
        self.order.get()
    }

    /// Closes the connection after the request at hand.
    pub(crate) fn finish_soon(&self) {
        if self.order.get() == Order::Serve {
            self.order.set(Order::Finish);
        }
    }

    /// Gives an order from outside the connection's task.
    pub(crate) fn command(&self, order: Order) {
        self.order.set(order);
        if let (Protocol::Http2(_), Phase::Idle) = (&self.protocol, self.phase.get()) {
            self.since.set(Moment::now());
        }
        self.wake();
    }

    /// Wakes the task of the connection, or that of the stream.
    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Says whom to wake for an order; returns whether that is somebody else than before.
    pub(crate) fn listen(&self, waker: &Waker) -> bool {
        let mut known = self.waker.borrow_mut();
        let changed = known.as_ref().is_none_or(|known| !known.will_wake(waker));
        if changed {
            *known = Some(waker.clone());
        }
        changed
    }

    /// Sends a client of HTTP/2 away, for this reason.
    pub(super) fn violate(&self, reason: Reason) {
        if let Protocol::Http2(streams) = &self.protocol
            && streams.violation.get().is_none()
        {
            streams.violation.set(Some(reason));
            self.wake();
        }
    }

    /// Why a client of HTTP/2 is to be sent away, if it is.
    pub(super) fn violation(&self) -> Option<Reason> {
        match &self.protocol {
            Protocol::Http2(streams) => streams.violation.get(),
            _ => None,
        }
    }

    /// How much of an answer goes into one frame.
    pub(super) fn http2_chunk(&self) -> usize {
        self.limits.get().http2_chunk
    }

    /// The status of a request that got no answer, in the log.
    pub(crate) fn unanswered(&self) -> u16 {
        let of_connection = match &self.protocol {
            Protocol::Stream(Carrier { connection, .. }) => connection.overdue.get(),
            _ => None,
        };
        let overdue = self.overdue.get().or(of_connection);
        // Of the requests on a connection, the one that it was closed for.
        match overdue {
            Some(Overdue::Body) if self.body_since.get().is_some() => REQUEST_TIMEOUT,
            _ => CLIENT_CLOSED_REQUEST,
        }
    }

    pub(super) fn parting(&self) -> Parting {
        self.parting.get()
    }

    /// Ends the connection by a reset.
    pub(crate) fn part_by_reset(&self) {
        self.parting.set(Parting::Reset);
    }

    /// Changes to another protocol when the answer is out.
    pub(crate) fn change_protocol(&self, tunnel: Box<Tunnel>) {
        *self.tunnel.borrow_mut() = Some(tunnel);
    }

    pub(crate) fn take_tunnel(&self) -> Option<Box<Tunnel>> {
        let tunnel = self.tunnel.borrow_mut().take()?;
        // What the request has led to goes on.
        self.phase.set(Phase::Request);
        Some(tunnel)
    }
}

impl Watch for Session {
    fn read(&self, bytes: &[u8]) -> Verdict {
        if matches!(self.phase.get(), Phase::Fresh | Phase::Idle) && !bytes.is_empty() {
            self.phase.set(Phase::Idle);
            self.since.set(Moment::now());
        }
        let Protocol::Http2(streams) = &self.protocol else { return Verdict::Pass };
        let Err(offence) = streams.received(bytes) else { return Verdict::Pass };
        if self.violation().is_none() {
            self.violate(offence.reason());
            match offence {
                Offence::Flood => {
                    info!("*{} http2 flood detected, client: {}", self.serial, self.remote.ip());
                    // Whoever floods us may not read, either.
                    self.command(Order::Abort);
                }
                Offence::Frame(reason) => {
                    info!(
                        "*{} client sent invalid frame ({reason}), client: {}",
                        self.serial,
                        self.remote.ip()
                    );
                }
            }
        }
        Verdict::Stop
    }

    fn written(&self, count: usize) {
        self.written();
        if let Protocol::Http2(streams) = &self.protocol {
            streams.sent(count);
        }
    }

    fn write_waits(&self) {
        self.write_waits();
    }
}

/// Interim answers that wait to be sent on a stream.
const EARLY_HINTS_MAX: usize = 16;

/// For a client whose request stopped coming.
const REQUEST_TIMEOUT: u16 = 408;
