//! Hosts on a bridge, each in a network namespace of its own. All of it goes with the value.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use vrrp::os::{Instance, Node, Notice, Schedule, Settings, Status};
use vrrp::router::State;

/// Hosts on a bridge. Host N has the interface `eth0` with the address 10.8.0.N/24 and a link-local one.
pub(crate) struct Lab {
    name: String,
    hosts: u8,
    /// The hosts' own link-local addresses.
    link_locals: Vec<IpAddr>,
    /// A folder for what programs want to read and write.
    pub(crate) folder: tempfile::TempDir,
}

/// A virtual address that every test may use.
pub(crate) const VIP: &str = "10.8.0.100";

impl Lab {
    /// So many hosts, if the test may make them; if not, it says why.
    pub(crate) fn new(hosts: u8) -> Option<Lab> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        if !is_installed("ip") {
            skip("ip (iproute2)");
            return None;
        }
        let name = format!("vrrp-{}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed));
        let mut lab =
            Lab { name, hosts, link_locals: Vec::new(), folder: tempfile::tempdir().expect("a folder") };
        if !ip(&["netns", "add", &lab.host(SWITCH)]) {
            skip("the right to make network namespaces (root)");
            return None;
        }
        lab.run(SWITCH, &["link", "add", "br0", "type", "bridge", "mcast_snooping", "0"]);
        lab.run(SWITCH, &["link", "set", "br0", "up"]);
        for host in 1..=hosts {
            assert!(ip(&["netns", "add", &lab.host(host)]));
            lab.within(host, || {
                // A link-local address that can be used at once, and no chatter.
                for (setting, value) in [("accept_dad", "0"), ("router_solicitations", "0")] {
                    for which in ["all", "default"] {
                        let path = format!("/proc/sys/net/ipv6/conf/{which}/{setting}");
                        std::fs::write(path, value).expect("a setting");
                    }
                }
            });
            let (port, namespace) = (port(host), lab.host(host));
            lab.run(
                SWITCH,
                &["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &namespace],
            );
            lab.run(SWITCH, &["link", "set", &port, "master", "br0", "up"]);
            lab.run(host, &["link", "set", "lo", "up"]);
            lab.run(host, &["address", "add", &format!("10.8.0.{host}/24"), "dev", "eth0"]);
            lab.run(host, &["link", "set", "eth0", "up"]);
        }
        for host in 1..=hosts {
            let address = wait_for("a link-local address", || lab.find_link_local(host));
            lab.link_locals.push(address);
        }
        Some(lab)
    }

    /// Name of a host's namespace.
    pub(crate) fn host(&self, host: u8) -> String {
        format!("{}-{host}", self.name)
    }

    /// Has `ip` do something in a host.
    pub(crate) fn run(&self, host: u8, words: &[&str]) {
        let namespace = self.host(host);
        assert!(ip(&[&["-n", &namespace][..], words].concat()), "ip {}", words.join(" "));
    }

    /// Cuts the cable of a host, or mends it.
    pub(crate) fn cable(&self, host: u8, state: &str) {
        self.run(SWITCH, &["link", "set", &port(host), state]);
    }

    /// Does something in a host; sockets and threads made there stay there.
    pub(crate) fn within<T: Send>(&self, host: u8, what: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.host(host));
        let work = move || {
            let namespace = File::open(path).expect("a namespace");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("moved");
            what()
        };
        thread::scope(|scope| scope.spawn(work).join()).expect("done")
    }

    /// Addresses of a host's `eth0`, as `ip` shows them: each its line.
    pub(crate) fn addresses(&self, host: u8) -> Vec<String> {
        let output = Command::new("ip").args(["-n", &self.host(host), "-o", "address", "show"]).output();
        let text = String::from_utf8(output.expect("ip").stdout).expect("text");
        text.lines().map(str::to_owned).collect()
    }

    /// Whether a host has an address on an interface.
    pub(crate) fn has(&self, host: u8, address: &str) -> bool {
        let wanted = format!(" {address}/");
        self.addresses(host).iter().any(|line| line.contains(&wanted))
    }

    /// An address of a host with its prefix.
    pub(crate) fn line(&self, host: u8, address: &str) -> String {
        let start = format!("{address}/");
        let lines = self.addresses(host);
        let mut words = lines.iter().flat_map(|line| line.split_whitespace());
        words.find(|word| word.starts_with(&start)).expect("it has the address").to_owned()
    }

    /// A host's own link-local address.
    pub(crate) fn link_local(&self, host: u8) -> IpAddr {
        self.link_locals[usize::from(host) - 1]
    }

    fn find_link_local(&self, host: u8) -> Option<IpAddr> {
        let line = self
            .addresses(host)
            .into_iter()
            .find(|line| line.contains(" eth0 ") && line.contains(" fe80:"))?;
        let usable = !line.contains("tentative");
        let word = line.split_whitespace().find(|word| word.starts_with("fe80:") && usable)?;
        word.split('/').next()?.parse().ok()
    }

    /// Runs a program in a host.
    pub(crate) fn command(&self, host: u8, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host(host)]).arg(program);
        command
    }

    /// Runs virtual routers in a host.
    pub(crate) fn node(&self, host: u8, settings: Settings) -> Watched {
        let notices = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&notices);
        let node = self.within(host, move || {
            let tell = move |notice| told.lock().expect("told").push((Instant::now(), notice));
            Node::start(settings, Schedule::First(1), tell)
        });
        Watched { node: node.expect("a node"), notices }
    }

    /// Runs one virtual router in a host.
    pub(crate) fn router(&self, host: u8, instance: Instance) -> Watched {
        self.node(host, Settings { instances: vec![instance], groups: Vec::new() })
    }

    /// Runs a virtual router in a host as a program of its own, which can be killed.
    pub(crate) fn program(&self, host: u8, words: &[&str]) -> Program {
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

impl Drop for Lab {
    fn drop(&mut self) {
        for host in 0..=self.hosts {
            ip(&["netns", "delete", &self.host(host)]);
        }
    }
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
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).expect("it is there");
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

/// Waits until something is true.
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    eventually_or(|| what.to_owned(), condition);
}

#[track_caller]
pub(crate) fn eventually_or(what: impl FnOnce() -> String, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > PATIENCE {
            panic!("never came true: {}", what());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until there is something.
#[track_caller]
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    eventually(what, || {
        found = look();
        found.is_some()
    });
    found.expect("it came true")
}

/// Checks that something stays true for a while.
#[track_caller]
pub(crate) fn throughout(time: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while began.elapsed() < time {
        assert!(condition(), "not any more: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Says that a test needs something that is not here; where everything must be, that is a failure.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub(crate) fn skip(missing: &str) {
    eprintln!("skipped: {missing} is not here");
    assert!(std::env::var_os("REQUIRE_PEERS").is_none(), "{missing} is missing");
}

/// Whether a program can be found; if not, the test says so.
pub(crate) fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&paths).collect();
    folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.iter().any(|folder| folder.join(program).is_file())
}

fn ip(words: &[&str]) -> bool {
    Command::new("ip").args(words).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Name of a host's port on the bridge.
fn port(host: u8) -> String {
    format!("port{host}")
}

/// The host that is the bridge.
const SWITCH: u8 = 0;
const PATIENCE: Duration = Duration::from_secs(20);
