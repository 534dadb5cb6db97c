//! HTTP/2 with servers, and gRPC through to them.

use std::io::Read;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Response;
use tokio::sync::Barrier;

use crate::http2_peer::{
    END_HEADERS, Frames, GOAWAY, HEADERS, Messages, Origin, PREFACE, Visit, ask, block, connect, message,
    read, request, run, send, whole,
};
use crate::peer::{Proxy, eventually, http};
use crate::secure::certificate;

/// A proxy that speaks HTTP/2 on both sides.
fn proxy(origins: &[std::net::SocketAddr], location: &str) -> Proxy {
    let servers: String = origins.iter().map(|addr| format!("server {addr};")).collect();
    Proxy::start(&http(&format!(
        "upstream app {{ {servers} }}
         server {{ listen 127.0.0.1:1; http2 on; location / {{ {location} }} }}"
    )))
}

const PROXY: &str = "proxy_http_version 2; proxy_pass http://app;";
const GRPC: &str = "grpc_pass grpc://app;";

/// Asks so many times at once; each is answered with `ok`.
async fn ask_together(client: &Rc<SendRequest<Bytes>>, count: usize, path: &'static str) {
    let asked: Vec<_> = (0..count)
        .map(|_| {
            let client = Rc::clone(client);
            tokio::task::spawn_local(async move {
                ask(&client, request("GET", path).body(()).unwrap(), b"").await
            })
        })
        .collect();
    for answer in asked {
        let answer = answer.await.unwrap().unwrap();
        assert_eq!((answer.status, &*answer.body), (200, &b"ok"[..]));
    }
}

#[test]
fn requests_at_a_time_share_a_connection() {
    let together = Arc::new(Barrier::new(20));
    let origin = Origin::start(move |mut visit| {
        let together = Arc::clone(&together);
        async move {
            // No answer before all of them are there.
            together.wait().await;
            visit.reply("ok")
        }
    });
    let proxy = proxy(&[origin.addr], PROXY);
    run(async {
        let client = Rc::new(connect(proxy.addr()).await);
        ask_together(&client, 20, "/").await;
    });
    assert_eq!(origin.connections(), 1);
}

#[test]
fn requests_beyond_a_servers_limit_on_streams_go_on_another_connection() {
    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    let mut limits = h2::server::Builder::new();
    limits.max_concurrent_streams(3);
    let origin = Origin::with(limits, |mut visit| async move {
        // Nobody is answered before all six are at the server, which takes three on a connection.
        if visit.request.uri.path() == "/together" {
            BEGUN.fetch_add(1, Ordering::SeqCst);
            while BEGUN.load(Ordering::SeqCst) < 6 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        visit.reply("ok")
    });
    let proxy = proxy(&[origin.addr], PROXY);
    run(async {
        let client = Rc::new(connect(proxy.addr()).await);
        // One by itself, so that the proxy knows the limit.
        ask(&client, request("GET", "/").body(()).unwrap(), b"").await.unwrap();
        ask_together(&client, 6, "/together").await;
    });
    assert_eq!(origin.connections(), 2);
}

#[test]
fn requests_to_a_server_that_has_not_answered_yet_go_on_as_many_connections_as_its_limit_asks_for() {
    for (limit, requests, connections) in [(3, 12, 4), (1, 4, 4), (20, 20, 1)] {
        let mut limits = h2::server::Builder::new();
        limits.max_concurrent_streams(limit);
        let together = Arc::new(Barrier::new(requests));
        let origin = Origin::with(limits, move |mut visit| {
            let together = Arc::clone(&together);
            async move {
                // No answer before all of them are there.
                together.wait().await;
                visit.reply("ok")
            }
        });
        let proxy = proxy(&[origin.addr], PROXY);
        run(async {
            let client = Rc::new(connect(proxy.addr()).await);
            ask_together(&client, requests, "/").await;
        });
        assert_eq!(origin.connections(), connections, "{limit}");
    }
}

#[test]
fn server_that_never_tells_its_limit_holds_no_request_longer_than_one_may_take_to_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut frames = Frames::of(stream);
        // It reads the first request, and never says a word.
        frames.stream.read_exact(&mut [0; PREFACE.len()]).unwrap();
        frames.next_of(HEADERS).unwrap();
        while frames.next().is_ok() {}
    });
    let proxy = proxy(&[silent], "proxy_http_version 2; proxy_connect_timeout 300ms; proxy_pass http://app;");
    run(async {
        let client = connect(proxy.addr()).await;
        let first = ask(&client, request("GET", "/").body(()).unwrap(), b"");
        let second = ask(&client, request("GET", "/").body(()).unwrap(), b"");
        tokio::select! {
            biased;
            answer = first => panic!("who would have answered? {answer:?}"),
            answer = second => assert_eq!(answer.unwrap().status, 504),
        }
    });
    drop(proxy);
    thread.join().unwrap();
}

