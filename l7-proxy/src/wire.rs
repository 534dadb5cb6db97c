//! A socket as h2 wants it, with somebody looking on.
//!
//! Timeouts are not kept here. A watcher is told when a write has to wait and when bytes move;
//! whoever drives the connection has one timer and looks at what was noted when it fires.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Looks on while a [`Wire`] is used.
pub(crate) trait Watch {
    /// These bytes were read; none at the end of the connection. Says whether they are passed on.
    fn read(&self, bytes: &[u8]) -> Verdict;
    /// This many bytes were written.
    fn written(&self, count: usize);
    /// A write has to wait for the peer.
    fn write_waits(&self);
}

/// What becomes of bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They are passed on.
    Pass,
    /// They are thrown away, and nothing more is read.
    Stop,
}

/// A connection that is watched: TCP, or TLS on it.
pub(crate) struct Wire<S, W> {
    stream: S,
    watch: Rc<W>,
}

impl<S: AsyncRead + AsyncWrite + Unpin, W: Watch> Wire<S, W> {
    pub(crate) fn new(stream: S, watch: Rc<W>) -> Wire<S, W> {
        Wire { stream, watch }
    }

    fn note(&self, polled: &Poll<io::Result<usize>>) {
        match polled {
            Poll::Ready(Ok(count)) => self.watch.written(*count),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.watch.write_waits(),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, W: Watch> AsyncRead for Wire<S, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if let Poll::Ready(Ok(())) = polled
            && this.watch.read(&buffer.filled()[before..]) == Verdict::Stop
        {
            buffer.set_filled(before);
            return Poll::Pending;
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, W: Watch> AsyncWrite for Wire<S, W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.note(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket has no buffer of its own above the kernel's; TLS has.
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
