//! A request on its way to a server: its head, then its body as the client sends it.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};

use super::link::Link;
use crate::body::{Cut, Source};

/// What is being written to a server, in this order: `ours`, `data`, `tail`.
pub(super) struct Upload {
    /// The head, the sizes of chunks, and pieces of the body that are too small to be worth a
    /// place of their own.
    ours: Vec<u8>,
    /// How many of these bytes are out.
    written: usize,
    /// A large piece of the body.
    data: Bytes,
    /// What follows the data of a chunk.
    tail: &'static [u8],
    body: Option<Rc<Source>>,
    coding: Coding,
    state: State,
}

/// How a request's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// By its length, which the head has.
    Length,
    Chunks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There is more to come from the client.
    Open,
    /// What is left to be written is at hand.
    Closing,
    Done,
}

/// Why a request could not be written.
pub(super) enum UploadError {
    /// The client is at fault, or gone.
    Client(Cut),
    /// The server does not take it. Why shows where its answer is read.
    Server,
    /// The server took too long to take it.
    Expired,
}

impl Upload {
    /// A request of this head and body.
    pub(super) fn new(head: Vec<u8>, body: Option<Rc<Source>>) -> Upload {
        let coding = match &body {
            Some(body) if body.exact_size().is_none() => Coding::Chunks,
            _ => Coding::Length,
        };
        let state = if body.is_some() { State::Open } else { State::Closing };
        Upload { ours: head, written: 0, data: Bytes::new(), tail: b"", body, coding, state }
    }

    /// Returns the memory of the head, for the next one.
    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ours)
    }

    /// Writes what there is to write.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, link: &Link) -> Poll<Result<(), UploadError>> {
        loop {
            // The beginning of a body is often there with the head: then one write does for both.
            let staged = match self.state {
                State::Open if self.data.is_empty() && self.tail.is_empty() => self.poll_body(cx)?,
                _ => Poll::Ready(()),
            };
            let pieces = [&self.ours[self.written..], &self.data, self.tail];
            if pieces.iter().any(|piece| !piece.is_empty()) {
                let count = ready!(link.poll_write(cx, pieces)).map_err(|_| UploadError::Server)?;
                self.advance(count);
                continue;
            }
            ready!(staged);
            if self.state == State::Closing {
                self.state = State::Done;
                link.sent();
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn advance(&mut self, count: usize) {
        let ours = count.min(self.ours.len() - self.written);
        self.written += ours;
        let data = (count - ours).min(self.data.len());
        self.data.advance(data);
        self.tail = &self.tail[count - ours - data..];
        if self.written == self.ours.len() {
            self.ours.clear();
            self.written = 0;
        }
    }

    /// Gets the next piece of the body, and frames it.
    ///
    /// Trailers stay behind, as in nginx: what a server makes of a field that comes late is anyone's
    /// guess.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, UploadError> {
        let Some(body) = &self.body else { return Ok(Poll::Ready(())) };
        let Poll::Ready(frame) = body.poll_frame(cx) else { return Ok(Poll::Pending) };
        let frame = frame.transpose().map_err(UploadError::Client)?;
        let ends = frame.is_none() || body.has_ended();
        let data = frame.and_then(|frame| frame.into_data().ok()).unwrap_or_default();
        if ends {
            self.state = State::Closing;
        }
        let tail = match (self.coding, ends, data.is_empty()) {
            (Coding::Length, ..) | (Coding::Chunks, false, true) => b"",
            (Coding::Chunks, false, false) => &LAST_CHUNK[..2],
            (Coding::Chunks, true, false) => LAST_CHUNK,
            (Coding::Chunks, true, true) => &LAST_CHUNK[2..],
        };
        if self.coding == Coding::Chunks && !data.is_empty() {
            self.ours.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        }
        if data.len() <= SMALL {
            self.ours.extend_from_slice(&data);
            self.ours.extend_from_slice(tail);
        } else {
            (self.data, self.tail) = (data, tail);
        }
        Ok(Poll::Ready(()))
    }
}

/// The end of a chunk's data, and the chunk that ends a body.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// Up to this size copying costs less than a list of pieces.
const SMALL: usize = 4096;