#[test]
fn request_that_a_server_refused_goes_to_another_even_if_it_is_a_post() {
    let refusing = Origin::start(|mut visit| async move {
        visit.respond.send_reset(h2::Reason::REFUSED_STREAM);
        Some(())
    });
    let taking = Origin::start(|mut visit| async move {
        let (body, _) = whole(&mut visit.body).await.ok()?;
        visit.reply(body)
    });
    let proxy = proxy(&[refusing.addr, taking.addr], PROXY);
    run(async {
        let client = connect(proxy.addr()).await;
        for _ in 0..2 {
            let answer = ask(&client, request("POST", "/").body(()).unwrap(), b"twice?").await.unwrap();
            assert_eq!((answer.status, &*answer.body), (200, &b"twice?"[..]));
        }
    });
    assert_eq!(taking.requests().len(), 2);
    assert!(!refusing.requests().is_empty());
}

#[test]
fn request_above_the_last_stream_of_a_goaway_goes_to_another_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let leaving = listener.local_addr().unwrap();
    let taking = Origin::start(|mut visit| async move { visit.reply("here") });
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut frames = Frames::accept(stream);
        frames.next_of(HEADERS).unwrap();
        frames.send(GOAWAY, 0, 0, &[0; 8]).unwrap();
        // The connection stays open as long as the other side wants it.
        while frames.next().is_ok() {}
    });
    let proxy = proxy(&[leaving, taking.addr], PROXY);
    run(async {
        let client = connect(proxy.addr()).await;
        let answer = ask(&client, request("POST", "/").body(()).unwrap(), b"once").await.unwrap();
        assert_eq!((answer.status, &*answer.body), (200, &b"here"[..]));
    });
    drop(proxy);
    thread.join().unwrap();
}

#[test]
fn post_that_a_server_may_have_acted_on_is_not_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dying = listener.local_addr().unwrap();
    let other = Origin::start(|mut visit| async move { visit.reply("here") });
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut frames = Frames::accept(stream);
        frames.next_of(HEADERS).unwrap();
    });
    let proxy = proxy(&[dying, other.addr], PROXY);
    run(async {
        let client = connect(proxy.addr()).await;
        let answer = ask(&client, request("POST", "/").body(()).unwrap(), b"once").await.unwrap();
        assert_eq!(answer.status, 502);
    });
    thread.join().unwrap();
    assert!(other.requests().is_empty());
}

#[test]
fn connection_that_its_server_closed_while_idle_costs_no_answer() {
    // Each connection takes one request and says so by going away.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut frames = Frames::accept(stream.unwrap());
            let stream = frames.next_of(HEADERS).unwrap().stream;
            frames.send(HEADERS, END_HEADERS | 1, stream, &block(&[(":status", "204")])).unwrap();
        }
    });
    let proxy = proxy(&[addr], PROXY);
    for _ in 0..5 {
        assert_eq!(proxy.get("/").status, 204);
    }
}

