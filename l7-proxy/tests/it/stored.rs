//! `proxy_store`: what a server answers becomes a file, as with nginx.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::time::SystemTime;

use crate::nginx::Beside;
use crate::peer::{Origin, eventually, field};

/// An origin that answers every path with its name, and breaks off what is called `/cut`.
fn named() -> Origin {
    Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            visit.body(&head)?;
            let mut words = head.split(' ');
            let (method, path) = (words.next().unwrap(), words.next().unwrap());
            let status = if path.ends_with("/lost") { 404 } else { 200 };
            let fields = match path.rsplit('/').next().unwrap() {
                "at-once" => "X-Accel-Buffering: no\r\n",
                "elsewhere" => "X-Accel-Redirect: /there/x\r\n",
                "undated" => "",
                _ => "Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\n",
            };
            let body = if path.ends_with("/large") { "x".repeat(300_000) } else { format!("this is {path}") };
            let length = body.len() + usize::from(path.ends_with("/cut"));
            visit
                .write(format!("HTTP/1.1 {status} Some Words\r\n{fields}Content-Length: {length}\r\n\r\n"))?;
            if method != "HEAD" {
                visit.write(body)?;
            }
            if path.ends_with("/cut") || field(&head, "Connection") == Some("close") {
                return Ok(());
            }
        }
    })
}

/// Content, permissions and time of what is under a name, if that is a file.
fn seen(folder: &Path, name: &str) -> Option<(Vec<u8>, u32, Option<u64>)> {
    let path = folder.join("html").join(name);
    let facts = fs::metadata(&path).ok()?;
    let changed = facts.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    let dated = Some(changed).filter(|&changed| changed == 1_700_000_000);
    Some((fs::read(&path).ok()?, facts.permissions().mode() & 0o777, dated))
}

#[test]
fn answer_becomes_the_file_that_the_location_looks_for() {
    let origin = named();
    let pass = format!("proxy_pass http://{}; proxy_set_header Host $server_port;", origin.addr);
    let beside = Beside::start(
        "",
        &format!(
            "location /there/ {{ return 200 there; }}
             location /on/ {{ {pass} proxy_store on; }}
             location /open/ {{ {pass} proxy_store on; proxy_store_access group:r all:r; }}
             location /alias/ {{ {pass} proxy_store on; alias html/else/; }}
             location /named/ {{ {pass} proxy_store $document_root/by-name/$arg_n; proxy_store_access user:r; }}
             location /nowhere/ {{ {pass} proxy_store $arg_n; }}
             location /slowly/ {{ {pass} proxy_store on; proxy_buffering off; }}
             location /page/ {{ error_page 404 = /fetch$uri; }}
             location /fetch/ {{ internal; {pass} proxy_store $document_root$request_uri; }}"
        ),
        &[],
    );
    let dated = Some(1_700_000_000);
    for (request, name, expected) in [
        ("GET /on/a/b", "on/a/b", Some((0o600, dated))),
        ("GET /on/undated", "on/undated", Some((0o600, None))),
        ("GET /on/large", "on/large", Some((0o600, dated))),
        ("POST /on/post", "on/post", Some((0o600, dated))),
        ("HEAD /on/head", "on/head", None),
        ("GET /on/lost", "on/lost", None),
        ("GET /on/at-once", "on/at-once", None),
        ("GET /on/elsewhere", "on/elsewhere", None),
        ("GET /slowly/a", "slowly/a", None),
        ("GET /open/a", "open/a", Some((0o644, dated))),
        ("GET /alias/a", "else/a", Some((0o600, dated))),
        ("GET /named/a?n=b", "by-name/b", Some((0o400, dated))),
        ("GET /nowhere/a", "nowhere/a", None),
        // The way of the manual: what is not there is fetched once.
        ("GET /page/a", "page/a", Some((0o600, dated))),
    ] {
        let asked = |head: &String| head.starts_with(&request.replace("/page", "/fetch/page"));
        let answer = beside.send(&format!("{request} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
        let folders = [Some(&beside.ours.folder), beside.nginx.as_ref().map(|nginx| &nginx.folder)];
        for folder in folders.into_iter().flatten() {
            let found = || seen(folder.path(), name).map(|(_, access, dated)| (access, dated));
            eventually(&format!("{request} in {}: {expected:?}", folder.path().display()), || {
                found() == expected
            });
            if let Some((body, ..)) = seen(folder.path(), name) {
                assert_eq!(body, answer.body, "{request}");
            }
        }
        if name.starts_with("page/") {
            let count = origin.requests().iter().filter(|head| asked(head)).count();
            beside.send(&format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(origin.requests().iter().filter(|head| asked(head)).count(), count);
        }
    }
    for name in ["on/head", "on/lost", "on/at-once", "on/elsewhere", "slowly/a", "nowhere/a"] {
        assert_eq!(seen(beside.ours.folder.path(), name), None, "{name}");
    }
    // Nothing is left where answers are that still come.
    let temporary = beside.ours.folder.path().join("proxy_temp");
    assert_eq!(fs::read_dir(temporary).unwrap().count(), 0);
}

#[test]
fn answer_that_breaks_off_becomes_no_file() {
    let origin = named();
    let text =
        crate::peer::server(&format!("location / {{ proxy_pass http://{}; proxy_store on; }}", origin.addr));
    let ours = crate::peer::Proxy::start(&text);
    let mut client = ours.client();
    client.send("GET /cut HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.try_response().is_err());
    let temporary = ours.folder.path().join("proxy_temp");
    eventually("nothing is left", || fs::read_dir(&temporary).unwrap().count() == 0);
    assert_eq!(seen(ours.folder.path(), "cut"), None);
}

#[test]
fn client_that_goes_leaves_a_file_behind() {
    let (gone, goes) = mpsc::channel();
    let goes = Mutex::new(goes);
    let origin = Origin::start(move |visit| {
        visit.request()?;
        visit.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")?;
        let _ = goes.lock().unwrap().recv();
        visit.write("56789")
    });
    let text =
        crate::peer::server(&format!("location / {{ proxy_pass http://{}; proxy_store on; }}", origin.addr));
    let ours = crate::peer::Proxy::start(&text);
    let mut client = ours.client();
    client.send("GET /halved HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head().unwrap();
    drop(client);
    gone.send(()).unwrap();
    eventually("the file is whole", || {
        seen(ours.folder.path(), "halved").is_some_and(|(body, ..)| body == b"0123456789")
    });
}
