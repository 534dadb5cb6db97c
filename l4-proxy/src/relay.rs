//! Carries bytes between a client and a real server until both have ended.
//!
//! An idle connection costs no buffer and no pipe. Bytes that are there are read into one scratch
//! buffer per thread and written on at once; only what the other side does not take is kept, and
//! nothing more is read until it has gone, so a slow reader holds back its sender and never grows
//! memory. A direction whose reads fill the scratch buffer is *bulk*: it is promoted to splice(2)
//! through a pipe of a per-thread pool, and demoted when its reads become small.
//!
//! The end of a stream is passed on as such after the last byte; a reset becomes a reset, since a
//! plain end would pass a truncated stream off as a whole one.

mod pipe;
mod tokio_splice_engine;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use self::pipe::Pipe;

/// How bytes are moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// Copies small messages, splices bulk.
    #[default]
    Auto,
    /// Copies everything: for kernels and pipe limits that make splicing useless.
    Copy,
    /// Splices everything through pooled pipes.
    Pooled,
    /// The crate tokio-splice, which keeps two pipes per connection for its life.
    TokioSplice,
}

/// How long a connection may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// With both directions open.
    pub idle: Duration,
    /// After one side has ended its direction.
    pub half_closed: Duration,
}

/// One side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The real server.
    Server,
}

/// Why a relay ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum End {
    /// Both sides ended their direction; every byte was delivered.
    Closed,
    /// One side reset the connection or could not be reached any more; the other was reset.
    Failed(Side, io::Error),
    /// Nothing moved for too long; both were reset.
    TimedOut,
}

/// What others may see of a relay while it runs: bytes, activity, phase.
///
/// Written by the relay only; a late read shows a moment ago.
#[derive(Debug, Default)]
pub struct Progress {
    to_server: AtomicU64,
    to_client: AtomicU64,
    /// Milliseconds of the coarse monotonic clock.
    active_at: AtomicU64,
    ended: AtomicU8,
}

const CLIENT_ENDED: u8 = 1;
const SERVER_ENDED: u8 = 2;

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Closed => f.write_str("closed"),
            End::Failed(Side::Client, error) => write!(f, "client failed: {error}"),
            End::Failed(Side::Server, error) => write!(f, "server failed: {error}"),
            End::TimedOut => f.write_str("timed out"),
        }
    }
}

/// Bytes that one direction has read and not yet written.
enum Held {
    Nothing,
    Bytes { bytes: Box<[u8]>, written: usize },
    Piped { pipe: Pipe, bytes: usize },
}

/// One direction of a connection.
struct Direction {
    held: Held,
    /// The source has ended.
    ended: bool,
    /// Its end has been passed on.
    done: bool,
    /// The other direction is done.
    last: bool,
    /// Splices instead of copying.
    bulk: bool,
    /// Spliced reads in a row that were small.
    small: u8,
}

/// A failure, and which of the two streams of a direction it came from.
enum Fault {
    Source(io::Error),
    Sink(io::Error),
}

/// The future that relays; yields why it ended.
#[pin_project::pin_project]
struct Relay<'a, T> {
    client: &'a mut TcpStream,
    server: &'a mut TcpStream,
    to_server: Direction,
    to_client: Direction,
    engine: Engine,
    timeouts: Timeouts,
    tally: &'a T,
    #[pin]
    timer: Sleep,
}

/// Takes in what a relay moves, as it moves.
pub trait Tally {
    /// These many more bytes went to the server.
    fn to_server(&self, bytes: u64);
    /// These many more bytes went to the client.
    fn to_client(&self, bytes: u64);
    /// One side has ended its direction.
    fn half_closed(&self);
    /// What others may see of it.
    fn progress(&self) -> &Progress;
}

/// Relays between `client` and `server` until both have ended, one fails, or a timeout passes.
///
/// On [`End::Failed`] and [`End::TimedOut`] both sockets are set to reset when they are dropped.
pub async fn relay<T: Tally>(
    client: &mut TcpStream,
    server: &mut TcpStream,
    engine: Engine,
    timeouts: Timeouts,
    tally: &T,
) -> End {
    tally.progress().touch();
    match engine {
        Engine::TokioSplice => tokio_splice_engine::relay(client, server, timeouts, tally).await,
        Engine::Auto | Engine::Copy | Engine::Pooled => {
            let direction = || Direction::new(engine == Engine::Pooled);
            let timer = sleep(timeouts.idle);
            let (to_server, to_client) = (direction(), direction());
            Relay { client, server, to_server, to_client, engine, timeouts, tally, timer }.await
        }
    }
}

