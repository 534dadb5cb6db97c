//! Bodies on their way through: a request's from the client to a server, a response's to the client.
//!
//! The body of a response holds everything that must last until its end: the lease on the server,
//! the connection that it comes from, the line for the access log. Whatever becomes of it (read to
//! the end, cut by the server, dropped with the client's connection), dropping it settles all of
//! that.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project::{pin_project, pinned_drop};

use crate::forward::Relayed;
use crate::server::Session;
use crate::static_file::FileBody;
use crate::transaction::Transaction;
use crate::upstream::Link;
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
    /// The client's request broke off.
    Client,
    /// The request's body is larger than is allowed.
    TooLarge,
    /// The body was given to another connection.
    Withdrawn,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cut::NoAnswer => "closed without an answer",
            Cut::Server => "upstream prematurely closed connection",
            Cut::File => "file was truncated while sending response",
            Cut::Client => "client prematurely closed connection",
            Cut::TooLarge => "client intended to send too large body",
            Cut::Withdrawn => "request was given to another server",
        })
    }
}

impl std::error::Error for Cut {}

/// A request's body, of which the client sends every byte once.
pub(crate) struct Source {
    incoming: RefCell<Incoming>,
    session: Rc<Session>,
    /// Bytes that may still come.
    left: Cell<u64>,
    /// Whether a byte of it has gone to a server.
    touched: Cell<bool>,
    ended: Cell<bool>,
    failed: Cell<Option<Cut>>,
    /// The attempt that may read.
    attempt: Cell<u32>,
}

impl Source {
    /// A body of which at most `limit` bytes are read.
    pub(crate) fn new(incoming: Incoming, session: Rc<Session>, limit: Option<u64>) -> Rc<Source> {
        Rc::new(Source {
            incoming: RefCell::new(incoming),
            session,
            left: Cell::new(limit.unwrap_or(u64::MAX)),
            touched: Cell::new(false),
            ended: Cell::new(false),
            failed: Cell::new(None),
            attempt: Cell::new(0),
        })
    }

    /// Whether none of it has gone to a server, so that another one can still get all of it.
    pub(crate) fn is_whole(&self) -> bool {
        !self.touched.get()
    }

    /// What the client did wrong, or that it went.
    pub(crate) fn failed(&self) -> Option<Cut> {
        self.failed.get()
    }

    /// The size, if the client has told it.
    pub(crate) fn exact_size(&self) -> Option<u64> {
        self.incoming.borrow().size_hint().exact()
    }

    fn fail(&self, cut: Cut) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.failed.set(Some(cut));
        Poll::Ready(Some(Err(cut)))
    }

    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let mut incoming = self.incoming.borrow_mut();
        match Pin::new(&mut *incoming).poll_frame(cx) {
            Poll::Pending => {
                self.session.body_waits();
                Poll::Pending
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(_))) => self.fail(Cut::Client),
            Poll::Ready(Some(Ok(frame))) => {
                self.session.body_moves();
                let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(left) = self.left.get().checked_sub(size) else { return self.fail(Cut::TooLarge) };
                self.left.set(left);
                self.touched.set(true);
                if incoming.is_end_stream() {
                    self.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn end(&self) {
        self.ended.set(true);
        self.session.end_body();
    }
}

/// A request's body as one connection to a server sends it.
pub(crate) struct RequestBody {
    source: Option<Rc<Source>>,
    link: Rc<Link>,
    attempt: u32,
}

impl RequestBody {
    /// The body for the next attempt; those of earlier attempts end.
    pub(crate) fn new(source: Option<&Rc<Source>>, link: Rc<Link>) -> RequestBody {
        let Some(source) = source else {
            link.sent();
            return RequestBody { source: None, link, attempt: 0 };
        };
        source.attempt.set(source.attempt.get() + 1);
        RequestBody { source: Some(Rc::clone(source)), link, attempt: source.attempt.get() }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Some(source) = &self.source else { return Poll::Ready(None) };
        if source.attempt.get() != self.attempt {
            return Poll::Ready(Some(Err(Cut::Withdrawn)));
        }
        let polled = source.poll_frame(cx);
        if source.ended.get() && polled.is_ready() {
            self.link.sent();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.source.as_ref().is_none_or(|source| source.ended.get())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            None => SizeHint::with_exact(0),
            Some(source) => source.incoming.borrow().size_hint(),
        }
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
}

#[pin_project(project = KindProjection)]
pub(crate) enum Kind {
    /// Known whole; empty once it was sent.
    Whole(Bytes),
    File(#[pin] FileBody),
    Relayed(#[pin] Relayed),
}

impl Kind {
    /// The size, where it is known.
    pub(crate) fn exact_size(&self) -> Option<u64> {
        match self {
            Kind::Whole(bytes) => Some(bytes.len() as u64),
            Kind::File(file) => file.size_hint().exact(),
            Kind::Relayed(relayed) => relayed.size_hint().exact(),
        }
    }
}

impl Body {
    pub(crate) fn new(kind: Kind, session: Rc<Session>, transaction: Option<Box<Transaction>>) -> Body {
        Body { kind, session, transaction, sent: 0 }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.project();
        let polled = match this.kind.project() {
            KindProjection::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            KindProjection::File(file) => {
                file.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(|_| Cut::File)))
            }
            KindProjection::Relayed(relayed) => relayed.poll_frame(cx),
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            *this.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::File(file) => file.is_end_stream(),
            Kind::Relayed(relayed) => relayed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.kind.exact_size().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[pinned_drop]
impl PinnedDrop for Body {
    fn drop(self: Pin<&mut Self>) {
        let whole = match &self.kind {
            Kind::Relayed(relayed) => relayed.has_ended(),
            Kind::Whole(_) | Kind::File(_) => self.is_end_stream(),
        };
        let this = self.project();
        if let Some(mut transaction) = this.transaction.take() {
            let completion = if whole { Completion::Whole } else { Completion::Partial };
            transaction.settle(*this.sent, completion);
        }
        this.session.end_response();
    }
}
