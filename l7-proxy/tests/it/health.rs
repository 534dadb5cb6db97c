//! Active checks: which servers get requests, by what they answer when they are asked.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::http2_peer;
use crate::peer::{Origin, Proxy, Visit, configuration, eventually, http};
use crate::program::Site;

/// Answers `/up` with this while it is well, else with 503, and everything else with its name.
fn checked(name: &'static str, well: &Arc<AtomicBool>, answer: &'static str) -> Origin {
    let well = Arc::clone(well);
    Origin::start(move |visit: &mut Visit| -> io::Result<()> {
        loop {
            let head = visit.request()?;
            if !head.starts_with("GET /up ") {
                visit.reply("", name)?;
            } else if well.load(Ordering::SeqCst) {
                visit.write(answer)?;
            } else {
                visit.write("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")?;
            }
        }
    })
}

const OK: &str = "HTTP/1.1 200 OK\r\nX-Kind: app\r\nContent-Length: 4\r\n\r\nwell";

/// A proxy whose upstream has these servers, checked twenty times a second.
fn site(origins: &[&Origin], blocks: &str, check: &str) -> String {
    let servers: String = origins.iter().map(|origin| format!("server {};", origin.addr)).collect();
    http(&format!(
        "{blocks} upstream app {{ {servers} }}
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://app;
         health_check uri=/up interval=50ms {check}; }} }}"
    ))
}

fn condition(proxy: &Proxy, server: usize) -> String {
    proxy.daemon.director().stats()[0].servers[server].condition.to_string()
}

fn well() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(true))
}

#[test]
fn server_that_fails_its_checks_gets_no_request_until_it_passes() {
    let (health, other) = (well(), well());
    let (a, b) = (checked("a", &health, OK), checked("b", &other, OK));
    let proxy = Proxy::start(&site(&[&a, &b], "", "fails=2 passes=2"));
    health.store(false, Ordering::SeqCst);
    eventually("it is down", || condition(&proxy, 0).starts_with("down"));
    assert!(condition(&proxy, 0).ends_with("2 × HTTP 503"), "{}", condition(&proxy, 0));
    (0..6).for_each(|_| assert_eq!(proxy.get("/").text(), "b"));
    health.store(true, Ordering::SeqCst);
    eventually("it is up", || condition(&proxy, 0) == "up");
    let mut seen: Vec<String> = (0..2).map(|_| proxy.get("/").text().to_owned()).collect();
    seen.sort();
    assert_eq!(seen, ["a", "b"]);
}

#[test]
fn answer_is_held_against_the_match() {
    for (block, passes) in [
        ("status 200;", true),
        ("status 201-299;", false),
        ("status ! 200-299;", false),
        ("header X-Kind = app;", true),
        ("header X-Kind != app;", false),
        ("header X-Kind ~ ^a;", true),
        ("header ! X-Kind;", false),
        ("header X-Other;", false),
        ("body ~ well;", true),
        ("body !~ ^w;", false),
        ("require $upstream_http_x_kind $is_app $upstream_status $upstream_addr;", true),
        ("require $upstream_http_x_other;", false),
        ("require $is_app $is_other;", false),
        ("status 200; header X-Kind; body ~ ll$;", true),
    ] {
        let origin = checked("a", &well(), OK);
        let blocks = format!(
            "map $upstream_http_x_kind $is_app {{ app yes; }} map $upstream_http_x_kind $is_other {{ app 0; default 1; }}
             match fine {{ {block} }}"
        );
        let proxy = Proxy::start(&site(&[&origin], &blocks, "match=fine"));
        // The first check is at hand when the second begins.
        eventually("it was checked", || origin.requests().len() > 1);
        assert_eq!(condition(&proxy, 0) == "up", passes, "{block} {}", condition(&proxy, 0));
    }
}

#[test]
fn mandatory_check_comes_before_the_first_request() {
    let origin = Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            if head.starts_with("GET /up ") {
                std::thread::sleep(std::time::Duration::from_millis(150));
            }
            visit.reply("", "a")?;
        }
    });
    let proxy = Proxy::start(&site(&[&origin], "", "mandatory"));
    assert_eq!(proxy.get("/").status, 502);
    assert!(condition(&proxy, 0).contains("not checked yet"));
    eventually("it has passed", || proxy.get("/").status == 200);
    // What it was found to be outlives a reload.
    proxy
        .daemon
        .reload(configuration(proxy.folder.path(), &site(&[&origin], "", "mandatory persistent")))
        .unwrap();
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn server_that_comes_back_gets_its_share_little_by_little() {
    let health = Arc::new(AtomicBool::new(false));
    let (a, b) = (checked("a", &health, OK), checked("b", &well(), OK));
    let text = site(&[&a, &b], "", "").replacen(';', " slow_start=1h;", 2);
    let text = text.replacen("access_log off slow_start=1h", "access_log off", 1);
    let proxy = Proxy::start(&text);
    eventually("it is down", || condition(&proxy, 0).starts_with("down"));
    health.store(true, Ordering::SeqCst);
    eventually("it is up", || condition(&proxy, 0) == "up");
    let to_a = (0..40).filter(|_| proxy.get("/").text() == "a").count();
    assert!((1..=8).contains(&to_a), "{to_a} of 40");
}

