//! Reloads and ends: what is lost (nothing), and what stays.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use l7_proxy::daemon::{Daemon, Error, Options};
use l7_proxy::model::Http;
use socket2::SockRef;

use crate::peer::{Client, Origin, PATIENCE, Proxy, configuration, eventually, forwarding, http, server};
use crate::secure::{anonymous, certificate, connect};

fn page(text: &str) -> String {
    server(&format!("location / {{ return 200 {text}; }}"))
}

#[test]
fn reload_under_load_loses_nothing() {
    let (one, two) = (Origin::named("one"), Origin::named("two"));
    let proxy = Proxy::start_workers(&forwarding(&[&one], ""), 2);
    let addr = proxy.addr();
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                let mut kept = Client::connect(addr);
                let mut count = 0;
                while !over.load(Ordering::SeqCst) {
                    // Half of the clients keep their connection, the others open one per request.
                    if number % 2 == 0 {
                        kept = Client::connect(addr);
                    }
                    let answer = kept.get("/");
                    assert_eq!(answer.status, 200);
                    // After `keepalive_requests` it says so.
                    if answer.header("connection") == Some("close") {
                        kept = Client::connect(addr);
                    }
                    count += 1;
                }
                count
            })
        })
        .collect();
    for turn in 0..20 {
        let before = (one.requests().len(), two.requests().len());
        let next = if turn % 2 == 0 { &two } else { &one };
        proxy.reload(&forwarding(&[next], ""));
        eventually("the new server is asked", || match turn % 2 {
            0 => two.requests().len() > before.1 + 5,
            _ => one.requests().len() > before.0 + 5,
        });
    }
    over.store(true, Ordering::SeqCst);
    let asked: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert_eq!(one.requests().len() + two.requests().len(), asked);
}

#[test]
fn request_at_hand_is_finished_by_the_configuration_it_began_with() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        let go = visit.peer.exactly(2)?;
        visit.reply("", std::str::from_utf8(&go).unwrap())
    });
    let proxy = Proxy::start(&forwarding(&[&origin], "proxy_request_buffering off;"));
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");
    eventually("the request is at the server", || proxy.active() == 1);
    proxy.reload(&page("new"));
    assert_eq!(proxy.get("/").text(), "new");
    client.send("go");
    assert_eq!(client.response().text(), "go");
    // The connection goes over to the new configuration with its next request.
    assert_eq!(client.get("/").text(), "new");
}

#[test]
fn reload_opens_and_closes_addresses() {
    let both = |second: &str| {
        http(&format!(
            "server {{ listen 127.0.0.1:1; return 200 first; }}
             server {{ listen {second}:1; return 200 {second}; }}"
        ))
    };
    let proxy = Proxy::start_workers(&both("127.0.0.2"), 2);
    let addresses = proxy.daemon.addresses();
    let [first, second] = *addresses else { panic!("two addresses: {addresses:?}") };
    let mut kept = Client::connect(second);
    assert_eq!(kept.get("/").text(), "127.0.0.2");
    proxy.reload(&both("127.0.0.3"));
    let addresses = proxy.daemon.addresses();
    let [same, third] = *addresses else { panic!("two addresses: {addresses:?}") };
    assert_eq!(same, first, "an address that stays keeps its socket");
    assert_eq!(Client::connect(third).get("/").text(), "127.0.0.3");
    assert_eq!(Client::connect(first).get("/").text(), "first");
    eventually("the old address is closed", || std::net::TcpStream::connect(second).is_err());
    // A connection from before is served once more, by what it came to.
    let last = kept.get("/");
    assert_eq!((last.text(), last.header("Connection")), ("127.0.0.2", Some("close")));
}

