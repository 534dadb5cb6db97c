//! A request's body on its way from the client to a server.
//!
//! The client sends every byte once. What is kept of it, in memory or in a file, can go to another
//! server if the first one fails.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tracing::error;

use super::Cut;
use crate::error_log::Errno;
use crate::server::{Broken, RequestBody, Session, Upload};
use crate::spool::Spool;

/// What a request's body is read from.
pub(crate) enum Received {
    /// A connection of HTTP/1.1.
    Http1(RequestBody),
    /// A stream of HTTP/2.
    Http2(Upload),
    /// Whatever a program has.
    Other(Pin<Box<dyn HttpBody<Data = Bytes, Error = Cut>>>),
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Received::Http1(body) => {
                let cut = |broken| match broken {
                    Broken::Gone => Cut::Gone,
                    Broken::Malformed => Cut::Chunks,
                };
                body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(cut)))
            }
            Received::Http2(body) => body.poll_frame(cx),
            Received::Other(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Received::Http1(body) => body.is_end(),
            Received::Http2(body) => body.is_end(),
            Received::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Received::Http1(body) => body.size_hint(),
            Received::Http2(body) => body.size_hint(),
            Received::Other(body) => body.size_hint(),
        }
    }
}

impl Received {
    /// Whether what has come so far is known not to be a body, although nobody has read it.
    pub(crate) fn is_spoilt(&self) -> bool {
        match self {
            Received::Http1(body) => body.is_spoilt(),
            // Frames are looked at as they come.
            Received::Http2(_) | Received::Other(_) => false,
        }
    }
}

/// A request's body, of which the client sends every byte once.
///
/// Its beginning is kept until there is an answer, so that a request with a small body can be sent
/// to another server.
pub(crate) struct Source {
    /// `None` for a body that is ours.
    incoming: RefCell<Option<Received>>,
    session: Rc<Session>,
    /// The size, if the client has told it.
    size: Option<u64>,
    /// Bytes that may still come.
    left: Cell<u64>,
    /// Whether all of it has come from the client.
    ended: Cell<bool>,
    failed: Cell<Option<Cut>>,
    kept: RefCell<Kept>,
    keeping: Keeping,
    /// The file that has all of it, if it was written to one.
    spooled: OnceCell<Spooled>,
}

/// What a copy of a body is read from.
#[derive(Clone)]
pub(crate) enum Duplicate {
    Held(Bytes),
    /// A file, and how much is in it.
    InFile(Rc<Spool>, u64),
}

/// A body in a file.
struct Spooled {
    file: Rc<Spool>,
    size: u64,
    /// Where the present attempt goes on.
    next: Cell<u64>,
}

/// Whether what was sent of a body is wanted afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// Only until there is an answer.
    UntilAnswered,
    /// Also then: a variable shows it.
    Remembered,
}

/// What of a body can be sent once more.
#[derive(Default)]
struct Kept {
    pieces: Vec<Bytes>,
    /// What follows the pieces, joined from small ones: a client may send a byte at a time. The present
    /// attempt has had it.
    tail: BytesMut,
    size: usize,
    /// The most that is kept.
    most: usize,
    /// The piece that the present attempt sends next.
    next: usize,
    /// Whether the body's beginning is not kept any more.
    lost: bool,
}

impl Source {
    /// A body of which at most `limit` bytes are read.
    pub(crate) fn new(
        incoming: Received,
        session: Rc<Session>,
        limit: Option<u64>,
        keeping: Keeping,
    ) -> Rc<Source> {
        Rc::new(Source {
            keeping,
            size: incoming.size_hint().exact(),
            incoming: RefCell::new(Some(incoming)),
            session,
            left: Cell::new(limit.unwrap_or(u64::MAX)),
            ended: Cell::new(false),
            failed: Cell::new(None),
            kept: RefCell::new(Kept { most: REPLAY_MAX, ..Kept::default() }),
            spooled: OnceCell::new(),
        })
    }

    /// A body that is known whole.
    pub(crate) fn held(bytes: Bytes, session: Rc<Session>) -> Rc<Source> {
        let size = bytes.len();
        let pieces = if bytes.is_empty() { Vec::new() } else { vec![bytes] };
        Rc::new(Source {
            keeping: Keeping::UntilAnswered,
            size: Some(size as u64),
            incoming: RefCell::new(None),
            session,
            left: Cell::new(0),
            ended: Cell::new(true),
            failed: Cell::new(None),
            kept: RefCell::new(Kept { pieces, size, most: REPLAY_MAX, ..Kept::default() }),
            spooled: OnceCell::new(),
        })
    }

    /// A copy of another request's body.
    pub(crate) fn of_copy(copy: Duplicate, session: Rc<Session>) -> Rc<Source> {
        match copy {
            Duplicate::Held(bytes) => Source::held(bytes, session),
            Duplicate::InFile(file, size) => {
                let source = Source::held(Bytes::new(), session);
                source.spooled.get_or_init(|| Spooled { file, size, next: Cell::new(0) });
                source
            }
        }
    }

