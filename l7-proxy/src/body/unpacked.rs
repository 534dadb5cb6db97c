//! A body that a server has compressed, for a client that does not take it so (`gunzip`).

use std::io::Write as _;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use flate2::write::MultiGzDecoder;
use http_body::Frame;

use super::{Cut, Kind};

/// Another body, which is gzip, as what it was before.
pub(crate) struct Unpacked {
    pub(super) inner: Kind,
    /// `None` when all has been given out.
    unpacker: Option<MultiGzDecoder<Vec<u8>>>,
    /// What has come and was not unpacked yet.
    packed: Bytes,
    /// Whether anything has come at all: the answer to a `HEAD` has no body.
    begun: bool,
    /// What comes after the data.
    trailers: Option<Frame<Bytes>>,
}

impl Unpacked {
    pub(crate) fn new(inner: Kind) -> Unpacked {
        let unpacker = Some(MultiGzDecoder::new(Vec::new()));
        Unpacked { inner, unpacker, packed: Bytes::new(), begun: false, trailers: None }
    }

    /// Whether all of it was given out.
    pub(super) fn has_ended(&self) -> bool {
        self.unpacker.is_none() && self.trailers.is_none()
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            let Some(unpacker) = &mut self.unpacker else {
                return Poll::Ready(self.trailers.take().map(Ok));
            };
            if self.packed.has_remaining() {
                // A little at a time: a little may become a lot.
                let count = self.packed.len().min(STEP);
                let written = unpacker.write_all(&self.packed[..count]).and_then(|()| unpacker.flush());
                if written.is_err() {
                    return Poll::Ready(Some(Err(Cut::Server)));
                }
                self.packed.advance(count);
                let piece = std::mem::take(unpacker.get_mut());
                if !piece.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from(piece)))));
                }
                continue;
            }
            match ready!(self.inner.poll_piece(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.begun |= !data.is_empty();
                        self.packed = data;
                    }
                    Err(trailers) => {
                        self.trailers = Some(trailers);
                        return self.finish();
                    }
                },
                Some(Err(cut)) => return Poll::Ready(Some(Err(cut))),
                None => return self.finish(),
            }
        }
    }

    fn finish(&mut self) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Some(unpacker) = self.unpacker.take().filter(|_| self.begun) else {
            return Poll::Ready(self.trailers.take().map(Ok));
        };
        // One that ends in the middle is not all of it.
        match unpacker.finish() {
            Err(_) => Poll::Ready(Some(Err(Cut::Server))),
            Ok(rest) if rest.is_empty() => Poll::Ready(self.trailers.take().map(Ok)),
            Ok(rest) => Poll::Ready(Some(Ok(Frame::data(Bytes::from(rest))))),
        }
    }
}

/// So much is unpacked at a time.
const STEP: usize = 1024;
