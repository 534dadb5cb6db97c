//! Forwarding: what the server sees, what the client gets, which connections are used.

use crate::peer::{Client, Origin, Proxy, eventually, field, forwarding, http};

#[test]
fn pages_are_served_here_and_jsp_by_the_server() {
    let origin = Origin::named("tomcat");
    let proxy = Proxy::start(&http(&format!(
        "upstream tomcat {{ server {}; }}
         server {{
            listen 127.0.0.1:1;
            location / {{ root html; index index.html; }}
            location ~ .*.jsp$ {{ proxy_pass http://tomcat; }}
         }}",
        origin.addr
    )));
    proxy.file("html/index.html", "static page");
    assert_eq!(proxy.get("/").text(), "static page");
    assert_eq!(proxy.get("/app/index.jsp?x=1").text(), "tomcat /app/index.jsp?x=1");
    assert_eq!(proxy.get("/nothing").status, 404);
}

#[test]
fn fields_are_set_as_configured() {
    let origin = Origin::named("a");
    let proxy = Proxy::start(&forwarding(
        &[&origin],
        "proxy_set_header Host $host; proxy_set_header X-Real-IP $remote_addr;
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
         proxy_set_header X-Uri $request_uri; proxy_set_header X-Gone ''; proxy_set_header Accept '';",
    ));
    let mut client = proxy.client();
    client.send(
        "GET /p?q HTTP/1.1\r\nHost: WWW.Example.org:81\r\nX-Forwarded-For: 10.0.0.1\r\n\
         X-Real-IP: forged\r\nX-Gone: 1\r\nAccept: */*\r\nUser-Agent: test\r\n\r\n",
    );
    assert_eq!(client.response().status, 200);
    let head = origin.last_request();
    assert!(head.starts_with("GET /p?q HTTP/1.1\r\n"), "{head}");
    for (name, value) in [
        ("Host", Some("www.example.org")),
        ("X-Real-IP", Some("127.0.0.1")),
        ("X-Forwarded-For", Some("10.0.0.1, 127.0.0.1")),
        ("X-Uri", Some("/p?q")),
        ("X-Gone", None),
        ("Accept", None),
        ("User-Agent", Some("test")),
        ("Connection", None),
    ] {
        assert_eq!(field(&head, name), value, "{name} in {head}");
        assert!(head.matches(&format!("\r\n{name}:")).count() <= 1, "{name} twice in {head}");
    }
}

#[test]
fn name_of_the_upstream_is_the_host_unless_set() {
    let origin = Origin::named("a");
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    proxy.get("/");
    assert_eq!(field(&origin.last_request(), "Host"), Some("app"));
}

#[test]
fn fields_of_one_connection_go_no_further() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.reply(
            "Connection: keep-alive, X-Mine\r\nKeep-Alive: timeout=5\r\nX-Mine: 1\r\nX-Ours: 2\r\n\
             Server: secret/1\r\nX-Accel-Buffering: no\r\nProxy-Connection: x\r\n",
            "ok",
        )
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
         TE: trailers\r\nUpgrade: h2c\r\nProxy-Connection: x\r\nProxy-Authorization: x\r\n\
         Proxy: evil\r\nExpect: nothing\r\nX_Real_IP: 6.6.6.6\r\nX-End: 2\r\n\r\n",
    );
    let response = client.response();
    let head = origin.last_request();
    for name in
        ["Connection", "X-Hop", "Keep-Alive", "TE", "Upgrade", "Proxy-Connection", "Proxy", "X_Real_IP"]
    {
        assert_eq!(field(&head, name), None, "{head}");
    }
    assert_eq!(field(&head, "Proxy-Authorization"), None, "{head}");
    assert_eq!(field(&head, "X-End"), Some("2"));
    assert_eq!(response.header("Connection"), Some("keep-alive"), "{}", response.head);
    for name in ["Keep-Alive", "X-Mine", "X-Accel-Buffering", "Proxy-Connection"] {
        assert_eq!(response.header(name), None, "{}", response.head);
    }
    assert_eq!(response.header("X-Ours"), Some("2"));
    assert!(response.header("Server").unwrap().starts_with("l7-proxy/"));
}

