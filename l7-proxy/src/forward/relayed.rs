//! The body of a server's answer on its way to the client.

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use l4_proxy::relay::Pipe;
use lvs_core::{Event, Lease};
use tracing::error;

use crate::body::Cut;
use crate::moment::Moment;
use crate::server::Session;
use crate::transaction::{self, Transaction};
use crate::upstream::{BrokenOff, Connection, Incoming, Link, Pool, Streamed};

/// A body that is read from a server while it is sent to the client.
///
/// It holds the lease, for the server works until the last byte, and the connection, which is
/// given back to the pool only then. Dropped before, it closes the connection, or resets the stream:
/// the rest of the answer would be taken for the next one's.
pub(crate) struct Relayed {
    rest: Rest,
    /// `None` once the body has ended, one way or the other.
    claim: Option<Claim>,
    /// Whether it ended as the server meant it to.
    whole: bool,
    session: Rc<Session>,
    /// Bytes to the server and from it, once the claim has ended.
    moved: (u64, u64),
    breakage: Option<Box<Breakage>>,
}

/// The rest of an answer, and what it comes on.
pub(super) enum Rest {
    Http1(Incoming, Connection),
    Http2(Box<Streamed>),
    /// It has come, or will never come.
    Over,
}

/// A piece of a body in a pipe.
pub(crate) struct Piped {
    pub(crate) pipe: Pipe,
    pub(crate) bytes: usize,
}

/// How a server broke off its answer.
pub(crate) struct Breakage {
    reason: BrokenOff,
    server: SocketAddr,
}

/// What is held until the body has ended.
pub(super) struct Claim {
    pub(super) account: Account,
    pub(super) pool: Rc<Pool>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Nobody looks before the lease is gone, too: a call wakes another task.
        self.pool.call();
    }
}

/// A lease whose bytes are counted when it ends.
pub(super) struct Account {
    pub(super) lease: Lease,
    pub(super) traffic: Traffic,
    /// When the request was sent, where servers are chosen by how long whole answers take.
    pub(super) timed: Option<Instant>,
}

/// Where the bytes of one request and its answer are counted.
pub(super) enum Traffic {
    Link(Rc<Link>),
    Stream(Rc<Cell<(u64, u64)>>),
}

impl Traffic {
    /// The bytes to the server and from it since they were last counted.
    pub(super) fn so_far(&self) -> (u64, u64) {
        match self {
            Traffic::Link(link) => link.traffic(),
            Traffic::Stream(traffic) => traffic.get(),
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let (to_server, to_client) = match &self.traffic {
            Traffic::Link(link) => link.take_traffic(),
            Traffic::Stream(traffic) => traffic.take(),
        };
        self.lease.count_to_server(to_server);
        self.lease.count_to_client(to_client);
    }
}

impl Relayed {
    pub(super) fn new(rest: Rest, claim: Claim, session: Rc<Session>) -> Box<Relayed> {
        let mut relayed = Box::new(Relayed {
            rest,
            claim: Some(claim),
            whole: false,
            session,
            moved: (0, 0),
            breakage: None,
        });
        relayed.note_end();
        relayed
    }

    /// Whether the server's answer was read to its end.
    pub(crate) fn has_ended(&self) -> bool {
        self.whole
    }

    /// Whether nothing more has to come from the server.
    pub(crate) fn is_at_hand(&self) -> bool {
        match &self.rest {
            Rest::Http1(incoming, _) => incoming.is_at_hand(),
            Rest::Http2(_) | Rest::Over => self.rest.is_end(),
        }
    }

    /// Bytes to the server and from it so far.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        self.claim.as_ref().map_or(self.moved, |claim| claim.account.traffic.so_far())
    }

