//! What each variable is for one request.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Version};
use l7_proxy::model::{Escape, PassModule, Pattern, ProxyPass, Root, UpstreamId};
use l7_proxy::uri::Target;
use l7_proxy::variable::{Attempt, Completion, Names, Response, Scheme, Value};

use crate::support::Request;

fn write(request: &Request, text: &str, response: Option<Response<'_>>) -> String {
    let mut names = Names::default();
    names.insert("user");
    let value = Value::parse(text, &names).unwrap();
    let mut out = Vec::new();
    value.write(&request.exchange(response), &mut out);
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn check(request: &Request, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(write(request, text, None), *expected, "{text}");
    }
}

#[test]
fn variables_of_the_request() {
    let request = Request::get("/a%20b/../c?x=1&Y=2&x=3")
        .field("host", "Example.org:8080")
        .field("x-forwarded-for", "198.51.100.1")
        .field("x-forwarded-for", "198.51.100.2")
        .field("user-agent", "curl")
        .field("cookie", "a=1; SESSION=abc=; b")
        .field("cookie", "c=2")
        .field("authorization", "Basic dXNlcjpwYXNz")
        .field("content-type", "text/plain")
        .field("content-length", "5");
    check(
        &request,
        &[
            ("$request_uri", "/a%20b/../c?x=1&Y=2&x=3"),
            ("$uri $document_uri", "/c /c"),
            ("$args|$query_string|$is_args", "x=1&Y=2&x=3|x=1&Y=2&x=3|?"),
            ("$arg_x $arg_y $arg_z", "1 2 "),
            ("$host", "example.org"),
            ("$http_host", "Example.org:8080"),
            ("$http_user_agent", "curl"),
            ("$http_none", ""),
            ("$cookie_session|$cookie_a|$cookie_c|$cookie_b", "abc=|1|2|"),
            ("$http_cookie", "a=1; SESSION=abc=; b; c=2"),
            ("$remote_user", "user"),
            ("$content_type $content_length", "text/plain 5"),
            ("$proxy_add_x_forwarded_for", "198.51.100.1, 198.51.100.2, 192.0.2.7"),
            ("$request_method $server_protocol", "GET HTTP/1.1"),
            ("$request", "GET /a%20b/../c?x=1&Y=2&x=3 HTTP/1.1"),
            ("${uri}x$uri", "/cx/c"),
            ("$HOST", "example.org"),
        ],
    );
}

#[test]
fn variables_of_the_connection_and_the_server() {
    let mut request = Request::get("/a");
    check(
        &request,
        &[
            ("$remote_addr:$remote_port", "192.0.2.7:50000"),
            ("$server_addr:$server_port", "192.0.2.1:8080"),
            ("$server_name $scheme", "www.example.org http"),
            ("$connection $connection_requests $pipe", "3 2 ."),
            ("$time_local", "02/Jan/2026:15:04:05 +0000"),
            ("$time_iso8601", "2026-01-02T15:04:05+00:00"),
            ("$msec $request_time", "1767366245.678 1.234"),
            ("$proxy_add_x_forwarded_for", "192.0.2.7"),
            ("$nginx_version", env!("CARGO_PKG_VERSION")),
            ("$document_root$uri $request_filename", "html/a html/a"),
            ("$is_args|$args", "|"),
        ],
    );
    assert_eq!(write(&request, "$pid", None), std::process::id().to_string());
    request.host = String::new();
    request.version = Version::HTTP_10;
    request.connection.scheme = Scheme::Https;
    request.connection.remote =
        SocketAddr::from(("::ffff:192.0.2.9".parse::<std::net::Ipv6Addr>().unwrap(), 1));
    request.connection.local = "[2001:db8::1]:443".parse().unwrap();
    check(
        &request,
        &[
            ("$host $scheme $server_protocol", "www.example.org https HTTP/1.0"),
            ("$remote_addr $server_addr", "192.0.2.9 2001:db8::1"),
        ],
    );
}

#[test]
fn alias_takes_the_place_of_the_prefix_in_the_file_s_name() {
    let mut request = Request::get("/images/a.png");
    let alias = |replaces| Root::Alias { directory: Value::literal("/srv/i/"), replaces };
    request.settings.files.root = alias(Some("/images/".len()));
    check(&request, &[("$request_filename", "/srv/i/a.png"), ("$document_root", "/srv/i/")]);
    request.settings.files.root = alias(None);
    check(&request, &[("$request_filename", "/srv/i/")]);
}

