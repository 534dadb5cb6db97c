//! Who a client is, and whether it may come in.

use crate::peer::{Proxy, http, server};

#[test]
fn first_rule_that_concerns_a_client_decides_where_it_stands() {
    let proxy = Proxy::start(&server(
        "deny 127.0.0.1; allow all; error_page 403 =403 @refused;
         location / { }
         location /open { allow 127.0.0.0/8; deny all; }
         location /read { allow all; limit_except GET { deny all; } }
         location @refused { allow all; return 200 refused; }",
    ));
    for file in ["index.html", "open", "read"] {
        proxy.file(&format!("html/{file}"), "in");
    }
    let refused = proxy.get("/");
    assert_eq!((refused.status, refused.text()), (403, "refused"));
    assert_eq!(proxy.get("/open").text(), "in");
    assert_eq!(proxy.get("/read").text(), "in");
    let mut client = proxy.client();
    client.send("DELETE /read HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 403);
}

#[test]
fn peer_that_is_trusted_says_who_the_client_is() {
    let proxy = Proxy::start(&http(
        "server {
             listen 127.0.0.1:1; set_real_ip_from 127.0.0.0/8; real_ip_header X-Forwarded-For;
             location / { deny 192.0.2.66; alias html; add_header X-Ip \"$remote_addr $realip_remote_addr\" always; }
         }",
    ));
    let ask = |forwarded: &str| {
        let mut client = proxy.client();
        client.send(format!("GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {forwarded}\r\n\r\n"));
        let answer = client.response();
        (answer.status, answer.header("X-Ip").map(str::to_owned))
    };
    assert_eq!(ask("192.0.2.1"), (404, Some("192.0.2.1 127.0.0.1".to_owned())));
    assert_eq!(ask("192.0.2.66").0, 403);
    assert_eq!(ask("192.0.2.66, 192.0.2.1").0, 404);
}

#[test]
fn header_of_the_proxy_protocol_comes_first_or_the_connection_ends() {
    let proxy = Proxy::start(
        &server(
            "set_real_ip_from 127.0.0.1; real_ip_header proxy_protocol;
                 return 200 \"$remote_addr:$remote_port $proxy_protocol_server_port\";",
        )
        .replace("127.0.0.1:1;", "127.0.0.1:1 proxy_protocol;"),
    );
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut client = proxy.client();
    client.send(format!("PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n{request}"));
    assert_eq!(client.response().text(), "192.0.2.1:1234 80");
    client.send(request);
    assert_eq!(client.response().text(), "192.0.2.1:1234 80", "it holds for the whole connection");
    let mut client = proxy.client();
    client.send("PROXY TCP6 2001:db8::1 ");
    client.send(format!("2001:db8::2 5 443\r\n{request}"));
    assert_eq!(client.response().text(), "2001:db8::1:5 443");
    let mut client = proxy.client();
    client.send(request);
    assert!(client.is_closed());
}

/// Of `http {}` and of `stream {}`, as nginx has it.
#[test]
fn header_of_the_proxy_protocol_is_read_alike_on_both_sides() {
    let listen = "listen 127.0.0.1:1 proxy_protocol;";
    let sides = [
        http(&format!("server {{ {listen} return 200 $proxy_protocol_addr; }}")),
        format!("events {{}} stream {{ server {{ {listen} return $proxy_protocol_addr; }} }}"),
    ];
    // TCP over IPv4 from 192.0.2.1 to 192.0.2.2, and a checksum that is none.
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\xc0\0\x02\x01\xc0\0\x02\x02\0\x07\0\x08".to_vec();
    header.extend(b"\x03\0\x04none");
    for text in &sides {
        let proxy = Proxy::start(text);
        let ask = |pieces: &[&[u8]]| {
            let mut client = proxy.client();
            for piece in pieces {
                client.send(piece);
            }
            client.finish();
            String::from_utf8(client.leave().bytes).unwrap()
        };
        let request = b"GET / HTTP/1.0\r\n\r\n";
        assert!(ask(&[&header, request]).ends_with("192.0.2.1"), "{text}");
        let (first, rest) = header.split_at(14);
        assert!(ask(&[first, rest, request]).ends_with("192.0.2.1"), "{text}");
        // Who ends in the middle of one is not waited for.
        assert_eq!(ask(&[first]), "", "{text}");
        assert_eq!(ask(&[]), "", "{text}");
    }
}
