//! Clients that go without a packet: their cable is cut, and neither an end nor a reset ever comes.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use lab::Hosts;
use rustix::process::Signal;

use crate::http2_peer::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, SETTINGS, block, get};
use crate::peer::{Client, Origin, Visit, eventually};
use crate::program::{Running, Site};

/// One point at which a client vanishes.
struct Row {
    name: &'static str,
    /// What the location says, beside `proxy_pass`.
    location: &'static str,
    /// What the client does before, on a connection that lasts until the end; the path is the row's.
    client: fn(SocketAddr, &str) -> Box<dyn Send>,
    /// Status, the servers' statuses, and bytes of body, in the log of requests; nothing where there is no
    /// request yet.
    access: &'static str,
}

const ROWS: &[Row] = &[
    Row { name: "idle", location: "", client: idle, access: "200 200 5" },
    Row { name: "within its head", location: "", client: within_its_head, access: "408 - 0" },
    Row { name: "within its body", location: "", client: within_its_body, access: "408 - 0" },
    Row {
        name: "within a body that streams",
        location: "proxy_request_buffering off;",
        client: within_its_body,
        access: "408 - 0",
    },
    Row { name: "before its answer", location: "", client: before_its_answer, access: "200 200 4" },
    Row { name: "within its answer", location: "", client: within_its_answer, access: "200 200 *" },
    Row { name: "http2 idle", location: "", client: http2_idle, access: "200 200 5" },
    Row { name: "http2 within its head", location: "", client: http2_within_its_head, access: "" },
    Row { name: "http2 within its body", location: "", client: http2_within_its_body, access: "408 - 0" },
    Row {
        name: "http2 before its answer",
        location: "",
        client: http2_before_its_answer,
        access: "200 200 4",
    },
    Row {
        name: "http2 within its answer",
        location: "",
        client: http2_within_its_answer,
        access: "200 200 *",
    },
];

/// Answers by what the path says.
fn answer(visit: &mut Visit) -> std::io::Result<()> {
    let head = visit.request()?;
    if head.contains("before-its-answer") {
        // By then the cable is cut.
        std::thread::sleep(Duration::from_millis(1500));
        return visit.reply("", "late");
    }
    if head.contains("within-its-answer") {
        visit.write("HTTP/1.1 200 OK\r\n\r\n")?;
        while visit.write([b'x'; 65536]).is_ok() {}
        return Ok(());
    }
    if head.starts_with("POST") {
        return visit.peer.rest().map(drop);
    }
    visit.reply("", "hello")
}

fn ask(addr: SocketAddr, path: &str) -> Client {
    let mut client = Client::connect(addr);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client
}

fn idle(addr: SocketAddr, path: &str) -> Box<dyn Send> {
    let mut client = ask(addr, path);
    assert_eq!(client.response().text(), "hello");
    Box::new(client)
}

fn within_its_head(addr: SocketAddr, path: &str) -> Box<dyn Send> {
    let mut client = Client::connect(addr);
    client.send(format!("GET {path} HTTP/1.1\r\nHo"));
    Box::new(client)
}

fn within_its_body(addr: SocketAddr, path: &str) -> Box<dyn Send> {
    let mut client = Client::connect(addr);
    client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf:"));
    Box::new(client)
}

fn before_its_answer(addr: SocketAddr, path: &str) -> Box<dyn Send> {
    Box::new(ask(addr, path))
}

fn within_its_answer(addr: SocketAddr, path: &str) -> Box<dyn Send> {
    let mut client = ask(addr, path);
    client.exactly(100_000).unwrap();
    Box::new(client)
}

fn http2(addr: SocketAddr, flags: u8, head: &[u8]) -> Frames {
    let mut frames = Frames::connect(addr);
    // Streams begin with a window of 16 MiB, and so does the connection: nothing but the cable is in the way.
    frames.send(SETTINGS, 0, 0, &[0, 4, 1, 0, 0, 0]).unwrap();
    frames.send(crate::http2_peer::WINDOW_UPDATE, 0, 0, &(1_u32 << 24).to_be_bytes()).unwrap();
    frames.send(HEADERS, END_HEADERS | flags, 1, head).unwrap();
    frames
}

