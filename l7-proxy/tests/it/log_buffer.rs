//! Lines of access logs that are gathered before they are written.

use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use rustix::process::Signal;

use crate::nginx::Beside;
use crate::peer::{Client, Origin, eventually};
use crate::program::{Running, Site};

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap_or_default()
}

pub(crate) fn unpacked(folder: &Path, name: &str) -> String {
    let packed = fs::read(folder.join(name)).unwrap_or_default();
    let mut text = String::new();
    // What is half written cannot be read yet.
    let _ = MultiGzDecoder::new(&*packed).read_to_string(&mut text);
    text
}

/// Has both proxies log these requests, and compares what is in the file after each.
#[track_caller]
fn check(log: &str, steps: &[(&str, &str)], read: impl Fn(&Path, &str) -> String) {
    let both = Beside::start(
        "log_format path '$uri';",
        &format!("access_log a.log path {log}; location / {{ return 200 x; }}"),
        &[],
    );
    for (path, expected) in steps {
        both.get(path);
        // What must not be there yet is seen to be missing when the next line comes.
        eventually(&format!("{log}: {path} has come"), || {
            let ours = read(both.ours.folder.path(), "a.log");
            let theirs = both.nginx.as_ref().map(|nginx| read(nginx.folder.path(), "a.log"));
            assert!(expected.starts_with(&ours), "{log} {path}: {ours:?}");
            ours == *expected && theirs.is_none_or(|theirs| theirs == *expected)
        });
    }
}

#[test]
fn line_that_is_not_gathered_is_written_at_once() {
    check("", &[("/a", "/a\n"), ("/b", "/a\n/b\n")], read);
}

#[test]
fn lines_are_gathered_until_there_is_no_room_for_the_next() {
    let steps = [
        ("/aa", ""),
        ("/bb", ""),
        // Eight bytes are there; four more are too many.
        ("/cc", "/aa\n/bb\n"),
        ("/d", "/aa\n/bb\n"),
        // Longer than the room: by itself, behind what came before.
        ("/longer/than/all", "/aa\n/bb\n/cc\n/d\n/longer/than/all\n"),
        ("/e", "/aa\n/bb\n/cc\n/d\n/longer/than/all\n"),
        ("/fffffff", "/aa\n/bb\n/cc\n/d\n/longer/than/all\n/e\n"),
    ];
    check("buffer=10", &steps, read);
}

#[test]
fn gathered_lines_are_written_when_their_time_is_over() {
    check("buffer=1k flush=100ms", &[("/a", "/a\n"), ("/b", "/a\n/b\n")], read);
}

#[test]
fn packed_lines_are_one_file_of_gzip() {
    let steps = [("/a", "/a\n"), ("/a/long/line", "/a\n/a/long/line\n")];
    check("buffer=8 gzip=9 flush=50ms", &steps, unpacked);
    check("gzip flush=50ms", &steps, unpacked);
}

