//! Bodies on their way through: a request's from the client to a server, a response's to the client.
//!
//! The body of a response holds everything that must last until its end: the lease on the server,
//! the connection that it comes from, the line for the access log. Whatever becomes of it (read to
//! the end, cut by the server, dropped with the client's connection), dropping it settles all of
//! that.

mod pace;
mod packed;
mod trailing;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project::{pin_project, pinned_drop};

use self::pace::Pace;
pub(crate) use self::packed::{Packed, Sizes};
pub(crate) use self::trailing::{Added, Trailing};
use crate::forward::{Piped, Relayed};
use crate::server::{Broken, Offer, RequestBody, Session};
use crate::static_file::FileBody;
use crate::transaction::{Origin, Transaction};
use crate::variable::Completion;

/// Why a connection is cut, so that nobody takes what was sent for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The configuration wants no answer sent (444).
    NoAnswer,
    /// The server's answer broke off.
    Server,
    /// The file is shorter than it was.
    File,
    /// The client has gone before its request was whole.
    Gone,
    /// The body of the client's request is none.
    Client,
    /// The request's body is larger than is allowed.
    TooLarge,
}

impl Cut {
    /// The status that the client gets for it, while there is no answer yet.
    pub(crate) fn status(self) -> u16 {
        match self {
            Cut::TooLarge => 413,
            Cut::Server | Cut::File => 502,
            Cut::NoAnswer | Cut::Gone | Cut::Client => 400,
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cut::NoAnswer => "closed without an answer",
            Cut::Server => "upstream prematurely closed connection",
            Cut::File => "file was truncated while sending response",
            Cut::Gone => "client prematurely closed connection",
            Cut::Client => "client sent invalid body",
            Cut::TooLarge => "client intended to send too large body",
        })
    }
}

impl std::error::Error for Cut {}

/// What a request's body is read from.
pub(crate) enum Received {
    /// A connection of HTTP/1.1.
    Http1(RequestBody),
    /// A stream of HTTP/2, which hyper reads.
    Http2(Incoming),
    /// Whatever a program has.
    Other(Pin<Box<dyn HttpBody<Data = Bytes, Error = Cut>>>),
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Received::Http1(body) => {
                let cut = |broken| match broken {
                    Broken::Gone => Cut::Gone,
                    Broken::Malformed => Cut::Client,
                };
                body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(cut)))
            }
            Received::Http2(body) => {
                let polled = Pin::new(body).poll_frame(cx);
                polled.map(|frame| frame.map(|frame| frame.map_err(|_| Cut::Gone)))
            }
            Received::Other(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Received::Http1(body) => body.is_end(),
            Received::Http2(body) => body.is_end_stream(),
            Received::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Received::Http1(body) => body.size_hint(),
            Received::Http2(body) => body.size_hint(),
            Received::Other(body) => body.size_hint(),
        }
    }
}

/// A request's body, of which the client sends every byte once.
///
/// Its beginning is kept until there is an answer, so that a request with a small body can be sent
/// to another server.
pub(crate) struct Source {
    /// `None` for a body that is ours.
    incoming: RefCell<Option<Received>>,
    session: Rc<Session>,
    /// The size, if the client has told it.
    size: Option<u64>,
    /// Bytes that may still come.
    left: Cell<u64>,
    /// Whether all of it has come from the client.
    ended: Cell<bool>,
    failed: Cell<Option<Cut>>,
    kept: RefCell<Kept>,
    keeping: Keeping,
}

/// Whether what was sent of a body is wanted afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// Only until there is an answer.
    UntilAnswered,
    /// Also then: a variable shows it.
    Remembered,
}

/// What of a body can be sent once more.
struct Kept {
    pieces: Vec<Bytes>,
    size: usize,
    /// The most that is kept.
    most: usize,
    /// The piece that the present attempt sends next.
    next: usize,
    /// Whether the body's beginning is not kept any more.
    lost: bool,
}

