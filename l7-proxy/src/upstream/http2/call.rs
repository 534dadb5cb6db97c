//! A request and its answer on one stream of a connection.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::task::AbortHandle;

use super::super::answer::{AskError, BrokenOff};
use super::super::head::{Asked, Fields, Framing, Head};
use super::super::link::Expired;
use super::super::upload::UploadError;
use super::Slot;
use super::stall::Stall;
use super::upload::Upload;
use crate::body::Source;

/// A request to be sent to a server.
pub(crate) struct Call<'a> {
    pub(crate) request: Request<()>,
    pub(crate) body: Option<Rc<Source>>,
    pub(crate) asked: Asked,
    /// What becomes of the fields of the answer.
    pub(crate) fields: Fields<'a>,
    /// The largest head that an answer may have.
    pub(crate) head_max: usize,
    pub(crate) read_timeout: Duration,
    pub(crate) send_timeout: Duration,
}

/// The body of an answer, as it comes from the server.
///
/// Dropped before its end, it resets the stream.
pub(crate) struct Streamed {
    stream: RecvStream,
    stage: Stage,
    /// The size, if the server has told it.
    left: Option<u64>,
    stall: Stall,
    /// The rest of the request, if the answer came before its end.
    upload: Option<AbortHandle>,
    traffic: Rc<Cell<(u64, u64)>>,
    slot: Slot,
}

/// What is to come of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Data,
    Trailers,
    Nothing,
}

/// Sends a request and waits for the head of its answer.
///
/// # Errors
/// See [`AskError`]; other requests on the connection go on.
pub(crate) async fn call(slot: Slot, call: Call<'_>) -> Result<(Head, Streamed), AskError> {
    let Call { request, body, asked, fields, head_max, read_timeout, send_timeout } = call;
    let traffic = Rc::new(Cell::new((0, 0)));
    let sent = slot.channel.sender.clone().send_request(request, body.is_none());
    let (mut response, stream) = sent.map_err(|_| {
        slot.retire();
        AskError::Refused("upstream takes no more requests on this connection")
    })?;
    let mut upload = body.map(|body| Upload::new(stream, body, send_timeout, Rc::clone(&traffic)));
    let mut stall = Stall::new(read_timeout);
    let answered = poll_fn(|cx| {
        if let Some(Poll::Ready(sent)) = upload.as_mut().map(|upload| upload.poll(cx)) {
            match sent {
                Err(UploadError::Client(cut)) => return Poll::Ready(Err(AskError::Client(cut))),
                Err(UploadError::Expired) => return Poll::Ready(Err(AskError::Expired(Expired::Send))),
                // It may have answered before it stopped listening.
                Ok(()) | Err(UploadError::Server) => upload = None,
            }
        }
        while let Poll::Ready(Some(Ok(early))) = response.poll_informational(cx) {
            if let Some(hints) = fields.hints.filter(|_| early.status() == StatusCode::EARLY_HINTS) {
                let fields = early.headers().iter();
                let fields = fields.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
                hints(&fields.collect::<Vec<_>>());
            }
        }
        match Pin::new(&mut response).poll(cx) {
            Poll::Ready(answered) => Poll::Ready(answered.map_err(|error| broken(&slot, error))),
            Poll::Pending if upload.is_some() => Poll::Pending,
            Poll::Pending => stall.poll(cx).map(|()| Err(AskError::Expired(Expired::Read))),
        }
    })
    .await;
    if let Err(AskError::Expired(_)) = answered {
        // Whoever does not answer one may not answer the next.
        slot.retire();
    }
    let answered = answered?;
    let (head, stream) = read(answered, fields, head_max).map_err(|what| AskError::Invalid(what.into()))?;
    let bodiless = asked == Asked::HeadOnly
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || stream.is_end_stream();
    let stage = if bodiless { Stage::Nothing } else { Stage::Data };
    let left = match head.framing {
        Framing::Length(length) => Some(length),
        Framing::Chunks | Framing::Close => None,
    };
    stall.moved();
    let upload = upload.map(|upload| tokio::task::spawn_local(finish(upload)).abort_handle());
    Ok((head, Streamed { stream, stage, left, stall, upload, traffic, slot }))
}

/// Sends the rest of a request that has its answer already; what is wrong with it shows where the
/// answer is read.
async fn finish(mut upload: Upload) {
    let _ = poll_fn(|cx| upload.poll(cx)).await;
}

