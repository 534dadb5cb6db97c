//! Failures of servers: what the client notices, and how often a request is sent.

use std::fs;
use std::io::{self, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::peer::{Client, Origin, PATIENCE, Proxy, Response, Visit, eventually, forwarding, http};
use crate::program::Site;

/// Reads a request and closes the connection without a word.
fn closes(visit: &mut Visit) -> io::Result<()> {
    visit.request().map(drop)
}

/// Reads a request and resets the connection.
fn resets(visit: &mut Visit) -> io::Result<()> {
    visit.request()?;
    visit.reset();
    Ok(())
}

/// Answers the first request of each connection; takes the second and closes.
fn closes_at_the_second(visit: &mut Visit) -> io::Result<()> {
    visit.request()?;
    visit.reply("", "first")?;
    visit.request().map(drop)
}

fn send(client: &mut Client, method: &str, body: &str) -> Response {
    let length = body.len();
    client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"));
    client.response()
}

fn condition(proxy: &Proxy, server: usize) -> String {
    proxy.daemon.director().stats()[0].servers[server].condition.to_string()
}

#[test]
fn server_that_refuses_is_not_noticed() {
    let (dead, alive) = (Origin::nobody(), Origin::named("alive"));
    let proxy = Proxy::start(&forwarding(&[&dead, &alive], ""));
    let mut client = proxy.client();
    for _ in 0..4 {
        assert_eq!(client.get("/").text(), "alive /");
    }
    // A body that was not touched goes along to the next server, whatever the method.
    let proxy = Proxy::start(&forwarding(&[&dead, &alive], ""));
    assert_eq!(send(&mut proxy.client(), "POST", "").status, 200);
    assert!(condition(&proxy, 0).contains("connect refused"), "{}", condition(&proxy, 0));
}

#[test]
fn server_that_breaks_off_before_its_answer_is_not_noticed_by_a_get() {
    for breaks in [closes, resets] {
        let (bad, good) = (Origin::start(breaks), Origin::named("good"));
        let proxy = Proxy::start(&forwarding(&[&bad, &good], ""));
        assert_eq!(proxy.get("/").text(), "good /");
        assert_eq!((bad.requests().len(), good.requests().len()), (1, 1));
        assert!(condition(&proxy, 0).starts_with("ejected"), "{}", condition(&proxy, 0));
    }
}

#[test]
fn post_is_never_sent_twice() {
    for (method, body) in [("POST", ""), ("POST", "pay"), ("PATCH", "x"), ("LOCK", "x")] {
        let (bad, good) = (Origin::start(closes_after_body), Origin::named("good"));
        let proxy = Proxy::start(&forwarding(&[&bad, &good], ""));
        assert_eq!(send(&mut proxy.client(), method, body).status, 502, "{method} {body:?}");
        assert_eq!((bad.requests().len(), good.requests().len()), (1, 0), "{method} {body:?}");
    }
}

#[test]
fn idempotent_request_is_sent_twice_as_long_as_its_body_is_at_hand() {
    let body = |size: usize| "x".repeat(size);
    for (size, status) in [(0, 200), (9, 200), (64 * 1024, 200), (64 * 1024 + 1, 502)] {
        let (bad, good) = (Origin::start(closes_after_body), Origin::start(echoes));
        let proxy = Proxy::start(&forwarding(&[&bad, &good], "proxy_request_buffering off;"));
        let response = send(&mut proxy.client(), "PUT", &body(size));
        assert_eq!(response.status, status, "{size}");
        assert!(status != 200 || response.text() == body(size), "{size}");
        // Held before it is sent it is at hand as long as it takes.
        let (bad, good) = (Origin::start(closes_after_body), Origin::start(echoes));
        let proxy = Proxy::start(&forwarding(&[&bad, &good], ""));
        let response = send(&mut proxy.client(), "PUT", &body(size));
        assert!(response.status == 200 && response.text() == body(size), "{size}");
    }
}

fn echoes(visit: &mut Visit) -> io::Result<()> {
    let head = visit.request()?;
    let body = visit.body(&head)?;
    visit.reply("", std::str::from_utf8(&body).unwrap())
}

fn closes_after_body(visit: &mut Visit) -> io::Result<()> {
    let head = visit.request()?;
    visit.body(&head).map(drop)
}

#[test]
fn post_is_sent_twice_if_the_configuration_says_so() {
    let (bad, good) = (Origin::start(closes), Origin::named("good"));
    let location = "proxy_next_upstream error non_idempotent;";
    let proxy = Proxy::start(&forwarding(&[&bad, &good], location));
    assert_eq!(send(&mut proxy.client(), "POST", "").status, 200);
    assert_eq!((bad.requests().len(), good.requests().len()), (1, 1));
}

#[test]
fn kept_connection_that_is_closed_under_a_get_says_nothing_about_its_server() {
    let origin = Origin::start(closes_at_the_second);
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    for _ in 0..4 {
        assert_eq!(client.get("/").text(), "first");
    }
    assert_eq!(condition(&proxy, 0), "up");
    assert_eq!(origin.requests().len(), 7, "each but the first was sent twice");
}

#[test]
fn kept_connection_that_is_closed_under_a_post_fails_it() {
    let origin = Origin::start(closes_at_the_second);
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    assert_eq!(client.get("/").text(), "first");
    assert_eq!(send(&mut client, "POST", "").status, 502);
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn connection_that_its_server_has_closed_is_not_used() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.reply("", "only")
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    for turn in 1..5 {
        assert_eq!(send(&mut client, "POST", "body").text(), "only");
        // The end of the connection arrives a moment after the answer.
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(origin.connections(), turn);
    }
}

/// Ends or spoils a connection that is kept.
type Spoil = fn(&mut Visit) -> io::Result<()>;

/// What servers do to connections that nobody uses.
const SPOILS: [(&str, Spoil); 3] = [
    ("closes", |_| Ok(())),
    ("resets", |visit| {
        visit.reset();
        Ok(())
    }),
    ("speaks unasked", |visit| {
        visit.write("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")?;
        visit.peer.rest().map(drop)
    }),
];

#[test]
fn kept_connection_that_was_spoilt_while_idle_carries_no_request() {
    for (what, spoil) in SPOILS {
        let (spoilt, is_spoilt) = std::sync::mpsc::channel();
        let origin = Origin::start(move |visit| {
            let head = visit.request()?;
            visit.reply("", "well")?;
            if head.starts_with("GET") {
                let done = spoil(visit);
                let _ = spoilt.send(());
                return done;
            }
            visit.request().map(drop)
        });
        let proxy = Proxy::start(&forwarding(&[&origin], ""));
        let mut client = proxy.client();
        assert_eq!(client.get("/").text(), "well");
        if what != "speaks unasked" {
            is_spoilt.recv_timeout(PATIENCE).unwrap();
        }
        // It arrives a moment after it was done.
        std::thread::sleep(Duration::from_millis(50));
        // Even what must not be sent twice is sent once, and is answered.
        let answer = send(&mut client, "POST", "pay");
        assert_eq!((answer.status, answer.text()), (200, "well"), "{what}");
        assert_eq!((origin.connections(), origin.requests().len()), (2, 2), "{what}");
    }
}

#[test]
fn kept_connection_that_ends_just_before_its_next_request_carries_none() {
    for (what, spoil) in &SPOILS[..2] {
        let (end, is_to_end) = std::sync::mpsc::channel();
        let (ended, is_over) = std::sync::mpsc::channel();
        let (is_to_end, ended) = (std::sync::Mutex::new(is_to_end), std::sync::Mutex::new(ended));
        let origin = Origin::start(move |visit| {
            let head = visit.request()?;
            visit.reply("", "well")?;
            if head.starts_with("GET") {
                is_to_end.lock().unwrap().recv().unwrap();
                spoil(visit)?;
                visit.peer.stream.shutdown(std::net::Shutdown::Write)?;
                ended.lock().unwrap().send(()).unwrap();
            } else {
                visit.request()?;
            }
            Ok(())
        });
        let site = Site::new(&format!("location / {{ proxy_pass http://{}; }}", origin.addr));
        let text = fs::read_to_string(site.path("nginx.conf")).unwrap();
        let upstream = format!("upstream app {{ server {}; }} server {{", origin.addr);
        let text = text.replacen("server {", &upstream, 1);
        site.write_whole(&text.replace(&format!("http://{}", origin.addr), "http://app"));
        let running = site.start();
        let mut client = site.client();
        assert_eq!(client.get("/").text(), "well");
        // Both the end and the request are there when the proxy wakes up.
        running.signal(Signal::STOP);
        end.send(()).unwrap();
        is_over.recv_timeout(PATIENCE).unwrap();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\npay");
        running.signal(Signal::CONT);
        let answer = client.response();
        assert_eq!((answer.status, answer.text()), (200, "well"), "{what}");
        assert_eq!((origin.connections(), origin.requests().len()), (2, 2), "{what}");
    }
}

#[test]
fn all_servers_are_tried_and_the_last_failure_is_told() {
    let origins: Vec<Origin> = (0..3).map(|_| Origin::start(closes)).collect();
    let all: Vec<&Origin> = origins.iter().collect();
    let proxy = Proxy::start(&forwarding(&all, ""));
    let response = proxy.get("/");
    assert_eq!(response.status, 502);
    assert!(response.text().contains("<h1>502 Bad Gateway</h1>"), "{}", response.text());
    assert_eq!(origins.iter().map(|origin| origin.requests().len()).sum::<usize>(), 3);
    // All have failed, and yet all are tried again rather than refusing for sure.
    assert_eq!(proxy.get("/").status, 502);
    assert_eq!(origins.iter().map(|origin| origin.requests().len()).sum::<usize>(), 6);
}

#[test]
fn upstream_without_a_server_to_ask_is_a_bad_gateway() {
    let origin = Origin::named("down");
    let text = http(&format!(
        "upstream app {{ server {} down; }}
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://app; }} }}",
        origin.addr
    ));
    assert_eq!(Proxy::start(&text).get("/").status, 502);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn tries_end_where_the_configuration_says() {
    let origins: Vec<Origin> = (0..3).map(|_| Origin::start(closes)).collect();
    let all: Vec<&Origin> = origins.iter().collect();
    let count = || origins.iter().map(|origin| origin.requests().len()).sum::<usize>();
    let proxy = Proxy::start(&forwarding(&all, "proxy_next_upstream_tries 2;"));
    assert_eq!((proxy.get("/").status, count()), (502, 2));
    let proxy = Proxy::start(&forwarding(&all, "proxy_next_upstream off;"));
    assert_eq!((proxy.get("/").status, count()), (502, 3));
}

#[test]
fn server_that_does_not_answer_in_time_is_tried_around() {
    let slow = Origin::start(|visit| {
        visit.request()?;
        visit.peer.rest().map(drop)
    });
    let fast = Origin::named("fast");
    let proxy = Proxy::start(&forwarding(&[&slow, &fast], "proxy_read_timeout 500ms;"));
    assert_eq!(proxy.get("/").text(), "fast /");
    assert!(condition(&proxy, 0).contains("timed out"), "{}", condition(&proxy, 0));
    let proxy = Proxy::start(&forwarding(&[&slow], "proxy_read_timeout 500ms;"));
    let began = Instant::now();
    assert_eq!(proxy.get("/").status, 504);
    assert!(began.elapsed() >= Duration::from_millis(490));
    // It may have happened, so it is not done again.
    let proxy = Proxy::start(&forwarding(&[&slow, &fast], "proxy_read_timeout 500ms;"));
    assert_eq!(send(&mut proxy.client(), "POST", "").status, 504);
}

#[test]
fn server_that_does_not_take_the_request_is_not_waited_for() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        std::thread::sleep(PATIENCE);
        Ok(())
    });
    let location = "proxy_send_timeout 200ms; client_max_body_size 0;";
    let proxy = Proxy::start(&forwarding(&[&origin], location));
    let mut client = proxy.client();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    let sending = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || _ = (&sending).write_all(&vec![b'x'; 100_000_000]));
    assert_eq!(client.response().status, 504);
    drop(client);
    sender.join().unwrap();
}

