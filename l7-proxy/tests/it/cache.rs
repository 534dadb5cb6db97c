//! `proxy_cache` beside nginx's own: what is kept, for how long, and what clients get of it.

mod disk;
mod faults;
mod stale;
mod turns;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::nginx::Beside;
use crate::peer::{Origin, Response, field};

/// What an origin answers to a path: a status, fields each ended by a line end, and how the body is framed.
type Answers = Arc<Mutex<HashMap<String, (u16, String)>>>;

/// An origin that tells the n-th time that a proxy has asked for a path, by the `Host` of that proxy, and
/// whether it was asked with conditions.
fn counting() -> (Origin, Answers) {
    let answers = Answers::default();
    let (table, counts) = (Arc::clone(&answers), Mutex::new(HashMap::<(String, String), u32>::new()));
    let origin = Origin::start(move |visit| {
        loop {
            let head = visit.request()?;
            visit.body(&head)?;
            let mut words = head.split(' ');
            let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
            let host = field(&head, "Host").unwrap_or_default().to_owned();
            let count = {
                let mut counts = counts.lock().unwrap();
                let count = counts.entry((host, path.clone())).or_default();
                *count += 1;
                *count
            };
            let (mut status, fields) =
                table.lock().unwrap().get(&path).cloned().unwrap_or((200, String::new()));
            // As in a head, behind its first line.
            let told = format!("\r\n{fields}");
            let asked = ["Range", "If-Modified-Since", "If-None-Match", "X-Own"]
                .map(|name| field(&head, name).map(|value| format!(" {name}={value}")).unwrap_or_default());
            let mut body = format!("{method} {path} {count}{}", asked.concat());
            let tag = field(&told, "ETag");
            if status == 200 && tag.is_some() && field(&head, "If-None-Match") == tag {
                status = 304;
            }
            match status {
                CLOSES => return Ok(()),
                BABBLES => return visit.write("nothing that anybody would understand\r\n\r\n"),
                _ => {}
            }
            if let Some(size) = field(&told, "X-Size") {
                body += &"x".repeat(size.parse().unwrap());
            }
            let length = body.len();
            if matches!(status, 204 | 304) || method == "HEAD" {
                body.clear();
            }
            if fields.contains("X-Chunked") {
                visit.write(format!(
                    "HTTP/1.1 {status} Some Words\r\n{fields}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
                ))?;
            } else {
                visit.write(format!(
                    "HTTP/1.1 {status} Some Words\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
                ))?;
            }
        }
    });
    (origin, answers)
}

/// What stands for a status where an origin closes the connection instead.
const CLOSES: u16 = 0;

/// The same where what it says is no HTTP.
const BABBLES: u16 = 1;

/// Both proxies before one origin.
struct Both {
    beside: Beside,
    answers: Answers,
    origin: Origin,
}

impl Both {
    /// Starts them with `zone` as further parameters of the zone, and `content` in the location.
    fn start(zone: &str, content: &str) -> Both {
        let (origin, answers) = counting();
        let before = format!("proxy_cache_path cache keys_zone=zone:1m {zone};");
        let content = format!(
            "location / {{ proxy_pass http://{}; proxy_cache zone; proxy_http_version 1.1;
             proxy_set_header Host $server_port; proxy_set_header Connection '';
             proxy_set_header X-Own $http_x_own;
             add_header X-Cache $upstream_cache_status always; {content} }}",
            origin.addr
        );
        let fields = &["X-Cache", "X-Kept", "Content-Range", "ETag", "Last-Modified", "Content-Type"];
        Both { beside: Beside::start(&before, &content, fields), answers, origin }
    }

    /// Has the origin answer like this from now on.
    fn answer(&self, path: &str, status: u16, fields: &str) {
        self.answers.lock().unwrap().insert(path.to_owned(), (status, fields.to_owned()));
    }

    /// Asks both for a path, which they have to answer alike; returns our answer, and what it says of the cache.
    #[track_caller]
    fn get(&self, path: &str, fields: &str) -> (Response, String) {
        self.send("GET", path, fields)
    }

    #[track_caller]
    fn send(&self, method: &str, path: &str, fields: &str) -> (Response, String) {
        let body = if method == "POST" { "Content-Length: 4\r\n\r\nbody" } else { "\r\n" };
        let answer = self.beside.send(&format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}{body}"));
        let state = answer.header("X-Cache").unwrap_or("-").to_owned();
        (answer, state)
    }

    /// Asks for a path so often; the states are as expected.
    #[track_caller]
    fn expect(&self, path: &str, states: &[&str]) {
        let found: Vec<_> = states.iter().map(|_| self.get(path, "").1).collect();
        assert_eq!(found, states, "{path}");
    }
}