fn http2_idle(addr: SocketAddr, path: &str) -> Box<dyn Send> {
    let mut frames = http2(addr, END_STREAM, &get(path));
    assert_eq!(frames.next_of(DATA).unwrap().payload, b"hello");
    Box::new(frames)
}

fn http2_within_its_head(addr: SocketAddr, path: &str) -> Box<dyn Send> {
    let mut frames = Frames::connect(addr);
    let head = crate::http2_peer::frame(HEADERS, END_HEADERS | END_STREAM, 1, &get(path));
    frames.stream.write_all(&head[..head.len() - 3]).unwrap();
    Box::new(frames)
}

fn http2_within_its_body(addr: SocketAddr, path: &str) -> Box<dyn Send> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", path),
        ("content-length", "10"),
    ];
    let mut frames = http2(addr, 0, &block(&fields));
    frames.send(DATA, 0, 1, b"half:").unwrap();
    Box::new(frames)
}

fn http2_before_its_answer(addr: SocketAddr, path: &str) -> Box<dyn Send> {
    Box::new(http2(addr, END_STREAM, &get(path)))
}

fn http2_within_its_answer(addr: SocketAddr, path: &str) -> Box<dyn Send> {
    let mut frames = http2(addr, END_STREAM, &get(path));
    frames.next_of(DATA).unwrap();
    Box::new(frames)
}

fn path(row: &Row) -> String {
    format!("/{}/", row.name.replace(' ', "-"))
}

const PROXY: usize = 1;
const CLIENT: usize = 2;

#[test]
fn client_that_vanishes_without_a_packet_holds_nothing_for_long() {
    let Some(hosts) = Hosts::on_a_bridge(2) else { return };
    hosts.run(PROXY, &["address", "add", "10.9.0.1/24", "dev", "eth0"]);
    hosts.run(CLIENT, &["address", "add", "10.9.0.2/24", "dev", "eth0"]);
    let origin = hosts.within(PROXY, || Origin::start(answer));
    let site = Site::new("");
    let locations: String = ROWS
        .iter()
        .map(|row| {
            format!("location {} {{ proxy_pass http://{}; {} }}\n", path(row), origin.addr, row.location)
        })
        .collect();
    site.write_whole(&format!(
        "pid l7.pid; error_log error.log info; worker_processes 1; events {{}}
         http {{ log_format row '$uri $status $upstream_status $body_bytes_sent'; access_log access.log row;
         client_header_timeout 1s; client_body_timeout 1s; send_timeout 1s; keepalive_timeout 1s;
         server {{ listen 10.9.0.1:8080; http2 on; {locations} }}
         server {{ listen 127.0.0.1:8081; location / {{ stub_status; }} }} }}"
    ));
    let mut program = hosts.command(PROXY, env!("CARGO_BIN_EXE_l7-proxy"));
    program.arg("-p").arg(site.path("")).stderr(Stdio::piped());
    let mut running = Running { child: program.spawn().unwrap() };
    eventually("it runs", || !site.read("l7.pid").is_empty());
    let addr = SocketAddr::from(([10, 9, 0, 1], 8080));
    let clients: Vec<_> =
        hosts.within(CLIENT, || ROWS.iter().map(|row| (row.client)(addr, &path(row))).collect());
    hosts.cable(CLIENT, "down");
    let status = || {
        hosts.within(PROXY, || {
            Client::connect(SocketAddr::from(([127, 0, 0, 1], 8081))).get("/").text().to_owned()
        })
    };
    // It and the origin's connections are all that is left: no client is held, and no server for one.
    eventually("nobody is served any more", || status().starts_with("Active connections: 1 \n"));
    running.signal(Signal::QUIT);
    assert_eq!(running.end(), 0);
    let access = site.read("access.log");
    for row in ROWS {
        let start = format!("{} ", path(row));
        let lines: Vec<&str> = access.lines().filter_map(|line| line.strip_prefix(&start)).collect();
        let is_so = match (row.access, &*lines) {
            ("", []) => true,
            (wanted, [line]) => {
                wanted.strip_suffix('*').map_or(wanted == *line, |wanted| line.starts_with(wanted))
            }
            _ => false,
        };
        assert!(is_so, "{}: {lines:?}, not {:?}", row.name, row.access);
    }
    assert_eq!(site.read("error.log").lines().filter(|line| line.contains("[error]")).count(), 0);
    drop(clients);
}
