//! What logs say of requests that went wrong, in nginx's words: what its users have looked for for years.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::nginx::Nginx;
use crate::peer::{Origin, PATIENCE, Proxy, eventually, http};
use crate::program::Site;

/// What a client does when it has sent what it has.
#[derive(Clone, Copy)]
enum Then {
    /// Waits until the connection is closed.
    Waits,
    /// Closes its side.
    Leaves,
}

const LOG: &str = "log_format faults '$status $request $body_bytes_sent $request_completion.';
    client_header_timeout 200ms; server_tokens off;";

/// Sends the bytes on a connection of their own, and waits for the end of it.
fn send(to: SocketAddr, bytes: &[u8], then: Then) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    if let Then::Leaves = then {
        stream.shutdown(Shutdown::Write).unwrap();
    }
    // Whether the end is clean is not of interest here.
    let _ = stream.read_to_end(&mut Vec::new());
}

/// Checks the lines in our log, and that nginx has the same; an empty one is none.
fn check(cases: &[(&[u8], Then, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let content = |name: &str, addr: &str| {
        let log = folder.path().join(name);
        let server = format!("listen {addr}; location / {{ return 204; }}");
        format!("{LOG} server {{ {server} access_log {} faults; }}", log.display())
    };
    let expected: Vec<&str> = cases.iter().map(|(.., line)| *line).filter(|line| !line.is_empty()).collect();
    let lines = |name: &str| -> Vec<String> {
        eventually("as many lines", || {
            let text = fs::read_to_string(folder.path().join(name)).unwrap_or_default();
            text.lines().count() >= expected.len()
        });
        let text = fs::read_to_string(folder.path().join(name)).unwrap();
        text.lines().map(str::to_owned).collect()
    };
    let proxy = Proxy::start(&format!("events {{}} http {{ {} }}", content("ours", "127.0.0.1:1")));
    cases.iter().for_each(|(bytes, then, _)| send(proxy.addr(), bytes, *then));
    assert_eq!(lines("ours"), expected);
    if let Some(nginx) = Nginx::start(|addr| content("theirs", &addr.to_string())) {
        cases.iter().for_each(|(bytes, then, _)| send(nginx.addr, bytes, *then));
        assert_eq!(lines("theirs"), expected);
    }
}

#[test]
fn request_whose_head_does_not_come_whole_has_its_line() {
    check(&[
        (b"GET /stalls", Then::Waits, "408 GET /stalls 0 ."),
        (b"GET /stalls HTTP/1.1\r\nHost: a", Then::Waits, "408 GET /stalls HTTP/1.1 0 ."),
        (b"GET /goes", Then::Leaves, "400 GET /goes 0 ."),
        (b"GET /goes HTTP/1.1\r\nHost: a\r\n", Then::Leaves, "400 GET /goes HTTP/1.1 0 ."),
    ]);
}

#[test]
fn head_that_is_refused_before_it_is_whole_has_one_line() {
    let proxy = Proxy::start(&http(&format!(
        "{LOG} server {{ listen 127.0.0.1:1; access_log faults.log faults; location / {{ return 204; }} }}"
    )));
    let mut stream = TcpStream::connect(proxy.addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /").unwrap();
    // So long a line is more than one read brings.
    let _ = stream.write_all(&[b'x'; 200_000]);
    let _ = stream.read_to_end(&mut Vec::new());
    eventually("it is logged", || !proxy.log("faults.log").is_empty());
    // A line of what comes later stands behind all of this connection's.
    send(proxy.addr(), b"GET /last HTTP/1.0\r\n\r\n", Then::Waits);
    eventually("the last one is, too", || proxy.log("faults.log").contains("/last"));
    let log = proxy.log("faults.log");
    let statuses: Vec<&str> = log.lines().map(|line| &line[..3]).collect();
    assert_eq!(statuses, ["414", "204"], "{log}");
}

#[test]
fn connection_without_a_request_has_no_line() {
    check(&[
        (b"", Then::Leaves, ""),
        (b"", Then::Waits, ""),
        (b"GET / HTTP/1.0\r\n\r\n", Then::Waits, "204 GET / HTTP/1.0 0 OK."),
    ]);
}

#[test]
fn request_after_another_on_a_connection_has_its_line_when_it_stalls() {
    let proxy = Proxy::start(&format!(
        "events {{}} http {{ {LOG} access_log log faults;
         server {{ listen 127.0.0.1:1; location / {{ return 204; }} }} }}"
    ));
    send(proxy.addr(), b"GET /one HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTTP/1.1\r\n", Then::Waits);
    assert_eq!(proxy.lines("log", 2), ["204 GET /one HTTP/1.1 0 OK.", "408 GET /two HTTP/1.1 0 ."]);
}

/// The log of errors of one who has served these bytes, from `info` on.
fn errors_of(content: &str, requests: &[&[u8]]) -> String {
    let site = Site::new("");
    site.write_whole(&format!(
        "pid l7.pid; error_log error.log info; events {{}}
         http {{ {LOG} access_log off; server {{ listen {}; server_name front; {content} }} }}",
        site.addr
    ));
    let running = site.start();
    requests.iter().for_each(|bytes| send(site.addr, bytes, Then::Waits));
    running.signal(rustix::process::Signal::QUIT);
    let mut running = running;
    assert_eq!(running.end(), 0);
    site.read("error.log")
}

/// Checks that one line has all of that.
#[track_caller]
fn check_line(log: &str, what: &str, context: &str) {
    let line = log.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("no {what:?} in {log}"));
    assert!(line.contains(context), "{context:?} is not in {line}");
}

