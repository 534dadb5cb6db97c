//! The body of a request of HTTP/2, as it comes from the client.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Frame, SizeHint};

use crate::body::Cut;

/// A body that is being received. h2 sees to it that it is as long as the client has said.
pub(crate) struct Upload {
    stream: RecvStream,
    /// What is to come, if the client has said.
    left: Option<u64>,
    ended: bool,
    demand: Rc<Demand>,
}

/// What is made of a body, for whoever answers its stream.
#[derive(Default)]
pub(super) struct Demand {
    /// Somebody waits for it.
    pub(super) awaited: Cell<bool>,
    /// Nobody wants the rest of it: it was dropped before its end.
    pub(super) unwanted: Cell<bool>,
}

impl Upload {
    /// The body behind a head with these fields; `None` if there is none.
    pub(super) fn of(stream: RecvStream, headers: &HeaderMap, demand: &Rc<Demand>) -> Option<Upload> {
        if stream.is_end_stream() {
            return None;
        }
        let left = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Some(Upload { stream, left, ended: false, demand: Rc::clone(demand) })
    }

    /// Returns the next piece; trailers stay behind, as in nginx.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if self.is_end() {
                return Poll::Ready(None);
            }
            let polled = self.stream.poll_data(cx);
            self.demand.awaited.set(polled.is_pending());
            match ready!(polled) {
                None => self.ended = true,
                // It may end by an empty piece.
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    // An error means that the stream is over, which shows when it is read again.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => {
                    self.ended = true;
                    // What h2 has refused of it is the client's doing.
                    let cut = if error.is_library() { Cut::Client } else { Cut::Gone };
                    return Poll::Ready(Some(Err(cut)));
                }
            }
        }
    }

    pub(crate) fn is_end(&self) -> bool {
        self.ended || self.stream.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.left {
            _ if self.is_end() => SizeHint::with_exact(0),
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.demand.unwanted.set(!self.is_end());
    }
}
