//! The client's end of a connection of HTTP/1.1: its socket, and what was received and not used yet.
//!
//! It has no buffer while nothing is on its way: bytes are read into memory that the worker's
//! connections share, and only what is left over is kept. Whoever reads a request's body reads it
//! from here, in whichever task that is; everything else is done by the task of the connection,
//! which reads nothing while there is a body to come.
//!
//! What waits, and since when, is noted in the [`Session`]; the connection's one timer looks at it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http_body::{Frame, SizeHint};
use l4_proxy::socket::{self, Behind};
use rustix::net::{SendFlags, send};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::head::{self, Expectation, Framing, Head};
use super::salvage::salvage;
use crate::forward::Piped;
use crate::handle::Refused;
use crate::model::{Linger, Lingering};
use crate::server::Session;
use crate::static_file::FileBody;
use crate::stream::Side;
use crate::upstream::{Chunks, Piece};

/// The client's end of a connection.
pub(crate) struct Channel {
    pub(super) session: Rc<Session>,
    side: RefCell<Side>,
    /// Of the body at hand, or of the next request.
    received: RefCell<Bytes>,
    /// The beginning of a head that has not come whole.
    partial: RefCell<Vec<u8>>,
    /// Whether the next request has begun before the last was answered.
    ahead: Cell<bool>,
    /// What is to come of the body at hand.
    left: RefCell<Left>,
    /// How much the last read of a body brought.
    last_read: Cell<usize>,
    /// Whether the client waits for a word before it sends the body.
    expectation: Cell<Expectation>,
    /// What of that word is still to be written.
    word: Cell<&'static [u8]>,
}

/// What is to come of a request's body.
enum Left {
    Nothing,
    Length(u64),
    Chunks(Box<Chunks>),
    /// It broke off, or is no body: where the next request begins is not known.
    Lost(Broken),
}

/// What has come while a request was waited for.
pub(super) enum Arrived {
    Head(Head),
    /// What has come is no request that could be answered; and what can be told of it.
    Refused(Refused, Box<Parts>),
    /// The connection has ended.
    End,
}

/// A request's body as it comes from the client.
pub(crate) struct RequestBody {
    channel: Rc<Channel>,
}

/// Why a body will never be whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The client has gone.
    Gone,
    /// What it sends is no body.
    Malformed,
}

impl Channel {
    pub(super) fn new(side: Side, session: Rc<Session>) -> Channel {
        Channel {
            session,
            side: RefCell::new(side),
            received: RefCell::default(),
            partial: RefCell::default(),
            ahead: Cell::new(false),
            left: RefCell::new(Left::Nothing),
            last_read: Cell::new(0),
            expectation: Cell::new(Expectation::Nothing),
            word: Cell::new(b""),
        }
    }

    /// Returns the socket, and what was received on it and not used.
    pub(super) fn into_parts(self) -> (Side, Bytes) {
        (self.side.into_inner(), self.received.into_inner())
    }

    /// Makes the socket send a reset in place of an end.
    pub(super) fn reset_on_drop(&self) {
        l4_proxy::relay::reset_on_drop(self.side.borrow().socket());
    }

