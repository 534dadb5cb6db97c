//! Connections that change to another protocol.

use std::time::Duration;

use crate::peer::{Origin, Proxy, eventually, field, forwarding};

const UPGRADE: &str = "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;";

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

/// Agrees to the upgrade, says hello, and sends back what it gets until the other side ends.
fn echo() -> Origin {
    Origin::start(|visit| {
        visit.request()?;
        visit.write(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello ",
        )?;
        loop {
            let byte = visit.peer.exactly(1)?;
            visit.write(byte)?;
        }
    })
}

#[test]
fn bytes_pass_once_the_server_has_agreed() {
    let origin = echo();
    let proxy = Proxy::start(&forwarding(&[&origin], UPGRADE));
    let mut client = proxy.client();
    // The first bytes of the new protocol come along with the head.
    client.send(format!("{ASK}early "));
    let head = client.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(field(&head, "Upgrade"), Some("echo"));
    assert!(field(&head, "Connection").unwrap().eq_ignore_ascii_case("upgrade"));
    assert_eq!(client.exactly(12).unwrap(), b"hello early ");
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.exactly(18).unwrap(), b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(field(&origin.last_request(), "Upgrade"), Some("echo"));
    assert_eq!(proxy.active(), 1, "a tunnel is load to its end");
    client.finish();
    assert_eq!(client.rest().unwrap(), b"");
    eventually("the tunnel has ended", || proxy.active() == 0);
}

#[test]
fn upgrade_is_not_asked_for_unless_configured() {
    let origin = Origin::named("a");
    let proxy = Proxy::start(&forwarding(&[&origin], ""));
    let mut client = proxy.client();
    client.send(ASK);
    assert_eq!(client.response().text(), "a /chat");
    assert_eq!(field(&origin.last_request(), "Upgrade"), None);
}

#[test]
fn server_that_declines_an_upgrade_answers_as_ever() {
    let origin = Origin::named("a");
    let proxy = Proxy::start(&forwarding(&[&origin], UPGRADE));
    let mut client = proxy.client();
    client.send(ASK);
    let response = client.response();
    assert_eq!((response.status, response.text()), (200, "a /chat"));
    // What follows is a request and not the other protocol's.
    assert_eq!(client.get("/next").text(), "a /next");
}

#[test]
fn tunnel_that_is_silent_for_too_long_is_closed() {
    let origin = echo();
    let location = format!("{UPGRADE} proxy_read_timeout 500ms;");
    let proxy = Proxy::start(&forwarding(&[&origin], &location));
    let mut client = proxy.client();
    client.send(ASK);
    client.head().unwrap();
    assert_eq!(client.exactly(6).unwrap(), b"hello ");
    assert!(client.is_closed());
    eventually("the tunnel has ended", || proxy.active() == 0);
}

#[test]
fn tunnel_may_go_on_until_the_deadline_of_a_shutdown() {
    let origin = echo();
    let proxy = Proxy::start(&forwarding(&[&origin], UPGRADE));
    let mut client = proxy.client();
    client.send(ASK);
    client.head().unwrap();
    assert!(!proxy.shut_down(Duration::from_millis(100)), "the tunnel is open");
    client.send("still");
    assert_eq!(client.exactly(11).unwrap(), b"hello still");
    drop(proxy);
    assert!(client.is_closed());
}
