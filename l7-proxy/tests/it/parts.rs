//! Parts of servers' answers, beside nginx's own: `proxy_force_ranges`, `Accept-Ranges`, and `slice`.

use std::io::Read;

use crate::nginx::Beside;
use crate::peer::{Origin, eventually, field};
use crate::program::Site;

/// An origin with one text, which has parts under `/parts/`, and elsewhere says of them what the path's first name is.
fn texts() -> Origin {
    Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            visit.body(&head)?;
            let is_head = head.starts_with("HEAD ");
            let path = head.split(' ').nth(1).unwrap();
            let name = path.trim_start_matches('/').split('/').next().unwrap();
            let asked = field(&head, "Range").and_then(|range| part(range.strip_prefix("bytes=")?));
            let (mut status, mut fields, mut body) = (200, String::new(), TEXT);
            match name {
                "plain" => {}
                "lost" => (status, fields) = (404, "Accept-Ranges: bytes\r\n".to_owned()),
                "private" => fields = "Accept-Ranges: bytes\r\nCache-Control: private\r\n".to_owned(),
                "parts" | "tags" | "shifted" | "endless" | "grows" | "stops" => {
                    fields = "Accept-Ranges: bytes\r\n".to_owned();
                    if let Some((start, last)) = asked {
                        if start >= TEXT.len() {
                            (status, body) = (416, b"");
                            fields += &format!("Content-Range: bytes */{}\r\n", TEXT.len());
                        } else {
                            let last = last.min(TEXT.len() - 1);
                            (status, body) = (206, &TEXT[start..=last]);
                            let (from, whole) = match name {
                                "shifted" if start > 0 => (start - 1, TEXT.len().to_string()),
                                "endless" => (start, "*".to_owned()),
                                "grows" => (start, (TEXT.len() + start).to_string()),
                                _ => (start, TEXT.len().to_string()),
                            };
                            fields += &format!("Content-Range: bytes {from}-{last}/{whole}\r\n");
                            if name == "tags" {
                                fields += &format!("ETag: \"{}\"\r\n", usize::from(start >= 20));
                            }
                            if name == "stops" && start >= 20 {
                                status = 500;
                            }
                        }
                    }
                }
                word => fields = format!("Accept-Ranges: {word}\r\n"),
            }
            let validators = "ETag: \"tag\"\r\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\n";
            let validators = if name == "tags" { "" } else { validators };
            visit.write(format!(
                "HTTP/1.1 {status} Some Words\r\n{fields}{validators}Content-Type: text/plain\r\n\
                 Content-Length: {}\r\n\r\n",
                body.len()
            ))?;
            if !is_head {
                visit.write(body)?;
            }
        }
    })
}

const TEXT: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Reads `3-7` and `3-`.
fn part(text: &str) -> Option<(usize, usize)> {
    let (start, last) = text.split_once('-')?;
    Some((start.parse().ok()?, last.parse().unwrap_or(usize::MAX)))
}

const FIELDS: &[&str] =
    &["Accept-Ranges", "Content-Range", "Content-Type", "ETag", "Last-Modified", "X-Cache"];

/// Ours and nginx before the origin, with this in their location.
fn both(origin: &Origin, before: &str, content: &str) -> Beside {
    let content = format!(
        "location / {{ proxy_pass http://{}; proxy_http_version 1.1; proxy_set_header Connection '';
         proxy_set_header Host $server_port; {content} }}",
        origin.addr
    );
    Beside::start(before, &content, FIELDS)
}

const RANGES: [&str; 13] = [
    "",
    "Range: bytes=0-3\r\n",
    "Range: bytes=10-12\r\n",
    "Range: bytes=-4\r\n",
    "Range: bytes=30-\r\n",
    "Range: bytes=99-\r\n",
    "Range: bytes=x\r\n",
    "Range: lines=1-2\r\n",
    "Range: bytes=9-3,5-6\r\n",
    "Range: bytes=0-3\r\nIf-Range: \"tag\"\r\n",
    "Range: bytes=0-3\r\nIf-Range: \"other\"\r\n",
    "If-None-Match: \"tag\"\r\n",
    "If-Match: \"other\"\r\n",
];