#[test]
fn fields_of_a_connection_stay_behind_and_host_is_the_authority() {
    let origin = Origin::start(|mut visit| async move { visit.reply("") });
    let location = "proxy_set_header X-Set 1; proxy_set_header Host $host; proxy_set_header X-None '';";
    let proxy = proxy(&[origin.addr], &format!("{PROXY} {location}"));
    let mut client = proxy.client();
    client.send(
        "GET /a?b HTTP/1.1\r\nHost: example.org:81\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\n\
         Keep-Alive: 1\r\nUpgrade: x\r\nX_Odd: 1\r\nX-None: 1\r\nCookie: a=1\r\nAccept: */*\r\n\r\n",
    );
    assert_eq!(client.response().status, 200);
    let request = origin.requests().remove(0);
    assert_eq!(request.uri().to_string(), "http://example.org/a?b");
    let mut names: Vec<_> = request.headers().keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "cookie", "x-set"]);
}

#[test]
fn body_without_a_length_passes_both_ways() {
    let origin = Origin::start(|mut visit| async move {
        let (body, _) = whole(&mut visit.body).await.ok()?;
        let mut stream = visit.begin(&[])?;
        send(&mut stream, body.into()).await.ok()?;
        stream.send_data(Bytes::new(), true).ok()
    });
    let proxy =
        proxy(&[origin.addr], &format!("{PROXY} client_max_body_size 10m; proxy_request_buffering off;"));
    let mut client = proxy.client();
    let piece = "x".repeat(0x8000);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..40 {
        client.send(format!("8000\r\n{piece}\r\n"));
    }
    client.send("0\r\n\r\n");
    let answer = client.response();
    assert_eq!(answer.header("Transfer-Encoding"), Some("chunked"));
    assert!(answer.body == piece.repeat(40).into_bytes());
}

