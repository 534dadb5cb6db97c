//! Bodies on their way through: a request's from the client to a server, a response's to the client.
//!
//! The body of a response holds everything that must last until its end: the lease on the server,
//! the connection that it comes from, the line for the access log. Whatever becomes of it (read to
//! the end, cut by the server, dropped with the client's connection), dropping it settles all of
//! that.

mod clipped;
mod edited;
mod filling;
mod joined;
mod pace;
mod packed;
mod recoded;
mod sliced;
mod source;
mod trailing;
mod unpacked;

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

pub(crate) use self::clipped::Clipped;
pub(crate) use self::edited::Edited;
pub(crate) use self::filling::{Deposit, Filled, Filling};
pub(crate) use self::joined::Joined;
use self::pace::Pace;
pub(crate) use self::packed::{Packed, Sizes};
pub(crate) use self::recoded::Recoded;
pub(crate) use self::sliced::{Coming, Sliced};
pub(crate) use self::source::{Duplicate, Keeping, Received, Source};
pub(crate) use self::trailing::{Added, Trailing};
pub(crate) use self::unpacked::Unpacked;
use crate::error_log;
use crate::forward::{Breakage, Piped, Relayed};
use crate::server::Session;
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
    /// The chunks of the server's answer are none.
    Malformed,
    /// The file is shorter than it was.
    File,
    /// The client has gone before its request was whole.
    Gone,
    /// The chunks of the client's request are none.
    Chunks,
    /// The frames of the client's request are not what it said, or the program that asks could not go on.
    Client,
    /// The request's body is larger than is allowed.
    TooLarge,
    /// The file for a request's body cannot be written, or not read.
    Store,
    /// A server has had part of the request's body, which was not kept for another.
    Lost,
}

impl Cut {
    /// The status that the client gets for it, while there is no answer yet.
    pub(crate) fn status(self) -> u16 {
        match self {
            Cut::TooLarge => 413,
            Cut::Store | Cut::Lost => 500,
            Cut::Server | Cut::Malformed | Cut::File => 502,
            Cut::NoAnswer | Cut::Gone | Cut::Chunks | Cut::Client => 400,
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cut::NoAnswer => "closed without an answer",
            Cut::Server => "upstream prematurely closed connection",
            Cut::Malformed => "upstream sent invalid chunked response",
            Cut::File => "file was truncated while sending response",
            Cut::Gone => "client prematurely closed connection",
            Cut::Chunks => "client sent invalid chunked body",
            Cut::Client => "client sent invalid body",
            Cut::Store => "the file of a request's body failed",
            Cut::Lost => "part of the request's body was sent and not kept, so no other server can have it",
            Cut::TooLarge => "client intended to send too large chunked body",
        })
    }
}

impl std::error::Error for Cut {}