#[test]
fn slow_upload_is_no_slow_answer() {
    let origin = Origin::start(|visit| {
        let head = visit.request()?;
        let body = visit.body(&head)?;
        visit.reply("", std::str::from_utf8(&body).unwrap())
    });
    let proxy = Proxy::start(&forwarding(&[&origin], "proxy_read_timeout 1s; client_body_timeout 10s;"));
    let mut client = proxy.client();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n");
    for piece in ["s", "l", "o", "w"] {
        std::thread::sleep(Duration::from_millis(300));
        client.send(piece);
    }
    assert_eq!(client.response().text(), "slow");
}

#[test]
fn answer_that_pauses_too_long_is_cut() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbeginning")?;
        visit.peer.rest().map(drop)
    });
    let proxy = Proxy::start(&forwarding(&[&origin], "proxy_read_timeout 500ms;"));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.try_response().is_err());
    eventually("the place is free", || proxy.active() == 0);
}

#[test]
fn answer_that_is_no_http_is_a_bad_gateway() {
    for answer in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ] {
        let origin = Origin::start(move |visit| {
            visit.request()?;
            visit.write(answer)
        });
        let other = Origin::named("other");
        let proxy = Proxy::start(&forwarding(&[&origin, &other], ""));
        assert_eq!(proxy.get("/").status, 502, "{answer}");
        assert!(other.requests().is_empty(), "{answer}");
        // Asked for, it is a reason to try the next.
        let location = "proxy_next_upstream invalid_header;";
        let proxy = Proxy::start(&forwarding(&[&origin, &other], location));
        assert_eq!(proxy.get("/").text(), "other /", "{answer}");
    }
}

