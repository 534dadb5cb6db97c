//! Answers that were found to differ from nginx's when the same requests were sent to both.

use crate::nginx::Beside;
use crate::peer::{Origin, Proxy, field, forwarding, server};

#[track_caller]
fn check(proxy: &Proxy, path: &str, status: u16, fields: &[(&str, Option<&str>)], text: &str) {
    let answer = proxy.get(path);
    assert_eq!((answer.status, answer.text()), (status, text), "{path}");
    for (name, expected) in fields {
        assert_eq!(answer.header(name), *expected, "{path} {name}");
    }
}

#[test]
fn error_page_keeps_what_the_error_says_of_itself() {
    let proxy = Proxy::start(&server(
        "error_page 401 302 @sorry;
         location @sorry { return 200 \"sorry $status\"; }
         location /private { auth_basic staff; auth_basic_user_file users; }
         location /moved { return 302 http://o.test/; }",
    ));
    proxy.file("users", "u:{PLAIN}p\n");
    let asked = Some("Basic realm=\"staff\"");
    check(&proxy, "/private", 401, &[("WWW-Authenticate", asked)], "sorry 401");
    check(&proxy, "/moved", 302, &[("Location", Some("http://o.test/"))], "sorry 302");
}

#[test]
fn page_of_a_redirect_that_leads_elsewhere_leads_there() {
    let proxy = Proxy::start(&server(
        "error_page 302 /on;
         location /moved { return 302 http://o.test/; }
         location /on { return 302 http://p.test/; }",
    ));
    let answer = proxy.get("/moved");
    assert_eq!((answer.status, answer.header("Location")), (302, Some("http://p.test/")));
}

#[test]
fn status_is_known_while_an_error_is_answered() {
    let proxy = Proxy::start(&server(
        "recursive_error_pages on;
         error_page 404 /first; error_page 403 =410 /second; error_page 500 = @plain;
         location /first { return 403; }
         location /second { return 200 \"then $status\"; }
         location @plain { return 200 \"plain $status\"; }
         location /fails { return 500; }
         location /asked { return 200 $status; }",
    ));
    check(&proxy, "/nowhere", 410, &[], "then 410");
    check(&proxy, "/fails", 200, &[], "plain 200");
    check(&proxy, "/asked", 200, &[], "200");
}

#[test]
fn group_of_an_escaped_path_is_one_argument() {
    let proxy = Proxy::start(&server(
        "rewrite ^/s/(.*)$ /show?q=$1&last=1 last;
         rewrite ^/n/(?<n>.*)$ /show?n=$n last;
         location /show { return 200 \"$uri $args\"; }",
    ));
    check(&proxy, "/s/a%26b%3Dc", 200, &[], "/show q=a%26b=c&last=1");
    check(&proxy, "/s/a%3Fb%23%25", 200, &[], "/show q=a%3Fb%23%25&last=1");
    check(&proxy, "/s/1+1", 200, &[], "/show q=1%2B1&last=1");
    // What nobody has escaped may part arguments.
    check(&proxy, "/s/a&b=c?x=y", 200, &[], "/show q=a&b=c&last=1&x=y");
    check(&proxy, "/n/a", 200, &[], "/show n=a");
}

#[test]
fn question_mark_in_a_rewritten_path_stays_in_the_path() {
    let origin = Origin::named("app");
    let proxy = Proxy::start(&server(&format!(
        "location /a/ {{ rewrite ^/a/(.*)$ /b/$1 break; proxy_pass http://{}; }}",
        origin.addr
    )));
    proxy.get("/a/x%3Fadmin=1?y=2");
    let head = origin.last_request();
    assert!(head.starts_with("GET /b/x%3Fadmin=1?y=2 HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(&head, "Host"), Some(&*origin.addr.to_string()));
}

#[test]
fn slashes_are_kept_however_they_are_written() {
    let proxy = Proxy::start(&server("merge_slashes off; location / { return 200 $uri; }"));
    for (path, expected) in
        [("/a//b", "/a//b"), ("/a/%2f/b", "/a///b"), ("/a%2F%2Fb", "/a//b"), ("/a/./b", "/a/b")]
    {
        check(&proxy, path, 200, &[], expected);
    }
    let proxy = Proxy::start(&server("location / { return 200 $uri; }"));
    check(&proxy, "/a/%2f/b", 200, &[], "/a/b");
}

#[test]
fn answer_without_a_date_of_its_own_expires_from_now_on() {
    let proxy = Proxy::start(&server("expires modified 1h; location / { return 200 x; }"));
    check(&proxy, "/", 200, &[("Cache-Control", Some("max-age=3600"))], "x");
}

#[test]
fn name_with_two_dots_in_a_row_is_none() {
    let proxy = Proxy::start(&server("location / { return 200 $host; }"));
    for (host, status) in [("a..", 400), ("..", 400), ("a..b", 400), ("a.", 200)] {
        let mut client = proxy.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.response().status, status, "{host}");
    }
}

#[test]
fn status_that_error_page_gives_has_the_words_of_nginx() {
    let proxy = Proxy::start(&server("error_page 404 =302 /there; location /there { return 200 x; }"));
    let mut client = proxy.client();
    client.send("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.response();
    assert!(answer.head.starts_with("HTTP/1.1 302 Moved Temporarily\r\n"), "{}", answer.head);
}

/// What the server said of its own answer does not hold for a page of ours.
#[test]
fn page_for_a_failed_internal_redirect_is_html() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.reply("Content-Type: text/plain\r\nX-Accel-Redirect: /files/gone\r\n", "")
    });
    let proxy = Proxy::start(&server(&format!(
        "location / {{ proxy_pass http://{}; }} location /files/ {{ internal; }}",
        origin.addr
    )));
    let answer = proxy.get("/");
    assert_eq!((answer.status, answer.header("Content-Type")), (404, Some("text/html")));
}

#[test]
fn variable_shows_fields_with_underscores_and_with_hyphens_in_their_names() {
    let origin = Origin::start(|visit| {
        while visit.request().is_ok() {
            visit.reply("X_Up-Name: up\r\nX-Other_name: other\r\nCache_Control: forged\r\n", "")?;
        }
        Ok(())
    });
    let content = format!(
        "underscores_in_headers on;
         location / {{ return 200 \"$http_x_foo|$http_a|$http_x_forwarded_for|$http_user_agent|$content_type\"; }}
         location /passed {{ proxy_set_header X-Seen $http_x_foo; proxy_pass http://{0}; }}
         location /up {{ proxy_pass http://{0};
             add_header Seen \"$upstream_http_x_up_name $sent_http_x_other_name $sent_http_cache_control\"; }}",
        origin.addr
    );
    let both = Beside::start("", &content, &["Seen"]);
    let ask = |path: &str, fields: &str| {
        both.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).text().to_owned()
    };
    assert_eq!(ask("/", "x_foo: 1\r\n"), "1||||");
    assert_eq!(ask("/", "X-Foo: 2\r\nA: 3\r\n"), "2|3|||");
    // nginx has variables for these, of exactly their names.
    assert_eq!(ask("/", "x_forwarded_for: 4\r\nUser_Agent: 5\r\nContent_Type: 6\r\n"), "||||");
    ask("/passed", "X_FOO: 7\r\n");
    assert_eq!(field(&origin.last_request(), "X-Seen"), Some("7"));
    let answer = both.send("GET /up HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.header("Seen"), Some("up other"));
    // Where such fields are not taken they are not shown.
    let off = Beside::start("", "return 200 \"$http_x_foo\";", &[]);
    assert_eq!(off.send("GET / HTTP/1.1\r\nHost: a\r\nx_foo: 1\r\n\r\n").text(), "");
    let odd = Beside::start("ignore_invalid_headers off;", "return 200 \"$http_x_foo\";", &[]);
    assert_eq!(odd.send("GET / HTTP/1.1\r\nHost: a\r\nx_foo: 1\r\n\r\n").text(), "1");
}

#[test]
fn of_fields_that_are_one_the_first_holds() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.reply(
            "Content-Type: a/a\r\nContent-Type: b/b\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nETag: \"x\"\r\nETag: \"y\"\r\n",
            "text",
        )
    });
    let proxy = Proxy::start(&server(&format!("location / {{ proxy_pass http://{}; }}", origin.addr)));
    let answer = proxy.get("/");
    let lines = |name: &str| answer.head.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!((lines("Content-Type: a/a"), lines("Content-Type")), (1, 1), "{}", answer.head);
    assert_eq!((lines("ETag: \"x\""), lines("ETag"), lines("Set-Cookie")), (1, 1, 2), "{}", answer.head);
}

#[test]
fn server_may_send_as_many_fields_as_its_head_has_room_for() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.reply(&"X: y\r\n".repeat(300), "text")
    });
    let proxy = Proxy::start(&server(&format!("location / {{ proxy_pass http://{}; }}", origin.addr)));
    let answer = proxy.get("/");
    assert_eq!((answer.status, answer.head.lines().filter(|line| *line == "X: y").count()), (200, 300));
}

#[test]
fn field_of_a_server_that_only_looks_like_one_for_us_goes_on() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.reply("X-Accel-Buffering: no\r\nX-Accel-Theirs: 1\r\n", "text")
    });
    let proxy = Proxy::start(&server(&format!("location / {{ proxy_pass http://{}; }}", origin.addr)));
    let answer = proxy.get("/");
    let passed = ["X-Accel-Buffering", "X-Accel-Theirs"].map(|name| answer.header(name));
    assert_eq!(passed, [None, Some("1")]);
}

#[test]
fn answer_without_content_is_of_no_type() {
    let proxy = Proxy::start(&server("default_type a/b; return 204 text;"));
    let answer = proxy.get("/");
    assert_eq!((answer.status, answer.header("Content-Type"), answer.text()), (204, None, ""));
    // A server's is passed on.
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.write("HTTP/1.1 204 No Content\r\nContent-Type: c/d\r\nLast-Modified: Sun, 22 Nov 2026 09:31:55 GMT\r\n\r\n")
    });
    let answer = Proxy::start(&forwarding(&[&origin], "")).get("/");
    assert_eq!((answer.status, answer.header("Content-Type")), (204, Some("c/d")));
    assert_eq!(answer.header("Last-Modified"), Some("Sun, 22 Nov 2026 09:31:55 GMT"));
}

#[test]
fn connection_is_closed_for_444_unless_there_is_something_to_say() {
    let proxy = Proxy::start(&server(
        "location /silent { return 444; } location /empty { return 444 ''; } location /text { return 444 text; }",
    ));
    let answer = proxy.get("/text");
    assert!(answer.head.starts_with("HTTP/1.1 444 \r\n"), "{}", answer.head);
    for path in ["/silent", "/empty"] {
        let mut client = proxy.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(client.is_closed(), "{path}");
    }
}

#[test]
fn who_speaks_another_protocol_need_not_end_a_line_to_be_told() {
    let proxy = Proxy::start(&server("return 200;"));
    for bytes in [&b"\x16\x03\x01\x02"[..], b"quit", b"{"] {
        let mut client = proxy.client();
        client.send(bytes);
        assert_eq!(client.response().status, 400, "{}", bytes.escape_ascii());
    }
    // What may become a method is waited for.
    let mut client = proxy.client();
    client.send("G");
    client.send("ET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 200);
}

#[test]
fn path_in_an_older_encoding_is_read_byte_by_byte() {
    let proxy = Proxy::start(&server("location ~ ^/a(.)b$ { return 200 found; } location / { return 404; }"));
    let mut client = proxy.client();
    client.send(b"GET /a\xe4b?\xff HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.response();
    assert_eq!((answer.status, answer.text()), (200, "found"));
}