#[test]
fn client_cannot_have_its_host_taken_away() {
    let origin = Origin::named("a");
    let proxy = Proxy::start(&forwarding(&[&origin], "proxy_set_header Host $http_host;"));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: b\r\nConnection: Host\r\n\r\n");
    assert_eq!(client.response().status, 200);
    assert_eq!(field(&origin.last_request(), "Host"), Some("b"));
}

#[test]
fn connections_are_used_again_on_both_sides() {
    let origin = Origin::named("a");
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    for turn in 0..5 {
        assert_eq!(client.get(&format!("/{turn}")).text(), format!("a /{turn}"));
    }
    assert_eq!(proxy.get("/other").text(), "a /other");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn connection_without_keepalive_carries_one_request() {
    let origin = Origin::named("a");
    let proxy = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://{}; }} }}",
        origin.addr
    )));
    let mut client = proxy.client();
    assert_eq!(client.get("/1").text(), "a /1");
    assert_eq!(client.get("/2").text(), "a /2");
    assert_eq!(origin.connections(), 2);
    assert_eq!(field(&origin.last_request(), "Connection"), Some("close"));
}

#[test]
fn idle_connections_are_bounded_and_expire() {
    let origin = Origin::named("a");
    let config = |keepalive: &str| {
        http(&format!(
            "upstream app {{ server {}; {keepalive} }}
             server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://app; }} }}",
            origin.addr
        ))
    };
    let proxy = Proxy::start(&config("keepalive 4; keepalive_requests 2;"));
    let mut client = proxy.client();
    for turn in 1..=5 {
        client.get("/");
        assert_eq!(origin.connections(), usize::div_ceil(turn, 2), "two requests each");
    }
    let proxy = Proxy::start(&config("keepalive 4; keepalive_timeout 50ms;"));
    let mut client = proxy.client();
    client.get("/");
    let before = origin.connections();
    std::thread::sleep(std::time::Duration::from_millis(80));
    client.get("/");
    assert_eq!(origin.connections(), before + 1);
}

#[test]
fn names_of_fields_are_spelled_as_the_server_and_the_configuration_wrote_them() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.reply("X-ODD-case: 1\r\nlower-case: 2\r\n", "ok")
    });
    let proxy = Proxy::start(&forwarding(&[&origin], "add_header x-added 3; add_header X-URI $uri;"));
    let head = proxy.get("/").head;
    for line in ["X-ODD-case: 1", "lower-case: 2", "x-added: 3", "X-URI: /", "Content-Length: 2"] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
    }
}

