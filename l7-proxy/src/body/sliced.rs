//! A body that is fetched piece by piece, each when the one before has gone out (`slice`).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;

use super::{Cut, Kind};
use crate::forward::Breakage;

/// A piece that is being fetched.
pub(crate) type Coming = Pin<Box<dyn Future<Output = Result<Kind, Cut>>>>;

/// Pieces, one after the other.
pub(crate) struct Sliced {
    /// The piece that goes out.
    inner: Kind,
    coming: Option<Coming>,
    /// Where the next piece begins.
    next: u64,
    /// What lies between the beginnings of pieces.
    step: u64,
    /// Where the whole ends.
    end: u64,
    /// How much is still to come.
    left: u64,
    /// Asks for the piece that begins here.
    ask: Box<dyn FnMut(u64) -> Coming>,
    /// Bytes to the server of the first piece and from it: the others are requests of their own.
    traffic: (u64, u64),
    is_first: bool,
}

impl Sliced {
    /// A body of `length` bytes up to `end`. It begins with `first`; the next piece, `next`, begins so far
    /// behind, and those that follow it in steps of `step`.
    pub(crate) fn new(
        first: Kind,
        (next, step, end): (u64, u64, u64),
        length: u64,
        ask: Box<dyn FnMut(u64) -> Coming>,
    ) -> Sliced {
        let traffic = first.traffic().unwrap_or_default();
        Sliced { inner: first, coming: None, next, step, end, left: length, ask, traffic, is_first: true }
    }

    /// Whether all of it was given out.
    pub(super) fn has_ended(&self) -> bool {
        self.left == 0
    }

    /// How much is still to come.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn traffic(&self) -> (u64, u64) {
        self.traffic
    }

    pub(super) fn breakage(&self) -> Option<&Breakage> {
        self.inner.breakage()
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        while self.left > 0 {
            if let Some(coming) = &mut self.coming {
                let piece = ready!(coming.as_mut().poll(cx));
                self.coming = None;
                match piece {
                    Ok(piece) => self.inner = piece,
                    Err(cut) => return Poll::Ready(Some(Err(cut))),
                }
            }
            let polled = ready!(self.inner.poll_piece(cx));
            if self.is_first {
                self.traffic = self.inner.traffic().unwrap_or(self.traffic);
            }
            match polled {
                Some(Ok(frame)) if frame.is_data() => {
                    self.left = self.left.saturating_sub(frame.data_ref().map_or(0, Bytes::len) as u64);
                    return Poll::Ready(Some(Ok(frame)));
                }
                Some(Err(cut)) => return Poll::Ready(Some(Err(cut))),
                // What comes behind a piece is nobody's.
                Some(Ok(_)) | None => {}
            }
            if self.next >= self.end {
                return Poll::Ready(Some(Err(Cut::Server)));
            }
            self.is_first = false;
            self.coming = Some((self.ask)(self.next));
            self.next = self.next.saturating_add(self.step);
        }
        Poll::Ready(None)
    }
}