#[test]
fn status_is_a_reason_to_try_the_next_if_the_configuration_says_so() {
    let busy = Origin::start(|visit| {
        visit.request()?;
        visit.write("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy")
    });
    let good = Origin::named("good");
    let proxy = Proxy::start(&forwarding(&[&busy, &good], ""));
    assert_eq!((proxy.get("/").status, proxy.get("/").status), (503, 200));
    let proxy = Proxy::start(&forwarding(&[&busy, &good], "proxy_next_upstream http_503;"));
    assert_eq!((proxy.get("/").status, proxy.get("/").status), (200, 200));
    // The last one's answer is passed on as it is.
    let proxy = Proxy::start(&forwarding(&[&busy], "proxy_next_upstream http_503;"));
    let response = proxy.get("/");
    assert_eq!((response.status, response.text()), (503, "busy"));
}

#[test]
fn backup_serves_while_the_others_are_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let backup = Origin::named("backup");
    let proxy = Proxy::start(&http(&format!(
        "upstream app {{ server {addr} fail_timeout=1s; server {} backup; }}
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://app; }} }}",
        backup.addr
    )));
    let mut client = proxy.client();
    assert_eq!(client.get("/").text(), "backup /");
    assert_eq!(client.get("/").text(), "backup /");
    // It comes back by itself when its time is over.
    let _primary = Origin::on(TcpListener::bind(addr).unwrap(), |visit| {
        visit.request()?;
        visit.reply("", "primary")
    });
    eventually("the primary serves again", || client.get("/").text() == "primary");
}