#[test]
fn answer_that_its_client_does_not_read_stops_at_the_window_and_holds_up_no_other() {
    static SENT: AtomicUsize = AtomicUsize::new(0);
    let origin = Origin::start(|mut visit: Visit| async move {
        if visit.request.uri.path() == "/small" {
            return visit.reply("small");
        }
        let mut stream = visit.begin(&[])?;
        for _ in 0..1000 {
            send(&mut stream, Bytes::from_static(&[0; 16 * 1024])).await.ok()?;
            SENT.fetch_add(16 * 1024, Ordering::SeqCst);
        }
        stream.send_data(Bytes::new(), true).ok()
    });
    let proxy = proxy(&[origin.addr], PROXY);
    run(async {
        let client = connect(proxy.addr()).await;
        let mut sender = client.clone().ready().await.unwrap();
        let (large, _) = sender.send_request(request("GET", "/large").body(()).unwrap(), true).unwrap();
        let large = large.await.unwrap();
        // What waits takes up the window of its connection to the client.
        let other = connect(proxy.addr()).await;
        let mut before = usize::MAX;
        while before != SENT.load(Ordering::SeqCst) {
            before = SENT.load(Ordering::SeqCst);
            let small = ask(&other, request("GET", "/small").body(()).unwrap(), b"").await.unwrap();
            assert_eq!(small.body, b"small");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(before < 1 << 20, "{before} bytes for a client that reads none");
        assert_eq!(read(large).await.unwrap().body.len(), 1000 * 16 * 1024);
    });
    assert_eq!(origin.connections(), 1);
}

#[test]
fn client_that_goes_cancels_its_stream_and_no_other() {
    static CANCELLED: AtomicUsize = AtomicUsize::new(0);
    let origin = Origin::start(|mut visit: Visit| async move {
        if visit.request.uri.path() == "/small" {
            return visit.reply("small");
        }
        let mut stream = visit.begin(&[])?;
        let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
        assert_eq!(reason.ok()?, h2::Reason::CANCEL);
        CANCELLED.fetch_add(1, Ordering::SeqCst);
        Some(())
    });
    let proxy = proxy(&[origin.addr], GRPC);
    run(async {
        let client = connect(proxy.addr()).await;
        let mut sender = client.clone().ready().await.unwrap();
        let (large, body) = sender.send_request(request("POST", "/large").body(()).unwrap(), false).unwrap();
        let large = large.await.unwrap();
        drop((large, body));
        while CANCELLED.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let small = ask(&client, request("GET", "/small").body(()).unwrap(), b"").await.unwrap();
        assert_eq!(small.body, b"small");
    });
    assert_eq!(origin.connections(), 1);
    eventually("the lease is given back", || proxy.active() == 0);
}

/// A service of gRPC: `/echo` sends each message back, `/fail` has no message at all.
fn service() -> Origin {
    Origin::start(|mut visit: Visit| async move {
        if visit.request.headers.get("te")? != "trailers" {
            return visit.end(&[("grpc-status", "13")]);
        }
        if visit.request.uri.path() == "/fail" {
            return visit.end(&[
                ("content-type", "application/grpc"),
                ("grpc-status", "5"),
                ("grpc-message", "none"),
            ]);
        }
        let mut stream = visit.begin(&[("content-type", "application/grpc")])?;
        let mut messages = Messages::of(visit.body);
        while let Some(text) = messages.next().await {
            send(&mut stream, message(&text)).await.ok()?;
        }
        let head = Response::builder().header("grpc-status", "0").body(()).ok()?;
        stream.send_trailers(head.into_parts().0.headers).ok()
    })
}

/// A request as a gRPC client makes it.
fn grpc(path: &str) -> http::Request<()> {
    let request = request("POST", path).header("te", "trailers").header("content-type", "application/grpc");
    request.header("grpc-timeout", "10S").body(()).unwrap()
}

/// Speaks with the service at `/echo` both ways at once.
async fn converse(addr: std::net::SocketAddr) {
    let client = connect(addr).await;
    let mut sender = client.clone().ready().await.unwrap();
    let (response, mut stream) = sender.send_request(grpc("/echo"), false).unwrap();
    let mut messages = Messages::of(response.await.unwrap().into_body());
    for turn in 0..50 {
        // The next is said only when the last was answered.
        let text = format!("turn {turn}");
        send(&mut stream, message(&text)).await.unwrap();
        assert_eq!(messages.next().await.as_deref(), Some(&*text));
    }
    stream.send_data(Bytes::new(), true).unwrap();
    assert_eq!(messages.next().await, None);
    assert_eq!(messages.trailers().await["grpc-status"], "0");
}

#[test]
fn grpc_streams_both_ways_at_once_and_ends_with_its_status() {
    let service = service();
    let proxy = proxy(&[service.addr], GRPC);
    run(converse(proxy.addr()));
    let request = service.requests().remove(0);
    assert_eq!(request.uri().authority().unwrap(), "app");
    assert_eq!(request.headers()["grpc-timeout"], "10S");
    assert_eq!(request.headers()["te"], "trailers");
}

#[test]
fn grpc_answer_of_a_head_alone_stays_one() {
    let service = service();
    let proxy = proxy(&[service.addr], GRPC);
    run(async {
        let client = connect(proxy.addr()).await;
        let answer = ask(&client, grpc("/fail"), b"\0\0\0\0\0").await.unwrap();
        assert_eq!((answer.status, &*answer.body, answer.trailers), (200, &b""[..], None));
        assert_eq!(answer.headers["grpc-status"], "5");
        assert_eq!(answer.headers["grpc-message"], "none");
    });
}

#[test]
fn grpc_passes_over_tls_and_a_second_proxy() {
    let service = service();
    let inner = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1 ssl; http2 on; {} location / {{ grpc_pass {}; }} }}",
        certificate("server"),
        service.addr
    )));
    let outer = proxy(&[inner.addr()], "grpc_pass grpcs://app; grpc_set_header Host localhost;");
    run(converse(outer.addr()));
    assert_eq!(service.connections(), 1);
}