    /// Waits for the head of the next request.
    pub(super) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Arrived> {
        let received = self.received.take();
        self.ahead.set(self.ahead.get() || !received.is_empty());
        if !received.is_empty()
            && let Some(arrived) = self.take_in(&received)
        {
            return Poll::Ready(arrived);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                let count = match ready!(self.poll_read(cx, scratch)) {
                    Ok(0) | Err(_) => return Poll::Ready(Arrived::End),
                    Ok(count) => count,
                };
                if let Some(arrived) = self.take_in(&scratch[..count]) {
                    return Poll::Ready(arrived);
                }
            }
        })
    }

    /// Reads a head from what was received so far and `bytes`, and keeps what is not a whole one.
    fn take_in(&self, bytes: &[u8]) -> Option<Arrived> {
        let mut partial = self.partial.borrow_mut();
        if partial.is_empty() {
            // Old clients send an empty line behind a body, which begins no request.
            let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
            let read = self.read_head(&bytes[start..]);
            if read.is_none() {
                partial.extend_from_slice(&bytes[start..]);
                self.session.begin_head();
            }
            return read;
        }
        partial.extend_from_slice(bytes);
        // A head ends with a line.
        let read = match memchr::memchr(b'\n', bytes) {
            None => self.check_partial(&partial),
            Some(_) => self.read_head(&partial),
        };
        if read.is_some() {
            *partial = Vec::new();
        }
        read
    }

    fn read_head(&self, bytes: &[u8]) -> Option<Arrived> {
        match head::read(bytes, self.session.worker.take_headers()) {
            Ok(Some((mut head, len))) => {
                if len < bytes.len() {
                    self.received.replace(Bytes::copy_from_slice(&bytes[len..]));
                }
                self.begin_body(&head);
                self.session.note_head(std::mem::take(&mut head.bytes), self.ahead.take());
                Some(Arrived::Head(head))
            }
            Ok(None) => self.check_partial(bytes),
            Err(refused) => Some(self.refuse(refused, bytes)),
        }
    }

    fn check_partial(&self, bytes: &[u8]) -> Option<Arrived> {
        let refused = head::check_partial(bytes, &self.session.head_limits()).err()?;
        Some(self.refuse(refused, bytes))
    }

    #[cold]
    fn refuse(&self, refused: Refused, bytes: &[u8]) -> Arrived {
        self.left.replace(Left::Lost(Broken::Malformed));
        self.session.note_head(Bytes::copy_from_slice(bytes), self.ahead.take());
        Arrived::Refused(refused, Box::new(salvage(bytes)))
    }

    /// What has come of a head that will not come whole, and what can be told of it.
    pub(super) fn take_unheard(&self) -> Option<(Bytes, Parts)> {
        let bytes = Bytes::from(self.partial.take());
        let parts = salvage(&bytes);
        (!bytes.is_empty()).then_some((bytes, parts))
    }

    fn begin_body(&self, head: &Head) {
        let left = match head.framing {
            Framing::Length(0) => return,
            Framing::Length(length) => Left::Length(length),
            Framing::Chunks => Left::Chunks(Box::new(Chunks::of_request())),
        };
        self.left.replace(left);
        self.last_read.set(0);
        self.expectation.set(head.expectation);
        self.session.expects_word.set(head.expectation == Expectation::Continue);
    }

    /// Returns the body of the request that was read last, if it has one.
    pub(super) fn body(self: &Rc<Channel>) -> Option<RequestBody> {
        match *self.left.borrow() {
            Left::Nothing | Left::Lost(_) => None,
            Left::Length(_) | Left::Chunks(_) => Some(RequestBody { channel: Rc::clone(self) }),
        }
    }

    /// Whether all of the request has come, so that the next one begins with what comes next.
    pub(super) fn has_all(&self) -> bool {
        matches!(*self.left.borrow(), Left::Nothing)
    }

    /// Whether what has come of the body, and was not taken, is known not to be one.
    fn is_spoilt(&self) -> bool {
        match &*self.left.borrow() {
            Left::Chunks(chunks) => chunks.are_spoilt_by(&self.received.borrow()),
            Left::Lost(broken) => *broken == Broken::Malformed,
            Left::Nothing | Left::Length(_) => false,
        }
    }

    /// Whether a body may be read to its end so that the connection can go on.
    pub(super) fn is_worth_reading(&self) -> bool {
        !matches!(*self.left.borrow(), Left::Lost(_)) && self.expectation.get() == Expectation::Nothing
    }

    /// Returns the next piece of the body.
    fn poll_body(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            let received = &mut *self.received.borrow_mut();
            match &mut *self.left.borrow_mut() {
                Left::Nothing => return Poll::Ready(None),
                Left::Lost(broken) => return Poll::Ready(Some(Err(*broken))),
                _ if received.is_empty() => {}
                left => {
                    // Whoever sends does not wait any more.
                    self.expect_nothing();
                    let before = received.len();
                    let taken = left.take(received);
                    self.session.receive((before - received.len()) as u64);
                    if let Some(taken) = taken {
                        return Poll::Ready(taken);
                    }
                }
            }
            ready!(self.poll_encourage(cx));
            match ready!(self.poll_receive(cx)) {
                Ok(bytes) if !bytes.is_empty() => *received = bytes,
                Ok(_) | Err(_) => {
                    self.left.replace(Left::Lost(Broken::Gone));
                }
            }
        }
    }

    /// Tells a client that waits for it that its body is wanted.
    fn poll_encourage(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.expect_nothing() == Expectation::Continue {
            self.word.set(CONTINUE);
        }
        while !self.word.get().is_empty() {
            match ready!(self.poll_write(cx, [self.word.get(), b"", b""], Behind::Nothing)) {
                Ok(count) => self.word.set(&self.word.get()[count..]),
                // Reading tells what there is to be told.
                Err(_) => return Poll::Ready(()),
            }
            if self.word.get().is_empty() {
                // What TLS keeps back goes out with the answer at the latest.
                let _ = self.poll_flush(cx);
            }
        }
        Poll::Ready(())
    }

    /// The client has stopped waiting; returns what it has waited for.
    fn expect_nothing(&self) -> Expectation {
        self.session.expects_word.set(false);
        self.expectation.replace(Expectation::Nothing)
    }

    /// Writes interim answers that a server has sent ahead of its answer.
    pub(super) fn poll_hints(&self, cx: &mut Context<'_>) {
        let mut hints = self.session.hints();
        if hints.is_empty() || !self.word.get().is_empty() {
            return;
        }
        while !hints.is_empty() {
            match self.poll_write(cx, [&hints, b"", b""], Behind::Nothing) {
                Poll::Ready(Ok(count)) => drop(hints.drain(..count)),
                // The answer will tell, or what is left of them goes out before it.
                Poll::Ready(Err(_)) | Poll::Pending => return,
            }
        }
        // What TLS keeps back goes out with the answer at the latest.
        let _ = self.poll_flush(cx);
    }

    /// Returns what is left of an interim answer that was begun: the answer comes behind it.
    pub(super) fn take_word(&self) -> &'static [u8] {
        // It is too late for one that was not.
        self.word.take()
    }

    fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        // What comes in large pieces is read in place; small ones are copied, so that they do not
        // hold on to memory that they do not need.
        let polled = match &mut *self.side.borrow_mut() {
            Side::Plain(stream) if self.last_read.get() >= BULK => match stream.poll_read_ready(cx) {
                Poll::Ready(Ok(())) => {
                    // Memory is had when there is something to fill it with.
                    let mut bytes = BytesMut::with_capacity(SCRATCH_SIZE);
                    let polled = pin!(stream.read_buf(&mut bytes)).poll(cx);
                    polled.map_ok(|_| bytes.freeze())
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            },
            side => SCRATCH.with_borrow_mut(|scratch| {
                read(side, cx, scratch).map_ok(|count| Bytes::copy_from_slice(&scratch[..count]))
            }),
        };
        match &polled {
            Poll::Ready(Ok(bytes)) => self.last_read.set(bytes.len()),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.session.body_waits(),
        }
        polled
    }

    /// Waits for the client to leave while its request is being answered.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.has_all() || !self.received.borrow().is_empty() {
            return Poll::Pending;
        }
        SCRATCH.with_borrow_mut(|scratch| match ready!(self.poll_read(cx, &mut scratch[..AHEAD])) {
            Ok(0) | Err(_) => Poll::Ready(()),
            Ok(count) => {
                // The next request comes early; it is looked at when this one is done with.
                self.received.replace(Bytes::copy_from_slice(&scratch[..count]));
                Poll::Pending
            }
        })
    }

    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        read(&mut self.side.borrow_mut(), cx, buffer)
    }

    /// Writes from these pieces, of which one at least is not empty.
    pub(super) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        pieces: [&[u8]; 3],
        behind: Behind,
    ) -> Poll<io::Result<usize>> {
        let polled = match (&mut *self.side.borrow_mut(), pieces) {
            (Side::Plain(stream), [only, [], []] | [[], only, []]) => {
                socket::poll_send(stream, cx, only, behind)
            }
            (Side::Plain(stream), pieces) => {
                socket::poll_send_pieces(stream, cx, &pieces.map(IoSlice::new), behind)
            }
            (side, pieces) => Pin::new(side).poll_write_vectored(cx, &pieces.map(IoSlice::new)),
        };
        match &polled {
            Poll::Ready(Ok(_)) => self.session.written(),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.session.write_waits(),
        }
        polled
    }

    /// Whether bytes can be moved to the socket without a look at them.
    pub(super) fn is_plain(&self) -> bool {
        matches!(*self.side.borrow(), Side::Plain(_))
    }

    /// Writes what a file [follows](Channel::poll_move), so that both leave together.
    pub(super) fn poll_write_ahead(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_io(cx, |socket| Ok(send(socket, bytes, SendFlags::MORE | SendFlags::NOSIGNAL)?))
    }

    /// Moves bytes from a file to the socket, which has to be [plain](Channel::is_plain).
    pub(super) fn poll_move(&self, cx: &mut Context<'_>, file: &mut FileBody) -> Poll<io::Result<usize>> {
        self.poll_io(cx, |socket| file.move_to(socket))
    }

    /// Does something with the socket that waits until that can be written.
    fn poll_io(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let side = self.side.borrow();
        let socket = side.socket();
        loop {
            if socket.poll_write_ready(cx)?.is_pending() {
                self.session.write_waits();
                return Poll::Pending;
            }
            match socket.try_io(Interest::WRITABLE, || write(socket)) {
                Ok(count) => {
                    self.session.written();
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Moves bytes from a pipe to the socket, which has to be [plain](Channel::is_plain).
    pub(super) fn poll_drain(&self, cx: &mut Context<'_>, piped: &mut Piped) -> Poll<io::Result<()>> {
        while piped.bytes > 0 {
            match ready!(self.poll_io(cx, |socket| piped.pipe.drain_into(socket, piped.bytes)))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => piped.bytes -= count,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what TLS has kept back.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.side.borrow_mut() {
            // A socket has no buffer of its own above the kernel's.
            Side::Plain(_) => Poll::Ready(Ok(())),
            side @ Side::Tls(_) => {
                let polled = Pin::new(side).poll_flush(cx);
                match &polled {
                    Poll::Ready(_) => self.session.written(),
                    Poll::Pending => self.session.write_waits(),
                }
                polled
            }
        }
    }

    /// Reads and throws away what is left of the body; returns whether its end was found.
    pub(super) async fn discard_body(&self) -> bool {
        let found = self.waste(|cx| {
            self.poll_body(cx).map(|piece| match piece {
                Some(Ok(_)) => None,
                Some(Err(_)) => Some(false),
                None => Some(true),
            })
        });
        found.await.unwrap_or(false)
    }

    /// Reads on until `read` says how it ended; `None` if the client takes longer than one is given that is
    /// parted from.
    async fn waste<T>(&self, mut read: impl FnMut(&mut Context<'_>) -> Poll<Option<T>>) -> Option<T> {
        let Lingering { pause, whole, .. } = self.session.lingering();
        let last = Instant::now() + whole;
        loop {
            let until = last.min(Instant::now() + pause);
            match timeout_at(until, poll_fn(&mut read)).await {
                Ok(None) => self.session.lingers(),
                Ok(end) => return end,
                Err(_) => return None,
            }
        }
    }

    /// Sends our end. If the client may still be sending, that is read and thrown away: a socket
    /// that is closed with unread bytes sends a reset, which may overtake the answer.
    pub(super) async fn part(&self) {
        let may_send = match self.session.lingering().when {
            Linger::Never => false,
            Linger::Expected => !self.has_all() || !self.received.borrow().is_empty() || self.has_unread(),
            Linger::Always => true,
        };
        // Closing it does not say as much: with anything unread that is a reset, which takes with it what `Behind::End`
        // has kept here, and a socket that is asked about the kernel's figures has a second descriptor.
        let sent = poll_fn(|cx| Pin::new(&mut *self.side.borrow_mut()).poll_shutdown(cx)).await;
        if sent.is_err() || !may_send {
            return;
        }
        self.session.begin_lingering();
        let ended = self.waste(|cx| {
            let read = SCRATCH.with_borrow_mut(|scratch| self.poll_read(cx, scratch));
            read.map(|read| matches!(read, Ok(0) | Err(_)).then_some(()))
        });
        ended.await;
    }

    /// Whether the socket has something that nobody will read. Asks the kernel only if the runtime
    /// has been told of something.
    fn has_unread(&self) -> bool {
        matches!(self.side.borrow().socket().try_read(&mut [0]), Ok(1))
    }
}

fn read(side: &mut Side, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    match side {
        Side::Plain(stream) => socket::poll_recv(stream, cx, buffer),
        side @ Side::Tls(_) => {
            let mut buffer = ReadBuf::new(buffer);
            Pin::new(side).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
        }
    }
}

impl Left {
    /// Takes a piece of the body from what was received; `None` if there is no whole one.
    fn take(&mut self, received: &mut Bytes) -> Option<Option<Result<Frame<Bytes>, Broken>>> {
        match self {
            Left::Nothing => Some(None),
            Left::Lost(broken) => Some(Some(Err(*broken))),
            Left::Length(left) => {
                let now = usize::try_from(*left).unwrap_or(usize::MAX).min(received.len());
                *left -= now as u64;
                if *left == 0 {
                    *self = Left::Nothing;
                }
                Some(Some(Ok(Frame::data(received.split_to(now)))))
            }
            Left::Chunks(chunks) => match chunks.next(received) {
                Ok(Piece::Data(data)) => Some(Some(Ok(Frame::data(data)))),
                Ok(Piece::Short) => None,
                Ok(Piece::End(trailers)) => {
                    *self = Left::Nothing;
                    Some(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
                }
                Err(_) => {
                    *self = Left::Lost(Broken::Malformed);
                    Some(Some(Err(Broken::Malformed)))
                }
            },
        }
    }
}

impl RequestBody {
    /// Returns the next piece.
    pub(crate) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.channel.poll_body(cx)
    }

    /// Whether nothing is to come.
    pub(crate) fn is_end(&self) -> bool {
        self.channel.has_all()
    }

    /// Whether what has come so far is known not to be a body.
    pub(crate) fn is_spoilt(&self) -> bool {
        self.channel.is_spoilt()
    }

    /// What is to come.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match *self.channel.left.borrow() {
            Left::Nothing => SizeHint::with_exact(0),
            Left::Length(left) => SizeHint::with_exact(left),
            Left::Chunks(_) | Left::Lost(_) => SizeHint::default(),
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

/// What a read brings where more of its kind is to be expected.
const BULK: usize = 16 * 1024;

/// The most that is read of requests to come while one is being answered.
const AHEAD: usize = 4096;

/// What a client that has announced a body is told.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
