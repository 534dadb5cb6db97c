//! Hosts that are network namespaces, with cables between them.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::peers::{is_installed, skip};

/// Hosts by number, each in a network namespace of its own. They go with the value, and everything in them.
pub struct Hosts {
    namespaces: Vec<String>,
}

impl Hosts {
    /// So many hosts without a network; `None` where the test may not make them, after saying so.
    pub fn new(count: usize) -> Option<Hosts> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        if !is_installed("ip") {
            skip("ip (iproute2)");
            return None;
        }
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = |number| format!("lab-{}-{serial}-{number}", std::process::id());
        let hosts = Hosts { namespaces: (0..count).map(name).collect() };
        if !hosts.namespaces.iter().all(|namespace| ip(&["netns", "add", namespace])) {
            skip("the right to make network namespaces (root)");
            return None;
        }
        for host in 0..count {
            hosts.run(host, &["link", "set", "lo", "up"]);
            hosts.within(host, || {
                // A link-local address that can be used at once, and no chatter.
                for (setting, value) in [("accept_dad", "0"), ("router_solicitations", "0")] {
                    for which in ["all", "default"] {
                        let path = format!("/proc/sys/net/ipv6/conf/{which}/{setting}");
                        std::fs::write(path, value).expect("a setting");
                    }
                }
            });
        }
        Some(hosts)
    }

    /// So many hosts, from number 1 on, with an interface `eth0` each on one bridge, which is in host
    /// [`BRIDGE`]; `None` as with [`Hosts::new`].
    pub fn on_a_bridge(count: usize) -> Option<Hosts> {
        let hosts = Hosts::new(1 + count)?;
        hosts.make_bridge("bridge");
        for host in 1..=count {
            hosts.plug(host, "bridge");
        }
        Some(hosts)
    }

    /// As many hosts on two bridges, with a cable between them: those of the first list are on one, the others
    /// on the other. [`Hosts::patch`] parts them.
    pub fn on_two_bridges(near: &[usize], far: &[usize]) -> Option<Hosts> {
        let hosts = Hosts::new(1 + near.len() + far.len())?;
        for (bridge, plugged) in [("near", near), ("far", far)] {
            hosts.make_bridge(bridge);
            for host in plugged {
                hosts.plug(*host, bridge);
            }
        }
        hosts.run(BRIDGE, &["link", "add", "patch", "type", "veth", "peer", "name", "end"]);
        hosts.run(BRIDGE, &["link", "set", "patch", "master", "near", "up"]);
        hosts.run(BRIDGE, &["link", "set", "end", "master", "far", "up"]);
        Some(hosts)
    }

    fn make_bridge(&self, name: &str) {
        self.run(BRIDGE, &["link", "add", name, "type", "bridge", "mcast_snooping", "0"]);
        self.run(BRIDGE, &["link", "set", name, "up"]);
    }

    fn plug(&self, host: usize, bridge: &str) {
        let (port, namespace) = (port(host), &self.namespaces[host]);
        let peer = ["type", "veth", "peer", "name", "eth0", "netns", namespace];
        self.run(BRIDGE, &[&["link", "add", &port][..], &peer].concat());
        self.run(BRIDGE, &["link", "set", &port, "master", bridge, "up"]);
        self.run(host, &["link", "set", "eth0", "up"]);
    }

    /// Cuts the cable of a host at the bridge's end, or mends it: `down` or `up`.
    pub fn cable(&self, host: usize, state: &str) {
        self.run(BRIDGE, &["link", "set", &port(host), state]);
    }

    /// Cuts the cable between two bridges, or mends it: `down` or `up`.
    pub fn patch(&self, state: &str) {
        self.run(BRIDGE, &["link", "set", "patch", state]);
    }

    /// Name of a host's namespace.
    pub fn namespace(&self, host: usize) -> &str {
        &self.namespaces[host]
    }

    /// Has `ip` do something in a host.
    pub fn run(&self, host: usize, words: &[&str]) {
        let namespace = self.namespace(host);
        assert!(ip(&[&["-n", namespace][..], words].concat()), "ip {}", words.join(" "));
    }

    /// A program, to be run in a host.
    pub fn command(&self, host: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.namespace(host)]).arg(program);
        command
    }

    /// Does something in a host; sockets and threads made there stay there.
    pub fn within<T: Send>(&self, host: usize, what: impl FnOnce() -> T + Send) -> T {
        let work = self.inside(host, what);
        thread::scope(|scope| scope.spawn(work).join()).expect("done")
    }

    /// Begins to do something in a host.
    pub fn begin_within<T: Send + 'static>(
        &self,
        host: usize,
        what: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        thread::spawn(self.inside(host, what))
    }

    fn inside<T, W: FnOnce() -> T>(&self, host: usize, what: W) -> impl FnOnce() -> T + use<T, W> {
        let path = format!("/run/netns/{}", self.namespace(host));
        move || {
            let namespace = File::open(path).expect("a namespace");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("moved");
            what()
        }
    }

    /// Addresses of a host as `ip` shows them: each its line.
    pub fn addresses(&self, host: usize) -> Vec<String> {
        let output = Command::new("ip").args(["-n", self.namespace(host), "-o", "address", "show"]).output();
        let text = String::from_utf8(output.expect("ip").stdout).expect("text");
        text.lines().map(str::to_owned).collect()
    }

    /// Whether a host has an address on an interface.
    pub fn has(&self, host: usize, address: &str) -> bool {
        let wanted = format!(" {address}/");
        self.addresses(host).iter().any(|line| line.contains(&wanted))
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            ip(&["netns", "delete", namespace]);
        }
    }
}

fn ip(words: &[&str]) -> bool {
    Command::new("ip").args(words).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Name of a host's port on its bridge.
fn port(host: usize) -> String {
    format!("port{host}")
}

/// The host that is the bridge, or both of them.
pub const BRIDGE: usize = 0;