#[test]
fn root_that_names_itself_ends() {
    let mut request = Request::get("/a");
    request.settings.files.root = Root::Root(Value::parse("/x$document_root", &Names::default()).unwrap());
    check(&request, &[("$document_root", "/x"), ("$request_filename", "/x/a")]);
}

#[test]
fn groups_are_variables() {
    let mut request = Request::get("/ann/x");
    let pattern = Pattern::new("^/(?<user>[a-z]+)/(x)(y)?").unwrap();
    assert!(request.captures.matches(&pattern, b"/ann/x"));
    check(&request, &[("$1 $2 $3 $user", "ann x  ann"), ("$10", "ann0"), ("${1}0", "ann0")]);
}

#[test]
fn variables_of_the_upstream_list_every_attempt() {
    let mut request = Request::get("/");
    check(&request, &[("$upstream_addr$upstream_status$proxy_host$proxy_port", "")]);
    request.proxy = Some(ProxyPass {
        module: PassModule::Proxy,
        upstream: Some(UpstreamId(0)),
        tls: false,
        host: "app:81".into(),
        url: "http://app:81".into(),
        port: 81,
        uri: None,
    });
    let server = Some(SocketAddr::from(([10, 0, 0, 1], 80)));
    request.attempts = vec![
        Attempt::new(server, Some(502), Some(Duration::from_millis(7))),
        Attempt::new(None, None, Some(Duration::ZERO)),
    ];
    check(
        &request,
        &[
            ("$proxy_host $proxy_port", "app:81 81"),
            ("$upstream_addr", "10.0.0.1:80, app:81"),
            ("$upstream_status", "502, -"),
            ("$upstream_response_time", "0.007, 0.000"),
        ],
    );
}

#[test]
fn variables_of_the_answer() {
    let request = Request::get("/");
    let mut headers = HeaderMap::new();
    headers.insert("x-a", HeaderValue::from_static("ours"));
    let mut upstream = HeaderMap::new();
    upstream.insert("x-a", HeaderValue::from_static("theirs"));
    let response = Response {
        status: 99,
        headers: &headers,
        trailers: None,
        upstream_trailers: None,
        upstream_headers: Some(&upstream),
        body_bytes_sent: 1000,
        bytes_sent: 1200,
        packed: None,
        completion: Completion::Whole,
    };
    let text = "$status $body_bytes_sent $bytes_sent $sent_http_x_a $upstream_http_x_a $request_completion";
    assert_eq!(write(&request, text, Some(response)), "099 1000 1200 ours theirs OK");
    assert_eq!(write(&request, "$status|$sent_http_x_a|$request_completion", None), "000||");
}

#[test]
fn log_line_cannot_be_forged_by_a_client() {
    let mut request =
        Request::get("/").field("user-agent", "a\"b\\c\u{e9}").field("x-tab", "a\tb").field("x-empty", "");
    request.target = Target::internal(b"/a\nb\xff", None).unwrap();
    let line = |text: &str, escape| {
        let mut out = Vec::new();
        Value::parse(text, &Names::default()).unwrap().write_log(&request.exchange(None), escape, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(line("\"$http_user_agent\"", Escape::Default), "\"a\\x22b\\x5Cc\\xC3\\xA9\"");
    assert_eq!(line("$uri", Escape::Default), "/a\\x0Ab\\xFF");
    assert_eq!(line("$http_none|$http_x_empty|$args", Escape::Default), "-||-");
    assert_eq!(line("$http_none", Escape::Json), "");
    assert_eq!(line("{\"a\":\"$http_user_agent\"}", Escape::Json), "{\"a\":\"a\\\"b\\\\cé\"}");
    assert_eq!(line("$uri $http_x_tab", Escape::Json), "/a\\nb\u{fffd} a\\tb");
    assert_eq!(line("$http_x_tab", Escape::None), "a\tb");
}

#[test]
fn empty_or_impossible_value_is_no_field() {
    let request = Request::get("/a%0ab").field("x-one", "1").field("x-two", "2").field("x-two", "3");
    let header = |text: &str| {
        let value = Value::parse(text, &Names::default()).unwrap();
        let header = value.header(&request.exchange(None), &mut Vec::new());
        header.map(|header| header.to_str().unwrap().to_owned())
    };
    assert_eq!(header("close"), Some("close".into()));
    assert_eq!(header(""), None);
    assert_eq!(header("$http_none"), None);
    assert_eq!(header("$http_x_one"), Some("1".into()));
    assert_eq!(header("$http_x_two"), Some("2, 3".into()));
    assert_eq!(header("x$http_x_one"), Some("x1".into()));
    assert_eq!(header("$uri"), None, "a line break would start another field");
    assert_eq!(header("a\nb"), None);
}