#[test]
fn answers_are_kept_as_their_servers_and_the_file_say() {
    let both = Both::start("", "proxy_cache_valid 200 1h; proxy_cache_valid 404 5m;");
    for (path, status, fields, states) in [
        ("/plain", 200, "", ["MISS", "HIT", "HIT"]),
        ("/chunked", 200, "X-Chunked: 1\r\n", ["MISS", "HIT", "HIT"]),
        ("/lost", 404, "", ["MISS", "HIT", "HIT"]),
        ("/moved", 302, "Location: /x\r\n", ["MISS", "MISS", "MISS"]),
        ("/moved-kept", 302, "Location: /x\r\nCache-Control: max-age=9\r\n", ["MISS", "HIT", "HIT"]),
        ("/empty", 204, "X-Accel-Expires: 9\r\n", ["MISS", "HIT", "HIT"]),
        ("/broken", 500, "", ["MISS", "MISS", "MISS"]),
        ("/private", 200, "Cache-Control: private\r\n", ["MISS", "MISS", "MISS"]),
        ("/no-store", 200, "Cache-Control: max-age=60, no-store\r\n", ["MISS", "MISS", "MISS"]),
        ("/zero", 200, "Cache-Control: max-age=0\r\n", ["MISS", "MISS", "MISS"]),
        ("/shared", 200, "Cache-Control: max-age=0, s-maxage=60\r\n", ["MISS", "HIT", "HIT"]),
        ("/accel", 200, "X-Accel-Expires: 60\r\nCache-Control: no-cache\r\n", ["MISS", "HIT", "HIT"]),
        ("/accel-off", 200, "X-Accel-Expires: 0\r\n", ["MISS", "MISS", "MISS"]),
        ("/past", 200, "Expires: Thu, 01 Jan 2015 00:00:00 GMT\r\n", ["MISS", "MISS", "MISS"]),
        ("/future", 200, "Expires: Thu, 01 Jan 2099 00:00:00 GMT\r\n", ["MISS", "HIT", "HIT"]),
        ("/cookie", 200, "Set-Cookie: a=b\r\n", ["MISS", "MISS", "MISS"]),
        ("/star", 200, "Vary: *\r\n", ["MISS", "MISS", "MISS"]),
        ("/at-once", 200, "X-Accel-Buffering: no\r\n", ["MISS", "MISS", "MISS"]),
        ("/large", 200, "X-Size: 300000\r\n", ["MISS", "HIT", "HIT"]),
        ("/fields", 200, "X-Kept: Yes\r\nETag: W/\"1\"\r\nContent-Type: a/b\r\n", ["MISS", "HIT", "HIT"]),
    ] {
        both.answer(path, status, fields);
        both.expect(path, &states);
    }
}

#[test]
fn what_of_a_request_decides_is_what_the_file_says() {
    let both = Both::start(
        "",
        "proxy_cache_valid any 1h; proxy_cache_bypass $http_x_bypass $arg_again; proxy_no_cache $arg_never
         $upstream_http_x_never; proxy_cache_methods POST; proxy_cache_key $request_method$request_uri;",
    );
    both.expect("/a", &["MISS", "HIT"]);
    // A bypass refreshes what is kept.
    let (answer, state) = both.get("/a", "X-Bypass: 1\r\n");
    assert_eq!((answer.text(), &*state), ("GET /a 2", "BYPASS"));
    assert_eq!(both.get("/a", "X-Bypass: 0\r\n").0.text(), "GET /a 2");
    both.expect("/b?never=1", &["MISS", "MISS"]);
    both.answer("/c", 200, "X-Never: 1\r\n");
    both.expect("/c", &["MISS", "MISS"]);
    both.expect("/d?again=1", &["BYPASS", "BYPASS"]);
    for (method, states) in [("POST", ["MISS", "HIT"]), ("PUT", ["-", "-"]), ("DELETE", ["-", "-"])] {
        let found = [0, 1].map(|_| both.send(method, "/methods", "").1);
        assert_eq!(found, states, "{method}");
    }
}

