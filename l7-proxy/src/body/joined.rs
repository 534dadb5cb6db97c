//! A body with others before and behind it (`add_before_body`, `add_after_body`).

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;

use super::{Cut, Kind};

/// Bodies, one after the other.
pub(crate) struct Joined {
    before: Option<Kind>,
    /// The one that it is about.
    pub(super) inner: Kind,
    /// Whether all of that was given out.
    is_over: bool,
    after: Option<Kind>,
    /// What comes after the data.
    trailers: Option<Frame<Bytes>>,
}

impl Joined {
    pub(crate) fn new(before: Option<Kind>, inner: Kind, after: Option<Kind>) -> Joined {
        Joined { before, inner, is_over: false, after, trailers: None }
    }

    /// The one that it is about.
    pub(crate) fn inner(&mut self) -> &mut Kind {
        &mut self.inner
    }

    /// Whether all of it was given out.
    pub(super) fn has_ended(&self) -> bool {
        let parts = [&self.before, &self.after];
        parts.iter().all(|part| part.is_none()) && self.is_over && self.trailers.is_none()
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(piece) = ready!(poll_part(&mut self.before, cx)) {
            return Poll::Ready(Some(piece));
        }
        while !self.is_over {
            match ready!(self.inner.poll_piece(cx)) {
                Some(Ok(frame)) if frame.is_trailers() => self.trailers = Some(frame),
                None => self.is_over = true,
                piece => return Poll::Ready(piece),
            }
        }
        if let Some(piece) = ready!(poll_part(&mut self.after, cx)) {
            return Poll::Ready(Some(piece));
        }
        Poll::Ready(self.trailers.take().map(Ok))
    }
}

/// Returns the next piece of what is put around; that has no trailers that would be anybody's.
fn poll_part(part: &mut Option<Kind>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
    while let Some(kind) = part {
        match ready!(kind.poll_piece(cx)) {
            Some(Ok(frame)) if frame.is_trailers() => {}
            None => *part = None,
            piece => return Poll::Ready(piece),
        }
    }
    Poll::Ready(None)
}
