//! Idle connections to servers: who has to go, and what a reload leaves alone.

use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use crate::peer::{Origin, Proxy, eventually, http};
use crate::secure::{certificate, pem};

/// Two servers, asked by `?to=busy` and `?to=rare`.
fn pair(busy: SocketAddr, rare: SocketAddr, keepalive: &str) -> String {
    http(&format!(
        "upstream app {{ server {busy} route=busy; server {rare} route=rare; {keepalive} sticky route $arg_to; }}
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://app; }} }}"
    ))
}

/// Answers three requests at a time, so that each needs a connection of its own.
fn by_threes() -> Origin {
    let together = Arc::new(Barrier::new(3));
    Origin::start(move |visit| {
        loop {
            visit.request()?;
            together.wait();
            visit.reply("", "ok")?;
        }
    })
}

/// Asks so often at the same time, and waits until every connection is back.
fn ask_together(proxy: &Proxy, count: usize, path: &str) {
    std::thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| assert_eq!(proxy.get(path).status, 200));
        }
    });
    eventually("all have ended", || proxy.active() == 0);
}

#[test]
fn busy_server_does_not_take_the_last_idle_connection_of_another() {
    let (busy, rare) = (by_threes(), Origin::named("rare"));
    let proxy = Proxy::start(&pair(busy.addr, rare.addr, "keepalive 2;"));
    assert_eq!(proxy.get("/?to=rare").status, 200);
    for _ in 0..2 {
        ask_together(&proxy, 3, "/?to=busy");
    }
    assert_eq!(proxy.get("/?to=rare").status, 200);
    assert_eq!(rare.connections(), 1);
    // One of two places is the rare one's, so each turn begins with one that was kept.
    assert_eq!(busy.connections(), 5);
}

#[test]
fn connection_that_was_idle_for_longest_goes_first() {
    let (one, two) = (Origin::named("one"), Origin::named("two"));
    let proxy = Proxy::start(&pair(one.addr, two.addr, "keepalive 1;"));
    for _ in 0..2 {
        proxy.get("/?to=busy");
        proxy.get("/?to=rare");
        proxy.get("/?to=rare");
    }
    assert_eq!((one.connections(), two.connections()), (2, 2));
}

#[test]
fn server_has_no_more_idle_connections_than_it_may_have() {
    for (before, after, connections) in [
        ("keepalive 9;", "keepalive 9;", 3),
        ("keepalive 9 per_server=1;", "keepalive 9 per_server=1;", 5),
        ("keepalive 9;", "keepalive 9 per_server=2 local;", 4),
        ("keepalive 9;", "keepalive 1;", 5),
    ] {
        let (busy, rare) = (by_threes(), Origin::named("rare"));
        let proxy = Proxy::start(&pair(busy.addr, rare.addr, before));
        ask_together(&proxy, 3, "/?to=busy");
        proxy.reload(&pair(busy.addr, rare.addr, after));
        ask_together(&proxy, 3, "/?to=busy");
        assert_eq!(busy.connections(), connections, "{before} {after}");
    }
}

fn listing(servers: &[SocketAddr], upstream: &str, location: &str) -> String {
    let servers: String = servers.iter().map(|addr| format!("server {addr};")).collect();
    http(&format!(
        "upstream app {{ {servers} {upstream} }}
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://app; {location} }} }}"
    ))
}

#[test]
fn reload_keeps_idle_connections_to_the_servers_that_stay() {
    let (stays, goes) = (
        Origin::named("stays"),
        Origin::start(|visit| {
            visit.request()?;
            visit.reply("", "goes")?;
            let gone = visit.request();
            visit.note("its connection was closed");
            gone.map(drop)
        }),
    );
    let proxy = Proxy::start(&listing(&[stays.addr, goes.addr], "", ""));
    proxy.get("/1");
    proxy.get("/2");
    // It may have come to another place and have another weight.
    for text in [
        listing(&[goes.addr, stays.addr], "", "add_header X-Other 1;"),
        listing(&[stays.addr], "keepalive 3;", ""),
    ] {
        proxy.reload(&text);
    }
    assert_eq!(proxy.get("/").text(), "stays /");
    assert_eq!(stays.connections(), 1);
    eventually("the other is let go of", || goes.requests().len() == 2);
    // None are kept any more.
    proxy.reload(&listing(&[stays.addr], "keepalive 0;", ""));
    proxy.get("/");
    assert_eq!(stays.connections(), 2);
}