#[test]
fn zone_may_be_named_by_a_variable() {
    let (origin, _) = counting();
    let content = format!(
        "location / {{ proxy_pass http://{}; proxy_set_header Host $server_port; proxy_cache $arg_zone;
         proxy_cache_valid 1h; add_header X-Cache $upstream_cache_status; }}",
        origin.addr
    );
    let beside = Beside::start(
        "proxy_cache_path one levels=1:2 keys_zone=one:1m; proxy_cache_path two keys_zone=two:1m;",
        &content,
        &["X-Cache"],
    );
    for (path, state) in [
        ("/?zone=one", Some("MISS")),
        ("/?zone=one", Some("HIT")),
        ("/?zone=two", Some("MISS")),
        ("/?zone=off", None),
        ("/", None),
    ] {
        assert_eq!(beside.get(path).header("X-Cache"), state, "{path}");
    }
    assert_eq!(beside.get("/?zone=three").status, 500);
}

#[test]
fn key_is_the_url_that_the_server_is_asked_for_unless_it_is_said() {
    let (origin, _) = counting();
    let place = |name: &str, more: &str| {
        format!(
            "location /{name}/ {{ proxy_pass http://{}/x/; proxy_set_header Host $server_port; proxy_cache zone;
             proxy_cache_valid 1h; add_header X-Cache $upstream_cache_status; {more} }}",
            origin.addr
        )
    };
    let content = place("one", "") + &place("two", "") + &place("three", "proxy_cache_key $arg_k;");
    let beside = Beside::start("proxy_cache_path cache keys_zone=zone:1m;", &content, &["X-Cache"]);
    for (path, state) in [
        ("/one/a?b", "MISS"),
        // The same for its server.
        ("/two/a?b", "HIT"),
        ("/two/a?c", "MISS"),
        ("/three/a?k=1", "MISS"),
        ("/three/b?k=1", "HIT"),
    ] {
        assert_eq!(beside.get(path).header("X-Cache"), Some(state), "{path}");
    }
}

#[test]
fn variants_are_kept_beside_each_other() {
    let both = Both::start("", "proxy_cache_valid 1h;");
    both.answer("/", 200, "Vary: Accept-Encoding, X-Own\r\n");
    for (fields, state) in [
        ("Accept-Encoding: gzip, br\r\n", "MISS"),
        ("Accept-Encoding: gzip,br\r\n", "HIT"),
        ("Accept-Encoding: br\r\n", "MISS"),
        ("Accept-Encoding: br\r\n", "HIT"),
        ("Accept-Encoding: gzip, br\r\n", "HIT"),
        ("Accept-Encoding: br\r\nX-Own: 1\r\n", "MISS"),
        ("Accept-Encoding: br\r\nX-Own: 1\r\n", "HIT"),
        ("", "MISS"),
        ("", "HIT"),
    ] {
        assert_eq!(both.get("/", fields).1, state, "{fields}");
    }
}

#[test]
fn parts_and_conditions_are_answered_from_what_is_kept() {
    let both = Both::start("", "proxy_cache_valid 200 1h;");
    let fields = "Accept-Ranges: bytes\r\nETag: \"tag\"\r\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\n\
                  Content-Type: text/plain\r\n";
    for (place, more) in [("/small", ""), ("/large", "X-Size: 100000\r\n")] {
        both.answer(place, 200, &format!("{fields}{more}"));
        for fields in [
            // The first asks for the whole, whatever it says.
            "Range: bytes=0-3\r\n",
            "Range: bytes=0-3\r\n",
            "Range: bytes=-4\r\n",
            "Range: bytes=4-\r\n",
            "Range: bytes=9999999-\r\n",
            "Range: bytes=0-3\r\nIf-Range: \"tag\"\r\n",
            "Range: bytes=0-3\r\nIf-Range: \"other\"\r\n",
            "Range: bytes=0-3\r\nIf-Range: Tue, 14 Nov 2023 22:13:20 GMT\r\n",
            "If-None-Match: \"tag\"\r\n",
            "If-None-Match: W/\"tag\"\r\n",
            "If-None-Match: \"other\"\r\n",
            "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT\r\n",
            "If-Modified-Since: Tue, 14 Nov 2023 22:13:21 GMT\r\n",
            "If-Unmodified-Since: Tue, 14 Nov 2023 22:13:19 GMT\r\n",
            "If-Match: \"tag\"\r\n",
            "If-Match: \"other\"\r\n",
        ] {
            both.get(place, fields);
        }
    }
    // Without a word that parts can be had there are none.
    both.answer("/whole", 200, "ETag: \"tag\"\r\n");
    both.get("/whole", "");
    assert_eq!(both.get("/whole", "Range: bytes=0-3\r\n").0.status, 200);
}

