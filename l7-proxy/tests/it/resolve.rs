//! Names that a request brings: asked of `resolver` when they are needed.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use crate::http2_peer::{self, ask, connect, request, run};
use crate::name_server::{A, AAAA, NameServer, Says, local};
use crate::peer::{Origin, Proxy, eventually, http};
use crate::program::Site;
use crate::secure::{certificate, pem};

/// A proxy to the host that a request names in its query, at this port.
fn site(resolver: SocketAddr, port: u16, more: &str) -> String {
    http(&format!(
        "log_format line '$upstream_addr $upstream_status $proxy_host'; access_log line.log line;
         resolver {resolver} ipv6=off;
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://$arg_to:{port}; {more} }} }}"
    ))
}

/// An origin that says this, at every address of this machine.
fn everywhere(name: &'static str) -> Origin {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    Origin::on(listener, move |visit| {
        loop {
            visit.request()?;
            visit.reply("", name)?;
        }
    })
}

#[test]
fn all_addresses_of_a_name_are_tried() {
    let app = Origin::named("app");
    let port = app.addr.port();
    // Nobody listens there but at the last.
    let names = NameServer::of("app.test", local([7, 1, 8]));
    let proxy = Proxy::start(&site(names.addr, port, ""));
    for _ in 0..6 {
        assert!(proxy.get("/x?to=app.test").text().starts_with("app"));
    }
    assert!(app.last_request().contains(&format!("\r\nHost: app.test:{port}\r\n")));
    let lines = proxy.lines("line.log", 6);
    assert!(lines.iter().any(|line| line.contains("502, ")), "{lines:?}");
    for line in &lines {
        assert!(line.ends_with(&format!("200 app.test:{port}")), "{line}");
    }
    // Those that failed are left alone for a while, as those of an upstream are.
    assert_eq!(lines[5], format!("{} 200 app.test:{port}", app.addr));
}

