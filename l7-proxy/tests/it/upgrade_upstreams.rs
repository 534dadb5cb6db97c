//! A new binary knows of upstreams what the old one knew: what `lvsadm` has done, health, sessions.

use std::fs;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;

use crate::name_server::{NameServer, Says, local};
use crate::peer::{Origin, eventually};
use crate::program::{Running, Site};
use crate::upgrade::{Heir, list};

/// Lets the binary be changed; returns the new process when the old one has ended.
fn change(site: &Site, running: &mut Running) -> Heir {
    running.signal(Signal::USR2);
    let heir = Heir::of(site, running.child.id());
    running.signal(Signal::QUIT);
    assert_eq!(running.end(), 0);
    heir
}

/// A site with a control socket and this content of `http {}`.
fn controlled(content: &str) -> Site {
    let site = Site::new("");
    site.write_whole(&format!(
        "pid l7.pid; error_log error.log notice; lvs_control unix:control; events {{}}
         http {{ access_log off; {} }}",
        content.replace("LISTEN", &site.addr.to_string())
    ));
    site
}

fn lvsadm(site: &Site, line: &str) {
    let socket = site.path("control").display().to_string();
    let args = line.split_whitespace().map(str::to_owned).collect();
    let output = lvsadm::client::run("lvsadm", args, Some(socket), std::io::empty());
    assert_eq!(output.code, 0, "{line}: {}", output.stderr);
}

