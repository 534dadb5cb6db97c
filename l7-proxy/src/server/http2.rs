//! HTTP/2 with clients: frames and windows are h2's, requests and limits are ours.
//!
//! What a flood of frames could make us remember is bounded by h2: streams that a client resets before
//! they are answered, empty frames, continuations. What they leave open is set here (streams, windows,
//! the size of a head) or noticed below h2, see `flood`.
//!
//! A stream that is too slow is reset and nothing else: the others on its connection go on.

mod head;
mod stream;
mod upload;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{debug, info};

pub(crate) use self::upload::Upload;
use super::connection::{Outcome, drive};
use super::session::Phase;
use super::{Order, Session, sessions};
use crate::model::HeadLimits;
use crate::wire::Wire;

/// Serves a connection that begins with the preface of HTTP/2, on which at most `streams` requests
/// are answered at a time.
pub(super) async fn serve<S>(session: Rc<Session>, stream: S, streams: u32)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let listed = sessions::enter(&session.worker, &session);
    let limits = session.head_limits();
    let wire = Wire::new(stream, Rc::clone(&session));
    let opening = Box::new(builder(streams, &limits).handshake(wire));
    let mut conversation = Conversation {
        session: Rc::clone(&session),
        limits,
        state: State::Opening(opening),
        closing: None,
        refused: None,
    };
    let outcome = drive(&session, pin!(poll_fn(|cx| conversation.poll(cx)))).await;
    if !matches!(outcome, Outcome::Ended(_)) {
        // A last word, as far as the client takes it.
        conversation.close(Closing::At(session.violation().unwrap_or(Reason::NO_ERROR)));
        poll_fn(|cx| {
            let _ = conversation.poll(cx);
            Poll::Ready(())
        })
        .await;
    }
    outcome.log(&session);
    if let Outcome::Ended(Err(error)) = outcome {
        debug!("*{} {error}, client: {}", session.serial, session.remote);
    }
    drop(listed);
}

fn builder(streams: u32, limits: &HeadLimits) -> Builder {
    // h2 counts fields with an overhead, we without: a head that is too large is to be ours to refuse.
    let fields = limits.fields.min(FIELDS_MAX).saturating_mul(FIELD_OVERHEAD);
    let head = usize::try_from(limits.size_max()).unwrap_or(usize::MAX).saturating_add(fields);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(streams)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
        .max_frame_size(frame_max(limits))
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

/// Returns how large a frame may be: so that any head that is allowed may come in one, since there are clients
/// that do not continue one in another.
fn frame_max(limits: &HeadLimits) -> u32 {
    let size = limits.line.saturating_mul(limits.lines);
    u32::try_from(size).unwrap_or(u32::MAX).clamp(FRAME_MIN, FRAME_MAX)
}

/// A connection from its preface to its end.
struct Conversation<S> {
    session: Rc<Session>,
    limits: HeadLimits,
    state: State<S>,
    /// How it is being closed, if it is.
    closing: Option<Closing>,
    /// The request that it is closed for, which gets no other answer.
    refused: Option<Refusal>,
}

type Refusal = (RecvStream, SendResponse<Bytes>);

enum State<S> {
    /// The preface has not come yet.
    Opening(Box<Handshake<Wire<S, Session>, Bytes>>),
    Open(Box<Connection<Wire<S, Session>, Bytes>>),
}

/// How a connection is closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// When the streams that are open have ended.
    Gently,
    /// At once, for this reason.
    At(Reason),
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Conversation<S> {
    /// Answers requests until the connection ends.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if let State::Opening(opening) = &mut self.state {
            match Pin::new(opening).poll(cx) {
                Poll::Ready(Ok(connection)) => self.state = State::Open(Box::new(connection)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        loop {
            if let Poll::Ready(ended) = self.accept(cx) {
                return Poll::Ready(ended);
            }
            let wanted = match self.session.violation() {
                Some(reason) => Closing::At(reason),
                // A client that has not said a word yet may have a request on the way.
                None if self.session.order() != Order::Serve && self.session.phase() != Phase::Fresh => {
                    Closing::Gently
                }
                None => return Poll::Pending,
            };
            if !self.close(wanted) {
                return Poll::Pending;
            }
        }
    }

    fn accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let State::Open(connection) = &mut self.state else { return Poll::Pending };
        while let Poll::Ready(accepted) = connection.poll_accept(cx) {
            match accepted {
                // Who is sent away is answered no more.
                Some(Ok(_)) if self.refused.is_some() => {}
                Some(Ok((request, respond))) => {
                    self.refused = begin(&self.session, &self.limits, request, respond);
                    if self.refused.is_some() {
                        return Poll::Pending;
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
        Poll::Pending
    }

    /// Begins to close the connection; says whether that is news.
    fn close(&mut self, wanted: Closing) -> bool {
        let State::Open(connection) = &mut self.state else { return false };
        match (self.closing, wanted) {
            (Some(Closing::At(_)), _) | (Some(Closing::Gently), Closing::Gently) => return false,
            (_, Closing::Gently) => connection.graceful_shutdown(),
            (_, Closing::At(reason)) => connection.abrupt_shutdown(reason),
        }
        self.closing = Some(wanted);
        true
    }
}

/// Begins to answer a request, or returns one for which the client is sent away.
fn begin(
    connection: &Rc<Session>,
    limits: &HeadLimits,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) -> Option<Refusal> {
    let (mut parts, body) = request.into_parts();
    if head::is_too_large(&parts, limits) {
        info!(
            "*{} client sent too large request header, client: {}",
            connection.serial,
            connection.remote.ip()
        );
        connection.violate(Reason::ENHANCE_YOUR_CALM);
        return Some((body, respond));
    }
    let refused = head::make_plain(&mut parts).err();
    let connection = Rc::clone(connection);
    tokio::task::spawn_local(stream::answer(connection, parts, refused, body, respond));
    None
}

/// What a client may send of a body before we have read it, as in nginx.
const STREAM_WINDOW: u32 = 64 * 1024;

/// The same of all bodies of a connection.
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What is kept of an answer that its client has not taken yet.
const SEND_BUFFER: usize = 64 * 1024;

/// What every frame may have, and the most that one can be told to have (RFC 9113, section 4.2).
const FRAME_MIN: u32 = 1 << 14;
const FRAME_MAX: u32 = (1 << 24) - 1;

/// What h2 counts for a field beside its name and its value (RFC 9113, section 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// As many fields are provided for, however many are allowed.
const FIELDS_MAX: usize = 1000;
