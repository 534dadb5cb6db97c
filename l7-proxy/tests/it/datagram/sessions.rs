//! How long a session lasts, and which server it has.

use std::net::UdpSocket;
use std::time::Duration;

use lvs_core::ServiceKey;

use super::{Server, Talker, ask, logged, nobody, stream};
use crate::peer::{Proxy, eventually};

#[test]
fn datagrams_of_a_client_come_from_one_port_and_those_of_another_from_another() {
    let server = Server::showing_ports();
    let proxy = Proxy::start_workers(
        &stream(&format!("server {{ listen 127.0.0.1:1 udp; proxy_pass {}; }}", server.addr)),
        2,
    );
    let (one, two) = (Talker::new(proxy.addr()), Talker::new(proxy.addr()));
    let (first, second) = (one.ask("x"), two.ask("x"));
    assert_ne!(first, second);
    for _ in 0..10 {
        assert_eq!(one.ask("x"), first);
        assert_eq!(two.ask("x"), second);
    }
}

#[test]
fn session_is_over_when_as_many_answers_have_come_as_are_expected() {
    let server = Server::start(|_, client| vec![client.port().to_string(), "again".to_owned()]);
    let proxy = Proxy::start(&stream(&format!(
        "log_format bytes '$status $upstream_bytes_sent $upstream_bytes_received'; access_log log bytes;
         server {{ listen 127.0.0.1:1 udp; proxy_responses 2; proxy_pass {}; }}",
        server.addr
    )));
    let client = Talker::new(proxy.addr());
    let first = client.ask("x");
    assert_eq!(client.hear(), "again");
    logged(&proxy, "200 1 10\n");
    assert_ne!(client.ask("x"), first);
    assert_eq!(client.hear(), "again");
    logged(&proxy, "200 1 10\n200 1 10\n");
}

#[test]
fn session_without_answers_to_come_is_over_at_once() {
    let server = Server::silent();
    let proxy = Proxy::start(&stream(&format!(
        "access_log log line; server {{ listen 127.0.0.1:1 udp; proxy_responses 0; proxy_pass {}; }}",
        server.addr
    )));
    let client = Talker::new(proxy.addr());
    client.send("x");
    client.send("y");
    logged(&proxy, "200\n200\n");
    eventually("both have come", || server.heard() == 2);
}

#[test]
fn client_begins_anew_after_its_requests_and_late_answers_still_come() {
    // Answers when it has heard twice, and then to both.
    let server = Server::start(|words, client| match words {
        "2" => vec![client.port().to_string(); 2],
        _ => Vec::new(),
    });
    let proxy = Proxy::start(&stream(&format!(
        "access_log log line;
         server {{ listen 127.0.0.1:1 udp; proxy_requests 2; proxy_responses 1; proxy_pass {}; }}",
        server.addr
    )));
    let client = Talker::new(proxy.addr());
    client.send("1");
    let first = client.ask("2");
    assert_eq!(client.hear(), first);
    logged(&proxy, "200\n");
    client.send("1");
    assert_ne!(client.ask("2"), first);
}

#[test]
fn missing_answer_is_a_failure_of_the_server_when_the_time_is_over() {
    let (silent, good) = (Server::silent(), Server::named("good"));
    let proxy = Proxy::start(&stream(&format!(
        "upstream app {{ server {} weight=1000; server {}; }}
         log_format more '$status $upstream_addr $upstream_bytes_sent $upstream_first_byte_time';
         access_log log more;
         server {{ listen 127.0.0.1:1 udp; proxy_responses 1; proxy_timeout 100ms; proxy_pass app; }}",
        silent.addr, good.addr
    )));
    Talker::new(proxy.addr()).send("x");
    logged(&proxy, &format!("502 {} 1 -\n", silent.addr));
    assert_eq!(ask(proxy.addr(), "y"), "good y");
}

#[test]
fn session_that_expects_nothing_ends_well_when_the_time_is_over() {
    let server = Server::silent();
    let proxy = Proxy::start(&stream(&format!(
        "access_log log line; server {{ listen 127.0.0.1:1 udp; proxy_timeout 100ms; proxy_pass {}; }}",
        server.addr
    )));
    Talker::new(proxy.addr()).send("x");
    logged(&proxy, "200\n");
}

#[test]
fn server_that_is_not_there_is_passed_over_unless_that_is_turned_off() {
    let (gone, good) = (nobody(), Server::named("good"));
    let text = |next: &str| {
        stream(&format!(
            "upstream app {{ server {gone}; server {} backup; }}
             log_format more '$status $upstream_addr'; access_log log more;
             server {{ listen 127.0.0.1:1 udp; proxy_next_upstream {next}; proxy_responses 1; proxy_pass app; }}",
            good.addr
        ))
    };
    let on = Proxy::start(&text("on"));
    assert_eq!(ask(on.addr(), "x"), "good x");
    assert_eq!(ask(on.addr(), "y"), "good y");
    logged(&on, &format!("200 {gone}, {0}\n200 {0}\n", good.addr));

    let off = Proxy::start(&text("off"));
    Talker::new(off.addr()).send("x");
    logged(&off, &format!("502 {gone}\n"));
    // It is out for a while, as nginx has it.
    assert_eq!(ask(off.addr(), "y"), "good y");
}

