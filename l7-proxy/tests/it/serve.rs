//! Answers of the proxy's own, and the limits of client connections.

use std::fs;
use std::time::{Duration, Instant};

use crate::peer::{Client, Origin, Proxy, eventually, http, server};

#[test]
fn files_indexes_and_redirects_come_as_from_nginx() {
    let origin = Origin::named("jsp");
    let proxy = Proxy::start(&server(&format!(
        "index index.jsp index.html; location ~ \\.jsp$ {{ proxy_pass http://{}; }}",
        origin.addr
    )));
    proxy.file("html/index.html", "page");
    proxy.file("html/app/index.jsp", "source");
    proxy.file("html/app/index.html", "never");
    assert_eq!(proxy.get("/").text(), "page");
    assert_eq!(proxy.get("/app/?x=1").text(), "jsp /app/index.jsp?x=1");
    let redirect = proxy.get("/app?x=1");
    assert_eq!(redirect.status, 301);
    let port = proxy.addr().port();
    assert_eq!(redirect.header("Location"), Some(&*format!("http://example.org:{port}/app/?x=1")));
    let mut client = proxy.client();
    client.send("GET /index.html HTTP/1.1\r\nHost: a\r\nRange: bytes=1-2\r\n\r\n");
    let part = client.response();
    assert_eq!((part.status, part.text()), (206, "ag"));
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.head().unwrap();
    assert!(head.contains("\r\nContent-Length: 4\r\n") && head.contains("\r\nETag: "), "{head}");
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(client.response().status, 405);
    assert_eq!(client.get("/index.html").text(), "page");
}

#[test]
fn large_file_arrives_byte_for_byte() {
    let proxy = Proxy::start(&server(""));
    let bytes: Vec<u8> = (0..5_000_003_usize).map(|place| (place * 7 + place / 253) as u8).collect();
    proxy.file("html/large", &bytes);
    let response = proxy.get("/large");
    assert_eq!(response.header("Content-Length"), Some("5000003"));
    assert!(response.body == bytes);
}