#[test]
fn several_parts_come_from_what_is_kept() {
    let both = Both::start("", "proxy_cache_valid 200 1h;");
    for (place, more) in [("/small", ""), ("/large", "X-Size: 100000\r\n")] {
        both.answer(place, 200, &format!("Accept-Ranges: bytes\r\nContent-Type: a/b\r\n{more}"));
        both.get(place, "");
        let mut client = both.beside.ours.client();
        client.send(format!("GET {place} HTTP/1.1\r\nHost: a\r\nRange: bytes=0-2,4-9\r\n\r\n"));
        let answer = client.response();
        assert_eq!(answer.status, 206);
        let name = &place[..6];
        assert!(answer.text().contains("Content-Range: bytes 4-9/"), "{}", answer.text());
        assert!(answer.text().contains(&format!("\r\n\r\n{name}\r\n--")), "{}", answer.text());
    }
}

#[test]
fn head_is_answered_from_the_whole_unless_the_file_says_otherwise() {
    let both = Both::start("", "proxy_cache_valid 1h;");
    let (answer, state) = both.send("HEAD", "/a", "");
    assert_eq!((answer.header("Content-Length"), &*state), (Some("8"), "MISS"));
    assert_eq!(both.get("/a", "").0.text(), "GET /a 1");
    both.expect("/b", &["MISS"]);
    assert_eq!(both.send("HEAD", "/b", "").1, "HIT");

    let both = Both::start(
        "",
        "proxy_cache_valid 1h; proxy_cache_convert_head off; proxy_cache_key $request_method$uri;",
    );
    let states = ["HEAD", "HEAD", "GET", "GET"].map(|method| both.send(method, "/a", "").1);
    assert_eq!(states, ["MISS", "HIT", "MISS", "HIT"]);
}

#[test]
fn head_alone_does_not_stand_for_the_whole() {
    let (origin, _) = counting();
    let content = format!(
        "location / {{ proxy_pass http://{}; proxy_cache zone; proxy_cache_valid 1h; proxy_cache_key $uri;
         proxy_cache_convert_head off; add_header X-Cache $upstream_cache_status; }}",
        origin.addr
    );
    let zone = "proxy_cache_path cache keys_zone=zone:1m;";
    let text = format!("{zone} server {{ listen 127.0.0.1:1; {content} }}");
    let ours = crate::peer::Proxy::start(&crate::peer::http(&text));
    let mut client = ours.client();
    client.send("HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_to_head().header("X-Cache"), Some("MISS"));
    let answer = ours.get("/a");
    assert_eq!((answer.text(), answer.header("X-Cache")), ("GET /a 2", Some("MISS")));
    assert_eq!(ours.get("/a").header("X-Cache"), Some("HIT"));
}

#[test]
fn uses_are_counted_before_anything_is_kept() {
    let both = Both::start("", "proxy_cache_valid 1h; proxy_cache_min_uses 3;");
    both.expect("/", &["MISS", "MISS", "MISS", "HIT", "HIT"]);
}

#[test]
fn far_part_goes_to_the_server_as_it_is_asked_for() {
    let both = Both::start("", "proxy_cache_valid 1h; proxy_cache_max_range_offset 10;");
    both.answer("/", 200, "Accept-Ranges: bytes\r\n");
    let (answer, state) = both.get("/", "Range: bytes=10-11\r\n");
    assert_eq!((answer.text(), &*state), ("GET / 1 Range=bytes=10-11", "MISS"));
    assert_eq!(both.get("/", "Range: bytes=-2\r\n").0.text(), "GET / 2 Range=bytes=-2");
    assert_eq!(both.get("/", "Range: bytes=3-3\r\n").0.text(), " ");
    assert_eq!(both.get("/", "Range: bytes=10-11\r\n").1, "HIT");
}

