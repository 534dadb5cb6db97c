//! A part of a body that comes from elsewhere.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;

use super::{Cut, Kind};

/// Another body from one byte of it on, for so many bytes.
///
/// What lies behind is not read: with it goes the connection that it comes on, unless it has come already.
pub(crate) struct Clipped {
    pub(super) inner: Kind,
    skipped: u64,
    left: u64,
}

impl Clipped {
    pub(crate) fn new(inner: Kind, start: u64, length: u64) -> Clipped {
        Clipped { inner, skipped: start, left: length }
    }

    /// Whether all of it was given out.
    pub(super) fn has_ended(&self) -> bool {
        self.left == 0
    }

    /// How much is still to come.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        while self.left > 0 {
            let mut piece = match ready!(self.inner.poll_piece(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => piece,
                    // It ends with these.
                    Err(_) => break,
                },
                Some(Err(cut)) => return Poll::Ready(Some(Err(cut))),
                None => break,
            };
            let skipped = usize::try_from(self.skipped).unwrap_or(usize::MAX).min(piece.len());
            let mut wanted = piece.split_off(skipped);
            self.skipped -= skipped as u64;
            wanted.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= wanted.len() as u64;
            if !wanted.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(wanted))));
            }
        }
        // Who has told a size has told more than there is.
        Poll::Ready((self.left > 0).then_some(Err(Cut::Server)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(start: u64, length: u64, expected: Option<&str>) {
        let inner = Kind::Whole(Bytes::from_static(b"0123456789"));
        let mut clipped = Clipped::new(inner, start, length);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut found = Vec::new();
        let whole = loop {
            match clipped.poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => found.extend_from_slice(&frame.into_data().unwrap()),
                Poll::Ready(None) => break true,
                Poll::Ready(Some(Err(_))) | Poll::Pending => break false,
            }
        };
        assert_eq!(whole.then_some(String::from_utf8(found).unwrap().as_str()), expected, "{start} {length}");
    }

    #[test]
    fn nothing_but_the_part_comes_out_and_one_that_is_short_is_broken() {
        check(0, 10, Some("0123456789"));
        check(3, 2, Some("34"));
        check(9, 1, Some("9"));
        check(9, 2, None);
        check(20, 1, None);
        check(3, 0, Some(""));
    }
}
