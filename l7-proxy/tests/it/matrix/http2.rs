//! The same faults where the client speaks HTTP/2: what becomes of its stream.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, SendStream};
use http::Response;

use super::{QUICK, Row, Stage, server};
use crate::http2_peer::{connect_with_pings, request, run, until_heard};

/// Requests of one server, which nobody else can answer.
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "server refuses",
        location: "",
        server: server::refuses,
        client: waits_after,
        gets: "502",
        access: "502 502 159",
        error: "connect() failed (111: Connection refused) while connecting to upstream",
    },
    Row {
        name: "server resets before its head",
        location: "",
        server: server::resets_before_its_head,
        client: gets,
        gets: "502",
        access: "502 502 159",
        error: "recv() failed (104: Connection reset by peer) while reading response header from upstream",
    },
    Row {
        name: "server stalls before its head",
        location: QUICK,
        server: server::stalls_before_its_head,
        client: gets,
        gets: "504",
        access: "504 504 169",
        error: "upstream timed out (110: Connection timed out) while reading response header from upstream",
    },
    Row {
        name: "server sends garbage",
        location: "",
        server: server::sends_garbage,
        client: gets,
        gets: "502",
        access: "502 502 159",
        error: "while reading response header from upstream",
    },
    Row {
        name: "server resets within a body of known length",
        location: "",
        server: server::resets_within_a_length,
        client: gets,
        gets: "200 reset 2 after begin",
        access: "200 200 5",
        error: "while reading upstream",
    },
    Row {
        name: "server closes within a body of known length",
        location: "",
        server: server::closes_within_a_length,
        client: gets,
        gets: "200 reset 2 after begin",
        access: "200 200 5",
        error: "upstream prematurely closed connection while reading upstream",
    },
    Row {
        name: "server closes within chunks",
        location: "",
        server: server::closes_within_chunks,
        client: gets,
        gets: "200 reset 2 after begin",
        access: "200 200 5",
        error: "upstream prematurely closed connection while reading upstream",
    },
    Row {
        name: "server closes after a body up to the end",
        location: "",
        server: server::closes_after_the_rest,
        client: gets,
        gets: "200 begin",
        access: "200 200 5",
        error: "",
    },
    Row {
        name: "server stalls within its body",
        location: QUICK,
        server: server::stalls_within_its_body,
        client: gets,
        gets: "200 reset 2 after begin",
        access: "200 200 5",
        error: "upstream timed out (110: Connection timed out) while reading upstream",
    },
    Row {
        name: "server answers before it has the request",
        location: "proxy_request_buffering off;",
        server: server::answers_early,
        client: posts_half,
        gets: "403 early",
        access: "403 403 5",
        error: "",
    },
    Row {
        name: "server is well",
        location: "",
        server: server::answers,
        client: gets,
        gets: "200 hello",
        access: "200 200 5",
        error: "",
    },
    Row {
        name: "client resets its stream before its answer",
        location: "",
        server: server::waits_for_the_end,
        client: resets,
        gets: "",
        access: "499 - 0",
        error: "",
    },
    Row {
        name: "client closes before its answer",
        location: "",
        server: server::waits_for_the_end,
        client: closes,
        gets: "",
        access: "499 - 0",
        error: "",
    },
    Row {
        name: "client resets its stream within its answer",
        location: "",
        server: server::sends_without_end,
        client: resets_within_its_answer,
        gets: "",
        access: "200 200 *",
        error: "",
    },
    Row {
        name: "client stalls within its body",
        location: "client_body_timeout 300ms;",
        server: server::answers,
        client: stalls_within_its_body,
        gets: "reset 1",
        access: "408 - 0",
        error: "",
    },
    Row {
        name: "client stalls within a body that streams",
        location: "client_body_timeout 300ms; proxy_request_buffering off;",
        server: server::takes_a_body,
        client: stalls_within_its_body,
        gets: "reset 1",
        access: "408 - 0",
        error: "",
    },
    Row {
        name: "client resets its stream within its body",
        location: "proxy_request_buffering off;",
        server: server::takes_a_body,
        client: resets_within_its_body,
        gets: "",
        access: "400 - 0",
        error: "",
    },
    Row {
        name: "client opens no window",
        location: "send_timeout 300ms;",
        server: server::sends_without_end,
        client: stalls_reading,
        gets: "200 reset 1",
        access: "200 200 *",
        error: "",
    },
];

/// A connection of one stream, and the body that the stream has yet to send.
struct Asked {
    _sender: SendRequest<Bytes>,
    response: h2::client::ResponseFuture,
    body: SendStream<Bytes>,
}

