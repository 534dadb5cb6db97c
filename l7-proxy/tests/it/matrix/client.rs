//! What clients do, and what they get.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Stage;
use crate::peer::{Client, eventually, field};

/// Asks for a path; returns what comes of it.
pub(super) type Play = fn(&Arc<Stage>, SocketAddr, &str) -> String;

fn ask(addr: SocketAddr, path: &str) -> Client {
    let mut client = Client::connect(addr);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
    client
}

/// Sends half of a body.
fn post(addr: SocketAddr, path: &str) -> Client {
    let mut client = Client::connect(addr);
    client.send(format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 10\r\n\r\nhalf:"
    ));
    client
}

pub(super) fn gets(_: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    outcome(ask(addr, path))
}

/// Asks, and the event comes then.
pub(super) fn waits_after(stage: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    let client = ask(addr, path);
    stage.arrive();
    outcome(client)
}

pub(super) fn posts(_: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    let mut client = Client::connect(addr);
    client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
    outcome(client)
}

pub(super) fn posts_half(_: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    outcome(post(addr, path))
}

/// Asks twice on one connection; the second time is what counts.
pub(super) fn gets_twice(_: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    let mut client = Client::connect(addr);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Turn: first\r\n\r\n"));
    assert_eq!(client.response().text(), "first");
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
    outcome(client)
}

/// The same with a request that must not be sent twice.
pub(super) fn gets_and_posts(_: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    let mut client = Client::connect(addr);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Turn: first\r\n\r\n"));
    assert_eq!(client.response().text(), "first");
    client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
    outcome(client)
}

pub(super) fn resets(stage: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    let client = ask(addr, path);
    stage.until_open();
    client.reset_on_drop();
    String::new()
}

pub(super) fn closes(stage: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    let client = ask(addr, path);
    stage.until_open();
    drop(client);
    String::new()
}

pub(super) fn closes_its_side(stage: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    let client = ask(addr, path);
    stage.until_open();
    client.finish();
    outcome(client)
}

pub(super) fn resets_within_its_answer(stage: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    let mut client = ask(addr, path);
    client.exactly(100_000).unwrap();
    stage.arrive();
    client.reset_on_drop();
    String::new()
}

pub(super) fn stalls_reading(stage: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    let client = ask(addr, path);
    stage.arrive();
    // Reads only when the proxy has given up.
    eventually("the proxy has given up", || stage.is_cut_off.load(Ordering::SeqCst));
    outcome(client).split_inclusive("cut").next().unwrap().to_owned()
}

pub(super) fn stalls_within_its_body(stage: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    let client = post(addr, path);
    stage.arrive();
    outcome(client)
}

pub(super) fn resets_within_its_body(stage: &Arc<Stage>, addr: SocketAddr, path: &str) -> String {
    let client = post(addr, path);
    stage.arrive();
    client.reset_on_drop();
    String::new()
}

/// What a client has got when the connection has ended: the status, and the body unless it is a page.
fn outcome(mut client: Client) -> String {
    let Ok(head) = client.head() else { return "nothing".to_owned() };
    let status = &head[9..12];
    let left = client.leave();
    let whole = |body: &[u8]| format!("{status} {}", body.escape_ascii());
    let cut = |body: &[u8]| format!("{status} cut after {}", body.escape_ascii());
    if let Some(length) = field(&head, "Content-Length") {
        let (length, body): (usize, _) = (length.parse().unwrap(), &left.bytes);
        return match body.starts_with(b"<html>") {
            true if body.len() == length => status.to_owned(),
            false if body.len() == length => whole(body),
            _ => cut(body),
        };
    }
    let body = match field(&head, "Transfer-Encoding") {
        Some(_) => {
            let (body, is_whole) = unchunked(&left.bytes);
            return if is_whole { whole(&body) } else { cut(&body) };
        }
        None => left.bytes,
    };
    if left.is_clean { whole(&body) } else { cut(&body) }
}

/// The data of chunks, and whether the last one was there.
fn unchunked(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") else { return (body, false) };
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        bytes = &bytes[end + 2..];
        if size == 0 {
            return (body, true);
        }
        body.extend(&bytes[..size.min(bytes.len())]);
        let Some(rest) = bytes.get(size + 2..) else { return (body, false) };
        bytes = rest;
    }
}
