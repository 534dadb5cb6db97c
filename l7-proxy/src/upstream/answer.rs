//! A request and its answer on one connection, driven by whoever wants the answer.
//!
//! [`ask`] writes the request and reads the head of the answer, both at once, for a server may
//! answer before it has read everything. If it does, the rest of the request goes on in a task of
//! its own: the client may read nothing of the answer before its request is out.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use l4_proxy::relay::Pipe;
use tokio::task::AbortHandle;

use super::beginning::Beginning;
use super::chunks::{Chunks, Piece};
use super::head::{Asked, Fields, Framing, Head};
use super::link::{Expired, Link};
use super::malformed::Malformed;
use super::upload::{Upload, UploadError};
use super::{Connection, Transport};
use crate::body::{Cut, Source};
use crate::error_log::Errno;

/// A request to be written to a server.
pub(crate) struct Question<'a> {
    /// The bytes of its head.
    pub(crate) head: Vec<u8>,
    pub(crate) body: Option<Rc<Source>>,
    pub(crate) asked: Asked,
    /// What becomes of the fields of the answer.
    pub(crate) fields: Fields<'a>,
    /// The largest head that an answer may have.
    pub(crate) head_max: usize,
    /// Gets the memory of the head back.
    pub(crate) buffers: &'a RefCell<Vec<u8>>,
}

/// Why a server did not answer.
#[derive(Debug)]
pub(crate) enum AskError {
    /// The client is at fault, or gone.
    Client(Cut),
    /// The server took too long.
    Expired(Expired),
    /// What it sent is no answer.
    Invalid(Malformed),
    /// It has not begun with the request, and says so.
    Refused(&'static str),
    /// The connection broke, or ended if there is no error.
    Broken(Option<io::Error>),
}

/// The body of an answer, as it comes from the server.
pub(crate) struct Incoming {
    link: Rc<Link>,
    left: Left,
    /// What was received with what came before it.
    received: Bytes,
    /// How much the last read brought.
    last_read: usize,
    /// Whether the connection may carry another request if all goes well.
    persistent: bool,
    /// The rest of the request, if the answer came before its end.
    upload: Option<AbortHandle>,
}

/// What is to come of a body.
enum Left {
    Length(u64),
    Chunks(Chunks),
    /// What comes until the connection ends.
    Everything,
    Nothing,
}

/// Why the body of an answer ended too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokenOff {
    Expired,
    Closed,
    /// With this error of the system.
    Failed(i32),
    Malformed,
}

impl BrokenOff {
    fn of(error: &io::Error) -> BrokenOff {
        // What TLS says by itself has no number.
        error.raw_os_error().map_or(BrokenOff::Closed, BrokenOff::Failed)
    }
}

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BrokenOff::Expired => f.write_str("upstream timed out (110: Connection timed out)"),
            BrokenOff::Closed => f.write_str("upstream prematurely closed connection"),
            BrokenOff::Failed(code) => {
                write!(f, "readv() failed ({})", Errno(&io::Error::from_raw_os_error(*code)))
            }
            BrokenOff::Malformed => f.write_str("upstream sent invalid chunked response"),
        }
    }
}

/// Writes a request and reads the head of its answer.
///
/// # Errors
/// See [`AskError`]; the connection is good for nothing then.
pub(crate) async fn ask(
    connection: &Connection,
    question: Question<'_>,
) -> Result<(Head, Incoming), AskError> {
    let link = &connection.link;
    let Question { head, body, asked, fields, head_max, buffers } = question;
    let mut upload = Some(Upload::new(head, body));
    let mut fields = Some(fields);
    let mut beginning = Beginning::new(head_max);
    let (head, received) = poll_fn(|cx| {
        if let Some(sending) = &mut upload {
            let polled = sending.poll(cx, link);
            match polled {
                Poll::Ready(Ok(())) => {
                    buffers.replace(sending.take_buffer());
                    upload = None;
                }
                Poll::Ready(Err(UploadError::Client(cut))) => return Poll::Ready(Err(AskError::Client(cut))),
                // It may have answered before it stopped listening.
                Poll::Ready(Err(UploadError::Server | UploadError::Expired)) => {
                    link.spoil();
                    upload = None;
                }
                Poll::Pending => {}
            }
        }
        let read = beginning.poll(cx, link, asked, &mut fields);
        if read.is_pending()
            && let Poll::Ready(expired) = link.poll_expired(cx)
        {
            return Poll::Ready(Err(AskError::Expired(expired)));
        }
        read
    })
    .await?;
    let left = match head.framing {
        Framing::Length(0) => Left::Nothing,
        Framing::Length(length) => Left::Length(length),
        Framing::Chunks => Left::Chunks(Chunks::of_answer()),
        Framing::Close => Left::Everything,
    };
    let upload =
        upload.map(|upload| tokio::task::spawn_local(finish(upload, Rc::clone(link))).abort_handle());
    let incoming =
        Incoming { link: Rc::clone(link), left, received, last_read: 0, persistent: head.persistent, upload };
    Ok((head, incoming))
}

/// Writes the rest of a request that has its answer already. Whoever reads the answer looks at the
/// limits, and ends this when it is not read any more.
async fn finish(mut upload: Upload, link: Rc<Link>) {
    if poll_fn(|cx| upload.poll(cx, &link)).await.is_err() {
        link.spoil();
    }
}