#[test]
fn refused_request_is_shown_as_it_came() {
    let refused = [
        (&b"garbage\r\n\r\n"[..], "reading client request line", "request: \"garbage\""),
        (
            b"GET /a HTTP/1.1\r\nHost: b\r\nbad line\r\n\r\n",
            "client sent invalid header line while reading client request headers",
            "client: 127.0.0.1, server: front, request: \"GET /a HTTP/1.1\", host: \"b\"",
        ),
        (
            b"GET /c HTTP/3.0\r\nHost: b\r\n\r\n",
            "client sent invalid version while reading client request line",
            "request: \"GET /c HTTP/3.0\"",
        ),
        (
            b"GET /never",
            "client timed out (110: Connection timed out) while reading client request line",
            ", client: 127.0.0.1, server: front, request: \"GET /never\"",
        ),
        (
            b"",
            "client timed out (110: Connection timed out) while waiting for request",
            ", client: 127.0.0.1,",
        ),
    ];
    let requests = refused.map(|(bytes, ..)| bytes);
    let log = errors_of("return 200;", &requests);
    for (_, what, context) in refused {
        check_line(&log, what, context);
    }
}

#[test]
fn refused_body_is_told_with_its_request() {
    let origin = Origin::named("a");
    let head = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n");
    let requests = [
        head("/length") + "Content-Length: 6\r\n\r\n",
        head("/chunks") + "Transfer-Encoding: chunked\r\n\r\n6\r\n123456\r\n0\r\n\r\n",
        head("/none") + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ];
    let content = format!("client_max_body_size 5; location / {{ proxy_pass http://{}; }}", origin.addr);
    let log = errors_of(&content, &requests.each_ref().map(String::as_bytes));
    let context = |path: &str| {
        format!(", client: 127.0.0.1, server: front, request: \"POST {path} HTTP/1.1\", host: \"h\"")
    };
    check_line(&log, "client intended to send too large body: 6 bytes", &context("/length"));
    check_line(&log, "client intended to send too large chunked body", &context("/chunks"));
    check_line(&log, "client sent invalid chunked body", &context("/none"));
}

