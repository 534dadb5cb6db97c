//! Configurations that a program has made itself, without a file: they serve as those of a file do.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use l7_proxy::Proxy;
use l7_proxy::daemon::{Daemon, Entry, Options};
use l7_proxy::model::{
    AddHeader, Config, FieldError, Handler, Http, Keepalive, Listen, Location, Matcher, ProxySettings,
    Return, ReturnBody, Server, ServerName, SetHeader, Settings, Upstream, VirtualServer, When,
};

use crate::http2_peer::run;
use crate::peer::{Client, Origin, PATIENCE, field};

/// Forwards to these servers, but for one page.
fn site(origins: &[&Origin], listen: Vec<Listen>) -> Http {
    let mut http = Http::default();
    let servers = origins.iter().map(|origin| Server::new(origin.addr)).collect();
    let mut upstream = Upstream::new("app", servers);
    upstream.keepalive = Some(Keepalive::new(4));
    let pass = http.add_upstream(upstream);

    let mut proxy = ProxySettings::default();
    proxy.set_headers.push(SetHeader::new("X-Real-IP", "$remote_addr").unwrap());
    let added = vec![AddHeader::new("X-Served-By", "$upstream_addr", When::Good).unwrap()];
    let settings = Settings { proxy: proxy.into(), add_headers: added, ..Settings::default() };
    let mut all = Location::new(Matcher::Prefix(b"/".into()), settings);
    all.handler = Handler::Proxy(pass);
    let mut closed = Location::new(Matcher::Exact(b"/closed".into()), Settings::default());
    closed.reply = Some(Return { status: 403, body: ReturnBody::Text("go away".into()) });
    http.servers.push(VirtualServer { listen, locations: vec![all, closed], ..VirtualServer::default() });
    http
}

#[test]
fn configuration_made_in_rust_answers_connections() {
    let (one, two) = (Origin::named("one"), Origin::named("two"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let addr = listener.local_addr().unwrap();
    let http = site(&[&one, &two], vec![Listen::new(addr)]);
    let client = std::thread::spawn(move || {
        let mut client = Client::connect(addr);
        let mut answers: Vec<_> = ["/a", "/b"].map(|path| client.get(path)).into();
        answers.push(client.get("/closed"));
        answers
    });
    run(async {
        let proxy = Proxy::new(http).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        tokio::time::timeout(PATIENCE, proxy.handle(stream, peer)).await.expect("the client has gone");
    });
    let [a, b, closed] = client.join().unwrap().try_into().unwrap();
    let mut said = [a.text(), b.text()];
    said.sort();
    assert_eq!(said, ["one /a", "two /b"]);
    let served = a.header("X-Served-By").map(str::to_owned);
    assert!([one.addr, two.addr].iter().any(|addr| served == Some(addr.to_string())), "{served:?}");
    assert!(a.head.contains("\r\nX-Served-By: "), "{}", a.head);
    assert_eq!((closed.status, closed.text()), (403, "go away"));
    assert_eq!(field(&one.last_request(), "X-Real-IP"), Some("127.0.0.1"));
}

#[test]
fn configuration_made_in_rust_is_served_by_a_daemon_and_replaced() {
    let (one, two) = (Origin::named("one"), Origin::named("two"));
    let listen = || vec![Listen::new("127.0.0.1:0".parse().unwrap())];
    let config = |origin| Config { http: Some(site(&[origin], listen())), ..Config::default() };
    let daemon = Daemon::start(config(&one), Options::default()).unwrap();
    let mut client = Client::connect(daemon.addresses()[0]);
    assert_eq!(client.get("/").text(), "one /");
    daemon.reload(config(&two)).unwrap();
    assert_eq!(client.get("/").text(), "two /");
}

#[test]
fn servers_without_an_address_are_the_programs() {
    let origin = Origin::named("one");
    let mut http = site(&[&origin], Vec::new());
    let mut named =
        VirtualServer { names: vec![ServerName::Exact("other".to_owned())], ..Default::default() };
    named.reply = Some(Return { status: 200, body: ReturnBody::Text("the other".into()) });
    http.servers.push(named);
    let config = Config { http: Some(http), ..Config::default() };
    for entry in [Entry::Program, Entry::Sockets] {
        let daemon = Daemon::start(config.clone(), Options { entry, ..Options::default() }).unwrap();
        assert_eq!(daemon.addresses(), []);
        let ask = |url: &str| {
            let request = Request::get(url).body(Empty::<Bytes>::new()).unwrap();
            run(async {
                let response = daemon.service().answer(request).await;
                let status = response.status();
                let body = response.into_body().collect().await.unwrap().to_bytes();
                (status, String::from_utf8(body.to_vec()).unwrap())
            })
        };
        assert_eq!(ask("http://shop/x"), (StatusCode::OK, "one /x".to_owned()));
        assert_eq!(ask("http://other/x"), (StatusCode::OK, "the other".to_owned()));
        assert_eq!(ask("http://shop/closed").0, StatusCode::FORBIDDEN);
        assert!(run(daemon.shutdown(Duration::from_secs(10))));
    }
}

#[test]
fn what_cannot_be_a_field_is_refused() {
    assert!(matches!(SetHeader::new("X Y", "1"), Err(FieldError::Name(_))));
    assert!(matches!(AddHeader::new("X-Y", "$no_such", When::Always), Err(FieldError::Value(_))));
}