impl Incoming {
    /// Returns the next piece.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        loop {
            if let Some(taken) = self.take_received() {
                return Poll::Ready(Some(taken));
            }
            if self.is_end() {
                return Poll::Ready(None);
            }
            match self.poll_receive(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending => {
                    ready!(self.link.poll_expired(cx));
                    return Poll::Ready(Some(Err(BrokenOff::Expired)));
                }
            }
        }
    }

    /// Takes a piece from what was received; `None` if nothing is left of that.
    fn take_received(&mut self) -> Option<Result<Frame<Bytes>, BrokenOff>> {
        if self.received.is_empty() {
            return None;
        }
        match &mut self.left {
            Left::Nothing => None,
            Left::Everything => Some(Ok(Frame::data(std::mem::take(&mut self.received)))),
            Left::Length(left) => {
                let now = usize::try_from(*left).unwrap_or(usize::MAX).min(self.received.len());
                *left -= now as u64;
                if *left == 0 {
                    self.left = Left::Nothing;
                }
                Some(Ok(Frame::data(self.received.split_to(now))))
            }
            Left::Chunks(chunks) => match chunks.next(&mut self.received) {
                Ok(Piece::Data(data)) => Some(Ok(Frame::data(data))),
                Ok(Piece::Short) => None,
                Ok(Piece::End(trailers)) => {
                    self.left = Left::Nothing;
                    trailers.map(|trailers| Ok(Frame::trailers(trailers)))
                }
                Err(_) => {
                    self.left = Left::Nothing;
                    self.persistent = false;
                    Some(Err(BrokenOff::Malformed))
                }
            },
        }
    }

    /// Whether what comes next had better be moved by [`Incoming::poll_splice`].
    pub(crate) fn is_bulk(&self) -> bool {
        matches!(self.left, Left::Length(BULK_LEFT..)) && self.received.is_empty() && self.link.is_plain()
    }

    /// Moves what comes next into an empty pipe; returns how much. What is not
    /// [bulk](Incoming::is_bulk) is [read](Incoming::poll_frame).
    pub(crate) fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<Result<usize, BrokenOff>> {
        let Left::Length(left) = self.left else { return Poll::Ready(Err(BrokenOff::Malformed)) };
        // Never more than the body: what comes behind it is nobody's.
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        match self.link.poll_gathered(cx, pipe, most) {
            Poll::Ready(Ok(count @ 1..)) => {
                self.left = match left - count as u64 {
                    0 => Left::Nothing,
                    left => Left::Length(left),
                };
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Ok(_)) => Poll::Ready(Err(BrokenOff::Closed)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(BrokenOff::of(&error))),
            Poll::Pending => self.link.poll_expired(cx).map(|_| Err(BrokenOff::Expired)),
        }
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BrokenOff>> {
        // One byte more than there should be: a read that fills its memory would have to be followed
        // by another one to learn that nothing is left, and what nobody asked for shows at once.
        let most = match self.left {
            Left::Length(left) => usize::try_from(left).unwrap_or(usize::MAX).saturating_add(1),
            _ => usize::MAX,
        };
        let most = most.min(READ_MAX);
        // What comes in large pieces is read in place; small ones are copied, so that they do not
        // hold on to memory that they do not need.
        let read = if self.last_read >= BULK {
            self.link.poll_read_bytes(cx, most)
        } else {
            SCRATCH.with_borrow_mut(|scratch| {
                let read = self.link.poll_read(cx, &mut scratch[..most.min(SCRATCH_SIZE)]);
                read.map_ok(|count| Bytes::copy_from_slice(&scratch[..count]))
            })
        };
        match ready!(read) {
            Ok(bytes) if bytes.is_empty() && matches!(self.left, Left::Everything) => {
                self.left = Left::Nothing;
                self.persistent = false;
                Poll::Ready(Ok(()))
            }
            Ok(bytes) if bytes.is_empty() => Poll::Ready(Err(BrokenOff::Closed)),
            Ok(bytes) => {
                self.last_read = bytes.len();
                self.received = bytes;
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(BrokenOff::of(&error))),
        }
    }

    /// The server was told that there is no other request.
    pub(crate) fn close_at_end(&mut self) {
        self.persistent = false;
    }

    /// Whether nothing is to come.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self.left, Left::Nothing)
    }

    /// Whether all that is to come has been received.
    pub(crate) fn is_at_hand(&self) -> bool {
        match self.left {
            Left::Nothing => true,
            Left::Length(left) => left <= self.received.len() as u64,
            Left::Chunks(_) | Left::Everything => false,
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.left {
            Left::Nothing => SizeHint::with_exact(0),
            Left::Length(left) => SizeHint::with_exact(left),
            Left::Chunks(_) | Left::Everything => SizeHint::default(),
        }
    }

    /// Whether the connection may carry another request: the answer has ended where it said,
    /// nothing followed it, and the request is out.
    pub(crate) fn is_reusable(&self) -> bool {
        self.is_end() && self.persistent && self.received.is_empty() && self.link.is_sound()
    }

    /// Takes the socket after the server has agreed to another protocol, and what it has sent in
    /// that already.
    pub(crate) fn into_transport(mut self) -> (Transport, Bytes) {
        (self.link.take_transport(), std::mem::take(&mut self.received))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.abort();
        }
    }
}

thread_local! {
    /// One per worker: a read that has to wait needs no buffer, and one that does not is over
    /// before the next begins.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_SIZE].into());
}

/// Large enough for bulk, small enough to stay in the cache.
const SCRATCH_SIZE: usize = 64 * 1024;

/// The most that is read at once.
const READ_MAX: usize = 64 * 1024;

/// What a read brings where more of its kind is to be expected.
const BULK: usize = 16 * 1024;

/// What is to come of a body where moving it without a look costs less than two copies.
const BULK_LEFT: u64 = 32 * 1024;
