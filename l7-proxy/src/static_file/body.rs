//! The bytes of a file as a response body.
//!
//! Where nobody has to look at them, the kernel moves them from the file to the client's socket
//! ([`FileBody::move_to`]); else they are read.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderValue;
use http_body::{Body, Frame, SizeHint};

use super::range::ByteRange;
use super::{Content, PIECE, SMALL, read_at};

/// Parts of a file and the text between them.
///
/// Reads happen where the body is polled, at most 64 KiB at a time: they come from the page cache
/// nearly always, and handing each to another thread would cost more than the rare wait for a disk.
/// The next piece is read only when the one before has gone, so that a slow client holds one piece.
#[derive(Debug)]
pub struct FileBody {
    /// What stands in front of it, fields as they go out.
    head: Option<Rc<[u8]>>,
    content: Content,
    now: Option<Segment>,
    later: VecDeque<Segment>,
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
        Self { head: None, content: Content::default(), now: None, later: VecDeque::new(), left: 0 }
    }

    /// Returns how many bytes are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Returns what describes the file, fields as they go out, where the answer has none for that.
    pub fn head(&self) -> Option<&[u8]> {
        self.head.as_deref()
    }

    /// Returns `len` bytes of a file.
    pub(super) fn part(content: Content, offset: u64, len: u64) -> Self {
        if len == 0 {
            return Self::empty();
        }
        let offset = content.start + offset;
        Self { content, now: Some(Segment::File { offset, len }), left: len, ..Self::empty() }
    }

    /// Returns `length` bytes that lie in a file behind `start`.
    pub(crate) fn behind(file: File, start: u64, length: u64) -> Self {
        Self::part(Content { file: Some(Arc::new(file)), whole: None, start }, 0, length)
    }

    /// Returns what is in memory.
    pub(crate) fn of_bytes(whole: Bytes) -> Self {
        let length = whole.len() as u64;
        Self::part(Content { file: None, whole: Some(whole), start: 0 }, 0, length)
    }

    /// Returns a part of this one.
    pub(crate) fn narrowed(self, range: ByteRange) -> Self {
        Self::part(self.content, range.start, range.len())
    }

    /// Returns several parts of this one, in the `multipart/byteranges` format.
    pub(crate) fn parted(
        self,
        ranges: &[ByteRange],
        media_type: Option<&HeaderValue>,
        boundary: &str,
    ) -> Self {
        let size = self.left;
        Self::multipart(self.content, ranges, size, media_type, boundary)
    }

    /// Has this in front of it.
    pub(super) fn with_head(self, head: Rc<[u8]>) -> Self {
        Self { head: Some(head), ..self }
    }

    /// Has no bytes any more.
    pub(super) fn clear(&mut self) {
        *self = Self { head: self.head.take(), ..Self::empty() };
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
            segments.push_back(Segment::File { offset: content.start + range.start, len: range.len() });
        }
        segments.push_back(Segment::Text(format!("\r\n--{boundary}--\r\n").into()));
        let left = segments.iter().map(Segment::len).sum();
        Self { content, now: segments.pop_front(), later: segments, left, ..Self::empty() }
    }

    /// Reads a small body whole, so that the file is closed and a failure can still be answered.
    pub(super) fn read_small(&mut self) -> io::Result<()> {
        let Some(Segment::File { offset, len }) = self.now else { return Ok(()) };
        let Some(len) = usize::try_from(len).ok().filter(|&len| len <= SMALL) else { return Ok(()) };
        if self.later.is_empty() {
            self.now = Some(Segment::Text(self.content.piece(offset, len)?));
            self.content = Content::default();
        }
        Ok(())
    }

    /// Whether what comes next can be moved from the file to a socket.
    pub(crate) fn is_movable(&self) -> bool {
        let known = self.content.whole.is_some() || self.content.file.is_none();
        !known && matches!(self.now, Some(Segment::File { .. }))
    }

    /// Moves bytes from the file to a socket, as many as that takes now, but no more than
    /// [`MOVED_MAX`]; returns how many.
    ///
    /// # Errors
    /// The file ends before what was promised of it, the socket takes nothing now, or one of the two fails.
    pub(crate) fn move_to(&mut self, socket: impl AsFd) -> io::Result<usize> {
        let (Some(file), Some(Segment::File { offset, len })) = (&self.content.file, &mut self.now) else {
            return Ok(0);
        };
        let most = usize::try_from(*len).unwrap_or(MOVED_MAX).min(MOVED_MAX);
        let count = rustix::fs::sendfile(socket, file, Some(offset), most)?;
        if count == 0 {
            self.stop();
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *len -= count as u64;
        if *len == 0 {
            self.now = self.later.pop_front();
        }
        self.left -= count as u64;
        Ok(count)
    }

    /// Returns the next piece.
    fn next(&mut self) -> Option<io::Result<Bytes>> {
        let mut rest = None;
        let piece = match self.now.take()? {
            Segment::Text(text) => text,
            Segment::File { offset, len } => {
                let now = usize::try_from(len).unwrap_or(PIECE).min(PIECE);
                let piece = match self.content.piece(offset, now) {
                    Ok(piece) => piece,
                    Err(error) => {
                        self.stop();
                        return Some(Err(error));
                    }
                };
                if len > now as u64 {
                    rest = Some(Segment::File { offset: offset + now as u64, len: len - now as u64 });
                }
                piece
            }
        };
        self.now = rest.or_else(|| self.later.pop_front());
        self.left -= piece.len() as u64;
        Some(Ok(piece))
    }

    /// Has come to its end before the end.
    fn stop(&mut self) {
        (self.now, self.later) = (None, VecDeque::new());
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
        self.now.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// The most that is moved in one go: a disk that has to be waited for, or a client that is as fast as we
/// are, keeps the worker's other connections waiting so long.
pub(crate) const MOVED_MAX: usize = 2 << 20;
