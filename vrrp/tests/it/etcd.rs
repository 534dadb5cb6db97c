//! etcd as the arbiter: a real one, on loopback, also while it is stopped, killed and started again.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "etcd lives in real time")]

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use vrrp::arbiter::etcd::{Etcd, Settings};
use vrrp::arbiter::{Answer, Witness};

use crate::os::lab::{is_installed, skip};

const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(3);

/// Members of a cluster, which go with the value.
pub(crate) struct Cluster {
    members: Vec<Member>,
    _folder: TempDir,
}

struct Member {
    client: String,
    arguments: Vec<String>,
    log: std::path::PathBuf,
    process: Option<Child>,
}

impl Cluster {
    /// `None` where there is no etcd, after saying so.
    pub(crate) fn start(size: usize) -> Option<Cluster> {
        Cluster::start_at("127.0.0.1", size)
    }

    /// One that is reached at an address.
    pub(crate) fn start_at(host: &str, size: usize) -> Option<Cluster> {
        if !is_installed("etcd") {
            skip("etcd (etcd-server)");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let ports: Vec<(u16, u16)> = (0..size).map(|_| (free_port(host), free_port("127.0.0.1"))).collect();
        let peers: Vec<String> = ports.iter().map(|(_, peer)| format!("http://127.0.0.1:{peer}")).collect();
        let all: Vec<String> =
            peers.iter().enumerate().map(|(place, peer)| format!("m{place}={peer}")).collect();
        let member = |place: usize| {
            let client = format!("http://{host}:{}", ports[place].0);
            let data = folder.path().join(format!("m{place}"));
            let pairs = [
                ("--name", format!("m{place}")),
                ("--data-dir", data.display().to_string()),
                ("--listen-client-urls", client.clone()),
                ("--advertise-client-urls", client.clone()),
                ("--listen-peer-urls", peers[place].clone()),
                ("--initial-advertise-peer-urls", peers[place].clone()),
                ("--initial-cluster", all.join(",")),
            ];
            let arguments = pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
            Member { client, arguments, log: data.with_extension("log"), process: None }
        };
        let mut cluster = Cluster { members: (0..size).map(member).collect(), _folder: folder };
        for place in 0..size {
            cluster.run(place);
        }
        cluster.is_ready();
        Some(cluster)
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client.clone()).collect()
    }

    fn run(&mut self, place: usize) {
        let member = &mut self.members[place];
        let log = File::create(&member.log).expect("a log");
        let mut command = Command::new("etcd");
        command.args(&member.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        member.process = Some(command.spawn().expect("etcd runs"));
    }

    /// Waits until it does what it is asked.
    fn is_ready(&self) {
        let mut etcd = client(&self.endpoints(), "ready", "/ready", SECOND);
        let until = Instant::now() + SECOND * 60;
        while etcd.acquire(SECOND) != Answer::Yes {
            assert!(Instant::now() < until, "etcd is not ready");
            thread::sleep(SECOND / 10);
        }
        etcd.revoke(SECOND);
    }

    pub(crate) fn signal(&self, place: usize, signal: Signal) {
        let process = self.members[place].process.as_ref().expect("it runs");
        kill_process(Pid::from_child(process), signal).expect("signalled");
        // One of its threads has to run to stop them all, and on a busy machine the others work on meanwhile.
        let until = Instant::now() + SECOND * 20;
        while signal == Signal::STOP && !is_stopped(process.id()) {
            assert!(Instant::now() < until, "it does not stop");
            thread::sleep(SECOND / 1000);
        }
    }

    fn kill(&mut self, place: usize) {
        if let Some(mut process) = self.members[place].process.take() {
            process.kill().expect("killed");
            process.wait().expect("it ends");
        }
    }

    /// The member that leads, by what its own log says last.
    fn leader(&self) -> usize {
        let until = Instant::now() + SECOND * 20;
        loop {
            let leads = |member: &Member| {
                let log = std::fs::read_to_string(&member.log).unwrap_or_default();
                let last = log.lines().rfind(|line| line.contains("became "));
                last.is_some_and(|line| line.contains("became leader"))
            };
            if let Some(place) = self.members.iter().position(leads) {
                return place;
            }
            assert!(Instant::now() < until, "nobody leads");
            thread::sleep(SECOND / 10);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for place in 0..self.members.len() {
            self.kill(place);
        }
    }
}

/// Whether every thread of a process is stopped.
fn is_stopped(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs").flatten();
    let mut states = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    // The state stands behind the name, which is in parentheses.
    states.all(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')))
}

/// A port that no connecting socket is given.
fn free_port(host: &str) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 14_000 + (std::process::id() % 500) as u16 * 20;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind((host, port)).is_ok() && TcpStream::connect((host, port)).is_err() {
            return port;
        }
    }
}

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
    cluster.is_ready();
    let mut other = client(&cluster.endpoints(), "lb2", "/vip", SECOND * 20);
    assert_eq!(other.acquire(SECOND * 2), Answer::Held("lb1".to_owned()));
    assert_eq!(one.renew(SECOND * 2), Answer::Yes);
}

#[test]
fn member_that_does_not_answer_leaves_time_for_the_others() {
    let Some(cluster) = Cluster::start(1) else { return };
    let silent = TcpListener::bind(("127.0.0.1", free_port("127.0.0.1"))).expect("a free port");
    let silent = format!("http://{}", silent.local_addr().expect("bound"));
    let closed = format!("http://127.0.0.1:{}", free_port("127.0.0.1"));
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