    /// Returns what a copy of it is read from, if all of it has come and was kept.
    pub(crate) fn copy(&self) -> Option<Duplicate> {
        match self.spooled.get() {
            Some(spooled) => Some(Duplicate::InFile(Rc::clone(&spooled.file), spooled.size)),
            None => self.whole().map(Duplicate::Held),
        }
    }

    /// Whether it is read from a file that has all of it.
    pub(crate) fn is_in_file(&self) -> bool {
        self.spooled.get().is_some()
    }

    /// Whether another server can still get all of it.
    pub(crate) fn is_whole(&self) -> bool {
        self.spooled.get().is_some() || !self.kept.borrow().lost
    }

    /// Begins again, for another attempt.
    pub(crate) fn rewind(&self) {
        self.kept.borrow_mut().rewind();
        if let Some(spooled) = self.spooled.get() {
            spooled.next.set(0);
        }
    }

    /// There will be no other attempt: nothing needs to be kept.
    pub(crate) fn settle(&self) {
        if self.keeping == Keeping::Remembered {
            return;
        }
        let kept = &mut *self.kept.borrow_mut();
        kept.lost = true;
        if kept.next == kept.pieces.len() {
            kept.forget();
        }
    }

    /// The size, if it is known.
    pub(crate) fn exact_size(&self) -> Option<u64> {
        if let Some(spooled) = self.spooled.get() {
            return Some(spooled.size);
        }
        let kept = self.kept.borrow();
        let held = (self.ended.get() && !kept.lost).then_some(kept.size as u64);
        self.size.or(held)
    }

    /// Whether the client has told the size.
    pub(crate) fn is_size_told(&self) -> bool {
        self.size.is_some()
    }

    /// Reads the body before anything of it is sent: all of it, or its first `most` bytes. A server
    /// is not kept busy by a client that is slow, and every server can get all of the request.
    ///
    /// # Errors
    /// The client has gone, or has sent more than it may.
    pub(crate) async fn hold(&self, most: usize) -> Result<(), Cut> {
        // What is read to be held is held, however large its last piece.
        self.kept.borrow_mut().most = usize::MAX;
        let read = poll_fn(|cx| {
            while self.kept.borrow().size < most {
                match ready!(self.poll_frame(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(cut)) => return Poll::Ready(Err(cut)),
                    None => break,
                }
            }
            Poll::Ready(Ok(()))
        });
        read.await?;
        let kept = &mut *self.kept.borrow_mut();
        kept.most = REPLAY_MAX;
        kept.rewind();
        Ok(())
    }

    /// Writes all of the body to a file, from which servers get it then. What was held goes there, too.
    ///
    /// # Errors
    /// As [`hold`](Self::hold), and if the file fails.
    pub(crate) async fn spool(&self, file: Spool) -> Result<Rc<Spool>, Cut> {
        let failed = |error: io::Error| {
            error!("*{} the file of a request's body failed ({})", self.session.serial, Errno(&error));
            Cut::Store
        };
        let mut size = 0;
        let mut append = |piece: &Bytes| {
            size += piece.len() as u64;
            file.append(piece).map_err(failed)
        };
        let mut held =
            std::mem::replace(&mut *self.kept.borrow_mut(), Kept { lost: true, ..Kept::default() });
        held.join();
        held.pieces.iter().try_for_each(&mut append)?;
        let read = poll_fn(|cx| {
            loop {
                match ready!(self.poll_frame(cx)) {
                    Some(Ok(frame)) => frame.data_ref().map_or(Ok(()), &mut append)?,
                    Some(Err(cut)) => return Poll::Ready(Err(cut)),
                    None => return Poll::Ready(Ok(())),
                }
            }
        });
        read.await?;
        let file = Rc::new(file);
        let spooled = Spooled { file: Rc::clone(&file), size, next: Cell::new(0) };
        // It is written once: whoever asks again gets the file that there is.
        let spooled = self.spooled.get_or_init(|| spooled);
        Ok(Rc::clone(&spooled.file))
    }

    /// Whether all of it has come, and how much of it there is in memory.
    pub(crate) fn size_held(&self) -> Option<usize> {
        let kept = self.kept.borrow();
        (self.ended.get() && !kept.lost).then_some(kept.size)
    }

    /// Returns the body for variables that show it.
    pub(crate) fn shown(&self) -> Option<Bytes> {
        if self.keeping == Keeping::Remembered { self.whole() } else { None }
    }

    /// Returns the body, if all of it has come and has been kept.
    fn whole(&self) -> Option<Bytes> {
        let kept = &mut *self.kept.borrow_mut();
        if !self.ended.get() || kept.lost {
            return None;
        }
        kept.join();
        match &*kept.pieces {
            [one] => Some(one.clone()),
            pieces => Some(Bytes::from(pieces.concat())),
        }
    }