impl Source {
    /// A body of which at most `limit` bytes are read.
    pub(crate) fn new(
        incoming: Received,
        session: Rc<Session>,
        limit: Option<u64>,
        keeping: Keeping,
    ) -> Rc<Source> {
        Rc::new(Source {
            keeping,
            size: incoming.size_hint().exact(),
            incoming: RefCell::new(Some(incoming)),
            session,
            left: Cell::new(limit.unwrap_or(u64::MAX)),
            ended: Cell::new(false),
            failed: Cell::new(None),
            kept: RefCell::new(Kept { pieces: Vec::new(), size: 0, most: REPLAY_MAX, next: 0, lost: false }),
        })
    }

    /// A body that is known whole.
    pub(crate) fn held(bytes: Bytes, session: Rc<Session>) -> Rc<Source> {
        let size = bytes.len();
        let pieces = if bytes.is_empty() { Vec::new() } else { vec![bytes] };
        Rc::new(Source {
            keeping: Keeping::UntilAnswered,
            size: Some(size as u64),
            incoming: RefCell::new(None),
            session,
            left: Cell::new(0),
            ended: Cell::new(true),
            failed: Cell::new(None),
            kept: RefCell::new(Kept { pieces, size, most: REPLAY_MAX, next: 0, lost: false }),
        })
    }

    /// Whether another server can still get all of it.
    pub(crate) fn is_whole(&self) -> bool {
        !self.kept.borrow().lost
    }

    /// Begins again, for another attempt.
    pub(crate) fn rewind(&self) {
        self.kept.borrow_mut().next = 0;
    }

    /// There will be no other attempt: nothing needs to be kept.
    pub(crate) fn settle(&self) {
        if self.keeping == Keeping::Remembered {
            return;
        }
        let kept = &mut *self.kept.borrow_mut();
        kept.lost = true;
        if kept.next == kept.pieces.len() {
            kept.pieces = Vec::new();
            kept.next = 0;
        }
    }

    /// The size, if it is known.
    pub(crate) fn exact_size(&self) -> Option<u64> {
        let kept = self.kept.borrow();
        let held = (self.ended.get() && !kept.lost).then_some(kept.size as u64);
        self.size.or(held)
    }

    /// Whether the client has told the size.
    pub(crate) fn is_size_told(&self) -> bool {
        self.size.is_some()
    }

    /// Reads the body before anything of it is sent: all of it, or its first `most` bytes. A server
    /// is not kept busy by a client that is slow, and every server can get all of the request.
    ///
    /// # Errors
    /// The client has gone, or has sent more than it may.
    pub(crate) async fn hold(&self, most: usize) -> Result<(), Cut> {
        // What is read to be held is held, however large its last piece.
        self.kept.borrow_mut().most = usize::MAX;
        let read = poll_fn(|cx| {
            while self.kept.borrow().size < most {
                match ready!(self.poll_frame(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(cut)) => return Poll::Ready(Err(cut)),
                    None => break,
                }
            }
            Poll::Ready(Ok(()))
        });
        read.await?;
        let kept = &mut *self.kept.borrow_mut();
        (kept.most, kept.next) = (REPLAY_MAX, 0);
        Ok(())
    }

    /// Returns the body for variables that show it.
    pub(crate) fn shown(&self) -> Option<Bytes> {
        if self.keeping == Keeping::Remembered { self.whole() } else { None }
    }

    /// Returns the body, if all of it has come and has been kept.
    fn whole(&self) -> Option<Bytes> {
        let kept = self.kept.borrow();
        if !self.ended.get() || kept.lost {
            return None;
        }
        match &*kept.pieces {
            [one] => Some(one.clone()),
            pieces => Some(Bytes::from(pieces.concat())),
        }
    }

