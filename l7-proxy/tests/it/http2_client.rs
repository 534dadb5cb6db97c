//! Clients of HTTP/2 at the edges: who is answered, who is reset alone, and who is sent away.

use std::io;
use std::time::Duration;

use http::Request;

use crate::http2_peer::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, ask, block, connect, frame, get, read, request, run,
};
use crate::peer::{Origin, Proxy, eventually, http};

const PROTOCOL_ERROR: u8 = 1;
const FRAME_SIZE_ERROR: u8 = 6;
const ENHANCE_YOUR_CALM: u8 = 11;

fn proxy(content: &str) -> Proxy {
    Proxy::start(&http(&format!("server {{ listen 127.0.0.1:1; http2 on; {content} }}")))
}

/// The code of a frame that ends a stream or a connection.
fn code(frame: &Frame) -> u8 {
    *frame.payload.get(if frame.kind == GOAWAY { 7 } else { 3 }).unwrap()
}

/// Waits for a frame of a kind on a stream.
fn wait(frames: &mut Frames, kind: u8, stream: u32) -> io::Result<Frame> {
    loop {
        let frame = frames.next_of(kind)?;
        if frame.stream == stream {
            return Ok(frame);
        }
    }
}

/// The fields of a request that has a body.
fn post(length: &str) -> Vec<u8> {
    block(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "example.org"),
        (":path", "/"),
        ("content-length", length),
    ])
}

/// Asks for `/` on a stream and says whether that is answered.
#[track_caller]
fn is_answered(frames: &mut Frames, stream: u32) {
    frames.send(HEADERS, END_HEADERS | END_STREAM, stream, &get("/")).unwrap();
    wait(frames, HEADERS, stream).expect("the connection is over");
}

#[test]
fn answers_have_a_date_and_a_body_only_where_there_is_one() {
    let proxy = proxy(
        "location / { return 200 text; }
         location /none { return 204 text; }
         location /page { error_page 404 =304 /text; return 404; }
         location /text { default_type text/plain; return 200 text; }",
    );
    run(async {
        let client = connect(proxy.addr()).await;
        for (path, status, body) in [("/", 200, "text"), ("/none", 204, ""), ("/page", 304, "")] {
            let answer = ask(&client, request("GET", path).body(()).unwrap(), b"").await.unwrap();
            assert_eq!((answer.status, &*answer.body), (status, body.as_bytes()), "{path}");
            let date = answer.headers["date"].to_str().unwrap();
            assert!(date.ends_with(" GMT"), "{date}");
            assert!(status != 204 || !answer.headers.contains_key("content-length"));
        }
    });
}

#[test]
fn cookies_in_crumbs_may_be_longer_together_than_a_line() {
    let proxy = proxy("location / { return 200 $http_cookie; }");
    run(async {
        let client = connect(proxy.addr()).await;
        let crumb = |name: &str| format!("{name}={}", "x".repeat(5000));
        let request = request("GET", "/").header("cookie", crumb("a")).header("cookie", crumb("b"));
        let answer = ask(&client, request.body(()).unwrap(), b"").await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 2 * 5002 + 2));
    });
}

#[test]
fn body_that_stops_coming_costs_its_stream_and_no_other() {
    let origin = Origin::named("app");
    let proxy = proxy(&format!(
        "client_body_timeout 200ms; access_log t.log; location / {{ proxy_pass http://{}; }}",
        origin.addr
    ));
    let mut frames = Frames::connect(proxy.addr());
    frames.send(HEADERS, END_HEADERS, 1, &post("10")).unwrap();
    frames.send(DATA, 0, 1, b"half").unwrap();
    is_answered(&mut frames, 3);
    let reset = wait(&mut frames, RST_STREAM, 1).unwrap();
    assert_eq!(code(&reset), PROTOCOL_ERROR, "as from nginx");
    is_answered(&mut frames, 5);
    eventually("the request is logged", || proxy.log("t.log").contains("\" 408 0 "));
}