#[test]
fn answers_without_a_body_have_none() {
    let origin = Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            let path = head.split(' ').nth(1).unwrap();
            visit.write(match path {
                "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
                "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                _ => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 99\r\n\r\n",
            })?;
        }
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    client.send("HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(field(&head, "Content-Length"), Some("1234"));
    let no_content = client.get("/204");
    assert_eq!((no_content.status, no_content.header("Transfer-Encoding")), (204, None));
    let unmodified = client.get("/304");
    assert_eq!((unmodified.status, unmodified.header("ETag")), (304, Some("\"x\"")));
    // Nothing is left over: the connection serves on, and so does the one to the server.
    assert_eq!(client.get("/204").status, 204);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn chunks_pass_in_both_directions() {
    let origin = Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            let body = visit.body(&head)?;
            visit.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            for piece in body.chunks(3) {
                visit.write(format!("{:x}\r\n", piece.len()))?;
                visit.write(piece)?;
                visit.write("\r\n")?;
            }
            visit.write("0\r\nX-Trailer: 1\r\n\r\n")?;
        }
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    for method in ["POST", "GET"] {
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"));
        client.send("5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n");
        let response = client.response();
        assert_eq!(response.text(), "hello world", "{method}");
        assert_eq!(response.header("Transfer-Encoding"), Some("chunked"));
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn body_has_one_length_and_its_own_whatever_is_set() {
    let origin = Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            let body = visit.body(&head)?;
            visit.reply("", &String::from_utf8_lossy(&body))?;
        }
    });
    for set in [
        "proxy_set_header Content-Length $content_length;",
        "proxy_set_header Content-Length '';",
        "proxy_set_header content-length 3;",
        "proxy_set_header Transfer-Encoding chunked;",
        "proxy_set_header Transfer-Encoding '';",
        "proxy_set_header Content-Length 0; proxy_set_header Transfer-Encoding chunked;",
        "proxy_set_header Content-Length 0; proxy_request_buffering off;",
    ] {
        let proxy = Proxy::start(&forwarding(&[&origin], set));
        let mut client = proxy.client();
        for more in ["", "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n"] {
            for (framing, lengths) in
                [("Content-Length: 5\r\n\r\nhello", 1), ("Content-Length: 0\r\n\r\n", 1), ("\r\n", 0)]
            {
                client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{more}{framing}"));
                let sent = framing.split_once("\r\n\r\n").map_or("", |(_, body)| body);
                assert_eq!(client.response().text(), sent, "{set} {more}");
                let head = origin.last_request().to_ascii_lowercase();
                assert_eq!(head.matches("\ncontent-length:").count(), lengths, "{set} {head}");
                assert!(!head.contains("transfer-encoding"), "{set} {head}");
            }
        }
    }
}

#[test]
fn client_of_http_1_0_gets_no_chunks() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\n\r\n");
    let response = client.response();
    assert_eq!((response.text(), response.header("Transfer-Encoding")), ("abc", None));
}

#[test]
fn answer_that_ends_with_its_connection_is_passed_on_in_chunks() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.write("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nto the end")
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    for turn in 1..3 {
        let response = client.get("/");
        assert_eq!(response.header("Transfer-Encoding"), Some("chunked"));
        assert_eq!((response.text(), origin.connections()), ("to the end", turn));
    }
}

#[test]
fn bytes_behind_an_answer_are_no_answer_to_the_next_request() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        let more = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
        visit.write(format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood{more}"))?;
        visit.peer.rest().map(drop)
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    for _ in 0..5 {
        assert_eq!(client.get("/").text(), "good");
    }
    assert_eq!(origin.connections(), 5);
}

#[test]
fn old_version_is_spoken_where_configured() {
    let origin = Origin::named("a");
    let proxy = Proxy::start(&forwarding(&[&origin], "proxy_http_version 1.0;"));
    let mut client = proxy.client();
    client.get("/1");
    client.get("/2");
    let head = origin.last_request();
    assert!(head.starts_with("GET /2 HTTP/1.0\r\n"), "{head}");
    assert_eq!((field(&head, "Connection"), origin.connections()), (Some("close"), 2));
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    client.send(chunked);
    assert_eq!(client.response().status, 200);
    let head = origin.last_request();
    assert_eq!(field(&head, "Content-Length"), Some("2"), "a body that was read whole has a length");
    let location = "proxy_http_version 1.0; proxy_request_buffering off;";
    let proxy = Proxy::start(&forwarding(&[&origin], location));
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(client.response().status, 411, "HTTP/1.0 has no chunks");
}

