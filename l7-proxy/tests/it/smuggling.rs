//! Requests that two readers could count differently, through two proxies in a row.
//!
//! The first hop marks each request with what it takes for its target, and a number. The origin must
//! see no request without a mark, none under another target than its mark says, none twice and none
//! that is framed in two ways; and the answer to a later client must be the one to its own request.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::nginx::Nginx;
use crate::peer::{Client, Origin, Proxy, field, http};

/// What is hidden where a reader may find it.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a\r\nX-Mark: /hidden\r\nX-Number: 0.0\r\n\r\n";

/// What the first hop tells of a request.
const MARKS: &str = "proxy_set_header X-Mark $request_uri; \
                     proxy_set_header X-Number $connection.$connection_requests;";

/// Requests of which all bytes belong to one body for one reader, and not for another.
fn cases() -> Vec<String> {
    let mut cases = Vec::new();
    // A coding that may be seen or not, with a length: by the length the hidden one is body.
    let codings = [
        "Transfer-Encoding: chunked",
        "transfer-encoding: CHUNKED",
        "Transfer-Encoding:chunked",
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding: chunked ",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        "Transfer-Encoding\x0b: chunked",
        "Transfer-Encoding\0: chunked",
        "Transfer-Encoding\r\n : chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding:\n chunked",
        " Transfer-Encoding: chunked",
        "\tTransfer-Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "X: y\r\r\nTransfer-Encoding: chunked",
        "X: y\0\r\nTransfer-Encoding: chunked",
        "Transfer_Encoding: chunked",
        "Transfer.Encoding: chunked",
        "Transfer Encoding: chunked",
        "Transfer-Encoding chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: , chunked",
        "Transfer-Encoding: chunked; q",
        "Transfer-Encoding: chunk",
        "Transfer-Encoding: chunked\0",
        "Transfer-Encoding: chunked\x01",
        "Transfer-Encoding: chunked\x7f",
        "Transfer-Encoding: chunked\x0b",
        "Transfer-Encoding: \x0cchunked",
        "Transfer-Encoding: \u{a0}chunked",
        "Transfer-Encoding: chunked\r\n\t",
        "Transfer-Encoding\x0c: chunked",
        "Transfer-Encoding:: chunked",
        "Transfer--Encoding: chunked",
        "\x01Transfer-Encoding: chunked",
        ": Transfer-Encoding: chunked",
        ": y\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer_Encoding: identity",
    ];
    for coding in codings {
        let body = format!("0\r\n\r\n{HIDDEN}");
        for (first, second) in [
            (coding, format!("Content-Length: {}", body.len())),
            (&format!("Content-Length: {}", body.len()), coding.into()),
        ] {
            cases.push(format!("POST /a HTTP/1.1\r\nHost: a\r\n{first}\r\n{second}\r\n\r\n{body}"));
        }
        cases.push(format!("POST /a HTTP/1.1\r\nHost: a\r\n{coding}\r\n\r\n{body}"));
        cases.push(format!("POST /a HTTP/1.0\r\nHost: a\r\n{coding}\r\nContent-Length: 0\r\n\r\n{HIDDEN}"));
        // The other way round: by chunks the hidden one is body.
        let chunk = format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len());
        cases.push(format!("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n{coding}\r\n\r\n{chunk}"));
    }
    // Lengths.
    for lengths in [
        "Content-Length: 0\r\nContent-Length: LEN",
        "Content-Length: LEN\r\nContent-Length: 0",
        "Content-Length: LEN\r\nContent-Length: LEN",
        "Content-Length: 0, LEN",
        "Content-Length: LEN, LEN",
        "Content-Length: +LEN",
        "Content-Length: -LEN",
        "Content-Length: 0xLEN",
        "Content-Length: LEN.0",
        "Content-Length: 0\r\n LEN",
        "Content-Length: \r\n LEN",
        "Content-Length : LEN",
        "Content-Length\t: LEN",
        " Content-Length: LEN",
        "Content_Length: LEN",
        "Content-Length: LEN\nContent-Length: 0",
        "Content-Length: 00000000000000000000LEN",
        "Content-Length: 18446744073709551616LEN",
        "Content-Length: LEN\r\nConnection: Content-Length",
        "Content-Length: LEN\r\nConnection: close, content-length, host",
        "Content-Length: LEN\r\nExpect: 100-continue",
        "Content-Length: LEN\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
        "Content-Length: LEN\r\nConnection: Upgrade\r\nUpgrade: websocket",
        "Content-Length:",
        "Content-Length: -0",
        "Content-Length:  LEN",
        "Content-Length:\tLEN",
        "Content-Length: LEN \t",
        "Content-Length: 1 LEN",
        "Content-Length: LEN,",
        "Content-Length: LEN;",
        "Content-Length: \"LEN\"",
        "Content-Length: LEN\0",
        "Content-Length: LEN\x11",
        "Content-Length: LENe0",
        "Content-Length: LEN_0",
        "Content Length: LEN",
        "Content--Length: LEN",
        "CONTENT-LENGTH: LEN\r\ncontent-length: 0",
        "Content-Length: LEN, LEN, LEN",
    ] {
        let lengths = lengths.replace("LEN", &HIDDEN.len().to_string());
        for method in ["POST", "GET", "HEAD", "OPTIONS"] {
            cases.push(format!("{method} /a HTTP/1.1\r\nHost: a\r\n{lengths}\r\n\r\n{HIDDEN}"));
        }
    }
    // Chunks.
    for chunks in [
        "5\r\nhello\r\n0\r\n\r\n",
        "5;a=b\r\nhello\r\n0;c=\"d\"\r\n\r\n",
        "5;\nHIDDEN\r\nhello\r\n0\r\n\r\n",
        "5;\rx\r\nhello\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "05\r\nhello\r\n00\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5_0\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "\r\n0\r\n\r\n",
        "0\r\nContent-Length: 5\r\n\r\nhello",
        "0\r\nTransfer-Encoding: chunked\r\nHost: b\r\nX-Mark: /b\r\n\r\n",
        "0\r\nX: y\nZ\r\n\r\n",
        "0\r\n\n",
        "0\n\r\n",
        "5;\r\nhello\r\n0\r\n\r\n",
        "5 ;a\r\nhello\r\n0\r\n\r\n",
        "5;a \r\nhello\r\n0\r\n\r\n",
        "5;a=\r\nhello\r\n0\r\n\r\n",
        "5;a[=b\r\nhello\r\n0\r\n\r\n",
        "5;\0a\r\nhello\r\n0\r\n\r\n",
        "5;a=\"\r\nhello\r\n0\r\n\r\n",
        "5;a=\"\nHIDDEN\"\r\nhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "5\rhello\r0\r\r",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5\t\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0;\r\n\r\n",
        "5\r\nhello\r\n00000000000000000000\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX: y\r\n\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX: y\0\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nAuthorization: y\r\nContent-Type: z\r\nX-Mark: /b\r\n\r\n",
    ] {
        let chunks = chunks.replace("HIDDEN", HIDDEN);
        cases.push(format!(
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{HIDDEN}"
        ));
    }
    // Names and targets.
    for head in [
        "GET http://b/a HTTP/1.1\r\nHost: a",
        "GET http://a/a HTTP/1.1\r\nHost: b",
        "GET http://a@b/a HTTP/1.1\r\nHost: a",
        "GET //b/a HTTP/1.1\r\nHost: a",
        "GET /a HTTP/1.1\r\nHost: a\r\nHost: b",
        "GET /a HTTP/1.1\r\nHost: a\r\n Host: b",
        "GET /a HTTP/1.1\r\nHost: a, b",
        "GET /a HTTP/1.1\r\nHost : b\r\nHost: a",
        "GET /a HTTP/1.1\r\nHost: a/b",
        "GET /a HTTP/1.1",
        "GET /a\r\nHost: a",
        "GET /a HTTP/1.1 \r\nHost: a",
        "GET  /a HTTP/1.1\r\nHost: a",
        "GET /a HTTP/1.1\x0bX: y\r\nHost: a",
        "GET /a?x HTTP/1.1 /b HTTP/1.1\r\nHost: a",
        "GET /a\tb HTTP/1.1\r\nHost: a",
        "GET /a#/b HTTP/1.1\r\nHost: a",
        "GET a HTTP/1.1\r\nHost: a",
        "GET /a HTTP/2.0\r\nHost: a",
        "GET /a HTTP/1.10\r\nHost: a",
        "PRI * HTTP/2.0",
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80",
        "GET /a HTTP/1.1\nHost: a",
        "GET /a HTTP/1.2\r\nHost: a",
        "GET /a\" HTTP/1.9\r\nHost: a",
        "GET /a?<b>=\"c\" HTTP/1.1\r\nHost: a",
        "GET /a HTTP/0.9\r\nHost: a",
        "GET /a HTTP/1\r\nHost: a",
        "GET /a HTTP/01.1\r\nHost: a",
        "GET /a http/1.1\r\nHost: a",
        "GET /a HTTP/1.1\r\r\nHost: a",
        "GET\t/a HTTP/1.1\r\nHost: a",
        "\r\n\r\nGET /a HTTP/1.1\r\nHost: a",
        " GET /a HTTP/1.1\r\nHost: a",
        "GET /a HTTP/1.1\r\n Host: b\r\nHost: a",
        "GET /a HTTP/1.1\r\nHost: a\r\n \r\nX: y",
        "GET /a HTTP/1.1\r\nHost: a\r\nX",
        "GET /a HTTP/1.1\r\nHost: a\r\nHOST: a",
        "GET /a%0d%0aX:%20y HTTP/1.1\r\nHost: a",
        "GET /a\\b HTTP/1.1\r\nHost: a",
        "GET /caf\u{e9} HTTP/1.1\r\nHost: a",
        "OPTIONS * HTTP/1.1\r\nHost: a",
        "GET http:///a HTTP/1.1\r\nHost: a",
    ] {
        cases.push(format!("{head}\r\n\r\n{HIDDEN}"));
    }
    cases
}