#[test]
fn server_that_goes_away_costs_a_session_and_not_its_client() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (other, good) = (socket.try_clone().unwrap(), Server::named("good"));
    let proxy = Proxy::start(&stream(&format!(
        "upstream app {{ server {}; server {} backup; }}
         server {{ listen 127.0.0.1:1 udp; proxy_pass app; }}",
        socket.local_addr().unwrap(),
        good.addr
    )));
    let client = Talker::new(proxy.addr());
    client.send("x");
    let (_, session) = other.recv_from(&mut [0]).unwrap();
    other.send_to(b"first", session).unwrap();
    assert_eq!(client.hear(), "first");
    drop((socket, other));
    eventually("the other server answers", || {
        client.send("y");
        !client.hears_nothing()
    });
}

#[test]
fn hash_of_the_address_leads_all_ports_of_a_client_to_one_server() {
    let servers = [Server::named("a"), Server::named("b"), Server::named("c")];
    let listed: String = servers.iter().map(|server| format!("server {};", server.addr)).collect();
    for method in ["hash $remote_addr", "hash $remote_addr consistent"] {
        let proxy = Proxy::start(&stream(&format!(
            "upstream app {{ {method}; {listed} }} server {{ listen 127.0.0.1:1 udp; proxy_pass app; }}"
        )));
        let first = ask(proxy.addr(), "x");
        for _ in 0..10 {
            assert_eq!(ask(proxy.addr(), "x"), first);
        }
    }
}

#[test]
fn least_conn_counts_sessions_and_a_session_that_is_over_no_more() {
    let (one, two) = (Server::named("a"), Server::named("b"));
    let proxy = Proxy::start(&stream(&format!(
        "upstream app {{ least_conn; server {}; server {}; }}
         server {{ listen 127.0.0.1:1 udp; proxy_timeout 1s; proxy_pass app; }}",
        one.addr, two.addr
    )));
    let clients: Vec<Talker> = (0..6).map(|_| Talker::new(proxy.addr())).collect();
    clients.iter().for_each(|client| _ = client.ask("x"));
    assert_eq!((one.heard(), two.heard()), (3, 3));
    let key = ServiceKey::name("stream/app");
    let active = || -> u32 {
        let stats = proxy.daemon.director().stats();
        let app = stats.into_iter().find(|service| service.config.key == key).unwrap();
        app.servers.iter().map(|server| server.load.active).sum()
    };
    assert_eq!(active(), 6);
    eventually("all are over", || active() == 0);
}

#[test]
fn reload_keeps_sessions_and_serves_new_clients_by_the_new_file() {
    let server = Server::showing_ports();
    let text = |more: &str| {
        let addr = server.addr;
        stream(&format!("server {{ listen 127.0.0.1:1 udp; proxy_pass {addr}; {more} }}"))
    };
    let proxy = Proxy::start(&text(""));
    let client = Talker::new(proxy.addr());
    let port = client.ask("x");
    for turn in 0..3 {
        proxy.reload(&text(&format!("proxy_timeout {}s;", turn + 60)));
        assert_eq!(client.ask("x"), port);
    }
    proxy.reload(&text("deny all;"));
    assert_eq!(client.ask("x"), port, "as a connection, it goes on");
    Talker::new(proxy.addr()).send("x");
    assert_eq!(client.ask("x"), port);
    assert!(server.clients.lock().unwrap().iter().all(|one| one.port().to_string() == port));
}

#[test]
fn reload_that_leads_elsewhere_moves_clients_with_their_next_datagram() {
    let (one, two) = (Server::named("a"), Server::named("b"));
    let text = |name: &str, server: &Server| {
        stream(&format!(
            "upstream {name} {{ server {}; }} server {{ listen 127.0.0.1:1 udp; proxy_pass {name}; }}",
            server.addr
        ))
    };
    let proxy = Proxy::start(&text("app", &one));
    let client = Talker::new(proxy.addr());
    assert_eq!(client.ask("1"), "a 1");
    proxy.reload(&text("app", &two));
    assert_eq!(client.ask("2"), "b 2");
    proxy.reload(&text("other", &one));
    assert_eq!(client.ask("3"), "a 3");
    proxy.reload(&stream("server { listen 127.0.0.1:1 udp; return bye; }"));
    assert_eq!(client.ask("4"), "bye");
}

#[test]
fn answer_that_is_awaited_still_comes_while_the_proxy_ends() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(&stream(&format!(
        "access_log log line; server {{ listen 127.0.0.1:1 udp; proxy_responses 1; proxy_pass {}; }}",
        socket.local_addr().unwrap()
    )));
    let client = Talker::new(proxy.addr());
    client.send("x");
    let (_, session) = socket.recv_from(&mut [0]).unwrap();
    std::thread::scope(|threads| {
        let ended = threads.spawn(|| proxy.shut_down(Duration::from_secs(10)));
        eventually("it listens no more", || proxy.daemon.addresses().is_empty());
        socket.send_to(b"late", session).unwrap();
        assert_eq!(client.hear(), "late");
        assert!(ended.join().unwrap());
    });
    logged(&proxy, "200\n");
}