#[test]
fn reader_that_opens_no_window_costs_its_stream_and_no_other() {
    let proxy =
        proxy("send_timeout 200ms; location / { return 200 0123456789; } location = /0 { return 204; }");
    let mut frames = Frames::connect(proxy.addr());
    // Streams begin with four bytes.
    frames.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 4]).unwrap();
    frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &get("/")).unwrap();
    assert_eq!(wait(&mut frames, DATA, 1).unwrap().payload, b"0123");
    frames.send(HEADERS, END_HEADERS | END_STREAM, 3, &get("/0")).unwrap();
    let reset = wait(&mut frames, RST_STREAM, 1).unwrap();
    assert_eq!(code(&reset), PROTOCOL_ERROR);
    frames.send(PING, 0, 0, &[7; 8]).unwrap();
    assert_eq!(frames.next_of(PING).unwrap().payload, [7; 8]);
}

#[test]
fn reader_that_is_slow_but_reads_gets_all() {
    // Longer than any pause, on a busy machine as well, and shorter than all of them together.
    let proxy = proxy("send_timeout 1500ms; location / { return 200 0123456789; }");
    let mut frames = Frames::connect(proxy.addr());
    frames.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]).unwrap();
    frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &get("/")).unwrap();
    let mut body = Vec::new();
    while body.len() < 10 {
        body.extend(wait(&mut frames, DATA, 1).unwrap().payload);
        std::thread::sleep(Duration::from_millis(180));
        let _ = frames.send(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes());
    }
    assert_eq!(body, b"0123456789");
}

#[test]
fn what_came_of_an_answer_that_breaks_off_is_ahead_of_the_reset() {
    // Head, beginning and end come in one segment, so that the proxy has all of it at once.
    let origin = Origin::start(|visit| {
        visit.request()?;
        rustix::net::sockopt::set_tcp_cork(&visit.peer.stream, true)?;
        visit.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin")
    });
    let proxy = proxy(&format!("location / {{ proxy_pass http://{}; }}", origin.addr));
    let mut frames = Frames::connect(proxy.addr());
    frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &get("/")).unwrap();
    let mut seen = Vec::new();
    while !seen.contains(&RST_STREAM) {
        let frame = frames.next().unwrap();
        seen.extend((frame.stream == 1).then_some(frame.kind));
    }
    assert_eq!(seen, [HEADERS, DATA, RST_STREAM]);
}

#[test]
fn head_that_stops_coming_ends_the_connection() {
    let proxy = proxy("client_header_timeout 200ms; keepalive_timeout 60s; return 204;");
    let whole = frame(HEADERS, END_HEADERS | END_STREAM, 3, &get("/"));
    let open = frame(HEADERS, END_STREAM, 3, &get("/"));
    for (name, beginning) in [
        ("amid a frame's head", &whole[..5]),
        ("amid a frame", &whole[..20]),
        ("before a continuation", &open[..]),
    ] {
        let mut frames = Frames::connect(proxy.addr());
        is_answered(&mut frames, 1);
        io::Write::write_all(&mut frames.stream, beginning).unwrap();
        let goodbye = frames.next_of(GOAWAY).expect(name);
        assert_eq!(code(&goodbye), 0, "{name}");
        assert!(frames.next().is_err(), "{name}: it is still open");
    }
}

#[test]
fn idle_connection_is_ended_when_its_time_is_over() {
    let proxy = proxy("keepalive_timeout 200ms; return 204;");
    let mut frames = Frames::connect(proxy.addr());
    is_answered(&mut frames, 1);
    let goodbye = frames.next_of(GOAWAY).unwrap();
    assert_eq!((code(&goodbye), goodbye.payload[3]), (0, 1), "no error, and the first stream was the last");
    assert!(frames.next().is_err());
}

#[test]
fn idle_connection_does_not_hold_up_the_end() {
    let proxy = proxy("return 204;");
    let mut frames = Frames::connect(proxy.addr());
    is_answered(&mut frames, 1);
    assert!(proxy.shut_down(Duration::from_secs(5)), "it is still open");
    assert_eq!(code(&frames.next_of(GOAWAY).expect("it was not told")), 0);
}