/// An origin that keeps connections and answers with the target of each request.
fn origin() -> Origin {
    Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            visit.body(&head)?;
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            if head.starts_with("HEAD") {
                visit.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", target.len()))?;
            } else {
                visit.reply("", &target)?;
            }
        }
    })
}

/// A proxy of ours in front of `server`.
fn ours(server: SocketAddr, fields: &str) -> Proxy {
    Proxy::start(&http(&hop("127.0.0.1:1", server, fields)))
}

/// nginx in front of `server`, if it is installed.
fn nginx(server: SocketAddr, fields: &str) -> Option<Nginx> {
    Nginx::start(|addr| hop(&addr.to_string(), server, fields))
}

/// What either is told.
fn hop(listen: &str, server: SocketAddr, fields: &str) -> String {
    format!(
        "upstream app {{ server {server}; keepalive 8; }}
         server {{ listen {listen}; location / {{ proxy_pass http://app; proxy_http_version 1.1;
         proxy_set_header Connection ''; proxy_set_header Host $host; {fields} }} }}"
    )
}

/// Sends every case to the first hop, and looks at what the origin has seen.
fn judge(first: SocketAddr, origin: &Origin) {
    let mut seen = 0;
    let mut numbers = HashSet::new();
    for case in cases() {
        let mut stream = TcpStream::connect(first).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        stream.write_all(case.as_bytes()).unwrap();
        // Until it is closed, or nothing more comes.
        let mut answers = Vec::new();
        let _ = stream.read_to_end(&mut answers);
        let fence = Client::connect(first).get("/fence");
        assert_eq!((fence.status, fence.text()), (200, "/fence"), "after {case:?}");
        let heads = origin.requests();
        for head in &heads[seen..] {
            let target = head.split(' ').nth(1).unwrap_or_default();
            let mark = field(head, "X-Mark").unwrap_or_else(|| panic!("{case:?}: unmarked {head:?}"));
            assert_eq!(forwarded(target), forwarded(mark), "{case:?}: {head:?}");
            let number = field(head, "X-Number").unwrap_or_default();
            assert!(number != "0.0" && numbers.insert(number.to_owned()), "{case:?}: twice, {head:?}");
            let fields = |name: &str| head.to_ascii_lowercase().matches(&format!("\n{name}:")).count();
            assert_eq!((fields("host"), fields("x-mark")), (1, 1), "{case:?}: {head:?}");
            assert!(fields("content-length") + fields("transfer-encoding") <= 1, "{case:?}: {head:?}");
        }
        seen = heads.len();
    }
    // Beside a fence behind each case also what is no fault in any reading.
    assert!(seen > cases().len() + 50, "{seen} requests arrived of {} cases", cases().len());
}

/// What we may forward in place of a target: slashes in a row are one, and what is no character of a target
/// is encoded.
fn forwarded(target: &str) -> String {
    target.replace("//", "/").replace('"', "%22").replace('<', "%3C").replace('>', "%3E")
}

#[test]
fn two_proxies_of_ours_count_the_same_requests() {
    let origin = origin();
    let second = ours(origin.addr, "");
    let first = ours(second.addr(), MARKS);
    judge(first.addr(), &origin);
}

#[test]
fn nginx_behind_us_counts_the_same_requests() {
    let origin = origin();
    let Some(second) = nginx(origin.addr, "") else { return };
    let first = ours(second.addr, MARKS);
    judge(first.addr(), &origin);
}

#[test]
fn nginx_in_front_of_us_counts_the_same_requests() {
    let origin = origin();
    let second = ours(origin.addr, "");
    let Some(first) = nginx(second.addr(), MARKS) else { return };
    judge(first.addr, &origin);
}