    /// Whether the client has gone before it has sent all of it.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.failed.get() == Some(Cut::Gone)
    }

    /// Whether the present attempt has had all of it.
    pub(crate) fn has_ended(&self) -> bool {
        if let Some(spooled) = self.spooled.get() {
            return spooled.next.get() == spooled.size;
        }
        let kept = self.kept.borrow();
        self.ended.get() && kept.next == kept.pieces.len()
    }

    /// Returns the next piece.
    pub(crate) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(spooled) = self.spooled.get() {
            return Poll::Ready(spooled.read().map(|piece| piece.map(Frame::data)));
        }
        let kept = &mut *self.kept.borrow_mut();
        if let Some(piece) = kept.pieces.get(kept.next) {
            kept.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        if let Some(cut) = self.failed.get() {
            return Poll::Ready(Some(Err(cut)));
        }
        if self.ended.get() {
            return Poll::Ready(None);
        }
        let mut incoming = self.incoming.borrow_mut();
        let Some(incoming) = &mut *incoming else { return Poll::Ready(None) };
        match Pin::new(&mut *incoming).poll_frame(cx) {
            Poll::Pending => {
                self.session.body_waits();
                Poll::Pending
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(cut))) => self.fail(cut),
            Poll::Ready(Some(Ok(frame))) => {
                self.session.body_moves();
                let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                if !matches!(incoming, Received::Http1(_)) {
                    // Where the bytes are seen as they come they are counted there.
                    self.session.receive(size);
                }
                let Some(left) = self.left.get().checked_sub(size) else { return self.fail(Cut::TooLarge) };
                self.left.set(left);
                if let Some(data) = frame.data_ref() {
                    kept.keep(data);
                }
                if incoming.is_end_stream() {
                    self.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn fail(&self, cut: Cut) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.failed.set(Some(cut));
        Poll::Ready(Some(Err(cut)))
    }

    fn end(&self) {
        self.ended.set(true);
        self.session.body_moves();
    }
}

impl Spooled {
    /// Returns the next piece.
    fn read(&self) -> Option<Result<Bytes, Cut>> {
        let next = self.next.get();
        let most = usize::try_from(self.size - next).unwrap_or(usize::MAX).min(SPOOLED_PIECE);
        if most == 0 {
            return None;
        }
        self.next.set(next + most as u64);
        Some(self.file.read(next, most).map_err(|_| Cut::Store))
    }
}

impl Kept {
    fn keep(&mut self, data: &Bytes) {
        if self.lost || self.size + data.len() > self.most {
            self.lost = true;
            self.forget();
            return;
        }
        self.size += data.len();
        // Most bodies come in one piece.
        if data.len() >= SMALL || self.pieces.is_empty() {
            self.join();
            self.pieces.push(data.clone());
            self.next = self.pieces.len();
            return;
        }
        self.tail.extend_from_slice(data);
        if self.tail.len() >= JOINED {
            self.join();
        }
    }

    /// Makes a piece of what small ones were joined to.
    fn join(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.split().freeze());
            self.next = self.pieces.len();
        }
    }

    fn rewind(&mut self) {
        self.join();
        self.next = 0;
    }

    fn forget(&mut self) {
        self.pieces = Vec::new();
        self.tail = BytesMut::new();
        self.next = 0;
    }
}

/// As much of a body is read from its file at a time.
const SPOOLED_PIECE: usize = 64 * 1024;

/// The most of a request's body that is kept in case that it has to be sent again.
const REPLAY_MAX: usize = 64 * 1024;

/// Pieces of a body that are smaller than this are joined to be kept.
const SMALL: usize = 4096;

/// As large as pieces become that are joined.
const JOINED: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept of a body that comes in pieces of these sizes, and the body.
    fn kept(sizes: &[usize]) -> (Kept, Vec<u8>) {
        let mut kept = Kept { most: usize::MAX, ..Kept::default() };
        let mut body = Vec::new();
        for (place, &size) in sizes.iter().enumerate() {
            let piece = vec![place as u8; size];
            kept.keep(&Bytes::from(piece.clone()));
            body.extend(piece);
        }
        kept.rewind();
        (kept, body)
    }

    #[test]
    fn body_is_kept_in_order_and_in_few_pieces_however_small_those_are_that_come() {
        for (sizes, pieces) in [
            (vec![5], 1),
            (vec![5, 0, 5], 2),
            (vec![SMALL, SMALL], 2),
            (vec![1, SMALL, 1, 1, SMALL, 2], 5),
            (vec![1; 1 << 20], 1 + (1 << 20) / JOINED),
        ] {
            let (kept, body) = kept(&sizes);
            assert_eq!((kept.pieces.len(), kept.size), (pieces, body.len()));
            assert!(kept.pieces.concat() == body);
        }
    }

    #[test]
    fn piece_that_comes_alone_is_not_copied() {
        let piece = Bytes::from_static(b"hello");
        let mut kept = Kept { most: usize::MAX, ..Kept::default() };
        kept.keep(&piece);
        assert_eq!(kept.pieces[0].as_ptr(), piece.as_ptr());
    }
}
