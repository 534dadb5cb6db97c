//! `stream {}` over UDP: sessions by client, as nginx has them, and what becomes of them.

mod sessions;
mod upgrade;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::names::Dnsmasq;
use crate::peer::{Client, Proxy, eventually};
use crate::secure::has;

/// Longer than anything on loopback takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Long enough that what has not come does not come.
const MOMENT: Duration = Duration::from_millis(300);

fn stream(content: &str) -> String {
    format!("events {{}} stream {{ log_format line $status; {content} }}")
}

/// A client: an address and a port.
struct Talker {
    socket: UdpSocket,
}

impl Talker {
    fn new(proxy: SocketAddr) -> Talker {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(proxy).unwrap();
        Talker { socket }
    }

    fn send(&self, words: &str) {
        self.socket.send(words.as_bytes()).unwrap();
    }

    /// Says something and returns what comes next.
    #[track_caller]
    fn ask(&self, words: &str) -> String {
        self.send(words);
        self.hear()
    }

    #[track_caller]
    fn hear(&self) -> String {
        let mut buffer = [0; 65_536];
        let count = self.socket.recv(&mut buffer).expect("an answer");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    fn hears_nothing(&self) -> bool {
        self.socket.set_read_timeout(Some(MOMENT)).unwrap();
        let heard = self.socket.recv(&mut [0; 1]);
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        heard.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }
}

/// Asks from a port of its own.
fn ask(proxy: SocketAddr, words: &str) -> String {
    Talker::new(proxy).ask(words)
}

/// Answers each datagram as its script says; ends when dropped.
struct Server {
    addr: SocketAddr,
    heard: Arc<AtomicUsize>,
    clients: Arc<Mutex<Vec<SocketAddr>>>,
    over: Arc<AtomicBool>,
}

impl Server {
    /// Runs `script` for each datagram; each of what it returns is an answer.
    fn start(script: impl Fn(&str, SocketAddr) -> Vec<String> + Send + 'static) -> Server {
        Server::on(UdpSocket::bind("127.0.0.1:0").unwrap(), script)
    }

