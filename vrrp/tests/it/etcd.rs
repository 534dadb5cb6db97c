//! etcd as the arbiter: a real one, on loopback, also while it is stopped, killed and started again.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "etcd lives in real time")]

use std::net::{IpAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use lab::{Cluster, free_port};
use rustix::process::Signal;
use vrrp::arbiter::etcd::{Etcd, Settings};
use vrrp::arbiter::{Answer, Witness};

const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(3);

fn client(endpoints: &[String], name: &str, key: &str, ttl: Duration) -> Etcd {
    let settings = Settings {
        endpoints: endpoints.to_vec(),
        key: key.to_owned(),
        name: name.to_owned(),
        ttl,
        ca_file: None,
        certificate: None,
    };
    Etcd::new(&settings).expect("a client")
}

/// Asks for the key until it is given.
fn acquire(etcd: &mut Etcd) {
    let until = Instant::now() + SECOND * 30;
    while etcd.acquire(SECOND) != Answer::Yes {
        assert!(Instant::now() < until, "nobody gets the key");
        thread::sleep(SECOND / 10);
    }
}

#[test]
fn key_has_one_holder_whom_others_are_told() {
    let Some(cluster) = Cluster::start(1) else { return };
    let mut one = client(&cluster.endpoints(), "lb 1", "/vip", TTL);
    let mut other = client(&cluster.endpoints(), "lb 2", "/vip", TTL);
    assert_eq!(one.acquire(SECOND), Answer::Yes);
    assert_eq!(other.acquire(SECOND), Answer::Held("lb 1".to_owned()));
    assert_eq!(one.renew(SECOND), Answer::Yes);
    assert_eq!(one.acquire(SECOND), Answer::Yes, "whose answer was lost asks again");
    assert_eq!(client(&cluster.endpoints(), "lb 2", "/other", TTL).acquire(SECOND), Answer::Yes);
    one.revoke(SECOND);
    assert_eq!(one.renew(SECOND), Answer::Gone);
    assert_eq!(other.acquire(SECOND), Answer::Yes);
    assert_eq!(one.acquire(SECOND), Answer::Held("lb 2".to_owned()));
}

#[test]
fn lease_ends_by_itself_and_not_before_its_time() {
    let Some(cluster) = Cluster::start(1) else { return };
    let mut one = client(&cluster.endpoints(), "lb1", "/vip", TTL);
    let mut other = client(&cluster.endpoints(), "lb2", "/vip", TTL);
    acquire(&mut one);
    let asked = Instant::now();
    assert_eq!(one.renew(SECOND), Answer::Yes);
    acquire(&mut other);
    assert!(asked.elapsed() >= TTL, "after {:?}", asked.elapsed());
    assert!(matches!(one.renew(SECOND), Answer::Gone | Answer::Held(_)));
}

#[test]
fn etcd_that_is_gone_is_silence_in_time_and_its_data_survive() {
    let Some(mut cluster) = Cluster::start(1) else { return };
    let mut one = client(&cluster.endpoints(), "lb1", "/vip", SECOND * 20);
    acquire(&mut one);
    // Stopped: it takes connections, and does not answer.
    cluster.signal(0, Signal::STOP);
    let asked = Instant::now();
    assert!(matches!(one.renew(SECOND / 2), Answer::Silence(_)));
    assert!(asked.elapsed() < SECOND * 2);
    cluster.signal(0, Signal::CONT);
    assert_eq!(one.renew(SECOND * 2), Answer::Yes);
    cluster.kill(0);
    assert!(matches!(one.renew(SECOND), Answer::Silence(_)));
    cluster.run(0);
    cluster.is_ready(0);
    let mut other = client(&cluster.endpoints(), "lb2", "/vip", SECOND * 20);
    assert_eq!(other.acquire(SECOND * 2), Answer::Held("lb1".to_owned()));
    assert_eq!(one.renew(SECOND * 2), Answer::Yes);
}

#[test]
fn member_that_does_not_answer_leaves_time_for_the_others() {
    let Some(cluster) = Cluster::start(1) else { return };
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let silent = TcpListener::bind(free_port(loopback)).expect("a free port");
    let silent = format!("http://{}", silent.local_addr().expect("bound"));
    let closed = format!("http://{}", free_port(loopback));
    let endpoints = [vec![closed, silent], cluster.endpoints()].concat();
    let mut one = client(&endpoints, "lb1", "/vip", TTL);
    assert_eq!(one.acquire(SECOND * 3), Answer::Yes);
    let asked = Instant::now();
    assert_eq!(one.renew(SECOND * 3), Answer::Yes);
    assert!(asked.elapsed() < SECOND, "the one that answered is asked first");
}

#[test]
fn member_that_lost_its_lead_while_it_was_stopped_prolongs_nothing() {
    let Some(cluster) = Cluster::start(3) else { return };
    let leader = cluster.leader();
    let endpoints = cluster.endpoints();
    let mut one = client(&endpoints[leader..=leader], "lb1", "/vip", TTL);
    let others: Vec<String> = endpoints
        .iter()
        .enumerate()
        .filter(|(place, _)| *place != leader)
        .map(|(_, url)| url.clone())
        .collect();
    let mut other = client(&others, "lb2", "/vip", TTL);
    acquire(&mut one);
    assert_eq!(one.renew(SECOND), Answer::Yes);
    cluster.signal(leader, Signal::STOP);
    // The question waits in the old leader's socket while the others elect another one, and the lease ends.
    let asked = thread::spawn(move || one.renew(SECOND * 60));
    acquire(&mut other);
    cluster.signal(leader, Signal::CONT);
    let answer = asked.join().expect("answered");
    assert_ne!(answer, Answer::Yes);
    assert_eq!(other.renew(SECOND * 5), Answer::Yes);
}