/// Makes the socket send a reset instead of an end when it is dropped.
pub fn reset_on_drop(stream: &TcpStream) {
    // A socket that refuses the option is already reset.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

impl<T: Tally> Future for Relay<'_, T> {
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let mut this = self.project();
        let (tally, engine) = (*this.tally, *this.engine);
        let progress = tally.progress();
        let was_open = !this.to_server.ended && !this.to_client.ended;

        let mut moved = false;
        this.to_server.last = this.to_client.done;
        let to_server = this.to_server.poll(cx, this.client, this.server, engine, |bytes| {
            moved = true;
            progress.add(&progress.to_server, bytes);
            tally.to_server(bytes);
        });
        if let Poll::Ready(Err(fault)) = to_server {
            return Poll::Ready(abort(this.client, this.server, fault.between(Side::Client, Side::Server)));
        }
        // The direction that ends last need not say so: both sockets are about to be closed.
        this.to_client.last = this.to_server.done;
        let to_client = this.to_client.poll(cx, this.server, this.client, engine, |bytes| {
            moved = true;
            progress.add(&progress.to_client, bytes);
            tally.to_client(bytes);
        });
        if let Poll::Ready(Err(fault)) = to_client {
            return Poll::Ready(abort(this.client, this.server, fault.between(Side::Server, Side::Client)));
        }
        if this.to_server.done && this.to_client.done {
            return Poll::Ready(End::Closed);
        }

        if moved {
            progress.touch();
        }
        let open = !this.to_server.ended && !this.to_client.ended;
        let limit = if open { this.timeouts.idle } else { this.timeouts.half_closed };
        if was_open && !open {
            let ended = if this.to_server.ended { CLIENT_ENDED } else { SERVER_ENDED };
            progress.ended.store(ended, Ordering::Relaxed);
            tally.half_closed();
            this.timer.as_mut().reset(Instant::now() + limit);
        }
        // The timer is not touched when bytes move. When it fires it looks at when they last did,
        // and sleeps for the rest.
        loop {
            ready!(this.timer.as_mut().poll(cx));
            let silent = progress.silent_for();
            if silent >= limit {
                return Poll::Ready(abort(this.client, this.server, End::TimedOut));
            }
            this.timer.as_mut().reset(Instant::now() + (limit - silent).max(COARSE));
        }
    }
}

fn abort(client: &TcpStream, server: &TcpStream, end: End) -> End {
    reset_on_drop(client);
    reset_on_drop(server);
    end
}

impl Fault {
    fn between(self, source: Side, sink: Side) -> End {
        match self {
            Fault::Source(error) => End::Failed(source, error),
            Fault::Sink(error) => End::Failed(sink, error),
        }
    }
}

impl Direction {
    fn new(bulk: bool) -> Direction {
        Direction { held: Held::Nothing, ended: false, done: false, last: false, bulk, small: 0 }
    }

