//! Every fault of a server and of a client, while the proxy just runs, reloads, changes its binary,
//! quits or stops: what the client gets, and what the logs say of it.
//!
//! All rows of the table are under way at once in one proxy. Each waits at its fault until the event
//! is over; so a row says what becomes of a request that was at this very point.

mod client;
mod http2;
mod server;
mod vanished;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::peer::{Origin, Proxy, eventually, forwarding, http};
use crate::program::{Running, Site};
use crate::upgrade::Heir;

/// One way for a request to go wrong.
struct Row {
    /// What goes wrong; the request's path, too.
    name: &'static str,
    /// What its location says, beside `proxy_pass`.
    location: &'static str,
    server: server::Play,
    client: client::Play,
    /// What the client gets.
    gets: &'static str,
    /// Status, the servers' statuses, and bytes of body, in the log of requests.
    access: &'static str,
    /// What the log of errors says, if anything; which is one line.
    error: &'static str,
}

const QUICK: &str = "proxy_read_timeout 300ms; proxy_send_timeout 300ms; proxy_connect_timeout 300ms;";

/// Requests of one server, which nobody else can answer.
const ROWS: &[Row] = &[
    Row {
        name: "server refuses",
        location: "",
        server: server::refuses,
        client: client::waits_after,
        gets: "502",
        access: "502 502 159",
        error: "connect() failed (111: Connection refused) while connecting to upstream",
    },
    Row {
        name: "server hangs in its handshake",
        location: QUICK,
        server: server::hangs_in_its_handshake,
        client: client::waits_after,
        gets: "504",
        access: "504 504 169",
        error: "upstream timed out (110: Connection timed out) while connecting to upstream",
    },
    Row {
        name: "server closes",
        location: "",
        server: server::closes,
        client: client::gets,
        gets: "502",
        access: "502 502 159",
        error: "upstream prematurely closed connection while reading response header from upstream",
    },
    Row {
        name: "server resets before its head",
        location: "",
        server: server::resets_before_its_head,
        client: client::gets,
        gets: "502",
        access: "502 502 159",
        error: "recv() failed (104: Connection reset by peer) while reading response header from upstream",
    },
    Row {
        name: "server resets within its head",
        location: "",
        server: server::resets_within_its_head,
        client: client::gets,
        gets: "502",
        access: "502 502 159",
        error: "recv() failed (104: Connection reset by peer) while reading response header from upstream",
    },
    Row {
        name: "server stalls before its head",
        location: QUICK,
        server: server::stalls_before_its_head,
        client: client::gets,
        gets: "504",
        access: "504 504 169",
        error: "upstream timed out (110: Connection timed out) while reading response header from upstream",
    },
    Row {
        name: "server stalls within its head",
        location: QUICK,
        server: server::stalls_within_its_head,
        client: client::gets,
        gets: "504",
        access: "504 504 169",
        error: "upstream timed out (110: Connection timed out) while reading response header from upstream",
    },
    Row {
        name: "server sends garbage",
        location: "",
        server: server::sends_garbage,
        client: client::gets,
        gets: "502",
        access: "502 502 159",
        error: "while reading response header from upstream",
    },
    Row {
        name: "server resets within a body of known length",
        location: "",
        server: server::resets_within_a_length,
        client: client::gets,
        gets: "200 cut after begin",
        access: "200 200 5",
        error: "while reading upstream",
    },
    Row {
        name: "server closes within a body of known length",
        location: "",
        server: server::closes_within_a_length,
        client: client::gets,
        gets: "200 cut after begin",
        access: "200 200 5",
        error: "upstream prematurely closed connection while reading upstream",
    },
    Row {
        name: "server resets within chunks",
        location: "",
        server: server::resets_within_chunks,
        client: client::gets,
        gets: "200 cut after begin",
        access: "200 200 5",
        error: "while reading upstream",
    },
    Row {
        name: "server closes within chunks",
        location: "",
        server: server::closes_within_chunks,
        client: client::gets,
        gets: "200 cut after begin",
        access: "200 200 5",
        error: "upstream prematurely closed connection while reading upstream",
    },
    Row {
        name: "server resets within a body up to the end",
        location: "",
        server: server::resets_within_the_rest,
        client: client::gets,
        gets: "200 cut after begin",
        access: "200 200 5",
        error: "while reading upstream",
    },
    Row {
        name: "server closes after a body up to the end",
        location: "",
        server: server::closes_after_the_rest,
        client: client::gets,
        gets: "200 begin",
        access: "200 200 5",
        error: "",
    },
    Row {
        name: "server stalls within its body",
        location: QUICK,
        server: server::stalls_within_its_body,
        client: client::gets,
        gets: "200 cut after begin",
        access: "200 200 5",
        error: "upstream timed out (110: Connection timed out) while reading upstream",
    },
    Row {
        name: "server answers before it has the request",
        location: "proxy_request_buffering off;",
        server: server::answers_early,
        client: client::posts_half,
        gets: "403 early",
        access: "403 403 5",
        error: "",
    },
    Row {
        name: "server closes a kept connection under a get",
        location: "",
        server: server::closes_a_kept_connection,
        client: client::gets_twice,
        gets: "200 again",
        access: "200 200 5",
        error: "",
    },
    Row {
        name: "server closes a kept connection under a post",
        location: "",
        server: server::closes_a_kept_connection,
        client: client::gets_and_posts,
        gets: "502",
        access: "502 502 159",
        error: "upstream prematurely closed connection while reading response header from upstream",
    },
    Row {
        name: "server is well",
        location: "",
        server: server::answers,
        client: client::gets,
        gets: "200 hello",
        access: "200 200 5",
        error: "",
    },
    Row {
        name: "client resets before its answer",
        location: "",
        server: server::waits_for_the_end,
        client: client::resets,
        gets: "",
        access: "499 - 0",
        error: "",
    },
    Row {
        name: "client closes before its answer",
        location: "",
        server: server::waits_for_the_end,
        client: client::closes,
        gets: "",
        access: "499 - 0",
        error: "",
    },
    Row {
        name: "client resets within its answer",
        location: "",
        server: server::sends_without_end,
        client: client::resets_within_its_answer,
        gets: "",
        access: "200 200 *",
        error: "",
    },
    Row {
        name: "client closes its side before its answer",
        location: "",
        server: server::waits_for_the_end,
        client: client::closes_its_side,
        // As in nginx: who says no more is taken for gone.
        gets: "nothing",
        access: "499 - 0",
        error: "",
    },
    Row {
        name: "client stalls within its body",
        location: "client_body_timeout 300ms;",
        server: server::answers,
        client: client::stalls_within_its_body,
        gets: "nothing",
        access: "408 - 0",
        error: "",
    },
    Row {
        name: "client stalls within a body that streams",
        location: "client_body_timeout 300ms; proxy_request_buffering off;",
        server: server::takes_a_body,
        client: client::stalls_within_its_body,
        gets: "nothing",
        access: "408 - 0",
        error: "",
    },
    Row {
        name: "client resets within its body",
        location: "proxy_request_buffering off;",
        server: server::takes_a_body,
        client: client::resets_within_its_body,
        gets: "",
        access: "400 - 0",
        error: "",
    },
    Row {
        name: "client stalls reading",
        location: "send_timeout 300ms;",
        server: server::sends_until_it_is_cut_off,
        client: client::stalls_reading,
        gets: "200 cut",
        access: "200 200 *",
        error: "",
    },
];

