//! `auth_request`: another location says whether a request may go on.

use crate::peer::{Origin, Proxy, Response, http};

/// A server that lets in who says `Authorization: yes`, and says what it has seen.
fn judge() -> Origin {
    Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            let word = head.lines().find_map(|line| line.strip_prefix("Authorization: ")).unwrap_or("none");
            let (status, fields) = match word {
                "yes" => ("200 OK", "X-User: ann\r\n"),
                "no" => ("403 Forbidden", ""),
                "broken" => ("404 Not Found", ""),
                _ => {
                    ("401 Unauthorized", "WWW-Authenticate: Basic realm=\"a\"\r\nWWW-Authenticate: Other\r\n")
                }
            };
            visit.write(format!("HTTP/1.1 {status}\r\n{fields}Content-Length: 4\r\n\r\nword"))?;
        }
    })
}

/// A proxy that asks the judge at `/judge`, in front of the application.
fn guarded(judge: &Origin, app: &Origin, more: &str) -> Proxy {
    Proxy::start(&http(&format!(
        "upstream judge {{ server {}; keepalive 1; }} upstream app {{ server {}; }}
         server {{ listen 127.0.0.1:1;
             location / {{ auth_request /judge?x=1; auth_request_set $who $upstream_http_x_user; {more}
                 proxy_set_header X-Who $who; proxy_pass http://app; }}
             location = /judge {{ internal; proxy_pass http://judge/asked;
                 proxy_set_header X-Original $request_method:$request_uri:$args; }} }}",
        judge.addr, app.addr
    )))
}

fn ask(proxy: &Proxy, authorization: &str, method: &str, body: &str) -> Response {
    let mut client = proxy.client();
    let length = body.len();
    client.send(format!(
        "{method} /page?a=b HTTP/1.1\r\nHost: example.org\r\nAuthorization: {authorization}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    ));
    client.response()
}

#[test]
fn who_is_let_in_by_the_asked_location_is_served_with_what_it_has_said() {
    let judge = judge();
    let app = Origin::start(|visit| {
        let head = visit.request()?;
        let body = visit.body(&head)?;
        visit.reply("", &format!("got {}", String::from_utf8_lossy(&body)))
    });
    let proxy = guarded(&judge, &app, "");
    assert_eq!(ask(&proxy, "yes", "POST", "letter").text(), "got letter");
    assert!(app.last_request().contains("X-Who: ann\r\n"), "{}", app.last_request());
    let asked = judge.last_request();
    // It is asked by GET, about the client's request, and gets no body.
    assert!(asked.starts_with("GET /asked?x=1 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("X-Original: POST:/page?a=b:x=1\r\n"), "{asked}");
    assert!(!asked.to_ascii_lowercase().contains("content-length"), "{asked}");
    // Its connection is kept.
    assert_eq!(ask(&proxy, "yes", "GET", "").status, 200);
    assert_eq!(judge.connections(), 1);
}

#[test]
fn who_is_not_let_in_is_told_so_in_the_words_of_the_asked_location() {
    let (judge, app) = (judge(), Origin::named("app"));
    let proxy = guarded(&judge, &app, "");
    let answer = ask(&proxy, "none", "GET", "");
    let challenges: Vec<_> = answer.head.lines().filter(|line| line.starts_with("WWW-Auth")).collect();
    assert_eq!(answer.status, 401);
    assert_eq!(challenges, ["WWW-Authenticate: Basic realm=\"a\"", "WWW-Authenticate: Other"]);
    assert_eq!(ask(&proxy, "no", "GET", "").status, 403);
    // Anything else is a fault of ours.
    assert_eq!(ask(&proxy, "broken", "GET", "").status, 500);
    assert_eq!(app.requests().len(), 0);
}

#[test]
fn address_suffices_where_any_check_does() {
    let (judge, app) = (judge(), Origin::named("app"));
    let proxy = guarded(&judge, &app, "satisfy any; allow 127.0.0.1; deny all;");
    assert_eq!(ask(&proxy, "no", "GET", "").status, 200);
    let proxy = guarded(&judge, &app, "satisfy any; deny all;");
    assert_eq!(ask(&proxy, "no", "GET", "").status, 403);
    assert_eq!(ask(&proxy, "yes", "GET", "").status, 200);
}

#[test]
fn asked_location_may_be_one_of_ours_and_its_error_page_counts() {
    let proxy = Proxy::start(&http(
        "server { listen 127.0.0.1:1; root html; auth_request /judge;
             location / { return 200 unasked; }
             location /in/ { try_files /file =404; }
             location /judge { auth_request off; error_page 404 =403 /no; return 404; }
             location /no { return 200; }
             location /off/ { auth_request off; try_files /file =404; } }",
    ));
    proxy.file("html/file", "content");
    // A `return` is said before anybody is asked, as in nginx.
    assert_eq!(proxy.get("/").text(), "unasked");
    assert_eq!(proxy.get("/in/").status, 403);
    assert_eq!(proxy.get("/off/").text(), "content");
}
