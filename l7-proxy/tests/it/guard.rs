//! Who may come in, how many at a time, and how fast.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::peer::{Client, Origin, Proxy, Response, eventually, http, server};

/// `secret` in the form of Apache.
const USERS: &str = "anna:{PLAIN}secret\nbela:$apr1$x1$sw.x/uEdux/1M3X.rvF211\ncleo:$y$unknown\n";

fn get_as(proxy: &Proxy, path: &str, credentials: &str) -> Response {
    let mut client = proxy.client();
    client.send(format!(
        "GET {path} HTTP/1.1\r\nHost: example.org\r\nAuthorization: Basic {credentials}\r\n\r\n"
    ));
    client.response()
}

#[test]
fn page_is_for_who_has_its_password() {
    let proxy = Proxy::start(&server(
        "auth_basic 'the shop'; auth_basic_user_file users;
         location /open { auth_basic off; }
         location /lost { auth_basic_user_file nothing; }
         location /by { auth_basic $arg_realm; }",
    ));
    proxy.file("users", USERS);
    for page in ["page", "open", "lost", "by"] {
        proxy.file(&format!("html/{page}"), "x");
    }
    let refused = proxy.get("/page");
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("WWW-Authenticate"), Some("Basic realm=\"the shop\""));
    // anna:secret, bela:secret, then anna:Secret, nobody:secret, anna, cleo:x, and no base64 at all
    assert_eq!(get_as(&proxy, "/page", "YW5uYTpzZWNyZXQ=").status, 200);
    assert_eq!(get_as(&proxy, "/page", "YmVsYTpzZWNyZXQ=").status, 200);
    for wrong in ["YW5uYTpTZWNyZXQ=", "bm9ib2R5OnNlY3JldA==", "YW5uYQ==", "Y2xlbzp4", "!"] {
        assert_eq!(get_as(&proxy, "/page", wrong).status, 401, "{wrong}");
    }
    assert_eq!(proxy.get("/open").status, 200);
    assert_eq!(get_as(&proxy, "/lost", "YW5uYTpzZWNyZXQ=").status, 403);
    assert_eq!((proxy.get("/by?realm=off").status, proxy.get("/by?realm=x").status), (200, 401));
    // Who is taken out of the file is out.
    proxy.file("users", "");
    assert_eq!(get_as(&proxy, "/page", "YW5uYTpzZWNyZXQ=").status, 401);
}

#[test]
fn nobody_comes_in_where_it_was_not_found_out_who_may() {
    let proxy = Proxy::start(&http(
        "map $uri $realm { default off; '~^/(?:(a|aa)+(?!b))+\\1$' closed; }
         server { listen 127.0.0.1:1; root html; auth_basic $realm; auth_basic_user_file users; }",
    ));
    let long = "a".repeat(200) + "c";
    for name in ["page", &long] {
        proxy.file(&format!("html/{name}"), "x");
    }
    assert_eq!(proxy.get("/page").status, 200);
    assert_eq!(proxy.get(&format!("/{long}")).status, 500);
}

#[test]
fn one_of_two_checks_suffices_where_any_does() {
    let location = |name: &str, satisfy: &str, rule: &str| {
        format!(
            "location /{name} {{ satisfy {satisfy}; {rule} all; auth_basic x; auth_basic_user_file users; }}"
        )
    };
    let locations = [
        location("any-allow", "any", "allow"),
        location("any-deny", "any", "deny"),
        location("all-allow", "all", "allow"),
        location("all-deny", "all", "deny"),
    ];
    let proxy = Proxy::start(&server(&locations.concat()));
    proxy.file("users", USERS);
    let mut statuses = Vec::new();
    for page in ["any-allow", "any-deny", "all-allow", "all-deny"] {
        proxy.file(&format!("html/{page}"), "x");
        let path = format!("/{page}");
        statuses.push((proxy.get(&path).status, get_as(&proxy, &path, "YW5uYTpzZWNyZXQ=").status));
    }
    assert_eq!(statuses, [(200, 200), (401, 200), (401, 200), (403, 403)]);
}