    fn on(socket: UdpSocket, script: impl Fn(&str, SocketAddr) -> Vec<String> + Send + 'static) -> Server {
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let server = Server {
            addr: socket.local_addr().unwrap(),
            heard: Arc::default(),
            clients: Arc::default(),
            over: Arc::default(),
        };
        let (heard, clients) = (Arc::clone(&server.heard), Arc::clone(&server.clients));
        let over = Arc::clone(&server.over);
        std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while !over.load(Ordering::SeqCst) {
                let Ok((count, client)) = socket.recv_from(&mut buffer) else { continue };
                heard.fetch_add(1, Ordering::SeqCst);
                clients.lock().unwrap().push(client);
                for answer in script(&String::from_utf8_lossy(&buffer[..count]), client) {
                    // Whoever asked may be gone.
                    let _ = socket.send_to(answer.as_bytes(), client);
                }
            }
        });
        server
    }

    /// Answers with its name and what it was told.
    fn named(name: &'static str) -> Server {
        Server::start(move |words, _| vec![format!("{name} {words}")])
    }

    /// Answers with the port that it was asked from.
    fn showing_ports() -> Server {
        Server::start(|_, client| vec![client.port().to_string()])
    }

    fn silent() -> Server {
        Server::start(|_, _| Vec::new())
    }

    fn heard(&self) -> usize {
        self.heard.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// An address that nobody else uses, so that any port of it is free.
fn own_ip() -> Ipv4Addr {
    static GIVEN: AtomicU8 = AtomicU8::new(200);
    let [low, high, ..] = std::process::id().to_le_bytes();
    Ipv4Addr::new(127, high | 2, low, GIVEN.fetch_add(1, Ordering::SeqCst))
}

/// Waits until the log of a proxy is this.
#[track_caller]
fn logged(proxy: &Proxy, expected: &str) {
    eventually(&format!("the log is {expected:?}"), || proxy.log("log") == expected);
}

#[test]
fn datagram_is_answered_with_what_return_says() {
    let proxy = Proxy::start(&stream(
        "log_format more '$protocol $status $bytes_received $bytes_sent'; access_log log more;
         server { listen 127.0.0.1:1 udp; return \"$protocol $bytes_received\"; }",
    ));
    assert_eq!(ask(proxy.addr(), "words"), "UDP 5");
    logged(&proxy, "UDP 200 5 5\n");
}

#[test]
fn connections_and_datagrams_share_an_address() {
    let addr = SocketAddr::from((own_ip(), 8080));
    let _proxy = Proxy::start(&stream(&format!(
        "server {{ listen {addr} udp; return udp; }} server {{ listen {addr}; return tcp; }}"
    )));
    assert_eq!(ask(addr, "x"), "udp");
    let mut client = Client::connect(addr);
    client.finish();
    assert_eq!(client.rest().unwrap(), b"tcp");
}

#[test]
fn every_port_of_a_range_is_served() {
    let ip = own_ip();
    let proxy = Proxy::start(&format!(
        "events {{}} http {{ access_log off; server {{ listen {ip}:8080-8081; return 200 $server_port; }} }}
         stream {{ server {{ listen {ip}:8080-8082 udp; return $server_port; }} }}"
    ));
    for port in 8080..=8082 {
        assert_eq!(ask(SocketAddr::from((ip, port)), "x"), port.to_string());
    }
    for port in 8080..=8081 {
        assert_eq!(Client::connect(SocketAddr::from((ip, port))).get("/").text(), port.to_string());
    }
    assert_eq!(proxy.daemon.addresses().len(), 5);
}

#[test]
fn answer_comes_from_the_address_that_was_asked() {
    let server = Server::named("a");
    let proxy = Proxy::start(&stream(&format!("server {{ listen 1 udp; proxy_pass {}; }}", server.addr)));
    for ip in [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)] {
        // A connected socket hears of nobody else.
        assert_eq!(ask(SocketAddr::from((ip, proxy.addr().port())), "x"), "a x");
    }
    let [one, two] = server.clients.lock().unwrap()[..] else { panic!("two sessions") };
    assert_ne!(one, two);
}

#[test]
fn client_that_is_denied_or_one_too_many_gets_nothing_and_is_logged() {
    let server = Server::named("a");
    let proxy = Proxy::start(&stream(&format!(
        "access_log log line; server {{ listen 127.0.0.1:1 udp; deny all; proxy_pass {}; }}",
        server.addr
    )));
    let client = Talker::new(proxy.addr());
    client.send("x");
    client.send("y");
    logged(&proxy, "403\n403\n");

    let proxy = Proxy::start(&stream(&format!(
        "access_log log line; limit_conn_zone $binary_remote_addr zone=one:1m;
         server {{ listen 127.0.0.1:1 udp; limit_conn one 1; proxy_responses 2; proxy_pass {}; }}",
        server.addr
    )));
    let first = Talker::new(proxy.addr());
    assert_eq!(first.ask("1"), "a 1");
    Talker::new(proxy.addr()).send("x");
    logged(&proxy, "503\n");
    assert_eq!(first.ask("2"), "a 2");
    assert_eq!(server.heard(), 2);
}

#[test]
fn client_without_room_is_dropped_and_there_is_room_again() {
    let server = Server::named("a");
    let proxy = Proxy::start(&format!(
        "events {{ worker_connections 2; }} stream {{
         server {{ listen 127.0.0.1:1 udp; proxy_timeout 1s; proxy_pass {}; }} }}",
        server.addr
    ));
    let (one, two, three) = (Talker::new(proxy.addr()), Talker::new(proxy.addr()), Talker::new(proxy.addr()));
    assert_eq!(one.ask("1"), "a 1");
    assert_eq!(two.ask("2"), "a 2");
    three.send("3");
    assert!(three.hears_nothing());
    assert_eq!(two.ask("4"), "a 4");
    eventually("there is room again", || {
        three.send("5");
        !three.hears_nothing()
    });
}

#[test]
fn header_of_the_proxy_protocol_stands_before_the_first_datagram_only() {
    let server = Server::named("a");
    let proxy = Proxy::start(&stream(&format!(
        "server {{ listen 127.0.0.1:1 udp; proxy_protocol on; proxy_pass {}; }}",
        server.addr
    )));
    let client = Talker::new(proxy.addr());
    let (own, port) = (client.socket.local_addr().unwrap().port(), proxy.addr().port());
    assert_eq!(client.ask("x"), format!("a PROXY TCP4 127.0.0.1 127.0.0.1 {own} {port}\r\nx"));
    assert_eq!(client.ask("y"), "a y");
}

#[test]
fn server_is_asked_from_the_address_of_proxy_bind() {
    let server = Server::start(|_, client| vec![client.ip().to_string()]);
    let proxy = Proxy::start(&stream(&format!(
        "server {{ listen 127.0.0.1:1 udp; proxy_bind 127.0.0.9; proxy_pass {}; }}",
        server.addr
    )));
    assert_eq!(ask(proxy.addr(), "x"), "127.0.0.9");
}

