//! Connections of HTTP/2 to servers, each of which carries many requests at a time.
//!
//! Frames are h2's work, in a task per connection. Here is decided which connection a request goes
//! on: one that has room for another stream by the server's own limit, or a new one; while one is
//! being made, others wait for it rather than make their own. A connection gets no more requests
//! once it is worn, or a server has left a request on it without an answer, and ends when those on
//! it have.

mod call;
mod stall;
mod upload;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsStream;
use tracing::debug;

pub(crate) use self::call::{Call, Streamed, call};
use super::{ConnectError, Secure, Transport, open, open_secure};
use crate::model::Keepalive;
use crate::moment::Moment;
use crate::server::Worker;
use crate::stream::Side;

/// The connections of a worker to the servers of one upstream.
#[derive(Default)]
pub(crate) struct Channels {
    list: RefCell<Vec<Rc<Channel>>>,
    /// Connections that are being made.
    dials: RefCell<Vec<Rc<Dial>>>,
}

/// One connection.
struct Channel {
    server: SocketAddr,
    secure: Option<Secure>,
    sender: SendRequest<Bytes>,
    opened: Moment,
    requests: Cell<u64>,
    /// Streams that are open.
    open: Cell<usize>,
    /// Since when there is none.
    idle_since: Cell<Moment>,
    retired: Cell<bool>,
    /// Whether the server has answered, and so has told its limit on streams.
    greeted: Cell<bool>,
}

/// A connection that is being made.
struct Dial {
    server: SocketAddr,
    secure: Option<Secure>,
    over: Notify,
}

/// A request's place on a connection, which it has until dropped.
pub(crate) struct Slot {
    channel: Rc<Channel>,
    /// Whether the connection had been idle: its server may have closed it meanwhile.
    pub(crate) kept: bool,
}

/// Where a connection goes to and from.
#[derive(Clone, Copy)]
pub(crate) struct Route<'a> {
    pub(crate) server: SocketAddr,
    pub(crate) secure: Option<&'a Secure>,
    /// The address it comes from, where that is not the system's choice.
    pub(crate) origin: Option<SocketAddr>,
    /// How long it may take to be made.
    pub(crate) within: Duration,
}

impl Channels {
    /// Takes a place on a connection there is.
    pub(crate) fn take(
        &self,
        server: SocketAddr,
        secure: Option<&Secure>,
        keepalive: &Keepalive,
    ) -> Option<Slot> {
        let now = Moment::now();
        let mut list = self.list.borrow_mut();
        list.retain(|channel| channel.is_usable(keepalive, now));
        let leads_there = |channel: &&Rc<Channel>| {
            channel.server == server && channel.secure.as_ref() == secure && channel.has_room()
        };
        // The latest: a quiet hour lets the others run out.
        list.iter().rev().find(leads_there).map(Slot::of)
    }

    /// Takes a place on a new connection, or on one that was made meanwhile.
    ///
    /// # Errors
    /// There is no connection.
    pub(crate) async fn dial(
        &self,
        worker: &Rc<Worker>,
        route: Route<'_>,
        keepalive: &Keepalive,
    ) -> Result<Slot, ConnectError> {
        let Route { server, secure, .. } = route;
        let dial = self.dials.borrow().iter().find(|dial| dial.leads_to(server, secure)).cloned();
        if let Some(dial) = dial {
            dial.over.notified().await;
            if let Some(slot) = self.take(server, secure, keepalive) {
                return Ok(slot);
            }
        }
        let dial = Rc::new(Dial { server, secure: secure.cloned(), over: Notify::new() });
        self.dials.borrow_mut().push(Rc::clone(&dial));
        let dialling = Dialling { channels: self, dial };
        let channel = connect(worker, route).await?;
        let slot = Slot::of(&channel);
        self.list.borrow_mut().push(channel);
        drop(dialling);
        Ok(slot)
    }

    /// Lets go of connections without a request.
    pub(super) fn clear(&self) {
        self.list.borrow_mut().retain(|channel| channel.open.get() > 0);
    }

    /// Lets go of connections that were idle for too long, and of those beyond the number that may be.
    pub(super) fn sweep(&self, keepalive: &Keepalive, now: Moment) {
        let mut list = self.list.borrow_mut();
        list.retain(|channel| channel.is_usable(keepalive, now));
        let idle = list.iter().filter(|channel| channel.open.get() == 0).count();
        let mut surplus = idle.saturating_sub(keepalive.idle_max);
        list.retain(|channel| {
            let goes = surplus > 0 && channel.open.get() == 0;
            surplus -= usize::from(goes);
            !goes
        });
    }
}