#[test]
fn server_that_is_passed_over_is_told_in_the_words_of_nginx() {
    let (one, two) = (Origin::nobody(), Origin::nobody());
    let site = Site::new("");
    site.write_whole(&format!(
        "pid l7.pid; error_log error.log warn; events {{}} http {{ access_log off;
         upstream app {{ server {}; server {}; }} upstream empty {{ server 127.0.0.1:1 down; }}
         server {{ listen {}; server_name front; location / {{ proxy_pass http://app/to/; }}
             location /empty {{ proxy_pass http://empty; }} }} }}",
        one.addr, two.addr, site.addr
    ));
    let _running = site.start();
    for path in ["/x?y", "/empty"] {
        assert_eq!(site.client().get(path).status, 502);
    }
    let log = site.read("error.log");
    let url = format!("upstream: \"http://{}/to/x?y\", host: \"", one.addr);
    check_line(&log, "upstream server temporarily disabled while connecting to upstream", &url);
    check_line(&log, "no live upstreams while connecting to upstream", "upstream: \"http://empty/empty\"");
}

#[test]
fn server_that_a_client_did_not_wait_for_is_told_with_what_it_was_asked() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.request().map(drop)
    });
    let site = Site::new("");
    site.write_whole(&format!(
        "pid l7.pid; error_log error.log info; events {{}}
         http {{ log_format asked $upstream_addr; access_log asked.log asked;
         server {{ listen {}; location /in/ {{ proxy_pass http://{}/out/; }} }} }}",
        site.addr, origin.addr
    ));
    let running = site.start();
    let mut stream = TcpStream::connect(site.addr).unwrap();
    stream.write_all(b"GET /in/a?b=1 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    eventually("it was asked", || !origin.requests().is_empty());
    drop(stream);
    eventually("it is told", || site.read("error.log").contains("prematurely"));
    check_line(
        &site.read("error.log"),
        "client prematurely closed connection, so upstream connection is closed too",
        &format!("upstream: \"http://{}/out/a?b=1\", host: \"a\"", origin.addr),
    );
    drop(running);
}

#[test]
fn what_is_wrong_with_a_servers_head_is_shown() {
    let origin = Origin::start(|visit| {
        let head = visit.request()?;
        let fields = match head.split(' ').nth(1) {
            Some("/twice") => "ETag: a\r\nETag: b\r\n",
            _ => "Content-Length: 1, 2\r\n",
        };
        visit.write(format!("HTTP/1.1 200 OK\r\n{fields}Connection: close\r\n\r\n"))
    });
    let content = format!("location / {{ proxy_pass http://{}; }}", origin.addr);
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let log = errors_of(&content, &[ask("/twice").as_bytes(), ask("/list").as_bytes()]);
    let twice = "upstream sent duplicate header line: \"etag: b\", previous value: \"etag: a\", ignored while \
                 reading response header from upstream, client: 127.0.0.1";
    check_line(&log, twice, "request: \"GET /twice HTTP/1.1\", upstream: \"http://127.0.0.1:");
    let list = "upstream sent invalid \"Content-Length\" header: \"Content-Length: 1, 2\" while reading response \
                header from upstream";
    check_line(&log, list, "request: \"GET /list HTTP/1.1\", upstream: \"http://127.0.0.1:");
}

#[test]
fn line_tells_of_the_question_it_is_about_and_of_where_the_link_stood() {
    let ask =
        |path: &str| format!("GET {path} HTTP/1.0\r\nHost: h\r\nReferer: http://r/\r\n\r\n").into_bytes();
    let content = "location / { auth_request /may; }
         location /loop { rewrite ^(.*)$ $1x; }";
    let log = errors_of(content, &[&ask("/page"), &ask("/loop")]);
    check_line(
        &log,
        "/may\" failed (2: No such file",
        "\"GET /page HTTP/1.0\", subrequest: \"/may\", host: \"h\"",
    );
    check_line(
        &log,
        "rewrite or internal redirection cycle while processing \"/loopxxxxxxxxxx",
        "request: \"GET /loop HTTP/1.0\", host: \"h\", referrer: \"http://r/\"",
    );
}

/// The log of errors of a `stream {}` with one server, to which a client sends these bytes.
fn errors_of_stream(listen: &str, content: &str, bytes: &[u8]) -> String {
    let site = Site::new("");
    site.write_whole(&format!(
        "pid l7.pid; error_log error.log info; events {{}}
         stream {{ server {{ listen {} {listen}; {content} }} }}",
        site.addr
    ));
    let mut running = site.start();
    send(site.addr, bytes, Then::Waits);
    running.signal(rustix::process::Signal::QUIT);
    assert_eq!(running.end(), 0);
    site.read("error.log")
}

#[test]
fn connections_that_come_to_nothing_are_told_with_both_ends() {
    let nobody = Origin::nobody();
    let log = errors_of_stream("", &format!("proxy_pass {};", nobody.addr), b"x");
    let ends = format!("upstream: \"{}\", bytes from/to client:0/0, bytes from/to upstream:0/0", nobody.addr);
    check_line(
        &log,
        "connect() failed (111: Connection refused) while connecting to upstream, client: ",
        &ends,
    );
    let log = errors_of_stream("proxy_protocol", "return x;", b"PROXY nonsense\r\nx");
    let broken = "[error] ";
    check_line(&log, "broken header: \"PROXY nonsense\" while reading PROXY protocol, client: ", broken);
    let log = errors_of_stream(
        "",
        "ssl_preread on; preread_buffer_size 8; return x;",
        b"\x16\x03\x01\x01\0\x01\0\0\xfc",
    );
    check_line(&log, "preread buffer full while prereading client data, client: ", "[error] ");
}