#[test]
fn reload_that_fails_changes_nothing() {
    let proxy = Proxy::start(&page("old"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let check = |text: &str, expected: &str| {
        let config = configuration(proxy.folder.path(), text);
        let error = proxy.daemon.reload(config).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(proxy.get("/").text(), "old");
    };
    check(
        &http(&format!("server {{ listen 127.0.0.1:{port}; return 200 new; }}")),
        &format!("bind() to 127.0.0.1:{port} failed (98: Address already in use)"),
    );
    let log = http("server { listen 127.0.0.1:1; access_log no/such/folder/a.log; return 200 new; }");
    check(&log, "a.log\" failed (2: No such file or directory)");
}

#[test]
fn counts_and_health_outlive_a_reload() {
    let (dead, alive) = (Origin::nobody(), Origin::named("alive"));
    let text = forwarding(&[&dead, &alive], "");
    let proxy = Proxy::start(&text);
    for _ in 0..3 {
        proxy.get("/");
    }
    let before = proxy.daemon.director().stats();
    proxy.reload(&forwarding(&[&dead, &alive], "proxy_set_header X-New 1;"));
    let after = proxy.daemon.director().stats();
    assert_eq!(after[0].connections, before[0].connections);
    assert_eq!(after[0].servers[0].condition, before[0].servers[0].condition);
    assert!(after[0].servers[0].condition.to_string().starts_with("ejected"));
}

#[test]
fn shutdown_finishes_requests_and_closes_idle_connections() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        let go = visit.peer.exactly(2)?;
        visit.reply("", std::str::from_utf8(&go).unwrap())
    });
    let proxy = Proxy::start_workers(
        &http(&format!(
            "upstream app {{ server {}; }} server {{ listen 127.0.0.1:1;
                location / {{ proxy_pass http://app; proxy_request_buffering off; }} location /here {{ return 200 here; }} }}",
            origin.addr
        )),
        2,
    );
    let addr = proxy.addr();
    let mut idle = proxy.client();
    assert_eq!(idle.get("/here").text(), "here");
    let mut busy = proxy.client();
    busy.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");
    eventually("the request is at the server", || proxy.active() == 1);
    let ending = std::thread::spawn(move || (proxy.shut_down(Duration::from_secs(10)), proxy));
    assert!(idle.is_closed());
    eventually("nobody listens", || std::net::TcpStream::connect(addr).is_err());
    busy.send("go");
    let last = busy.response();
    assert_eq!((last.text(), last.header("Connection")), ("go", Some("close")));
    let (finished, proxy) = ending.join().unwrap();
    assert!(finished);
    let config = configuration(proxy.folder.path(), &page("late"));
    assert!(matches!(proxy.daemon.reload(config), Err(Error::Finishing)));
}

/// Whatever a client speaks that has connected, and not said anything yet.
#[test]
fn client_that_has_just_connected_is_served_by_a_proxy_that_ends() {
    let prefaced = "PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n";
    for (listen, http2, preface) in
        [("", "off", ""), ("", "on", ""), ("proxy_protocol", "off", prefaced), ("ssl", "off", "")]
    {
        let text = http(&format!(
            "server {{ listen 127.0.0.1:1 {listen}; http2 {http2}; {} return 200 served; }}",
            certificate("server")
        ));
        let request = format!("{preface}GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let attempt = || {
            let proxy = Proxy::start(&text);
            let addr = proxy.addr();
            match listen {
                "ssl" => ask_at_the_end(proxy, connect(addr, "localhost", &anonymous()), &request),
                _ => ask_at_the_end(proxy, Client::connect(addr).stream, &request),
            }
        };
        let answer = (0..10).find_map(|_| attempt()).expect("the machine is always too slow");
        assert!(answer.ends_with("served"), "{listen} {http2}: {answer}");
    }
}

/// Has a proxy end, asks it then, and returns what it answers; `None` if the machine was too busy to ask
/// while such a client is waited for, which says nothing of the proxy.
fn ask_at_the_end(proxy: Proxy, mut client: impl Read + Write, request: &str) -> Option<String> {
    const GRACE: Duration = Duration::from_secs(1);
    let addr = proxy.addr();
    let began = Instant::now();
    let ending = std::thread::spawn(move || proxy.shut_down(PATIENCE));
    eventually("nobody listens", || std::net::TcpStream::connect(addr).is_err());
    let asked = client.write_all(request.as_bytes());
    let in_time = began.elapsed() < GRACE;
    let mut answer = String::new();
    // How it ends is not what is looked at.
    let _ = asked.and_then(|()| client.read_to_string(&mut answer));
    drop(client);
    assert!(ending.join().unwrap(), "it does not end");
    in_time.then_some(answer)
}

/// Nor does one that says nothing hold it up for long.
#[test]
fn client_that_says_nothing_does_not_hold_up_the_end() {
    for listen in ["", "proxy_protocol", "ssl"] {
        let proxy = Proxy::start(&http(&format!(
            "server {{ listen 127.0.0.1:1 {listen}; http2 on; {} return 200; }}",
            certificate("server")
        )));
        let mut client = proxy.client();
        assert!(proxy.shut_down(PATIENCE / 2), "{listen}");
        assert!(client.is_closed());
    }
}

#[test]
fn shutdown_ends_at_its_deadline() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.peer.rest().map(drop)
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is at the server", || proxy.active() == 1);
    assert!(!proxy.shut_down(Duration::from_millis(50)));
    drop(proxy);
    assert!(client.is_closed());
}

#[test]
fn tcp_side_relays_and_follows_a_reload() {
    let stream = |origin: &Origin| {
        format!(
            "events {{}} stream {{ upstream back {{ server {}; }}
             server {{ listen 127.0.0.1:1; proxy_pass back; }} }}",
            origin.addr
        )
    };
    let (one, two) = (Origin::named("one"), Origin::named("two"));
    let proxy = Proxy::start_workers(&stream(&one), 2);
    let mut kept = proxy.client();
    assert_eq!(kept.get("/").text(), "one /");
    let stats = proxy.daemon.director().stats();
    assert_eq!(stats[0].config.key.to_string(), "stream/back");
    proxy.reload(&stream(&two));
    assert_eq!(proxy.get("/").text(), "two /");
    assert_eq!(kept.get("/").text(), "one /", "a relayed connection stays where it is");
    assert!(!proxy.shut_down(Duration::from_millis(50)));
    drop(kept);
    assert!(proxy.shut_down(Duration::from_secs(10)));
}

