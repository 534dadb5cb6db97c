//! A director that is master by an arbiter's consent is restarted: the consent passes along, or comes back.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lab::{Cluster, Protection, Watch, eventually, throughout};
use rustix::process::Signal;

use super::partition::{configuration, open_connection, told};
use super::site::{CLIENTS, Lab, SERVER_HOSTS, SERVERS, VIP};
use super::{crowd, instance};

const SECOND: Duration = Duration::from_secs(1);

fn etcd(lab: &Lab) -> Option<Cluster> {
    lab.within(SERVER_HOSTS[1], || Cluster::start_at(SERVERS[1].into(), 1, Protection::None))
}

#[test]
fn consent_passes_to_the_successor_and_the_address_is_nowhere_else_and_never_lost() {
    let Some(lab) = Lab::new() else { return };
    let Some(etcd) = etcd(&lab) else { return };
    let text = [0, 1].map(|number| configuration(&lab, &etcd, number));
    let mut first = lab.director(0, &text[0]);
    first.says("VI is MASTER now");
    let second = lab.director(1, &text[1]);
    second.says("VI is BACKUP now");
    eventually("clients are served", || !lab.ask_all().is_empty());
    let (mut client, mut served) = open_connection(&lab);
    eventually("all clients find the way", || lab.ask_all().len() == CLIENTS.len());
    let watch = Watch::new(&lab, [1, 2], VIP);
    let stop = Arc::new(AtomicBool::new(false));
    let clients = crowd(&lab, &stop);
    let successor = lab.successor(0, &text[0]);
    successor.says("VI is MASTER now: goes on where another process of this host ended");
    let mut passes = |bytes: &[u8; 4]| {
        client.write_all(bytes).expect("sent");
        let mut heard = [0; 4];
        served.read_exact(&mut heard).expect("an open connection");
        assert_eq!(&heard, bytes);
    };
    // Longer than any consent that the first one had: its connection goes on by the successor's.
    for _ in 0..8 {
        passes(b"more");
        thread::sleep(SECOND);
    }
    let listed = successor.lvsadm(&["-L", "-c", "-n"]);
    assert!(listed.contains(&format!(" {VIP}:81 ")), "the other one's connections are listed: {listed}");
    let view = successor.lvsadm(&["-L", "--vrrp"]);
    assert!(view.starts_with("VI MASTER for ") && view.contains(": held, "), "{view}");

    // And once more: the first one has heard of the second, and hears of the third.
    let third = lab.process(0, &text[0], "third", &["--takeover"]);
    third.says("VI is MASTER now: goes on where another process of this host ended");
    for _ in 0..7 {
        passes(b"then");
        thread::sleep(SECOND);
    }
    assert!(third.lvsadm(&["-L", "-c", "-n"]).contains(&format!(" {VIP}:81 ")));
    stop.store(true, Ordering::Relaxed);
    let came: Vec<_> = clients.into_iter().flat_map(|client| client.join().expect("clients")).collect();
    let lost = came.iter().filter(|(_, served)| !served).count();
    let logs = || [&first, &second, &successor, &third].map(told).join("\n--\n");
    for director in [&first, &successor, &third] {
        assert_eq!(director.count("may be another director's"), 0, "{}", director.log());
    }
    assert!(lost == 0 && came.len() > 1000, "{lost} of {} were not served\n{}", came.len(), logs());
    let seen = watch.end();
    let elsewhere = seen.iter().filter(|seen| seen.has != [true, false]).count();
    assert_eq!(elsewhere, 0, "of {} looks\n{}", seen.len(), logs());
    assert_eq!(second.count("MASTER"), 0, "{}", logs());
    drop((client, served));
    assert!(first.ends(), "it has carried its last connection");

    // What the last one gives back, the other one gets.
    third.signal(Signal::TERM);
    second.says("VI is MASTER now");
    eventually("the address moves", || !lab.holds(0) && lab.holds(1));
}

#[test]
fn consent_comes_back_from_a_successor_that_fails() {
    let Some(lab) = Lab::new() else { return };
    let Some(etcd) = etcd(&lab) else { return };
    let first = lab.director(0, &configuration(&lab, &etcd, 0));
    first.says("VI is MASTER now");
    let second = lab.director(1, &configuration(&lab, &etcd, 1));
    second.says("VI is BACKUP now");
    eventually("clients are served", || !lab.ask_all().is_empty());
    let (mut client, mut served) = open_connection(&lab);
    let watch = Watch::new(&lab, [1, 2], VIP);
    // It takes the virtual router and its consent, and then cannot have the control socket: the name under
    // which it would be bound first is too long.
    let short = first.path("sock").display().to_string();
    let long = format!("{short}{}", "x".repeat(SOCKET_NAME_MAX - short.len()));
    std::os::unix::fs::symlink(&short, &long).expect("a link");
    for log in ["fails", "fails again"] {
        let mut heir =
            lab.process(0, &configuration(&lab, &etcd, 0), log, &["--takeover", "--control", &long]);
        assert!(!heir.ends(), "{}", heir.log());
        assert!(
            heir.count("VI is MASTER now: goes on where another process of this host ended") == 1,
            "{}",
            heir.log()
        );
        heir.says("control socket");
        eventually("the first one goes on", || {
            let view = first.lvsadm(&["-L", "--vrrp"]);
            view.starts_with("VI MASTER for ") && view.contains(": held, ")
        });
    }
    throughout(SECOND * 8, "the first one has the address", || lab.holds(0) && !lab.holds(1));
    client.write_all(b"more").expect("sent");
    let mut heard = [0; 4];
    served.read_exact(&mut heard).expect("an open connection");
    assert_eq!(&heard, b"more");
    let seen = watch.end();
    assert!(seen.iter().all(|seen| seen.has == [true, false]), "{}", told(&first));
    assert_eq!((second.count("MASTER"), first.count("VI is BACKUP now")), (0, 1), "{}", told(&first));
}

#[test]
fn successor_that_asks_another_arbiter_takes_no_consent_over() {
    let Some(lab) = Lab::new() else { return };
    let text = |gateway| {
        let lines = format!("version 3\nadvert_int 0.1\narbiter {{\nping {gateway}\nttl 4\n}}");
        format!("{}{}", instance(0, &lines), lab.service())
    };
    let mut first = lab.director(0, &text(SERVERS[0]));
    first.says("VI is MASTER now");
    let successor = lab.successor(0, &text(SERVERS[1]));
    successor.says("VI is BACKUP now");
    successor.says("VI is MASTER now");
    assert!(first.ends());
    assert_eq!(first.count("VI is INIT now"), 1, "{}", first.log());
    assert_eq!(successor.count("goes on where another process"), 0, "{}", successor.log());
    eventually("clients are served", || !lab.ask_all().is_empty());

    // With the same one it goes on, as it would without any.
    let next = lab.process(0, &text(SERVERS[1]), "third", &["--takeover"]);
    next.says("VI is MASTER now: goes on where another process of this host ended");
    throughout(SECOND * 5, "it has the address", || lab.holds(0));
}

/// What the address of a Unix socket has room for.
const SOCKET_NAME_MAX: usize = 106;
