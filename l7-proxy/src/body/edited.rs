//! A body in which texts are replaced as it is sent (`sub_filter`).

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;

use super::{Cut, Kind};
use crate::substitute::Substituter;

/// Another body with other texts in it.
pub(crate) struct Edited {
    pub(super) inner: Kind,
    /// `None` when the end has been given out.
    substituter: Option<Substituter>,
    /// What comes after the data.
    trailers: Option<Frame<Bytes>>,
}

impl Edited {
    pub(crate) fn new(inner: Kind, substituter: Substituter) -> Edited {
        Edited { inner, substituter: Some(substituter), trailers: None }
    }

    /// Whether all of it was given out.
    pub(super) fn has_ended(&self) -> bool {
        self.substituter.is_none() && self.trailers.is_none()
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            let Some(substituter) = &mut self.substituter else {
                return Poll::Ready(self.trailers.take().map(Ok));
            };
            let piece = match ready!(self.inner.poll_piece(cx)) {
                Some(Err(cut)) => return Poll::Ready(Some(Err(cut))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => substituter.push(&data),
                    Err(trailers) => {
                        self.trailers = Some(trailers);
                        let rest = substituter.finish();
                        self.substituter = None;
                        rest
                    }
                },
                None => {
                    let rest = substituter.finish();
                    self.substituter = None;
                    rest
                }
            };
            // All of a piece may have been held back.
            if !piece.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(piece.into()))));
            }
        }
    }
}