    /// Moves what can be moved now; ready when the end has been passed on.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut TcpStream,
        sink: &mut TcpStream,
        engine: Engine,
        mut moved: impl FnMut(u64),
    ) -> Poll<Result<(), Fault>> {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.flush(cx, sink, &mut moved)).map_err(Fault::Sink)?;
            if self.ended {
                if !self.last {
                    let shut = ready!(Pin::new(&mut *sink).poll_shutdown(cx));
                    shut.or_else(already_gone).map_err(Fault::Sink)?;
                }
                self.done = true;
                return Poll::Ready(Ok(()));
            }
            if self.bulk {
                ready!(self.splice_in(cx, source, engine)).map_err(Fault::Source)?;
            } else {
                ready!(self.copy(cx, source, sink, engine, &mut moved))?;
            }
        }
    }

    /// Writes what is held; ready when nothing is.
    fn flush(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut TcpStream,
        moved: &mut impl FnMut(u64),
    ) -> Poll<io::Result<()>> {
        match &mut self.held {
            Held::Nothing => return Poll::Ready(Ok(())),
            Held::Bytes { bytes, written } => {
                while *written < bytes.len() {
                    let count = ready!(Pin::new(&mut *sink).poll_write(cx, &bytes[*written..]))?;
                    *written += count;
                    moved(count as u64);
                }
            }
            Held::Piped { pipe, bytes } => {
                while *bytes > 0 {
                    ready!(sink.poll_write_ready(cx))?;
                    match sink.try_io(Interest::WRITABLE, || pipe.drain_into(&*sink, *bytes)) {
                        Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                        Ok(count) => {
                            *bytes -= count;
                            moved(count as u64);
                        }
                        Err(error) if is_transient(&error) => {}
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
            }
        }
        if let Held::Piped { pipe, .. } = std::mem::replace(&mut self.held, Held::Nothing) {
            pipe.give_back();
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once into the thread's scratch buffer and writes that on.
    fn copy(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut TcpStream,
        sink: &mut TcpStream,
        engine: Engine,
        moved: &mut impl FnMut(u64),
    ) -> Poll<Result<(), Fault>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(source).poll_read(cx, &mut buffer)).map_err(Fault::Source)?;
            let read = buffer.filled();
            if read.is_empty() {
                self.ended = true;
                return Poll::Ready(Ok(()));
            }
            let written = match Pin::new(sink).poll_write(cx, read) {
                Poll::Ready(Ok(written)) => written,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Fault::Sink(error))),
                Poll::Pending => 0,
            };
            moved(written as u64);
            if written < read.len() {
                self.held = Held::Bytes { bytes: read[written..].into(), written: 0 };
            }
            self.bulk = engine == Engine::Auto && read.len() == SCRATCH_SIZE;
            self.small = 0;
            Poll::Ready(Ok(()))
        })
    }

    /// Splices once from the source into a pipe.
    fn splice_in(
        &mut self,
        cx: &mut Context<'_>,
        source: &TcpStream,
        engine: Engine,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(source.poll_read_ready(cx))?;
            let Some(mut pipe) = Pipe::take() else {
                // No pipe, or none of a useful size, is to be had: copying always works.
                self.bulk = false;
                return Poll::Ready(Ok(()));
            };
            match source.try_io(Interest::READABLE, || pipe.fill_from(source)) {
                Ok(0) => {
                    pipe.give_back();
                    self.ended = true;
                    return Poll::Ready(Ok(()));
                }
                Ok(bytes) => {
                    self.held = Held::Piped { pipe, bytes };
                    self.small = if bytes < SMALL { self.small.saturating_add(1) } else { 0 };
                    if engine == Engine::Auto && self.small >= SMALL_READS {
                        self.bulk = false;
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if is_transient(&error) => pipe.give_back(),
                Err(error) => {
                    pipe.give_back();
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}

/// Whether a system call is to be tried again, now or when the socket is ready.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// A peer that has closed altogether needs no word of the end.
fn already_gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(error) }
}

impl Progress {
    /// Bytes that went to the server so far.
    pub fn bytes_to_server(&self) -> u64 {
        self.to_server.load(Ordering::Relaxed)
    }

    /// Bytes that went to the client so far.
    pub fn bytes_to_client(&self) -> u64 {
        self.to_client.load(Ordering::Relaxed)
    }

    /// How long nothing has moved.
    pub fn silent_for(&self) -> Duration {
        Duration::from_millis(coarse_millis().saturating_sub(self.active_at.load(Ordering::Relaxed)))
    }

    /// The side that ended its direction first, if one has.
    pub fn ended_first(&self) -> Option<Side> {
        match self.ended.load(Ordering::Relaxed) {
            CLIENT_ENDED => Some(Side::Client),
            SERVER_ENDED => Some(Side::Server),
            _ => None,
        }
    }

    /// Notes that these many more bytes went to the server just now.
    pub(crate) fn moved_to_server(&self, bytes: u64) {
        self.add(&self.to_server, bytes);
        self.touch();
    }

    /// Notes that these many more bytes went to the client just now.
    pub(crate) fn moved_to_client(&self, bytes: u64) {
        self.add(&self.to_client, bytes);
        self.touch();
    }

    fn touch(&self) {
        self.active_at.store(coarse_millis(), Ordering::Relaxed);
    }

    /// Only the relay writes, so no read-modify-write is needed.
    fn add(&self, count: &AtomicU64, bytes: u64) {
        count.store(count.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
    }
}

/// The kernel's tick clock: a few nanoseconds to read, right to a few milliseconds.
pub(crate) fn coarse_millis() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_SIZE].into());
}

/// Large enough that a read which fills it is worth a pipe, small enough to stay in the cache.
const SCRATCH_SIZE: usize = 64 * 1024;

/// A spliced read below this moved less than the two extra system calls cost.
const SMALL: usize = 16 * 1024;

/// This many small reads in a row end the promotion.
const SMALL_READS: u8 = 2;

/// Resolution of the coarse clock, with room to spare.
const COARSE: Duration = Duration::from_millis(10);
