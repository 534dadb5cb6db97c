//! `stream {}`: servers that are known by name.

use std::net::{SocketAddr, TcpListener};

use crate::name_server::{A, NameServer, Says, local};
use crate::peer::{Client, Origin, Proxy, eventually};
use crate::program::Site;

fn stream(resolver: SocketAddr, content: &str) -> String {
    format!("events {{}} stream {{ resolver {resolver} ipv6=off valid=1s; {content} }}")
}

/// All that comes from an address.
fn heard(addr: SocketAddr) -> String {
    let mut client = Client::connect(addr);
    // It may end before anything is said.
    let _ = client.stream.shutdown(std::net::Shutdown::Write);
    String::from_utf8(client.rest().unwrap_or_default()).unwrap()
}

/// A server that says this and no more, at a port of all addresses of this machine.
fn says(word: &'static str) -> Origin {
    Origin::on(TcpListener::bind("0.0.0.0:0").unwrap(), move |visit| visit.write(word))
}

/// The addresses that the director has for the only upstream.
fn servers(proxy: &Proxy) -> Vec<SocketAddr> {
    proxy.daemon.director().stats()[0].servers.iter().map(|server| server.config.address).collect()
}

#[test]
fn name_that_a_connection_brings_is_resolved_and_all_its_addresses_are_tried() {
    let app = Origin::on(TcpListener::bind("127.0.0.1:0").unwrap(), |visit| visit.write("app"));
    let port = app.addr.port();
    // Nobody listens there but at the last.
    let names = NameServer::of("app.test", local([7, 1]));
    let proxy = Proxy::start(&stream(
        names.addr,
        &format!(
            "map $server_port $to {{ default app.test:{port}; }}
             log_format line '$upstream_addr $status'; access_log log line;
             server {{ listen 127.0.0.1:1; proxy_pass $to; }}"
        ),
    ));
    for _ in 0..3 {
        assert_eq!(heard(proxy.addr()), "app");
    }
    let lines = proxy.lines("log", 3);
    assert!(lines.contains(&format!("127.0.0.7:{port}, 127.0.0.1:{port} 200")), "{lines:?}");
    assert!(proxy.daemon.director().stats().is_empty());
}

#[test]
fn name_of_an_upstream_is_never_asked_for() {
    let names = NameServer::of("*", local([1]));
    let app = says("app");
    let proxy = Proxy::start(&stream(
        names.addr,
        &format!(
            "map $server_port $to {{ default app.test; }} upstream app.test {{ server {}; }}
             server {{ listen 127.0.0.1:1; proxy_pass $to; }}",
            app.addr
        ),
    ));
    assert_eq!(heard(proxy.addr()), "app");
    assert!(names.asked("app.test").is_empty());
}

#[test]
fn addresses_of_a_server_are_followed() {
    let app = says("app");
    let names = NameServer::of("app.test", local([1]));
    let server = |ip: u8| SocketAddr::from(([127, 0, 0, ip], app.addr.port()));
    let text = stream(
        names.addr,
        &format!(
            "upstream app {{ zone app 64k; server app.test:{} resolve; }}
             server {{ listen 127.0.0.1:1; proxy_pass app; }}",
            app.addr.port()
        ),
    );
    let proxy = Proxy::start(&text);
    eventually("it is resolved", || servers(&proxy) == [server(1)]);
    assert_eq!(heard(proxy.addr()), "app");
    names.tell("app.test", local([2, 1]));
    eventually("another is there", || servers(&proxy) == [server(1), server(2)]);
    proxy.reload(&text);
    assert_eq!(servers(&proxy), [server(1), server(2)]);
    names.tell("app.test", local([2]));
    eventually("one is gone", || servers(&proxy) == [server(2)]);
    assert_eq!(heard(proxy.addr()), "app");
    assert!(names.asked("app.test").iter().all(|kind| *kind == A));
}

#[test]
fn service_brings_its_ports_and_its_backups() {
    let (app, spare) = (says("app"), says("spare"));
    let services = vec![(1, 1, app.addr.port(), "a.test"), (2, 1, spare.addr.port(), "a.test")];
    let names = NameServer::of("_line._tcp.app.test", Says::Services(services));
    names.tell("a.test", local([1]));
    let silent = NameServer::of("*", Says::Silence);
    let proxy = Proxy::start(&stream(
        silent.addr,
        &format!(
            "upstream app {{ zone app 64k; resolver {} ipv6=off; server app.test service=line resolve; }}
             server {{ listen 127.0.0.1:1; proxy_pass app; }}",
            names.addr
        ),
    ));
    eventually("the service is resolved", || servers(&proxy).len() == 2);
    assert!((0..3).all(|_| heard(proxy.addr()) == "app"));
    drop(app);
    eventually("the backup serves", || heard(proxy.addr()) == "spare");
}

#[test]
fn log_says_why_a_name_leads_nowhere() {
    let names = NameServer::of("silent.test", Says::Silence);
    let resolver = format!("resolver {} ipv6=off; resolver_timeout 300ms;", names.addr);
    for (resolver, host, why) in [
        ("", "app.test:9", "no resolver defined to resolve app.test"),
        (&*resolver, "nothing.test:9", "nothing.test could not be resolved (3: Host not found)"),
        (&*resolver, "silent.test:9", "silent.test could not be resolved (110: Operation timed out)"),
        (&*resolver, "app.test", "no port in upstream \"app.test\""),
    ] {
        let site = Site::new("");
        site.write_whole(&format!(
            "pid l7.pid; error_log error.log; events {{}}
             stream {{ {resolver} map $server_port $to {{ default {host}; }}
                 log_format line '$upstream_addr $status'; access_log log line;
                 server {{ listen {}; proxy_pass $to; }} }}",
            site.addr
        ));
        let _running = site.start();
        assert_eq!(heard(site.addr), "", "{why}");
        let line = format!("{why}, client: ");
        eventually(why, || site.read("error.log").contains(&line));
        eventually("it is in the log", || site.read("log") == "- 500\n");
    }
}
