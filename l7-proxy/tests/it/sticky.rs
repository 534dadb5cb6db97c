//! Clients that stay on their server: by a cookie of ours, by the server's route, by its sessions.

use lvs_core::{Probe, ServiceKey, Time};

use crate::peer::{Client, Origin, Proxy, Response, http};

fn site(servers: &str, sticky: &str) -> Proxy {
    Proxy::start(&http(&format!(
        "lvs_explain_from 127.0.0.0/8;
         upstream app {{ {servers} {sticky} }}
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

/// What is explained of a request.
fn explained(client: &mut Client, path: &str, cookie: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\nX-Lvs-Explain: 1\r\n\r\n");
    client.send(head);
    client.response().text().to_owned()
}

#[track_caller]
fn check_explained(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "{part}\n{text}"));
}

#[test]
fn explanation_names_the_route_and_the_server_that_it_leads_to() {
    let ([a, b, c], servers) = trio();
    let proxy = site(&servers, "sticky route $cookie_jsessionid $arg_r;");
    let mut client = proxy.client();
    let (a, b, c) = (a.addr, b.addr, c.addr);
    // Whatever the balancer would choose: a client is led to each of them.
    for (name, addr) in [("a", a), ("b", b)] {
        let text = explained(&mut client, &format!("/?r={name}"), "");
        let binding = format!("sticky route \"{name}\": leads to {addr}, chosen");
        check_explained(
            &text,
            &[&binding, &format!("proxy_pass http://app: upstream app: {addr} (sticky)\n")],
        );
        assert_eq!(client.get(&format!("/?r={name}")).text(), format!("{name} /?r={name}"));
    }
    let text = explained(&mut client, "/?r=a", "jsessionid=1.b");
    check_explained(&text, &["sticky route \"1.b\": leads to ", &format!("app: {b} (sticky)")]);
    let free = "; the balancer chooses\nproxy_pass http://app: upstream app from 127.0.0.1:";
    for (path, why) in [
        ("/", "sticky route: the request has none".to_owned()),
        ("/?r=x", "sticky route \"x\": leads to no known server".to_owned()),
        ("/?r=c", format!("sticky route \"c\": leads to {c}, which is marked as down")),
    ] {
        check_explained(&explained(&mut client, path, ""), &[&(why + free)]);
    }
    let text = explained(&mut client, "/?r=x", "jsessionid=y");
    check_explained(&text, &["sticky route \"y\" \"x\": leads to no known server"]);
    let key = ServiceKey::name("app");
    proxy.daemon.director().probe(&key, b, Probe::Failed("no answer".into()), Time::ZERO);
    let text = explained(&mut client, "/?r=b", "");
    check_explained(&text, &[&format!("sticky route \"b\": leads to {b}, but that is down since"), free]);
    assert_eq!(client.get("/?r=b").text(), "a /?r=b");
}

/// Three servers with their names as routes, the last of them down.
fn trio() -> ([Origin; 3], String) {
    let origins = ["a", "b", "c"].map(Origin::named);
    let servers = origins.iter().zip(["route=a", "route=b drain", "route=c down"]);
    let servers = servers.map(|(origin, words)| format!("server {} {words};", origin.addr)).collect();
    (origins, servers)
}

#[test]
fn explanation_names_the_cookie_and_the_server_that_it_leads_to() {
    let (origins, servers) = pair(["route=one drain", "route=two"]);
    let proxy = site(&servers, "sticky cookie srv;");
    let mut client = proxy.client();
    let text = explained(&mut client, "/", "srv=one");
    let one = origins[0].addr;
    check_explained(
        &text,
        &[&format!("sticky cookie srv \"one\": leads to {one}, chosen although quiesced")],
    );
    check_explained(&text, &[&format!("upstream app: {one} (sticky)")]);
    let text = explained(&mut client, "/", "");
    check_explained(&text, &["sticky cookie srv: the request has none; the balancer chooses"]);
}

#[test]
fn explanation_names_the_session_and_the_server_that_it_leads_to() {
    let (origins, servers) = pair(["", ""]);
    // A session is what the first request says.
    let learn = "sticky learn create=$arg_s lookup=$arg_s zone=sessions:64k timeout=1m;";
    let proxy = site(&servers, learn);
    let mut client = proxy.client();
    let text = explained(&mut client, "/?s=1", "");
    check_explained(&text, &["sticky learn \"1\": leads to no known server; the balancer chooses"]);
    let first = client.get("/?s=1");
    let server = origins[usize::from(first.text().starts_with('b'))].addr;
    for _ in 0..2 {
        let text = explained(&mut client, "/?s=1", "");
        check_explained(&text, &[&format!("sticky learn \"1\": leads to {server}, chosen")]);
    }
    let text = explained(&mut client, "/", "");
    check_explained(&text, &["sticky learn: the request has none"]);
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
