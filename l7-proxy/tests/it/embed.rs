//! Requests from inside of a program: what comes back, how it is streamed, and how it ends.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full};
use l7_proxy::conf;
use l7_proxy::daemon::{Daemon, Entry, Options};
use l7_proxy::embed::{self, Broken, Client, Scheme};

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

/// Pieces that are all there.
struct Pieces<I>(I);

impl<I: Iterator<Item = Result<Frame<Bytes>, &'static str>> + Unpin> Body for Pieces<I> {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        Poll::Ready(self.0.next())
    }
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
    assert_eq!((broken, &*broken.to_string()), (Broken::Server, "upstream prematurely closed connection"));
}

/// A body of these pieces, which says that it has another size.
struct Liar(u64, Vec<&'static str>);

impl Body for Liar {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = (!self.1.is_empty()).then(|| self.1.remove(0));
        Poll::Ready(next.map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}

/// What goes beyond would be another request to a server, and one that gets less waits for the rest.
#[test]
fn body_that_is_not_as_long_as_it_says_is_no_request() {
    const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    let origin = Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            visit.body(&head)?;
            visit.reply("", "ok")?;
        }
    });
    for path in ["/streams", "/held"] {
        let daemon = start(&[&origin], "location /held { proxy_pass http://app; }");
        for (size, pieces, status) in [
            (4, vec!["bo", "dy"], 200),
            (0, vec![], 200),
            (4, vec!["body", HIDDEN], 400),
            (0, vec![HIDDEN], 400),
            (40, vec!["body"], 400),
        ] {
            let body = Liar(size, pieces.clone());
            let request = Request::post(path).header("Host", "a").body(body).unwrap();
            let answer = wait(daemon.service().answer(request));
            assert_eq!(answer.status(), status, "{path} {size} {pieces:?}");
            assert_eq!(wait(async { text(daemon.service().answer(get("/y")).await).await }), "ok");
        }
    }
    let heads = origin.requests();
    assert!(!heads.iter().any(|head| head.contains("/hidden")), "{heads:?}");
}

#[test]
fn body_that_fails_ends_its_request_and_says_nothing_against_the_server() {
    let origin = Origin::start(|visit| {
        let head = visit.request()?;
        visit.body(&head)?;
        visit.reply("", "never")
    });
    let daemon = start(&[&origin], "");
    let pieces = [Ok(Frame::data(Bytes::from_static(b"part"))), Err("mine")];
    let request = Request::post("/x").header("Host", "a").body(Pieces(pieces.into_iter())).unwrap();
    assert_eq!(wait(daemon.service().answer(request)).status(), 400);
    let stats = daemon.director().stats();
    let server = &stats[0].servers[0];
    assert!(server.condition.to_string().starts_with("up"), "{}", server.condition);
    eventually("the place is free", || daemon.director().stats()[0].servers[0].load.active == 0);
}

#[test]
fn request_that_is_given_up_before_its_answer_leaves_its_server() {
    let (ended, gone) = std::sync::mpsc::channel();
    let origin = Origin::start(move |visit| {
        visit.request()?;
        let end = visit.peer.rest();
        let _ = ended.send(());
        end.map(drop)
    });
    let daemon = start(&[&origin], "");
    let load = || daemon.director().stats()[0].servers[0].load.active;
    wait(async {
        let answer = daemon.service().answer(get("/x"));
        let arrived = async {
            while load() == 0 || origin.requests().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            response = answer => panic!("answered: {}", response.status()),
            () = arrived => {}
        }
    });
    gone.recv_timeout(PATIENCE).expect("the server's connection ends");
    eventually("the place is free", || load() == 0);
}

#[test]
fn answer_has_its_trailers_and_nothing_of_the_connection_to_its_server() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.write(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive, x-hop\r\n\
             Keep-Alive: timeout=5\r\nX-Hop: 1\r\nX-End: 2\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n",
        )
    });
    let daemon = start(&[&origin], "proxy_pass_trailers on;");
    let response = wait(daemon.service().answer(get("/x")));
    let names: Vec<_> = response.headers().keys().map(http::HeaderName::as_str).collect();
    for name in ["transfer-encoding", "connection", "keep-alive", "x-hop"] {
        assert!(!names.contains(&name), "{names:?}");
    }
    assert_eq!(response.headers()["x-end"], "2");
    let whole = wait(response.into_body().collect()).unwrap();
    assert_eq!(whole.trailers().unwrap()["x-sum"], "7");
    assert_eq!(whole.to_bytes(), "abc");
}

#[test]
fn request_is_judged_as_if_it_had_come_by_a_connection() {
    let daemon = start(&[&Origin::nobody()], "location /who { return 200 $host$request_uri; }");
    let ask = |request: http::request::Builder| {
        let answer = wait(daemon.service().answer(request.body(Empty::<Bytes>::new()).unwrap()));
        (answer.status().as_u16(), wait(text(answer)))
    };
    let of = |status: u16, text: &str| (status, text.to_owned());
    // Where the name stands, in the target or in its field, and whether it stands there at all.
    assert_eq!(ask(Request::get("http://a.example/who")), of(200, "a.example/who"));
    assert_eq!(ask(Request::get("/who").header("host", "b.example")), of(200, "b.example/who"));
    assert_eq!(
        ask(Request::get("http://a.example/who?x").version(Version::HTTP_2)),
        of(200, "a.example/who?x")
    );
    assert_eq!(ask(Request::get("/who").version(Version::HTTP_10)).0, 200);
    assert_eq!(ask(Request::get("/who")).0, 400);
    assert_eq!(ask(Request::get("/who").header("host", "a").header("host", "b")).0, 400);
    assert_eq!(ask(Request::builder().method("CONNECT").uri("a.example:443")).0, 405);
}

#[test]
fn service_and_what_it_returns_can_be_sent_about() {
    fn goes_everywhere<T: Send + Sync + 'static>(_: &T) {}
    fn goes<T: Send + 'static>(_: &T) {}
    let daemon = start(&[&Origin::nobody()], "location /here { return 200 here; }");
    goes_everywhere(&daemon);
    goes_everywhere(&daemon.service());
    let answer = daemon.service().answer(get("/here"));
    goes(&answer);
    let response = std::thread::spawn(move || wait(answer)).join().unwrap();
    goes_everywhere(&response);
    assert_eq!(wait(text(response)), "here");
    // A daemon may be dropped where something is awaited.
    wait(async { drop(daemon) });
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