#[test]
fn file_that_shrinks_while_it_is_sent_cuts_the_connection() {
    let proxy = Proxy::start(&server(""));
    proxy.file("html/log", vec![b'x'; 50_000_000]);
    let mut client = proxy.client();
    client.send("GET /log HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head().unwrap();
    proxy.file("html/log", "short");
    assert!(client.exactly(50_000_000).is_err());
}

#[test]
fn errors_are_answered_as_configured() {
    let proxy = Proxy::start(&server(
        "error_page 404 /missing.html;
         error_page 403 =200 /fine.html;
         error_page 410 @gone;
         error_page 402 http://pay.example/;
         location = /missing.html { internal; }
         location = /forbidden { return 403; }
         location = /gone { return 410; }
         location = /pay { return 402; }
         location = /loop { error_page 405 /loop; return 405; }
         location @gone { return 200 'was here'; }",
    ));
    proxy.file("html/missing.html", "not here");
    proxy.file("html/fine.html", "fine");
    let check = |path: &str, status: u16, body: &str| {
        let response = proxy.get(path);
        assert_eq!(response.status, status, "{path}");
        assert!(response.text().contains(body), "{path}: {}", response.text());
    };
    check("/nothing", 404, "not here");
    check("/missing.html", 404, "not here");
    check("/forbidden", 200, "fine");
    check("/gone", 410, "was here");
    check("/loop", 405, "405 Not Allowed");
    assert_eq!(proxy.get("/pay").header("Location"), Some("http://pay.example/"));
}

#[test]
fn returns_are_answered_without_a_handler() {
    let proxy = Proxy::start(&http(
        "server { listen 127.0.0.1:1; server_name a;
            location /text { default_type text/plain; return 201 \"$host $arg_x\"; }
            location /moved { return 301 /there; }
            location /silent { return 444; } }
         server { listen 127.0.0.1:1; server_name b; return 503; }",
    ));
    let ask = |host: &str, path: &str| {
        let mut client = proxy.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        client.response()
    };
    let text = ask("a", "/text?x=1");
    assert_eq!((text.status, text.text()), (201, "a 1"));
    assert!(ask("a", "/moved").header("Location").unwrap().ends_with("/there"));
    assert_eq!(ask("b", "/text").status, 503);
    assert_eq!(ask("c", "/text").status, 201, "the first server is the default");
    let mut client = proxy.client();
    client.send("GET /silent HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.is_closed());
}

#[test]
fn version_is_told_or_not() {
    let told = Proxy::start(&server(""));
    let version = concat!("l7-proxy/", env!("CARGO_PKG_VERSION"));
    assert_eq!(told.get("/").header("Server"), Some(version));
    assert!(told.get("/").text().contains(version));
    let untold = Proxy::start(&server("server_tokens off;"));
    assert_eq!(untold.get("/").header("Server"), Some("l7-proxy"));
    assert!(!untold.get("/").text().contains(version));
    assert!(told.get("/").header("Date").is_some());
}

#[test]
fn requests_in_one_packet_are_answered_in_order() {
    let origin = Origin::named("a");
    let proxy = Proxy::start(&server(&format!(
        "location / {{ proxy_pass http://{}; }} location /here {{ return 200 here; }}",
        origin.addr
    )));
    let mut client = proxy.client();
    let requests: String =
        ["/1", "/here", "/2"].map(|path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).concat();
    client.send(requests);
    let answers: Vec<String> = (0..3).map(|_| client.response().text().to_owned()).collect();
    assert_eq!(answers, ["a /1", "here", "a /2"]);
}

#[test]
fn connection_ends_after_its_last_request() {
    let proxy = Proxy::start(&server("keepalive_requests 2; location / { return 200; }"));
    let mut client = proxy.client();
    assert_eq!(client.get("/").header("Connection"), Some("keep-alive"));
    assert_eq!(client.get("/").header("Connection"), Some("close"));
    assert!(client.is_closed());
    let proxy = Proxy::start(&server("keepalive_timeout 0; location / { return 200; }"));
    let mut client = proxy.client();
    assert_eq!(client.get("/").header("Connection"), Some("close"));
    assert!(client.is_closed());
    let proxy = Proxy::start(&server("keepalive_timeout 60s 50s; location / { return 200; }"));
    let mut client = proxy.client();
    assert_eq!(client.get("/").header("Keep-Alive"), Some("timeout=50"));
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(client.response().header("Connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn client_that_says_nothing_is_not_waited_for() {
    let check = |directives: &str, say: fn(&mut Client)| {
        let proxy = Proxy::start(&server(&format!("{directives} location / {{ return 200; }}")));
        let began = Instant::now();
        let mut client = proxy.client();
        say(&mut client);
        assert!(client.is_closed(), "{directives}");
        let waited = began.elapsed();
        // The clock of limits ticks every few milliseconds.
        assert!(waited >= Duration::from_millis(90), "{directives}: only {waited:?}");
        assert!(waited < Duration::from_secs(10), "{directives}: {waited:?}");
    };
    check("client_header_timeout 100ms;", |_| {});
    check("client_header_timeout 100ms;", |client| client.send("GET / HTTP/1.1\r\nHo"));
    check("keepalive_timeout 100ms;", |client| assert_eq!(client.get("/").status, 200));
    check("client_header_timeout 100ms;", |client| {
        client.get("/");
        client.send("GET / HT");
    });
}

#[test]
fn client_that_stops_sending_its_body_is_not_waited_for() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.peer.rest().map(drop)
    });
    let proxy = Proxy::start(&http(&format!(
        "upstream app {{ server {}; }}
         server {{ listen 127.0.0.1:1; client_body_timeout 100ms;
            location / {{ proxy_pass http://app; }} }}",
        origin.addr
    )));
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    assert!(client.is_closed());
    eventually("the place is free", || proxy.active() == 0);
}

#[test]
fn client_that_does_not_read_is_not_waited_for() {
    let proxy = Proxy::start(&server("send_timeout 200ms;"));
    proxy.file("html/large", vec![b'x'; 50_000_000]);
    let mut client = proxy.client();
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    std::thread::sleep(Duration::from_millis(600));
    assert!(client.try_response().is_err(), "the answer came whole");
}

#[test]
fn connections_beyond_the_bound_wait_in_the_queue() {
    let text = server("location / { return 200; }").replace("events {}", "events { worker_connections 2; }");
    let proxy = Proxy::start(&text);
    let mut first = proxy.client();
    let mut second = proxy.client();
    assert_eq!((first.get("/").status, second.get("/").status), (200, 200));
    let mut third = proxy.client();
    third.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    third.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(third.try_response().is_err(), "there are three connections");
    third.stream.set_read_timeout(Some(crate::peer::PATIENCE)).unwrap();
    drop(first);
    assert_eq!(third.response().status, 200);
}

#[test]
fn each_request_leaves_a_line() {
    let origin = Origin::named("app");
    let text = http(&format!(
        "log_format mine '$request_method $uri $status $body_bytes_sent $upstream_addr $upstream_status $sent_http_x_a';
         server {{ listen 127.0.0.1:1; access_log mine.log mine; access_log combined.log;
            location /app {{ proxy_pass http://{}; add_header X-A b; }}
            location /quiet {{ access_log off; return 200; }}
            location /here {{ return 200 text; }}
            location /silent {{ return 444; }} }}",
        origin.addr
    ));
    let proxy = Proxy::start(&text);
    proxy.get("/app/x?y");
    proxy.get("/quiet");
    proxy.get("/here");
    let mut client = proxy.client();
    client.send("GET /silent HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.is_closed());
    client = proxy.client();
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.response().status, 400);
    let lines = proxy.lines("mine.log", 4);
    assert_eq!(lines[0], format!("GET /app/x 200 {} {} 200 b", "app /app/x?y".len(), origin.addr));
    assert_eq!(lines[1], "GET /here 200 4 - - -");
    assert_eq!(lines[2], "GET /silent 444 0 - - -");
    assert!(lines[3].starts_with("GET / 400 "), "{}", lines[3]);
    let first = &proxy.lines("combined.log", 1)[0];
    assert!(first.starts_with("127.0.0.1 - - ["), "{first}");
    assert!(first.ends_with("\"GET /app/x?y HTTP/1.1\" 200 12 \"-\" \"-\""), "{first}");
}

#[test]
fn bytes_of_an_answer_are_counted() {
    let text = http(
        "log_format bytes '$bytes_sent $body_bytes_sent';
         server { listen 127.0.0.1:1; root html; access_log a.log bytes;
            location /text { add_header X-A b; return 200 text; } }",
    );
    let proxy = Proxy::start(&text);
    proxy.file("html/file", "file");
    let mut expected = String::new();
    for path in ["/text", "/file", "/none"] {
        let response = proxy.get(path);
        let (head, body) = (response.head.len(), response.body.len());
        expected += &format!("{} {body}\n", head + body);
    }
    let Proxy { daemon, folder } = proxy;
    drop(daemon);
    assert_eq!(fs::read_to_string(folder.path().join("a.log")).unwrap(), expected);
}

#[test]
fn client_that_goes_is_logged_as_gone_and_logs_are_written_at_the_end() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.peer.rest().map(drop)
    });
    let proxy = Proxy::start(&http(&format!(
        "upstream app {{ server {}; }}
         server {{ listen 127.0.0.1:1; access_log a.log; location / {{ proxy_pass http://app; }} }}",
        origin.addr
    )));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is at the server", || proxy.active() == 1);
    drop(client);
    eventually("the place is free", || proxy.active() == 0);
    let Proxy { daemon, folder } = proxy;
    drop(daemon);
    let text = fs::read_to_string(folder.path().join("a.log")).unwrap();
    assert!(text.contains("\"GET / HTTP/1.1\" 499 0 "), "{text}");
}

#[test]
fn logs_are_opened_anew_when_told() {
    let proxy = Proxy::start(&server("access_log a.log; location / { return 200; }"));
    let path = |name: &str| proxy.folder.path().join(name);
    let lines = |name: &str| fs::read_to_string(path(name)).map_or(0, |text| text.lines().count());
    proxy.get("/");
    eventually("the first line is there", || lines("a.log") == 1);
    fs::rename(path("a.log"), path("a.log.1")).unwrap();
    proxy.daemon.reopen_logs();
    proxy.get("/");
    eventually("the second line is in the new file", || lines("a.log") == 1);
    assert_eq!(lines("a.log.1"), 1);
}

#[test]
fn files_that_a_server_tries_are_tried_where_no_location_matches() {
    let proxy = Proxy::start(&server(
        "try_files $uri /fallback; location /own/ { } location = /fallback { return 200 fallback; }",
    ));
    proxy.file("html/page", "page");
    assert_eq!(proxy.get("/page").text(), "page");
    assert_eq!(proxy.get("/nothing").text(), "fallback");
    assert_eq!(proxy.get("/own/nothing").status, 404);
}
