//! HTTP/1.1 as spoken with servers: what of an answer is taken, and what a connection is good for
//! after it.

use std::io::Write;
use std::time::Duration;

use crate::peer::{Origin, Proxy, forwarding};

#[test]
fn interim_answers_are_no_answer() {
    let origin = Origin::start(|visit| {
        loop {
            visit.request()?;
            visit.write("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n")?;
            visit.write("X: 1\r\n\r\n")?;
            visit.reply("", "final")?;
        }
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    for _ in 0..3 {
        let response = client.get("/");
        assert_eq!((response.status, response.text()), (200, "final"));
        assert_eq!((response.header("Link"), response.header("X")), (None, None));
    }
    assert_eq!(origin.connections(), 1);
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.write("HTTP/1.1 102 Processing\r\n\r\n".repeat(1000))
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    assert_eq!(proxy.get("/").status, 502, "a server that never gets to the point");
}

#[test]
fn answer_is_the_same_in_whatever_pieces_it_comes() {
    let origin = Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            let answer = if head.starts_with("GET /chunks") {
                "HTTP/1.1 200 Fine\r\nX-a: b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n"
            } else {
                "HTTP/1.1 200 Fine\r\nX-a: b\r\nContent-Length: 5\r\n\r\nabcde"
            };
            for byte in answer.bytes() {
                visit.write([byte])?;
                // Long enough to be seen apart now and then.
                std::thread::sleep(Duration::from_micros(50));
            }
        }
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    for path in ["/chunks", "/length", "/chunks"] {
        let response = client.get(path);
        assert_eq!(response.text(), "abcde", "{path}");
        assert!(response.head.starts_with("HTTP/1.1 200 Fine\r\n"), "{}", response.head);
        assert!(response.head.contains("\r\nX-a: b\r\n"), "{}", response.head);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn request_goes_on_while_its_answer_comes() {
    const SIZE: usize = 8 * 1024 * 1024;
    // Each byte is answered as it comes: neither side can hold all of it.
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"))?;
        let mut left = SIZE;
        while left > 0 {
            let piece = visit.peer.exactly(left.min(10_000))?;
            left -= piece.len();
            visit.write(piece)?;
        }
        Ok(())
    });
    let proxy = Proxy::start(&forwarding(&[&origin], "client_max_body_size 0;"));
    let mut client = proxy.client();
    let sending = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let mut sending = &sending;
        sending
            .write_all(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes())?;
        sending.write_all(&vec![b'x'; SIZE])
    });
    assert_eq!(client.response().body.len(), SIZE);
    sender.join().unwrap().unwrap();
}

#[test]
fn connection_whose_request_was_cut_short_is_not_used_again() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.reply("", "early")?;
        visit.peer.rest().map(drop)
    });
    let proxy = Proxy::start(&forwarding(&[&origin], "proxy_request_buffering off;"));
    for turn in 1..4 {
        let mut client = proxy.client();
        client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nnot all");
        assert_eq!(client.response().text(), "early");
        assert_eq!(origin.connections(), turn);
    }
}

#[test]
fn head_may_be_as_large_as_the_configuration_says() {
    let origin = Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            let size: usize = head.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
            let rest = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: \r\n\r\n".len();
            visit.reply(&format!("X: {}\r\n", "x".repeat(size - rest)), "ok")?;
        }
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    assert_eq!(proxy.get("/4096").text(), "ok");
    assert_eq!(proxy.get("/4097").status, 502);
    let proxy = Proxy::start(&forwarding(&[&origin], "proxy_buffer_size 8k;"));
    assert_eq!(proxy.get("/8192").text(), "ok");
    assert_eq!(proxy.get("/8193").status, 502);
}

#[test]
fn chunks_that_are_none_cut_the_answer() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n")
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.try_response().is_err());
}

#[test]
fn answer_whose_first_chunk_is_none_is_no_answer() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nabc\r\n0\r\n\r\n")
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.is_closed());
}