#[test]
fn large_bodies_arrive_byte_for_byte() {
    const SIZE: usize = 24 * 1024 * 1024 + 7;
    let bytes: Vec<u8> = (0..SIZE).map(|place| (place * 31 + place / 251) as u8).collect();
    let echoed = bytes.clone();
    let origin = Origin::start(move |visit| {
        let head = visit.request()?;
        let body = visit.body(&head)?;
        let same = if body == echoed { "same" } else { "different" };
        visit.write(format!("HTTP/1.1 200 OK\r\nX-Body: {same}\r\nContent-Length: {SIZE}\r\n\r\n"))?;
        visit.write(&body)
    });
    let proxy = Proxy::start(&forwarding(&[&origin], "client_max_body_size 0;"));
    let mut client = proxy.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n"));
    client.send(&bytes);
    let response = client.response();
    assert_eq!(response.header("X-Body"), Some("same"));
    assert!(response.body == bytes, "the body came back changed");
    eventually("the request is over", || proxy.active() == 0);
}

#[test]
fn body_of_tiny_chunks_arrives_byte_for_byte_also_at_another_server() {
    let fails = Origin::start(|visit| {
        let head = visit.request()?;
        visit.body(&head).map(drop)
    });
    let echoes = Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            let body = visit.body(&head)?;
            visit.reply("", std::str::from_utf8(&body).unwrap())?;
        }
    });
    let mut body = String::new();
    let mut chunks = String::new();
    for place in 0..8000_usize {
        let size = if place % 1000 == 999 { 5000 } else { 1 + place % 3 };
        let piece = char::from(b'a' + (place % 26) as u8).to_string().repeat(size);
        chunks += &format!("{size:x}\r\n{piece}\r\n");
        body += &piece;
    }
    for buffering in ["on", "off"] {
        let location = format!("proxy_request_buffering {buffering};");
        let proxy = Proxy::start(&forwarding(&[&fails, &echoes], &location));
        let mut client = proxy.client();
        for _ in 0..2 {
            client.send(format!(
                "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
            ));
            assert!(client.response().text() == body, "{buffering}");
        }
        assert!(!fails.requests().is_empty());
    }
}

#[test]
fn client_is_told_to_go_on_when_a_server_is_there() {
    let origin = Origin::start(|visit| {
        let head = visit.request()?;
        assert_eq!(field(&head, "Expect"), None);
        let body = visit.body(&head)?;
        visit.reply("", std::str::from_utf8(&body).unwrap())
    });
    let proxy = Proxy::start(&forwarding(&[&origin], "proxy_request_buffering off;"));
    let mut client = proxy.client();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response().status, 100);
    client.send("body");
    assert_eq!(client.response().text(), "body");
    // Without a server there is nothing to go on with.
    let proxy = Proxy::start(&forwarding(&[&Origin::nobody()], "proxy_request_buffering off;"));
    let mut client = proxy.client();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response().status, 502);
}

#[test]
fn client_that_does_not_wait_to_be_told_keeps_its_connection() {
    let origin = Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            let body = visit.body(&head)?;
            visit.reply("", std::str::from_utf8(&body).unwrap())?;
        }
    });
    for buffering in ["on", "off"] {
        let proxy = Proxy::start(&forwarding(&[&origin], &format!("proxy_request_buffering {buffering};")));
        let mut client = proxy.client();
        for _ in 0..2 {
            client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody");
            let mut response = client.response();
            // It may be told all the same.
            while response.status == 100 {
                response = client.response();
            }
            assert_eq!((response.text(), response.header("Connection")), ("body", Some("keep-alive")));
        }
    }
}

#[test]
fn answer_that_comes_before_the_end_of_the_request_is_passed_on() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
    });
    let proxy = Proxy::start(&forwarding(&[&origin], "client_max_body_size 0; proxy_request_buffering off;"));
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nsome");
    let response = client.response();
    assert_eq!((response.status, response.text()), (403, "no"));
}

