//! A socket as hyper wants it, with somebody looking on.
//!
//! Timeouts are not kept here. A watcher is told when a read or a write has to wait and when bytes
//! move; whoever drives the connection has one timer and looks at what was noted when it fires.
//! So a request costs no timer, only a look at the clock where it waits.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::server::Spelling;

/// Looks on while a [`Wire`] is used.
pub(crate) trait Watch {
    /// These bytes were read; none at the end of the connection.
    fn read(&self, bytes: &[u8]);
    /// A read has to wait for the peer.
    fn read_waits(&self);
    /// This many bytes were written.
    fn written(&self, count: usize);
    /// A write has to wait for the peer.
    fn write_waits(&self);
    /// Names to be put right in the head that is written next.
    fn spelling(&self) -> Option<&Spelling>;
    /// What to do with bytes that the peer still sends when our end is sent.
    fn closing(&self) -> Closing;
}

/// What to do with bytes that the peer still sends when our end is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// None are expected: the socket is closed at once.
    Close,
    /// They are read and thrown away. A socket that is closed with unread bytes sends a reset,
    /// which may overtake the answer at the peer.
    Linger,
}

/// A connection that is watched: TCP, or TLS on it.
pub(crate) struct Wire<S, W> {
    stream: S,
    watch: Rc<W>,
    end_sent: bool,
    /// What was read and given back; the watcher has seen it.
    unread: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin, W: Watch> Wire<S, W> {
    pub(crate) fn new(stream: S, watch: Rc<W>) -> Wire<S, W> {
        Wire { stream, watch, end_sent: false, unread: Bytes::new() }
    }

    /// Returns the socket.
    pub(crate) fn into_stream(self) -> S {
        self.stream
    }

    /// Gives back what was read and not used.
    pub(crate) fn unread(&mut self, bytes: Bytes) {
        self.unread = bytes;
    }

    fn note(&self, polled: &Poll<io::Result<usize>>) {
        match polled {
            Poll::Ready(Ok(count)) => self.watch.written(*count),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.watch.write_waits(),
        }
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                let mut buffer = ReadBuf::new(scratch);
                ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
                if buffer.filled().is_empty() {
                    return Poll::Ready(Ok(()));
                }
                self.watch.read(buffer.filled());
            }
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, W: Watch> Read for Wire<S, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.unread.is_empty() {
            let count = this.unread.len().min(cursor.remaining());
            cursor.put_slice(&this.unread.split_to(count));
            return Poll::Ready(Ok(()));
        }
        // hyper's buffer is uninitialised memory, to which safe code can only copy.
        let polled = SCRATCH.with_borrow_mut(|scratch| {
            let room = cursor.remaining().min(scratch.len());
            let mut buffer = ReadBuf::new(&mut scratch[..room]);
            let polled = Pin::new(&mut this.stream).poll_read(cx, &mut buffer);
            if let Poll::Ready(Ok(())) = polled {
                this.watch.read(buffer.filled());
                cursor.put_slice(buffer.filled());
            }
            polled
        });
        if polled.is_pending() {
            this.watch.read_waits();
        }
        polled
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
        let this = &mut *self;
        let polled = if pieces.iter().map(|piece| piece.len()).sum::<usize>() <= SMALL {
            write_gathered(&mut this.stream, cx, pieces, this.watch.spelling())
        } else {
            match (this.watch.spelling(), pieces) {
                (Some(spelling), [head, rest @ ..]) => {
                    write_spelled(&mut this.stream, cx, head, rest, spelling)
                }
                _ => Pin::new(&mut this.stream).poll_write_vectored(cx, pieces),
            }
        };
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
        let this = &mut *self;
        if !this.end_sent {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            this.end_sent = true;
        }
        match this.watch.closing() {
            Closing::Close => Poll::Ready(Ok(())),
            Closing::Linger => this.poll_discard(cx),
        }
    }
}

/// Writes a head with its names put right; hyper hands it over as the first piece.
fn write_spelled(
    stream: &mut (impl AsyncWrite + Unpin),
    cx: &mut Context<'_>,
    head: &[u8],
    rest: &[IoSlice<'_>],
    spelling: &Spelling,
) -> Poll<io::Result<usize>> {
    let mut head = head.to_vec();
    spelling.correct(&mut head);
    let mut pieces = Vec::with_capacity(rest.len() + 1);
    pieces.push(IoSlice::new(&head));
    pieces.extend(rest.iter().map(|piece| IoSlice::new(piece)));
    let polled = Pin::new(stream).poll_write_vectored(cx, &pieces);
    if matches!(polled, Poll::Ready(Ok(written)) if written >= head.len()) {
        spelling.forget();
    }
    polled
}

/// Writes small pieces as one: for a head and a small body, copying them costs a fraction of what
/// the kernel takes to import a list of pieces.
fn write_gathered(
    stream: &mut (impl AsyncWrite + Unpin),
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
    spelling: Option<&Spelling>,
) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut filled = 0;
        for piece in pieces {
            scratch[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
        }
        let head = pieces.first().map_or(0, |head| head.len());
        if let Some(spelling) = spelling {
            spelling.correct(&mut scratch[..head]);
        }
        let polled = Pin::new(stream).poll_write(cx, &scratch[..filled]);
        if let (Some(spelling), Poll::Ready(Ok(written))) = (spelling, &polled)
            && *written >= head
        {
            spelling.forget();
        }
        polled
    })
}

impl<S: Readable, W> Wire<S, W> {
    /// Waits until there is something to read, be it the end.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.unread.is_empty() {
            return Poll::Ready(());
        }
        self.stream.poll_readable(cx)
    }
}

/// Tells when a connection that was read until it had to wait has something new.
pub(crate) trait Readable {
    /// Waits until there is something to read, be it the end; an error is for the read to tell.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()>;
}

impl Readable for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_read_ready(cx).map(drop)
    }
}

impl Readable for TlsStream<TcpStream> {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Whoever read until it had to wait has had all that was decrypted.
        self.get_ref().0.poll_readable(cx)
    }
}

thread_local! {
    /// One per worker: a read that has to wait needs no buffer, and one that does not is over
    /// before the next begins.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_SIZE].into());
}

/// Up to this size pieces are gathered before they are written.
const SMALL: usize = 4096;

/// Large enough for bulk, small enough to stay in the cache.
const SCRATCH_SIZE: usize = 64 * 1024;
