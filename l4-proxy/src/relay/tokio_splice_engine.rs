//! The relay on the crate tokio-splice, driven through its `Stream` trait.
//!
//! The wrapper sees every readiness poll, which is enough for the idle timeout. It does not see how
//! much was moved: bytes are counted when both sides have ended, and not at all for a connection
//! that is reset.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::{COARSE, End, Progress, Side, Tally, Timeouts, abort};

pub(super) async fn relay<T: Tally>(
    client: &mut TcpStream,
    server: &mut TcpStream,
    timeouts: Timeouts,
    tally: &T,
) -> End {
    let progress = tally.progress();
    let outcome = {
        let mut client = Watched { stream: &mut *client, progress };
        let mut server = Watched { stream: &mut *server, progress };
        tokio::select! {
            biased;
            () = poll_fn(|cx| if tally.is_cut_off(cx) { Poll::Ready(()) } else { Poll::Pending }) => Err(End::CutOff),
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

/// Ends when nothing has moved for the idle timeout.
async fn silence(progress: &Progress, timeouts: Timeouts) {
    loop {
        let silent = progress.silent_for();
        if silent >= timeouts.idle {
            return;
        }
        sleep((timeouts.idle - silent).max(COARSE)).await;
    }
}

fn is_broken(stream: &TcpStream) -> bool {
    stream.peer_addr().is_err()
}

struct Watched<'a> {
    stream: &'a mut TcpStream,
    progress: &'a Progress,
}

impl tokio_splice::Stream for Watched<'_> {
    fn poll_read_ready_n(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_read_ready(cx)
    }

    fn poll_write_ready_n(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(cx)
    }

    fn try_io_n<R>(&self, interest: Interest, f: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        let moved = self.stream.try_io(interest, f);
        if moved.is_ok() {
            self.progress.touch();
        }
        moved
    }
}

impl AsRawFd for Watched<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl AsyncRead for Watched<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Watched<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}