#[test]
fn what_lvsadm_has_changed_holds_in_the_new_binary() {
    let (drained, weighed, plain) =
        (Origin::named("drained"), Origin::named("weighed"), Origin::named("plain"));
    let site = controlled(&format!(
        "upstream app {{ server {}; server {}; server {}; }}
         server {{ listen LISTEN; location / {{ proxy_pass http://app; }} }}",
        drained.addr, weighed.addr, plain.addr
    ));
    let mut running = site.start();
    lvsadm(&site, &format!("--drain {} --pool app", drained.addr));
    lvsadm(&site, &format!("-e --pool app -r {} -w 3", weighed.addr));
    let _heir = change(&site, &mut running);
    (0..8).for_each(|_| drop(site.get()));
    let asked = [&drained, &weighed, &plain].map(|origin| origin.requests().len());
    assert_eq!(asked, [0, 6, 2], "{}", list(&site));
    // What the file says anew is meant, also by the new binary.
    let text = fs::read_to_string(site.path("nginx.conf")).unwrap();
    site.write_whole(
        &text.replace(&format!("server {};", drained.addr), &format!("server {} weight=2;", drained.addr)),
    );
    assert_eq!(site.say(&["-s", "reload"]).0, 0);
    eventually("the file is taken", || site.read("error.log").contains("reconfigured"));
    (0..6).for_each(|_| drop(site.get()));
    assert_eq!(drained.requests().len(), 2, "{}", list(&site));
}

#[test]
fn server_that_is_ejected_gets_nothing_from_the_new_binary() {
    let (dead, alive) = (Origin::start(|visit| visit.request().map(drop)), Origin::named("alive"));
    let site = controlled(&format!(
        "upstream app {{ server {} fail_timeout=1h; server {}; }}
         server {{ listen LISTEN; location / {{ proxy_pass http://app; }} }}",
        dead.addr, alive.addr
    ));
    let mut running = site.start();
    (0..4).for_each(|_| assert_eq!(site.get(), "alive /"));
    assert_eq!(dead.requests().len(), 1);
    let _heir = change(&site, &mut running);
    (0..4).for_each(|_| assert_eq!(site.get(), "alive /"));
    assert_eq!(dead.requests().len(), 1, "{}", list(&site));
}

#[test]
fn server_of_a_unix_socket_is_the_same_in_the_new_binary() {
    let alive = Origin::named("alive");
    let content = |first: &str| {
        format!(
            "upstream app {{ server unix:{first}; server {}; }}
             server {{ listen LISTEN; location / {{ proxy_pass http://app; }} }}",
            alive.addr
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let site = controlled(&content(&path("first")));
    let _listens = UnixListener::bind(path("first")).unwrap();
    let mut running = site.start();
    let unix = list(&site).split_whitespace().find(|word| word.starts_with("[100::")).unwrap().to_owned();
    lvsadm(&site, &format!("-e --pool app -r {unix} -w 5"));
    // Another path comes first in the new file, so that by itself it would get the first one's address.
    let text = fs::read_to_string(site.path("nginx.conf")).unwrap();
    let other = format!("upstream other {{ server unix:{}; }} upstream app", path("other"));
    site.write_whole(&text.replace("upstream app", &other));
    let _heir = change(&site, &mut running);
    let listing = list(&site);
    let row = listing.lines().find(|line| line.contains(&unix)).unwrap_or_else(|| panic!("{listing}"));
    assert_eq!(row.split_whitespace().nth(3), Some("5"), "{listing}");
}

#[test]
fn session_that_was_learnt_leads_to_its_server_in_the_new_binary() {
    let begins = |name: &'static str| {
        Origin::start(move |visit| {
            loop {
                let head = visit.request()?;
                let begun =
                    if head.contains("/begin") { format!("Set-Cookie: s={name}\r\n") } else { String::new() };
                visit.reply(&begun, name)?;
            }
        })
    };
    let (one, two) = (begins("one"), begins("two"));
    let site = controlled(&format!(
        "upstream app {{ server {}; server {};
             sticky learn create=$upstream_cookie_s lookup=$cookie_s zone=sessions:1m; }}
         server {{ listen LISTEN; location / {{ proxy_pass http://app; }} }}",
        one.addr, two.addr
    ));
    let mut running = site.start();
    let begun: Vec<String> = (0..2).map(|_| site.client().get("/begin").text().to_owned()).collect();
    assert_eq!(begun, ["one", "two"]);
    let _heir = change(&site, &mut running);
    for name in ["two", "two", "one", "two", "one", "one"] {
        let mut client = site.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: s={name}\r\n\r\n"));
        assert_eq!(client.response().text(), name);
    }
}

#[test]
fn server_that_comes_back_gets_no_more_from_the_new_binary() {
    let is_well = Arc::new(AtomicBool::new(false));
    let shared = Arc::clone(&is_well);
    let back = Origin::start(move |visit| {
        loop {
            visit.request()?;
            if !shared.load(Ordering::SeqCst) {
                return Ok(());
            }
            visit.reply("", "back")?;
        }
    });
    let well = Origin::named("well");
    let site = controlled(&format!(
        "upstream app {{ server {} fail_timeout=1s slow_start=1h; server {}; }}
         server {{ listen LISTEN; location / {{ proxy_pass http://app; }} }}",
        back.addr, well.addr
    ));
    let mut running = site.start();
    (0..4).for_each(|_| assert_eq!(site.get(), "well /"));
    is_well.store(true, Ordering::SeqCst);
    let before = back.requests().len();
    eventually("it is asked again", || {
        site.get();
        back.requests().len() > before
    });
    let to_it = || (0..40).filter(|_| site.get() == "back").count();
    let before = to_it();
    let _heir = change(&site, &mut running);
    let after = to_it();
    assert!(before <= 8 && after <= 8, "{before} of 40, then {after}");
}

#[test]
fn addresses_of_a_name_hold_in_the_new_binary_although_nobody_can_tell_them() {
    let origin = Origin::named("app");
    let names = NameServer::of("app.test", local([1]));
    let site = controlled(&format!(
        "resolver {} ipv6=off valid=1s; resolver_timeout 10s;
         upstream app {{ zone app 64k; server app.test:{} resolve; }}
         server {{ listen LISTEN; location / {{ proxy_pass http://app; }} }}",
        names.addr,
        origin.addr.port()
    ));
    let mut running = site.start();
    eventually("the name is resolved", || site.get() == "app /");
    names.tell("app.test", Says::Silence);
    let _heir = change(&site, &mut running);
    assert_eq!(site.get(), "app /");
}
