//! Answers that need neither a file nor a server.

use l7_proxy::model::{Return, ReturnBody, ServerTokens};
use l7_proxy::pages::{self, Replied};
use l7_proxy::variable::{Names, Scheme, Value};

use crate::nginx::Beside;
use crate::support::Request;

#[test]
fn page_has_the_shape_of_nginx() {
    let page = pages::built_in(404, ServerTokens::Off);
    assert_eq!(page.status, 404);
    assert_eq!(page.content_type.unwrap(), "text/html");
    let expected = "<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n\
                    <center><h1>404 Not Found</h1></center>\r\n<hr><center>l7-proxy</center>\r\n</body>\r\n</html>\r\n";
    assert_eq!(page.body, expected);
    let page = pages::built_in(502, ServerTokens::On);
    let signature = format!("<hr><center>l7-proxy/{}</center>", env!("CARGO_PKG_VERSION"));
    assert!(String::from_utf8_lossy(&page.body).contains(&signature));
}

/// Some browsers show a page of their own in place of a short one.
#[test]
fn page_of_an_error_is_as_long_as_that_of_nginx_whatever_asks_for_it() {
    let both = Beside::start(
        "",
        "location /off { msie_padding off; return 404; }
         location /moved { return 301 /there; }
         location /gone { return 410; }
         location /text { return 404 text; }
         location /own { error_page 404 /own.html; return 404; }
         location /fails { return 500; }",
        &["Content-Type"],
    );
    both.file("own.html", "own");
    for agent in [
        "",
        "curl/8.0",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36",
        "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0",
        "Chrome/1 Gecko/1",
        "Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)",
        "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 5.1) Opera 9",
        "MSIE 6",
        "MSIE 6.",
        "MSIE 6.0",
    ] {
        for path in ["/nothing", "/off", "/moved", "/gone", "/text", "/own", "/fails"] {
            both.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nUser-Agent: {agent}\r\n\r\n"));
        }
    }
    let chrome = both.send("GET /nothing HTTP/1.0\r\nHost: a\r\nUser-Agent: Chrome/1\r\n\r\n");
    assert_eq!(chrome.text().matches("a padding to disable").count(), 6);
}

#[test]
fn status_without_a_page_has_no_body() {
    for status in [200, 204, 304, 418, 599] {
        let page = pages::built_in(status, ServerTokens::On);
        assert_eq!((page.status.as_u16(), page.body.len(), page.content_type), (status, 0, None));
    }
    assert_eq!(pages::built_in(494, ServerTokens::On).status, 400);
    assert_eq!(pages::built_in(0, ServerTokens::On).status, 500);
}

fn reply(request: &Request, status: u16, body: ReturnBody) -> Replied {
    pages::reply(&Return { status, body }, &request.exchange(None), &mut Vec::new())
}

fn value(text: &str) -> Value {
    Value::parse(text, &Names::default()).unwrap()
}

#[test]
fn return_answers_a_text_of_the_default_type() {
    let request = Request::get("/a");
    let Replied::Page(page) = reply(&request, 200, ReturnBody::Text(value("at $uri"))) else {
        panic!("no page")
    };
    assert_eq!((page.status.as_u16(), &*page.body), (200, &b"at /a"[..]));
    assert_eq!(page.content_type.unwrap(), "text/plain");
    assert_eq!(reply(&request, 404, ReturnBody::Page), Replied::Status(404));
    assert_eq!(reply(&request, 444, ReturnBody::Page), Replied::Close);
    assert_eq!(reply(&request, 444, ReturnBody::Text(value(""))), Replied::Close);
    let text = reply(&request, 444, ReturnBody::Text(value("x")));
    assert!(matches!(text, Replied::Page(page) if page.status == 444));
}

#[test]
fn redirect_to_a_path_names_the_host_that_was_asked() {
    let location = |request: &Request, text: &str| {
        let Replied::Page(page) = reply(request, 301, ReturnBody::Location(value(text))) else {
            return "none".to_owned();
        };
        assert_eq!(page.status, 301);
        page.location.unwrap().to_str().unwrap().to_owned()
    };
    let mut request = Request::get("/a%0d%0aSet-Cookie:x?b");
    assert_eq!(location(&request, "/x"), "http://example.org:8080/x");
    assert_eq!(location(&request, "https://$host$request_uri"), "https://example.org/a%0d%0aSet-Cookie:x?b");
    assert_eq!(location(&request, "x"), "x");
    assert_eq!(location(&request, "$uri"), "none", "a line break would start another field");
    request.settings.redirects.server_name = true;
    request.connection.local.set_port(80);
    assert_eq!(location(&request, "/x"), "http://www.example.org/x");
    request.connection.scheme = Scheme::Https;
    assert_eq!(location(&request, "/x"), "https://www.example.org:80/x");
    request.settings.redirects.port = false;
    assert_eq!(location(&request, "/x"), "https://www.example.org/x");
    request.settings.redirects.absolute = false;
    assert_eq!(location(&request, "/x"), "/x");
    request.settings.redirects = Default::default();
    request.host = String::new();
    request.connection.local.set_port(443);
    assert_eq!(location(&request, "/x"), "https://192.0.2.1/x");
}

#[test]
fn slash_is_added_to_the_path_and_the_query_stays() {
    let location = |request_uri: &str| {
        let page = pages::add_slash(&Request::get(request_uri).exchange(None)).unwrap();
        page.location.unwrap().to_str().unwrap().strip_prefix("http://example.org:8080").unwrap().to_owned()
    };
    assert_eq!(location("/a%20b?x=1"), "/a%20b/?x=1");
    assert_eq!(location("/a;p"), "/a/");
    assert_eq!(location("//evil.example"), "/evil.example/");
}
