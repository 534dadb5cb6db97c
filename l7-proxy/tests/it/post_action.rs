//! `post_action`: what comes after a request, and that its client waits for nothing of it.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::nginx::Nginx;
use crate::peer::{Client, Origin, Proxy, eventually, http};

/// The first line and the body of each request that a server has got.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// A server that takes down what it gets, and answers nothing that anybody would want.
fn recorder() -> (Origin, Seen) {
    let seen = Seen::default();
    let list = Arc::clone(&seen);
    let origin = Origin::start(move |visit| {
        loop {
            let head = visit.request()?;
            let body = String::from_utf8(visit.body(&head)?).unwrap();
            list.lock().unwrap().push((head.lines().next().unwrap_or_default().to_owned(), body));
            visit.write("HTTP/1.1 200 Fine\r\nContent-Length: 4\r\n\r\nfine")?;
        }
    });
    (origin, seen)
}

fn app() -> Origin {
    Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            visit.body(&head)?;
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
            visit.write(answer)?;
            if !head.starts_with("HEAD") {
                visit.write("app")?;
            }
        }
    })
}

fn content(listen: &str, app: &Origin, recorder: &Origin, log: &Path) -> String {
    let log = format!("access_log {} over", log.display());
    format!(
        "log_format over '$request|$uri|$status|$body_bytes_sent|$upstream_status|$request_completion';
         server {{ listen {listen}; proxy_http_version 1.1; proxy_set_header Connection '';
         location / {{ proxy_pass http://{app}; post_action /done; add_header X-Way a$uri always; }}
         location /text {{ return 200 hello; post_action @done; }}
         location /missing {{ return 404 gone; post_action @done; }}
         location /led {{ rewrite ^ /inner last; post_action @done; }}
         location /inner {{ return 200 inner; {log}; }}
         location /kept {{ proxy_pass http://{app}; post_action /out; }}
         location = /out {{ deny all; proxy_pass http://{recorder}; error_page 403 =200 /quiet; }}
         location = /quiet {{ return 200; {log}; }}
         location = /done {{ internal; {log};
             proxy_pass http://{recorder}/path?$uri&$request_uri&$status&$body_bytes_sent&$request_completion&$upstream_status&$request_method&$sent_http_x_way; }}
         location @done {{ {log};
             proxy_pass http://{recorder}/name?$uri&$status&$body_bytes_sent&$request_completion&$upstream_status; }} }}",
        app = app.addr,
        recorder = recorder.addr
    )
}

/// Requests, how many of them come to the recorder, and how many lines they leave in the log.
const REQUESTS: &[(&str, usize, usize)] = &[
    ("GET /a?b=c HTTP/1.1\r\nHost: a\r\n\r\n", 1, 1),
    ("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 1, 1),
    ("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nparts\r\n0\r\n\r\n", 1, 1),
    ("GET /text?x HTTP/1.1\r\nHost: a\r\n\r\n", 1, 1),
    ("GET /missing HTTP/1.1\r\nHost: a\r\n\r\n", 1, 1),
    ("GET /led HTTP/1.1\r\nHost: a\r\n\r\n", 0, 1),
    ("GET /kept HTTP/1.1\r\nHost: a\r\n\r\n", 0, 1),
    // What would be one too many comes before this one.
    ("HEAD /last HTTP/1.1\r\nHost: a\r\n\r\n", 1, 1),
];

fn lines(log: &Path) -> Vec<String> {
    fs::read_to_string(log).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn what_comes_afterwards_is_that_of_nginx() {
    let (app, ours_seen, theirs_seen) = (app(), recorder(), recorder());
    let logs = tempfile::tempdir().unwrap();
    let (our_log, their_log) = (logs.path().join("ours"), logs.path().join("theirs"));
    let ours = Proxy::start(&http(&content("127.0.0.1:1", &app, &ours_seen.0, &our_log)));
    let nginx = Nginx::start(|addr| content(&addr.to_string(), &app, &theirs_seen.0, &their_log));
    let ask = |addr, seen: &Seen, log: &Path| {
        let (mut requests, mut written) = (0, 0);
        for (request, more, logged) in REQUESTS {
            let mut client = Client::connect(addr);
            client.send(request);
            match request.starts_with("HEAD") {
                true => _ = client.head().unwrap(),
                false => _ = client.response(),
            }
            (requests, written) = (requests + more, written + logged);
            let title = request.lines().next().unwrap();
            eventually(title, || seen.lock().unwrap().len() >= requests && lines(log).len() >= written);
        }
    };
    ask(ours.addr(), &ours_seen.1, &our_log);
    let path = |rest: &str, body: &str| (format!("{rest} HTTP/1.1"), body.to_owned());
    let expected = [
        path("GET /path?/done&/a?b=c&200&3&OK&200&GET&a/a", ""),
        path("POST /path?/done&/a&200&3&OK&200&POST&a/a", "hello"),
        path("POST /path?/done&/a&200&3&OK&200&POST&a/a", "parts"),
        path("GET /name?/text&200&5&OK&", ""),
        path("GET /name?/missing&404&4&OK&", ""),
        path("HEAD /path?/done&/last&200&0&OK&200&HEAD&a/last", ""),
    ];
    assert_eq!(*ours_seen.1.lock().unwrap(), expected);
    let mut logged = [
        "GET /a?b=c HTTP/1.1|/done|200|3|200 : 200|OK",
        "POST /a HTTP/1.1|/done|200|3|200 : 200|OK",
        "POST /a HTTP/1.1|/done|200|3|200 : 200|OK",
        "GET /text?x HTTP/1.1|/text|200|5|200|OK",
        "GET /missing HTTP/1.1|/missing|404|4|200|OK",
        "GET /led HTTP/1.1|/inner|200|5|-|OK",
        "GET /kept HTTP/1.1|/quiet|200|3|200|OK",
        "HEAD /last HTTP/1.1|/done|200|0|200 : 200|OK",
    ];
    assert_eq!(lines(&our_log), logged);
    let Some(nginx) = nginx else { return };
    ask(nginx.addr, &theirs_seen.1, &their_log);
    assert_eq!(*theirs_seen.1.lock().unwrap(), expected, "as nginx's");
    // nginx writes the status of what came afterwards, unless the other was an error page's; ours is the client's.
    logged[4] = "GET /missing HTTP/1.1|/missing|200|4|200|OK";
    assert_eq!(lines(&their_log), logged, "as nginx's");
}

#[test]
fn nobody_waits_for_what_comes_afterwards_but_the_end_of_the_proxy() {
    let slow = Origin::start(|visit| {
        visit.request()?;
        // Until the other end goes.
        visit.peer.rest().map(drop)
    });
    let text = format!(
        "location / {{ return 200 x; post_action @done; }} location @done {{ proxy_pass http://{}; }}",
        slow.addr
    );
    let proxy = Proxy::start(&http(&format!("server {{ listen 127.0.0.1:1; {text} }}")));
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get("/a").text(), "x");
    }
    eventually("all have come", || slow.requests().len() == 3);
    drop(client);
    assert!(!proxy.shut_down(Duration::from_millis(100)), "three are under way");
}

#[test]
fn client_that_goes_is_no_reason_to_leave_anything_out() {
    let (recorder, seen) = recorder();
    let app = Origin::start(|visit| {
        visit.request()?;
        visit.peer.rest().map(drop)
    });
    let proxy = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1; post_action /done; location / {{ proxy_pass http://{}; }}
         location = /done {{ proxy_pass http://{}/?$status&$request_completion; }} }}",
        app.addr, recorder.addr
    )));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("it is asked", || app.requests().len() == 1);
    drop(client);
    eventually("it is told", || !seen.lock().unwrap().is_empty());
    // What comes afterwards has nothing after it, though the action is inherited.
    std::thread::sleep(Duration::from_millis(100));
    let told: Vec<String> = seen.lock().unwrap().iter().map(|(line, _)| line.clone()).collect();
    assert_eq!(told, ["GET /?499& HTTP/1.1"]);
}

#[test]
fn what_comes_afterwards_knows_the_length_of_the_request_and_the_connection() {
    let (app, (recorder, seen)) = (app(), recorder());
    let log = tempfile::tempdir().unwrap();
    let log = log.path().join("over");
    let text = format!(
        "log_format over '$request_length $tcpinfo_snd_cwnd';
         server {{ listen 127.0.0.1:1; proxy_http_version 1.1;
         location / {{ proxy_pass http://{}; post_action /done; }}
         location = /done {{ access_log {} over; proxy_pass http://{}/$request_length/$tcpinfo_snd_cwnd; }} }}",
        app.addr,
        log.display(),
        recorder.addr
    );
    let proxy = Proxy::start(&http(&text));
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let mut client = proxy.client();
    client.send(request);
    assert_eq!(client.response().text(), "app");
    eventually("it is told and logged", || seen.lock().unwrap().len() == 1 && lines(&log).len() == 1);
    let told = seen.lock().unwrap()[0].0.clone();
    let told: Vec<&str> = told.split([' ', '/']).collect();
    let size = request.len().to_string();
    assert_eq!(told[2], size, "{told:?}");
    assert!(told[3].parse::<u32>().is_ok_and(|window| window > 0), "{told:?}");
    assert_eq!(lines(&log)[0].split(' ').next(), Some(&*size));
}
