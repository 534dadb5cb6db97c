//! The bytes of a file as a response body.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderValue;
use http_body::{Body, Frame, SizeHint};

use super::range::ByteRange;
use super::{Content, PIECE, read_at};

/// Parts of a file and the text between them.
///
/// Reads happen where the body is polled, at most 64 KiB at a time: they come from the page cache
/// nearly always, and handing each to another thread would cost more than the rare wait for a disk.
/// The next piece is read only when the one before has gone, so that a slow client holds one piece.
#[derive(Debug)]
pub struct FileBody {
    content: Content,
    segments: VecDeque<Segment>,
    left: u64,
}

#[derive(Debug)]
enum Segment {
    Text(Bytes),
    /// Never empty.
    File {
        offset: u64,
        len: u64,
    },
}

impl FileBody {
    /// Returns a body without bytes.
    pub fn empty() -> Self {
        Self { content: Content::default(), segments: VecDeque::new(), left: 0 }
    }

    /// Returns how many bytes are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Returns `len` bytes of a file.
    pub(super) fn part(content: Content, offset: u64, len: u64) -> Self {
        if len == 0 {
            return Self::empty();
        }
        Self { content, segments: VecDeque::from([Segment::File { offset, len }]), left: len }
    }

    /// Returns several parts of a file in the `multipart/byteranges` format.
    pub(super) fn multipart(
        content: Content,
        ranges: &[ByteRange],
        size: u64,
        media_type: Option<&HeaderValue>,
        boundary: &str,
    ) -> Self {
        let mut segments = VecDeque::with_capacity(ranges.len() * 2 + 1);
        for range in ranges {
            let mut head = format!("\r\n--{boundary}\r\n").into_bytes();
            if let Some(media_type) = media_type {
                head.extend_from_slice(b"Content-Type: ");
                head.extend_from_slice(media_type.as_bytes());
                head.extend_from_slice(b"\r\n");
            }
            head.extend_from_slice(
                format!("Content-Range: {}\r\n\r\n", range.content_range(size)).as_bytes(),
            );
            segments.push_back(Segment::Text(head.into()));
            segments.push_back(Segment::File { offset: range.start, len: range.len() });
        }
        segments.push_back(Segment::Text(format!("\r\n--{boundary}--\r\n").into()));
        let left = segments.iter().map(Segment::len).sum();
        Self { content, segments, left }
    }

    /// Reads a small body whole, so that the file is closed and a failure can still be answered.
    pub(super) fn read_small(&mut self) -> io::Result<()> {
        let [Segment::File { offset, len }] = *self.segments.make_contiguous() else { return Ok(()) };
        let Some(len) = usize::try_from(len).ok().filter(|&len| len <= PIECE) else { return Ok(()) };
        let text = self.content.piece(offset, len)?;
        self.segments = VecDeque::from([Segment::Text(text)]);
        self.content = Content::default();
        Ok(())
    }

    /// Returns the next piece.
    fn next(&mut self) -> Option<io::Result<Bytes>> {
        let piece = match self.segments.pop_front()? {
            Segment::Text(text) => text,
            Segment::File { offset, len } => {
                let now = usize::try_from(len).unwrap_or(PIECE).min(PIECE);
                let piece = match self.content.piece(offset, now) {
                    Ok(piece) => piece,
                    Err(error) => {
                        self.segments.clear();
                        return Some(Err(error));
                    }
                };
                if len > now as u64 {
                    let rest = Segment::File { offset: offset + now as u64, len: len - now as u64 };
                    self.segments.push_front(rest);
                }
                piece
            }
        };
        self.left -= piece.len() as u64;
        Some(Ok(piece))
    }
}

impl Content {
    /// Returns some bytes of the file.
    fn piece(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        if let Some(whole) = &self.whole
            && let Ok(start) = usize::try_from(offset)
            && start.checked_add(len).is_some_and(|end| end <= whole.len())
        {
            return Ok(whole.slice(start..start + len));
        }
        match &self.file {
            Some(file) => read_at(file, offset, len),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Segment {
    fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::File { len, .. } => *len,
        }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(self.next().map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.segments.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
