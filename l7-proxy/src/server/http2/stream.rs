//! One request of a client of HTTP/2, and its answer.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, EXPECT, Entry, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::super::Session;
use super::super::http1::Whole;
use super::Upload;
use super::upload::Demand;
use crate::body::{Body, Cut, Received};
use crate::date;
use crate::handle::{self, Refused};

/// Answers a request.
pub(super) async fn answer(
    connection: Rc<Session>,
    parts: Parts,
    refused: Option<Refused>,
    body: RecvStream,
    mut respond: SendResponse<Bytes>,
) {
    let session = Session::stream(&connection);
    drop(connection);
    let demand = Rc::<Demand>::default();
    // Whoever waits for a word before it sends the body: nginx has none, and lets it wait.
    let mut expects =
        parts.headers.get(EXPECT).is_some_and(|word| word.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let body = Upload::of(body, &parts.headers, &demand).map(Received::Http2);
    let whole = Whole::of(&parts.method);
    let mut answering = handle::answer_parts(Rc::clone(&session), Box::new(parts), body, refused);
    let answered = poll_fn(|cx| {
        session.listen(cx.waker());
        let polled = Pin::new(&mut answering).poll(cx);
        // Whoever cannot be told early is told by the answer.
        if expects && demand.awaited.get() {
            expects = false;
            let _ = respond.send_informational(early(StatusCode::CONTINUE, HeaderMap::new()));
        }
        for fields in session.take_early_hints() {
            let _ = respond.send_informational(early(StatusCode::EARLY_HINTS, fields));
        }
        if let Poll::Ready(answered) = polled {
            return Poll::Ready(Ok(answered));
        }
        if session.is_overdue() {
            return Poll::Ready(Err(Unsent::Overdue));
        }
        if session.ignores_leaving() {
            return Poll::Pending;
        }
        respond.poll_reset(cx).map(|_| Err(Unsent::Gone))
    })
    .await;
    // What the request holds is given back before the client is told of its end.
    drop(answering);
    let sent = match answered {
        Ok(Ok(response)) => send(&session, response.into(), whole, &mut respond).await,
        Ok(Err(_)) => Err(Unsent::Cut),
        Err(unsent) => Err(unsent),
    };
    match sent {
        Ok(stream) if demand.unwanted.get() => {
            drop(session);
            linger(stream).await;
        }
        Ok(_) | Err(Unsent::Gone) => {}
        // As in nginx.
        Err(Unsent::Overdue) => respond.send_reset(Reason::PROTOCOL_ERROR),
        Err(Unsent::Cut) => {
            // h2 drops what it has not written of a stream that is reset. What came of the answer is the
            // client's, as over HTTP/1.1: the connection's task has a turn to write it.
            yield_now().await;
            respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

/// A word ahead of the answer.
fn early(status: StatusCode, fields: HeaderMap) -> Response<()> {
    let mut early = Response::new(());
    (*early.status_mut(), *early.headers_mut()) = (status, fields);
    early
}

/// Why an answer is not sent, or not all of it.
enum Unsent {
    /// The client does not want it any more, or has gone.
    Gone,
    /// The client is too slow.
    Overdue,
    /// There is no more of it.
    Cut,
}

/// Sends an answer; its stream is reset when what is returned is dropped, if the client still sends.
async fn send(
    session: &Session,
    response: Response<Body>,
    whole: Whole,
    respond: &mut SendResponse<Bytes>,
) -> Result<SendStream<Bytes>, Unsent> {
    let (mut parts, body) = response.into_parts();
    for name in OF_CONNECTIONS {
        parts.headers.remove(name);
    }
    if let Entry::Vacant(place) = parts.headers.entry(DATE) {
        place.insert(date::header());
    }
    if parts.status == StatusCode::NO_CONTENT {
        parts.headers.remove(CONTENT_LENGTH);
    }
    // The answer to a `HEAD` tells the length that the one to a `GET` would have, as over HTTP/1.1.
    let (is_over, tells_length) = match whole {
        _ if body.is_end_stream() || handle::is_bodiless(parts.status) => (true, false),
        Whole::HeadOnly => (true, parts.status.is_success()),
        Whole::Body => (false, true),
    };
    if tells_length && let Some(size) = body.size_hint().exact() {
        parts.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(size));
    }
    let stream = respond.send_response(Response::from_parts(parts, ()), is_over);
    let stream = stream.map_err(|_| Unsent::Cut)?;
    if is_over {
        return Ok(stream);
    }
    let mut body = pin!(body);
    let mut download = Download { session, stream, held: Bytes::new(), is_last: false };
    poll_fn(|cx| download.poll(body.as_mut(), cx)).await?;
    Ok(download.stream)
}

/// Lets a client hear its answer that still sends a body, until it gives up or some time has passed.
///
/// The reset behind it would be right at once (RFC 9113, section 8.1), but curl takes it for a failure if
/// both come together.
async fn linger(mut stream: SendStream<Bytes>) {
    let given_up = poll_fn(|cx| stream.poll_reset(cx));
    let _ = timeout(LINGERING, given_up).await;
}

/// How long a stream whose answer is out may still send.
const LINGERING: Duration = Duration::from_millis(500);

/// The body of an answer on its way to the client, as fast as the client's windows open.
struct Download<'a> {
    session: &'a Session,
    stream: SendStream<Bytes>,
    /// A piece that waits for the client.
    held: Bytes,
    /// Whether that is the last one.
    is_last: bool,
}

impl Download<'_> {
    fn poll(&mut self, mut body: Pin<&mut Body>, cx: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        self.session.listen(cx.waker());
        loop {
            if self.session.is_overdue() {
                return Poll::Ready(Err(Unsent::Overdue));
            }
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Unsent::Gone));
            }
            // Nothing of an answer is fetched before some of it can be sent.
            let room = ready!(self.poll_room(cx))?;
            if !self.held.is_empty() {
                let most = room.min(self.session.http2_chunk()).min(self.held.len());
                let piece = self.held.split_to(most);
                let ends = self.is_last && self.held.is_empty();
                self.stream.send_data(piece, ends).map_err(|_| Unsent::Gone)?;
                if ends {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            match ready!(body.as_mut().poll_frame(cx)).transpose().map_err(|_: Cut| Unsent::Cut)? {
                Some(frame) => {
                    if self.take(frame, body.is_end_stream())? {
                        return Poll::Ready(Ok(()));
                    }
                }
                None => {
                    let sent = self.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(sent.map_err(|_| Unsent::Gone));
                }
            }
        }
    }

    /// Takes the next piece; says whether it was the end.
    fn take(&mut self, frame: Frame<Bytes>, is_last: bool) -> Result<bool, Unsent> {
        match frame.into_data() {
            Ok(data) if data.is_empty() && is_last => {
                self.stream.send_data(data, true).map_err(|_| Unsent::Gone)?;
                Ok(true)
            }
            Ok(data) => {
                (self.held, self.is_last) = (data, is_last);
                Ok(false)
            }
            Err(frame) => {
                let Ok(trailers) = frame.into_trailers() else { return Ok(false) };
                self.stream.send_trailers(trailers).map_err(|_| Unsent::Gone)?;
                Ok(true)
            }
        }
    }

    /// Waits until the client takes something.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Unsent>> {
        self.stream.reserve_capacity(self.held.len().max(1));
        while self.stream.capacity() == 0 {
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(Unsent::Gone)),
                Poll::Pending => {
                    self.session.write_waits();
                    return Poll::Pending;
                }
            }
        }
        self.session.written();
        Poll::Ready(Ok(self.stream.capacity()))
    }
}

/// Fields that say something of a connection of HTTP/1.1, and mean nothing here.
const OF_CONNECTIONS: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];
