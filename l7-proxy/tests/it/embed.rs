//! Requests from inside of a program: what comes back, how it is streamed, and how it ends.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full};
use l7_proxy::conf;
use l7_proxy::daemon::{Daemon, Entry, Options};
use l7_proxy::embed::{self, Client};
use l7_proxy::variable::Scheme;

use crate::peer::{Origin, PATIENCE, eventually, field};

/// A proxy without sockets.
fn start(servers: &[&Origin], locations: &str) -> Daemon {
    let servers: String = servers.iter().map(|origin| format!("server {};", origin.addr)).collect();
    let text = format!(
        "http {{
            access_log off;
            upstream app {{ {servers} }}
            server {{ location / {{ proxy_pass http://app; proxy_request_buffering off; }} {locations} }}
        }}"
    );
    let config = conf::parse(&text, "/nonexistent".as_ref()).unwrap().config;
    Daemon::start(config, Options { entry: Entry::Program, ..Options::default() }).unwrap()
}

/// Waits for what must come.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("in time") })
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(path).header("Host", "shop.example").body(Empty::new()).unwrap()
}

async fn text(response: Response<embed::Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// A body that never ends, and counts the pieces that were taken of it.
struct Endless(Arc<AtomicUsize>);

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 16 * 1024])))))
    }
}

#[test]
fn proxy_for_a_program_listens_nowhere_and_balances() {
    let (one, two) = (Origin::named("one"), Origin::named("two"));
    let daemon = start(&[&one, &two], "");
    assert_eq!(daemon.addresses(), []);
    let service = daemon.service();
    let mut said: Vec<String> =
        (0..4).map(|_| wait(async { text(service.answer(get("/x")).await).await })).collect();
    said.sort();
    assert_eq!(said, ["one /x", "one /x", "two /x", "two /x"]);
}

#[test]
fn client_is_who_the_program_says_or_nobody() {
    let daemon = start(&[&Origin::nobody()], "location /who { return 200 $scheme://$remote_addr; }");
    let service = daemon.service();
    let mut request = get("/who");
    assert_eq!(wait(async { text(service.answer(request.clone()).await).await }), "http://0.0.0.0");
    request.extensions_mut().insert(Client { addr: "192.0.2.7:1".parse().unwrap(), scheme: Scheme::Https });
    assert_eq!(wait(async { text(service.answer(request).await).await }), "https://192.0.2.7");
}

#[test]
fn fields_of_the_programs_connection_are_not_passed_on() {
    let origin = Origin::start(|visit| {
        let head = visit.request()?;
        let body = visit.body(&head)?;
        visit.reply("", std::str::from_utf8(&body).unwrap())
    });
    let daemon = start(&[&origin], "");
    let request = Request::post("/x")
        .header("Host", "shop.example")
        .header("Connection", "X-Hop")
        .header("X-Hop", "1")
        .header("X-End", "2")
        .header("Transfer-Encoding", "chunked")
        .header("Content-Length", "77")
        .body(Full::new(Bytes::from_static(b"body")))
        .unwrap();
    assert_eq!(wait(async { text(daemon.service().answer(request).await).await }), "body");
    let head = origin.last_request();
    assert_eq!((field(&head, "X-Hop"), field(&head, "X-End")), (None, Some("2")), "{head}");
    assert_eq!(field(&head, "Content-Length"), Some("4"), "{head}");
}

#[test]
fn server_that_reads_nothing_holds_up_the_programs_body() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        // Reads no body, until the proxy goes.
        std::thread::sleep(PATIENCE);
        Ok(())
    });
    let daemon = start(&[&origin], "client_max_body_size 0;");
    let taken = Arc::new(AtomicUsize::new(0));
    let body = Endless(Arc::clone(&taken));
    let request = Request::post("/x").header("Host", "shop.example").body(body).unwrap();
    let answer = daemon.service().answer(request);
    wait(async {
        // Once nothing was taken for a while, the kernel's buffers are full and nobody gathers.
        let quiet = async {
            let mut before = 0;
            loop {
                tokio::time::sleep(Duration::from_millis(300)).await;
                let now = taken.load(Ordering::SeqCst);
                if now > 0 && now == before {
                    return now;
                }
                before = now;
            }
        };
        tokio::select! {
            response = answer => panic!("answered: {}", response.status()),
            taken = quiet => assert!(taken < 16 * 64, "{taken} pieces of 16 kB were taken"),
        }
    });
}

