//! HTTP/2 with clients: hyper's, within limits.
//!
//! What a flood of frames could make us remember is bounded by h2: streams that a client resets before
//! they are answered, empty frames, continuations. What they leave open is set here (streams, windows,
//! the size of a head) or noticed below hyper, see `flood`.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::header::{COOKIE, HOST};
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::connection::{Outcome, drive};
use super::session::Phase;
use super::{HEADER_SIZE_MAX, Order, Session, sessions};
use crate::body::Received;
use crate::handle;
use crate::wire::Wire;

/// Serves a connection that begins with the preface of HTTP/2, on which at most `streams` requests
/// are answered at a time.
pub(super) async fn serve<S>(session: Rc<Session>, stream: S, streams: u32)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let listed = sessions::enter(&session.worker, &session);
    let connection = Rc::clone(&session);
    let service = service_fn(move |request| {
        handle::answer(Session::stream(&connection), plain(request).map(Received::Http2))
    });
    let wire = Wire::new(stream, Rc::clone(&session));
    let mut http = pin!(protocol(streams).serve_connection(wire, service));
    let mut finishing = false;
    let conversation = poll_fn(|cx| {
        if let Poll::Ready(ended) = http.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        // A client that has not said a word yet may have a request on the way.
        if finishing || session.order() != Order::Finish || session.phase() == Phase::Fresh {
            return Poll::Pending;
        }
        finishing = true;
        http.as_mut().graceful_shutdown();
        http.as_mut().poll(cx)
    });
    let outcome = drive(&session, pin!(conversation)).await;
    if let Outcome::Aborted = outcome {
        // A last word, as far as the client takes it.
        http.as_mut().graceful_shutdown();
        poll_fn(|cx| {
            let _ = http.as_mut().poll(cx);
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

fn protocol(streams: u32) -> http2::Builder<Tasks> {
    let mut protocol = http2::Builder::new(Tasks);
    protocol
        .max_concurrent_streams(streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(HEADER_SIZE_MAX).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER);
    protocol
}

/// Tasks that stay on their thread.
#[derive(Clone, Copy)]
struct Tasks;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// Makes of a request what it would be in HTTP/1.1, where that is what is gone by: a `Host`, and
/// one `Cookie`, which may come in crumbs (RFC 9113, 8.2.3).
fn plain(mut request: Request<Incoming>) -> Request<Incoming> {
    let authority = request.uri().authority().and_then(|name| HeaderValue::from_str(name.as_str()).ok());
    let headers = request.headers_mut();
    if let Some(authority) = authority
        && !headers.contains_key(HOST)
    {
        headers.insert(HOST, authority);
    }
    let mut crumbs = headers.get_all(COOKIE).iter();
    if let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) {
        let mut whole = BytesMut::from(first.as_bytes());
        for crumb in std::iter::once(second).chain(crumbs) {
            whole.extend_from_slice(b"; ");
            whole.extend_from_slice(crumb.as_bytes());
        }
        if let Ok(whole) = HeaderValue::from_maybe_shared(Bytes::from(whole)) {
            headers.insert(COOKIE, whole);
        }
    }
    request
}

/// What a client may send of a body before we have read it, as in nginx.
const STREAM_WINDOW: u32 = 64 * 1024;

/// The same of all bodies of a connection.
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What is kept of an answer that its client has not taken yet.
const SEND_BUFFER: usize = 64 * 1024;
