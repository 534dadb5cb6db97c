//! From the checked tree to the model: what the blocks have in common.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lvs_core::{Forwarding, Tunnel, TunnelChecksum};

use super::{Model, NumberFile, Script, User};
use crate::keepalived::complaint::Complaint;
use crate::keepalived::schema;
use crate::keepalived::tree::Node;
use crate::script::{self, Account};
use crate::users::Names;

/// Reads the model out of statements that fit their tables.
///
/// What is `unfit` is well written, and this director does not do it.
pub(crate) fn build(nodes: &[Node], complaints: &mut Vec<Complaint>, unfit: &mut Vec<Complaint>) -> Model {
    let mut build = Build { nodes, complaints, unfit, names: Names::default() };
    build.refuse_blocks();
    let global = build.global();
    let services = build.services();
    let vrrp = build.vrrp(&global);
    Model { global, services, vrrp }
}

/// The tree that is read, and what is found wrong with it.
pub(super) struct Build<'a> {
    pub(super) nodes: &'a [Node],
    pub(super) complaints: &'a mut Vec<Complaint>,
    pub(super) unfit: &'a mut Vec<Complaint>,
    names: Names,
}

impl<'a> Build<'a> {
    /// Tells of whole blocks that this director does nothing with.
    fn refuse_blocks(&mut self) {
        for (name, why) in REFUSED {
            for node in self.blocks(name) {
                self.unfit.push(node.blame(format!("{name} is not supported: {why}")));
            }
        }
        self.tell_idle_blocks();
    }

    pub(super) fn complain(&mut self, complaint: Complaint) {
        self.complaints.push(complaint);
    }

    /// The blocks of this name, the first word after it being theirs.
    pub(super) fn blocks(&self, name: &str) -> Vec<&'a Node> {
        self.nodes.iter().filter(|node| node.name() == name).collect()
    }

    /// The blocks of this name; complains of a second one with the same first value.
    pub(super) fn unique_blocks(&mut self, name: &str) -> Vec<&'a Node> {
        let mut found: Vec<&'a Node> = Vec::new();
        for node in self.blocks(name) {
            match found.iter().find(|other| other.text(1) == node.text(1)) {
                Some(first) => {
                    let (label, line) = (node.text(1).unwrap_or_default(), first.words[0].line.number);
                    self.complain(node.blame(format!("{name} {label} was defined before, in line {line}")));
                }
                None => found.push(node),
            }
        }
        found
    }

    /// A command and who runs it.
    pub(super) fn script(&mut self, node: &Node) -> Option<Script> {
        let user = self.user(node, 2);
        self.script_of(node, user)
    }

    /// A command that this user runs.
    pub(super) fn script_of(&mut self, node: &Node, user: Option<User>) -> Option<Script> {
        let Some(words) = node.text(1).and_then(Script::parse) else {
            let message = format!("{} needs a command, with quotes that are closed", node.name());
            self.complain(node.blame(message));
            return None;
        };
        let script = Script { words, user };
        // It may come before it is needed, from a disk that is not there yet.
        if let Err(error) = script::look(&script, &self.account()) {
            let message = format!("{} cannot be run: {error}", script.words[0]);
            self.unfit.push(node.blame(message).only_warns());
        }
        Some(script)
    }

    /// The user and group that begin at a word.
    pub(super) fn user(&mut self, node: &Node, index: usize) -> Option<User> {
        let user = user(node, index)?;
        // Its programs alone fail without it, and only where root runs them: elsewhere nobody needs it.
        let known = script::know(&user, &mut self.names);
        if let Err(error) = &known {
            self.unfit.push(node.blame(error.to_string()).only_warns());
        }
        Some(known.unwrap_or(user))
    }

    /// Whom programs run as that name nobody.
    fn account(&self) -> Account {
        let words = self.blocks("global_defs").into_iter().flat_map(Node::children);
        let (mut script_user, mut security) = (None, false);
        for word in words {
            match word.name() {
                "script_user" => script_user = user(word, 1),
                "enable_script_security" => security = true,
                _ => {}
            }
        }
        Account::new(script_user, security)
    }

    /// `NAT`, `DR`, or `TUN` with its options.
    pub(super) fn forwarding(&mut self, node: &Node) -> Option<Forwarding> {
        let words: Vec<&str> = node.words[1..].iter().map(|word| word.text.as_str()).collect();
        let found = match words[..] {
            ["NAT"] => Some(Forwarding::Masquerading),
            ["DR"] => Some(Forwarding::Gatewaying),
            ["TUN", ref options @ ..] => tunnel(options).map(Forwarding::Tunneling),
            _ => None,
        };
        if found.is_none() {
            let wanted = "NAT, DR or TUN [type ipip|gue port N|gre] [nocsum|csum|remcsum]";
            self.complain(node.blame(format!("invalid forwarding method: wanted {wanted}")));
        }
        found
    }

    /// The files with numbers, by name.
    pub(super) fn number_files(&mut self) -> Vec<(String, NumberFile)> {
        let mut nodes = self.unique_blocks("track_file");
        nodes.extend(self.unique_blocks("vrrp_track_file"));
        let mut files = Vec::new();
        for node in nodes {
            let Some(path) = node.child("file").and_then(|file| file.text(1)) else {
                self.complain(node.blame("the track_file names no file"));
                continue;
            };
            let weight = node.child("weight").map_or(1, weight);
            let name = node.text(1).unwrap_or_default().to_owned();
            files.push((name, NumberFile { path: path.into(), weight }));
        }
        files
    }
}