#[test]
fn what_a_server_says_may_be_ignored() {
    let both = Both::start(
        "",
        "proxy_cache_valid 200 1h; proxy_ignore_headers Set-Cookie Vary Cache-Control Expires X-Accel-Expires;",
    );
    for (path, fields) in [
        ("/cookie", "Set-Cookie: a=b\r\n"),
        ("/vary", "Vary: *\r\n"),
        ("/control", "Cache-Control: no-store\r\n"),
        ("/expires", "Expires: 0\r\n"),
        ("/accel", "X-Accel-Expires: 0\r\n"),
    ] {
        both.answer(path, 200, fields);
        both.expect(path, &["MISS", "HIT"]);
    }
}

#[test]
fn answers_that_are_intercepted_are_remembered_as_such() {
    let both = Both::start(
        "",
        "proxy_cache_valid 404 1h; proxy_intercept_errors on; error_page 404 =200 /page; error_page 500 /page;",
    );
    both.answer("/lost", 404, "");
    both.answer("/failed", 500, "");
    both.answer("/page", 200, "");
    for path in ["/lost", "/lost", "/failed", "/failed"] {
        both.get(path, "");
    }
    let lost = both.origin.requests().iter().filter(|head| head.starts_with("GET /lost ")).count();
    let proxies = 1 + usize::from(both.beside.nginx.is_some());
    assert_eq!(lost, proxies);
}

#[test]
fn what_is_kept_is_changed_on_its_way_out_as_any_answer_is() {
    let both = Both::start(
        "",
        "proxy_cache_valid 1h; proxy_hide_header X-Secret; gzip on; gzip_types a/b; gzip_min_length 1;
         gzip_http_version 1.0; add_header X-Kept $upstream_http_x_secret; sub_filter_types c/d; sub_filter GET TOOK;",
    );
    both.answer("/hidden", 200, "X-Secret: 1\r\nDate: Thu, 01 Jan 2015 00:00:00 GMT\r\n");
    both.answer("/packed", 200, "Content-Type: a/b\r\nX-Size: 50000\r\n");
    both.answer("/edited", 200, "Content-Type: c/d\r\n");
    for state in ["MISS", "HIT"] {
        let (answer, found) = both.get("/hidden", "");
        let shown = (answer.header("X-Secret"), answer.header("X-Kept"), &*found);
        assert_eq!(shown, (None, Some("1"), state));
        assert_ne!(answer.header("Date"), Some("Thu, 01 Jan 2015 00:00:00 GMT"));
        let mut client = both.beside.ours.client();
        client.send("GET /packed HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
        let packed = client.response();
        assert_eq!(
            (packed.header("Content-Encoding"), packed.header("X-Cache")),
            (Some("gzip"), Some(state))
        );
        assert!(packed.body.len() < 5000);
        let (answer, found) = both.get("/edited", "");
        assert_eq!((answer.text(), &*found), ("TOOK /edited 1", state));
    }
}

#[test]
fn answers_of_http2_and_for_it_are_kept_as_well() {
    let (origin, _) = counting();
    let text = format!(
        "proxy_cache_path cache keys_zone=zone:1m;
         server {{ listen 127.0.0.1:1; http2 on; location / {{ proxy_pass http://{}; proxy_cache zone;
         proxy_cache_valid 1h; add_header X-Cache $upstream_cache_status; }} }}",
        origin.addr
    );
    let inner = crate::peer::Proxy::start(&crate::peer::http(&text));
    let text = format!(
        "proxy_cache_path cache keys_zone=zone:1m;
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://{}; proxy_http_version 2;
         proxy_cache zone; proxy_cache_valid 1h; add_header X-Outer $upstream_cache_status; }} }}",
        inner.addr()
    );
    let outer = crate::peer::Proxy::start(&crate::peer::http(&text));
    for state in ["MISS", "HIT"] {
        let answer = outer.get("/");
        assert_eq!((answer.text(), answer.header("X-Outer")), ("GET / 1", Some(state)));
    }
    // What the outer one has kept tells what the inner one had.
    assert_eq!(outer.get("/").header("X-Cache"), Some("MISS"));
    assert_eq!(inner.get("/").header("X-Cache"), Some("HIT"));
}
