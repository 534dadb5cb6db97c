//! One direction of a connection: copies small messages, splices bulk, gathers what comes fast.
//!
//! What has been read and not yet written is held, and nothing more is read until it has gone. So
//! a pipe is always empty when it is filled, and "would block" can only mean the socket.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncWrite, Interest};
use tokio::net::TcpStream;

use super::gathering::Gathering;
use super::pipe::Pipe;
use super::{End, Engine, Side, Tally};
use crate::socket::{self, Behind, is_transient};

/// One direction of a connection.
pub(super) struct Direction {
    engine: Engine,
    held: Held,
    /// The source has ended.
    pub(super) ended: bool,
    /// Its end has been passed on.
    pub(super) done: bool,
    /// The other direction is done.
    pub(super) last: bool,
    nagle: Nagle,
    /// Something has been read.
    begun: bool,
    /// Splices instead of copying.
    bulk: bool,
    /// Spliced reads in a row that were small.
    small: u8,
    /// Bytes spliced since the promotion, or since they last came too slowly to gather.
    run: usize,
    /// While bytes are let gather at the source.
    gathering: Option<Box<Gathering>>,
}

/// Bytes that one direction has read and not yet written.
enum Held {
    Nothing,
    Bytes { bytes: Box<[u8]>, written: usize },
    Piped { pipe: Pipe, bytes: usize },
}

/// Nagle's algorithm at the sink (RFC 1122, section 4.2.3.4): what is less than a segment waits while
/// anything is unconfirmed.
#[derive(Clone, Copy)]
enum Nagle {
    /// Not ours to change.
    AsItIs,
    /// On, with nothing sent yet.
    Idle,
    /// On, and something may be unconfirmed.
    Waiting,
}

/// A failure, and which of the two streams of a direction it came from.
pub(super) enum Fault {
    Source(io::Error),
    Sink(io::Error),
    /// No failure of either: the virtual address may be another director's.
    Elsewhere,
}

impl Fault {
    pub(super) fn between(self, source: Side, sink: Side) -> End {
        match self {
            Fault::Source(error) => End::Failed(source, error),
            Fault::Sink(error) => End::Failed(sink, error),
            Fault::Elsewhere => End::Elsewhere,
        }
    }
}

impl Direction {
    pub(super) fn new(engine: Engine) -> Direction {
        Direction {
            engine,
            held: Held::Nothing,
            ended: false,
            done: false,
            last: false,
            nagle: Nagle::AsItIs,
            begun: false,
            bulk: engine == Engine::Pooled,
            small: 0,
            run: 0,
            gathering: None,
        }
    }

    /// To a sink that nothing has been sent to: Nagle's algorithm is turned off when that makes a difference,
    /// which for one small message it never does.
    pub(super) fn to_fresh(engine: Engine) -> Direction {
        Direction { nagle: Nagle::Idle, ..Direction::new(engine) }
    }