/// Of a client that is far away, and had sent it before it could hear.
#[test]
fn request_that_crosses_the_goodbye_is_answered() {
    const ACK: u8 = 1;
    // A busy machine may take longer than a long way there and back.
    let proxy = proxy("keepalive_min_timeout 5s; return 204;");
    let mut frames = Frames::connect(proxy.addr());
    is_answered(&mut frames, 1);
    let ending = std::thread::spawn(move || proxy.shut_down(Duration::from_secs(10)));
    frames.next_of(GOAWAY).unwrap();
    let ping = frames.next_of(PING).unwrap();
    std::thread::sleep(Duration::from_millis(150));
    is_answered(&mut frames, 3);
    frames.send(PING, ACK, 0, &ping.payload).unwrap();
    let last = frames.next_of(GOAWAY).unwrap();
    assert_eq!((code(&last), last.payload[3]), (0, 3), "the last stream that was served");
    assert!(ending.join().unwrap());
}

#[test]
fn old_connection_is_ended_gently() {
    let proxy = proxy("keepalive_time 50ms; return 204;");
    let mut frames = Frames::connect(proxy.addr());
    // It is open from now on at the latest.
    frames.next_of(SETTINGS).unwrap();
    std::thread::sleep(Duration::from_millis(60));
    is_answered(&mut frames, 1);
    assert_eq!(code(&frames.next_of(GOAWAY).unwrap()), 0);
}

#[test]
fn head_larger_than_the_buffers_sends_its_client_away() {
    let proxy = proxy("large_client_header_buffers 2 110; client_header_buffer_size 1; return 204;");
    let with = |name: &str, value: &str| [get("/"), block(&[(name, value)])].concat();
    // ":method" "GET" ":scheme" "http" ":authority" "example.org" ":path" "/" are 48 bytes.
    for (name, value, taken) in
        [(110, 1, true), (111, 1, false), (1, 110, true), (1, 111, false), (90, 82, true), (90, 83, false)]
    {
        let mut frames = Frames::connect(proxy.addr());
        let head = with(&"n".repeat(name), &"v".repeat(value));
        frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &head).unwrap();
        if taken {
            wait(&mut frames, HEADERS, 1).unwrap_or_else(|_| panic!("{name} and {value} are refused"));
        } else {
            let goodbye = loop {
                let frame = frames.next().unwrap_or_else(|_| panic!("{name} and {value} are taken"));
                assert_ne!(frame.kind, RST_STREAM, "the connection is ended, not the stream");
                if frame.kind == GOAWAY {
                    break frame;
                }
            };
            assert_eq!(code(&goodbye), ENHANCE_YOUR_CALM, "as from nginx");
        }
    }
}

#[test]
fn frame_that_is_no_clients_ends_the_connection() {
    const PUSH_PROMISE: u8 = 5;
    const FLOW_CONTROL_ERROR: u8 = 3;
    let proxy = proxy("return 204;");
    for (kind, payload, expected) in [
        (PUSH_PROMISE, &[0; 4][..], PROTOCOL_ERROR),
        (GOAWAY, &[0; 7], FRAME_SIZE_ERROR),
        (PING, &[0; 6], FRAME_SIZE_ERROR),
        (SETTINGS, &[0; 3], FRAME_SIZE_ERROR),
        (SETTINGS, &[0, 4, 0x80, 0, 0, 0], FLOW_CONTROL_ERROR),
        (RST_STREAM, &[0; 5], FRAME_SIZE_ERROR),
        (CONTINUATION, &[], PROTOCOL_ERROR),
    ] {
        let mut frames = Frames::connect(proxy.addr());
        is_answered(&mut frames, 1);
        let stream = if matches!(kind, GOAWAY | PING | SETTINGS) { 0 } else { 1 };
        frames.send(kind, END_HEADERS, stream, payload).unwrap();
        let goodbye = frames.next_of(GOAWAY).unwrap_or_else(|_| panic!("{kind} is taken"));
        assert_eq!(code(&goodbye), expected, "{kind}");
    }
}

