//! Clients that leave, that take too long, and that still send when they are parted from.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::peer::{Left, Origin, Proxy, eventually, forwarding, http, server};

/// When a server answers a client that leaves.
#[derive(PartialEq)]
enum Answered {
    /// As soon as the client has left.
    Then,
    /// Not before the log has its line.
    Never,
}

/// The line of the log for a client that leaves before there is an answer.
fn status_of_who_left(directive: &str, answered: Answered) -> String {
    let (go, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let origin = Origin::start(move |visit| {
        visit.request()?;
        // Until nobody holds it back any more.
        let _ = told.lock().unwrap().recv();
        visit.reply("", "ok")
    });
    let text = forwarding(&[&origin], directive);
    let text = text.replace("access_log off;", "log_format s '$status $upstream_status'; access_log left s;");
    let proxy = Proxy::start(&text);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the server is asked", || !origin.requests().is_empty());
    drop(client);
    let held = (answered == Answered::Never).then_some(go);
    let line = proxy.lines("left", 1).concat();
    drop(held);
    line
}

#[test]
fn request_is_given_up_with_its_client_unless_told_otherwise() {
    assert_eq!(status_of_who_left("", Answered::Never), "499 -");
    assert_eq!(status_of_who_left("proxy_ignore_client_abort on;", Answered::Then), "200 200");
}

#[test]
fn client_that_still_sends_is_listened_to_as_long_as_it_is_told() {
    let left_after = |directives: &str| {
        let proxy = Proxy::start(&server(&format!("client_max_body_size 1; {directives}")));
        let mut client = TcpStream::connect(proxy.addr()).unwrap();
        let head = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nmore than there may be";
        client.write_all(head.as_bytes()).unwrap();
        client.read_to_end(&mut Vec::new()).unwrap();
        let began = Instant::now();
        // What is sent after the end meets nobody, sooner or later.
        while began.elapsed() < Duration::from_secs(5) && client.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
        began.elapsed()
    };
    let soon = left_after("lingering_close off;");
    let given = left_after("lingering_time 2s; lingering_timeout 2s;");
    assert!(given > soon + Duration::from_secs(1) && given < Duration::from_secs(5), "{soon:?} {given:?}");
}

#[test]
fn client_whose_body_is_on_its_way_hears_that_it_is_too_large() {
    for directive in ["lingering_close off;", "lingering_close on;"] {
        for body in [100, 300_000, 3_000_000] {
            let proxy = Proxy::start(&server(&format!("client_max_body_size 1; {directive}")));
            let mut client = proxy.client();
            let head = format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {body}\r\n\r\n");
            // The connection may be over before all is sent.
            client.try_send(head + &"x".repeat(body));
            assert_eq!(client.response().status, 413, "{directive} {body}");
        }
    }
}

#[test]
fn bytes_behind_a_last_request_do_not_cost_its_answer() {
    // A variable that asks the kernel keeps the socket.
    for text in ["text", "'text $tcpinfo_rtt'"] {
        let proxy = Proxy::start(&server(&format!("location / {{ return 200 {text}; }}")));
        for round in 0..500 {
            let mut client = proxy.client();
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.response().status, 200);
            client.send("GET / HTTP/1.0\r\n\r\n");
            // Between the proxy's look at the request and its end of the connection, now and then.
            let began = Instant::now();
            while began.elapsed() < Duration::from_micros(round % 100) {}
            client.try_send("\r\n");
            assert_eq!(client.response().status, 200, "{round}");
        }
    }
}

#[test]
fn unwelcome_client_hears_it_after_the_delay() {
    let proxy =
        Proxy::start(&server("location / { auth_basic x; auth_basic_user_file users; auth_delay 300ms; }"));
    proxy.file("users", "u:{PLAIN}p\n");
    proxy.file("html/a", "a");
    let began = Instant::now();
    assert_eq!(proxy.get("/a").status, 401);
    assert!(began.elapsed() >= Duration::from_millis(290));
    let mut client = proxy.client();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: Basic dTpw\r\n\r\n");
    assert_eq!(client.response().status, 200);
}

/// How the connection of a client that sends this and then nothing ends, once its time is over.
fn left_in_time(said: &str) -> Left {
    let server = server(
        "reset_timedout_connection on; client_header_timeout 200ms; client_body_timeout 200ms; \
         keepalive_timeout 200ms; location /a { return 200 a; } location / { proxy_pass http://127.0.0.1:1; } \
         location /none { return 444; }",
    );
    let proxy = Proxy::start(&server);
    let mut client = proxy.client();
    client.send(said);
    client.leave()
}

#[test]
fn client_that_took_too_long_is_reset_where_that_is_wanted_and_who_was_idle_is_not() {
    for begun in [
        "GET / HT",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na",
        "GET /none HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert!(!left_in_time(begun).is_clean, "{begun}");
    }
    for idle in ["", "GET /a HTTP/1.1\r\nHost: a\r\n\r\n"] {
        assert!(left_in_time(idle).is_clean, "{idle}");
    }
}

#[test]
fn answer_that_ends_with_its_connection_ends_by_a_reset_if_it_is_cut() {
    let (cut, whole) = ("5\r\nhello\r\n", "5\r\nhello\r\n0\r\n\r\n");
    for (body, is_clean) in [(cut, false), (whole, true)] {
        let origin = Origin::start(move |visit| {
            visit.request()?;
            visit.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            visit.write(body)
        });
        let proxy = Proxy::start(&forwarding(&[&origin], "proxy_http_version 1.1;"));
        let mut client = proxy.client();
        client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
        assert_eq!(client.leave().is_clean, is_clean, "{body:?}");
    }
}

#[test]
fn client_that_has_its_part_is_not_reset_for_the_rest_of_an_answer_that_is_being_stored() {
    let (go, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let origin = Origin::start(move |visit| {
        visit.request()?;
        visit.write("HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Length: 100000\r\n\r\n")?;
        visit.write("x".repeat(1000))?;
        let _ = told.lock().unwrap().recv();
        Ok(())
    });
    let text = format!(
        "proxy_cache_path cache keys_zone=zone:1m; upstream app {{ server {}; }}
         server {{ listen 127.0.0.1:1; location /own {{ return 200 own; }}
         location / {{ proxy_pass http://app; proxy_cache zone; proxy_cache_valid 1h; }} }}",
        origin.addr
    );
    let proxy = Proxy::start(&http(&text));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nRange: bytes=0-9\r\n\r\n");
    let part = client.response();
    assert_eq!((part.status, part.text()), (206, "xxxxxxxxxx"));
    drop(go);
    eventually("the server has broken off", || proxy.active() == 0);
    client.send("GET /own HTTP/1.0\r\nHost: a\r\n\r\n");
    let left = client.leave();
    assert!(left.is_clean && left.bytes.ends_with(b"own"));
}
