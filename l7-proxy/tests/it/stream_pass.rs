//! `pass`: connections of `stream {}` that go on at another address of the configuration.

use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::peer::{Client, PATIENCE, eventually};
use crate::program::{Running, Site};
use crate::secure::{anonymous, ask, certificate, client_hello};

/// A running program that listens at so many addresses, which the text calls `@0` and so on.
struct Passing<const N: usize> {
    site: Site,
    addrs: [SocketAddr; N],
    running: Running,
}

impl<const N: usize> Passing<N> {
    fn start(http: &str, stream: &str) -> Passing<N> {
        Passing::start_with("", http, stream)
    }

    fn start_with(events: &str, http: &str, stream: &str) -> Passing<N> {
        let site = Site::new("");
        let addrs = [(); N].map(|()| Site::new("").addr);
        write(&site, &addrs, events, http, stream);
        let running = site.start();
        Passing { site, addrs, running }
    }

    fn reload(&self, http: &str, stream: &str) {
        write(&self.site, &self.addrs, "", http, stream);
        self.running.signal(Signal::HUP);
    }
}

fn write(site: &Site, addrs: &[SocketAddr], events: &str, http: &str, stream: &str) {
    let text = format!(
        "pid l7.pid; error_log error.log notice; events {{ {events} }} http {{ access_log off; {http} }}
         stream {{ log_format line '$server_port $status'; access_log stream.log line; {stream} }}"
    );
    let named = addrs.iter().enumerate();
    let text = named.fold(text, |text, (place, addr)| text.replace(&format!("@{place}"), &addr.to_string()));
    site.write_whole(&text);
}

#[test]
fn connection_goes_on_as_if_it_had_come_there() {
    let passing = Passing::<4>::start(
        "server { listen @0; return 200 '$remote_port $server_addr:$server_port $scheme'; }",
        "server { listen @1; pass @0; } server { listen @2; pass @3; } server { listen @3; return $server_addr; }",
    );
    let [http, to_http, to_stream, stream] = passing.addrs;
    let mut client = Client::connect(to_http);
    let port = client.stream.local_addr().unwrap().port();
    for _ in 0..2 {
        assert_eq!(client.get("/").text(), format!("{port} {http} http"));
    }
    assert_eq!(Client::connect(to_stream).rest().unwrap(), stream.ip().to_string().as_bytes());
    // Only who goes on with it logs it.
    let logged = format!("{} 200\n", stream.port());
    eventually("it is logged", || passing.site.read("stream.log") == logged);
}

#[test]
fn tls_that_is_spoken_goes_along() {
    let passing = Passing::<4>::start(
        "server { listen @0; return 200 '$scheme $ssl_server_name'; }",
        &format!(
            "server {{ listen @1 ssl; {} pass @0; }} server {{ listen @2 ssl; {} pass @3; }}
             server {{ listen @3; return '$ssl_server_name'; }}",
            certificate("server"),
            certificate("server"),
        ),
    );
    let [_, to_http, to_stream, _] = passing.addrs;
    let answer = ask(to_http, "localhost", &anonymous()).unwrap();
    assert!(answer.ends_with("\r\n\r\nhttps localhost"), "{answer}");
    assert_eq!(ask(to_stream, "localhost", &anonymous()).unwrap(), "localhost");
}

#[test]
fn what_was_looked_at_is_there_for_who_goes_on() {
    let passing = Passing::<4>::start(
        &format!(
            "server {{ listen @0 ssl; {} return 200 http; }} server {{ listen unix:socket; return 200 path; }}",
            certificate("server")
        ),
        "map $ssl_preread_server_name $to { localhost @0; '' unix:socket; }
         server { listen @1; ssl_preread on; pass $to; }
         server { listen @2; ssl_preread on; proxy_pass @3; } server { listen @3; return $bytes_received; }",
    );
    let [_, to, proxied, _] = passing.addrs;
    let answer = ask(to, "localhost", &anonymous()).unwrap();
    assert!(answer.ends_with("http"), "{answer}");
    assert_eq!(Client::connect(to).get("/").text(), "path");
    // In pieces, too.
    let hello = client_hello("localhost");
    let mut client = TcpStream::connect(to).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_nodelay(true).unwrap();
    for piece in hello.chunks(1) {
        client.write_all(piece).unwrap();
    }
    let mut first = [0];
    std::io::Read::read_exact(&mut client, &mut first).unwrap();
    assert_eq!(first, [22], "an answer to the hello");
    // Where it is not handed over it comes to the server once.
    let mut client = Client::connect(proxied);
    client.send("GET / HTTP/1.1\r\n\r\n");
    client.finish();
    let _ = client.rest();
    eventually("both are logged", || passing.site.read("stream.log").lines().count() == 2);
}