    /// Whether the client has gone before it has sent all of it.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.failed.get() == Some(Cut::Gone)
    }

    /// Whether the present attempt has had all of it.
    pub(crate) fn has_ended(&self) -> bool {
        let kept = self.kept.borrow();
        self.ended.get() && kept.next == kept.pieces.len()
    }

    /// Returns the next piece.
    pub(crate) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let kept = &mut *self.kept.borrow_mut();
        if let Some(piece) = kept.pieces.get(kept.next) {
            kept.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        if let Some(cut) = self.failed.get() {
            return Poll::Ready(Some(Err(cut)));
        }
        if self.ended.get() {
            return Poll::Ready(None);
        }
        let mut incoming = self.incoming.borrow_mut();
        let Some(incoming) = &mut *incoming else { return Poll::Ready(None) };
        match Pin::new(&mut *incoming).poll_frame(cx) {
            Poll::Pending => {
                self.session.body_waits();
                Poll::Pending
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(cut))) => self.fail(cut),
            Poll::Ready(Some(Ok(frame))) => {
                self.session.body_moves();
                let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(left) = self.left.get().checked_sub(size) else { return self.fail(Cut::TooLarge) };
                self.left.set(left);
                if let Some(data) = frame.data_ref() {
                    kept.keep(data);
                }
                if incoming.is_end_stream() {
                    self.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn fail(&self, cut: Cut) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.failed.set(Some(cut));
        Poll::Ready(Some(Err(cut)))
    }

    fn end(&self) {
        self.ended.set(true);
        self.session.body_moves();
    }
}

impl Kept {
    fn keep(&mut self, data: &Bytes) {
        if self.lost || self.size + data.len() > self.most {
            (self.lost, self.next) = (true, 0);
            self.pieces = Vec::new();
            return;
        }
        self.size += data.len();
        self.pieces.push(data.clone());
        self.next = self.pieces.len();
    }
}

/// A response's body.
#[pin_project(PinnedDrop)]
pub(crate) struct Body {
    #[pin]
    kind: Kind,
    session: Rc<Session>,
    /// The request, until its line is written; `None` where no log wants one.
    transaction: Option<Box<Transaction>>,
    sent: u64,
    /// `None` where nothing limits the rate.
    pace: Option<Box<Pace>>,
    /// What comes behind it.
    trailing: Trailing,
}

#[pin_project(project = KindProjection)]
pub(crate) enum Kind {
    /// Known whole; empty once it was sent.
    Whole(Bytes),
    File(#[pin] FileBody),
    Relayed(Box<Relayed>),
    /// One of the others, compressed.
    Packed(Box<Packed>),
}

impl Kind {
    /// Returns the next piece.
    fn poll_piece(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.project() {
            KindProjection::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            KindProjection::File(file) => {
                file.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(|_| Cut::File)))
            }
            KindProjection::Relayed(relayed) => Pin::new(&mut **relayed).poll_frame(cx),
            KindProjection::Packed(packed) => packed.poll_frame(cx),
        }
    }

    /// Whose it is.
    pub(crate) fn origin(&self) -> Origin {
        match self {
            Kind::Whole(_) | Kind::File(_) => Origin::Own,
            Kind::Relayed(_) => Origin::Server,
            Kind::Packed(packed) => packed.origin(),
        }
    }

    /// Whether nothing is to come.
    fn is_over(&self) -> bool {
        match self {
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::File(file) => file.is_end_stream(),
            Kind::Relayed(relayed) => relayed.is_end_stream(),
            Kind::Packed(packed) => packed.has_ended(),
        }
    }

    /// Fields that describe it, as they go out, where the answer has none for that.
    pub(crate) fn head(&self) -> Option<&[u8]> {
        match self {
            Kind::File(file) => file.head(),
            Kind::Whole(_) | Kind::Relayed(_) | Kind::Packed(_) => None,
        }
    }

    /// The size, where it is known.
    pub(crate) fn exact_size(&self) -> Option<u64> {
        match self {
            Kind::Whole(bytes) => Some(bytes.len() as u64),
            Kind::File(file) => file.size_hint().exact(),
            Kind::Relayed(relayed) => relayed.size_hint().exact(),
            Kind::Packed(_) => None,
        }
    }
}

impl Body {
    pub(crate) fn new(kind: Kind, session: Rc<Session>, transaction: Option<Box<Transaction>>) -> Body {
        Body { kind, session, transaction, sent: 0, pace: None, trailing: Trailing::Nothing }
    }

    /// Is followed by this.
    pub(crate) fn trail(&mut self, trailing: Trailing) {
        self.trailing = trailing;
    }

