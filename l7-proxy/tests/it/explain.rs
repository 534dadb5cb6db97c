//! Why a request is answered as it is, asked of a running proxy and of the file alone.

use http::{Method, Uri};
use l7_proxy::explain::{Question, explain};

use crate::peer::{Client, Origin, Proxy, configuration};

const SHOP: &str = "
    lvs_explain_from 127.0.0.0/8;
    upstream app { server 192.0.2.1:80; server 192.0.2.2:80 down; }
    server { listen 127.0.0.1:1; return 404; }
    server {
        listen 127.0.0.1:1;
        server_name shop.example *.shop.example;
        location / { root html; }
        location ^~ /old/ { rewrite ^/old/(.*)$ /new/$1 last; }
        location ~ \\.jsp$ { proxy_pass http://app; proxy_set_header X-Real-IP $remote_addr; }
        location = /moved { return 301 http://other.example/; }
        location /private/ { deny all; }
        location /tried { try_files $uri /x.jsp; }
    }";

fn shop() -> String {
    format!("events {{}} http {{ access_log off; {SHOP} }}")
}

/// What a running proxy explains of a request for a path.
fn ask(client: &mut Client, path: &str) -> String {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\nX-Lvs-Explain: 1\r\n\r\n"));
    let response = client.response();
    assert_eq!(response.status, 200, "{}", response.text());
    response.text().to_owned()
}

#[test]
fn explanation_names_server_location_upstream_and_what_would_be_sent() {
    let proxy = Proxy::start(&shop());
    let text = ask(&mut proxy.client(), "/cart.jsp;jsessionid=1?a=b");
    for part in [
        "GET /cart.jsp;jsessionid=1?a=b for \"shop.example\", from 127.0.0.1",
        "server \"shop.example\" in ",
        "nginx.conf:5: has the name \"shop.example\" (shop.example)",
        "location ~ \\.jsp$ in ",
        "is the first regular expression that matches (path /cart.jsp)",
        "proxy_pass http://app: upstream app from 127.0.0.1:",
        "192.0.2.1:80 weight 1 active 0 inactive 0: chosen",
        "192.0.2.2:80 weight 0 active 0 inactive 0: quiesced: weight 0",
        "GET /cart.jsp;jsessionid=1?a=b HTTP/1.1\n",
        "X-Real-IP: 127.0.0.1",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn every_step_of_the_way_is_told() {
    let proxy = Proxy::start(&shop());
    proxy.file("html/a.txt", "text");
    let mut client = proxy.client();
    for (path, parts) in [
        ("/a.txt", &["location / in", "answer: 200 with 4 bytes of the file"][..]),
        ("/none", &["answer: 404"]),
        (
            "/old/b.jsp",
            &["location ^~ /old/", "rewrite ^/old/(.*)$ matches", "path is now /new/b.jsp", "app"],
        ),
        ("/moved", &["location = /moved", "is the path", "return 301 to another place", "answer: 301"]),
        ("/private/x", &["access forbidden by rule", "answer: 403"]),
        ("/tried/y", &["location /tried", "goes on as /x.jsp", "proxy_pass"]),
    ] {
        let text = ask(&mut client, path);
        parts.iter().for_each(|part| assert!(text.contains(part), "{path} {part}\n{text}"));
    }
}

#[test]
fn nobody_else_is_told_and_their_requests_are_answered() {
    let origin = Origin::named("a");
    let config = shop().replace("lvs_explain_from 127.0.0.0/8", "lvs_explain_from 192.0.2.0/24");
    let config = config.replace("192.0.2.1:80", &origin.addr.to_string());
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    client.send("GET /a.jsp HTTP/1.1\r\nHost: shop.example\r\nX-Lvs-Explain: 1\r\n\r\n");
    assert_eq!(client.response().text(), "a /a.jsp");
}

#[test]
fn explained_request_reaches_no_server_and_counts_for_none() {
    let origin = Origin::named("a");
    let proxy = Proxy::start(&shop().replace("192.0.2.1:80", &origin.addr.to_string()));
    let mut client = proxy.client();
    (0..3).for_each(|_| drop(ask(&mut client, "/a.jsp")));
    assert_eq!(origin.requests().len(), 0);
    assert_eq!(proxy.daemon.director().stats()[0].servers[0].connections, 0);
}

/// What the file alone explains of a URL.
fn by_file(url: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(folder.path(), &shop().replace("127.0.0.1:1;", "127.0.0.1:8080;"));
    let question = Question {
        method: Method::GET,
        url: url.parse::<Uri>().unwrap(),
        fields: vec![("x-a".parse().unwrap(), "b".parse().unwrap())],
        from: "198.51.100.7".parse().unwrap(),
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build_local(Default::default()).unwrap();
    runtime.block_on(explain(config.http.unwrap(), &question)).map_err(|error| error.to_string())
}

#[test]
fn file_alone_explains_a_url() {
    let text = by_file("http://www.shop.example:8080/a.jsp").unwrap();
    for part in ["from 198.51.100.7", "(*.shop.example)", "chosen", "X-A: b", "Host: app"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let text = by_file("http://nobody.example:8080/").unwrap();
    assert!(text.contains("is the default here") && text.contains("return 404"), "{text}");
}

#[test]
fn url_that_leads_nowhere_is_an_error() {
    assert_eq!(
        by_file("http://shop.example/").unwrap_err(),
        "nothing listens for http at port 80, only at 8080"
    );
    assert_eq!(
        by_file("https://shop.example:8080/").unwrap_err(),
        "nothing listens for https at port 8080, nor at any other"
    );
    assert!(by_file("/a").unwrap_err().contains("a whole URL is wanted"));
}
