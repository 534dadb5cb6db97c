//! Active checks of `stream {}`: which servers get connections, by what they say when they are asked.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::peer::{Client, Origin, PATIENCE, Proxy, eventually};
use crate::program::Site;
use crate::secure::{certificate, pem};

/// A proxy whose upstream has this server, checked twenty times a second.
fn checked(server: &str, blocks: &str, check: &str) -> Proxy {
    Proxy::start(&format!(
        "events {{}} stream {{ {blocks} upstream app {{ server {server}; }}
         server {{ listen 127.0.0.1:1; proxy_pass app; health_check interval=50ms {check}; }} }}"
    ))
}

fn condition(proxy: &Proxy) -> String {
    proxy.daemon.director().stats()[0].servers[0].condition.to_string()
}

fn becomes(proxy: &Proxy, wanted: &str) {
    eventually(wanted, || condition(proxy).contains(wanted));
}

/// Says `220 ready` while it is well, else `421 no`; who says `NOOP` is told `250 ok`.
fn mail(well: &Arc<AtomicBool>) -> Origin {
    let well = Arc::clone(well);
    Origin::start(move |visit| {
        visit.write(if well.load(Ordering::SeqCst) { "220 ready\r\n" } else { "421 no\r\n" })?;
        if visit.peer.exactly(6)? == b"NOOP\r\n" {
            visit.write("250 ok\r\n")?;
        }
        Ok(())
    })
}

#[test]
fn server_that_is_not_what_is_expected_gets_no_connection_until_it_is() {
    let well = Arc::new(AtomicBool::new(true));
    let origin = mail(&well);
    let proxy = checked(
        &origin.addr.to_string(),
        "match mail { send \"NOOP\\r\\n\"; expect ~ \"^220 .*\\n250 \"; }",
        "fails=2 passes=2 match=mail; health_check_timeout 1s",
    );
    becomes(&proxy, "up");
    well.store(false, Ordering::SeqCst);
    becomes(&proxy, "2 × the answer does not match");
    assert!(Client::connect(proxy.addr()).is_closed());
    well.store(true, Ordering::SeqCst);
    becomes(&proxy, "up");
    assert_eq!(Client::connect(proxy.addr()).exactly(3).unwrap(), b"220");
}

#[test]
fn beginning_of_an_answer_is_enough_and_another_one_is_none() {
    let well = Arc::new(AtomicBool::new(true));
    let origin = mail(&well);
    let proxy = checked(
        &origin.addr.to_string(),
        "match mail { expect \"\\x32\\x320 re\"; }",
        "mandatory match=mail",
    );
    becomes(&proxy, "up");
    well.store(false, Ordering::SeqCst);
    becomes(&proxy, "the answer does not match");
}

#[test]
fn server_that_does_not_listen_is_found_and_one_that_was_not_checked_gets_nothing() {
    let origin = Origin::nobody();
    let proxy = checked(&origin.addr.to_string(), "", "mandatory");
    assert!(condition(&proxy).starts_with("down"), "{}", condition(&proxy));
    becomes(&proxy, "connect refused");
}

#[test]
fn port_and_tls_are_those_of_the_check() {
    let proxy_to = |ssl: &str, port: u16| {
        checked(&Origin::nobody().addr.to_string(), "", &format!("mandatory port={port}; {ssl}"))
    };
    let secure = Proxy::start(&format!(
        "events {{}} stream {{ server {{ listen 127.0.0.1:1 ssl; {} return hello; }} }}",
        certificate("server")
    ));
    let verified = |name: &str| {
        format!(
            "proxy_ssl on; proxy_ssl_verify on; proxy_ssl_trusted_certificate {}; proxy_ssl_name {name}",
            pem("ca.pem").display()
        )
    };
    becomes(&proxy_to(&verified("localhost"), secure.addr().port()), "up");
    becomes(&proxy_to(&verified("other"), secure.addr().port()), "certificate");
}

#[test]
fn server_of_datagrams_is_asked_by_them() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let addr = server.local_addr().unwrap();
    let silent = checked(&addr.to_string(), "", "mandatory udp");
    let mut heard = [0; 64];
    let (count, _) = server.recv_from(&mut heard).unwrap();
    assert_eq!(&heard[..count], b"nginx health check");
    becomes(&silent, "up");
    drop(silent);
    let asked = checked(
        &addr.to_string(),
        "match dns { send \\x00\\x01; expect ~* PONG; }",
        "mandatory udp match=dns; health_check_timeout 300ms",
    );
    becomes(&asked, "the answer timed out");
    let ended = Arc::new(AtomicBool::new(false));
    let answering = std::thread::spawn({
        let ended = Arc::clone(&ended);
        move || {
            server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            while !ended.load(Ordering::SeqCst) {
                let mut heard = [0; 64];
                if let Ok((2, client)) = server.recv_from(&mut heard) {
                    assert_eq!(heard[..2], [0, 1]);
                    server.send_to(b"ping and pong", client).unwrap();
                }
            }
        }
    });
    becomes(&asked, "up");
    ended.store(true, Ordering::SeqCst);
    // Its socket is closed with it.
    answering.join().unwrap();
    becomes(&asked, "connect refused");
}

#[test]
fn check_that_means_nothing_is_told() {
    let site = Site::new("");
    let addr = site.addr;
    for (content, message) in [
        ("server { listen @; return x; health_check; }", "\"health_check\" needs a \"proxy_pass\""),
        ("server { listen @; proxy_pass 127.0.0.1:1; health_check match=none; }", "match \"none\" not found"),
        ("server { listen @; proxy_pass 127.0.0.1:1; health_check uri=/; }", "invalid parameter \"uri=/\""),
        (
            "server { listen @; proxy_pass 127.0.0.1:1; health_check fails=0; }",
            "invalid parameter \"fails=0\"",
        ),
        ("match a { status 200; }", "unknown directive \"status\""),
        ("match a { expect x; expect y; }", "\"expect\" directive is duplicate"),
        ("match a { } match a { }", "duplicate match \"a\""),
        (
            "upstream u { server 127.0.0.1:1; } server { listen @; proxy_pass u; health_check; }
             server { listen unix:s; proxy_pass u; health_check; }",
            "the servers of this upstream are checked by another \"health_check\"",
        ),
        (
            "server { listen @; proxy_pass unix:/run/a; health_check udp; }",
            "\"health_check udp\" cannot ask \"unix:/run/a\"",
        ),
    ] {
        let content = content.replace('@', &addr.to_string());
        site.write_whole(&format!("events {{}} stream {{ {content} }}"));
        let (code, said) = site.say(&["-t"]);
        assert!(code == 1 && said.contains(message), "{said}");
    }
}
