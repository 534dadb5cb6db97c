//! Hashes beside a running nginx: for every key the same server, or a site that changes over would
//! lose its caches.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lvs_core::{Algorithm, Config, Director, Flow, ServerConfig, ServiceConfig, ServiceKey, Time, Weight};

use crate::programs::{Program, accepts, eventually, free_ports, peer};

const NGINX: &str = "/usr/sbin/nginx";

/// Servers 1 to 5 on addresses of loopback, by weight.
const WEIGHTS: [u32; 5] = [3, 1, 2, 1, 5];

const KEYS: u32 = 300;

/// A server of the pool; all listen on one port.
fn server(n: usize, port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(127, 0, 0, 10 + n as u8), port))
}

/// Which of the servers are up: a server that is down is stepped over, and nginx's way of stepping
/// over is part of the algorithm.
fn is_up(n: usize) -> bool {
    n != 2
}

fn director(algorithm: Algorithm, port: u16) -> (Director, ServiceKey) {
    let key = ServiceKey::name("pool");
    let servers = WEIGHTS.iter().enumerate().map(|(n, weight)| {
        ServerConfig::new(server(n, port)).weight(Weight::new(*weight).expect("a weight"))
    });
    let service = servers.fold(ServiceConfig::new(key.clone(), algorithm), ServiceConfig::server);
    let director = Director::new();
    director.apply(Config { services: vec![service] }).expect("a valid service");
    (director, key)
}

/// nginx as balancer and as every server. One location for each balancing method; a server answers
/// with its own address.
fn configuration(directory: &Path, front: u16, port: u16) -> String {
    let mut text = format!(
        "daemon off; master_process off; pid {0}/pid; error_log {0}/error.log;\n\
         events {{}}\nhttp {{ access_log off; client_body_temp_path {0}/b; proxy_temp_path {0}/p;\n\
         fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n\
         set_real_ip_from 127.0.0.0/8; real_ip_header X-Client;\n",
        directory.display()
    );
    for (name, method) in
        [("ring", "hash $arg_k consistent"), ("plain", "hash $arg_k"), ("client", "ip_hash")]
    {
        write!(text, "upstream {name} {{ {method};").expect("room");
        for (n, weight) in WEIGHTS.iter().enumerate() {
            // One failure rules a server out for the rest of the test.
            let rule = "max_fails=1 fail_timeout=1h";
            write!(text, " server {} weight={weight} {rule};", server(n, port)).expect("room");
        }
        text.push_str(" }\n");
    }
    write!(text, "server {{ listen 127.0.0.1:{front};").expect("room");
    for name in ["ring", "plain", "client"] {
        write!(text, " location /{name} {{ proxy_pass http://{name}; }}").expect("room");
    }
    text.push_str(" }\n");
    for n in (0..WEIGHTS.len()).filter(|n| is_up(*n)) {
        let address = server(n, port);
        writeln!(text, "server {{ listen {address}; return 200 $server_addr:$server_port; }}").expect("room");
    }
    text + "}\n"
}

/// The server that answered.
fn ask(front: u16, path: &str, client: Ipv4Addr) -> SocketAddr {
    let mut stream = TcpStream::connect(("127.0.0.1", front)).expect("nginx accepts");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.0\r\nX-Client: {client}\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let body = answer.rsplit("\r\n\r\n").next().unwrap_or_default();
    body.parse().unwrap_or_else(|_| panic!("not an address: {answer}"))
}

#[test]
fn same_server_as_nginx_for_every_key_and_client() {
    if !peer("nginx", NGINX) {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let [front, port] = free_ports();
    let file = directory.path().join("nginx.conf");
    std::fs::write(&file, configuration(directory.path(), front, port)).expect("room for it");
    let _nginx = Program::start(Command::new(NGINX).arg("-p").arg(directory.path()).arg("-c").arg(&file));
    eventually("nginx listens", || accepts(front));

    let cases =
        [("ring", Algorithm::HashConsistent), ("plain", Algorithm::Hash), ("client", Algorithm::IpHash)];
    for (name, algorithm) in cases {
        let (director, service) = director(algorithm, port);
        let down = server(2, port);
        for number in 0..KEYS {
            let client = Ipv4Addr::from(0x0a01_0203_u32.wrapping_add(number * 77_773));
            let key = format!("key-{number}");
            let flow = Flow::new(SocketAddr::from((client, 40_000))).key(key.as_bytes());
            let ours = director.schedule_except(&service, &flow, &[down], Time::ZERO).expect("a server");
            let theirs = ask(front, &format!("/{name}?k={key}"), client);
            assert_eq!(ours.server(), theirs, "{name}, {key} of {client}");
        }
    }
}