/// What it means that a stream broke before an answer came.
fn broken(slot: &Slot, error: h2::Error) -> AskError {
    if error.is_remote() && error.is_go_away() {
        // Streams that the server has begun with do not get this error: they go on, or end with the
        // connection.
        slot.retire();
        return AskError::Refused("upstream went away before it took the request");
    }
    if error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM) {
        return AskError::Refused("upstream refused the stream");
    }
    if error.is_io() {
        slot.retire();
        return AskError::Broken(error.into_io());
    }
    match error.is_remote() {
        true => AskError::Invalid("upstream rejected request".into()),
        false => AskError::Invalid("upstream sent invalid http2 frame".into()),
    }
}

/// Reads the head of an answer.
fn read(
    response: Response<RecvStream>,
    fields: Fields<'_>,
    head_max: usize,
) -> Result<(Head, RecvStream), &'static str> {
    let (parts, stream) = response.into_parts();
    if parts.status.is_informational() {
        return Err("upstream sent invalid status");
    }
    let Fields { mut headers, wanted, spelling, .. } = fields;
    let mut size = 0;
    for (name, value) in &parts.headers {
        size += name.as_str().len() + value.len();
        if wanted(name) {
            // The server spells them so, and we do those that we know as our own.
            if !is_common(name) {
                spelling.note(name.as_str());
            }
            headers.append(name, value.clone());
        }
    }
    if size > head_max {
        return Err("upstream sent too big header");
    }
    let length = length(&parts.headers)?;
    let framing = length.map_or(Framing::Close, Framing::Length);
    Ok((Head { status: parts.status, headers, reason: None, framing, persistent: true }, stream))
}

/// What a head says of the size of its body.
fn length(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("upstream sent duplicate header line: \"Content-Length\"");
    }
    let length = super::super::head::parse_length(value.as_bytes());
    length.map(Some).ok_or("upstream sent invalid \"Content-Length\" header")
}

/// Whether nginx writes the name of a field itself, whatever its server made of it.
fn is_common(name: &HeaderName) -> bool {
    matches!(name.as_str(), "content-type" | "content-length" | "last-modified" | "date" | "server")
}

impl Streamed {
    /// Returns the next piece.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        loop {
            let polled = match self.stage {
                Stage::Nothing => return Poll::Ready(None),
                Stage::Data => self.stream.poll_data(cx).map(|data| data.map(|data| data.map(Frame::data))),
                Stage::Trailers => {
                    let trailers = self.stream.poll_trailers(cx);
                    trailers.map(|trailers| trailers.transpose().map(|fields| fields.map(Frame::trailers)))
                }
            };
            let Poll::Ready(frame) = polled else {
                ready!(self.stall.poll(cx));
                self.slot.retire();
                self.stage = Stage::Nothing;
                return Poll::Ready(Some(Err(BrokenOff::Expired)));
            };
            self.stall.moved();
            match (frame, self.stage) {
                (Some(Err(_)), _) => {
                    self.stage = Stage::Nothing;
                    return Poll::Ready(Some(Err(BrokenOff::Closed)));
                }
                (None, Stage::Data) => self.stage = Stage::Trailers,
                (None, _) => self.stage = Stage::Nothing,
                (Some(Ok(frame)), stage) => {
                    self.take(&frame);
                    if stage == Stage::Trailers || self.stream.is_end_stream() {
                        self.stage = Stage::Nothing;
                    } else if frame.data_ref().is_some_and(Bytes::is_empty) {
                        continue;
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
            }
        }
    }

    /// Counts a piece, for which the server may send another: whoever asks for the next one has
    /// passed this one on.
    fn take(&mut self, frame: &Frame<Bytes>) {
        let size = frame.data_ref().map_or(0, Bytes::len);
        // An error means that the stream is over.
        let _ = self.stream.flow_control().release_capacity(size);
        let (to_server, to_client) = self.traffic.get();
        self.traffic.set((to_server, to_client + size as u64));
        self.left = self.left.map(|left| left.saturating_sub(size as u64));
    }

    /// Whether nothing is to come.
    pub(crate) fn is_end(&self) -> bool {
        self.stage == Stage::Nothing
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match (self.stage, self.left) {
            (Stage::Nothing, _) => SizeHint::with_exact(0),
            (_, Some(left)) => SizeHint::with_exact(left),
            (_, None) => SizeHint::default(),
        }
    }

    /// Bytes of bodies to the server and from it, as they are counted.
    pub(crate) fn traffic(&self) -> Rc<Cell<(u64, u64)>> {
        Rc::clone(&self.traffic)
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.abort();
        }
    }
}
