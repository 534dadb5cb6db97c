//! Answers as gzip: to whom, what, and what is said of it.

use std::io::{Read, Write};
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::nginx::Beside;
use crate::peer::{Origin, Proxy, Response, http, server};

const PAGE: &str = "<p>One page, and again one page, and again one page, and again one page.</p>";

fn ask(proxy: &Proxy, path: &str, fields: &str) -> Response {
    let mut client = proxy.client();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: example.org\r\n{fields}\r\n"));
    client.response()
}

fn unpacked(answer: &Response) -> String {
    let mut text = String::new();
    GzDecoder::new(&*answer.body).read_to_string(&mut text).unwrap();
    text
}

fn packed(text: &str) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap()
}

#[test]
fn page_is_packed_for_who_takes_it() {
    let proxy = Proxy::start(&server(
        "gzip on; gzip_vary on; gzip_types application/json; gzip_disable 'Old.*';
         types { text/html html; application/json json; image/png png; }
         location /long/ { gzip_min_length 1k; alias html/; }
         location /off/ { gzip off; alias html/; }",
    ));
    for name in ["page.html", "page.json", "page.png"] {
        proxy.file(&format!("html/{name}"), PAGE);
    }
    let plain = ask(&proxy, "/page.html", "");
    assert_eq!((plain.text(), plain.header("Content-Encoding")), (PAGE, None));
    assert_eq!(plain.header("Vary"), Some("Accept-Encoding"));
    let tag = plain.header("ETag").unwrap().to_owned();
    let answer = ask(&proxy, "/page.html", "Accept-Encoding: br, gzip\r\n");
    assert_eq!(answer.header("Content-Encoding"), Some("gzip"));
    assert_eq!(answer.header("ETag"), Some(&*format!("W/{tag}")));
    assert_eq!((answer.header("Content-Length"), answer.header("Accept-Ranges")), (None, None));
    assert_eq!(answer.header("Vary"), Some("Accept-Encoding"));
    assert_eq!(unpacked(&answer), PAGE);
    // Who has it already is told so, by the weak tag as well.
    let known = ask(&proxy, "/page.html", &format!("Accept-Encoding: gzip\r\nIf-None-Match: W/{tag}\r\n"));
    assert_eq!(known.status, 304);
    let is_packed = |path: &str, fields: &str| {
        let answer = ask(&proxy, path, &format!("Accept-Encoding: gzip\r\n{fields}"));
        answer.header("Content-Encoding") == Some("gzip")
    };
    assert!(is_packed("/page.json", "") && is_packed("/nothing", ""));
    assert!(!is_packed("/page.png", ""), "another type");
    assert!(!is_packed("/long/page.html", ""), "too short");
    assert!(!is_packed("/off/page.html", ""));
    assert!(!is_packed("/page.html", "User-Agent: the Older one\r\n"));
    assert!(!is_packed("/page.html", "Via: 1.1 other\r\n"));
    assert!(
        is_packed("/page.html", "Range: bytes=0-3\r\n"),
        "nobody knows the parts of what is packed as it goes"
    );
    let mut client = proxy.client();
    client.send("GET /page.html HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n");
    assert!(!client.head().unwrap().contains("Content-Encoding"), "HTTP/1.0");
}