/// A response's body.
pub(crate) struct Body {
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

pub(crate) enum Kind {
    /// Known whole; empty once it was sent.
    Whole(Bytes),
    File(Box<FileBody>),
    Relayed(Box<Relayed>),
    /// The same, which is kept as well.
    Filled(Box<Filled>),
    /// One of the others, with texts replaced.
    Edited(Box<Edited>),
    /// One of the others, between two more.
    Joined(Box<Joined>),
    /// One of the others, compressed.
    Packed(Box<Packed>),
    /// One of the others, which was compressed.
    Unpacked(Box<Unpacked>),
    /// One of the others, in another character set.
    Recoded(Box<Recoded>),
    /// A part of one of the others.
    Clipped(Box<Clipped>),
    /// Several of the others, each asked for when the one before has gone out.
    Sliced(Box<Sliced>),
}

impl Kind {
    /// Returns the next piece.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self {
            Kind::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Kind::File(file) => Pin::new(&mut **file)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|_| Cut::File))),
            Kind::Relayed(relayed) => Pin::new(&mut **relayed).poll_frame(cx),
            Kind::Filled(filled) => filled.poll_frame(cx),
            Kind::Edited(edited) => edited.poll_frame(cx),
            Kind::Joined(joined) => joined.poll_frame(cx),
            Kind::Packed(packed) => packed.poll_frame(cx),
            Kind::Unpacked(unpacked) => unpacked.poll_frame(cx),
            Kind::Recoded(recoded) => recoded.poll_frame(cx),
            Kind::Clipped(clipped) => clipped.poll_frame(cx),
            Kind::Sliced(sliced) => sliced.poll_frame(cx),
        }
    }

    /// What it was before anything was made of it.
    fn source(&self) -> &Kind {
        match self {
            Kind::Edited(edited) => edited.inner.source(),
            Kind::Joined(joined) => joined.inner.source(),
            Kind::Packed(packed) => packed.inner.source(),
            Kind::Unpacked(unpacked) => unpacked.inner.source(),
            Kind::Recoded(recoded) => recoded.inner.source(),
            Kind::Clipped(clipped) => clipped.inner.source(),
            Kind::Whole(_) | Kind::File(_) | Kind::Relayed(_) | Kind::Filled(_) | Kind::Sliced(_) => self,
        }
    }

    /// Whose it is.
    pub(crate) fn origin(&self) -> Origin {
        match self.source() {
            Kind::Relayed(_) | Kind::Filled(_) | Kind::Sliced(_) => Origin::Server,
            _ => Origin::Own,
        }
    }

    /// Bytes to the server that it comes from, and from it.
    pub(crate) fn traffic(&self) -> Option<(u64, u64)> {
        match self.source() {
            Kind::Relayed(relayed) => Some(relayed.traffic()),
            Kind::Filled(filled) => Some(filled.traffic()),
            Kind::Sliced(sliced) => Some(sliced.traffic()),
            _ => None,
        }
    }

    /// How the server that it comes from broke it off, if it did.
    pub(crate) fn breakage(&self) -> Option<&Breakage> {
        match self.source() {
            Kind::Relayed(relayed) => relayed.breakage(),
            Kind::Filled(filled) => filled.breakage(),
            Kind::Sliced(sliced) => sliced.breakage(),
            _ => None,
        }
    }

    /// The same of one that is read no further.
    fn into_breakage(self) -> Option<Box<Breakage>> {
        match self {
            Kind::Relayed(relayed) => relayed.into_breakage(),
            _ => None,
        }
    }

    /// Whether the server that it comes from may still break it off.
    pub(crate) fn may_break_off(&self) -> bool {
        match self.source() {
            Kind::Relayed(relayed) => !relayed.is_at_hand(),
            Kind::Filled(filled) => filled.may_break_off(),
            Kind::Sliced(sliced) => !sliced.has_ended(),
            _ => false,
        }
    }

    /// Whether nothing is to come.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::File(file) => file.is_end_stream(),
            Kind::Relayed(relayed) => relayed.is_end_stream(),
            Kind::Filled(filled) => filled.has_ended(),
            Kind::Edited(edited) => edited.has_ended(),
            Kind::Joined(joined) => joined.has_ended(),
            Kind::Packed(packed) => packed.has_ended(),
            Kind::Unpacked(unpacked) => unpacked.has_ended(),
            Kind::Recoded(recoded) => recoded.has_ended(),
            Kind::Clipped(clipped) => clipped.has_ended(),
            Kind::Sliced(sliced) => sliced.has_ended(),
        }
    }

    /// Reads what comes of it and throws it away, up to a size, so that the connection that it comes on
    /// can carry another request.
    pub(crate) async fn discard(self) {
        let mut kind = self;
        let mut left = DISCARDED_MAX;
        while let Some(Ok(frame)) = poll_fn(|cx| kind.poll_piece(cx)).await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    }

    /// Fields that describe it, as they go out, where the answer has none for that.
    pub(crate) fn head(&self) -> Option<&[u8]> {
        match self {
            Kind::File(file) => file.head(),
            _ => None,
        }
    }

    /// The size, where it is known.
    pub(crate) fn exact_size(&self) -> Option<u64> {
        match self {
            Kind::Whole(bytes) => Some(bytes.len() as u64),
            Kind::File(file) => file.size_hint().exact(),
            Kind::Relayed(relayed) => relayed.size_hint().exact(),
            Kind::Filled(filled) => filled.exact_size(),
            Kind::Recoded(recoded) => recoded.exact_size(),
            Kind::Clipped(clipped) => Some(clipped.left()),
            Kind::Sliced(sliced) => Some(sliced.left()),
            Kind::Edited(_) | Kind::Joined(_) | Kind::Packed(_) | Kind::Unpacked(_) => None,
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
        match &polled {
            Poll::Ready(Ok(piped)) => self.sent += piped.bytes as u64,
            Poll::Ready(Err(_)) => {
                let _within = error_log::within(self.session.places());
                tell_breakage(&self.kind, self.transaction.as_deref());
            }
            Poll::Pending => {}
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
        let this = self.get_mut();
        let _within = error_log::within(this.session.places());
        if let Some(pace) = &mut this.pace
            && !pace.is_empty()
        {
            let piece = ready!(pace.poll(cx));
            this.sent += piece.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let origin = this.kind.origin();
        let mut polled = this.kind.poll_piece(cx);
        if let Some(pace) = &mut this.pace
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
            let fields = this.trailing.end(&mut this.transaction, this.sent, origin, frame);
            polled = Poll::Ready(fields.map(|fields| Ok(Frame::trailers(fields))));
        }
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                this.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Poll::Ready(Some(Err(_))) => {
                tell_breakage(&this.kind, this.transaction.as_deref());
            }
            Poll::Ready(None) | Poll::Pending => {}
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

impl Drop for Body {
    fn drop(&mut self) {
        let whole = match &self.kind {
            _ if self.pace.as_ref().is_some_and(|pace| !pace.is_empty()) => false,
            Kind::Relayed(relayed) => relayed.has_ended(),
            kind => kind.is_over(),
        };
        let sizes = match &self.kind {
            Kind::Packed(packed) => Some(packed.sizes),
            _ => None,
        };
        let origin = self.kind.origin();
        let traffic = self.kind.traffic();
        if let Some(mut transaction) = self.transaction.take() {
            let completion = if whole { Completion::Whole } else { Completion::Partial };
            transaction.count(self.sent, origin);
            if let Some(traffic) = traffic {
                transaction.attempts.end(traffic);
            }
            transaction.settle(self.sent, completion, sizes);
        }
        self.session.end_response();
    }
}

/// Says in the log of errors how a server broke off its answer, if that is why there is no more of it.
#[cold]
fn tell_breakage(kind: &Kind, transaction: Option<&Transaction>) {
    if let (Some(breakage), Some(transaction)) = (kind.breakage(), transaction) {
        breakage.tell(transaction);
    }
}

/// The most that is read of a body that nobody wants.
const DISCARDED_MAX: usize = 64 * 1024;
