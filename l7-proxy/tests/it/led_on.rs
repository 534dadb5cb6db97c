//! Requests with bodies that an error page leads to another server: it gets the whole body, or is told of none.

use crate::nginx::Nginx;
use crate::peer::{Client, Origin, Proxy, field, http};

/// A server that tells what it got.
fn other() -> Origin {
    Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            let got = visit.body(&head)?.len();
            let (method, path) = (head.split(' ').next().unwrap(), head.split(' ').nth(1).unwrap());
            let told = field(&head, "Content-Length").unwrap_or("nothing");
            visit.reply("", &format!("{method} {path} told {told} got {got}"))?;
        }
    })
}

/// A server that answers nothing but where else to ask, to whoever asks for that.
fn busy() -> Origin {
    Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            visit.body(&head)?;
            match head.contains(" /elsewhere ") {
                true => visit.reply("X-Accel-Redirect: /page\r\n", "")?,
                false => visit.write("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")?,
            }
        }
    })
}

fn content(busy: &Origin, other: &Origin) -> String {
    format!(
        "client_max_body_size 9m; proxy_http_version 1.1; proxy_set_header Connection '';
         location /refused {{ error_page 403 /page; return 403; }}
         location /refused-named {{ error_page 403 @page; return 403; }}
         location /busy {{ proxy_pass http://{busy}; proxy_intercept_errors on; error_page 503 /page; }}
         location /busy-named {{ proxy_pass http://{busy}; proxy_intercept_errors on; error_page 503 @page; }}
         location /elsewhere {{ proxy_pass http://{busy}; }}
         location /small {{ client_max_body_size 1k; error_page 413 @text; proxy_pass http://{busy}; }}
         location /page {{ proxy_pass http://{other}; }}
         location @page {{ proxy_pass http://{other}; }}
         location @text {{ client_max_body_size 1k; return 413 text; }}",
        busy = busy.addr,
        other = other.addr
    )
}

#[test]
fn body_goes_where_nginx_sends_it() {
    let (busy, other) = (busy(), other());
    let content = content(&busy, &other);
    let ours = Proxy::start(&http(&format!("server {{ listen 127.0.0.1:1; {content} }}")));
    let nginx = Nginx::start(|addr| format!("server {{ listen {addr}; {content} }}"));
    for size in [5, 70_000, 2 << 20] {
        for (path, method, led) in [
            ("/refused", "GET", "/page"),
            ("/refused-named", "POST", "/refused-named"),
            ("/busy", "GET", "/page"),
            ("/busy-named", "POST", "/busy-named"),
            ("/elsewhere", "GET", "/page"),
        ] {
            let expected = format!("{method} {led} told {size} got {size}");
            let ask = |addr| {
                let mut client = Client::connect(addr);
                client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"));
                client.send("x".repeat(size));
                client.response().text().to_owned()
            };
            assert_eq!(ask(ours.addr()), expected, "{path}");
            if let Some(nginx) = &nginx {
                assert_eq!(ask(nginx.addr), expected, "nginx {path}");
            }
        }
    }
}

#[test]
fn page_about_a_body_that_is_too_large_is_given_and_no_server_told_of_a_body() {
    let (busy, other) = (busy(), other());
    let content = content(&busy, &other);
    let more = format!(
        "location /led {{ client_max_body_size 1k; error_page 413 @page; proxy_pass http://{}; }}
         location /page-led {{ client_max_body_size 1k; error_page 413 /page; proxy_pass http://{0}; }}",
        busy.addr
    );
    let proxy = Proxy::start(&http(&format!("server {{ listen 127.0.0.1:1; {content} {more} }}")));
    for (path, expected) in [
        ("/small", "text"),
        ("/led", "POST /led told nothing got 0"),
        ("/page-led", "GET /page told nothing got 0"),
    ] {
        let mut client = proxy.client();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n{:1025}", ""));
        let answer = client.response();
        assert_eq!((answer.status, answer.text()), (413, expected), "{path}");
    }
}

#[test]
fn body_of_which_nothing_was_kept_is_not_half_sent() {
    let (busy, other) = (busy(), other());
    let content = content(&busy, &other)
        .replace("client_max_body_size 9m;", "client_max_body_size 9m; proxy_request_buffering off;");
    let proxy = Proxy::start(&http(&format!("server {{ listen 127.0.0.1:1; {content} }}")));
    let size = 2 << 20;
    let post = |path: &str| {
        let mut client = proxy.client();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"));
        client.send("x".repeat(size));
        client.response()
    };
    let answer = post("/busy");
    assert_eq!((answer.status, answer.text()), (503, "GET /page told nothing got 0"));
    assert_eq!(post("/busy-named").status, 500);
    assert_eq!(other.requests().len(), 1);
}
