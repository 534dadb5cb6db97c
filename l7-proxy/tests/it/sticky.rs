//! Clients that stay on their server: by a cookie of ours, by the server's route, by its sessions.

use crate::peer::{Client, Origin, Proxy, Response, http};

fn site(servers: &str, sticky: &str) -> Proxy {
    Proxy::start(&http(&format!(
        "upstream app {{ {servers} {sticky} }}
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://app; }} }}"
    )))
}

/// Two servers, each written into the block with what is said of it.
fn pair(words: [&str; 2]) -> ([Origin; 2], String) {
    let origins = ["a", "b"].map(Origin::named);
    let servers = origins.iter().zip(words).map(|(origin, words)| format!("server {} {words};", origin.addr));
    let servers = servers.collect();
    (origins, servers)
}

fn get(client: &mut Client, path: &str, cookie: &str) -> Response {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"));
    client.response()
}

/// The `name=value` that an answer sets.
fn cookie(response: &Response) -> String {
    let value = response.header("Set-Cookie").expect("a cookie");
    value.split(';').next().unwrap().to_owned()
}

#[test]
fn cookie_keeps_a_client_on_its_server() {
    let (_origins, servers) = pair(["", ""]);
    let proxy = site(&servers, "sticky cookie srv path=/ httponly;");
    let mut client = proxy.client();
    for _ in 0..2 {
        let first = client.get("/");
        let cookie = cookie(&first);
        assert!(first.header("Set-Cookie").unwrap().ends_with("; path=/; httponly"));
        for _ in 0..4 {
            let next = get(&mut client, "/", &format!("x=1; {cookie}"));
            assert_eq!(next.text(), first.text());
            assert_eq!(next.header("Set-Cookie"), None);
        }
    }
    // What names no server binds to none, and is replaced.
    assert!(get(&mut client, "/", "srv=nobody").header("Set-Cookie").is_some());
}

#[test]
fn cookie_is_the_md5_of_the_servers_address_as_nginxs() {
    let origin = Origin::named("a");
    let proxy = site(&format!("server {};", origin.addr), "sticky cookie srv expires=1h domain=.a.example;");
    let response = proxy.get("/");
    let set = response.header("Set-Cookie").unwrap();
    let value = set.strip_prefix("srv=").unwrap().split(';').next().unwrap();
    assert!(value.len() == 32 && value.bytes().all(|byte| byte.is_ascii_hexdigit()), "{set}");
    assert!(set.contains("; expires=") && set.ends_with("; max-age=3600; domain=.a.example"), "{set}");
    // It is said anew each time, so that it is kept longer.
    assert!(get(&mut proxy.client(), "/", &format!("srv={value}")).header("Set-Cookie").is_some());
}

#[test]
fn draining_server_keeps_its_clients_and_gets_no_others() {
    let (_origins, servers) = pair(["route=one drain", "route=two"]);
    let proxy = site(&servers, "sticky cookie srv;");
    let mut client = proxy.client();
    (0..4).for_each(|_| assert_eq!(client.get("/").text(), "b /"));
    assert_eq!(get(&mut client, "/", "srv=one").text(), "a /");
}

#[test]
fn server_that_is_down_keeps_nobody() {
    let (_origins, servers) = pair(["route=one down", "route=two"]);
    let proxy = site(&servers, "sticky cookie srv;");
    let response = get(&mut proxy.client(), "/", "srv=one");
    assert_eq!((response.text(), &*cookie(&response)), ("b /", "srv=two"));
    // Nor one that does not answer.
    let (dead, alive) = (Origin::nobody(), Origin::named("b"));
    let proxy = site(
        &format!("server {} route=one; server {} route=two;", dead.addr, alive.addr),
        "sticky cookie srv;",
    );
    let response = get(&mut proxy.client(), "/", "srv=one");
    assert_eq!((response.text(), &*cookie(&response)), ("b /", "srv=two"));
}

#[test]
fn route_behind_a_session_id_leads_to_its_server() {
    let (_origins, servers) = pair(["route=a", "route=b"]);
    let proxy = site(&servers, "sticky route $cookie_jsessionid $arg_route;");
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(get(&mut client, "/", "jsessionid=123.b").text(), "b /");
        assert_eq!(get(&mut client, "/", "jsessionid=456.a").text(), "a /");
        assert_eq!(client.get("/?route=b").text(), "b /?route=b");
    }
}

#[test]
fn session_that_a_server_has_begun_is_learned() {
    let origins = ["a", "b"].map(|name| {
        Origin::start(move |visit| {
            loop {
                let head = visit.request()?;
                let begins = head.starts_with("GET /login ");
                let fields =
                    if begins { format!("Set-Cookie: SID={name}1; path=/\r\n") } else { String::new() };
                visit.reply(&fields, name)?;
            }
        })
    });
    let servers: String = origins.iter().map(|origin| format!("server {};", origin.addr)).collect();
    let learn = "sticky learn create=$upstream_cookie_sid lookup=$cookie_sid zone=sessions:64k timeout=1m;";
    let proxy = site(&servers, learn);
    let mut client = proxy.client();
    for _ in 0..2 {
        let first = client.get("/login");
        let cookie = cookie(&first);
        for _ in 0..3 {
            assert_eq!(get(&mut client, "/", &cookie.replace("SID", "sid")).text(), first.text());
        }
    }
}