#[test]
fn server_may_be_computed_and_nothing_that_comes_meanwhile_is_lost() {
    let server = Server::named("a");
    let proxy = Proxy::start(&stream(&format!(
        "access_log log line; map $remote_addr $where {{ 127.0.0.1 {}; default nowhere; }}
         server {{ listen 127.0.0.1:1 udp; proxy_pass $where; }}",
        server.addr
    )));
    let client = Talker::new(proxy.addr());
    ["1", "2", "3"].iter().for_each(|words| client.send(words));
    assert_eq!([client.hear(), client.hear(), client.hear()], ["a 1", "a 2", "a 3"]);
    assert_eq!(server.clients.lock().unwrap().iter().collect::<std::collections::HashSet<_>>().len(), 1);
    let elsewhere = UdpSocket::bind("127.0.0.7:0").unwrap();
    elsewhere.send_to(b"x", proxy.addr()).unwrap();
    logged(&proxy, "500\n");
}

#[test]
fn empty_datagram_is_one_and_a_large_one_is_whole() {
    let server = Server::start(|words, _| vec![words.to_owned()]);
    let proxy = Proxy::start(&stream(&format!(
        "access_log log line; server {{ listen 127.0.0.1:1 udp; proxy_responses 1; proxy_pass {}; }}",
        server.addr
    )));
    assert_eq!(ask(proxy.addr(), ""), "");
    let large = "0123456789".repeat(6_000);
    assert!(ask(proxy.addr(), &large) == large);
    logged(&proxy, "200\n200\n");
}

#[test]
fn path_of_a_socket_is_a_server_that_does_not_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let proxy = Proxy::start(&stream(&format!(
        "server {{ listen 127.0.0.1:1 udp; proxy_responses 0; proxy_pass unix:{}; }}",
        path.display()
    )));
    Talker::new(proxy.addr()).send("<13>hello");
    let mut buffer = [0; 32];
    let count = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"<13>hello");
}

#[test]
fn rate_of_answers_is_kept() {
    let server = Server::start(|_, _| vec!["x".repeat(100), "y".repeat(100)]);
    let proxy = Proxy::start(&stream(&format!(
        "server {{ listen 127.0.0.1:1 udp; proxy_download_rate 200; proxy_pass {}; }}",
        server.addr
    )));
    let client = Talker::new(proxy.addr());
    let began = std::time::Instant::now();
    client.ask("x");
    client.hear();
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
}

#[test]
fn dig_is_answered_by_a_name_server_behind_it() {
    let Some(name_server) = Dnsmasq::start(&["--address=/a.example/192.0.2.7", "--address=/b.example/::7"])
    else {
        return;
    };
    if !has("dig") {
        return;
    }
    let ip = own_ip();
    let proxy = Proxy::start_workers(
        &stream(&format!(
            "upstream names {{ server {0}; }}
             server {{ listen {ip}:5300 udp reuseport; access_log log line; proxy_responses 1;
               proxy_pass names; }}
             server {{ listen {ip}:5300; proxy_pass names; }}",
            name_server.addr
        )),
        2,
    );
    let dig = |words: &[&str]| {
        let mut dig = Command::new("dig");
        dig.args([&format!("@{ip}"), "-p", "5300", "+short", "+time=5", "+tries=2"]).args(words);
        String::from_utf8(dig.output().unwrap().stdout).unwrap()
    };
    for _ in 0..10 {
        assert_eq!(dig(&["a.example", "A"]), "192.0.2.7\n");
        assert_eq!(dig(&["b.example", "AAAA"]), "::7\n");
    }
    assert_eq!(dig(&["+tcp", "a.example", "A"]), "192.0.2.7\n");
    logged(&proxy, &"200\n".repeat(20));
}

#[test]
fn fault_of_a_datagram_server_is_named_as_nginx_names_it() {
    let refused = |content: &str| {
        let text = format!("events {{}} stream {{ server {{ {content} return x; }} }}");
        let error = l7_proxy::conf::parse(&text, "/".as_ref()).unwrap_err();
        error.message().to_owned()
    };
    for word in ["ssl", "proxy_protocol", "backlog=10", "so_keepalive=on", "fastopen=3", "deferred"] {
        let name = word.split('=').next().unwrap();
        let expected = format!("\"listen\" directive \"{name}\" parameter is incompatible with \"udp\"");
        assert_eq!(refused(&format!("listen 127.0.0.1:90 udp {word};")), expected);
    }
    for (content, expected) in [
        ("listen 127.0.0.1:90 udp bogus;", "invalid parameter \"bogus\""),
        (
            "listen 127.0.0.1:90-92 udp; listen 127.0.0.1:91 udp;",
            "duplicate \"127.0.0.1:91\" address and port pair",
        ),
        (
            "listen 127.0.0.1:92-90 udp;",
            "invalid port range in \"127.0.0.1:92-90\" of the \"listen\" directive",
        ),
        ("listen 127.0.0.1:90 udp; proxy_responses -1;", "\"proxy_responses\" directive invalid number"),
        ("listen 127.0.0.1:90 udp; proxy_requests x;", "\"proxy_requests\" directive invalid number"),
    ] {
        assert_eq!(refused(content), expected);
    }
}
