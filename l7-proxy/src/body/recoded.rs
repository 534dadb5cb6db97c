//! A body that is put into another character set as it is sent (`charset`).

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;

use super::{Cut, Kind};
use crate::charset::Recoder;

/// Another body in another character set.
pub(crate) struct Recoded {
    pub(super) inner: Kind,
    recoder: Recoder,
}

impl Recoded {
    pub(crate) fn new(inner: Kind, recoder: Recoder) -> Recoded {
        Recoded { inner, recoder }
    }

    /// How much is still to come, where that stays the same.
    pub(super) fn exact_size(&self) -> Option<u64> {
        self.inner.exact_size().filter(|_| self.recoder.keeps_size())
    }

    /// Whether all of it was given out: what is held back at the end is lost.
    pub(super) fn has_ended(&self) -> bool {
        self.inner.is_over()
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            let frame = match ready!(self.inner.poll_piece(cx)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(piece) => {
                    let piece = self.recoder.push(&piece);
                    // All of it may have been held back.
                    if !piece.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(piece.into()))));
                    }
                }
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
    }
}
