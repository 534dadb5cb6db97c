//! A real etcd: members that can be stopped, killed and started again, in the clear or over TLS.

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::peers::{is_installed, skip};
use crate::ports::free_port;
use crate::process;

/// Members of a cluster, which go with the value.
pub struct Cluster {
    members: Vec<Member>,
    _folder: TempDir,
}

struct Member {
    client: String,
    arguments: Vec<String>,
    log: PathBuf,
    process: Option<Child>,
}

/// How clients reach a cluster.
#[derive(Clone, Copy)]
pub enum Protection<'a> {
    /// Anybody, in the clear.
    None,
    /// Over TLS, with a certificate that the same authority has signed.
    Tls(&'a Papers),
}

impl Cluster {
    /// So many members on loopback; `None` where there is no etcd, after saying so.
    pub fn start(size: usize) -> Option<Cluster> {
        Cluster::start_at(LOOPBACK, size, Protection::None)
    }

    /// So many members that are reached at an address, in the network namespace of this thread.
    pub fn start_at(host: IpAddr, size: usize, protection: Protection<'_>) -> Option<Cluster> {
        if !is_installed("etcd") {
            skip("etcd (etcd-server)");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let peers: Vec<String> = (0..size).map(|_| format!("http://{}", free_port(LOOPBACK))).collect();
        let all: Vec<String> =
            peers.iter().enumerate().map(|(place, peer)| format!("m{place}={peer}")).collect();
        let member = |place: usize| {
            let scheme = if matches!(protection, Protection::None) { "http" } else { "https" };
            let client = format!("{scheme}://{}", free_port(host));
            let data = folder.path().join(format!("m{place}"));
            let mut arguments: Vec<String> = [
                ("--name", format!("m{place}")),
                ("--data-dir", data.display().to_string()),
                ("--listen-client-urls", client.clone()),
                ("--advertise-client-urls", client.clone()),
                ("--listen-peer-urls", peers[place].clone()),
                ("--initial-advertise-peer-urls", peers[place].clone()),
                ("--initial-cluster", all.join(",")),
            ]
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value])
            .collect();
            if let Protection::Tls(papers) = protection {
                let (certificate, key) = papers.of_server();
                for (name, path) in [
                    ("--cert-file", certificate),
                    ("--key-file", key),
                    ("--trusted-ca-file", papers.authority()),
                ] {
                    arguments.extend([name.to_owned(), path.display().to_string()]);
                }
                arguments.push("--client-cert-auth".to_owned());
            }
            Member { client, arguments, log: data.with_extension("log"), process: None }
        };
        let mut cluster = Cluster { members: (0..size).map(member).collect(), _folder: folder };
        for place in 0..size {
            cluster.run(place);
        }
        (0..size).for_each(|place| cluster.is_ready(place));
        Some(cluster)
    }

    /// Where clients reach the members.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client.clone()).collect()
    }

    /// Starts a member that does not run.
    pub fn run(&mut self, place: usize) {
        let member = &mut self.members[place];
        let log = File::create(&member.log).expect("a log");
        let mut command = Command::new("etcd");
        command.args(&member.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        member.process = Some(command.spawn().expect("etcd runs"));
    }

    /// Waits until a member that was started serves, which it does once it is one of the cluster.
    pub fn is_ready(&self, place: usize) {
        let until = Instant::now() + SECOND * 60;
        while !self.log(place).contains("ready to serve client requests") {
            assert!(Instant::now() < until, "etcd is not ready: {}", self.log(place));
            thread::sleep(SECOND / 20);
        }
    }

    fn log(&self, place: usize) -> String {
        fs::read_to_string(&self.members[place].log).unwrap_or_default()
    }

    /// The number of a member's process.
    pub fn process(&self, place: usize) -> u32 {
        self.members[place].process.as_ref().expect("it runs").id()
    }

    /// Sends a member a signal; if it is to stop, waits until it has.
    pub fn signal(&self, place: usize, signal: Signal) {
        process::signal(self.members[place].process.as_ref().expect("it runs"), signal);
    }

    /// Kills a member; its data stay.
    pub fn kill(&mut self, place: usize) {
        if let Some(mut process) = self.members[place].process.take() {
            process.kill().expect("killed");
            process.wait().expect("it ends");
        }
    }

    /// The member that leads, by what its own log says last.
    pub fn leader(&self) -> usize {
        let until = Instant::now() + SECOND * 20;
        loop {
            let leads = |place: &usize| {
                let log = self.log(*place);
                let last = log.lines().rfind(|line| line.contains("became "));
                last.is_some_and(|line| line.contains("became leader"))
            };
            if let Some(place) = (0..self.members.len()).find(leads) {
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

/// A certificate authority, and certificates that it has signed for loopback and for a client.
pub struct Papers {
    folder: TempDir,
}

impl Papers {
    /// Makes them; `None` where there is no openssl, after saying so.
    pub fn new() -> Option<Papers> {
        if !is_installed("openssl") {
            skip("openssl");
            return None;
        }
        let papers = Papers { folder: tempfile::tempdir().expect("a folder") };
        papers.make("authority", &["-addext", "keyUsage=critical,keyCertSign"]);
        // etcd's gateway calls etcd itself with the server's certificate, which so is a client's, too.
        let names = "subjectAltName=IP:127.0.0.1,DNS:localhost";
        papers.sign("server", &["-addext", names, "-addext", "extendedKeyUsage=serverAuth,clientAuth"]);
        papers.sign("client", &["-addext", "extendedKeyUsage=clientAuth"]);
        Some(papers)
    }

    fn sign(&self, name: &str, words: &[&str]) {
        let (authority, key) = self.pair("authority");
        let [authority, key] = [&authority, &key].map(|path| path.display().to_string());
        let signed = ["-CA", &authority, "-CAkey", &key, "-addext", "basicConstraints=critical,CA:FALSE"];
        self.make(name, &[&signed, words].concat());
    }

    fn make(&self, name: &str, words: &[&str]) {
        let (certificate, key) = self.pair(name);
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        command.args(["-days", "2", "-subj", &format!("/CN={name}")]).args(words);
        command.arg("-keyout").arg(key).arg("-out").arg(certificate);
        let output = command.output().expect("openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn pair(&self, name: &str) -> (PathBuf, PathBuf) {
        let path = |ending: &str| self.folder.path().join(Path::new(name).with_extension(ending));
        (path("pem"), path("key"))
    }

    /// The authority's own certificate.
    pub fn authority(&self) -> PathBuf {
        self.pair("authority").0
    }

    /// A certificate for loopback, and its key.
    pub fn of_server(&self) -> (PathBuf, PathBuf) {
        self.pair("server")
    }

    /// A certificate for a client, and its key.
    pub fn of_client(&self) -> (PathBuf, PathBuf) {
        self.pair("client")
    }
}

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

const SECOND: Duration = Duration::from_secs(1);
