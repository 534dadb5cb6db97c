//! `mirror`: what the copies of a request are, and that nobody waits for what becomes of them.

use std::sync::{Arc, Mutex};

use crate::nginx::Nginx;
use crate::peer::{Client, Origin, Proxy, eventually, field, http};

/// What a mirror has seen of a request: its first line, what it was told of the method, its body's length.
type Seen = (String, Option<String>, usize);

/// A server that takes down what it gets, and answers nothing that anybody would want.
fn shadow() -> (Origin, Arc<Mutex<Vec<Seen>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&seen);
    let origin = Origin::start(move |visit| {
        loop {
            let head = visit.request()?;
            let body = visit.body(&head)?;
            let line = head.lines().next().unwrap_or_default().to_owned();
            list.lock().unwrap().push((line, field(&head, "X-Method").map(str::to_owned), body.len()));
            visit.write("HTTP/1.1 500 Oh no\r\nContent-Length: 3\r\n\r\nbad")?;
        }
    });
    (origin, seen)
}

fn app() -> Origin {
    Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            let length = visit.body(&head)?.len();
            visit.reply("", &length.to_string())?;
        }
    })
}

fn content(app: &Origin, shadow: &Origin) -> String {
    format!(
        "proxy_http_version 1.1; proxy_set_header Connection ''; client_max_body_size 3m;
         location / {{ mirror /copy; mirror /other; proxy_pass http://{app}; }}
         location /bare {{ mirror /copy; mirror_request_body off; proxy_pass http://{app}; }}
         location /none {{ mirror off; proxy_pass http://{app}; }}
         location /text {{ mirror /copy; return 200 text; }}
         location = /copy {{ internal; proxy_pass http://{shadow}/seen$request_uri;
             proxy_set_header Content-Length $content_length; proxy_set_header X-Method $request_method; }}
         location /other {{ return 403; }}",
        app = app.addr,
        shadow = shadow.addr
    )
}

#[test]
fn copies_are_those_of_nginx() {
    let large = "x".repeat(2 << 20);
    let requests = [
        ("GET /a?b=c HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 200, 1),
        ("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_owned(), 200, 1),
        (format!("PUT /large HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{large}", large.len()), 200, 1),
        (
            "POST /parts HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
                .to_owned(),
            200,
            1,
        ),
        ("POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_owned(), 200, 0),
        ("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n".to_owned(), 413, 0),
        // What would be one copy too many comes before this one.
        ("GET /last HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 200, 1),
    ];
    let (app, ours_seen, theirs_seen) = (app(), shadow(), shadow());
    let ours =
        Proxy::start(&http(&format!("server {{ listen 127.0.0.1:1; {} }}", content(&app, &ours_seen.0))));
    let nginx = Nginx::start(|addr| format!("server {{ listen {addr}; {} }}", content(&app, &theirs_seen.0)));
    for (request, status, copies) in &requests {
        let title = request.lines().next().unwrap();
        let ask = |addr, seen: &Mutex<Vec<Seen>>| {
            let before = seen.lock().unwrap().len();
            let mut client = Client::connect(addr);
            client.send(request);
            let answer = client.response();
            assert_eq!(answer.status, *status, "{title}");
            eventually(title, || seen.lock().unwrap().len() >= before + copies);
            answer.text().len()
        };
        let length = ask(ours.addr(), &ours_seen.1);
        let Some(nginx) = &nginx else { continue };
        let theirs = ask(nginx.addr, &theirs_seen.1);
        if *status == 200 {
            assert_eq!(length, theirs, "{title}");
        }
    }
    let expected = [
        ("GET /seen/a?b=c HTTP/1.1", "GET", 0),
        ("POST /seen/a HTTP/1.1", "POST", 5),
        ("PUT /seen/large HTTP/1.1", "PUT", large.len()),
        ("POST /seen/parts HTTP/1.1", "POST", 5),
        ("GET /seen/last HTTP/1.1", "GET", 0),
    ];
    let expected = expected.map(|(line, method, size)| (line.to_owned(), Some(method.to_owned()), size));
    assert_eq!(*ours_seen.1.lock().unwrap(), expected);
    if nginx.is_some() {
        assert_eq!(*theirs_seen.1.lock().unwrap(), expected, "as nginx's");
    }
}

#[test]
fn copy_without_a_body_says_that_it_has_none() {
    let (app, (shadow, seen)) = (app(), shadow());
    let text = content(&app, &shadow).replace("proxy_set_header Content-Length $content_length;", "");
    let proxy = Proxy::start(&http(&format!("server {{ listen 127.0.0.1:1; {text} }}")));
    let mut client = proxy.client();
    client.send("POST /bare HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.response().text(), "5");
    eventually("it is seen", || !seen.lock().unwrap().is_empty());
    let expected = ("POST /seen/bare HTTP/1.1".to_owned(), Some("POST".to_owned()), 0);
    assert_eq!(*seen.lock().unwrap(), [expected]);
}

#[test]
fn nobody_waits_for_a_mirror_but_the_end_of_the_proxy() {
    let app = app();
    let shadow = Origin::start(|visit| {
        visit.request()?;
        // Until the other end goes.
        visit.peer.rest().map(drop)
    });
    let text = content(&app, &shadow);
    let proxy = Proxy::start(&http(&format!("server {{ listen 127.0.0.1:1; {text} }}")));
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get("/a").text(), "0");
    }
    eventually("all are mirrored", || shadow.requests().len() == 3);
    drop(client);
    assert!(!proxy.shut_down(std::time::Duration::from_millis(100)), "copies are under way");
}

#[test]
fn mirror_that_cannot_be_reached_changes_no_answer() {
    let (app, shadow) = (app(), Origin::nobody());
    let text = content(&app, &shadow);
    let proxy = Proxy::start(&http(&format!("server {{ listen 127.0.0.1:1; {text} }}")));
    let mut client = proxy.client();
    assert_eq!(client.get("/a").text(), "0");
    assert_eq!(client.get("/b").status, 200);
}

#[test]
fn place_without_a_mirror_waits_for_no_body() {
    let (begun, told) = std::sync::mpsc::channel();
    let app = Origin::start(move |visit| {
        visit.request()?;
        let first = visit.peer.exactly(5)?;
        begun.send(first).ok();
        visit.peer.exactly(5)?;
        visit.reply("", "whole")
    });
    let proxy = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1; mirror /copy; proxy_request_buffering off;
             location / {{ mirror off; proxy_pass http://{}; }} location /copy {{ return 204; }} }}",
        app.addr
    )));
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst");
    let first = told.recv_timeout(std::time::Duration::from_secs(10));
    assert_eq!(first.expect("it does not wait for the rest"), b"first");
    client.send("other");
    assert_eq!(client.response().text(), "whole");
}

#[test]
fn copies_of_a_place_that_an_answer_leads_to_have_the_whole_body() {
    let refusing = Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            visit.body(&head)?;
            visit.write("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")?;
        }
    });
    let (app, (shadow, seen)) = (app(), shadow());
    let proxy = Proxy::start(&http(&format!(
        "proxy_http_version 1.1; proxy_set_header Connection '';
         server {{ listen 127.0.0.1:1; client_max_body_size 9m;
             location / {{ proxy_pass http://{refusing}; proxy_intercept_errors on; error_page 503 = @other; }}
             location @other {{ mirror /copy; proxy_pass http://{app}; }}
             location = /copy {{ internal; proxy_pass http://{shadow}/seen; }} }}",
        refusing = refusing.addr,
        app = app.addr,
        shadow = shadow.addr
    )));
    for size in [5, 70_000, 2 << 20] {
        let mut client = proxy.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"));
        client.send("x".repeat(size));
        assert_eq!(client.response().text(), size.to_string());
        eventually("it is copied", || seen.lock().unwrap().last().is_some_and(|last| last.2 == size));
    }
}