/// Heads that are none (RFC 9113, section 8.2 and 8.3).
#[test]
fn malformed_request_is_not_answered_and_the_next_one_is() {
    let proxy = proxy("return 204;");
    let start = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    let with = |fields: &[(&'static str, &'static str)]| [&start[..], fields].concat();
    for (name, fields) in [
        ("upper case", with(&[("X-Upper", "1")])),
        ("connection", with(&[("connection", "close")])),
        ("keep-alive", with(&[("keep-alive", "1")])),
        ("proxy-connection", with(&[("proxy-connection", "close")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("upgrade", with(&[("upgrade", "h2c")])),
        ("te", with(&[("te", "gzip")])),
        ("pseudo-header behind a field", [&start[..3], &[("a", "b"), (":path", "/")]].concat()),
        ("unknown pseudo-header", with(&[(":nonsense", "1")])),
        ("an answer's pseudo-header", with(&[(":status", "200")])),
        ("two paths", with(&[(":path", "/")])),
        ("no method", start[1..].to_vec()),
        ("no scheme", [&start[..1], &start[2..]].concat()),
        ("no path", start[..3].to_vec()),
        ("empty path", [&start[..3], &[(":path", "")]].concat()),
        ("path that is none", [&start[..3], &[(":path", "x")]].concat()),
        ("line break in a value", with(&[("a", "b\r\nc: d")])),
        ("space in a name", with(&[("a b", "c")])),
        ("length that is none", with(&[("content-length", "x")])),
        ("body shorter than its length", with(&[("content-length", "5")])),
    ] {
        let mut frames = Frames::connect(proxy.addr());
        frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields)).unwrap();
        let end = loop {
            let frame = frames.next().unwrap_or_else(|_| panic!("{name}: the connection is over"));
            match frame.kind {
                RST_STREAM => break format!("reset {}", code(&frame)),
                HEADERS => panic!("{name} is answered"),
                GOAWAY => break format!("sent away {}", code(&frame)),
                _ => {}
            }
        };
        // What is no name and no value h2 takes for a broken connection, as it may (RFC 9113, section 5.4.1).
        let is_text = matches!(
            name,
            "upper case" | "unknown pseudo-header" | "line break in a value" | "space in a name"
        );
        assert_eq!(end, if is_text { "sent away 1" } else { "reset 1" }, "{name}");
        if !is_text {
            is_answered(&mut frames, 3);
        }
    }
}

#[test]
fn body_longer_than_its_length_is_reset() {
    let origin = Origin::named("app");
    let proxy = proxy(&format!("location / {{ proxy_pass http://{}; }}", origin.addr));
    let mut frames = Frames::connect(proxy.addr());
    frames.send(HEADERS, END_HEADERS, 1, &post("3")).unwrap();
    frames.send(DATA, END_STREAM, 1, b"four").unwrap();
    assert_eq!(code(&wait(&mut frames, RST_STREAM, 1).unwrap()), PROTOCOL_ERROR);
    // In two pieces, the first of which is right so far.
    frames.send(HEADERS, END_HEADERS, 3, &post("3")).unwrap();
    frames.send(DATA, 0, 3, b"two").unwrap();
    frames.send(DATA, END_STREAM, 3, b"x").unwrap();
    assert_eq!(code(&wait(&mut frames, RST_STREAM, 3).unwrap()), PROTOCOL_ERROR);
    is_answered(&mut frames, 5);
}

#[test]
fn early_answer_is_heard_before_the_reset_behind_it() {
    let proxy = proxy("return 403 no;");
    let mut frames = Frames::connect(proxy.addr());
    // Whoever gives up is not reset.
    frames.send(HEADERS, END_HEADERS, 1, &post("10")).unwrap();
    assert_eq!(wait(&mut frames, DATA, 1).unwrap().flags & END_STREAM, END_STREAM);
    frames.send(RST_STREAM, 0, 1, &8_u32.to_be_bytes()).unwrap();
    // Whoever goes on is told that nobody listens, half a second later. Before the answer it cannot come,
    // so the time counts from the request.
    let began = std::time::Instant::now();
    frames.send(HEADERS, END_HEADERS, 3, &post("10")).unwrap();
    let answered = wait(&mut frames, DATA, 3).unwrap();
    assert_eq!(answered.flags & END_STREAM, END_STREAM);
    let reset = frames.next_of(RST_STREAM).unwrap();
    assert_eq!((reset.stream, code(&reset)), (3, 0), "no error");
    assert!(began.elapsed() > Duration::from_millis(400), "it comes with the answer");
}

/// As Java's client does, which waits for a word of a server of HTTP/2 for ever.
#[test]
fn client_that_holds_its_body_back_is_told_to_send_it() {
    let origin = Origin::start(|visit| {
        let head = visit.request()?;
        assert!(!head.to_lowercase().contains("expect"), "{head}");
        let body = visit.body(&head)?;
        visit.reply("", std::str::from_utf8(&body).unwrap())
    });
    for held in ["on", "off"] {
        let proxy = proxy(&format!(
            "location / {{ proxy_pass http://{}; proxy_request_buffering {held}; }} location /no {{ return 403; }}",
            origin.addr
        ));
        run(async {
            let mut sender = connect(proxy.addr()).await.ready().await.unwrap();
            let expecting = |path| request("POST", path).header("expect", "100-continue").body(()).unwrap();
            let (mut response, mut body) = sender.send_request(expecting("/"), false).unwrap();
            let early = std::future::poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
            assert_eq!(early.status(), 100, "{held}");
            body.send_data("body".into(), true).unwrap();
            assert_eq!(read(response.await.unwrap()).await.unwrap().body, b"body", "{held}");
            // Whoever is refused is told nothing else.
            let (mut response, _body) = sender.send_request(expecting("/no"), false).unwrap();
            let early = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
            assert!(early.is_none(), "{early:?}");
            assert_eq!(response.await.unwrap().status(), 403);
        });
    }
}

#[test]
fn host_that_differs_from_the_authority_is_refused() {
    let proxy = proxy("return 200 $host;");
    run(async {
        let sender = connect(proxy.addr()).await;
        for (host, expected) in
            [("example.org", 200), ("EXAMPLE.org", 200), ("example.org:80", 400), ("other", 400)]
        {
            let asked = request("GET", "/").header("host", host).body(()).unwrap();
            assert_eq!(ask(&sender, asked, b"").await.unwrap().status, expected, "{host}");
        }
    });
}

#[test]
fn methods_of_other_roles_are_refused_as_in_http1() {
    let proxy = proxy("return 204;");
    run(async {
        let sender = connect(proxy.addr()).await;
        let connect = Request::connect("example.org:80").body(()).unwrap();
        for asked in [connect, request("TRACE", "/").body(()).unwrap()] {
            assert_eq!(ask(&sender, asked, b"").await.unwrap().status, 405);
        }
    });
}

#[test]
fn frames_are_as_large_as_is_configured() {
    let proxy = proxy(
        "location / { return 200 0123456789; } location /4 { http2_chunk_size 4; return 200 0123456789; }",
    );
    for (path, expected) in [("/", &[10][..]), ("/4", &[4, 4, 2])] {
        let mut frames = Frames::connect(proxy.addr());
        frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &get(path)).unwrap();
        let mut sizes = Vec::new();
        loop {
            let frame = wait(&mut frames, DATA, 1).unwrap();
            sizes.push(frame.payload.len());
            if frame.flags & END_STREAM != 0 {
                break;
            }
        }
        assert_eq!(sizes, expected, "{path}");
    }
}