#[test]
fn connection_of_a_request_that_a_reload_overtakes_is_kept() {
    let origin = Origin::start(|visit| {
        loop {
            visit.request()?;
            let _ = visit.peer.exactly(2)?;
            visit.reply("", "done")?;
        }
    });
    let text = listing(&[origin.addr], "", "proxy_request_buffering off;");
    let proxy = Proxy::start(&text);
    let post = |client: &mut crate::peer::Client| {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");
    };
    let mut client = proxy.client();
    post(&mut client);
    eventually("the request is at the server", || origin.requests().len() == 1);
    proxy.reload(&text);
    client.send("go");
    assert_eq!(client.response().text(), "done");
    eventually("it has ended", || proxy.active() == 0);
    let mut client = proxy.client();
    post(&mut client);
    client.send("go");
    assert_eq!(client.response().text(), "done");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn limits_of_the_new_configuration_hold_on_connections_of_the_old() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.reply("", "ok")?;
        visit.request()?;
        // Nothing more, until the proxy has enough of it.
        visit.request().map(drop)
    });
    let proxy = Proxy::start(&listing(&[origin.addr], "", "proxy_read_timeout 60s;"));
    assert_eq!(proxy.get("/").text(), "ok");
    proxy.reload(&listing(&[origin.addr], "", "proxy_read_timeout 50ms;"));
    let began = Instant::now();
    assert_eq!(proxy.get("/").status, 504);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(origin.connections(), 1);
}

#[test]
fn reload_keeps_secure_connections_while_nothing_of_tls_has_changed() {
    let origin = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1 ssl; {} return 200 $connection; }}",
        certificate("server")
    )));
    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("trusted.pem");
    std::fs::copy(pem("ca.pem"), &trusted).unwrap();
    let text = |tls: &str| {
        http(&format!(
            "upstream app {{ server {}; }} server {{ listen 127.0.0.1:1; location / {{ proxy_pass https://app;
               proxy_ssl_verify on; proxy_ssl_name localhost; proxy_ssl_trusted_certificate {}; {tls} }} }}",
            origin.addr(),
            trusted.display()
        ))
    };
    let proxy = Proxy::start(&text(""));
    let mut last = proxy.get("/").text().to_owned();
    let mut reload = |tls: &str| {
        proxy.reload(&text(tls));
        let answer = proxy.get("/");
        assert_eq!(answer.status, 200);
        let before = std::mem::replace(&mut last, answer.text().to_owned());
        before == last
    };
    assert!(reload("proxy_read_timeout 3s;"), "nothing of TLS has changed");
    assert!(!reload("proxy_ssl_protocols TLSv1.2;"), "another version");
    // Another certificate is trusted as well.
    let mut both = std::fs::read(pem("ca.pem")).unwrap();
    both.extend(std::fs::read(pem("stranger.pem")).unwrap());
    std::fs::write(&trusted, both).unwrap();
    assert!(!reload("proxy_ssl_protocols TLSv1.2;"), "another file of that name");
    assert!(reload("proxy_ssl_protocols TLSv1.2;"), "as before");
}

#[test]
fn reload_keeps_connections_of_http2() {
    let origin = crate::http2_peer::Origin::start(|mut visit| async move { visit.reply("ok") });
    let text = listing(&[origin.addr], "", "proxy_http_version 2;");
    let proxy = Proxy::start(&text);
    for _ in 0..2 {
        assert_eq!(proxy.get("/").text(), "ok");
        proxy.reload(&text);
    }
    assert_eq!(origin.connections(), 1);
}