#[test]
fn path_is_replaced_where_the_configuration_says_so() {
    let origin = Origin::named("a");
    let proxy = Proxy::start(&http(&format!(
        "upstream app {{ server {}; }}
         server {{
            listen 127.0.0.1:1;
            location /old/ {{ proxy_pass http://app/new/; }}
            location /var/ {{ proxy_pass http://app$request_uri; }}
            location / {{ proxy_pass http://app; }}
         }}",
        origin.addr
    )));
    for (asked, forwarded) in [
        ("/old/x%20y?q=1", "a /new/x%20y?q=1"),
        ("/old/", "a /new/"),
        ("/var/%41/../b", "a /var/%41/../b"),
        ("/a/./b//c?d", "a /a/b/c?d"),
        ("/a%2Fb?", "a /a%2Fb?"),
    ] {
        assert_eq!(proxy.get(asked).text(), forwarded, "{asked}");
    }
}

#[test]
fn client_that_goes_away_gives_its_place_back() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        // Waits for the proxy to hang up.
        visit.peer.rest().map(drop)
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is at the server", || proxy.active() == 1);
    drop(client);
    eventually("the place is free", || proxy.active() == 0);
    let stats = proxy.daemon.director().stats();
    assert_eq!(stats[0].servers[0].condition.to_string(), "up", "the server did nothing wrong");
}

#[test]
fn client_that_goes_away_amid_an_answer_gives_its_place_back() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        loop {
            visit.write(&piece)?;
        }
    });
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client: Client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head().unwrap();
    assert_eq!(proxy.active(), 1);
    drop(client);
    eventually("the place is free", || proxy.active() == 0);
}

#[test]
fn host_of_variables_is_a_group_or_an_address_and_nothing_else() {
    let (origin, other) = (Origin::named("a"), Origin::named("b"));
    let proxy = Proxy::start(&http(&format!(
        "upstream app {{ server {}; }}
         server {{ listen 127.0.0.1:1;
             location / {{ proxy_pass http://$arg_to; }}
             location /whole {{ proxy_pass http:/$arg_to; }}
             location /path {{ proxy_pass http://$arg_to/x$uri?y; }} }}",
        origin.addr
    )));
    let answer = |path: &str| proxy.get(path).text().to_owned();
    assert_eq!(answer("/p/q?to=app"), "a /p/q?to=app");
    assert!(origin.last_request().contains("\r\nHost: app\r\n"), "{}", origin.last_request());
    // Named by the request alone.
    let to = other.addr;
    for _ in 0..2 {
        assert_eq!(answer(&format!("/?to={to}")), format!("b /?to={to}"));
    }
    assert_eq!(answer("/path?to=APP"), "a /x/path?y");
    assert_eq!(answer("/whole?to=/app"), "a /whole?to=/app");
    assert_eq!(proxy.get("/?to=nothing.example").status, 502);
    for wrong in ["/", "/whole?to=x", "/?to=127.0.0.1:x"] {
        assert_eq!(proxy.get(wrong).status, 500, "{wrong}");
    }
}

#[test]
fn own_address_may_stand_in_brackets() {
    let listener = std::net::TcpListener::bind("[::1]:0").unwrap();
    let origin = Origin::on(listener, |visit| {
        visit.request()?;
        let peer = visit.peer.stream.peer_addr()?.ip().to_string();
        visit.reply("", &peer)
    });
    let config = |bind: &str| {
        http(&format!(
            "server {{ listen 127.0.0.1:1; location / {{ proxy_bind {bind}; proxy_pass http://{}; }} }}",
            origin.addr
        ))
    };
    assert_eq!(Proxy::start(&config("[::1]")).get("/").text(), "::1");
    assert_eq!(Proxy::start(&config("$arg_from")).get("/?from=[::1]").text(), "::1");
    // A key without a certificate is no fault, and a first buffer may have no room, where nobody speaks TLS.
    let idle = "ssl_certificate_key /nonexistent; client_header_buffer_size 0;";
    let proxy = Proxy::start(&http(&format!("{idle} server {{ listen 127.0.0.1:1; return 200 ok; }}")));
    assert_eq!(proxy.get("/").text(), "ok");
}