#[test]
fn server_that_nobody_checks_any_more_is_up() {
    let health = Arc::new(AtomicBool::new(false));
    let origin = checked("a", &health, OK);
    let text = site(&[&origin], "", "");
    let proxy = Proxy::start(&text);
    eventually("it is down", || condition(&proxy, 0).starts_with("down"));
    let (before, after) = text.split_once("health_check").unwrap();
    let (_, after) = after.split_once(';').unwrap();
    proxy.daemon.reload(configuration(proxy.folder.path(), &format!("{before}{after}"))).unwrap();
    eventually("it is up", || condition(&proxy, 0) == "up");
}

#[test]
fn check_asks_another_port_over_a_connection_that_lasts() {
    let checks = checked("checks", &well(), OK);
    let requests = Origin::named("a");
    let check = format!("port={} keepalive_time=10s", checks.addr.port());
    let proxy = Proxy::start(&site(&[&requests], "", &check));
    eventually("it was checked", || checks.requests().len() >= 4);
    assert_eq!(condition(&proxy, 0), "up");
    assert_eq!(checks.connections(), 1);
    assert_eq!(requests.requests().len(), 0);
}

#[test]
fn server_that_does_not_listen_is_found_before_any_client_does() {
    let (dead, alive) = (Origin::nobody(), checked("b", &well(), OK));
    let proxy = Proxy::start(&site(&[&dead, &alive], "", ""));
    eventually("it is down", || condition(&proxy, 0).contains("connect refused"));
    assert_eq!(proxy.get("/").text(), "b");
}

#[test]
fn process_that_is_to_end_says_nothing_of_its_servers() {
    let holds = Origin::start(|visit| {
        let head = visit.request()?;
        if head.starts_with("GET /up ") { visit.reply("", "well") } else { visit.peer.rest().map(drop) }
    });
    let site = Site::new("");
    site.write_whole(&format!(
        "pid l7.pid; error_log error.log info; events {{}} http {{ access_log off;
         upstream app {{ server {}; }} upstream own {{ server {addr}; }}
         server {{ listen {addr}; location / {{ proxy_pass http://app; }} location /up {{ return 200; }}
         location /own {{ proxy_pass http://own; health_check uri=/up interval=20ms; }} }} }}",
        holds.addr,
        addr = site.addr
    ));
    let mut running = site.start();
    let mut client = site.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is at the server", || holds.requests().len() == 1);
    running.signal(Signal::QUIT);
    eventually("nobody listens", || TcpStream::connect(site.addr).is_err());
    // Time for some checks, which would all be refused.
    std::thread::sleep(Duration::from_millis(200));
    drop(client);
    assert_eq!(running.end(), 0);
    let log = site.read("error.log");
    assert!(!log.contains("unhealthy"), "{log}");
}

#[test]
fn grpc_server_is_asked_by_its_own_protocol() {
    let health = well();
    let serves = Arc::clone(&health);
    let server = http2_peer::Origin::start(move |mut visit| {
        let serves = Arc::clone(&serves);
        async move {
            let (asked, _) = http2_peer::whole(&mut visit.body).await.ok()?;
            if asked != *b"\0\0\0\0\x05\x0a\x03pay" {
                return visit.end(&[("content-type", "application/grpc"), ("grpc-status", "5")]);
            }
            let mut stream = visit.begin(&[("content-type", "application/grpc")])?;
            let state = if serves.load(Ordering::SeqCst) { 1 } else { 2 };
            stream.send_data(vec![0, 0, 0, 0, 2, 8, state].into(), false).ok()?;
            let mut trailers = ::http::HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().ok()?);
            stream.send_trailers(trailers).ok()
        }
    });
    let site = |check: &str| {
        http(&format!(
            "upstream app {{ server {}; }}
             server {{ listen 127.0.0.1:1; location / {{ grpc_pass grpc://app;
             health_check interval=50ms {check}; }} }}",
            server.addr
        ))
    };
    let proxy = Proxy::start(&site("mandatory type=grpc grpc_service=pay"));
    eventually("it is up", || condition(&proxy, 0) == "up");
    health.store(false, Ordering::SeqCst);
    eventually("it is down", || condition(&proxy, 0).ends_with("not serving"));
    assert_eq!(server.requests()[0].uri().path(), "/grpc.health.v1.Health/Check");
    assert_eq!(server.requests()[0].headers()["te"], "trailers");
    let proxy = Proxy::start(&site("type=grpc grpc_service=other"));
    eventually("it is down", || condition(&proxy, 0).ends_with("gRPC status 5"));
    let proxy = Proxy::start(&site("mandatory type=grpc grpc_service=other grpc_status=5"));
    eventually("it is up", || condition(&proxy, 0) == "up");
}
