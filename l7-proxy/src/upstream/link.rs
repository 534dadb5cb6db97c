//! One connection to a server: its socket, the limits of the request that it carries, and what has
//! moved on it.
//!
//! It has no task. Whoever forwards a request reads and writes here in the task of the client's
//! connection, so an answer wakes one task and passes through no channel; an idle connection is a
//! socket and a timer that nobody looks at.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use l4_proxy::relay::Pipe;
use l4_proxy::socket::{self, Behind, is_transient};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::client::TlsStream;

use super::gathering::Gathering;
use crate::model::ProxySettings;
use crate::moment::{COARSE, Excuse, Moment};
use crate::server::Place;

/// One connection to a server.
pub(crate) struct Link {
    transport: RefCell<Transport>,
    /// Looks at the limits now and then, as long as they last.
    timer: RefCell<Pin<Box<Sleep>>>,
    excuse: Cell<Excuse>,
    /// The shortest that any limit may be.
    patience: Cell<Duration>,
    /// Whether the request has been written whole.
    sent: Cell<bool>,
    /// Whether the rest of the request will never be written.
    spoiled: Cell<bool>,
    /// Whether a byte of the request was written.
    begun: Cell<bool>,
    /// Whether anything was received since the request began.
    heard: Cell<bool>,
    read_since: Cell<Option<Moment>>,
    write_since: Cell<Option<Moment>>,
    read_timeout: Cell<Duration>,
    send_timeout: Cell<Duration>,
    /// How the bytes of a large answer are waited for.
    gathering: RefCell<Gathering>,
    /// Bytes written and read since they were last counted.
    traffic: Cell<(u64, u64)>,
    /// It counts among the connections of its worker, idle or not.
    _place: Place,
}

/// What carries the bytes of a connection to a server.
pub(crate) enum Transport {
    /// TCP in the clear.
    Plain(TcpStream),
    /// TLS on TCP.
    Tls(Box<TlsStream<TcpStream>>),
    /// It was taken over by another protocol.
    Gone,
}

/// Which limit a server has not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// It did not answer, or its answer paused for too long.
    Read,
    /// It did not take the request.
    Send,
}

impl Link {
    pub(super) fn new(transport: Transport, patience: Duration, place: Place) -> Link {
        Link {
            transport: RefCell::new(transport),
            timer: RefCell::new(Box::pin(sleep(patience))),
            excuse: Cell::default(),
            patience: Cell::new(patience),
            sent: Cell::new(false),
            spoiled: Cell::new(false),
            begun: Cell::new(false),
            heard: Cell::new(false),
            read_since: Cell::new(None),
            write_since: Cell::new(None),
            read_timeout: Cell::new(Duration::MAX),
            send_timeout: Cell::new(Duration::MAX),
            gathering: RefCell::new(Gathering::New),
            traffic: Cell::new((0, 0)),
            _place: place,
        }
    }

    /// A request begins, in a configuration in which no limit is shorter than `patience`.
    pub(crate) fn begin(&self, settings: &ProxySettings, patience: Duration) {
        // Another than before, after a reload.
        if self.patience.replace(patience) != patience {
            self.timer.borrow_mut().as_mut().reset(Instant::now() + patience);
        }
        self.sent.set(false);
        self.begun.set(false);
        self.heard.set(false);
        self.read_since.set(None);
        self.write_since.set(None);
        self.read_timeout.set(settings.read_timeout);
        self.send_timeout.set(settings.send_timeout);
        self.gathering.replace(Gathering::New);
    }

    /// No more of the request is written; from now on the answer is waited for.
    pub(super) fn sent(&self) {
        self.sent.set(true);
        self.write_since.set(None);
        // A read that waits already waits since now, as far as limits go.
        if self.read_since.get().is_some() {
            self.read_since.set(Some(Moment::now()));
        }
    }

    /// The rest of the request will never be written, yet the server may have answered already.
    pub(super) fn spoil(&self) {
        self.spoiled.set(true);
        self.sent();
    }

    /// Whether the request has been written whole.
    pub(super) fn is_sound(&self) -> bool {
        self.sent.get() && !self.spoiled.get()
    }