#[test]
fn reader_that_stops_holds_up_the_server_and_one_that_goes_ends_the_request() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let (ended, gone) = std::sync::mpsc::channel();
    let origin = Origin::start(move |visit| {
        visit.request()?;
        visit.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")?;
        let ended = ended.clone();
        loop {
            if visit.write([b'x'; 16 * 1024]).is_err() {
                let _ = ended.send(());
                return Ok(());
            }
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let daemon = start(&[&origin], "");
    let mut response = wait(daemon.service().answer(get("/x")));
    let first = wait(response.body_mut().frame()).unwrap().unwrap().into_data().unwrap();
    assert!(!first.is_empty());
    assert_eq!(response.body().size_hint().exact(), Some(1_000_000_000 - first.len() as u64));
    let mut before = 0;
    eventually("nothing more is sent", || {
        std::thread::sleep(Duration::from_millis(300));
        std::mem::replace(&mut before, sent.load(Ordering::SeqCst)) == sent.load(Ordering::SeqCst)
    });
    assert!(before < 16 * 64 * 4, "{before} pieces of 16 kB were sent to nobody");
    drop(response);
    gone.recv_timeout(PATIENCE).expect("the server's connection ends");
}

#[test]
fn answer_that_breaks_off_does_not_look_whole() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n")
    });
    let daemon = start(&[&origin], "");
    let response = wait(daemon.service().answer(get("/x")));
    let broken = wait(response.into_body().collect()).unwrap_err();
    assert_eq!(broken.to_string(), "upstream prematurely closed connection");
}

#[test]
fn request_at_hand_is_finished_by_a_shutdown_and_later_ones_get_503() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")?;
        std::thread::sleep(Duration::from_millis(300));
        visit.write("late")
    });
    let daemon = start(&[&origin], "");
    let service = daemon.service();
    let response = wait(service.answer(get("/x")));
    let (ended, body) = wait(async { tokio::join!(daemon.shutdown(PATIENCE), text(response)) });
    assert_eq!((ended, body.as_str()), (true, "late"));
    assert_eq!(wait(service.answer(get("/x"))).status(), 503);
    drop(daemon);
    assert_eq!(wait(service.answer(get("/x"))).status(), 503);
}

#[test]
fn refusal_to_answer_is_an_empty_400_that_ends_the_connection() {
    let daemon = start(&[&Origin::nobody()], "location /no { return 444; }");
    let response = wait(daemon.service().answer(get("/no")));
    assert_eq!(
        (response.status().as_u16(), response.headers()["connection"].as_bytes()),
        (400, &b"close"[..])
    );
    assert_eq!(wait(text(response)), "");
}

#[test]
fn reload_is_seen_by_the_next_request() {
    let daemon = start(&[&Origin::nobody()], "location /v { return 200 one; }");
    let service = daemon.service();
    assert_eq!(wait(async { text(service.answer(get("/v")).await).await }), "one");
    let config = conf::parse("http { access_log off; server { return 200 two; } }", "/".as_ref()).unwrap();
    daemon.reload(config.config).unwrap();
    assert_eq!(wait(async { text(service.answer(get("/v")).await).await }), "two");
}

#[test]
fn error_in_text_names_its_line() {
    let error = conf::parse("http {\n server {\n  listen nowhere:x;\n }\n}", "/".as_ref()).unwrap_err();
    assert!(error.to_string().ends_with(" in configuration:3"), "{error}");
}
