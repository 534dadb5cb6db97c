//! `stream {}`: connections that are answered, relayed, looked at, limited and logged.

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Once;
use std::time::{Duration, Instant};

use crate::peer::{Client, Origin, Proxy, eventually};
use crate::program::Site;
use crate::secure::{anonymous, certificate, client_hello, connect};

fn stream(content: &str) -> String {
    format!("events {{}} stream {{ {content} }}")
}

/// All that comes when something is said and nothing more.
fn talk(addr: SocketAddr, words: &str) -> String {
    let mut client = Client::connect(addr);
    client.send(words);
    // It may have been closed already.
    let _ = client.stream.shutdown(std::net::Shutdown::Write);
    String::from_utf8(client.rest().unwrap_or_default()).unwrap()
}

/// Sends back what it gets.
fn echo() -> Origin {
    Origin::start(|visit| {
        let all = visit.peer.rest()?;
        visit.write(all)
    })
}

#[test]
fn connection_is_answered_with_what_map_and_set_say() {
    let proxy = Proxy::start(&stream(
        "map $remote_addr $who { 127.0.0.1 home; ~^127\\.(\\d+) net$1; default away; }
         server { listen 127.0.0.1:1; set $greeting hello; return \"$greeting from $who ${protocol}\"; }",
    ));
    assert_eq!(talk(proxy.addr(), ""), "hello from home TCP");
}

#[test]
fn who_may_not_connect_is_closed_and_logged() {
    let proxy = Proxy::start(&stream(
        "log_format line '$status $bytes_sent'; access_log log line;
         server { listen 127.0.0.1:1; deny 127.0.0.0/8; allow all; return never; }",
    ));
    assert_eq!(talk(proxy.addr(), ""), "");
    assert_eq!(proxy.lines("log", 1), ["403 0"]);
}

#[test]
fn connections_of_one_client_are_limited() {
    let origin = echo();
    let proxy = Proxy::start(&stream(&format!(
        "limit_conn_zone $binary_remote_addr zone=one:1m;
         server {{ listen 127.0.0.1:1; limit_conn one 1; proxy_pass {}; }}",
        origin.addr
    )));
    let mut first = Client::connect(proxy.addr());
    first.send("first");
    eventually("the first has arrived", || origin.connections() == 1);
    assert_eq!(talk(proxy.addr(), "second"), "");
    first.finish();
    assert_eq!(first.rest().unwrap(), b"first");
    eventually("there is room again", || talk(proxy.addr(), "third") == "third");
}

#[test]
fn server_is_computed_from_what_a_client_of_tls_asks_for() {
    let text = stream(
        "map $ssl_preread_server_name $server { a.example a; default 127.0.0.1:9; }
         upstream a { server INNER; }
         server { listen 127.0.0.1:1; ssl_preread on; proxy_pass $server; }",
    );
    let inner = Proxy::start(&stream(&format!(
        "server {{ listen 127.0.0.1:1 ssl; {} return \"$ssl_server_name $ssl_protocol\"; }}",
        certificate("server")
    )));
    let proxy = Proxy::start(&text.replace("INNER", &inner.addr().to_string()));
    let mut client = connect(proxy.addr(), "a.example", &anonymous());
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "a.example TLSv1.3");
    let mut client = connect(proxy.addr(), "localhost", &anonymous());
    assert!(client.write_all(b"x").and_then(|()| client.flush()).is_err(), "nobody is at port 9");
}

#[test]
fn bytes_pass_with_tls_on_either_side() {
    let origin = echo();
    let inner = Proxy::start(&stream(&format!(
        "server {{ listen 127.0.0.1:1 ssl; {} proxy_pass {}; }}",
        certificate("server"),
        origin.addr
    )));
    let outer = Proxy::start(&stream(&format!(
        "server {{ listen 127.0.0.1:1; proxy_ssl on; proxy_ssl_name a.example; proxy_ssl_server_name on;
           proxy_pass {}; }}",
        inner.addr()
    )));
    let words = "0123456789".repeat(50_000);
    assert!(talk(outer.addr(), &words) == words);
}

#[test]
fn rate_of_a_direction_is_kept() {
    let origin = echo();
    let proxy = Proxy::start(&stream(&format!(
        "server {{ listen 127.0.0.1:1; proxy_download_rate 500; proxy_pass {}; }}",
        origin.addr
    )));
    let began = Instant::now();
    let words = "x".repeat(1200);
    assert_eq!(talk(proxy.addr(), &words), words);
    // 500 at once, 500 more after a second, the rest after two.
    assert!(began.elapsed() >= Duration::from_millis(1900), "{:?}", began.elapsed());
}