/// What the proxy goes through while all rows are at their fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Nothing,
    Reload,
    /// USR2, and QUIT for the old process.
    Upgrade,
    Quit,
    Term,
}

/// Where rows wait for the event.
#[derive(Default)]
struct Stage {
    arrived: AtomicUsize,
    open: Mutex<bool>,
    opened: Condvar,
    /// Whether the proxy takes no more of an answer that nobody reads.
    is_cut_off: AtomicBool,
}

impl Stage {
    /// This row is at its fault; goes on when the event is over.
    fn arrive(&self) {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        self.until_open();
    }

    /// Waits until the event is over.
    fn until_open(&self) {
        drop(self.opened.wait_while(self.open.lock().unwrap(), |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

/// The path that a row's request is for.
fn path(row: &Row) -> String {
    format!("/{}/", row.name.replace(' ', "-"))
}

/// Whether the clients of rows speak HTTP/2.
fn is_http2(rows: &[Row]) -> bool {
    std::ptr::eq(rows, http2::ROWS)
}

/// A configuration in which each row has a location and an upstream.
fn configuration(site: &Site, rows: &[Row], origins: &[Origin]) -> String {
    let locations = rows.iter().zip(origins).enumerate().map(|(number, (row, origin))| {
        let (addr, path, settings) = (origin.addr, path(row), row.location);
        (
            format!("upstream u{number} {{ server {addr} max_fails=0; }}\n"),
            format!("location {path} {{ proxy_pass http://u{number}; {settings} }}\n"),
        )
    });
    let (upstreams, locations): (String, String) = locations.unzip();
    format!(
        "pid l7.pid; error_log error.log error; worker_processes 2; events {{}}
         http {{ log_format row '$uri $status $upstream_status $body_bytes_sent'; access_log access.log row;
         {upstreams} server {{ listen {}; http2 {}; {locations} }} }}",
        site.addr,
        if is_http2(rows) { "on" } else { "off" }
    )
}

/// What is left of a play.
struct Played {
    /// The servers' addresses.
    servers: Vec<SocketAddr>,
    /// What the clients got.
    got: Vec<String>,
    /// The lines of the log of requests, without what names the row.
    access: Vec<Vec<String>>,
    errors: Vec<Vec<String>>,
}

/// Plays rows with an event.
fn play(rows: &[Row], event: Event) -> Played {
    let site = Site::new("");
    let stage = Arc::new(Stage::default());
    let origins: Vec<Origin> = rows.iter().map(|row| (row.server)(&stage)).collect();
    site.write_whole(&configuration(&site, rows, &origins));
    let mut running = site.start();
    let clients = rows.iter().map(|row| {
        let (stage, addr, play, path) = (Arc::clone(&stage), site.addr, row.client, path(row));
        thread::spawn(move || play(&stage, addr, &path))
    });
    let clients: Vec<_> = clients.collect();
    eventually("all rows are at their fault", || stage.arrived.load(Ordering::SeqCst) == rows.len());
    let heir = goes_through(&site, &mut running, event);
    stage.open();
    let got = clients.into_iter().map(|client| client.join().unwrap()).collect();
    if matches!(event, Event::Nothing | Event::Reload) {
        running.signal(Signal::QUIT);
    }
    assert_eq!(running.end(), 0);
    drop(heir);
    let (access, errors) = (site.read("access.log"), site.read("error.log"));
    let of_row = |row: &Row| {
        let start = format!("{} ", path(row));
        access.lines().filter_map(|line| line.strip_prefix(&start).map(str::to_owned)).collect()
    };
    let about = |(row, origin): (&Row, &Origin)| {
        let upstream = format!("upstream: \"http://{}", origin.addr);
        let lines = errors.lines().filter(|line| line.contains(&upstream) || line.contains(&path(row)));
        lines.map(str::to_owned).collect()
    };
    Played {
        servers: origins.iter().map(|origin| origin.addr).collect(),
        got,
        access: rows.iter().map(of_row).collect(),
        errors: rows.iter().zip(&origins).map(about).collect(),
    }
}

fn goes_through(site: &Site, running: &mut Running, event: Event) -> Option<Heir> {
    match event {
        Event::Nothing => {}
        Event::Reload => {
            running.signal(Signal::HUP);
            thread::sleep(Duration::from_millis(100));
        }
        Event::Upgrade => {
            running.signal(Signal::USR2);
            let heir = Heir::of(site, running.child.id());
            running.signal(Signal::QUIT);
            return Some(heir);
        }
        Event::Quit => running.signal(Signal::QUIT),
        Event::Term => {
            running.signal(Signal::TERM);
            assert_eq!(running.end(), 0);
        }
    }
    None
}

/// Checks the rows with an event that must not be noticed.
fn check(rows: &[Row], event: Event) {
    let Played { servers, got, access, errors } = play(rows, event);
    let (version, host) = if is_http2(rows) { ("2.0", "example.org") } else { ("1.1", "a") };
    let mut wrong = String::new();
    for ((((row, got), access), errors), server) in rows.iter().zip(got).zip(access).zip(errors).zip(servers)
    {
        let path = path(row);
        // What programs that read such logs look for.
        let context = [
            ", client: 127.0.0.1, server: , request: \"".to_owned(),
            format!(" {path} HTTP/{version}\", upstream: \"http://{server}{path}\", host: \"{host}\""),
        ];
        let said = access.last().map_or("nothing", |line| line);
        let logged =
            row.access.strip_suffix('*').map_or(said == row.access, |wanted| said.starts_with(wanted));
        let told = match (row.error, &*errors) {
            ("", lines) => lines.is_empty(),
            (text, [line]) => {
                line.contains(text) && context.iter().all(|context| line.contains(context.as_str()))
            }
            _ => false,
        };
        if got != row.gets || !logged || !told {
            wrong += &format!("{}:\n  got {got:?}, access log {said:?}, error log {errors:#?}\n", row.name);
        }
    }
    assert!(wrong.is_empty(), "{event:?}\n{wrong}");
}

#[test]
fn fault_costs_the_request_that_it_befalls() {
    check(ROWS, Event::Nothing);
    check(http2::ROWS, Event::Nothing);
}

#[test]
fn reload_changes_nothing_for_requests_at_a_fault() {
    check(ROWS, Event::Reload);
    check(http2::ROWS, Event::Reload);
}

#[test]
fn binary_upgrade_changes_nothing_for_requests_at_a_fault() {
    check(ROWS, Event::Upgrade);
    check(http2::ROWS, Event::Upgrade);
}

#[test]
fn quit_changes_nothing_for_requests_at_a_fault() {
    check(ROWS, Event::Quit);
    check(http2::ROWS, Event::Quit);
}

#[test]
fn stop_leaves_nobody_with_an_answer_that_looks_whole() {
    for rows in [ROWS, http2::ROWS] {
        let Played { got, access, .. } = play(rows, Event::Term);
        for ((row, got), access) in rows.iter().zip(got).zip(access) {
            // What its clock had ended before is what it is without a stop.
            let is_true = got == row.gets
                || matches!(&*got, "nothing" | "cut")
                || row.gets.starts_with("200") && matches!(&*got, "200 cut after begin" | "200 cut");
            assert!(is_true, "{}: {got:?}", row.name);
            let requests = if row.name.contains("kept") { 2 } else { 1 };
            assert_eq!(access.len(), requests, "{}: {access:?}", row.name);
        }
    }
}

/// What becomes of a GET and of a POST when there is another server to ask.
const SPARED: &[(&str, &str, &str)] = &[
    ("server refuses", "200 spare", "200 spare"),
    ("server hangs in its handshake", "200 spare", "200 spare"),
    ("server closes", "200 spare", "502"),
    ("server resets before its head", "200 spare", "502"),
    ("server resets within its head", "200 spare", "502"),
    ("server stalls before its head", "200 spare", "504"),
    ("server stalls within its head", "200 spare", "504"),
    ("server sends garbage", "502", "502"),
    ("server resets within a body of known length", "200 cut after begin", "200 cut after begin"),
    ("server resets within chunks", "200 cut after begin", "200 cut after begin"),
    ("server stalls within its body", "200 cut after begin", "200 cut after begin"),
    ("server is well", "200 hello", "200 hello"),
];

#[test]
fn another_server_is_asked_only_where_no_request_can_happen_twice() {
    for (name, get, post) in SPARED {
        let row = ROWS.iter().find(|row| row.name == *name).unwrap();
        for (client, wanted) in [(client::gets as client::Play, get), (client::posts, post)] {
            let spare = Origin::start(|visit| visit.request().and_then(|_| visit.reply("", "spare")));
            let stage = Arc::new(Stage::default());
            stage.open();
            let bad = (row.server)(&stage);
            let proxy = Proxy::start(&forwarding(&[&bad, &spare], row.location));
            let got = client(&stage, proxy.addr(), "/");
            assert_eq!(got, *wanted, "{name}");
            let asked = spare.requests().len();
            assert_eq!(asked, usize::from(*wanted == "200 spare"), "{name}");
            assert!(bad.requests().len() <= 1, "{name}: {:?}", bad.requests());
        }
    }
}

#[test]
fn server_that_is_killed_costs_what_it_had_begun() {
    let holds = Origin::start(|visit| visit.request().and_then(|_| visit.peer.rest()).map(drop));
    let server = Site::new(&format!(
        "location /never {{ proxy_pass http://{}; }} location /slow {{ limit_rate 10; return 200 {}; }}
         location /quick {{ return 200 quick; }}",
        holds.addr,
        "x".repeat(1000)
    ));
    let mut running = server.start();
    let proxy = Proxy::start(&http(&format!(
        "upstream app {{ server {}; }}
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://app; }} }}",
        server.addr
    )));
    assert_eq!(proxy.get("/quick").text(), "quick");
    let (mut waits, mut reads) = (proxy.client(), proxy.client());
    waits.send("GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    reads.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = reads.head().unwrap();
    assert!(head.contains("Content-Length: 1000"), "{head}");
    eventually("the other is at the server", || holds.requests().len() == 1);
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    assert_eq!(waits.response().status, 502);
    assert!(reads.leave().bytes.len() < 1000);
    // The connection that was kept is found dead, and a new one is refused.
    assert_eq!(proxy.get("/quick").status, 502);
    eventually("nobody is served any more", || proxy.active() == 0);
}