/// A site that gathers without end.
fn site() -> Site {
    let site = Site::new("");
    site.write_whole(&format!(
        "pid l7.pid; error_log error.log notice; worker_processes 2; events {{}}
         http {{ log_format path '$uri'; access_log a.log path buffer=64k;
         server {{ listen {}; location / {{ return 200 x; }}
             location /unlogged {{ access_log off; return 200 x; }} }} }}",
        site.addr
    ));
    site
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn gathered_lines_outlive_every_end() {
    for signal in [Signal::QUIT, Signal::TERM, Signal::INT] {
        let site = site();
        let mut running = site.start();
        for path in ["/a", "/b", "/c", "/d"] {
            let mut client = site.client();
            client.get(path);
            client.get("/unlogged");
        }
        assert_eq!(site.read("a.log"), "");
        running.signal(signal);
        assert_eq!(running.end(), 0, "{signal:?}");
        assert_eq!(sorted(&site.read("a.log")), ["/a", "/b", "/c", "/d"], "{signal:?}");
    }
}

#[test]
fn gathered_lines_stay_with_the_file_that_was_moved_away() {
    let site = site();
    let running = site.start();
    let mut client = site.client();
    client.get("/before");
    // A line is there before the next request of its connection is answered.
    client.get("/unlogged");
    fs::rename(site.path("a.log"), site.path("a.log.1")).unwrap();
    running.signal(Signal::USR1);
    eventually("what was gathered is written", || site.read("a.log.1") == "/before\n");
    client.get("/after");
    client.get("/unlogged");
    site.write_whole(&fs::read_to_string(site.path("nginx.conf")).unwrap().replace(" buffer=64k", ""));
    running.signal(Signal::HUP);
    eventually("a reload writes it, too", || site.read("a.log") == "/after\n");
    site.client().get("/then");
    eventually("it is not gathered any more", || site.read("a.log") == "/after\n/then\n");
    assert_eq!(site.read("a.log.1"), "/before\n");
}

/// The logs that a process has open, by name.
fn open_logs(site: &Site, running: &Running) -> Vec<String> {
    let folder = format!("/proc/{}/fd", running.child.id());
    // One that is closed meanwhile leads nowhere.
    let open = fs::read_dir(folder).unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let names = open.filter_map(|path| {
        let name = path.strip_prefix(site.path("")).ok()?.to_str()?;
        name.ends_with(".log").then(|| name.to_owned())
    });
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn log_that_is_named_no_more_is_closed_when_the_last_request_that_may_be_logged_there_has_ended() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.peer.exactly(2)?;
        visit.reply("", "done")
    });
    let site = Site::new("");
    let text = |http: &str, stream: &str| {
        format!(
            "pid l7.pid; error_log error-{http}.log notice; worker_processes 2; events {{}}
             http {{ log_format path '$uri'; access_log {http}.log path buffer=64k;
               server {{ listen {addr}; location / {{ return 200 x; }}
                 location /wait {{ proxy_request_buffering off; proxy_pass http://{}; }} }} }}
             stream {{ log_format status '$status'; access_log {stream}.log status;
               server {{ listen {}:{port}; proxy_pass {}; }} }}",
            origin.addr,
            site.addr.ip(),
            origin.addr,
            addr = site.addr,
            port = site.addr.port() + 1,
        )
    };
    site.write_whole(&text("a", "b"));
    let mut running = site.start();
    assert_eq!(open_logs(&site, &running), ["a.log", "b.log", "error-a.log"]);
    // It stays, and has nothing more to say.
    let mut idle = site.client();
    idle.get("/first");
    let ask = |client: &mut Client| {
        let before = origin.requests().len();
        client.send("POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");
        eventually("it is at the server", || origin.requests().len() > before);
    };
    let (mut request, mut connection) =
        (site.client(), Client::connect((site.addr.ip(), site.addr.port() + 1).into()));
    ask(&mut request);
    ask(&mut connection);

    site.write_whole(&text("c", "d"));
    running.signal(Signal::HUP);
    eventually("it has reloaded", || site.read("error-c.log").contains("reconfigured"));
    site.client().get("/second");
    request.send("go");
    assert_eq!(request.response().text(), "done");
    drop(request);
    let left = ["b.log", "c.log", "d.log", "error-c.log"];
    eventually("the log of the request is closed", || open_logs(&site, &running) == left);
    assert_eq!(sorted(&site.read("a.log")), ["/first", "/wait"]);
    connection.send("go");
    assert_eq!(connection.response().text(), "done");
    drop(connection);
    eventually("that of the connection as well", || open_logs(&site, &running) == left[1..]);
    assert_eq!(site.read("b.log"), "200\n");

    // One that comes back is written to again.
    site.write_whole(&text("a", "d"));
    running.signal(Signal::HUP);
    eventually("the first log is open again", || {
        open_logs(&site, &running) == ["a.log", "d.log", "error-a.log"]
    });
    site.client().get("/third");
    running.signal(Signal::QUIT);
    assert_eq!(running.end(), 0);
    assert_eq!(sorted(&site.read("a.log")), ["/first", "/third", "/wait"]);
}

#[test]
fn connections_are_logged_as_requests_are() {
    let site = Site::new("");
    site.write_whole(&format!(
        "pid l7.pid; error_log error.log notice; events {{}}
         stream {{ log_format status '$status'; access_log a.log status buffer=10 flush=1h;
         server {{ listen {}; return x; }} }}",
        site.addr
    ));
    let _running = site.start();
    for expected in ["", "", "200\n200\n"] {
        site.client().rest().unwrap();
        eventually(expected, || site.read("a.log") == expected);
    }
}

#[test]
fn log_of_connections_whose_name_varies_is_kept_open_as_long_as_it_is_there() {
    let site = Site::new("");
    site.write_whole(&format!(
        "pid l7.pid; error_log error.log notice; events {{}}
         stream {{ log_format status '$status'; access_log $protocol.log status; open_log_file_cache max=2 valid=1h;
         server {{ listen {}; return x; }} }}",
        site.addr
    ));
    let running = site.start();
    let connect = || site.client().rest().unwrap();
    connect();
    eventually("it is written", || site.read("TCP.log") == "200\n");
    fs::rename(site.path("TCP.log"), site.path("moved.log")).unwrap();
    connect();
    eventually("it is the same file under another name", || site.read("moved.log") == "200\n200\n");
    running.signal(Signal::USR1);
    eventually("it is opened anew", || {
        connect();
        !site.read("TCP.log").is_empty()
    });
}