#[test]
fn grpc_server_that_is_silent_or_gone_is_answered_as_by_nginx() {
    let silent = Origin::start(|visit| async move {
        tokio::time::sleep(crate::peer::PATIENCE).await;
        drop(visit);
        Some(())
    });
    let nobody = crate::peer::Origin::nobody();
    for (addr, status) in [(silent.addr, 504), (nobody.addr, 502)] {
        let proxy = proxy(&[addr], &format!("{GRPC} grpc_read_timeout 100ms;"));
        run(async {
            let client = connect(proxy.addr()).await;
            assert_eq!(ask(&client, grpc("/"), b"\0\0\0\0\0").await.unwrap().status, status);
        });
    }
}

#[test]
fn answer_that_breaks_off_is_reset_at_the_client() {
    let origin = Origin::start(|mut visit| async move {
        let mut stream = visit.begin(&[])?;
        send(&mut stream, Bytes::from_static(b"half")).await.ok()?;
        // The client has the half when it goes on.
        whole(&mut visit.body).await.ok()?;
        stream.send_reset(h2::Reason::INTERNAL_ERROR);
        Some(())
    });
    let proxy = proxy(&[origin.addr], GRPC);
    run(async {
        let client = connect(proxy.addr()).await;
        let mut sender = client.clone().ready().await.unwrap();
        let (response, mut body) = sender.send_request(grpc("/"), false).unwrap();
        let mut answer = response.await.unwrap().into_body();
        assert_eq!(answer.data().await.unwrap().unwrap(), "half");
        body.send_data(Bytes::new(), true).unwrap();
        let error = answer.data().await.unwrap().unwrap_err();
        assert!(error.is_reset() && error.is_remote(), "{error}");
    });
}

#[test]
fn worn_connection_to_a_server_is_replaced() {
    let origin = Origin::start(|mut visit| async move { visit.reply("ok") });
    let proxy = Proxy::start(&http(&format!(
        "upstream app {{ server {}; keepalive 2; keepalive_requests 2; }}
         server {{ listen 127.0.0.1:1; location / {{ {PROXY} }} }}",
        origin.addr
    )));
    for _ in 0..6 {
        assert_eq!(proxy.get("/").status, 200);
    }
    assert_eq!(origin.connections(), 3);
}

#[test]
fn server_that_answers_before_it_has_the_request_is_heard() {
    let origin = Origin::start(|mut visit| async move { visit.reply("enough") });
    let proxy =
        proxy(&[origin.addr], &format!("{PROXY} proxy_request_buffering off; client_max_body_size 0;"));
    run(async {
        let client = connect(proxy.addr()).await;
        let mut sender = client.clone().ready().await.unwrap();
        let (response, mut body) =
            sender.send_request(request("POST", "/").body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from_static(b"beginning"), false).unwrap();
        assert_eq!(read(response.await.unwrap()).await.unwrap().body, b"enough");
    });
}

/// As with HTTP/1.1, a head has the size that it would have there.
#[test]
fn head_may_be_as_large_as_the_configuration_says() {
    let origin = Origin::start(|mut visit| async move {
        let size: usize = visit.request.uri.path()[1..].parse().ok()?;
        let head = Response::builder().header("x", "x".repeat(size));
        let mut stream = visit.respond.send_response(head.body(()).ok()?, false).ok()?;
        stream.send_data(Bytes::from_static(b"ok"), true).ok()
    });
    for (location, most) in [
        (PROXY.to_owned(), 4096),
        (format!("{PROXY} proxy_buffer_size 8k;"), 8192),
        (GRPC.to_owned(), 4096),
        (format!("{GRPC} grpc_buffer_size 8k;"), 8192),
    ] {
        let proxy = proxy(&[origin.addr], &location);
        let status = |size: usize| proxy.get(&format!("/{size}")).status;
        let largest = (1..=most).rev().find(|size| status(*size) == 200).unwrap();
        assert_eq!((status(largest), status(largest + 1)), (200, 502), "{location}");
        assert!((most - 64..=most).contains(&largest), "{location}: {largest}");
        assert_eq!(status(20 * most), 502, "{location}");
    }
}