async fn ask(addr: SocketAddr, path: &str) -> Asked {
    let (sender, mut pings) = connect_with_pings(addr).await;
    let mut sender = sender.ready().await.unwrap();
    let (response, body) = sender.send_request(request("GET", path).body(()).unwrap(), true).unwrap();
    until_heard(&mut pings).await;
    Asked { _sender: sender, response, body }
}

/// Sends half of a body.
async fn post(addr: SocketAddr, path: &str) -> Asked {
    let (sender, mut pings) = connect_with_pings(addr).await;
    let mut sender = sender.ready().await.unwrap();
    let head = request("POST", path).header("content-length", "10").body(()).unwrap();
    let (response, mut body) = sender.send_request(head, false).unwrap();
    body.send_data(Bytes::from_static(b"half:"), false).unwrap();
    until_heard(&mut pings).await;
    Asked { _sender: sender, response, body }
}

/// Runs something that waits on a thread of its own: the connection goes on meanwhile.
async fn aside(stage: &Arc<Stage>, wait: fn(&Stage)) {
    let stage = Arc::clone(stage);
    tokio::task::spawn_blocking(move || wait(&stage)).await.unwrap();
}

fn gets(_: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    run(async { outcome(ask(addr, path).await).await })
}

/// Asks, and the event comes then.
fn waits_after(stage: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    run(async {
        let asked = ask(addr, path).await;
        aside(stage, Stage::arrive).await;
        outcome(asked).await
    })
}

fn posts_half(_: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    run(async { outcome(post(addr, path).await).await })
}

fn resets(stage: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    run(async {
        let mut asked = ask(addr, path).await;
        aside(stage, Stage::until_open).await;
        asked.body.send_reset(Reason::CANCEL);
        // The end of the connection comes behind it.
        let _ = asked.response.await;
        String::new()
    })
}

fn closes(stage: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    run(async {
        let asked = ask(addr, path).await;
        aside(stage, Stage::until_open).await;
        drop(asked);
        String::new()
    })
}

fn resets_within_its_answer(stage: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    run(async {
        let mut asked = ask(addr, path).await;
        let mut body = (&mut asked.response).await.unwrap().into_body();
        body.data().await.unwrap().unwrap();
        aside(stage, Stage::arrive).await;
        asked.body.send_reset(Reason::CANCEL);
        String::new()
    })
}

fn stalls_within_its_body(stage: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    run(async {
        let asked = post(addr, path).await;
        aside(stage, Stage::arrive).await;
        outcome(asked).await
    })
}

fn resets_within_its_body(stage: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    run(async {
        let mut asked = post(addr, path).await;
        aside(stage, Stage::arrive).await;
        asked.body.send_reset(Reason::CANCEL);
        let _ = asked.response.await;
        String::new()
    })
}

/// Takes what a window holds, and opens no other.
fn stalls_reading(stage: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    run(async {
        let asked = ask(addr, path).await;
        let response = asked.response.await.unwrap();
        aside(stage, Stage::arrive).await;
        let status = response.status();
        let mut body = response.into_body();
        while let Some(piece) = body.data().await {
            if let Err(error) = piece {
                return format!("{} {}", status.as_u16(), end(&error));
            }
        }
        "all of it".to_owned()
    })
}

/// What a client has got when its stream has ended: the status, and the body unless it is a page.
async fn outcome(asked: Asked) -> String {
    let Asked { _sender, response, body: _body } = asked;
    match response.await {
        Ok(response) => read(response).await,
        Err(error) => end(&error),
    }
}

async fn read(response: Response<h2::RecvStream>) -> String {
    let status = response.status().as_u16();
    let (mut stream, mut body) = (response.into_body(), Vec::new());
    while let Some(piece) = stream.data().await {
        match piece {
            Ok(piece) => {
                let _ = stream.flow_control().release_capacity(piece.len());
                body.extend_from_slice(&piece);
            }
            // Whoever answered early wants no more of the request.
            Err(error) if error.reason() == Some(Reason::NO_ERROR) && error.is_reset() => break,
            Err(error) => return format!("{status} {} after {}", end(&error), body.escape_ascii()),
        }
    }
    if body.starts_with(b"<html>") { status.to_string() } else { format!("{status} {}", body.escape_ascii()) }
}

/// How a stream has ended: by a reset for a reason, or with its connection.
fn end(error: &h2::Error) -> String {
    match error.reason() {
        Some(reason) if error.is_reset() => format!("reset {}", u32::from(reason)),
        _ => "cut".to_owned(),
    }
}
