//! What becomes of an answer: fields added, hidden and rewritten.

use std::time::{Duration, Instant};

use crate::peer::{Origin, Proxy, field, forwarding, http, server};

#[test]
fn target_names_the_host_and_the_field_follows_it() {
    let origin = Origin::named("a");
    let proxy = Proxy::start(&forwarding(&[&origin], "proxy_set_header Host $http_host;"));
    let mut client = proxy.client();
    client.send("GET http://Shop.example:81/x HTTP/1.1\r\nHost: other.example\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let head = origin.last_request();
    assert!(head.contains("\r\nHost: Shop.example:81\r\n") && !head.contains("other.example"), "{head}");
}

#[test]
fn inner_block_replaces_added_fields_or_merges_them() {
    let proxy = Proxy::start(&server(
        "add_header A out; add_header B out always; add_header C ''; return 404;
         location /never { }",
    ));
    let answer = proxy.get("/");
    assert_eq!((answer.header("A"), answer.header("B"), answer.header("C")), (None, Some("out"), None));
    let proxy = Proxy::start(&server(
        "add_header A out;
         location /own { add_header B in; return 200; }
         location /both { add_header_inherit merge; add_header B in; return 200; }
         location /none { add_header_inherit off; return 200; }
         location /all { return 200; }",
    ));
    let fields = |path: &str| {
        let answer = proxy.get(path);
        (answer.header("A").is_some(), answer.header("B").is_some())
    };
    assert_eq!(fields("/own"), (false, true));
    assert_eq!(fields("/both"), (true, true));
    assert_eq!(fields("/none"), (false, false));
    assert_eq!(fields("/all"), (true, false));
}

#[test]
fn expires_writes_both_fields_for_good_answers_only() {
    let proxy =
        Proxy::start(&server("expires $arg_e; location /nx { return 404; } location / { return 200; }"));
    assert_eq!(proxy.get("/?e=epoch").header("Cache-Control"), Some("no-cache"));
    assert_eq!(proxy.get("/?e=10m").header("Cache-Control"), Some("max-age=600"));
    assert!(proxy.get("/?e=10m").header("Expires").is_some());
    for path in ["/?e=bad", "/?e=off", "/", "/nx?e=10m"] {
        assert_eq!(proxy.get(path).header("Expires"), None, "{path}");
    }
}

#[test]
fn places_and_cookies_of_a_server_are_put_in_our_terms() {
    let origin = Origin::start(|visit| {
        let head = visit.request()?;
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let here = field(&head, "Host").unwrap_or_default().to_owned();
        visit.reply(
            &format!(
                "Location: http://{here}/app{path}\r\nRefresh: 1; url=http://{here}/app/r\r\n\
                 Set-Cookie: id=1; Domain=.inner.example; Path=/app/x; Secure\r\nX-Powered-By: z\r\n"
            ),
            "",
        )
    });
    let proxy = Proxy::start(&server(&format!(
        "location /shop/ {{
             proxy_pass http://{addr}/app/;
             proxy_cookie_domain inner.example shop.example;
             proxy_cookie_path ~^/app/(.*)$ /shop/$1;
             proxy_cookie_flags id nosecure httponly;
             proxy_hide_header X-Powered-By;
         }}
         location /off/ {{ proxy_pass http://{addr}/app/; proxy_redirect off; }}
         location /own/ {{ proxy_pass http://{addr}/; proxy_redirect ~/app/(.+)$ https://else.example/$1; }}",
        addr = origin.addr
    )));
    let here = format!("http://example.org:{}", proxy.addr().port());
    let answer = proxy.get("/shop/a");
    assert_eq!(answer.header("Location"), Some(&*format!("{here}/shop/app/a")), "{}", answer.head);
    assert_eq!(answer.header("Refresh"), Some("1; url=/shop/r"));
    let cookie = "id=1; Domain=.shop.example; Path=/shop/x; HttpOnly";
    assert_eq!(answer.header("Set-Cookie"), Some(cookie));
    assert_eq!(answer.header("X-Powered-By"), None);
    let off = proxy.get("/off/a");
    assert!(off.header("Location").unwrap().starts_with(&format!("http://{}", origin.addr)));
    assert_eq!(proxy.get("/own/b").header("Location"), Some("https://else.example/b"));
}

#[test]
fn error_of_a_server_is_intercepted_only_where_a_page_answers_for_it() {
    let origin = Origin::start(|visit| {
        let head = visit.request()?;
        let status = if head.starts_with("GET /401") { "401 No" } else { "404 Not Found" };
        visit.write(format!(
            "HTTP/1.1 {status}\r\nWWW-Authenticate: Basic realm=x\r\nX-Own: 1\r\nContent-Length: 12\r\n\r\n\
             the server's"
        ))
    });
    let proxy = Proxy::start(&server(&format!(
        "location / {{ proxy_pass http://{}; proxy_intercept_errors on; error_page 401 =403 /page; }}
         location = /page {{ return 200 ours; }}",
        origin.addr
    )));
    assert_eq!(proxy.get("/x").text(), "the server's");
    let answer = proxy.get("/401");
    assert_eq!((answer.status, answer.text()), (403, "ours"));
    assert_eq!(answer.header("WWW-Authenticate"), Some("Basic realm=x"));
    assert_eq!(answer.header("X-Own"), None);
}

#[test]
fn server_can_have_another_location_answer_but_not_show_a_page() {
    let origin = Origin::start(|visit| {
        let head = visit.request()?;
        let place = head.split(['=', ' ']).nth(2).unwrap_or_default().to_owned();
        visit.reply(&format!("X-Accel-Redirect: {place}\r\nContent-Type: app/x\r\n"), "never")
    });
    let proxy = Proxy::start(&server(&format!(
        "location /go {{ proxy_pass http://{}; }}
         location /private/ {{ internal; }}",
        origin.addr
    )));
    proxy.file("html/private/file", "private");
    proxy.file("html/private/page.jsp", "source");
    assert_eq!(proxy.get("/private/file").status, 404);
    let answer = proxy.get("/go?to=/private/file");
    assert_eq!((answer.text(), answer.header("Content-Type")), ("private", Some("app/x")));
    assert_eq!(proxy.get("/go?to=/private/page.jsp").status, 404);
    // There the server sends it on to what is no path.
    assert_eq!(proxy.get("/go?to=/go").status, 404);
}

#[test]
fn first_path_that_is_there_is_tried_first() {
    let origin = Origin::named("app");
    let proxy = Proxy::start(&server(&format!(
        "location / {{ try_files $uri $uri.html @app; }}
         location /strict/ {{ try_files $uri =410; }}
         location @app {{ proxy_pass http://{}; }}",
        origin.addr
    )));
    proxy.file("html/file", "file");
    proxy.file("html/page.html", "page");
    proxy.file("html/x.jsp", "source");
    assert_eq!(proxy.get("/file").text(), "file");
    assert_eq!(proxy.get("/page").text(), "page");
    assert_eq!(proxy.get("/gone?x=1").text(), "app /gone?x=1");
    assert_eq!(proxy.get("/x.jsp").status, 404);
    assert_eq!(proxy.get("/strict/file").status, 410);
}

#[test]
fn request_goes_on_with_the_method_body_and_fields_that_are_configured() {
    let origin = Origin::start(|visit| {
        let head = visit.request()?;
        let body = visit.body(&head)?;
        let line = head.lines().next().unwrap_or_default();
        visit.reply("", &format!("{line}|{}", String::from_utf8_lossy(&body)))
    });
    let proxy = Proxy::start(&server(&format!(
        "location /set {{ proxy_pass http://{addr}; proxy_method PUT; proxy_set_body \"uri=$uri\"; }}
         location /bare {{ proxy_pass http://{addr}; proxy_pass_request_headers off; proxy_pass_request_body off; }}",
        addr = origin.addr
    )));
    assert_eq!(proxy.get("/set").text(), "PUT /set HTTP/1.1|uri=/set");
    let mut client = proxy.client();
    client.send("POST /bare HTTP/1.1\r\nHost: a\r\nX-Mine: 1\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.response().text(), "POST /bare HTTP/1.1|");
    let head = origin.last_request();
    assert!(!head.contains("X-Mine") && !head.contains("Content-Length"), "{head}");
}

#[test]
fn head_is_taken_up_to_its_limits() {
    let proxy = Proxy::start(&http(
        "client_header_buffer_size 100; large_client_header_buffers 2 200; max_headers 3; server { listen 127.0.0.1:1; return 204; }",
    ));
    let status = |request: String| {
        let mut client = proxy.client();
        client.send(request);
        client.response().status
    };
    let line = |size: usize| {
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(size - "GET / HTTP/1.1\r\n".len()))
    };
    assert_eq!((status(line(200)), status(line(201))), (204, 414));
    let field = |size: usize| {
        format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "x".repeat(size - "A: \r\n".len()))
    };
    assert_eq!((status(field(200)), status(field(201))), (204, 400));
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "B: 1\r\n".repeat(count - 1));
    assert_eq!((status(fields(3)), status(fields(4))), (204, 400));
}

#[test]
fn log_is_written_where_and_when_it_says() {
    let proxy = Proxy::start(
        &server(
            "location / { return 200; access_log html/logs-all.log line; access_log html/logs-some.log line if=$arg_l;
             access_log html/logs-$arg_to line; access_log html/logs-packed.gz line gzip=9; }",
        )
        .replace("access_log off;", "access_log off; log_format line $uri;"),
    );
    proxy.file("html/logs-.keep", "");
    proxy.get("/a?l=1&to=one.log");
    proxy.get("/b?l=0&to=../outside");
    assert!(proxy.shut_down(Duration::from_secs(5)));
    let read = |name: &str| std::fs::read(proxy.folder.path().join(name)).unwrap_or_default();
    assert_eq!(read("html/logs-all.log"), b"/a\n/b\n");
    assert_eq!(read("html/logs-some.log"), b"/a\n");
    assert_eq!(read("html/logs-one.log"), b"/a\n");
    assert!(read("outside").is_empty());
    assert!(read("html/logs-packed.gz").starts_with(&[0x1f, 0x8b]));
}

#[test]
fn slow_body_keeps_no_server_busy() {
    let origin = Origin::named("a");
    let proxy = Proxy::start(&forwarding(&[&origin], "add_header X-Body $request_body;"));
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab");
    assert_eq!(proxy.get("/meanwhile").text(), "a /meanwhile");
    assert_eq!(origin.requests().len(), 1);
    client.send("cd");
    assert_eq!(client.response().header("X-Body"), Some("abcd"));
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n");
    client.send("x".repeat(0x10_0001));
    assert_eq!(client.response().status, 413);
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn answer_is_sent_no_faster_than_its_rate() {
    let proxy = Proxy::start(&server("location / { limit_rate $arg_rate; }"));
    proxy.file("html/file", vec![b'x'; 1500]);
    let began = Instant::now();
    assert_eq!(proxy.get("/file").body.len(), 1500);
    assert_eq!(proxy.get("/file?rate=1k").body.len(), 1500);
    // Two seconds' share, of which the first is sent at once.
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
}

#[test]
fn name_with_an_underscore_goes_on_only_where_that_is_allowed() {
    let origin = Origin::named("a");
    for (setting, passes) in [("", false), ("underscores_in_headers on;", true)] {
        let text =
            forwarding(&[&origin], "").replace("access_log off;", &format!("access_log off; {setting}"));
        let proxy = Proxy::start(&text);
        let mut client = proxy.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nx_odd: 1\r\n\r\n");
        client.response();
        let head = origin.last_request().to_ascii_lowercase();
        assert_eq!(head.contains("x_odd: 1"), passes, "{head}");
    }
}