#[test]
fn connection_that_nobody_may_have_is_closed() {
    let passing = Passing::<7>::start(
        &format!("server {{ listen @0 ssl; {} return 200 http; }}", certificate("server")),
        &format!(
            "map $server_port $nowhere {{ default 127.0.0.1:1; }} map $server_port $nothing {{ default app; }}
             server {{ listen @1; pass $nowhere; }} server {{ listen @2; pass $nothing; }}
             server {{ listen @3; pass @3; }} server {{ listen @4 ssl; {} pass @0; }}
             server {{ listen @5 udp; pass @0; }} log_format name $ssl_server_name;
             server {{ listen @6 ssl; {} access_log tls.log name; pass $nowhere; }}",
            certificate("server"),
            certificate("server")
        ),
    );
    let [_, nowhere, nothing, itself, twice, datagrams, nowhere_with_tls] = passing.addrs;
    let _ = ask(nowhere_with_tls, "localhost", &anonymous());
    eventually("its name is logged", || passing.site.read("tls.log") == "localhost\n");
    for addr in [nowhere, nothing, itself] {
        assert!(Client::connect(addr).is_closed());
    }
    assert!(ask(twice, "localhost", &anonymous()).map_or_else(|_| true, |answer| answer.is_empty()));
    let client = UdpSocket::bind((datagrams.ip(), 0)).unwrap();
    client.send_to(b"x", datagrams).unwrap();
    for said in [
        "port not found for \"127.0.0.1:1\" while passing connection to port",
        "invalid address in pass \"app\"",
        "stream pass cycle while passing connection to port",
        "cannot pass TLS to where it begins",
        "cannot pass UDP connection",
    ] {
        eventually(said, || passing.site.read("error.log").contains(said));
    }
}

#[test]
fn address_to_pass_to_is_checked() {
    let site = Site::new("");
    for (target, message) in [
        ("127.0.0.1", "no port in pass \"127.0.0.1\" in nginx.conf:1"),
        ("no.such.host.invalid:1", "host not found in pass \"no.such.host.invalid:1\" in nginx.conf:1"),
    ] {
        let addr = site.addr;
        site.write_whole(&format!("events {{}} stream {{ server {{ listen {addr}; pass {target}; }} }}"));
        let (code, said) = site.say(&["-t"]);
        assert!(code == 1 && said.contains(message), "{said}");
    }
}

#[test]
fn connection_counts_where_it_came_from_until_it_ends() {
    let passing = Passing::<3>::start_with(
        "worker_connections 2;",
        "server { listen @0; return 200 here; }",
        "limit_conn_zone $remote_addr zone=one:1m; server { listen @1; pass @0; }
         server { listen @2; limit_conn one 1; pass @1; }",
    );
    let [_, to, limited] = passing.addrs;
    let mut first = Client::connect(limited);
    assert_eq!(first.get("/").text(), "here");
    assert!(Client::connect(limited).is_closed());
    let mut second = Client::connect(to);
    assert_eq!(second.get("/").text(), "here");
    // That was all that there may be.
    let mut third = Client::connect(to);
    third.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    third.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(third.stream.peek(&mut [0]).is_err(), "it waits");
    third.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(first);
    assert_eq!(third.response().text(), "here");
    drop((second, third));
    eventually("there is room again", || {
        let mut client = Client::connect(limited);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.try_response().is_ok_and(|response| response.text() == "here")
    });
}

#[test]
fn header_of_the_proxy_protocol_goes_along() {
    let passing = Passing::<4>::start(
        "server { listen @0; return 200 $proxy_protocol_addr; }",
        "server { listen @1 proxy_protocol; pass @0; } server { listen @2 proxy_protocol; pass @3; }
         server { listen @3; return $proxy_protocol_addr; }",
    );
    let [_, to_http, to_stream, _] = passing.addrs;
    let header = "PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n";
    let mut client = Client::connect(to_http);
    client.send(header);
    assert_eq!(client.get("/").text(), "192.0.2.7");
    let mut client = Client::connect(to_stream);
    client.send(header);
    assert_eq!(client.rest().unwrap(), b"192.0.2.7");
}

#[test]
fn client_that_ends_in_its_first_message_is_not_waited_for() {
    let passing = Passing::<2>::start(
        "server { listen @0; return 200 here; }",
        "server { listen @1; ssl_preread on; preread_timeout 30s; pass @0; }",
    );
    let began = Instant::now();
    let mut client = Client::connect(passing.addrs[1]);
    client.send(&client_hello("localhost")[..1]);
    client.finish();
    assert_eq!(client.leave().bytes, b"");
    eventually("it is logged", || passing.site.read("stream.log").ends_with(" 200\n"));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn connection_that_has_begun_goes_on_by_its_configuration_after_a_reload() {
    let text = |answer| {
        format!("server {{ listen @0; ssl_preread on; pass @1; }} server {{ listen @1; return {answer}; }}")
    };
    let passing = Passing::<2>::start("", &text("old"));
    let mut client = Client::connect(passing.addrs[0]);
    passing.reload("", &text("new"));
    eventually("the new one is at work", || {
        Client::connect(passing.addrs[1]).rest().is_ok_and(|answer| answer == b"new")
    });
    client.send("x");
    assert_eq!(client.rest().unwrap(), b"old");
}

#[test]
fn paths_that_only_clients_name_are_kept_up_to_a_bound() {
    let passing = Passing::<2>::start(
        "server { listen @0; return 200 here; }",
        "server { listen @1; pass unix:$connection; }",
    );
    for _ in 0..1100 {
        assert!(Client::connect(passing.addrs[1]).is_closed());
    }
    eventually("the last is refused", || {
        passing.site.read("error.log").contains("invalid address in pass \"unix:1090\"")
    });
}
