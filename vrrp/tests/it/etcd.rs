//! etcd as the arbiter: a real one, on loopback, also while it is stopped, killed and started again.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "etcd lives in real time")]

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use lab::{Cluster, Papers, Protection, free_port};
use rustix::process::Signal;
use vrrp::arbiter::etcd::{Etcd, Login, Settings};
use vrrp::arbiter::{Answer, Witness};

const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(3);

fn client(endpoints: &[String], name: &str, key: &str, ttl: Duration) -> Etcd {
    Etcd::new(&settings(endpoints, name, key, ttl)).expect("a client")
}

fn settings(endpoints: &[String], name: &str, key: &str, ttl: Duration) -> Settings {
    Settings {
        endpoints: endpoints.to_vec(),
        key: key.to_owned(),
        name: name.to_owned(),
        ttl,
        ca_file: None,
        certificate: None,
        login: None,
    }
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
fn key_passes_to_an_heir_and_back_if_that_fails_and_nobody_else_gets_it_meanwhile() {
    let Some(cluster) = Cluster::start(1) else { return };
    let of = |name: &str| client(&cluster.endpoints(), name, "/vip", TTL);
    let (mut one, mut heir, mut other) = (of("lb1"), of("lb1 anew"), of("lb2"));
    assert_eq!(one.acquire(SECOND), Answer::Yes);
    heir.inherit(&one.bequest());
    assert_eq!(heir.acquire(SECOND), Answer::Yes);
    assert_eq!(one.renew(SECOND), Answer::Held("lb1 anew".to_owned()));
    assert_eq!(one.acquire(SECOND), Answer::Held("lb1 anew".to_owned()), "it has passed it on");
    assert_eq!(heir.renew(SECOND), Answer::Yes, "under a lease of its own");
    assert_eq!(other.acquire(SECOND), Answer::Held("lb1 anew".to_owned()));

    // The heir has failed, and may not know it.
    one.recover();
    assert_eq!(one.acquire(SECOND), Answer::Yes);
    assert_eq!(heir.renew(SECOND), Answer::Held("lb1".to_owned()));
    assert_eq!(heir.acquire(SECOND), Answer::Held("lb1".to_owned()));
    heir.revoke(SECOND);
    assert_eq!(one.renew(SECOND), Answer::Yes, "what the heir gives back is not the key");

    // One that fails before it has asked leaves everything as it was.
    of("lb1 again").inherit(&one.bequest());
    one.recover();
    assert_eq!(one.acquire(SECOND), Answer::Yes);
    assert_eq!(other.acquire(SECOND), Answer::Held("lb1".to_owned()));
    one.revoke(SECOND);
    assert_eq!(other.acquire(SECOND), Answer::Yes);
    // A word of another kind of arbiter, or of none.
    for odd in ["", "ping", "12-", "x-1"] {
        of("lb3").inherit(odd);
    }
    assert_eq!(other.renew(SECOND), Answer::Yes);
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

#[test]
fn etcd_over_tls_is_asked_by_who_shows_a_certificate_and_knows_its_authority() {
    let (Some(papers), Some(others)) = (Papers::new(), Papers::new()) else { return };
    let Some(cluster) = Cluster::start_at([127, 0, 0, 1].into(), 1, Protection::Tls(&papers)) else { return };
    let endpoints = cluster.endpoints();
    assert!(endpoints[0].starts_with("https://"));
    let settings = Settings {
        ca_file: Some(papers.authority()),
        certificate: Some(papers.of_client()),
        ..settings(&endpoints, "lb1", "/vip", TTL)
    };
    let answer = |settings: Settings| Etcd::new(&settings).expect("a client").acquire(SECOND * 5);
    let mut one = Etcd::new(&settings).expect("a client");
    assert_eq!(one.acquire(SECOND * 5), Answer::Yes);
    assert_eq!(one.renew(SECOND * 5), Answer::Yes);
    let second = Settings { name: "lb2".to_owned(), ..settings.clone() };
    assert_eq!(answer(second), Answer::Held("lb1".to_owned()));
    one.revoke(SECOND * 5);
    assert_eq!(one.acquire(SECOND * 5), Answer::Yes);

    let refused = [
        ("nobody", Settings { certificate: None, ..settings.clone() }, "certificate"),
        ("a stranger", Settings { certificate: Some(others.of_client()), ..settings.clone() }, "certificate"),
        (
            "of another authority",
            Settings { ca_file: Some(others.authority()), ..settings.clone() },
            "invalid peer certificate",
        ),
        (
            "another host",
            Settings { endpoints: vec![endpoints[0].replace("127.0.0.1", "127.0.0.2")], ..settings.clone() },
            "refused",
        ),
        (
            "in the clear",
            Settings { endpoints: vec![endpoints[0].replace("https", "http")], ..settings.clone() },
            "",
        ),
    ];
    for (who, settings, why) in refused {
        let Answer::Silence(said) = answer(settings) else { panic!("{who} was answered") };
        assert!(said.to_lowercase().contains(&why.to_lowercase()), "{who}: {said}");
    }
    let unreadable = Settings { ca_file: Some(papers.of_client().1), ..settings };
    let error = Etcd::new(&unreadable).err().expect("a key is no certificate").to_string();
    assert!(error.contains("client.key: no certificate in it"), "{error}");
}

#[test]
fn etcd_that_knows_users_is_asked_by_one_of_them_also_after_it_forgot_the_login() {
    let Some(mut cluster) = Cluster::start(1) else { return };
    let endpoints = cluster.endpoints();
    let host = endpoints[0].strip_prefix("http://").expect("in the clear").to_owned();
    for (path, body) in [
        ("user/add", r#"{"name":"root","password":"r"}"#),
        ("role/add", r#"{"name":"root"}"#),
        ("user/grant", r#"{"user":"root","role":"root"}"#),
        ("user/add", r#"{"name":"lb","password":"pass \"word\""}"#),
        ("role/add", r#"{"name":"vrrp"}"#),
        // `/vrrp/` and what begins so.
        ("role/grant", r#"{"name":"vrrp","perm":{"permType":2,"key":"L3ZycnAv","range_end":"L3ZycnAw"}}"#),
        ("user/grant", r#"{"user":"lb","role":"vrrp"}"#),
        ("enable", "{}"),
    ] {
        tell(&host, path, body);
    }
    let login = |password: &str| Login { user: "lb".to_owned(), password: password.to_owned() };
    let by = |key: &str, login: Option<Login>| {
        let settings = Settings { login, ..settings(&endpoints, "lb1", key, SECOND * 20) };
        Etcd::new(&settings).expect("a client")
    };
    let mut one = by("/vrrp/web", Some(login("pass \"word\"")));
    assert_eq!(one.acquire(SECOND * 5), Answer::Yes);
    assert_eq!(one.renew(SECOND * 5), Answer::Yes);
    for (mut etcd, why) in [
        (by("/vrrp/web", None), "user name is empty"),
        (by("/vrrp/web", Some(login("another"))), "invalid user ID or password"),
        (by("/other", Some(login("pass \"word\""))), "permission denied"),
    ] {
        let Answer::Silence(said) = etcd.acquire(SECOND * 5) else { panic!("answered: {why}") };
        assert!(said.contains(why), "{said}");
    }
    // It keeps logins in memory.
    cluster.kill(0);
    cluster.run(0);
    cluster.is_ready(0);
    assert_eq!(one.renew(SECOND * 5), Answer::Yes);
    one.revoke(SECOND * 5);
    assert_eq!(one.acquire(SECOND * 5), Answer::Yes);
}

/// Has an etcd without users do something about them.
fn tell(host: &str, path: &str, body: &str) {
    let mut stream = TcpStream::connect(host).expect("etcd");
    let length = body.len();
    write!(
        stream,
        "POST /v3/auth/{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
}