/// What is said of a body that does not come, of a page, a file that was packed beforehand, an answer of a
/// server with a length and one without.
#[test]
fn head_of_an_answer_that_would_be_packed_is_that_of_nginx() {
    let origin = Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            let is_head = head.starts_with("HEAD ");
            let fields = if head.contains("/chunks") {
                "Transfer-Encoding: chunked\r\n"
            } else {
                "Content-Length: 40\r\nETag: \"x\"\r\n"
            };
            visit.write(format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{fields}\r\n"))?;
            match (is_head, head.contains("/chunks")) {
                (true, _) => {}
                (false, true) => visit.write(format!("28\r\n{}\r\n0\r\n\r\n", "x".repeat(40)))?,
                (false, false) => visit.write("x".repeat(40))?,
            }
        }
    });
    let both = Beside::start(
        "",
        &format!(
            "gzip on; gzip_vary on; types {{ text/html html; }}
             location /static/ {{ gzip_static on; }}
             location /always/ {{ gzip_static always; gunzip on; }}
             location /text {{ default_type text/html; return 404 {}; }}
             location /short {{ default_type text/html; return 200 short; }}
             location /app/ {{ proxy_pass http://{}; proxy_http_version 1.1; }}",
            "x".repeat(40),
            origin.addr
        ),
        &["Content-Encoding", "Content-Length", "Transfer-Encoding", "Vary", "Accept-Ranges", "ETag"],
    );
    for name in ["page.html", "static/page.html", "always/page.html"] {
        both.file(name, PAGE);
    }
    both.file("static/page.html.gz", packed(PAGE));
    both.file("always/page.html.gz", packed(PAGE));
    for path in [
        "/page.html",
        "/static/page.html",
        "/always/page.html",
        "/text",
        "/short",
        "/app/length",
        "/app/chunks",
    ] {
        for fields in ["", "Accept-Encoding: gzip\r\n"] {
            both.send(&format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        }
    }
}

#[test]
fn forwarded_answer_is_packed_as_it_comes() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.write("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        visit.write("5\r\nfirst\r\n")?;
        // The rest comes when the client has seen the first word.
        visit.request()?;
        visit.write("6\r\nsecond\r\n0\r\n\r\n")
    });
    let proxy = Proxy::start(&server(&format!(
        "gzip on; location / {{ proxy_pass http://{addr}; }}
         location /via {{ gzip_proxied any; proxy_pass http://{addr}; }}",
        addr = origin.addr
    )));
    let mut client = proxy.client();
    client.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    assert!(client.head().unwrap().contains("Content-Encoding: gzip"));
    let first = client.chunk().unwrap();
    let mut word = [0; 5];
    GzDecoder::new(&*first).read_exact(&mut word).unwrap();
    assert_eq!(&word, b"first");
}

#[test]
fn server_that_packs_itself_is_left_alone() {
    let body = packed(PAGE);
    let origin = Origin::start(move |visit| {
        visit.request()?;
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        visit.write(head)?;
        visit.write(&body)
    });
    let proxy =
        Proxy::start(&server(&format!("gzip on; location / {{ proxy_pass http://{}; }}", origin.addr)));
    let answer = ask(&proxy, "/", "Accept-Encoding: gzip\r\n");
    assert_eq!(unpacked(&answer), PAGE);
    assert!(answer.header("Content-Length").is_some());
}

#[test]
fn file_that_was_packed_beforehand_is_sent_to_who_takes_it() {
    let proxy = Proxy::start(&http(
        "server { listen 127.0.0.1:1; root html; types { text/css css; }
             gzip_static on; gzip_vary on;
             location /always/ { alias html/; gzip_static always; } }",
    ));
    proxy.file("html/a.css", "plain");
    proxy.file("html/a.css.gz", packed("prepared"));
    proxy.file("html/b.css", "alone");
    proxy.file("html/c.css.gz", packed("only"));
    let answer = ask(&proxy, "/a.css", "Accept-Encoding: gzip\r\n");
    assert_eq!(unpacked(&answer), "prepared");
    assert_eq!(answer.header("Content-Type"), Some("text/css"));
    assert_eq!(answer.header("Content-Encoding"), Some("gzip"));
    assert_eq!(answer.header("Content-Length"), Some(&*packed("prepared").len().to_string()));
    let plain = ask(&proxy, "/a.css", "");
    assert_eq!((plain.text(), plain.header("Vary")), ("plain", Some("Accept-Encoding")));
    let alone = ask(&proxy, "/b.css", "Accept-Encoding: gzip\r\n");
    assert_eq!((alone.text(), alone.header("Vary")), ("alone", None));
    assert_eq!(ask(&proxy, "/c.css", "").status, 404);
    assert_eq!(unpacked(&ask(&proxy, "/always/c.css", "")), "only");
}

#[test]
fn what_a_server_has_packed_is_unpacked_for_who_does_not_take_it() {
    let text = PAGE.repeat(2000);
    let body = packed(&text);
    let app = Origin::start(move |visit| {
        loop {
            let head = visit.request()?;
            let (body, fields) = match head.split(' ').nth(1).unwrap() {
                "/cut" => (&body[..body.len() - 4], "Content-Encoding: gzip\r\n"),
                "/other" => (&body[..], "Content-Encoding: br\r\n"),
                _ => (&body[..], "Content-Encoding: gzip\r\nETag: \"x\"\r\nAccept-Ranges: bytes\r\n"),
            };
            visit.write(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", body.len()))?;
            if !head.starts_with("HEAD ") {
                visit.write(body)?;
            }
        }
    });
    let proxy = Proxy::start(&crate::peer::http(&format!(
        "server {{ listen 127.0.0.1:1; gunzip on; gzip_vary on; location / {{ proxy_pass http://{}; }} }}",
        app.addr
    )));
    let plain = ask(&proxy, "/", "");
    assert_eq!(plain.text(), text);
    assert_eq!((plain.header("Content-Encoding"), plain.header("Accept-Ranges")), (None, None));
    assert_eq!((plain.header("Vary"), plain.header("ETag")), (Some("Accept-Encoding"), Some("W/\"x\"")));
    let as_it_is = ask(&proxy, "/", "Accept-Encoding: gzip\r\n");
    assert_eq!(unpacked(&as_it_is), text);
    assert_eq!(as_it_is.header("ETag"), Some("\"x\""));
    assert_eq!(ask(&proxy, "/other", "").header("Content-Encoding"), Some("br"));
    let mut client = proxy.client();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let head = client.head().unwrap();
    assert!(!head.contains("Content-Encoding") && client.rest().unwrap().is_empty(), "{head}");
    // What breaks off is not taken for all of it.
    client = proxy.client();
    client.send("GET /cut HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.try_response().is_err());
}
