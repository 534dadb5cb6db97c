//! Logs that a syslog server gets.

use std::io;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Instant;

use crate::conf_upstream::error;
use crate::peer::{PATIENCE, Proxy, eventually};
use crate::program::Site;

/// A server at a path.
fn at(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A server at an address.
fn server() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The next line that comes.
#[track_caller]
fn line(receive: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> String {
    let mut datagram = vec![0; 65_536];
    let length = receive(&mut datagram).unwrap();
    datagram.truncate(length);
    String::from_utf8(datagram).unwrap()
}

#[track_caller]
fn check(line: &str, shape: &str) {
    let time = r"\w{3} [ 1-3]\d \d\d:\d\d:\d\d";
    let shape = regex::Regex::new(&format!("^{}$", shape.replace("TIME", time))).unwrap();
    assert!(shape.is_match(line), "{line:?} is not {shape}");
}

#[test]
fn each_request_is_a_datagram() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let (here, there) = (at(&path), server());
    let proxy = Proxy::start(&format!(
        "events {{}} http {{ log_format line '$uri';
             access_log syslog:server={} line;
             access_log syslog:server=unix:{},facility=local3,tag=my_tag,severity=warn,nohostname line if=$arg_a;
             server {{ listen 127.0.0.1:1; return 200; }} }}",
        there.local_addr().unwrap(),
        path.display(),
    ));
    proxy.get("/one");
    check(&line(|to| there.recv(to)), r"<190>TIME \S+ nginx: /one");
    proxy.get("/two?a=1");
    check(&line(|to| there.recv(to)), r"<190>TIME \S+ nginx: /two");
    check(&line(|to| here.recv(to)), "<156>TIME my_tag: /two");
}

#[test]
fn each_connection_of_stream_is_a_datagram() {
    let there = server();
    let proxy = Proxy::start(&format!(
        "events {{}} stream {{ log_format line $status; server {{ listen 127.0.0.1:1; return x;
             access_log syslog:server={},tag=tcp line; }} }}",
        there.local_addr().unwrap()
    ));
    let mut client = proxy.client();
    client.finish();
    assert_eq!(client.rest().unwrap(), b"x");
    check(&line(|to| there.recv(to)), r"<190>TIME \S+ tcp: 200");
}

#[test]
fn long_line_is_cut_to_what_a_datagram_holds() {
    let there = server();
    let proxy = Proxy::start(&format!(
        "events {{}} http {{ log_format line '$uri$uri$uri$uri$uri$uri$uri$uri$uri$uri';
             access_log syslog:server={} line; server {{ listen 127.0.0.1:1; return 200; }} }}",
        there.local_addr().unwrap()
    ));
    assert_eq!(proxy.get(&format!("/{}", "a".repeat(7500))).status, 200);
    assert_eq!(line(|to| there.recv(to)).len(), 65_000);
}

#[test]
fn error_has_the_severity_of_its_level() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let (here, there) = (at(&path), server());
    let site = Site::new("");
    site.write_whole(&format!(
        "pid l7.pid; error_log syslog:server={},facility=user,tag=err notice; events {{}}
         http {{ access_log off; server {{ listen {}; root html;
             location /own {{ error_log syslog:server=unix:{}; }} }} }}",
        there.local_addr().unwrap(),
        site.addr,
        path.display()
    ));
    let _running = site.start();
    check(&line(|to| there.recv(to)), r"<13>TIME \S+ err: \d{4}/\S+ \S+ \[notice\] \d+#\d+: .*[^\n]");
    assert_eq!(site.client().get("/nothing").status, 404);
    let mut lines = std::iter::from_fn(|| Some(line(|to| there.recv(to))));
    let error = lines.find(|line| line.contains("[error]")).unwrap();
    check(&error, r#"<11>TIME \S+ err: .*html/nothing" failed \(2: No such file or directory\), client: .*"#);
    assert_eq!(site.client().get("/own").status, 404);
    check(&line(|to| here.recv(to)), r"<187>TIME \S+ nginx: .*html/own.*");
}

#[test]
fn server_that_does_not_read_holds_up_no_request_and_its_loss_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let here = at(&path);
    let site = Site::new("return 200;");
    let text = std::fs::read_to_string(site.path("nginx.conf")).unwrap();
    let target = format!("syslog:server=unix:{}", path.display());
    site.write_whole(&text.replace("access.log;", &format!("{target};")));
    let _running = site.start();
    let began = Instant::now();
    let mut client = site.client();
    for _ in 0..900 {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(began.elapsed() < PATIENCE);
    let complaint =
        format!("send() to {target} failed (11: Resource temporarily unavailable), lines lost: 1");
    eventually("it is said", || site.read("error.log").contains(&complaint));
    // Not for each line.
    assert_eq!(
        site.read("error.log").matches("lines lost").count(),
        1 + began.elapsed().as_secs() as usize / 5
    );
    // One that was started anew gets the next line.
    drop(here);
    std::fs::remove_file(&path).unwrap();
    let anew = at(&path);
    assert_eq!(client.get("/anew").status, 200);
    let mut lines = std::iter::from_fn(|| Some(line(|to| anew.recv(to))));
    assert!(lines.any(|line| line.contains("GET /anew")));
}

#[test]
fn wrong_words_of_a_target_are_named() {
    for (words, expected) in [
        ("syslog:", "unknown syslog parameter \"\""),
        ("syslog:facility=local1", "no syslog server specified"),
        ("syslog:server=", "no host in syslog server \"\""),
        ("syslog:server=127.0.0.1:99999", "invalid port in syslog server \"127.0.0.1:99999\""),
        ("syslog:server=127.0.0.1,facility=x", "unknown syslog facility \"x\""),
        ("syslog:server=127.0.0.1,severity=x", "unknown syslog severity \"x\""),
        (
            "syslog:server=127.0.0.1,tag=a-b",
            "syslog \"tag\" only allows alphanumeric characters and underscore",
        ),
        ("syslog:server=127.0.0.1,tag=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "syslog tag length exceeds 32"),
        ("syslog:server=127.0.0.1,foo=1", "unknown syslog parameter \"foo=1\""),
        ("syslog:server=127.0.0.1,server=127.0.0.2", "duplicate syslog \"server\""),
        ("syslog:server=127.0.0.1,tag=a,tag=b", "duplicate syslog \"tag\""),
        ("syslog:server=127.0.0.1:1,facility=user,severity=crit,tag=a,nohostname", ""),
    ] {
        assert_eq!(error("", &format!("access_log {words};")), expected, "{words}");
        assert_eq!(error(&format!("error_log {words};"), ""), expected, "{words}");
        let stream = format!("stream {{ log_format l x; access_log {words} l; }}");
        assert_eq!(error(&stream, ""), expected, "{words}");
    }
    for words in ["combined buffer=32k", "combined gzip"] {
        let log = format!("access_log syslog:server=127.0.0.1 {words};");
        assert_eq!(error("", &log), "logs to syslog cannot be buffered");
    }
}
