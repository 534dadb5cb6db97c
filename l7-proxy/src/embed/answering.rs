//! A worker's side of it: requests become streams of connections of their own, and answers pieces.

use std::pin::pin;

use http::header::CONNECTION;
use http::{HeaderValue, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use super::{Body, Job, PIECES, Piece, empty};
use crate::body::{self, Cut, Received};
use crate::server::{Direct, Proxy};

/// Answers what comes until `stopped` is done; then also what waits by then. Requests go on in tasks
/// of their own.
pub(crate) async fn serve(proxy: Proxy, mut jobs: mpsc::Receiver<Job>, stopped: impl Future<Output = ()>) {
    let mut stopped = pin!(stopped);
    loop {
        let next = async {
            proxy.has_room().await;
            jobs.recv().await
        };
        tokio::select! {
            biased;
            () = &mut stopped => break,
            job = next => match job {
                Some(job) => begin(&proxy, job),
                None => return,
            }
        }
    }
    jobs.close();
    while let Some(job) = jobs.recv().await {
        begin(&proxy, job);
    }
}

fn begin(proxy: &Proxy, job: Job) {
    let place = proxy.place();
    let proxy = proxy.clone();
    tokio::task::spawn_local(async move {
        answer(&proxy, job).await;
        drop(place);
    });
}

async fn answer(proxy: &Proxy, job: Job) {
    let Job { request, client, local, mut reply } = job;
    let request = request.map(|body| Received::Other(body.0));
    let local = local.or_else(|| proxy.first_address());
    let asked = local.and_then(|local| {
        proxy.answer(Direct { remote: client.addr, local, scheme: client.scheme }, request)
    });
    let Some((connection, answered)) = asked else {
        // Nobody waits if the request was given up.
        let _ = reply.send(empty(StatusCode::SERVICE_UNAVAILABLE));
        return;
    };
    let answered = tokio::select! {
        biased;
        () = reply.closed() => return,
        () = connection.aborted() => return,
        answered = answered => answered,
    };
    match answered {
        Ok(response) => {
            let (head, body) = response.into_parts();
            let (pieces, receiver) = mpsc::channel(PIECES);
            let size = body.size_hint();
            let ended = body.is_end_stream();
            let handed = if ended { Body::default() } else { Body { pieces: Some(receiver), size } };
            if reply.send(Response::from_parts(head, handed)).is_ok() && !ended {
                tokio::select! {
                    biased;
                    () = connection.aborted() => {}
                    () = hand_over(body, pieces) => {}
                }
            }
        }
        Err(cut) => {
            let mut response = empty(StatusCode::from_u16(cut.status()).unwrap_or(StatusCode::BAD_GATEWAY));
            if cut == Cut::NoAnswer {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            let _ = reply.send(response);
        }
    }
}

/// Hands a body over, until it ends or nobody wants it any more.
async fn hand_over(body: body::Body, pieces: mpsc::Sender<Piece>) {
    let mut body = pin!(body);
    loop {
        // A server is read no faster than the client reads.
        let Ok(room) = pieces.reserve().await else { return };
        // What has ended is not asked again: its reader may have gone, and it was whole.
        let frame = if body.is_end_stream() {
            None
        } else {
            tokio::select! {
                biased;
                frame = body.frame() => frame,
                () = pieces.closed() => return,
            }
        };
        match frame {
            Some(Ok(frame)) => room.send(Piece::Frame(frame)),
            Some(Err(cut)) => return room.send(Piece::Cut(cut)),
            None => return room.send(Piece::End),
        }
    }
}
