//! One connection, several requests: where each ends, and whether the next one is taken.

use std::io::Write as _;

use crate::peer::{Origin, Proxy, forwarding, server};

const GET: &str = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn body_that_nobody_wants_is_skipped() {
    let proxy = Proxy::start(&server("return 200 ok;"));
    for body in [
        format!("Content-Length: 300000\r\n\r\n{}", "x".repeat(300_000)),
        format!("Transfer-Encoding: chunked\r\n\r\n5;a=b\r\n{GET:.5}\r\n0\r\nX: y\r\n\r\n"),
    ] {
        let mut client = proxy.client();
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{body}{GET}");
        let sending = client.stream.try_clone().unwrap();
        let sender = std::thread::spawn(move || (&sending).write_all(text.as_bytes()));
        for _ in 0..2 {
            let response = client.response();
            assert_eq!((response.status, response.header("Connection")), (200, Some("keep-alive")));
        }
        sender.join().unwrap().unwrap();
    }
}

#[test]
fn body_that_breaks_its_coding_ends_the_connection() {
    let proxy = Proxy::start(&server("return 200 ok;"));
    for chunks in ["5\r\nhello?\r\n0\r\n\r\n", "x\r\n", "5\nhello\r\n0\r\n\r\n", "-1\r\n"] {
        let mut client = proxy.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{GET}"));
        assert_eq!(client.response().status, 400, "{chunks:?}");
        assert_eq!(client.rest().unwrap(), b"", "{chunks:?}");
    }
}

#[test]
fn body_that_is_held_back_and_not_wanted_ends_the_connection() {
    let proxy = Proxy::start(&server("return 200 ok;"));
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status, response.header("Connection")), (200, Some("close")));
    client.rest().unwrap();
}

#[test]
fn requests_in_one_piece_are_answered_in_turn() {
    let origin = Origin::named("a");
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    let requests: String =
        (0..20).map(|turn| format!("GET /{turn} HTTP/1.1\r\nHost: a\r\n\r\n\r\n")).collect();
    client.send(&requests);
    for turn in 0..20 {
        assert_eq!(client.response().text(), format!("a /{turn}"));
    }
}

#[test]
fn head_may_come_byte_by_byte() {
    let origin = Origin::named("a");
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    client.stream.set_nodelay(true).unwrap();
    for _ in 0..2 {
        for byte in "\r\nGET /slow HTTP/1.1\r\nHost: a\r\n\r\n".bytes() {
            client.send([byte]);
        }
        assert_eq!(client.response().text(), "a /slow");
    }
}

#[test]
fn early_answer_does_not_keep_the_next_request_from_being_read() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        // It has seen enough, and leaves the body where it is.
        visit.reply("Connection: close\r\n", "early")?;
        visit.peer.rest().map(drop)
    });
    let proxy = Proxy::start(&forwarding(&[&origin], "proxy_request_buffering off; client_max_body_size 0;"));
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n");
    assert_eq!(client.response().text(), "early");
    client.send("x".repeat(200_000));
    client.send(GET);
    assert_eq!(client.response().text(), "early");
}

#[test]
fn what_is_too_large_for_a_head_is_refused_before_it_ends() {
    let proxy = Proxy::start(&server("return 200 ok;"));
    for (text, status) in [
        (format!("GET /{}", "x".repeat(9000)), 414),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(9000)), 400),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}", format!("X: {}\r\n", "x".repeat(8000)).repeat(6)), 400),
    ] {
        let mut client = proxy.client();
        client.send(&text);
        let response = client.response();
        assert_eq!((response.status, response.header("Connection")), (status, Some("close")));
        assert!(response.text().starts_with("<html>"), "{}", response.text());
    }
}
