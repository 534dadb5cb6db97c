//! A body that is compressed as it is sent.

use std::io::{self, Write as _};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body::Frame;

use super::{Cut, Kind};

/// Another body, as gzip.
///
/// What has come is sent on when there is enough of it, or when no more comes for the moment: a page
/// that is written slowly is seen as slowly, and not in one piece at its end.
pub(crate) struct Packed {
    pub(super) inner: Kind,
    /// `None` when the end has been written.
    packer: Option<GzEncoder<Vec<u8>>>,
    /// Whether the packer has got something that it has not given out.
    held: bool,
    /// What comes after the data.
    trailers: Option<Frame<Bytes>>,
    /// Bytes that went in and out.
    pub(crate) sizes: Sizes,
}

/// How much a body was compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) plain: u64,
    pub(crate) packed: u64,
}

impl Packed {
    pub(crate) fn new(inner: Kind, level: u32) -> Packed {
        let packer = GzEncoder::new(Vec::new(), Compression::new(level));
        Packed { inner, packer: Some(packer), held: false, trailers: None, sizes: Sizes::default() }
    }

    /// Whether all of it was given out.
    pub(super) fn has_ended(&self) -> bool {
        self.packer.is_none() && self.trailers.is_none()
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            let Some(packer) = &mut self.packer else {
                return Poll::Ready(self.trailers.take().map(Ok));
            };
            let frame = match self.inner.poll_piece(cx) {
                Poll::Pending if self.held => {
                    self.held = false;
                    let flushed = packer.flush().map(|()| std::mem::take(packer.get_mut()));
                    match flushed {
                        Ok(piece) if piece.is_empty() => return Poll::Pending,
                        piece => return Poll::Ready(Some(self.give(piece))),
                    }
                }
                polled => ready!(polled),
            };
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.sizes.plain += data.len() as u64;
                        self.held = true;
                        if let Err(error) = packer.write_all(&data) {
                            return Poll::Ready(Some(self.give(Err(error))));
                        }
                        if packer.get_ref().len() >= PIECE {
                            let piece = std::mem::take(packer.get_mut());
                            return Poll::Ready(Some(self.give(Ok(piece))));
                        }
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
        let rest = self.packer.take().map_or(Ok(Vec::new()), GzEncoder::finish);
        Poll::Ready(Some(self.give(rest)))
    }

    /// Hands a piece on; the packer writes into memory, which does not fail.
    fn give(&mut self, piece: io::Result<Vec<u8>>) -> Result<Frame<Bytes>, Cut> {
        let piece = piece.map_err(|_| Cut::Server)?;
        self.sizes.packed += piece.len() as u64;
        Ok(Frame::data(Bytes::from(piece)))
    }
}

/// When so much has gathered it is sent on.
const PIECE: usize = 16 * 1024;
