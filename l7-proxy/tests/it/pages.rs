//! Answers that need neither a file nor a server.

use l7_proxy::model::{Return, ReturnBody, ServerTokens};
use l7_proxy::pages::{self, Replied};
use l7_proxy::variable::{Names, Scheme, Value};

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
    assert_eq!(reply(&request, 444, ReturnBody::Text(value("x"))), Replied::Close);
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
