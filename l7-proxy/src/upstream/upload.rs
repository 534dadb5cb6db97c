//! A request on its way to a server: its head, then its body as the client sends it.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::link::Link;
use crate::body::{Cut, Source};
use crate::outgoing::{Outgoing, Piece};

/// What is being written to a server.
pub(super) struct Upload {
    outgoing: Outgoing,
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
        Upload { outgoing: Outgoing::new(head), body, coding, state }
    }

    /// Returns the memory of the head, for the next one.
    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        self.outgoing.take_buffer()
    }

    /// Writes what there is to write.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, link: &Link) -> Poll<Result<(), UploadError>> {
        loop {
            // The beginning of a body is often there with the head, and a client may send a byte at a time:
            // one write does for all that is there.
            let mut staged = Poll::Ready(());
            while self.state == State::Open && staged.is_ready() && self.outgoing.gathers() {
                staged = self.poll_body(cx)?;
            }
            while let Some(pieces) = self.outgoing.pieces() {
                let count = ready!(link.poll_write(cx, pieces)).map_err(|_| UploadError::Server)?;
                self.outgoing.advance(count);
            }
            ready!(staged);
            if self.state == State::Closing {
                self.state = State::Done;
                link.sent();
                return Poll::Ready(Ok(()));
            }
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
        match self.coding {
            Coding::Length => self.outgoing.put(data),
            Coding::Chunks => self.outgoing.put_chunk(data, if ends { Piece::Last } else { Piece::Inner }),
        }
        Ok(Poll::Ready(()))
    }
}
