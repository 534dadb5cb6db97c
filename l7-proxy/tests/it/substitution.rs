//! Texts that are replaced in answers (`sub_filter`).

use std::time::Duration;

use crate::nginx::Beside;
use crate::peer::{Origin, Proxy, http};

const FIELDS: &[&str] =
    &["Content-Type", "Content-Length", "ETag", "Last-Modified", "Accept-Ranges", "Content-Range"];

#[test]
fn files_come_with_their_texts_replaced_as_from_nginx() {
    let both = Beside::start(
        "types { text/html html; text/plain txt; }",
        "sub_filter hello \"bye $arg_x\"; sub_filter world earth;
         location /all/ { sub_filter hello bye; sub_filter_once off; sub_filter_last_modified on; }
         location /plain/ { sub_filter_types text/plain; }
         location /text { default_type text/html; return 200 \"hello hello\"; }
         location /missing { return 404; }",
        FIELDS,
    );
    for folder in ["once", "all", "plain"] {
        both.file(&format!("{folder}/page.html"), "<html>Hello World, hello WORLD hello</html>");
        both.file(&format!("{folder}/page.txt"), "hello");
        both.file(&format!("{folder}/empty.html"), "");
        both.file(&format!("{folder}/large.html"), "xHELLOx ".repeat(20_000));
        for name in ["page.html?x=1", "page.txt", "empty.html", "large.html"] {
            both.get(&format!("/{folder}/{name}"));
        }
        for fields in ["Range: bytes=1-3", "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT"] {
            for name in ["page.html", "page.txt"] {
                both.send(&format!("GET /{folder}/{name} HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"));
            }
        }
    }
    assert_eq!(both.get("/once/page.html?x=1").text(), "<html>bye 1 earth, hello WORLD hello</html>");
    assert_eq!(both.get("/all/page.html").header("ETag"), Some("W/\"6553f100-2b\""));
    both.get("/text?x=2");
    both.get("/missing");
}

#[test]
fn answer_without_a_type_is_edited_where_all_types_are() {
    let origin = Origin::start(|visit| {
        loop {
            visit.request()?;
            visit.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
        }
    });
    let proxy = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1; sub_filter hello bye;
             location / {{ proxy_pass http://{0}; }}
             location /all {{ sub_filter_types *; proxy_pass http://{0}; }} }}",
        origin.addr
    )));
    assert_eq!((proxy.get("/").text(), proxy.get("/all").text()), ("hello", "bye"));
}

#[test]
fn answer_of_a_server_is_edited_as_it_comes() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.write("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for piece in ["say he", "l", "lo, hell", "o and hel"] {
            visit.write(format!("{:x}\r\n{piece}\r\n", piece.len()))?;
            std::thread::sleep(Duration::from_millis(5));
        }
        visit.write("0\r\n\r\n")
    });
    let proxy = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1; sub_filter hello $arg_by; sub_filter_once off;
             location / {{ proxy_pass http://{0}; }}
             location /packed {{ gzip on; gzip_min_length 1; proxy_pass http://{0}; }} }}",
        origin.addr
    )));
    assert_eq!(proxy.get("/?by=bye").text(), "say bye, bye and hel");
    let mut client = proxy.client();
    client.send("GET /packed?by=bye HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    let packed = client.response();
    assert_eq!(packed.header("Content-Encoding"), Some("gzip"));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*packed.body), &mut text).unwrap();
    assert_eq!(text, "say bye, bye and hel");
}