fn tunnel(options: &[&str]) -> Option<Tunnel> {
    let (kind, options) = match options {
        ["type", kind @ ("ipip" | "gre"), rest @ ..] => (*kind, rest),
        ["type", "gue", "port", port, rest @ ..] => {
            let port = port.parse().ok().filter(|port| *port != 0)?;
            return Some(Tunnel::Gue { port, checksum: checksum(rest)? });
        }
        [] => ("ipip", &[] as &[&str]),
        _ => return None,
    };
    match (kind, checksum(options)?) {
        ("ipip", TunnelChecksum::Absent) => Some(Tunnel::Ipip),
        ("gre", checksum) if checksum != TunnelChecksum::Remote => Some(Tunnel::Gre { checksum }),
        _ => None,
    }
}

fn checksum(options: &[&str]) -> Option<TunnelChecksum> {
    match options {
        [] | ["nocsum"] => Some(TunnelChecksum::Absent),
        ["csum"] => Some(TunnelChecksum::Present),
        ["remcsum"] => Some(TunnelChecksum::Remote),
        _ => None,
    }
}

/// A number that may be turned over by `reverse`.
pub(super) fn weight(node: &Node) -> i64 {
    let number = integer(node, 1).unwrap_or_default();
    if node.text(2) == Some("reverse") { -number } else { number }
}

fn user(node: &Node, index: usize) -> Option<User> {
    let user = node.text(index)?.to_owned();
    Some(User { user, group: node.text(index + 1).map(str::to_owned) })
}

// What follows reads values whose kind the tables have checked; none stands for absence.

pub(super) fn integer(node: &Node, index: usize) -> Option<i64> {
    node.text(index).and_then(schema::integer)
}

/// A number that the table keeps below 2^32.
pub(super) fn count(node: &Node, index: usize) -> Option<u32> {
    integer(node, index).and_then(|number| u32::try_from(number).ok())
}

pub(super) fn duration(node: &Node) -> Option<Duration> {
    node.text(1).and_then(schema::seconds).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

/// Yes where no value is given.
pub(super) fn switched_on(node: &Node) -> bool {
    node.text(1).and_then(schema::boolean).unwrap_or(true)
}

pub(super) fn address(node: &Node, index: usize) -> Option<IpAddr> {
    node.text(index).and_then(|text| text.parse().ok())
}

/// An address and a port, which is 0 if there is none.
pub(super) fn endpoint(node: &Node, index: usize) -> Option<SocketAddr> {
    let port = node.text(index + 1).and_then(schema::port).unwrap_or_default();
    Some(SocketAddr::new(address(node, index)?, port))
}

pub(super) fn text(node: &Node) -> Option<String> {
    node.text(1).map(str::to_owned)
}

/// Blocks and words outside of them that would change what is done, and why they do not here.
const REFUSED: [(&str, &str); 6] = [
    ("bfd_instance", "this director speaks no BFD"),
    ("static_ipaddress", "let the system's network configuration give addresses"),
    ("static_routes", "let the system's network configuration make routes"),
    ("static_rules", "let the system's network configuration make rules"),
    ("net_namespace", "start the director there, with ip netns exec"),
    ("net_namespace_ipvs", "start the director there, with ip netns exec"),
];
