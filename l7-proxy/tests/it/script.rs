//! Scripts of a configuration: `set`, `map`, `if`, `rewrite`, `return`, `limit_except`.

use crate::peer::{Origin, Proxy, Response, http, server};

#[track_caller]
fn check(proxy: &Proxy, path: &str, expected: &str) {
    let answer = proxy.get(path);
    assert_eq!(answer.text(), expected, "{path}");
}

fn location(answer: &Response) -> Option<&str> {
    answer.header("Location")
}

#[test]
fn script_runs_in_the_order_of_the_file_up_to_its_return() {
    let proxy = Proxy::start(&server(
        "set $a 1; set $b \"${a}2\";
         location / { set $a \"$b$arg_x\"; if ($arg_x) { set $c \"in \"; } return 200 \"$c$a $b\"; set $a 9; }",
    ));
    check(&proxy, "/", "12 12");
    check(&proxy, "/?x=7", "in 127 12");
}

#[test]
fn variable_of_a_family_may_be_set_and_is_that_from_then_on() {
    let text =
        "set $arg_x \"[$arg_y]\"; set $http_z own; location / { return 200 \"$arg_x $arg_y $http_z\"; }";
    let both = crate::nginx::Beside::start("", text, &[]);
    for (path, expected) in [("/?x=1&y=2", "[2] 2 own"), ("/?x=1", "[]  own")] {
        both.get(path);
        assert_eq!(both.ours.get(path).text(), expected);
    }
    for name in ["http_host", "sent_http_location", "uri"] {
        let text = format!("http {{ server {{ set ${name} 1; }} }}");
        let error = l7_proxy::conf::parse(&text, "/".as_ref()).unwrap_err();
        assert_eq!(
            error.message().split(" in ").next(),
            Some(&*format!("the duplicate \"{name}\" variable"))
        );
    }
}

#[test]
fn if_takes_text_patterns_and_files() {
    let proxy = Proxy::start(&server(
        "location / {
             if ($arg_m = post) { return 200 equal; }
             if ($arg_m != \"\") { set $other yes; }
             if ($uri ~ ^/v(\\d+)/(?<rest>.*)$) { return 200 \"$1 $rest\"; }
             if ($uri ~* ^/CASE) { return 200 caseless; }
             if (-f $request_filename) { return 200 file; }
             if (!-e $request_filename) { return 200 \"nothing $other\"; }
             return 200 directory;
         }",
    ));
    proxy.file("html/there", "x");
    check(&proxy, "/?m=post", "equal");
    check(&proxy, "/v12/a/b", "12 a/b");
    check(&proxy, "/case", "caseless");
    check(&proxy, "/there", "file");
    check(&proxy, "/gone?m=get", "nothing yes");
    check(&proxy, "/", "directory");
}

#[test]
fn settings_inside_the_last_if_that_holds_take_the_place_of_those_outside() {
    let proxy = Proxy::start(&server(
        "location / {
             add_header X-Where out;
             if ($arg_a) { add_header X-Where a; }
             if ($arg_b) { add_header X-Where b; root other; }
         }",
    ));
    proxy.file("html/file", "html");
    proxy.file("other/file", "other");
    let where_is = |path: &str| {
        let answer = proxy.get(path);
        (answer.header("X-Where").unwrap_or_default().to_owned(), answer.text().to_owned())
    };
    let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
    assert_eq!(where_is("/file"), pair("out", "html"));
    assert_eq!(where_is("/file?a=1"), pair("a", "html"));
    assert_eq!(where_is("/file?a=1&b=1"), pair("b", "other"));
}

#[test]
fn rewritten_path_is_looked_for_anew_unless_it_breaks() {
    let origin = Origin::named("app");
    let proxy = Proxy::start(&server(&format!(
        "rewrite ^/server/(.*)$ /moved/$1;
         location /moved/ {{ return 200 \"moved $uri $args $request_uri\"; }}
         location /last/ {{ rewrite ^/last/(.*)$ /moved/$1?added=1 last; return 200 never; }}
         location /bare/ {{ rewrite ^/bare/(.*)$ /moved/$1? last; }}
         location /go/ {{ rewrite ^/go/ /moved/x; }}
         location /stay/ {{ rewrite ^/stay/(.*)$ /moved/$1 break; proxy_pass http://{addr}/ignored/; }}
         location /loop {{ rewrite ^ /loop last; }}",
        addr = origin.addr
    )));
    check(&proxy, "/server/a?x=1", "moved /moved/a x=1 /server/a?x=1");
    check(&proxy, "/last/a?x=1", "moved /moved/a added=1&x=1 /last/a?x=1");
    check(&proxy, "/bare/a?x=1", "moved /moved/a  /bare/a?x=1");
    check(&proxy, "/go/", "moved /moved/x  /go/");
    check(&proxy, "/stay/b%20c?y=1", "app /moved/b%20c?y=1");
    assert_eq!(proxy.get("/loop").status, 500);
}

#[test]
fn rewrite_to_a_url_redirects_and_keeps_a_line_a_line() {
    let proxy = Proxy::start(&server(
        "location /r/ { rewrite ^/r/([^?]*)$ http://example.com/$1 redirect; }
         location /p/ { rewrite ^/p/(.*)$ /q/$1 permanent; }",
    ));
    let found = proxy.get("/r/a?x=1");
    assert_eq!((found.status, location(&found)), (302, Some("http://example.com/a?x=1")));
    let split = proxy.get("/r/a%0d%0aX-Bad:%201");
    assert_eq!(location(&split), Some("http://example.com/a%0D%0AX-Bad:%201"));
    assert_eq!(split.header("X-Bad"), None);
    let moved = proxy.get("/p/a");
    assert_eq!(moved.status, 301);
    assert!(location(&moved).unwrap().ends_with("/q/a"), "{:?}", location(&moved));
}

#[test]
fn rewrite_cannot_reach_a_page_as_a_file() {
    let proxy = Proxy::start(&server("location / { rewrite ^/(.*)\\.txt$ /$1.jsp break; }"));
    proxy.file("html/page.jsp", "source");
    assert_eq!(proxy.get("/page.txt").status, 404);
}

#[test]
fn map_asks_exact_rows_wildcards_patterns_and_the_default_in_this_order() {
    let proxy = Proxy::start(&http(
        "map $arg_k $row { default \"d $arg_k\"; ~^a(?<tail>.+)$ \"p $tail\"; abc exact; ABD capital; \"\" none; }
         map $host $site { hostnames; default other; .example.org ours; www.* www; }
         map $row $chained { \"p x\" yes; default no; }
         server { listen 127.0.0.1:1; return 200 \"$row|$site|$chained\"; }",
    ));
    check(&proxy, "/?k=abc", "exact|ours|no");
    check(&proxy, "/?k=abd", "capital|ours|no");
    check(&proxy, "/?k=ax", "p x|ours|yes");
    check(&proxy, "/?k=z", "d z|ours|no");
    check(&proxy, "/", "none|ours|no");
}

#[test]
fn other_methods_get_what_limit_except_says() {
    let proxy = Proxy::start(&server("location / { limit_except GET { proxy_pass http://127.0.0.1:9; } }"));
    proxy.file("html/file", "x");
    assert_eq!(proxy.get("/file").status, 200);
    let mut client = proxy.client();
    client.send("HEAD /file HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200"));
    let mut client = proxy.client();
    client.send("DELETE /file HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 502);
}

#[test]
fn redirect_can_have_an_error_page() {
    let proxy = Proxy::start(&server(
        "location /a { error_page 302 =200 /page; return 302 http://example.com/; }
         location = /page { return 200 page; }",
    ));
    let answer = proxy.get("/a");
    // The page is ours, the place that of the redirect, as in nginx.
    let expected = (200, "page", Some("http://example.com/"));
    assert_eq!((answer.status, answer.text(), location(&answer)), expected);
}
