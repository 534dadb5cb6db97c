//! What Prometheus would read, read as strictly.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};

use l4_proxy::daemon::{Daemon, Options};
use lvs_core::{Algorithm, Config, ServerConfig, ServiceConfig, ServiceKey};

use crate::support::{accept, connect, eventually, free_port, listener};

/// Sends a request as it stands; returns the status line and headers, and the body.
fn ask(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).expect("open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
    (head.to_owned(), body.to_owned())
}

pub(crate) fn scrape(address: SocketAddr, query: &str) -> BTreeMap<String, f64> {
    let (head, body) = ask(address, &format!("GET /metrics{query} HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    parse(&body)
}

/// Samples by name and labels. Panics at anything that is not of the format: each family once, with its
/// help and type before its samples, each series once.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let (mut families, mut family, mut helped) = (HashSet::new(), String::new(), String::new());
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            helped = help.split_once(' ').expect("a help text").0.to_owned();
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type");
            assert!(families.insert(name.to_owned()), "{name} comes twice");
            assert_eq!(name, helped, "a type without its help");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert!(["counter", "gauge"].contains(&kind));
            family = name.to_owned();
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a sample");
        let name = series.split('{').next().expect("a name");
        assert_eq!(name, family, "a sample outside of its family: {line}");
        if let Some(labels) = series.strip_prefix(name).filter(|labels| !labels.is_empty()) {
            let labels = labels.strip_prefix('{').and_then(|labels| labels.strip_suffix("\"}")).expect(line);
            for label in labels.split("\",") {
                let (label, value) = label.split_once("=\"").expect(line);
                assert!(label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
                assert!(!value.contains('"'), "{line}");
            }
        }
        let value = value.parse().expect(line);
        assert!(samples.insert(series.to_owned(), value).is_none(), "{series} comes twice");
    }
    samples
}

fn start(services: Vec<ServiceConfig>, metrics: SocketAddr) -> Daemon {
    let options = Options { workers: 2, probes: None, metrics: Some(metrics), ..Options::default() };
    Daemon::start(options, Config { services }).expect("a valid configuration")
}

#[test]
fn what_was_carried_is_told() {
    let (server, server_address) = listener();
    let answering = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let answering_address = answering.local_addr().expect("bound");
    let (web, dns, metrics) = (free_port(), free_port(), free_port());
    let _director = start(
        vec![
            ServiceConfig::new(ServiceKey::tcp(web), Algorithm::Rr).server(ServerConfig::new(server_address)),
            ServiceConfig::new(ServiceKey::udp(dns), Algorithm::Rr)
                .server(ServerConfig::new(answering_address)),
        ],
        metrics,
    );
    let (mut client, mut served) = (connect(web), accept(&server));
    client.write_all(b"12345").expect("open");
    served.read_exact(&mut [0; 5]).expect("open");
    served.write_all(b"123").expect("open");
    client.read_exact(&mut [0; 3]).expect("open");
    let asking = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    asking.send_to(b"1234567", dns).expect("open");
    answering.recv(&mut [0; 16]).expect("a datagram");

    let at = |name: &str, vip: SocketAddr, protocol: &str, more: &str| {
        format!(
            "{name}{{local_address=\"127.0.0.1\",local_port=\"{}\",proto=\"{protocol}\",local_mark=\"\"{more}}}",
            vip.port()
        )
    };
    let remote =
        |server: SocketAddr| format!(",remote_address=\"127.0.0.1\",remote_port=\"{}\"", server.port());
    eventually("everything is counted", || {
        let samples = scrape(metrics, "");
        let value = |series: String| samples.get(&series).copied();
        let of_web = |name: &str| value(at(name, web, "TCP", &remote(server_address)));
        let of_dns = |name: &str| value(at(name, dns, "UDP", &remote(answering_address)));
        value("lvs_connections_open".to_owned()) == Some(1.0)
            && value("lvs_flows_open".to_owned()) == Some(1.0)
            && of_web("lvs_server_incoming_bytes_total") == Some(5.0)
            && of_web("lvs_server_outgoing_bytes_total") == Some(3.0)
            && of_web("lvs_server_connections_active") == Some(1.0)
            && of_web("lvs_server_incoming_packets_total").is_none()
            && of_dns("lvs_server_incoming_bytes_total") == Some(7.0)
            && of_dns("lvs_server_incoming_packets_total") == Some(1.0)
            && of_dns("lvs_server_connections_inactive") == Some(1.0)
            && value(at("lvs_service_connections_total", web, "TCP", "")) == Some(1.0)
            && value(at("lvs_server_status", web, "TCP", &(remote(server_address) + ",state=\"up\"")))
                == Some(1.0)
            && value(at("lvs_server_status", web, "TCP", &(remote(server_address) + ",state=\"down\"")))
                == Some(0.0)
    });
    let own = scrape(metrics, "");
    assert!(own["process_open_fds"] > 3.0 && own["process_resident_memory_bytes"] > 1e6);
    assert!(!own.contains_key("node_ipvs_connections_total"));
    let compatible = scrape(metrics, "?compat=node_ipvs");
    assert_eq!(compatible["node_ipvs_connections_total"], 2.0);
    assert_eq!(compatible[&at("node_ipvs_backend_weight", web, "TCP", &remote(server_address))], 1.0);
}

#[test]
fn series_grow_with_the_servers_and_with_nothing_else() {
    let (vip, metrics) = (free_port(), free_port());
    let servers = |count: u16| {
        (0..count).map(|number| SocketAddr::from(([10, 1, (number >> 8) as u8, number as u8], 80)))
    };
    let service = |count| {
        let service = ServiceConfig::new(ServiceKey::tcp(vip), Algorithm::Rr);
        servers(count).fold(service, |service, server| service.server(ServerConfig::new(server)))
    };
    let director = start(vec![service(1)], metrics);
    let one = scrape(metrics, "").len();
    director.reload(Config { services: vec![service(1000)] }).expect("valid");
    let thousand = scrape(metrics, "").len();
    // Seven families, and five states.
    assert_eq!(thousand - one, 999 * (7 + 5));
}

#[test]
fn what_is_no_scrape_gets_its_answer_too() {
    let metrics = free_port();
    let _director = start(Vec::new(), metrics);
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        ("GET /metrics\r\n\r\n", "400 Bad Request"),
        ("\u{1}\u{2} \r\n\r\n", "400 Bad Request"),
        ("HEAD /metrics HTTP/1.0\r\n\r\n", "200 OK"),
    ] {
        let (head, _) = ask(metrics, request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:?}: {head}");
    }
    let endless = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(20_000));
    let (head, _) = ask(metrics, &endless);
    assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
    // Whoever says nothing holds one place of several.
    let silent: Vec<TcpStream> = (0..8).map(|_| connect(metrics)).collect();
    assert!(!scrape(metrics, "").is_empty());
    silent.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
}