    /// Moves what can be moved now; ready when the end has been passed on.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut TcpStream,
        sink: &mut TcpStream,
        tally: &impl Tally,
        mut moved: impl FnMut(u64),
    ) -> Poll<Result<(), Fault>> {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        loop {
            // Asked each time round: a process may be stopped here for long while there is more to move.
            if !tally.may_go_on() {
                return Poll::Ready(Err(Fault::Elsewhere));
            }
            ready!(self.flush(cx, sink, &mut moved)).map_err(Fault::Sink)?;
            if self.ended {
                if !self.last {
                    let shut = ready!(Pin::new(&mut *sink).poll_shutdown(cx));
                    shut.or_else(already_gone).map_err(Fault::Sink)?;
                }
                self.done = true;
                self.gathering = None;
                return Poll::Ready(Ok(()));
            }
            if self.bulk {
                self.about_to_send(sink, usize::MAX);
                ready!(self.splice_in(cx, source)).map_err(Fault::Source)?;
            } else {
                ready!(self.copy(cx, source, sink, tally, &mut moved))?;
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
                    let count = ready!(socket::poll_send(sink, cx, &bytes[*written..], Behind::Nothing))?;
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
        tally: &impl Tally,
        moved: &mut impl FnMut(u64),
    ) -> Poll<Result<(), Fault>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let count = ready!(socket::poll_recv(source, cx, scratch)).map_err(Fault::Source)?;
            let read = &scratch[..count];
            if read.is_empty() {
                self.ended = true;
                return Poll::Ready(Ok(()));
            }
            self.about_to_send(sink, read.len());
            // Short answers often end with their stream, and then their end goes out with them.
            // With no end of its own it would leave with the close, after the last look at the socket.
            let is_counted = self.last && tally.looks();
            let is_last = !std::mem::replace(&mut self.begun, true)
                && !is_counted
                && read.len() < SCRATCH_SIZE
                && socket::is_ended(source, cx);
            let behind = if is_last { Behind::End } else { Behind::Nothing };
            let written = match socket::poll_send(sink, cx, read, behind) {
                Poll::Ready(Ok(written)) => written,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Fault::Sink(error))),
                Poll::Pending => 0,
            };
            moved(written as u64);
            if written < read.len() {
                self.held = Held::Bytes { bytes: read[written..].into(), written: 0 };
            }
            if self.engine == Engine::Auto && read.len() == SCRATCH_SIZE {
                (self.bulk, self.small, self.run) = (true, 0, 0);
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Sees to it that so many bytes do not wait for the confirmation of others.
    fn about_to_send(&mut self, sink: &TcpStream, bytes: usize) {
        match self.nagle {
            Nagle::AsItIs => {}
            Nagle::Idle if bytes <= ONE_SEGMENT => self.nagle = Nagle::Waiting,
            Nagle::Idle | Nagle::Waiting => {
                self.nagle = Nagle::AsItIs;
                // A socket that refuses is broken, and says so at the next write.
                let _ = sink.set_nodelay(true);
            }
        }
    }

    /// Splices once from the source into a pipe; ready also when the direction no longer splices.
    fn splice_in(&mut self, cx: &mut Context<'_>, source: &TcpStream) -> Poll<io::Result<()>> {
        loop {
            if source.poll_read_ready(cx)?.is_pending() {
                ready!(self.gather(cx, source));
                // The time is over: what has gathered is taken, however little it is.
                return Poll::Ready(self.take_gathered(source));
            }
            let Some(mut pipe) = Pipe::take() else {
                // No pipe, or none of a useful size, is to be had: copying always works.
                self.stop_gathering(source);
                self.bulk = false;
                return Poll::Ready(Ok(()));
            };
            match source.try_io(Interest::READABLE, || pipe.fill_from(source, usize::MAX)) {
                Ok(bytes) => {
                    self.spliced(pipe, bytes, source);
                    return Poll::Ready(Ok(()));
                }
                Err(error) => {
                    pipe.give_back();
                    if !is_transient(&error) {
                        return Poll::Ready(Err(error));
                    }
                }
            }
        }
    }

    /// Waits for more of a source that has run dry; ready when it has been let gather long enough.
    fn gather(&mut self, cx: &mut Context<'_>, source: &TcpStream) -> Poll<()> {
        if self.gathering.is_none() && self.run >= GATHER_AFTER {
            self.run = 0;
            self.gathering = Gathering::start(source).map(Box::new).ok();
        }
        match &mut self.gathering {
            Some(gathering) => gathering.poll_over(cx),
            None => Poll::Pending,
        }
    }

    /// Splices what is there without asking whether the source is ready, since it says so only when
    /// much is.
    fn take_gathered(&mut self, source: &TcpStream) -> io::Result<()> {
        if let Some(mut pipe) = Pipe::take() {
            match pipe.fill_from(source, usize::MAX) {
                Ok(bytes) => {
                    if bytes < GATHER_LEAST {
                        self.stop_gathering(source);
                    }
                    self.spliced(pipe, bytes, source);
                    return Ok(());
                }
                Err(error) => {
                    pipe.give_back();
                    if !is_transient(&error) {
                        return Err(error);
                    }
                }
            }
        }
        self.stop_gathering(source);
        Ok(())
    }

    /// Takes note of a splice that moved this many bytes into the pipe.
    fn spliced(&mut self, pipe: Pipe, bytes: usize, source: &TcpStream) {
        if bytes == 0 {
            pipe.give_back();
            self.ended = true;
            return;
        }
        self.held = Held::Piped { pipe, bytes };
        self.run = self.run.saturating_add(bytes);
        if let Some(gathering) = &mut self.gathering {
            gathering.begin_again();
        }
        self.small = if bytes < SMALL { self.small.saturating_add(1) } else { 0 };
        if self.engine == Engine::Auto && self.small >= SMALL_READS {
            self.stop_gathering(source);
            self.bulk = false;
        }
    }

    fn stop_gathering(&mut self, source: &TcpStream) {
        self.run = 0;
        if let Some(gathering) = self.gathering.take() {
            gathering.stop(source);
        }
    }
}

/// A peer that has closed altogether needs no word of the end.
fn already_gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(error) }
}

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_SIZE].into());
}

/// Large enough that a read which fills it is worth a pipe, small enough to stay in the cache.
const SCRATCH_SIZE: usize = 64 * 1024;

/// What is sent as one segment: below TCP's smallest default, 536 bytes with options (RFC 9293, section 3.7.1). To a
/// peer that announces less it is more than one, of which the last may wait for a confirmation.
const ONE_SEGMENT: usize = 512;

/// A spliced read below this moved less than the two extra system calls cost.
const SMALL: usize = 16 * 1024;

/// This many small reads in a row end the promotion.
const SMALL_READS: u8 = 2;

/// What a direction must have spliced before its bytes are let gather: the transfer is long beside
/// the moment by which its last bytes may come later.
const GATHER_AFTER: usize = 128 * 1024;

/// Gathering goes on while it gathers at least this much; below, a wake-up costs less than a timer.
const GATHER_LEAST: usize = 64 * 1024;
