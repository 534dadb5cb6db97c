//! Large answers, which nobody looks at on their way from one socket to the other.

use std::io;

use crate::peer::{Origin, Proxy, eventually, forwarding};

/// Bytes that show where a piece went missing or came twice.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|place| (place / 3 * 7 + place % 251) as u8).collect()
}

const LARGE: usize = 3_000_000;

#[test]
fn large_answers_arrive_whole_and_their_connections_are_used_again() {
    let origin = Origin::start(|visit| {
        loop {
            visit.request()?;
            visit.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"))?;
            // Pieces of every kind: a first one that comes by itself, odd ones, the rest.
            let body = pattern(LARGE);
            for piece in [&body[..1], &body[1..100_001], &body[100_001..]] {
                visit.write(piece)?;
            }
        }
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    for round in 0..3 {
        let response = client.get("/");
        assert_eq!(response.status, 200);
        assert!(response.body == pattern(LARGE), "round {round}: the body is another one");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn large_answer_that_pauses_is_passed_on_as_far_as_it_came() {
    let (go_on, waits) = std::sync::mpsc::channel();
    let waits = std::sync::Mutex::new(waits);
    let origin = Origin::start(move |visit| {
        let body = pattern(LARGE);
        visit.request()?;
        visit.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"))?;
        let mut rest = &body[..];
        for len in PIECES {
            let (piece, after) = rest.split_at(len);
            visit.write(piece)?;
            rest = after;
            // Until the client has it.
            let _ = waits.lock().unwrap().recv();
        }
        visit.write(rest)?;
        // The next answer is small, and comes on the same connection.
        visit.request()?;
        visit.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmall")
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head().unwrap();
    let mut body = Vec::new();
    for len in PIECES {
        body.extend(client.exactly(len).unwrap());
        go_on.send(()).unwrap();
    }
    body.extend(client.exactly(LARGE - body.len()).unwrap());
    assert!(body == pattern(LARGE));
    assert_eq!(client.get("/").body, b"small");
    assert_eq!(origin.connections(), 1);
}

/// Less than is let gather, more, and less again.
const PIECES: [usize; 5] = [100_000, 1, 600_000, 30_000, 1];

#[test]
fn what_comes_behind_a_large_answer_is_nobodys() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        let body = pattern(LARGE);
        visit.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"))?;
        visit.write([&body[..], b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"].concat())?;
        visit.peer.rest().map(drop)
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    for _ in 0..2 {
        assert!(client.get("/").body == pattern(LARGE));
    }
    assert_eq!(origin.connections(), 2);
}

#[test]
fn large_answer_that_breaks_off_is_cut_off() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"))?;
        visit.write(&pattern(LARGE)[..LARGE - 1])?;
        Err(io::ErrorKind::ConnectionAborted.into())
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.head().unwrap();
    assert!(head.contains(&format!("Content-Length: {LARGE}")), "{head}");
    assert!(client.exactly(LARGE).is_err());
    eventually("the lease is given back", || proxy.active() == 0);
}

#[test]
fn slow_reader_of_a_large_answer_holds_its_server_back() {
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&sent);
    let origin = Origin::start(move |visit| {
        visit.request()?;
        let length = 64 * LARGE;
        visit.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"))?;
        let body = pattern(LARGE);
        for _ in 0..64 {
            visit.write(&body)?;
            counter.fetch_add(LARGE, std::sync::atomic::Ordering::SeqCst);
        }
        Ok(())
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head().unwrap();
    client.exactly(LARGE).unwrap();
    // What sockets and one pipe hold is far less than all of it.
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(sent.load(std::sync::atomic::Ordering::SeqCst) < 40 * LARGE);
    drop(client);
    eventually("the lease is given back", || proxy.active() == 0);
}