#[track_caller]
fn compare(both: &Beside, method: &str, path: &str) {
    // To a `HEAD` whose condition does not hold nginx has no answer.
    for fields in RANGES.iter().filter(|fields| method != "HEAD" || !fields.starts_with("If-Match")) {
        both.send(&format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    }
}

#[test]
fn parts_are_the_servers_unless_they_are_forced() {
    let origin = texts();
    let as_sent = both(&origin, "", "");
    let forced = both(&origin, "", "proxy_force_ranges on;");
    for path in ["/plain/", "/none/", "/bytes/", "/parts/", "/lost/"] {
        for method in ["GET", "HEAD"] {
            compare(&as_sent, method, path);
            compare(&forced, method, path);
        }
    }
    let answer = forced.send("GET /none/ HTTP/1.1\r\nHost: a\r\nRange: bytes=3-5\r\n\r\n");
    assert_eq!((answer.status, answer.text()), (206, "def"));
    // Several at a time there are not.
    let answer = forced.send("GET /none/ HTTP/1.1\r\nHost: a\r\nRange: bytes=3-5,7-8\r\n\r\n");
    assert_eq!((answer.status, answer.header("Accept-Ranges")), (200, Some("bytes")));
    assert_eq!(as_sent.get("/none/").header("Accept-Ranges"), Some("none"));
}

#[test]
fn what_a_cache_may_keep_has_parts_where_its_server_says_a_word_of_them() {
    let origin = texts();
    let zone = "proxy_cache_path cache keys_zone=zone:1m;";
    let cached =
        "proxy_cache zone; add_header X-Cache $upstream_cache_status always; proxy_cache_key $uri$arg_k;";
    let kept = both(&origin, zone, &format!("{cached} proxy_cache_valid any 1h;"));
    // There is no time for which answers are good.
    let passing = both(&origin, zone, cached);
    let forced = both(&origin, zone, &format!("{cached} proxy_cache_valid any 1h; proxy_force_ranges on;"));
    let none = both(&origin, zone, &format!("{cached} proxy_cache_valid any 1h; max_ranges 0;"));
    for path in ["/plain/", "/none/", "/bytes/", "/lost/", "/private/"] {
        for proxies in [&kept, &passing, &forced, &none] {
            compare(proxies, "GET", path);
            compare(proxies, "HEAD", path);
            // Each finds nothing.
            for (number, fields) in RANGES.iter().enumerate() {
                proxies.send(&format!("GET {path}?k={number} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
            }
        }
    }
    let answer = kept.send("GET /none/ HTTP/1.1\r\nHost: a\r\nRange: bytes=3-5\r\n\r\n");
    assert_eq!((answer.status, answer.text(), answer.header("X-Cache")), (206, "def", Some("HIT")));
    assert_eq!(kept.get("/none/").header("Accept-Ranges"), Some("bytes"));
}

const SLICED: &str = "slice 10; proxy_set_header Range $slice_range;";

#[test]
fn answer_comes_in_slices_of_which_no_more_are_asked_for_than_are_wanted() {
    let origin = texts();
    let plain = both(&origin, "", SLICED);
    let zone = "proxy_cache_path cache keys_zone=zone:1m;";
    let cached = both(
        &origin,
        zone,
        &format!(
            "{SLICED} proxy_cache zone; proxy_cache_valid 200 206 1h; proxy_cache_key $uri$slice_range$arg_k;
             add_header X-Cache $upstream_cache_status always;"
        ),
    );
    for path in ["/parts/", "/plain/", "/lost/"] {
        for method in ["GET", "HEAD"] {
            compare(&plain, method, path);
            compare(&cached, method, path);
        }
    }
    let before = origin.requests().len();
    let answer = plain.ours.get("/parts/");
    assert_eq!((answer.status, &*answer.body), (200, TEXT));
    let asked: Vec<_> = origin.requests()[before..]
        .iter()
        .map(|head| field(head, "Range").unwrap_or_default().to_owned())
        .collect();
    assert_eq!(asked, ["bytes=0-9", "bytes=10-19", "bytes=20-29", "bytes=30-39"]);
    let ours = |fields: &str| {
        let before = origin.requests().len();
        let mut client = cached.ours.client();
        client.send(format!("GET /parts/?k=new HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        let answer = client.response();
        let asked: Vec<_> =
            origin.requests()[before..].iter().map(|head| field(head, "Range").unwrap().to_owned()).collect();
        (answer.status, answer.text().to_owned(), asked)
    };
    let list = |asked: &[&str]| asked.iter().map(|&range| range.to_owned()).collect::<Vec<_>>();
    // From the middle of one to the middle of the next.
    assert_eq!(
        ours("Range: bytes=15-21\r\n"),
        (206, "pqrstuv".to_owned(), list(&["bytes=10-19", "bytes=20-29"]))
    );
    // Those are there.
    assert_eq!(ours("Range: bytes=12-25\r\n"), (206, "mnopqrstuvwxyz".to_owned(), list(&[])));
    // The first tells how long the whole is; what lies between is not asked for.
    assert_eq!(ours("Range: bytes=-3\r\n"), (206, "789".to_owned(), list(&["bytes=0-9", "bytes=30-39"])));
    assert_eq!(ours(""), (200, String::from_utf8(TEXT.to_vec()).unwrap(), list(&[])));
}

#[test]
fn pieces_that_do_not_belong_together_end_the_answer() {
    let origin = texts();
    let content = format!("location / {{ proxy_pass http://{}; {SLICED} }}", origin.addr);
    let site = Site::new(&content);
    let _running = site.start();
    for (path, words, begins) in [
        ("/tags/", "etag mismatch in slice response", true),
        ("/shifted/", "unexpected range in slice response: 9-20, expected: 10-20", true),
        ("/grows/", "complete length mismatch in slice response", true),
        ("/stops/", "unexpected status code 500 in slice response", true),
        ("/endless/", "no complete length in slice response", false),
    ] {
        let mut client = site.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let received = String::from_utf8(client.rest().unwrap_or_default()).unwrap();
        assert_eq!(received.starts_with("HTTP/1.1 200 "), begins, "{path}: {received}");
        assert_eq!(received.contains("abcdefghij"), begins, "{path}: {received}");
        assert!(!received.contains("6789"), "{path}: {received}");
        eventually(words, || site.read("error.log").contains(words));
    }
}

#[test]
fn piece_is_no_more_than_it_says_and_spells_nothing_of_the_next_answer() {
    let origin = Origin::start(|visit| {
        let head = visit.request()?;
        let asked = field(&head, "Range").and_then(|range| part(range.strip_prefix("bytes=")?));
        let start = asked.map_or(0, |(start, _)| start);
        // Of the first one more comes than was said.
        let body = if start == 0 { "0123456789xxxxx" } else { "abcdefghij" };
        let end = start + 9;
        visit.write(format!(
            "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {start}-{end}/20\r\nx-kept: a\r\n\
             Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len(),
        ))
    });
    let site = Site::new(&format!(
        "location /a {{ proxy_pass http://{}; {SLICED} }} location /b {{ add_header X-Kept b; return 200 b; }}",
        origin.addr,
    ));
    let _running = site.start();
    let mut client = site.client();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "0123456789abcdefghij");
    client.send("GET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let answer = String::from_utf8(client.rest().unwrap()).unwrap();
    assert!(answer.contains("\r\nX-Kept: b\r\n"), "{answer}");
}

#[test]
fn only_who_looks_at_the_range_has_slices() {
    let origin = texts();
    let proxies = both(&origin, "", "slice 10; proxy_set_header X-Own 1;");
    compare(&proxies, "GET", "/parts/");
    let answer = proxies.send("GET /parts/ HTTP/1.1\r\nHost: a\r\nRange: bytes=5-20\r\n\r\n");
    assert_eq!((answer.status, answer.text()), (206, "fghijklmnopqrstu"));
}

#[test]
fn what_is_packed_on_its_way_has_no_parts() {
    let origin = texts();
    let packs = "gzip on; gzip_types text/plain; gzip_min_length 1;";
    for content in ["proxy_force_ranges on;", SLICED] {
        let proxies = both(&origin, "", &format!("{packs} {content}"));
        let mut client = proxies.ours.client();
        client.send("GET /parts/ HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nRange: bytes=25-30\r\n\r\n");
        let answer = client.response();
        // The server's own part is one, and is not packed.
        let expected = if content == SLICED { (200, Some("gzip")) } else { (206, None) };
        assert_eq!((answer.status, answer.header("Content-Encoding")), expected, "{content}");
        let whole = unpacked(&answer.body);
        assert!(expected.0 == 206 || whole == TEXT, "{content}");
        let answer = proxies.send("GET /parts/ HTTP/1.1\r\nHost: a\r\nRange: bytes=25-30\r\n\r\n");
        assert_eq!((answer.status, answer.text()), (206, "z01234"));
    }
}

/// Returns what was packed.
fn unpacked(body: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let _ = flate2::read::GzDecoder::new(body).read_to_end(&mut text);
    text
}
