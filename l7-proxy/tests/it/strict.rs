//! Requests that two readers could read differently, on the wire.

use crate::peer::{Client, Origin, Proxy, forwarding, server};

/// Sends the bytes and returns the status of the answer; the connection must be closed behind it
/// if it is an error of framing.
fn ask(proxy: &Proxy, bytes: &str) -> (u16, Client) {
    let mut client = proxy.client();
    client.send(bytes);
    let head = client.head().unwrap_or_else(|error| panic!("{bytes:?}: {error}"));
    (head[9..12].parse().unwrap(), client)
}

#[test]
fn each_ambiguous_request_is_refused_and_none_reaches_a_server() {
    let origin = Origin::named("a");
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let cases: &[(&str, u16)] = &[
        // Host.
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400),
        ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://a/ HTTP/1.1\r\n\r\n", 400),
        // Targets.
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /../x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.12\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        // Framing.
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 1\r\n\r\nx", 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\nTransfer-Encoding: y\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 501),
        ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        // Lines.
        ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\rY: 2\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\x002\r\n\r\n", 400),
        // Behind a chunk's size, and behind the last one.
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;\r\nx\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a[b\r\nx\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\"\r\nx\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\n", 400),
    ];
    for (bytes, status) in cases {
        let (answered, mut client) = ask(&proxy, bytes);
        assert_eq!(answered, *status, "{bytes:?}");
        // Whatever follows could be the rest of what was refused.
        client.rest().unwrap_or_else(|error| panic!("{bytes:?}: {error}"));
    }
    assert_eq!(origin.requests(), [""; 0]);
}

#[test]
fn unusual_requests_that_have_one_reading_are_served() {
    let origin = Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            let body = visit.body(&head)?;
            visit.reply("", std::str::from_utf8(&body).unwrap())?;
        }
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    for bytes in [
        "GET / HTTP/1.0\r\n\r\n",
        "GET http://A/ HTTP/1.1\r\nHost: a:80\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\nabc",
        "PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        "GET /up?up{job=\"x\"}>1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 ; a = \"b\";c\r\nx\r\n0\r\nX: y\r\n\r\n",
    ] {
        assert_eq!(ask(&proxy, bytes).0, 200, "{bytes:?}");
    }
    let seen = origin.requests();
    assert!(seen.iter().any(|head| head.starts_with("GET /up?up{job=%22x%22}%3E1 HTTP/1.")), "{seen:?}");
}

#[test]
fn request_that_hides_in_a_body_stays_there() {
    let origin = Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            visit.body(&head)?;
            visit.reply("", "ok")?;
        }
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = proxy.client();
    let length = hidden.len();
    client.send(format!("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{hidden}"));
    client.send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    client.send("POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(format!("{length:x}\r\n{hidden}\r\n0\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\n\r\n"));
    for _ in 0..4 {
        assert_eq!(client.response().status, 200);
    }
    let paths: Vec<String> =
        origin.requests().iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(paths, ["/1", "/2", "/3", "/4"]);
}

#[test]
fn refusal_arrives_although_the_client_is_still_sending() {
    let origin = Origin::named("a");
    let proxy = Proxy::start(&forwarding(&[&origin], "client_max_body_size 1k;"));
    for framing in ["Content-Length: 8000000", "Content-Length: 1025"] {
        let mut client = proxy.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
        let sending = client.stream.try_clone().unwrap();
        let sender = std::thread::spawn(move || {
            use std::io::Write;
            let _ = (&sending).write_all(&vec![b'x'; 4_000_000]);
        });
        let response = client.response();
        assert_eq!(response.status, 413, "{framing}");
        assert_eq!(response.header("Connection"), Some("close"));
        drop(client);
        sender.join().unwrap();
    }
    assert_eq!(origin.requests(), [""; 0]);
}

#[test]
fn body_in_chunks_is_bounded_like_any_other() {
    let origin = Origin::start(|visit| {
        let head = visit.request()?;
        let body = visit.body(&head)?;
        visit.reply("", &body.len().to_string())
    });
    let proxy = Proxy::start(&forwarding(&[&origin], "client_max_body_size 1k;"));
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = proxy.client();
    client.send(format!("{chunked}400\r\n{}\r\n0\r\n\r\n", "x".repeat(1024)));
    assert_eq!(client.response().text(), "1024");
    let mut client = proxy.client();
    client.send(format!("{chunked}401\r\n{}\r\n0\r\n\r\n", "x".repeat(1025)));
    assert_eq!(client.response().status, 413);
}

#[test]
fn body_that_nobody_reads_is_looked_at_as_far_as_it_has_come() {
    let proxy = Proxy::start(&server(
        "location = /r { return 200 a; } location = /moved { return 301 /r; } location = /none { return 404; }",
    ));
    for (path, chunks, status) in [
        ("/r", "x\r\nabc\r\n0\r\n\r\n", 400),
        ("/r", "3\r\nabcX\r\n0\r\n\r\n", 400),
        ("/moved", "x\r\nabc\r\n0\r\n\r\n", 400),
        ("/none", "x\r\nabc\r\n0\r\n\r\n", 404),
        // There may be more to come.
        ("/r", "3\r\nab", 200),
        ("/r", "3\r\nabc\r\n0\r\n\r\n", 200),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        assert_eq!(ask(&proxy, &head).0, status, "{path} {chunks:?}");
    }
}

#[test]
fn body_that_is_none_has_the_error_page_for_it() {
    let proxy = Proxy::start(&server(
        "error_page 400 /bad; location = /bad { return 200 page; } location = /r { return 200 a; }",
    ));
    let mut client = proxy.client();
    client.send("POST /r HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nabc\r\n0\r\n\r\n");
    let answer = client.response();
    assert_eq!((answer.status, answer.text()), (400, "page"));
}
