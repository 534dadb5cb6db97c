//! A socket as hyper wants it, with somebody looking on.
//!
//! Timeouts are not kept here. A watcher is told when a write has to wait and when bytes move;
//! whoever drives the connection has one timer and looks at what was noted when it fires.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Looks on while a [`Wire`] is used.
pub(crate) trait Watch {
    /// These bytes were read; none at the end of the connection.
    fn read(&self, bytes: &[u8]);
    /// This many bytes were written.
    fn written(&self, count: usize);
    /// A write has to wait for the peer.
    fn write_waits(&self);
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

impl<S: AsyncRead + AsyncWrite + Unpin, W: Watch> Read for Wire<S, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // hyper's buffer is uninitialised memory, to which safe code can only copy.
        SCRATCH.with_borrow_mut(|scratch| {
            let room = cursor.remaining().min(scratch.len());
            let mut buffer = ReadBuf::new(&mut scratch[..room]);
            let polled = Pin::new(&mut this.stream).poll_read(cx, &mut buffer);
            if let Poll::Ready(Ok(())) = polled {
                this.watch.read(buffer.filled());
                cursor.put_slice(buffer.filled());
            }
            polled
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, W: Watch> Write for Wire<S, W> {
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
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket has no buffer of its own above the kernel's; TLS has.
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

thread_local! {
    /// One per worker: a read that has to wait needs no buffer, and one that does not is over
    /// before the next begins.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_SIZE].into());
}

/// Large enough for bulk, small enough to stay in the cache.
const SCRATCH_SIZE: usize = 64 * 1024;
