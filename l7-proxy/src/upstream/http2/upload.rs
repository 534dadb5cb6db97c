//! The body of a request on its way to a server, as fast as the server's windows open.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, SendStream};

use super::super::upload::UploadError;
use super::stall::Stall;
use crate::body::Source;

/// A body that is being sent.
pub(super) struct Upload {
    stream: SendStream<Bytes>,
    body: Rc<Source>,
    /// A piece that waits for the server.
    held: Bytes,
    /// Whether that is the last one.
    is_last: bool,
    stall: Stall,
    /// Bytes to the server and from it.
    traffic: Rc<Cell<(u64, u64)>>,
}

impl Upload {
    pub(super) fn new(
        stream: SendStream<Bytes>,
        body: Rc<Source>,
        within: Duration,
        traffic: Rc<Cell<(u64, u64)>>,
    ) -> Upload {
        Upload { stream, body, held: Bytes::new(), is_last: false, stall: Stall::new(within), traffic }
    }

    /// Sends what there is to send. Dropped before its end, it resets the stream.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        loop {
            if self.held.is_empty() {
                // A server that has its answer may not want the rest.
                if self.stream.poll_reset(cx).is_ready() {
                    return Poll::Ready(Err(UploadError::Server));
                }
                let frame = ready!(self.body.poll_frame(cx)).transpose().map_err(UploadError::Client)?;
                self.is_last = frame.is_none() || self.body.has_ended();
                // Trailers stay behind, as in nginx.
                self.held = frame.and_then(|frame| frame.into_data().ok()).unwrap_or_default();
                if self.held.is_empty() {
                    if !self.is_last {
                        continue;
                    }
                    let sent = self.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(sent.map_err(|_| UploadError::Server));
                }
            }
            let room = ready!(self.poll_room(cx))?;
            let piece = self.held.split_to(room.min(self.held.len()));
            let (to_server, to_client) = self.traffic.get();
            self.traffic.set((to_server + piece.len() as u64, to_client));
            let ends = self.is_last && self.held.is_empty();
            self.stream.send_data(piece, ends).map_err(|_| UploadError::Server)?;
            if ends {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Waits until the server takes something.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, UploadError>> {
        self.stream.reserve_capacity(self.held.len());
        while self.stream.capacity() == 0 {
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(UploadError::Server)),
                Poll::Pending => {
                    ready!(self.stall.poll(cx));
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(UploadError::Expired));
                }
            }
        }
        self.stall.moved();
        Poll::Ready(Ok(self.stream.capacity()))
    }
}