/// Takes a place on a connection of the request's own.
///
/// # Errors
/// There is no connection.
pub(crate) async fn dial_alone(worker: &Rc<Worker>, route: Route<'_>) -> Result<Slot, ConnectError> {
    let channel = connect(worker, route).await?;
    Ok(Slot::of(&channel))
}

/// Takes a dial off the list at its end, whichever way it ends, and tells those who wait.
struct Dialling<'a> {
    channels: &'a Channels,
    dial: Rc<Dial>,
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        self.channels.dials.borrow_mut().retain(|dial| !Rc::ptr_eq(dial, &self.dial));
        self.dial.over.notify_waiters();
    }
}

impl Dial {
    fn leads_to(&self, server: SocketAddr, secure: Option<&Secure>) -> bool {
        self.server == server && self.secure.as_ref() == secure
    }
}

/// Makes a connection, and has a task drive it.
async fn connect(worker: &Rc<Worker>, route: Route<'_>) -> Result<Rc<Channel>, ConnectError> {
    let Route { server, secure, origin, within } = route;
    let place = worker.place();
    let opening = async {
        let stream = match secure {
            None => Side::Plain(open(server, origin).await?),
            Some(secure) => match open_secure(server, origin, secure, Some(vec![b"h2".to_vec()])).await? {
                Transport::Tls(stream) => Side::Tls(Box::new(TlsStream::Client(*stream))),
                Transport::Plain(stream) => Side::Plain(stream),
                Transport::Gone => return Err(ConnectError::Failed(std::io::ErrorKind::NotConnected.into())),
            },
        };
        let shaken = builder().handshake(stream).await;
        shaken.map_err(|error| ConnectError::Failed(std::io::Error::other(error)))
    };
    let (sender, connection) = timeout(within, opening).await.map_err(|_| ConnectError::TimedOut)??;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            debug!("{error} on a connection to upstream server {server}");
        }
        drop(place);
    });
    let now = Moment::now();
    Ok(Rc::new(Channel {
        server,
        secure: secure.cloned(),
        sender,
        opened: now,
        requests: Cell::new(0),
        open: Cell::new(0),
        idle_since: Cell::new(now),
        retired: Cell::new(false),
        greeted: Cell::new(false),
    }))
}

fn builder() -> client::Builder {
    let mut builder = client::Builder::new();
    builder
        .enable_push(false)
        // Until the server tells its own limit.
        .initial_max_send_streams(1)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW * STREAMS_MAX)
        .max_header_list_size(HEAD_MAX)
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

impl Channel {
    /// Whether it may get another request, now or later.
    fn is_usable(&self, keepalive: &Keepalive, now: Moment) -> bool {
        let worn = self.requests.get() >= keepalive.requests || now.since(self.opened) >= keepalive.time;
        let stale = self.open.get() == 0 && now.since(self.idle_since.get()) >= keepalive.timeout;
        !self.retired.get() && !worn && !stale && !self.is_closing()
    }

    /// Whether the server has said that it takes no more, or has gone.
    fn is_closing(&self) -> bool {
        let polled = self.sender.clone().poll_ready(&mut Context::from_waker(Waker::noop()));
        matches!(polled, Poll::Ready(Err(_)))
    }

    /// Whether the server takes another stream beside those that are open.
    fn has_room(&self) -> bool {
        let limit = match self.greeted.get() {
            true => self.sender.current_max_send_streams().min(STREAMS_MAX as usize),
            // What the server turns out not to take at once waits in h2.
            false => STREAMS_MAX as usize,
        };
        self.open.get() < limit
    }
}

impl Slot {
    fn of(channel: &Rc<Channel>) -> Slot {
        let (open, requests) = (channel.open.get(), channel.requests.get());
        channel.open.set(open + 1);
        channel.requests.set(requests + 1);
        Slot { channel: Rc::clone(channel), kept: open == 0 && requests > 0 }
    }

    /// The server has answered.
    fn greeted(&self) {
        self.channel.greeted.set(true);
    }

    /// Its connection gets no more requests.
    fn retire(&self) {
        self.channel.retired.set(true);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.channel.open.set(self.channel.open.get() - 1);
        self.channel.idle_since.set(Moment::now());
    }
}

/// The most requests on one connection, however many its server allows.
const STREAMS_MAX: u32 = 128;

/// What a server may send of one answer before its client has taken it. All of a connection's
/// together have room at once, so that no client that is slow holds up another's answer.
const STREAM_WINDOW: u32 = 128 * 1024;

/// The most that is kept of a request that its server has not taken yet.
const SEND_BUFFER: usize = 64 * 1024;

/// The largest head that is read at all; `proxy_buffer_size` says what may come of it.
const HEAD_MAX: u32 = 256 * 1024;