#[test]
fn next_server_is_tried_unless_that_is_turned_off() {
    let (good, bad) = (echo(), Origin::nobody());
    let text = |next: &str| {
        stream(&format!(
            "upstream app {{ server {} max_fails=0; server {} backup; }}
             log_format line $upstream_addr; access_log log line;
             server {{ listen 127.0.0.1:1; proxy_next_upstream {next}; proxy_pass app; }}",
            bad.addr, good.addr
        ))
    };
    let on = Proxy::start(&text("on"));
    assert_eq!(talk(on.addr(), "x"), "x");
    assert_eq!(on.lines("log", 1), [format!("{}, {}", bad.addr, good.addr)]);
    let off = Proxy::start(&text("off"));
    assert_eq!(talk(off.addr(), "x"), "");
}

#[test]
fn reload_changes_what_an_address_answers() {
    let text = |answer: &str| stream(&format!("server {{ listen 127.0.0.1:1; return {answer}; }}"));
    let proxy = Proxy::start(&text("one"));
    assert_eq!(talk(proxy.addr(), ""), "one");
    proxy.reload(&text("two"));
    eventually("the new one answers", || talk(proxy.addr(), "") == "two");
}

#[test]
fn header_of_the_proxy_protocol_is_believed_from_whom_it_may_come() {
    let inner = |from: &str| {
        let server = "listen 127.0.0.1:1 proxy_protocol; \
                      return \"$remote_addr $realip_remote_addr $proxy_protocol_addr:$proxy_protocol_port\";";
        Proxy::start(&stream(&format!("server {{ set_real_ip_from {from}; {server} }}")))
    };
    let line = "PROXY TCP4 192.0.2.7 198.51.100.1 40000 80\r\n";
    assert_eq!(talk(inner("127.0.0.0/8").addr(), line), "192.0.2.7 127.0.0.1 192.0.2.7:40000");
    let other = inner("198.51.100.0/24");
    assert_eq!(talk(other.addr(), line), "127.0.0.1 127.0.0.1 192.0.2.7:40000");
    assert_eq!(talk(other.addr(), "PROXY UNKNOWN\r\n"), "127.0.0.1 127.0.0.1 :");
    assert_eq!(talk(other.addr(), "GET / HTTP/1.1\r\n\r\n"), "");
}

#[test]
fn server_is_told_the_client_before_anything_else() {
    let origin = echo();
    let proxy = Proxy::start(&stream(&format!(
        "server {{ listen 127.0.0.1:1; proxy_protocol on; proxy_pass {}; }}",
        origin.addr
    )));
    let mut client = Client::connect(proxy.addr());
    let own = client.stream.local_addr().unwrap();
    client.send("words");
    client.finish();
    let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nwords", own.port(), proxy.addr().port());
    assert_eq!(client.rest().unwrap(), expected.as_bytes());
}

#[test]
fn name_of_a_log_that_a_client_may_choose_leads_nowhere_else() {
    let proxy = Proxy::start(&stream(
        "log_format line $status;
         server { listen 127.0.0.1:1; set $good a; set $bad ../b; return x;
           access_log html/../html/$bad line; access_log html/$bad line; access_log html/$good.log line; }",
    ));
    assert_eq!(talk(proxy.addr(), ""), "x");
    let html = proxy.folder.path().join("html");
    eventually("the good one is written", || html.join("a.log").exists());
    assert!(!proxy.folder.path().join("b").exists());
}

#[test]
fn limit_that_is_only_tried_lets_connections_through_and_says_so() {
    let origin = echo();
    let text = |trial: &str| {
        stream(&format!(
            "limit_conn_zone $binary_remote_addr zone=one:1m;
             log_format line '$status $limit_conn_status'; access_log log line;
             server {{ listen 127.0.0.1:1; limit_conn one 1; limit_conn_dry_run {trial}; proxy_pass {}; }}",
            origin.addr
        ))
    };
    for (trial, second, lines) in
        [("on", "second", "200 REJECTED_DRY_RUN\n200 PASSED\n"), ("off", "", "503 REJECTED\n200 PASSED\n")]
    {
        let proxy = Proxy::start(&text(trial));
        let before = origin.connections();
        let mut first = Client::connect(proxy.addr());
        first.send("first");
        eventually("the first has arrived", || origin.connections() > before);
        assert_eq!(talk(proxy.addr(), "second"), second);
        eventually("the second is logged", || !proxy.log("log").is_empty());
        first.finish();
        assert_eq!(first.rest().unwrap(), b"first");
        eventually("both are logged", || proxy.log("log") == lines);
    }
}

