//! The character set that answers are said to be in, and are put into.

use crate::nginx::Beside;
use crate::peer::{Origin, Proxy, http};

#[test]
fn character_set_is_added_to_texts_that_have_none() {
    let app = Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            let fields = match head.split([' ', '?']).nth(1).unwrap() {
                "/plain" => "Content-Type: text/plain\r\n",
                "/own" => "Content-Type: text/html; charset=koi8-r\r\n",
                "/image" => "Content-Type: image/png\r\n",
                "/asked" => "Content-Type: image/png\r\nX-Accel-Charset: latin1\r\n",
                "/known" => "Content-Type: image/png\r\nX-Accel-Charset: UTF-8\r\n",
                "/packed" => "Content-Type: text/plain\r\nContent-Encoding: br\r\n",
                "/moved" => "Content-Type: text/html\r\n",
                _ => "",
            };
            visit.reply(fields, "x")?;
        }
    });
    let proxy = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1; charset utf-8; proxy_pass_header X-Own;
             location / {{ proxy_pass http://{0}; }}
             location /over/ {{ override_charset on; proxy_pass http://{0}/; }}
             location /off/ {{ charset off; proxy_pass http://{0}/; }}
             location /varies/ {{ charset $arg_charset; proxy_pass http://{0}/; }}
             location /types/ {{ charset_types image/png; proxy_pass http://{0}/; }}
             location /text {{ default_type text/plain; return 200; }}
             location /text.html {{ types {{ text/html html; }} return 200 x; }}
             location /moved {{ return 301 /; }} }}",
        app.addr
    )));
    for (path, expected) in [
        ("/plain", Some("text/plain; charset=utf-8")),
        ("/own", Some("text/html; charset=koi8-r")),
        // There is no way from the one to the other.
        ("/over/own", Some("text/html; charset=koi8-r")),
        ("/image", Some("image/png")),
        ("/types/image", Some("image/png; charset=utf-8")),
        ("/types/plain", Some("text/plain")),
        // Nobody knows it.
        ("/asked", Some("image/png")),
        ("/known", Some("image/png; charset=UTF-8")),
        ("/packed", Some("text/plain; charset=utf-8")),
        ("/none", None),
        ("/off/plain", Some("text/plain")),
        ("/varies/plain?charset=x", Some("text/plain; charset=x")),
        // Only the word in the file is none.
        ("/varies/plain?charset=off", Some("text/plain; charset=off")),
        ("/varies/plain", Some("text/plain")),
        ("/text", Some("text/plain; charset=utf-8")),
        ("/text.html", Some("text/html; charset=utf-8")),
        // That of a redirect is none of its target's.
        ("/moved", Some("text/html")),
    ] {
        assert_eq!(proxy.get(path).header("Content-Type"), expected, "{path}");
    }
}

/// Two letters of three sets.
const MAPS: &str = "charset_map koi8-r windows-1251 { C1 E0; C2 e1; 80 88; }
                    charset_map koi8-r utf-8 { C1 D0B0; C2 D0B1; 80 E282AC; }";

#[test]
fn texts_are_put_into_another_character_set() {
    let app = Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            visit.body(&head)?;
            let mut fields = String::from("Accept-Ranges: bytes\r\nETag: \"x\"\r\n");
            let path = head.split([' ', '?']).nth(1).unwrap();
            let (kind, body): (&str, &[u8]) = match path.rsplit('/').next().unwrap() {
                "koi8" => ("text/plain", b"ab \xc1\xc2 \x80\xff"),
                "own" => ("text/html; charset=KOI8-R", b"ab \xc1\xc2 \x80\xff"),
                "foreign" => ("text/html; charset=latin1", b"ab \xc1\xc2"),
                "utf8" => ("text/plain; charset=\"utf-8\"", "ab аб € ж".as_bytes()),
                "broken" => ("text/plain; charset=utf-8", b"ab \xd0\xb0\xd0 \x80\xd0"),
                "image" => ("image/png", b"\xc1\xc2 \xc1"),
                "asked" => {
                    fields += "X-Accel-Charset: UTF-8\r\n";
                    ("image/png", b"\xc1")
                }
                "packed" => {
                    fields += "Content-Encoding: br\r\n";
                    ("text/plain", b"\xc1\xc2 \xc1")
                }
                _ => ("text/plain", b"only ascii"),
            };
            fields += &format!("Content-Type: {kind}\r\n");
            visit.write(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", body.len()))?;
            if !head.starts_with("HEAD ") {
                visit.write(body)?;
            }
        }
    });
    let pass = format!("proxy_pass http://{}/;", app.addr);
    let beside = Beside::start(
        MAPS,
        &format!(
            "location /same/ {{ charset koi8-r; source_charset KOI8-R; {pass} }}
             location /windows/ {{ charset windows-1251; source_charset koi8-r; {pass} }}
             location /utf8/ {{ charset utf-8; source_charset koi8-r; {pass} }}
             location /over/ {{ charset utf-8; source_charset koi8-r; override_charset on; {pass} }}
             location /back/ {{ charset koi8-r; override_charset on; {pass} }}
             location /back-forced/ {{ charset koi8-r; override_charset on; proxy_force_ranges on; {pass} }}
             location /varies/ {{ charset $arg_to; source_charset $arg_from; {pass} }}
             location /none/ {{ source_charset koi8-r; {pass} }}
             location /if/ {{ if ($arg_a) {{ charset utf-8; source_charset koi8-r; }} {pass} }}
             location /forced/ {{ charset windows-1251; source_charset koi8-r; proxy_force_ranges on; {pass} }}
             location /resized/ {{ charset utf-8; source_charset koi8-r; proxy_force_ranges on; {pass} }}
             location /sub/ {{ charset utf-8; source_charset koi8-r; sub_filter_types text/plain; sub_filter ab ABC; {pass} }}
             location /text {{ default_type text/plain; charset utf-8; source_charset koi8-r; return 200 text; }}
             location /moved {{ charset utf-8; source_charset koi8-r; return 301 /x; }}
             location /file {{ charset windows-1251; source_charset koi8-r; types {{ text/plain txt; }} }}
             location /file8 {{ charset utf-8; source_charset koi8-r; types {{ text/plain txt; }} }}"
        ),
        &["Content-Type", "Accept-Ranges", "Content-Range", "Transfer-Encoding", "ETag"],
    );
    beside.file("file.txt", b"ab \xc1\xc2");
    beside.file("file8.txt", b"ab \xc1\xc2");
    for place in
        ["same", "windows", "utf8", "over", "back", "back-forced", "none", "if", "forced", "resized", "sub"]
    {
        for name in ["koi8", "own", "foreign", "utf8", "broken", "image", "packed", "nothing"] {
            for (method, fields) in [("GET", ""), ("HEAD", ""), ("GET", "Range: bytes=1-3\r\n")] {
                let request = format!("{method} /{place}/{name}?a=1 HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
                let answer = beside.send(&request);
                assert!(
                    place != "utf8"
                        || name != "koi8"
                        || method == "HEAD"
                        || answer.body == "ab аб €?".as_bytes()
                );
            }
        }
    }
    // nginx 1.22 does not live through this one.
    let asked = beside.ours.get("/none/asked");
    assert_eq!((asked.header("Content-Type"), asked.text()), (Some("image/png; charset=UTF-8"), "а"));
    for path in [
        "/varies/koi8?from=koi8-r&to=utf-8",
        "/varies/koi8?from=koi8-r&to=windows-1251",
        "/varies/koi8?from=koi8-r&to=koi8-r",
        "/varies/koi8?from=latin1&to=LATIN1",
        "/varies/koi8?from=koi8-r&to=latin1",
        "/varies/utf8?from=x&to=utf-8",
        "/text",
        "/moved",
        "/file.txt",
        "/file8.txt",
        "/lost",
    ] {
        beside.get(path);
        beside.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nRange: bytes=1-3\r\n\r\n"));
    }
}

#[test]
fn character_that_comes_in_two_pieces_is_one() {
    let app = Origin::start(|visit| {
        let (start, end) = "жabж".as_bytes().split_at(1);
        visit.request()?;
        visit.write("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for piece in [start, end] {
            visit.write(format!("{:x}\r\n", piece.len()))?;
            visit.write(piece)?;
            visit.write("\r\n")?;
        }
        visit.write("0\r\n\r\n")
    });
    let proxy = Proxy::start(&http(&format!(
        "{MAPS} server {{ listen 127.0.0.1:1; charset koi8-r; source_charset utf-8;
         location / {{ proxy_pass http://{}; }} }}",
        app.addr
    )));
    assert_eq!(proxy.get("/").text(), "&#1078;ab&#1078;");
}
