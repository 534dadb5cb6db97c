//! The relay on the crate tokio-splice, driven through its `Stream` trait.
//!
//! The wrapper sees every readiness poll and every end that is passed on, which is enough for the
//! timeouts. It does not see how much was moved: bytes are counted when both sides have ended, and not
//! at all for a connection that is reset.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::{CLIENT_ENDED, COARSE, End, Progress, SERVER_ENDED, Side, Tally, Timeouts, abort, probe};

pub(super) async fn relay<T: Tally>(
    client: &mut TcpStream,
    server: &mut TcpStream,
    timeouts: Timeouts,
    tally: &T,
) -> End {
    probe(client);
    probe(server);
    let progress = tally.progress();
    let outcome = {
        let mut client = Watched { stream: &mut *client, tally, end: SERVER_ENDED };
        let mut server = Watched { stream: &mut *server, tally, end: CLIENT_ENDED };
        tokio::select! {
            biased;
            end = poll_fn(|cx| tally.cut_off(cx).map_or(Poll::Pending, Poll::Ready)) => Err(end),
            outcome = tokio_splice::zero_copy_bidirectional(&mut client, &mut server) => Ok(outcome),
            () = silence(progress, timeouts) => Err(End::TimedOut),
        }
    };
    match outcome {
        Ok(Ok((to_server, to_client))) => {
            progress.add(&progress.to_server, to_server);
            progress.add(&progress.to_client, to_client);
            tally.to_server(to_server);
            tally.to_client(to_client);
            End::Closed
        }
        // The crate does not say which side failed; the one with an error pending did.
        Ok(Err(error)) => {
            let side = if is_broken(client) { Side::Client } else { Side::Server };
            abort(client, server, End::Failed(side, error))
        }
        Err(end) => abort(client, server, end),
    }
}

/// Ends when nothing has moved for too long: half-closed, less patience may be left. To be polled after
/// what may close a half.
async fn silence(progress: &Progress, timeouts: Timeouts) {
    let mut armed = timeouts.idle;
    let mut timer = pin!(sleep(armed));
    poll_fn(|cx| {
        let limit = if progress.ended_first().is_some() { timeouts.half_closed } else { timeouts.idle };
        if std::mem::replace(&mut armed, limit) != limit {
            timer.as_mut().reset(Instant::now() + limit);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            let silent = progress.silent_for();
            if silent >= limit {
                return Poll::Ready(());
            }
            timer.as_mut().reset(Instant::now() + (limit - silent).max(COARSE));
        }
    })
    .await;
}

fn is_broken(stream: &TcpStream) -> bool {
    stream.peer_addr().is_err()
}

struct Watched<'a, T> {
    stream: &'a mut TcpStream,
    tally: &'a T,
    /// What it means that this one is told of an end: the other one's.
    end: u8,
}

impl<T: Tally> tokio_splice::Stream for Watched<'_, T> {
    fn poll_read_ready_n(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_read_ready(cx)
    }

    fn poll_write_ready_n(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(cx)
    }

    fn try_io_n<R>(&self, interest: Interest, f: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        let moved = self.stream.try_io(interest, f);
        if moved.is_ok() {
            self.tally.progress().touch();
        }
        moved
    }
}

impl<T> AsRawFd for Watched<'_, T> {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl<T> AsyncRead for Watched<'_, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_read(cx, buffer)
    }
}

impl<T: Tally> AsyncWrite for Watched<'_, T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = self.tally.progress();
        if progress.ended_first().is_none() {
            progress.ended.store(self.end, Ordering::Relaxed);
            // As long as the one direction may be silent from now on.
            progress.touch();
            self.tally.half_closed();
        }
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}