#[test]
fn server_that_answers_sooner_gets_more_under_least_time() {
    for method in
        ["least_time first_byte", "least_time last_byte inflight", "random two least_time=first_byte"]
    {
        // Each is asked once before the times count; no pause of a busy machine is as long.
        let first = Once::new();
        let slow = Origin::start(move |visit| {
            first.call_once(|| std::thread::sleep(Duration::from_millis(900)));
            visit.write("slow")
        });
        let quick = Origin::start(|visit| visit.write("quick"));
        let proxy = Proxy::start(&stream(&format!(
            "upstream app {{ {method}; server {}; server {}; }}
             server {{ listen 127.0.0.1:1; proxy_pass app; }}",
            slow.addr, quick.addr
        )));
        let answers: Vec<String> = (0..12).map(|_| talk(proxy.addr(), "")).collect();
        let quick = answers.iter().filter(|answer| *answer == "quick").count();
        assert!(quick >= 9, "{method}: {answers:?}");
    }
}

/// A proxy of its own process, for there is one error log in each.
#[test]
fn diagnostics_of_a_server_go_to_its_own_log() {
    let site = Site::new("");
    site.write_whole(&format!(
        "pid l7.pid; error_log error.log notice; events {{}} stream {{ error_log stream.log;
         server {{ listen {0}; error_log server.log info; deny all; return x; }}
         server {{ listen {0} udp; deny all; return x; }} }}",
        site.addr
    ));
    let running = site.start();
    assert_eq!(talk(site.addr, ""), "");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"x", site.addr).unwrap();
    let denied = |name: &str| site.read(name).matches("access forbidden by rule").count();
    eventually("each is in its log", || denied("server.log") == 1 && denied("stream.log") == 1);
    assert!(site.read("server.log").contains(" client: 127.0.0.1, server: "));
    assert!(site.read("stream.log").contains(" udp client: 127.0.0.1, server: "));
    assert_eq!(denied("error.log"), 0);
    drop(running);
}

#[test]
fn connection_counts_in_its_zone_over_a_reload() {
    let origin = Origin::start(|visit| {
        visit.write("hello")?;
        visit.peer.rest().map(drop)
    });
    let text = |size: &str| {
        format!(
            "events {{}} stream {{ limit_conn_zone $remote_addr zone=one:{size};
                 server {{ listen 127.0.0.1:1; limit_conn one 1; proxy_pass {}; }} }}",
            origin.addr
        )
    };
    let proxy = Proxy::start(&text("1m"));
    let mut first = proxy.client();
    assert_eq!(first.exactly(5).unwrap(), b"hello");
    proxy.reload(&text("1m"));
    assert_eq!(proxy.client().rest().unwrap(), b"");
    // Of another size it is another zone, as in nginx.
    proxy.reload(&text("2m"));
    let mut second = proxy.client();
    assert_eq!(second.exactly(5).unwrap(), b"hello");
    assert_eq!(proxy.client().rest().unwrap(), b"");
}

/// Whatever it is that it does not say: nothing, or not all of it.
#[test]
fn client_that_is_slow_to_begin_is_not_waited_for() {
    let origin = echo();
    let mut hello = client_hello("localhost");
    hello.pop();
    let cases: [(&str, String, &[&[u8]]); 3] = [
        (
            " proxy_protocol",
            "proxy_protocol_timeout 200ms; return never;".into(),
            &[b"", b"PROXY TCP4 192.0.2.7"],
        ),
        (
            " ssl",
            format!("ssl_handshake_timeout 200ms; {} return never;", certificate("server")),
            &[b"", &hello],
        ),
        (
            "",
            format!("ssl_preread on; preread_timeout 200ms; proxy_pass {};", origin.addr),
            &[b"", &hello[..9], &hello],
        ),
    ];
    for (listen, content, beginnings) in cases {
        let proxy = Proxy::start(&stream(&format!("server {{ listen 127.0.0.1:1{listen}; {content} }}")));
        for bytes in beginnings {
            let mut client = Client::connect(proxy.addr());
            client.send(bytes);
            let left = client.leave();
            assert_eq!(left.bytes, b"", "{listen} {}", bytes.escape_ascii());
        }
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn beginning_that_is_looked_at_is_as_large_as_is_allowed() {
    let origin = echo();
    let hello = client_hello("localhost");
    for (size, is_taken) in [(hello.len(), true), (hello.len() - 1, false)] {
        let proxy = Proxy::start(&stream(&format!(
            "log_format line '$status $ssl_preread_server_name'; access_log log line;
             server {{ listen 127.0.0.1:1; ssl_preread on; preread_buffer_size {size}; proxy_pass {}; }}",
            origin.addr
        )));
        let mut client = Client::connect(proxy.addr());
        client.send(&hello);
        client.finish();
        assert_eq!(client.leave().bytes == hello, is_taken, "{size}");
        assert_eq!(proxy.lines("log", 1), [if is_taken { "200 localhost" } else { "400 -" }]);
    }
}