#[test]
fn address_that_is_listed_again_is_tried_again_as_often_as_may_be() {
    let app = Origin::start(|visit| {
        loop {
            visit.request()?;
            visit.write("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
        }
    });
    let port = app.addr.port();
    let names = NameServer::of("app.test", local([1, 1, 1]));
    for (tries, expected) in [("0", "404, 404, 404"), ("2", "404, 404")] {
        let more = format!("proxy_next_upstream http_404; proxy_next_upstream_tries {tries};");
        let proxy = Proxy::start(&site(names.addr, port, &more));
        assert_eq!(proxy.get("/?to=app.test").status, 404);
        let line = &proxy.lines("line.log", 1)[0];
        assert!(line.contains(&format!(" {expected} ")), "{line}");
    }
}

#[test]
fn name_of_an_upstream_is_never_asked_for() {
    let (app, other) = (Origin::named("app"), Origin::named("other"));
    let names = NameServer::of("*", local([1]));
    let proxy = Proxy::start(&http(&format!(
        "resolver {}; upstream app.test {{ server {}; }}
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://$arg_to; }} }}",
        names.addr, app.addr
    )));
    assert_eq!(proxy.get("/?to=App.Test").text(), "app /?to=App.Test");
    // With a port it is a name as any other.
    let to = format!("app.test:{}", other.addr.port());
    assert!(proxy.get(&format!("/?to={to}")).text().starts_with("other"));
    let mut asked = names.asked("app.test");
    asked.sort_unstable();
    assert_eq!(asked, [A, AAAA]);
}

#[test]
fn one_question_serves_all_who_wait_and_whoever_comes_while_its_answer_holds() {
    let app = everywhere("app");
    let names = NameServer::of("app.test", Says::Later(Duration::from_millis(200), local([1]).into()));
    let proxy = Proxy::start(&site(names.addr, app.addr.port(), ""));
    let mut clients: Vec<_> = (0..8).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send("GET /?to=app.test HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    assert!(clients.iter_mut().all(|client| client.response().status == 200));
    assert_eq!(proxy.get("/?to=APP.test").status, 200);
    assert_eq!(names.asked("app.test"), [A]);
}

#[test]
fn answer_is_asked_for_anew_when_its_time_is_over() {
    let (one, two) = (everywhere("one"), everywhere("two"));
    let ports = [one.addr.port(), two.addr.port()];
    let ttl = |last: u8, ttl| Says::Addresses(vec![[127, 0, 0, last].into()], ttl);
    let names = NameServer::of("app.test", ttl(1, 1));
    let to = |port: u16| format!("/?to=app.test:{port}");
    let text = |valid: &str| {
        http(&format!(
            "resolver {} ipv6=off {valid}; add_header X-Server $upstream_addr;
             server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://$arg_to; }} }}",
            names.addr
        ))
    };
    let proxy = Proxy::start(&text(""));
    assert_eq!(proxy.get(&to(ports[0])).text(), "one");
    // One name, whatever its port.
    assert_eq!(proxy.get(&to(ports[1])).text(), "two");
    assert_eq!(names.asked("app.test"), [A]);
    names.tell("app.test", ttl(2, 3600));
    let moved = format!("127.0.0.2:{}", ports[0]);
    eventually("it has moved", || proxy.get(&to(ports[0])).header("X-Server") == Some(&moved));
    assert_eq!(names.asked("app.test"), [A, A]);
    // `valid` goes before what the answer says.
    let brief = Proxy::start(&text("valid=1s"));
    assert_eq!(brief.get(&to(ports[0])).status, 200);
    eventually("it is asked for again", || {
        brief.get(&to(ports[0]));
        names.asked("app.test").len() == 4
    });
}

#[test]
fn only_the_families_that_are_wanted_are_asked_for() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let six = Origin::on(listener, |visit| {
        visit.request()?;
        visit.reply("", "six")
    });
    let names = NameServer::of("app.test", Says::Addresses(vec!["::1".parse().unwrap()], 60));
    let text = site(names.addr, six.addr.port(), "");
    let proxy = Proxy::start(&text.replace("ipv6=off", "ipv4=off"));
    assert_eq!(proxy.get("/?to=app.test").text(), "six");
    assert_eq!(names.asked("app.test"), [AAAA]);
    let proxy = Proxy::start(&text);
    assert_eq!(proxy.get("/?to=app.test").status, 502);
    assert_eq!(names.asked("app.test"), [AAAA, A]);
}

#[test]
fn other_name_without_an_address_is_followed() {
    let app = everywhere("app");
    let names = NameServer::of("app.test", Says::Alias("other.test"));
    names.tell("other.test", local([1]));
    names.tell("round.test", Says::Alias("round.test"));
    let proxy = Proxy::start(&site(names.addr, app.addr.port(), ""));
    assert_eq!(proxy.get("/?to=app.test").text(), "app");
    assert_eq!(proxy.get("/?to=round.test").status, 502);
}

#[test]
fn name_server_that_cannot_tell_is_not_the_last_that_is_asked() {
    let app = everywhere("app");
    let good = NameServer::of("app.test", local([1]));
    let (failing, silent) = (NameServer::of("*", Says::Code(2)), NameServer::of("*", Says::Silence));
    for bad in [failing.addr, silent.addr, Origin::nobody().addr] {
        let text = site(good.addr, app.addr.port(), "");
        let proxy = Proxy::start(&text.replace("resolver ", &format!("resolver {bad} ")));
        assert_eq!(proxy.get("/?to=app.test").text(), "app", "{bad}");
    }
}

#[test]
fn last_answer_holds_while_nobody_can_tell_and_no_longer_when_there_is_no_such_name() {
    let app = everywhere("app");
    let names = NameServer::of("app.test", Says::Addresses(vec![[127, 0, 0, 1].into()], 1));
    let proxy = Proxy::start(&site(names.addr, app.addr.port(), ""));
    assert_eq!(proxy.get("/?to=app.test").text(), "app");
    names.tell("app.test", Says::Silence);
    eventually("its time is over", || {
        assert_eq!(proxy.get("/?to=app.test").text(), "app");
        names.asked("app.test").len() > 1
    });
    names.tell("app.test", Says::Code(3));
    eventually("it is gone", || proxy.get("/?to=app.test").status == 502);
}

#[test]
fn name_servers_are_those_of_the_innermost_block() {
    let app = everywhere("app");
    let [http, server, location] = ["http", "server", "location"].map(|_| NameServer::of("*", local([1])));
    let proxy = Proxy::start(&crate::peer::http(&format!(
        "resolver {} ipv6=off; resolver_timeout 3s;
         server {{ listen 127.0.0.1:1; server_name a; location / {{ proxy_pass http://$arg_to:{port}; }} }}
         server {{ listen 127.0.0.1:1; server_name example.org; resolver {} ipv6=off;
             location / {{ proxy_pass http://$arg_to:{port}; }}
             location /inner {{ resolver {} ipv6=off; proxy_pass http://$arg_to:{port}; }} }}",
        http.addr,
        server.addr,
        location.addr,
        port = app.addr.port()
    )));
    let asked = || [&http, &server, &location].map(|names| names.asked("app.test").len());
    assert_eq!(proxy.get("/?to=app.test").text(), "app");
    assert_eq!(asked(), [0, 1, 0]);
    assert_eq!(proxy.get("/inner?to=app.test").text(), "app");
    assert_eq!(asked(), [0, 1, 1]);
    let mut client = proxy.client();
    client.send("GET /?to=app.test HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "app");
    assert_eq!(asked(), [1, 1, 1]);
}

#[test]
fn names_that_clients_make_up_do_not_use_up_anything() {
    let app = everywhere("app");
    let names = NameServer::of("*", local([1]));
    let proxy = Proxy::start(&site(names.addr, app.addr.port(), ""));
    let mut client = proxy.client();
    for number in 0..1100 {
        if number % 1000 == 999 {
            // As many as a connection may carry.
            client = proxy.client();
        }
        assert_eq!(client.get(&format!("/?to=n{number}.test")).status, 200, "{number}");
    }
    // They are nobody's upstreams.
    assert!(proxy.daemon.director().stats().is_empty());
    // Those that were not used for longest have been forgotten, and are asked for again.
    assert_eq!(client.get("/?to=n1099.test").status, 200);
    assert_eq!(client.get("/?to=n0.test").status, 200);
    assert_eq!([names.asked("n1099.test").len(), names.asked("n0.test").len()], [1, 2]);
}

#[test]
fn log_says_why_a_name_leads_nowhere_and_the_answer_is_that_of_a_bad_gateway() {
    let names = NameServer::of("silent.test", Says::Silence);
    names.tell("failing.test", Says::Code(2));
    names.tell("empty.test", Says::Addresses(Vec::new(), 60));
    let site = Site::new(&format!(
        "location / {{ resolver {} ipv6=off; resolver_timeout 300ms; proxy_pass http://$arg_to; }}
         location /none {{ proxy_pass http://$arg_to; }}",
        names.addr
    ));
    let running = site.start();
    let began = Instant::now();
    for (path, status, why) in [
        ("/none?to=app.test", 502, "no resolver defined to resolve app.test"),
        ("/?to=none.test:81", 502, "none.test could not be resolved (3: Host not found)"),
        ("/?to=empty.test", 502, "empty.test could not be resolved (3: Host not found)"),
        ("/?to=failing.test", 502, "failing.test could not be resolved (2: Server failure)"),
        ("/?to=silent.test", 502, "silent.test could not be resolved (110: Operation timed out)"),
        ("/?to=a..test", 502, "a..test could not be resolved (3: Host not found)"),
        ("/?to=a.test:99999", 500, "invalid port in upstream \"a.test:99999\""),
        ("/?to=", 500, "invalid URL prefix in \"http://\""),
    ] {
        assert_eq!(site.client().get(path).status, status, "{path}");
        let line = format!("{why}, client: ");
        eventually(why, || site.read("error.log").contains(&line));
    }
    assert!(began.elapsed() >= Duration::from_millis(300));
    drop(running);
}

#[test]
fn grpc_goes_where_a_variable_says() {
    let service = || http2_peer::Origin::start(|mut visit| async move { visit.end(&[("grpc-status", "7")]) });
    let (app, direct) = (service(), service());
    let names = NameServer::of("app.test", local([9, 1]));
    let proxy = Proxy::start(&http(&format!(
        "upstream app {{ server {}; }} resolver {} ipv6=off;
         server {{ listen 127.0.0.1:1; http2 on;
             location / {{ grpc_pass $arg_to; }}
             location /scheme {{ grpc_pass grpc://$arg_to; }} }}",
        app.addr, names.addr
    )));
    let named = format!("app.test:{}", direct.addr.port());
    let paths = [
        ("/?to=app".to_owned(), 200),
        ("/scheme?to=app".to_owned(), 200),
        (format!("/?to=grpc://{named}"), 200),
        (format!("/scheme?to={named}"), 200),
        ("/?to=app.test".to_owned(), 500),
        ("/scheme?to=none.test:50051".to_owned(), 502),
        (format!("/?to={}/path", app.addr), 500),
    ];
    run(async {
        let client = connect(proxy.addr()).await;
        for (path, status) in paths {
            let asked = request("POST", &path).header("te", "trailers").body(()).unwrap();
            let answer = ask(&client, asked, b"\0\0\0\0\0").await.unwrap();
            assert_eq!(answer.status, status, "{path}");
            if status == 200 {
                assert_eq!(answer.headers["grpc-status"], "7", "{path}");
            }
        }
    });
}

#[test]
fn path_of_a_unix_socket_may_vary() {
    let folder = tempfile::tempdir().unwrap();
    let shown = folder.path().display();
    let proxy = Proxy::start(&http(&format!(
        "server {{ listen unix:{shown}/app; return 200 \"app $uri\"; }}
         server {{ listen 127.0.0.1:1;
             location / {{ proxy_pass http://unix:{shown}/$arg_to; }}
             location /uri {{ proxy_pass http://unix:{shown}/$arg_to:/x$uri; }} }}"
    )));
    assert_eq!(proxy.get("/a?to=app").text(), "app /a");
    assert_eq!(proxy.get("/uri?to=app").text(), "app /x/uri");
    assert_eq!(proxy.get("/a?to=other").status, 502);
}

#[test]
fn name_is_what_the_certificate_of_its_server_must_have() {
    let inner = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1 ssl; {} return 200 \"$ssl_server_name $http_host\"; }}",
        certificate("server")
    )));
    let names = NameServer::of("localhost", local([1]));
    names.tell("app.test", local([1]));
    let proxy = Proxy::start(&http(&format!(
        "resolver {} ipv6=off; proxy_ssl_server_name on; proxy_ssl_verify on;
         proxy_ssl_trusted_certificate {};
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass https://$arg_to:{port}; }}
             location /any {{ proxy_ssl_verify off; proxy_pass https://$arg_to:{port}; }} }}",
        names.addr,
        pem("ca.pem").display(),
        port = inner.addr().port()
    )));
    let host = |name: &str| format!("{name} {name}:{}", inner.addr().port());
    assert_eq!(proxy.get("/?to=localhost").text(), host("localhost"));
    assert_eq!(proxy.get("/?to=app.test").status, 502);
    assert_eq!(proxy.get("/any?to=app.test").text(), host("app.test"));
}

#[test]
fn explanation_says_what_a_name_has_led_to() {
    let names = NameServer::of("app.test", local([9, 1]));
    let text = site(names.addr, 81, "").replace("resolver", "lvs_explain_from 127.0.0.1; resolver");
    let proxy = Proxy::start(&text);
    let explained = |path: &str| {
        let mut client = proxy.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Lvs-Explain: 1\r\n\r\n"));
        client.response().text().to_owned()
    };
    let found = explained("/?to=app.test");
    for part in
        ["proxy_pass http://app.test:81: upstream app.test:81", "127.0.0.1:81 weight 1", "127.0.0.9:81"]
    {
        assert!(found.contains(part), "{part:?} in {found}");
    }
    let lost = explained("/?to=none.test");
    assert!(lost.contains("none.test could not be resolved (3: Host not found)\nanswer: 502"), "{lost}");
}

#[test]
fn connections_come_from_where_a_variable_says() {
    let http_app = Proxy::start(&http("server { listen 127.0.0.1:1; return 200 $remote_addr; }"));
    let stream_app = Proxy::start("events {} stream { server { listen 127.0.0.1:1; return $remote_addr; } }");
    let site =
        Site::new(&format!("location / {{ proxy_bind $arg_from; proxy_pass http://{}; }}", http_app.addr()));
    let running = site.start();
    let from = |from: &str| site.client().get(&format!("/?from={from}")).text().to_owned();
    assert_eq!([from("127.0.0.9"), from("127.0.0.8:0"), from("")], ["127.0.0.9", "127.0.0.8", "127.0.0.1"]);
    assert_eq!(from("nobody"), "127.0.0.1");
    eventually("it is said", || site.read("error.log").contains("invalid local address \"nobody\""));
    drop(running);
    for (to, expected) in [("127.0.0.9", "127.0.0.9"), ("nobody", "127.0.0.1"), ("''", "127.0.0.1")] {
        let proxy = Proxy::start(&format!(
            "events {{}} stream {{ map $server_port $from {{ default {to}; }}
             server {{ listen 127.0.0.1:1; proxy_bind $from; proxy_pass {}; }} }}",
            stream_app.addr()
        ));
        assert_eq!(proxy.client().rest().unwrap(), expected.as_bytes(), "{to}");
    }
}

#[test]
fn answer_is_not_lost_with_the_client_that_asked_for_it() {
    let app = everywhere("app");
    let names = NameServer::of("app.test", Says::Later(Duration::from_millis(300), local([1]).into()));
    let proxy = Proxy::start(&site(names.addr, app.addr.port(), ""));
    let mut client = proxy.client();
    client.send("GET /?to=app.test HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("it is asked for", || names.asked("app.test") == [A]);
    client.reset_on_drop();
    drop(client);
    assert_eq!(proxy.get("/?to=app.test").text(), "app");
    assert_eq!(names.asked("app.test"), [A]);
}

#[test]
fn only_so_many_names_are_asked_for_at_a_time_and_none_that_is_known_waits() {
    let app = everywhere("app");
    let names = NameServer::of("*", Says::Silence);
    names.tell("app.test", local([1]));
    let proxy = Proxy::start(&site(names.addr, app.addr.port(), ""));
    assert_eq!(proxy.get("/?to=app.test").text(), "app");
    let clients: Vec<_> = (0..300)
        .map(|number| {
            let mut client = proxy.client();
            client.send(format!("GET /?to=n{number}.test HTTP/1.1\r\nHost: a\r\n\r\n"));
            client
        })
        .collect();
    eventually("as many as may be are asked for", || names.names() == 1 + 256);
    assert_eq!(proxy.get("/?to=app.test").text(), "app");
    assert_eq!(names.names(), 1 + 256);
    drop(clients);
}
