//! A director that is run by a `keepalived.conf` leaves its place to another, or tries to.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use l4_proxy::takeover::Predecessor;
use lab::Descendant;

use super::program::{Director, Server, any, ask, server, service};
use crate::binary::upgraded_process;
use crate::support::{eventually, free_port};

/// The process that serves after an upgrade, until this is dropped.
fn upgraded(director: &Director) -> Descendant {
    let answer = director.ipvsadm("--upgrade");
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    Descendant::of(upgraded_process(&answer).expect("a process"))
}

#[test]
fn what_lvsadm_has_changed_outlives_an_upgrade_until_keepalived_conf_says_something_else() {
    let [one, two, three] = ["one", "two", "three"].map(|name| Server::start(any(), name));
    let sorry = Server::start(any(), "sorry");
    let (vip, other, quorum, dead) = (free_port(), free_port(), free_port(), free_port());
    let first = one.address;
    let text = |comment: &str, weight: u32| {
        let sorry = format!("quorum 2\nsorry_server {} {}", sorry.address.ip(), sorry.address.port());
        let served = server(first, "").replace("weight 1", &format!("weight {weight}"));
        let timeouts = "global_defs {\nlvs_timeouts tcp 500\n}\n";
        format!("{comment}{timeouts}")
            + &service(vip, "", &[served, server(two.address, "")])
            + &service(quorum, &sorry, &[server(first, ""), server(dead, "")])
    };
    let director = Director::start(&text("", 5));
    let listed = || {
        let saved = director.ipvsadm("-S -n").stdout;
        saved.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    eventually("the quorum is lost", || ask(quorum) == "sorry");
    let before = listed();
    for words in [
        format!("-e -t {vip} -r {} -m -w 0", first),
        format!("-d -t {vip} -r {}", two.address),
        format!("-a -t {vip} -r {} -m -w 3", three.address),
        format!("-A -t {other} -s wrr"),
        "--set 700 0 0".to_owned(),
    ] {
        let done = director.ipvsadm(&words);
        assert_eq!((done.stderr.as_str(), done.code), ("", 0), "{words}");
    }
    let changed = listed();
    assert_ne!(changed, before);
    // What a file says is not where its lines break, nor what is said beside.
    let mut successors = Vec::new();
    for comment in ["", "# another\n\n"] {
        director.write(&text(comment, 5));
        successors.push(upgraded(&director));
        assert_eq!(listed(), changed);
        assert!(director.ipvsadm("-L --timeout").stdout.contains("700 120 300"));
        assert_eq!([ask(vip), ask(vip), ask(quorum)], ["three", "three", "sorry"]);
    }
    // Its checks go on.
    drop(one);
    let refused = |line: &str| line.contains("connect refused") && line.contains(&first.to_string());
    eventually("the dead server is noticed", || {
        director.log().lines().filter(|line| refused(line)).count() == 2
    });
    director.write(&text("", 7));
    successors.push(upgraded(&director));
    assert!(listed().iter().any(|line| line.contains("-w 7")), "{:?}", listed());
    assert!(!listed().iter().any(|line| line.contains(&three.address.to_string())), "{:?}", listed());
    assert!(director.ipvsadm("-L --timeout").stdout.contains("500 120 300"));
    assert_eq!([ask(vip), ask(vip), ask(quorum)], ["two", "two", "sorry"]);
}

#[test]
fn server_that_goes_down_while_a_takeover_fails_is_out_when_it_has_failed() {
    let (one, two) = (Server::start(any(), "one"), Server::start(any(), "two"));
    let vip = free_port();
    let director = Director::start(&service(vip, "", &[server(one.address, ""), server(two.address, "")]));
    let successor = Predecessor::ask(&director.control()).expect("it answers");
    drop(one);
    eventually("the dead server is noticed", || {
        director.log().contains("the table cannot be as keepalived.conf wants it")
    });
    drop(successor);
    eventually("the director goes on", || director.log().contains("still serving as before"));
    eventually("the dead server is out", || [ask(vip), ask(vip)] == ["two", "two"]);
}

#[test]
fn checks_that_turn_and_takeovers_that_fail_do_not_wait_for_each_other() {
    let flapping = free_port();
    let services = (0..20).map(|_| {
        let server = server(flapping, "").replace("retry 1", "retry 0").replace("0.05", "0.002");
        service(free_port(), "", &[server])
    });
    let director = Director::start(&services.collect::<String>());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| flap(flapping, &over));
        for _ in 0..150 {
            drop(Predecessor::ask(&director.control()).expect("it answers"));
        }
        over.store(true, Ordering::SeqCst);
    });
    assert!(director.log().contains("server is up") && director.log().contains("server is down"));
}

/// Listens and does not, in turns.
fn flap(address: SocketAddr, over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        let listener = TcpListener::bind(address);
        thread::sleep(Duration::from_millis(10));
        drop(listener);
        thread::sleep(Duration::from_millis(10));
    }
}