#[test]
fn proxy_serves_connections_on_a_runtime_of_the_callers() {
    let origin = Origin::named("a");
    let mut http = http_of(&forwarding(&[&origin], ""));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    local(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let held = listener.as_fd().try_clone_to_owned().unwrap();
        http.servers[0].listen[0].addr = addr;
        let proxy = l7_proxy::Proxy::new(http).unwrap();
        let client = std::thread::spawn(move || {
            let mut client = Client::connect(addr);
            let text = client.get("/x").text().to_owned();
            stop.send(()).unwrap();
            (text, client.is_closed())
        });
        proxy.serve(listener, async { stopped.await.unwrap() }).await;
        assert_eq!(proxy.director().stats()[0].connections, 1);
        proxy.finish();
        proxy.finished().await;
        assert_eq!(client.join().unwrap(), ("a /x".to_owned(), true));
        assert!(SockRef::from(&held).tcp_nodelay().unwrap(), "small answers wait");
    });
}

/// Runs something on a runtime as embedders have one.
fn local<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    runtime.unwrap().block_on(future)
}

/// The HTTP side of a configuration.
fn http_of(text: &str) -> Http {
    configuration(tempfile::tempdir().unwrap().path(), text).http.unwrap()
}

#[test]
fn connection_that_is_handed_over_is_served_to_its_end() {
    let origin = Origin::named("a");
    let mut http = http_of(&forwarding(&[&origin], ""));
    local(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        http.servers[0].listen[0].addr = addr;
        let client = std::thread::spawn(move || Client::connect(addr).get("/x").text().to_owned());
        let (stream, peer) = listener.accept().await.unwrap();
        let held = stream.as_fd().try_clone_to_owned().unwrap();
        let proxy = l7_proxy::Proxy::new(http.clone()).unwrap();
        proxy.handle(stream, peer).await;
        assert_eq!(client.join().unwrap(), "a /x");
        assert!(SockRef::from(&held).tcp_nodelay().unwrap(), "small answers wait");
        // Whose address the configuration does not have is not served.
        http.servers[0].listen[0].addr = "192.0.2.1:80".parse().unwrap();
        let mut client = Client::connect(addr);
        let (stream, peer) = listener.accept().await.unwrap();
        l7_proxy::Proxy::new(http).unwrap().handle(stream, peer).await;
        assert!(client.is_closed());
    });
}

#[test]
fn two_proxies_in_one_process_do_not_meet() {
    let (one, two) = (Proxy::start(&page("one")), Proxy::start(&page("two")));
    assert_eq!((one.get("/").text(), two.get("/").text()), ("one", "two"));
    drop(one);
    assert_eq!(two.get("/").text(), "two");
}

#[test]
fn address_is_free_again_when_the_proxy_has_gone() {
    let proxy = Proxy::start_workers(&page("old"), 2);
    let mut client = proxy.client();
    client.get("/");
    let addr = proxy.addr();
    let Proxy { daemon, folder } = proxy;
    drop(daemon);
    let mut config = configuration(folder.path(), &page("new"));
    config.http.as_mut().unwrap().servers[0].listen[0].addr = addr;
    let _daemon = Daemon::start(config, Options::default()).unwrap();
    assert_eq!(Client::connect(addr).get("/").text(), "new");
}

#[test]
fn what_is_left_of_the_old_configuration_is_cut_when_its_time_is_over() {
    let origin = Origin::start(|visit| {
        if visit.request()?.starts_with("GET /tunnel ") {
            visit.write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")?;
        }
        visit.request().map(drop)
    });
    let text = |answer: &str| {
        format!(
            "worker_shutdown_timeout 1s; events {{}} http {{ access_log off; server {{ listen 127.0.0.1:1;
               location / {{ return 200 {answer}; }} location /wait {{ proxy_pass http://{0}; }}
               location /tunnel {{ proxy_pass http://{0}; proxy_http_version 1.1;
                 proxy_set_header Upgrade x; proxy_set_header Connection upgrade; }} }} }}",
            origin.addr
        )
    };
    let proxy = Proxy::start(&text("old"));
    let (mut silent, mut begun, mut kept) = (proxy.client(), proxy.client(), proxy.client());
    let (mut waits, mut tunnel) = (proxy.client(), proxy.client());
    begun.send("GET / HTTP/1.1\r\n");
    assert_eq!(kept.get("/").text(), "old");
    waits.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    tunnel.send("GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    assert!(tunnel.head().unwrap().starts_with("HTTP/1.1 101 "));
    eventually("the request is at the server", || origin.requests().len() == 2);
    proxy.reload(&text("new"));
    assert!(waits.is_closed() && tunnel.is_closed());
    // As in nginx.
    assert!(silent.is_closed());
    // Who waits for nothing of the old one stays.
    begun.send("Host: a\r\n\r\n");
    assert_eq!(begun.response().text(), "new");
    assert_eq!(kept.get("/").text(), "new");
}