#[test]
fn request_too_many_is_refused_and_its_place_is_free_later() {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let origin = Origin::start(move |visit| {
        visit.request()?;
        let _ = released.lock().unwrap().recv();
        visit.reply("", "ok")
    });
    let text = http(&format!(
        "limit_conn_zone $arg_k zone=k:1m; limit_conn_status 429;
         server {{ listen 127.0.0.1:1; add_header X-Limit $limit_conn_status always;
             location / {{ limit_conn k 1; proxy_pass http://{addr}; }}
             location /dry {{ limit_conn k 1; limit_conn_dry_run on; return 204; }}
             location /try {{ limit_conn k 1; limit_conn_dry_run on; root html; }} }}",
        addr = origin.addr
    ));
    let proxy = Proxy::start_workers(&text, 2);
    proxy.file("html/try", "x");
    let mut first = proxy.client();
    first.send("GET /?k=1 HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the first request is at the origin", || origin.requests().len() == 1);
    let second = proxy.get("/?k=1");
    assert_eq!((second.status, second.header("X-Limit")), (429, Some("REJECTED")));
    let tried = proxy.get("/try?k=1");
    assert_eq!((tried.status, tried.header("X-Limit")), (200, Some("REJECTED_DRY_RUN")));
    // A reload forgets nothing.
    proxy.reload(&text);
    assert_eq!(proxy.get("/?k=1").status, 429);
    release.send(()).unwrap();
    let answer = first.response();
    assert_eq!((answer.status, answer.header("X-Limit")), (200, Some("PASSED")));
    drop(release);
    eventually("the place is free", || proxy.get("/?k=1").status == 200);
}

#[test]
fn requests_that_come_too_early_wait_or_are_refused() {
    let proxy = Proxy::start(&http(
        "limit_req_zone $arg_k zone=r:1m rate=2r/s; limit_req_log_level warn;
         server { listen 127.0.0.1:1; add_header X-Limit $limit_req_status always; root html;
             location /none { limit_req zone=r; }
             location /wait { limit_req zone=r burst=2 delay=1; }
             location /burst { limit_req zone=r burst=2 nodelay; limit_req_status 429; }
             location /dry { limit_req zone=r; limit_req_dry_run on; } }",
    ));
    for page in ["none", "wait", "burst", "dry"] {
        proxy.file(&format!("html/{page}"), "x");
    }
    let ask = |path: &str, times: usize| {
        let answers = (0..times).map(|_| proxy.get(path));
        answers
            .map(|answer| (answer.status, answer.header("X-Limit").unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    let said = |status: u16, word: &str| (status, word.to_owned());
    assert_eq!(ask("/none?k=1", 2), [said(200, "PASSED"), said(503, "REJECTED")]);
    // What is not counted is not limited.
    for _ in 0..2 {
        let answer = proxy.get("/none");
        assert_eq!((answer.status, answer.header("X-Limit")), (200, None));
    }
    let all = ask("/burst?k=2", 4);
    assert_eq!(all[..3], [said(200, "PASSED"), said(200, "PASSED"), said(200, "PASSED")]);
    assert_eq!(all[3], said(429, "REJECTED"));
    let began = Instant::now();
    let all = ask("/wait?k=3", 3);
    assert_eq!(all, [said(200, "PASSED"), said(200, "PASSED"), said(200, "DELAYED")]);
    assert!(began.elapsed() >= Duration::from_millis(450), "{:?}", began.elapsed());
    assert_eq!(ask("/dry?k=4", 2), [said(200, "PASSED"), said(200, "REJECTED_DRY_RUN")]);
}

#[test]
fn rate_holds_only_after_its_beginning() {
    let proxy = Proxy::start(&server("location / { limit_rate 10k; limit_rate_after $arg_after; }"));
    proxy.file("html/file", [b'x'; 30_000]);
    let time = |path: &str| {
        let began = Instant::now();
        assert_eq!(proxy.get(path).body.len(), 30_000);
        began.elapsed()
    };
    assert!(time("/file?after=20k") < Duration::from_millis(900));
    assert!(time("/file?after=0") > Duration::from_millis(900));
}

#[test]
fn page_of_counts_is_that_of_nginx() {
    let proxy = Proxy::start(&server("location = /status { stub_status; } location / { return 204; }"));
    let mut kept: Client = proxy.client();
    assert_eq!(kept.get("/x").status, 204);
    let page = proxy.get("/status");
    assert_eq!(page.header("Content-Type"), Some("text/plain"));
    assert_eq!(
        page.text(),
        "Active connections: 2 \nserver accepts handled requests\n 2 2 2 \n\
         Reading: 0 Writing: 1 Waiting: 1 \n"
    );
    let mut client = proxy.client();
    client.send("POST /status HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response().status, 405);
}
