//! Answers whose time is over.

use std::time::Duration;

use super::{BABBLES, Both, CLOSES};
use crate::peer::eventually;

/// Waits until what is good for a second is not any more.
fn pass() {
    // Times are counted in whole seconds, in servers' words as in nginx's.
    std::thread::sleep(Duration::from_millis(2100));
}

#[test]
fn answer_whose_time_is_over_is_fetched_again() {
    let both = Both::start("", "proxy_cache_valid 1s;");
    both.expect("/", &["MISS"]);
    pass();
    assert_eq!(both.get("/", "").1, "EXPIRED");
    assert_eq!(both.get("/", "").0.text(), "GET / 2");
}

#[test]
fn server_is_asked_whether_something_has_changed() {
    let both = Both::start("", "proxy_cache_valid 1s; proxy_cache_revalidate on;");
    let fields = "ETag: \"a\"\r\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\n";
    both.answer("/", 200, fields);
    both.answer("/new", 200, "ETag: \"a\"\r\nX-Kept: Old\r\n");
    both.answer("/never", 200, "");
    for path in ["/", "/new", "/never"] {
        both.expect(path, &["MISS"]);
    }
    pass();
    both.answer("/new", 200, "ETag: \"b\"\r\nX-Kept: New\r\n");
    let (answer, state) = both.get("/", "");
    assert_eq!((answer.text(), &*state), ("GET / 1", "REVALIDATED"));
    assert_eq!(both.get("/", "").1, "HIT");
    assert_eq!(both.get("/new", "").1, "EXPIRED");
    assert_eq!(both.get("/new", "").0.header("X-Kept"), Some("New"));
    assert_eq!(both.get("/never", "").1, "EXPIRED");
    let asked = both.origin.requests();
    let dates = asked.iter().filter(|head| head.contains("If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT"));
    assert_eq!(dates.count(), 1 + usize::from(both.beside.nginx.is_some()));
}

#[test]
fn what_there_is_will_do_where_servers_fail() {
    let both = Both::start("", "proxy_cache_valid 200 1s; proxy_cache_use_stale http_500 http_404;");
    for path in ["/a", "/b", "/c"] {
        both.expect(path, &["MISS"]);
    }
    both.answer("/a", 500, "");
    both.answer("/b", 404, "");
    both.answer("/c", 503, "");
    pass();
    assert_eq!(both.get("/a", "").1, "STALE");
    assert_eq!(both.get("/a", "").0.text(), "GET /a 1");
    assert_eq!(both.get("/b", "").1, "STALE");
    assert_eq!(both.get("/c", "").1, "EXPIRED");
}

#[test]
fn what_there_is_will_do_where_servers_do_not_answer() {
    for (words, closed, babbled) in [
        ("error", "STALE", "EXPIRED"),
        ("invalid_header", "EXPIRED", "STALE"),
        ("error timeout invalid_header updating http_500", "STALE", "STALE"),
        ("off", "EXPIRED", "EXPIRED"),
    ] {
        let content = format!("proxy_cache_valid 200 1s; proxy_cache_use_stale {words};");
        let both = Both::start("", &content);
        for path in ["/closed", "/babbled"] {
            both.expect(path, &["MISS"]);
        }
        both.answer("/said-so", 200, "Cache-Control: max-age=1, stale-if-error=60\r\n");
        both.expect("/said-so", &["MISS"]);
        pass();
        both.answer("/closed", CLOSES, "");
        both.answer("/said-so", CLOSES, "");
        assert_eq!(both.get("/closed", "").1, closed, "{words}");
        assert_eq!(both.get("/said-so", "").1, "STALE", "{words}");
        // What nginx makes of it depends on its version: it is asked by itself.
        both.answer("/babbled", BABBLES, "");
        let answer = both.beside.ours.get("/babbled");
        assert_eq!(answer.header("X-Cache"), Some(babbled), "{words}");
    }
}

#[test]
fn what_there_is_will_do_while_another_is_fetched() {
    let both = Both::start(
        "",
        "proxy_cache_valid 1s; proxy_cache_use_stale updating; proxy_cache_background_update on;",
    );
    both.expect("/", &["MISS"]);
    pass();
    let (answer, state) = both.get("/", "");
    assert_eq!((answer.text(), &*state), ("GET / 1", "STALE"));
    let proxies = 1 + usize::from(both.beside.nginx.is_some());
    eventually("it is fetched", || both.origin.requests().len() == 2 * proxies);
    eventually("it is kept", || both.beside.ours.get("/").text() == "GET / 2");
    assert_eq!(both.beside.ours.get("/").header("X-Cache"), Some("HIT"));
}

#[test]
fn server_may_say_how_long_its_answer_will_do() {
    let both = Both::start("", "proxy_cache_background_update on;");
    both.answer("/", 200, "Cache-Control: max-age=1, stale-while-revalidate=60\r\n");
    both.answer("/short", 200, "Cache-Control: max-age=1\r\n");
    both.expect("/", &["MISS"]);
    both.expect("/short", &["MISS"]);
    pass();
    assert_eq!(both.get("/", "").1, "STALE");
    assert_eq!(both.get("/short", "").1, "EXPIRED");
}

#[test]
fn failure_is_remembered_where_the_file_says_so() {
    let nobody = crate::peer::Origin::nobody();
    let content = format!(
        "location / {{ proxy_pass http://{}; proxy_cache zone; proxy_cache_valid 502 1h;
         add_header X-Cache $upstream_cache_status always; }}",
        nobody.addr
    );
    let beside =
        crate::nginx::Beside::start("proxy_cache_path cache keys_zone=zone:1m;", &content, &["X-Cache"]);
    assert_eq!(beside.get("/").header("X-Cache"), Some("MISS"));
    assert_eq!(beside.get("/").header("X-Cache"), Some("HIT"));
}