    /// Whether a byte of the request was written.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.get()
    }

    /// Whether anything was received since the request began.
    pub(crate) fn heard(&self) -> bool {
        self.heard.get()
    }

    /// Returns the bytes to the server and from it since they were last taken.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        self.traffic.get()
    }

    /// Returns the bytes to the server and from it since the last call.
    pub(crate) fn take_traffic(&self) -> (u64, u64) {
        self.traffic.take()
    }

    /// Takes the socket, for another protocol.
    pub(super) fn take_transport(&self) -> Transport {
        self.transport.replace(Transport::Gone)
    }

    /// Whether an idle connection can carry a request: nothing has come that nobody asked for, be
    /// it bytes or the end.
    ///
    /// Asks the kernel only if the runtime has been told of something.
    pub(super) fn is_quiet(&self) -> bool {
        match &mut *self.transport.borrow_mut() {
            Transport::Plain(stream) => {
                let read = stream.try_read(&mut [0]);
                matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            // Tickets may come unasked, so that bytes are no sign; reading tells.
            Transport::Tls(stream) => {
                let mut byte = [0];
                let mut buffer = ReadBuf::new(&mut byte);
                let mut context = Context::from_waker(Waker::noop());
                Pin::new(stream).poll_read(&mut context, &mut buffer).is_pending()
            }
            Transport::Gone => false,
        }
    }

    /// Reads into `buffer`; returns how much, nothing at the end of the connection.
    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let polled = match &mut *self.transport.borrow_mut() {
            Transport::Plain(stream) => socket::poll_recv(stream, cx, buffer),
            Transport::Tls(stream) => {
                let mut buffer = ReadBuf::new(buffer);
                poll_read_tls(stream, cx, &mut buffer).map_ok(|()| buffer.filled().len())
            }
            Transport::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        };
        self.note_read(polled)
    }

    /// Reads at most `most` bytes into memory of their own, without a copy.
    pub(super) fn poll_read_bytes(&self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<Bytes>> {
        let mut bytes = BytesMut::new();
        let polled = match &mut *self.transport.borrow_mut() {
            // Memory is had when there is something to fill it with.
            Transport::Plain(stream) => match stream.poll_read_ready(cx) {
                Poll::Ready(Ok(())) => {
                    bytes.reserve(most);
                    pin!(stream.read_buf(&mut bytes)).poll(cx)
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            },
            Transport::Tls(stream) => {
                bytes.resize(most, 0);
                let mut buffer = ReadBuf::new(&mut bytes);
                let polled = poll_read_tls(stream, cx, &mut buffer);
                let count = buffer.filled().len();
                bytes.truncate(count);
                polled.map_ok(|()| count)
            }
            Transport::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        };
        self.note_read(polled).map_ok(|_| bytes.freeze())
    }

    /// Moves at most `most` bytes into an empty pipe; returns how many, nothing at the end of the
    /// connection.
    pub(super) fn poll_splice(
        &self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let polled = match &*self.transport.borrow() {
            Transport::Plain(stream) => loop {
                match stream.poll_read_ready(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                    Poll::Pending => break Poll::Pending,
                }
                match stream.try_io(Interest::READABLE, || pipe.fill_from(stream, most)) {
                    Err(error) if is_transient(&error) => {}
                    moved => break Poll::Ready(moved),
                }
            },
            Transport::Tls(_) | Transport::Gone => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        };
        self.note_read(polled)
    }

    /// Lets bytes gather if there are many of the `left` to come, and moves them into an empty pipe;
    /// returns how many, nothing at the end of the connection.
    pub(super) fn poll_gathered(
        &self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        left: usize,
    ) -> Poll<io::Result<usize>> {
        self.gathering.borrow_mut().poll_splice(cx, self, pipe, left)
    }

    /// Moves at most `most` bytes like [`Link::poll_splice`], whether or not the runtime knows of anything.
    pub(super) fn splice_now(&self, pipe: &mut Pipe, most: usize) -> io::Result<usize> {
        let moved = match &*self.transport.borrow() {
            Transport::Plain(stream) => pipe.fill_from(stream, most),
            Transport::Tls(_) | Transport::Gone => Err(io::ErrorKind::Unsupported.into()),
        };
        match self.note_read(Poll::Ready(moved)) {
            Poll::Ready(moved) => moved,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Has the runtime told of the socket only when so much has come; it is told anew at once if it has.
    pub(super) fn call_for(&self, bytes: usize) {
        if let Transport::Plain(stream) = &*self.transport.borrow() {
            l4_proxy::relay::set_receive_low_water(stream, bytes);
        }
    }

    /// Waits to be told of the socket before it is read again.
    pub(super) fn forget_readiness(&self) {
        if let Transport::Plain(stream) = &*self.transport.borrow() {
            let wait = || Err::<(), io::Error>(io::ErrorKind::WouldBlock.into());
            let _ = stream.try_io(Interest::READABLE, wait);
        }
    }

    /// Whether bytes can be moved without a look at them.
    pub(super) fn is_plain(&self) -> bool {
        matches!(*self.transport.borrow(), Transport::Plain(_))
    }

    /// Writes from these pieces, of which one at least is not empty.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, pieces: [&[u8]; 3]) -> Poll<io::Result<usize>> {
        let polled = match (&mut *self.transport.borrow_mut(), pieces) {
            (Transport::Plain(stream), [only, [], []] | [[], [], only]) => {
                socket::poll_send(stream, cx, only, Behind::Nothing)
            }
            (Transport::Plain(stream), pieces) => {
                socket::poll_send_pieces(stream, cx, &pieces.map(IoSlice::new), Behind::Nothing)
            }
            (Transport::Tls(stream), pieces) => {
                let polled = Pin::new(&mut *stream).poll_write_vectored(cx, &pieces.map(IoSlice::new));
                // What is written is sealed and on its way as far as the socket takes it.
                if let Poll::Ready(Ok(_)) = polled
                    && let Poll::Ready(Err(error)) = Pin::new(stream).poll_flush(cx)
                {
                    return Poll::Ready(Err(error));
                }
                polled
            }
            (Transport::Gone, _) => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        };
        match &polled {
            Poll::Ready(Ok(count)) => {
                let (to_server, to_client) = self.traffic.get();
                self.traffic.set((to_server + *count as u64, to_client));
                self.begun.set(self.begun.get() || *count > 0);
                self.write_since.set(None);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending if self.write_since.get().is_none() => self.write_since.set(Some(Moment::now())),
            Poll::Pending => {}
        }
        polled
    }

    fn note_read(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &polled {
            Poll::Ready(Ok(count)) => {
                let (to_server, to_client) = self.traffic.get();
                self.traffic.set((to_server, to_client + *count as u64));
                self.heard.set(self.heard.get() || *count > 0);
                self.read_since.set(None);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending if self.read_since.get().is_none() => self.read_since.set(Some(Moment::now())),
            Poll::Pending => {}
        }
        polled
    }

    fn deadline(&self) -> Option<(Moment, Expired)> {
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

    /// Waits for a limit to be passed; to be asked by whoever waits for the server.
    pub(super) fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<Expired> {
        let mut timer = self.timer.borrow_mut();
        loop {
            ready!(timer.as_mut().poll(cx));
            let mut excuse = self.excuse.take();
            let is_excused = excuse.is_due(timer.as_mut());
            self.excuse.set(excuse);
            if is_excused {
                continue;
            }
            let now = Moment::now();
            let next = now + self.patience.get();
            let until = match self.deadline() {
                Some((deadline, expired)) if deadline <= now => return Poll::Ready(expired),
                // Whatever begins to wait from now on may wait as long as the patience at least.
                Some((deadline, _)) => deadline.min(next),
                None => next,
            };
            timer.as_mut().reset(Instant::now() + until.since(now).max(COARSE));
        }
    }
}

/// Reads what a server sent over TLS. What we wrote and the socket has not taken yet goes out first.
fn poll_read_tls(
    stream: &mut TlsStream<TcpStream>,
    cx: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    if let Poll::Ready(Err(error)) = Pin::new(&mut *stream).poll_flush(cx) {
        return Poll::Ready(Err(error));
    }
    match Pin::new(stream).poll_read(cx, buffer) {
        // Many servers go without a word of the end: nginx takes that for the end.
        Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
        polled => polled,
    }
}