#[test]
fn early_hints_reach_a_client_of_http2() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.write("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x\r\n\r\n")?;
        visit.write("HTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\n")?;
        visit.reply("", "page")
    });
    let proxy = proxy(&format!("early_hints 1; location / {{ proxy_pass http://{}; }}", origin.addr));
    run(async {
        let mut sender = connect(proxy.addr()).await.ready().await.unwrap();
        let (mut response, _) = sender.send_request(request("GET", "/").body(()).unwrap(), true).unwrap();
        let mut links = Vec::new();
        for _ in 0..2 {
            let early = std::future::poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
            assert_eq!(early.status(), 103);
            assert!(early.headers().len() == 1, "{:?}", early.headers());
            links.push(early.headers()["link"].clone());
        }
        assert_eq!(links, ["</a.css>", "</b.css>"]);
        assert_eq!(read(response.await.unwrap()).await.unwrap().body, b"page");
    });
}

#[test]
fn requests_of_a_connection_are_counted_and_limited_one_by_one() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.peer.rest().map(drop)
    });
    let proxy = Proxy::start(&http(&format!(
        "limit_conn_zone $binary_remote_addr zone=z:32k;
         server {{ listen 127.0.0.1:1; http2 on; limit_conn z 1;
             location / {{ return 200 $connection_requests; }}
             location /slow {{ proxy_pass http://{}; }} }}",
        origin.addr
    )));
    run(async {
        let sender = connect(proxy.addr()).await;
        for expected in ["1", "2", "3"] {
            let answer = ask(&sender, request("GET", "/").body(()).unwrap(), b"").await.unwrap();
            assert_eq!(answer.body, expected.as_bytes());
        }
        let mut slow = sender.clone().ready().await.unwrap();
        let (waiting, mut stream) =
            slow.send_request(request("GET", "/slow").body(()).unwrap(), true).unwrap();
        while origin.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Each counts as a connection, as in nginx.
        let second = ask(&sender, request("GET", "/slow").body(()).unwrap(), b"").await.unwrap();
        assert_eq!(second.status, 503);
        stream.send_reset(h2::Reason::CANCEL);
        drop(waiting);
        let third = loop {
            let answer = ask(&sender, request("GET", "/").body(()).unwrap(), b"").await.unwrap();
            if answer.status != 503 {
                break answer;
            }
        };
        assert_eq!(third.status, 200);
    });
}

#[test]
fn large_answer_comes_whole_whatever_its_windows() {
    let proxy = proxy("root .;");
    let content: Vec<u8> = (0..1_000_003_u32).map(|number| (number % 251) as u8).collect();
    proxy.file("large", &content);
    run(async {
        let sender = connect(proxy.addr()).await;
        let answer = ask(&sender, request("GET", "/large").body(()).unwrap(), b"").await.unwrap();
        assert_eq!(answer.headers["content-length"], "1000003");
        assert!(answer.body == content);
        let head = ask(&sender, request("HEAD", "/large").body(()).unwrap(), b"").await.unwrap();
        assert_eq!((head.headers["content-length"].to_str().unwrap(), head.body.len()), ("1000003", 0));
    });
}

#[test]
fn answer_to_head_has_no_body_whatever_it_is_made_of() {
    let origin = Origin::named("app");
    let proxy = Proxy::start(&http(&format!(
        "proxy_cache_path cache keys_zone=zone:1m; charset_map koi8-r utf-8 {{ C1 D0B0; }}
         server {{ listen 127.0.0.1:1; http2 on; root .;
             location /cached {{ proxy_pass http://{}; proxy_cache zone; proxy_cache_valid 1h; }}
             location /edited/ {{ sub_filter hello bye; alias ./; }}
             location /recoded/ {{ charset utf-8; source_charset koi8-r; alias ./; }}
             location /joined/ {{ add_after_body /plain; alias ./; }}
             location /packed/ {{ gzip on; gzip_min_length 1; alias ./; }}
             location /slow/ {{ limit_rate 1k; alias ./; }}
             location /lost {{ error_page 404 /page.html; return 404; }}
             location /text {{ return 200 text; }} }}",
        origin.addr
    )));
    proxy.file("page.html", "hello \u{e1}");
    run(async {
        let sender = connect(proxy.addr()).await;
        for path in [
            "/cached",
            "/cached",
            "/edited/page.html",
            "/recoded/page.html",
            "/joined/page.html",
            "/packed/page.html",
            "/slow/page.html",
            "/lost",
            "/text",
            "/page.html",
        ] {
            let fields = request("HEAD", path).header("accept-encoding", "gzip");
            let answer = ask(&sender, fields.body(()).unwrap(), b"").await.unwrap();
            assert!(answer.body.is_empty(), "{path}: {answer:?}");
            let mut client = proxy.client();
            client
                .send(format!("HEAD {path} HTTP/1.1\r\nHost: example.org\r\nAccept-Encoding: gzip\r\n\r\n"));
            let other = client.response_to_head();
            let length = answer.headers.get("content-length").map(|length| length.to_str().unwrap());
            assert_eq!((answer.status, length), (other.status, other.header("Content-Length")), "{path}");
        }
    });
}

#[test]
fn head_of_any_size_that_is_allowed_may_come_in_one_frame() {
    let proxy = proxy("large_client_header_buffers 2 64k; location / { return 200 $http_long; }");
    let mut frames = Frames::connect(proxy.addr());
    // A literal of 40 000 bytes, whose length is 127 and the rest in sevens of bits (RFC 7541, section 5.1).
    let mut fields = get("/");
    fields.extend_from_slice(b"\0\x04long\x7f\xc1\xb7\x02");
    fields.resize(fields.len() + 40_000, b'x');
    frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &fields).unwrap();
    let answer = wait(&mut frames, HEADERS, 1).expect("the connection is over");
    // ":status" "200", the eighth entry of the static table (RFC 7541, appendix A).
    assert_eq!(answer.payload[0], 0x88);
}