    /// Moves what comes next into a pipe, if that costs less than to read it; `None` if it does not.
    pub(crate) fn poll_splice(&mut self, cx: &mut Context<'_>) -> Option<Poll<Result<Piped, Cut>>> {
        let Rest::Http1(incoming, _) = &mut self.rest else { return None };
        if !incoming.is_bulk() {
            return None;
        }
        let mut pipe = Pipe::take()?;
        let bytes = match incoming.poll_splice(cx, &mut pipe) {
            Poll::Ready(Ok(bytes)) => bytes,
            Poll::Ready(Err(reason)) => {
                pipe.give_back();
                self.broke_off(reason);
                return Some(Poll::Ready(Err(Cut::Server)));
            }
            Poll::Pending => {
                pipe.give_back();
                return Some(Poll::Pending);
            }
        };
        self.note_end();
        Some(Poll::Ready(Ok(Piped { pipe, bytes })))
    }

    /// Ends the claim if the body has ended: the connection may carry the next request.
    fn note_end(&mut self) {
        if !self.rest.is_end() {
            return;
        }
        self.whole = true;
        let rest = std::mem::replace(&mut self.rest, Rest::Over);
        self.moved = self.traffic();
        if let Some(claim) = self.claim.take() {
            let pool = Rc::clone(&claim.pool);
            if let Some(began) = claim.account.timed {
                let (event, now) = (Event::Responded { latency: began.elapsed() }, Moment::now().as_time());
                pool.director(self.session.worker.director()).report(&claim.account.lease, event, now);
            }
            drop(claim);
            if let Rest::Http1(incoming, connection) = rest
                && incoming.is_reusable()
            {
                pool.put(connection);
            }
        }
    }

    /// Takes down that the server broke off its answer.
    fn broke_off(&mut self, reason: BrokenOff) {
        self.rest = Rest::Over;
        let Some(Claim { account: Account { lease, .. }, pool }) = &self.claim else { return };
        let session = &self.session;
        self.breakage = Some(Box::new(Breakage { reason, server: lease.server() }));
        let director = pool.director(session.worker.director());
        let event = Event::Failed(reason.to_string().into());
        director.report(lease, event, Moment::now().as_time());
        self.moved = self.traffic();
        self.claim = None;
    }

    /// How the server broke off its answer, which is read no further.
    pub(crate) fn into_breakage(mut self: Box<Relayed>) -> Option<Box<Breakage>> {
        self.breakage.take()
    }

    /// How the server broke off its answer, to be told by who knows the request.
    pub(crate) fn breakage(&self) -> Option<&Breakage> {
        self.breakage.as_deref()
    }
}

impl Breakage {
    /// Says it in the log of errors.
    pub(crate) fn tell(&self, transaction: &Transaction) {
        let serial = transaction.connection.serial;
        transaction::say_of(transaction, Some(self.server), |context| {
            error!("*{serial} {} while reading upstream{context}", self.reason);
        });
    }
}

impl Rest {
    /// Where the bytes of the exchange are counted.
    pub(super) fn traffic(&self) -> Traffic {
        match self {
            Rest::Http1(_, connection) => Traffic::Link(Rc::clone(&connection.link)),
            Rest::Http2(streamed) => Traffic::Stream(streamed.traffic()),
            Rest::Over => Traffic::Stream(Rc::default()),
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self {
            Rest::Http1(incoming, _) => incoming.poll_frame(cx),
            Rest::Http2(streamed) => streamed.poll_frame(cx),
            Rest::Over => Poll::Ready(None),
        }
    }

    fn is_end(&self) -> bool {
        match self {
            Rest::Http1(incoming, _) => incoming.is_end(),
            Rest::Http2(streamed) => streamed.is_end(),
            Rest::Over => true,
        }
    }
}

impl Body for Relayed {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        let frame = match ready!(this.rest.poll_frame(cx)) {
            Some(Err(reason)) => {
                this.broke_off(reason);
                let cut = match reason {
                    BrokenOff::Malformed => Cut::Malformed,
                    BrokenOff::Expired | BrokenOff::Closed | BrokenOff::Failed(_) => Cut::Server,
                };
                return Poll::Ready(Some(Err(cut)));
            }
            Some(Ok(frame)) => Some(frame),
            None => None,
        };
        // Nobody asks whether something comes after what ends a body.
        this.note_end();
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            Rest::Http1(incoming, _) => incoming.size_hint(),
            Rest::Http2(streamed) => streamed.size_hint(),
            Rest::Over => SizeHint::with_exact(0),
        }
    }
}
