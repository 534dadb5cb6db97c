//! Hosts on a bridge, each in a network namespace of its own. All of it goes with the value.

use std::fs::File;
use std::net::IpAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use lab::{Hosts, eventually_or, wait_for};
use vrrp::os::{Instance, Node, Notice, Schedule, Settings, Status};
use vrrp::router::State;

/// Hosts on a bridge. Host N has the interface `eth0` with the address 10.8.0.N/24 and a link-local one.
pub(crate) struct Lab {
    hosts: Hosts,
    /// The hosts' own link-local addresses.
    link_locals: Vec<IpAddr>,
    /// A folder for what programs want to read and write.
    pub(crate) folder: tempfile::TempDir,
}

/// A virtual address that every test may use.
pub(crate) const VIP: &str = "10.8.0.100";

impl Lab {
    /// So many hosts, if the test may make them; if not, it says why.
    pub(crate) fn new(count: usize) -> Option<Lab> {
        let hosts = Hosts::on_a_bridge(count)?;
        for host in 1..=count {
            hosts.run(host, &["address", "add", &format!("10.8.0.{host}/24"), "dev", "eth0"]);
        }
        let link_locals = (1..=count)
            .map(|host| wait_for("a link-local address", || find_link_local(&hosts, host)))
            .collect();
        Some(Lab { hosts, link_locals, folder: tempfile::tempdir().expect("a folder") })
    }

    /// An address of a host with its prefix.
    pub(crate) fn line(&self, host: usize, address: &str) -> String {
        let start = format!("{address}/");
        let lines = self.addresses(host);
        let mut words = lines.iter().flat_map(|line| line.split_whitespace());
        words.find(|word| word.starts_with(&start)).expect("it has the address").to_owned()
    }

    /// A host's own link-local address.
    pub(crate) fn link_local(&self, host: usize) -> IpAddr {
        self.link_locals[host - 1]
    }

    /// Runs virtual routers in a host.
    pub(crate) fn node(&self, host: usize, settings: Settings) -> Watched {
        let notices = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&notices);
        let node = self.within(host, move || {
            let tell = move |notice| told.lock().expect("told").push((Instant::now(), notice));
            Node::start(settings, Schedule::First(1), tell)
        });
        Watched { node: node.expect("a node"), notices }
    }

    /// Runs one virtual router in a host.
    pub(crate) fn router(&self, host: usize, instance: Instance) -> Watched {
        self.node(host, Settings { instances: vec![instance], ..Settings::default() })
    }

    /// Runs a virtual router in a host as a program of its own, which can be killed.
    pub(crate) fn program(&self, host: usize, words: &[&str]) -> Program {
        let tests = std::env::current_exe().expect("this program");
        // `cargo test` builds the examples beside the tests.
        let example =
            tests.parent().and_then(Path::parent).expect("a folder").join("examples/virtual-router");
        let log = self.folder.path().join(format!("router-{host}"));
        let mut command = self.command(host, example);
        command.args(["--interface", "eth0", "--vrid", "51"]).args(words);
        command.stdin(Stdio::piped()).stdout(File::create(&log).expect("a log"));
        let mut child = command.spawn().expect("a program");
        Program { input: child.stdin.take(), child, log }
    }
}

impl Deref for Lab {
    type Target = Hosts;

    fn deref(&self) -> &Hosts {
        &self.hosts
    }
}

fn find_link_local(hosts: &Hosts, host: usize) -> Option<IpAddr> {
    let lines = hosts.addresses(host);
    let line = lines.iter().find(|line| line.contains(" eth0 ") && line.contains(" fe80:"))?;
    let usable = !line.contains("tentative");
    let word = line.split_whitespace().find(|word| word.starts_with("fe80:") && usable)?;
    word.split('/').next()?.parse().ok()
}

/// A running node, and what it told.
pub(crate) struct Watched {
    pub(crate) node: Node,
    notices: Arc<Mutex<Vec<(Instant, Notice)>>>,
}

impl Watched {
    /// How its first virtual router stands.
    pub(crate) fn status(&self) -> Status {
        self.node.handle().statuses().expect("it runs").swap_remove(0)
    }

    pub(crate) fn state(&self) -> State {
        self.status().state
    }

    /// What it told, as a log would have it.
    pub(crate) fn log(&self) -> Vec<String> {
        self.notices.lock().expect("told").iter().map(|(_, notice)| notice.to_string()).collect()
    }

    pub(crate) fn notices(&self) -> Vec<Notice> {
        self.notices.lock().expect("told").iter().map(|(_, notice)| notice.clone()).collect()
    }

    /// When it last became this, by its own thread's clock, which a busy machine delays less than it does a test.
    #[track_caller]
    pub(crate) fn became_at(&self, wanted: State) -> Instant {
        self.becomes(wanted);
        let notices = self.notices.lock().expect("told");
        let became = notices
            .iter()
            .rev()
            .find(|(_, notice)| matches!(notice, Notice::Became { state, .. } if *state == wanted));
        became.expect("it was told").0
    }

    #[track_caller]
    pub(crate) fn becomes(&self, state: State) {
        eventually_or(|| format!("it is {state}: {:#?}", self.log()), || self.state() == state);
    }

    #[track_caller]
    pub(crate) fn says(&self, text: &str) {
        eventually_or(
            || format!("it says {text:?}: {:#?}", self.log()),
            || self.log().iter().any(|line| line.contains(text)),
        );
    }
}

/// A virtual router that runs as a program of its own.
pub(crate) struct Program {
    child: Child,
    input: Option<ChildStdin>,
    log: PathBuf,
}

impl Program {
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }

    /// Ends it by the end of its input.
    pub(crate) fn stop(mut self) {
        drop(self.input.take());
        self.child.wait().expect("it ends");
    }

    /// Stops it where it is, or has it go on.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        lab::signal(&self.child, signal);
    }

    /// Kills it, so that it can do nothing more.
    pub(crate) fn kill(self) {}
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