    /// Moves what comes next into a pipe, where that costs less than to read it and nothing has to
    /// look at it; `None` if it is to be read.
    pub(crate) fn poll_splice(&mut self, cx: &mut Context<'_>) -> Option<Poll<Result<Piped, Cut>>> {
        let Kind::Relayed(relayed) = &mut self.kind else { return None };
        if self.pace.is_some() || !matches!(self.trailing, Trailing::Nothing) {
            return None;
        }
        let polled = relayed.poll_splice(cx)?;
        if let Poll::Ready(Ok(piped)) = &polled {
            self.sent += piped.bytes as u64;
        }
        Some(polled)
    }

    /// Fields that describe it, as they go out; its length is among them.
    pub(crate) fn head(&self) -> Option<&[u8]> {
        self.kind.head()
    }

    /// The file that what comes next can be moved from, where nothing has to look at it.
    pub(crate) fn file(&mut self) -> Option<&mut FileBody> {
        match &mut self.kind {
            Kind::File(file)
                if self.pace.is_none() && matches!(self.trailing, Trailing::Nothing) && file.is_movable() =>
            {
                Some(file)
            }
            _ => None,
        }
    }

    /// Counts bytes that were [moved](Body::file).
    pub(crate) fn moved(&mut self, count: usize) {
        self.sent += count as u64;
    }

    /// Is sent at no more than `rate` bytes per second after the first `free` ones; a rate of 0 sets no
    /// limit.
    pub(crate) fn limit(&mut self, rate: u64, free: u64) {
        self.pace = (rate > 0).then(|| Box::new(Pace::new(rate, free)));
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.project();
        if let Some(pace) = this.pace
            && !pace.is_empty()
        {
            let piece = ready!(pace.poll(cx));
            *this.sent += piece.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let origin = this.kind.origin();
        let mut polled = this.kind.poll_piece(cx);
        if let Some(pace) = this.pace
            && let Poll::Ready(Some(Ok(frame))) = polled
        {
            polled = match frame.into_data() {
                Ok(data) => {
                    pace.hold(data);
                    pace.poll(cx).map(|piece| Some(Ok(Frame::data(piece))))
                }
                Err(frame) => Poll::Ready(Some(Ok(frame))),
            };
        }
        // What ends a body may have something behind it.
        let ended = match &polled {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => false,
        };
        if ended {
            let frame = match polled {
                Poll::Ready(Some(Ok(frame))) => frame.into_trailers().ok(),
                _ => None,
            };
            let fields = this.trailing.end(this.transaction, *this.sent, origin, frame);
            polled = Poll::Ready(fields.map(|fields| Ok(Frame::trailers(fields))));
        }
        this.session.offered(match &polled {
            Poll::Ready(Some(Ok(_))) => Offer::Taken,
            _ => Offer::Nothing,
        });
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            *this.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let waits = self.pace.as_ref().is_some_and(|pace| !pace.is_empty());
        !waits && !self.trailing.is_due() && self.kind.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        let size = self.kind.exact_size().filter(|_| !self.trailing.hides_size());
        size.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[pinned_drop]
impl PinnedDrop for Body {
    fn drop(self: Pin<&mut Self>) {
        let whole = match &self.kind {
            _ if self.pace.as_ref().is_some_and(|pace| !pace.is_empty()) => false,
            Kind::Relayed(relayed) => relayed.has_ended(),
            Kind::Whole(_) | Kind::File(_) | Kind::Packed(_) => self.kind.is_over(),
        };
        let sizes = match &self.kind {
            Kind::Packed(packed) => Some(packed.sizes),
            _ => None,
        };
        let origin = self.kind.origin();
        let this = self.project();
        if let Some(mut transaction) = this.transaction.take() {
            let completion = if whole { Completion::Whole } else { Completion::Partial };
            transaction.count(*this.sent, origin);
            transaction.settle(*this.sent, completion, sizes);
        }
        this.session.end_response();
    }
}

/// The most of a request's body that is kept in case that it has to be sent again.
const REPLAY_MAX: usize = 64 * 1024;
