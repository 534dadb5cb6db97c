//! What a client may send, at each limit and one beyond it; nginx is asked the same, where it is installed.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::http2_peer::{PREFACE, SETTINGS, frame};
use crate::nginx::Nginx;
use crate::peer::{Origin, PATIENCE, Proxy, eventually, http};
use crate::secure::{self, anonymous, certificate};

/// Sends the bytes; returns the status of each answer up to the end of the connection.
fn statuses(to: SocketAddr, bytes: &str) -> Vec<u16> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // Who refuses may not wait for all of it.
    let _ = stream.write_all(bytes.as_bytes());
    let mut answers = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answers) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it is not closed");
    }
    let text = String::from_utf8_lossy(&answers);
    let lines = text.split("HTTP/1.1 ").skip(1);
    lines.map(|line| line[..3].parse().unwrap()).filter(|&status| status != 100).collect()
}

/// Checks what we answer under these directives, and that nginx does too.
fn check(directives: &str, cases: &[(String, &[u16])]) {
    let origin = Origin::start(|visit| {
        let head = visit.request()?;
        visit.body(&head)?;
        visit.reply("", "ok")
    });
    let content = |addr: &str| {
        format!(
            "{directives} server {{ listen {addr}; location / {{ return 204; }}
             location /app {{ proxy_pass http://{}; }} }}",
            origin.addr
        )
    };
    let proxy = Proxy::start(&http(&content("127.0.0.1:1")));
    for (bytes, expected) in cases {
        assert_eq!(statuses(proxy.addr(), bytes), *expected, "{directives} {bytes:?}");
    }
    if let Some(nginx) = Nginx::start(|addr| content(&addr.to_string())) {
        for (bytes, expected) in cases {
            assert_eq!(statuses(nginx.addr, bytes), *expected, "nginx: {directives} {bytes:?}");
        }
    }
}

const FIELDS: &str = "Host: a\r\nConnection: close\r\n";

/// A request whose first line has that many bytes.
fn line(size: usize) -> String {
    format!("GET /{} HTTP/1.1\r\n{FIELDS}\r\n", "x".repeat(size - "GET / HTTP/1.1\r\n".len()))
}

/// A request with a field of that many bytes.
fn field(size: usize) -> String {
    format!("GET / HTTP/1.1\r\n{FIELDS}A: {}\r\n\r\n", "x".repeat(size - "A: \r\n".len()))
}

/// A request with that many fields of 100 bytes.
fn fields(count: usize) -> String {
    let fields = format!("A: {}\r\n", "x".repeat(95)).repeat(count);
    format!("GET / HTTP/1.1\r\n{FIELDS}{fields}\r\n")
}

#[test]
fn line_of_a_head_is_as_long_as_the_larger_buffer() {
    let cases: [(String, &[u16]); 4] =
        [(line(600), &[204]), (line(601), &[414]), (field(600), &[204]), (field(601), &[400])];
    check("client_header_buffer_size 256; large_client_header_buffers 2 600;", &cases);
    check("client_header_buffer_size 600; large_client_header_buffers 2 512;", &cases[..2]);
    // What nginx's first buffer has room for beside the other lines.
    check("client_header_buffer_size 2k; large_client_header_buffers 2 512;", &[(field(1900), &[204])]);
    check("", &[(line(8192), &[204]), (line(8193), &[414]), (field(8192), &[204]), (field(8193), &[400])]);
}

#[test]
fn head_is_as_large_as_all_buffers() {
    // nginx gives away what is left in a buffer that the next line does not fit in, so that the
    // limit is between these two.
    let cases: [(String, &[u16]); 2] = [(fields(12), &[204]), (fields(15), &[400])];
    check("client_header_buffer_size 256; large_client_header_buffers 2 600;", &cases);
}

#[test]
fn head_has_as_many_fields_as_are_allowed() {
    // nginx 1.22 knows no such limit.
    let short = |count: usize| format!("GET / HTTP/1.1\r\n{FIELDS}{}\r\n", "B: 1\r\n".repeat(count - 2));
    for (directive, most) in [("", 1000), ("max_headers 3;", 3)] {
        let proxy = Proxy::start(&http(&format!(
            "{directive} server {{ listen 127.0.0.1:1; location / {{ return 204; }} }}"
        )));
        assert_eq!(statuses(proxy.addr(), &short(most)), [204], "{directive}");
        assert_eq!(statuses(proxy.addr(), &short(most + 1)), [400], "{directive}");
    }
}

#[test]
fn body_is_as_large_as_is_allowed() {
    let body = |size: usize| "x".repeat(size);
    let length = |path: &str, size: usize| {
        format!("POST {path} HTTP/1.1\r\n{FIELDS}Content-Length: {size}\r\n\r\n{}", body(size))
    };
    let chunks = |sizes: &[usize]| {
        let chunks: String = sizes.iter().map(|&size| format!("{size:x}\r\n{}\r\n", body(size))).collect();
        format!("POST /app HTTP/1.1\r\n{FIELDS}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
    };
    check(
        "client_max_body_size 1k;",
        &[
            (length("/app", 1024), &[200]),
            (length("/app", 1025), &[413]),
            // Also where nobody reads it.
            (length("/", 1024), &[204]),
            (length("/", 1025), &[413]),
            (chunks(&[1024]), &[200]),
            (chunks(&[1000, 24]), &[200]),
            (chunks(&[1025]), &[413]),
            (chunks(&[1024, 1]), &[413]),
        ],
    );
    let mebibyte = 1 << 20;
    check("", &[(length("/app", mebibyte), &[200]), (length("/app", mebibyte + 1), &[413])]);
}

#[test]
fn size_that_a_signed_number_does_not_hold_is_refused() {
    let length = |size: &str| format!("POST /app HTTP/1.1\r\n{FIELDS}Content-Length: {size}\r\n\r\n");
    let chunk =
        |size: &str| format!("POST /app HTTP/1.1\r\n{FIELDS}Transfer-Encoding: chunked\r\n\r\n{size}\r\nx");
    check(
        "client_max_body_size 0; client_body_timeout 200ms;",
        &[
            (length("9223372036854775808"), &[400]),
            (length("18446744073709551617"), &[400]),
            (chunk("8000000000000000"), &[400]),
            (chunk("ffffffffffffffff"), &[400]),
            (chunk("10000000000000001"), &[400]),
            (chunk("-1"), &[400]),
            (chunk("+1"), &[400]),
            (chunk("0x1"), &[400]),
            (chunk(""), &[400]),
        ],
    );
}

#[test]
fn connection_has_as_many_requests_as_are_allowed() {
    let requests = |count: usize| "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(count);
    check(
        "keepalive_requests 3;",
        &[(requests(2) + &field(20), &[204; 3]), (requests(3), &[204; 3]), (requests(4), &[204; 3])],
    );
}

#[test]
fn client_that_is_slow_gets_no_answer() {
    let post = format!("POST /app HTTP/1.1\r\n{FIELDS}");
    check(
        "client_header_timeout 200ms; client_body_timeout 200ms;",
        &[
            (String::new(), &[]),
            ("GET / HTTP/1.1\r\nHo".into(), &[]),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HT".into(), &[204]),
            (format!("{post}Content-Length: 10\r\n\r\n"), &[]),
            (format!("{post}Content-Length: 10\r\n\r\nhalf"), &[]),
            (format!("{post}Transfer-Encoding: chunked\r\n\r\n5\r\nhalf"), &[]),
        ],
    );
}

/// Nor one that is slow before there is a request.
#[test]
fn client_that_is_slow_to_begin_is_not_waited_for() {
    let mut hello = secure::client_hello("localhost");
    hello.pop();
    let settings = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let cases: [(&str, &[&[u8]]); 4] = [
        ("", &[b""]),
        (" proxy_protocol", &[b"", b"PROXY TCP4 192.0.2.7"]),
        (" ssl", &[b"", &hello[..5], &hello]),
        ("; http2 on", &[b"", b"PR", PREFACE, &settings]),
    ];
    for (listen, beginnings) in cases {
        let proxy = Proxy::start(&http(&format!(
            "client_header_timeout 200ms; keepalive_timeout 200ms;
             server {{ listen 127.0.0.1:1{listen}; {} return 204; }}",
            certificate("server")
        )));
        for bytes in beginnings {
            let mut client = proxy.client();
            client.send(bytes);
            let left = client.rest().map_err(|error| error.kind());
            let is_ended = matches!(left, Ok(_) | Err(ErrorKind::ConnectionReset));
            assert!(is_ended, "{listen} {}: {left:?}", bytes.escape_ascii());
        }
        if listen == " ssl" {
            // The handshake is done, and nothing is asked for.
            let mut shaken = secure::connect(proxy.addr(), "localhost", &anonymous());
            let end = shaken.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
            assert!(!matches!(end, Err(ErrorKind::WouldBlock)), "{end:?}");
        }
    }
}

/// By whatever way the bytes go: from a file, from one socket to the other, through chunks, through TLS.
#[test]
fn client_that_stops_reading_is_not_waited_for() {
    let origin = Origin::start(|visit| {
        let data = vec![b'x'; 0x10000];
        if visit.request()?.contains("/chunks") {
            visit.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            let chunk = [b"10000\r\n", &*data, b"\r\n"].concat();
            loop {
                visit.write(&chunk)?;
            }
        }
        visit.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")?;
        loop {
            visit.write(&data)?;
        }
    });
    for ssl in ["", " ssl"] {
        let proxy = Proxy::start(&http(&format!(
            "log_format line '$uri $status $request_completion.'; upstream app {{ server {}; }}
             server {{ listen 127.0.0.1:1{ssl}; {} send_timeout 200ms; access_log log line; root html;
                 location /app/ {{ proxy_pass http://app; }} }}",
            origin.addr,
            certificate("server")
        )));
        proxy.file("html/file", vec![b'x'; 50_000_000]);
        for (number, path) in ["/file", "/app/length", "/app/chunks"].into_iter().enumerate() {
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let (mut plain, mut secure) = (None, None);
            if ssl.is_empty() {
                plain.insert(proxy.client()).send(&request);
            } else {
                let client = secure.insert(secure::connect(proxy.addr(), "localhost", &anonymous()));
                client.write_all(request.as_bytes()).unwrap();
            }
            assert_eq!(proxy.lines("log", number + 1)[number], format!("{path} 200 ."), "{ssl}");
        }
        eventually("the servers are let go", || proxy.active() == 0);
    }
}
