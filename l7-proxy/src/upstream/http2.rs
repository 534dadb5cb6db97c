//! Connections of HTTP/2 to servers, each of which carries many requests at a time.
//!
//! Frames are h2's work, in a task per connection. Here is decided which connection a request goes
//! on: one that has room for another stream by the server's own limit, or a new one; while one is
//! being made, others wait for it rather than make their own. A connection gets no more requests
//! once it is worn, or a server has left a request on it without an answer, and ends when those on
//! it have.
//!
//! A connection counts as being made until the server's SETTINGS tell its limit (RFC 9113, 3.4). The
//! request that it was made for does not wait so long; more would be a guess, and what the server
//! turns out not to take would wait for slow answers.

mod call;
mod stall;
mod upload;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
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
use crate::leg::Leg;
use crate::model::Keepalive;
use crate::moment::Moment;
use crate::server::Worker;
use crate::stream::Side;

/// The connections of a worker to the servers of one upstream.
#[derive(Default)]
pub(crate) struct Channels {
    list: RefCell<Vec<Rc<Channel>>>,
    /// Connections that are being made.
    dials: Dials,
}

type Dials = Rc<RefCell<Vec<Rc<Dial>>>>;

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
}

/// A connection that is being made.
struct Dial {
    server: SocketAddr,
    secure: Option<Secure>,
    /// How many more may wait for it. A client that leaves meanwhile does not give its place back:
    /// that costs a connection at most.
    room: Cell<usize>,
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
    pub(crate) leg: Leg,
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
        let Route { server, secure, within, .. } = route;
        let joined = timeout(within, self.join(server, secure, keepalive)).await;
        if let Some(slot) = joined.map_err(|_| ConnectError::TimedOut)? {
            return Ok(slot);
        }
        let room = self.expected(server, secure, keepalive).saturating_sub(1);
        let (secure, room) = (secure.cloned(), Cell::new(room));
        let dial = Rc::new(Dial { server, secure, room, over: Notify::new() });
        self.dials.borrow_mut().push(Rc::clone(&dial));
        let dialling = Dialling { dials: Rc::clone(&self.dials), dial };
        let channel = connect(worker, route, Some(dialling)).await?;
        let slot = Slot::of(&channel);
        self.list.borrow_mut().push(channel);
        Ok(slot)
    }

    /// Takes a place on a connection that is being made, if one is and has enough of them.
    async fn join(&self, server: SocketAddr, secure: Option<&Secure>, keepalive: &Keepalive) -> Option<Slot> {
        // Twice: as long as the server's limit is unknown, all wait for its first connection. Those
        // that do not fit on it share others, by the limit that they know then.
        for _ in 0..2 {
            let joins = |dial: &&Rc<Dial>| dial.leads_to(server, secure) && dial.room.get() > 0;
            let dial = self.dials.borrow().iter().find(joins).cloned()?;
            dial.room.set(dial.room.get() - 1);
            dial.over.notified().await;
            if let Some(slot) = self.take(server, secure, keepalive) {
                return Some(slot);
            }
        }
        None
    }

    /// How many requests a new connection will take, by what is known of the server.
    fn expected(&self, server: SocketAddr, secure: Option<&Secure>, keepalive: &Keepalive) -> usize {
        let list = self.list.borrow();
        let mut siblings = list.iter().rev().filter(|it| it.server == server && it.secure.as_ref() == secure);
        let limit = siblings.find_map(|channel| channel.limit()).unwrap_or(STREAMS_MAX as usize);
        limit.min(usize::try_from(keepalive.requests).unwrap_or(usize::MAX))
    }

    /// Lets go of connections without a request.
    pub(super) fn clear(&self) {
        self.list.borrow_mut().retain(|channel| channel.open.get() > 0);
    }

    /// Gives no more requests to connections that do not hold good under another configuration.
    pub(super) fn adopt(&self, still_meant: impl Fn(&Secure) -> bool) {
        self.list.borrow_mut().retain(|channel| channel.secure.as_ref().is_none_or(&still_meant));
    }

    /// Lets go of connections that were idle for too long, of those to servers that are listed no more,
    /// and of those beyond the number that may be.
    pub(super) fn sweep(&self, keepalive: &Keepalive, now: Moment, is_listed: impl Fn(SocketAddr) -> bool) {
        let mut list = self.list.borrow_mut();
        list.retain(|channel| channel.is_usable(keepalive, now) && is_listed(channel.server));
        let most = keepalive.idle_max_per_server.unwrap_or(keepalive.idle_max);
        let mut idle: Vec<SocketAddr> = Vec::new();
        // The latest are the ones to stay.
        for place in (0..list.len()).rev() {
            let server = list[place].server;
            if list[place].open.get() > 0 {
                continue;
            }
            if idle.len() >= keepalive.idle_max || idle.iter().filter(|it| **it == server).count() >= most {
                list.remove(place);
            } else {
                idle.push(server);
            }
        }
    }
}