#[test]
fn server_that_is_full_or_down_gets_nothing() {
    let (down, full, other) = (Origin::named("down"), Origin::start(waits), Origin::named("other"));
    let proxy = Proxy::start(&http(&format!(
        "upstream app {{ server {} down; server {} max_conns=1; server {}; }}
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://app; }} }}",
        down.addr, full.addr, other.addr
    )));
    let mut waiting = proxy.client();
    waiting.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is somewhere", || full.requests().len() + other.requests().len() == 1);
    let mut client = proxy.client();
    for _ in 0..4 {
        if full.requests().len() == 1 {
            break;
        }
        client.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
        eventually("it is answered, or at the full one", || {
            proxy.active() == 1 || full.requests().len() == 1
        });
    }
    let mut client = proxy.client();
    for _ in 0..6 {
        assert_eq!(client.get("/").text(), "other /");
    }
    assert_eq!((down.requests().len(), full.requests().len()), (0, 1));
}

fn waits(visit: &mut Visit) -> io::Result<()> {
    visit.request()?;
    visit.peer.rest().map(drop)
}

#[test]
fn answer_that_is_cut_looks_cut() {
    for (head, piece) in [
        ("Content-Length: 100", "too short"),
        ("Transfer-Encoding: chunked", "9\r\ntoo short\r\n"),
        ("Transfer-Encoding: chunked", "100\r\ntoo short"),
    ] {
        for version in ["1.1", "1.0"] {
            let origin = Origin::start(move |visit| {
                visit.request()?;
                visit.write(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{piece}"))
            });
            let proxy = Proxy::start(&forwarding(&[&origin], ""));
            let mut client = proxy.client();
            client.send(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"));
            let response = client.try_response();
            assert!(response.is_err(), "{head} {piece} HTTP/{version}: {response:?}");
        }
    }
}

#[test]
fn server_that_is_killed_under_load_is_not_noticed() {
    let killed = Arc::new(AtomicBool::new(false));
    let dying = Arc::clone(&killed);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let listening = listener.try_clone().unwrap();
    let victim = Origin::on(listener, move |visit| {
        loop {
            visit.request()?;
            if dying.load(Ordering::SeqCst) {
                visit.reset();
                return Ok(());
            }
            visit.reply("", "victim")?;
        }
    });
    let survivor = Origin::named("survivor");
    let proxy = Proxy::start_workers(&forwarding(&[&victim, &survivor], ""), 2);
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let addr = proxy.addr();
            std::thread::spawn(move || {
                let mut client = Client::connect(addr);
                (0..250).filter(|_| client.get("/").status == 200).count()
            })
        })
        .collect();
    eventually("there is load", || victim.requests().len() > 50);
    // As the kernel does it to a process that is killed: its connections and its listener go.
    killed.store(true, Ordering::SeqCst);
    rustix::net::shutdown(&listening, rustix::net::Shutdown::Both).unwrap();
    let served: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert_eq!(served, 1000);
}