/// Takes a place on a connection of the request's own.
///
/// # Errors
/// There is no connection.
pub(crate) async fn dial_alone(worker: &Rc<Worker>, route: Route<'_>) -> Result<Slot, ConnectError> {
    let channel = connect(worker, route, None).await?;
    Ok(Slot::of(&channel))
}

/// Takes a dial off the list at its end, whichever way it ends, and tells those who wait.
struct Dialling {
    dials: Dials,
    dial: Rc<Dial>,
}

impl Drop for Dialling {
    fn drop(&mut self) {
        self.dials.borrow_mut().retain(|dial| !Rc::ptr_eq(dial, &self.dial));
        self.dial.over.notify_waiters();
    }
}

impl Dial {
    fn leads_to(&self, server: SocketAddr, secure: Option<&Secure>) -> bool {
        self.server == server && self.secure.as_ref() == secure
    }
}

/// Makes a connection, and has a task drive it. The dial is over when the server has told its limit.
async fn connect(
    worker: &Rc<Worker>,
    route: Route<'_>,
    mut dialling: Option<Dialling>,
) -> Result<Rc<Channel>, ConnectError> {
    let Route { server, secure, leg, within } = route;
    let place = worker.place();
    let opening = async {
        let stream = match secure {
            None => Side::Plain(open(server, leg).await?),
            Some(secure) => match open_secure(server, leg, secure, Some(vec![b"h2".to_vec()])).await? {
                Transport::Tls(stream) => Side::Tls(Box::new(TlsStream::Client(*stream))),
                Transport::Plain(stream) => Side::Plain(stream),
                Transport::Gone => return Err(ConnectError::Failed(std::io::ErrorKind::NotConnected.into())),
            },
        };
        let shaken = builder().handshake(stream).await;
        shaken.map_err(|error| ConnectError::Failed(std::io::Error::other(error)))
    };
    let (sender, mut connection) = timeout(within, opening).await.map_err(|_| ConnectError::TimedOut)??;
    tokio::task::spawn_local(async move {
        let driven = poll_fn(|cx| {
            let polled = Pin::new(&mut connection).poll(cx);
            if dialling.is_some() && connection.max_concurrent_send_streams() != LIMIT_UNKNOWN {
                dialling = None;
            }
            polled
        });
        if let Err(error) = driven.await {
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
    }))
}

fn builder() -> client::Builder {
    let mut builder = client::Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(LIMIT_UNKNOWN)
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

    /// The most streams at a time, once the server has told.
    fn limit(&self) -> Option<usize> {
        let told = self.sender.current_max_send_streams();
        (told != LIMIT_UNKNOWN).then(|| told.min(STREAMS_MAX as usize))
    }

    /// Whether the server takes another stream beside those that are open.
    fn has_room(&self) -> bool {
        self.open.get() < self.limit().unwrap_or(1)
    }
}

impl Slot {
    fn of(channel: &Rc<Channel>) -> Slot {
        let (open, requests) = (channel.open.get(), channel.requests.get());
        channel.open.set(open + 1);
        channel.requests.set(requests + 1);
        Slot { channel: Rc::clone(channel), kept: open == 0 && requests > 0 }
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

/// What h2 has for a server's limit until its SETTINGS come: more than their 32 bits can tell, and not
/// what h2 takes it for if they tell none.
const LIMIT_UNKNOWN: usize = usize::MAX - 1;

/// What a server may send of one answer before its client has taken it. All of a connection's
/// together have room at once, so that no client that is slow holds up another's answer.
const STREAM_WINDOW: u32 = 128 * 1024;

/// The most that is kept of a request that its server has not taken yet.
const SEND_BUFFER: usize = 64 * 1024;

/// The largest head that is read at all; `proxy_buffer_size` says what may come of it.
const HEAD_MAX: u32 = 256 * 1024;
