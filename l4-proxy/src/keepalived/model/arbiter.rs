//! The `arbiter` of a `vrrp_instance`: who has a say, how long its consent lasts, and what becomes of the
//! addresses when it cannot be asked.

use std::time::Duration;

use super::build::{Build, address, integer, text};
use super::router::{Arbiter, ArbiterKind, Etcd, Instance, OnArbiterLoss, SyncGroup, Vrrp};
use crate::keepalived::tree::Node;

impl Build<'_> {
    pub(super) fn arbiter(&mut self, node: &Node, name: &str) -> Option<Arbiter> {
        let kind = match (node.child("etcd"), node.child("ping")) {
            (Some(etcd), None) => ArbiterKind::Etcd(self.etcd(node, etcd)?),
            (None, Some(ping)) => ArbiterKind::Ping(address(ping, 1)?),
            _ => {
                // One that was complained of already is not missing.
                if !node.mentions("etcd") && !node.mentions("ping") || node.child("etcd").is_some() {
                    self.complain(node.blame(format!("the arbiter of {name} needs either etcd or ping")));
                }
                return None;
            }
        };
        let keeps = node
            .child("on_arbiter_loss")
            .and_then(text)
            .is_some_and(|word| word.eq_ignore_ascii_case("keep"));
        let ttl = node.child("ttl").and_then(|child| integer(child, 1));
        Some(Arbiter {
            kind,
            ttl: ttl.and_then(|ttl| u64::try_from(ttl).ok()).map_or(TTL, Duration::from_secs),
            on_loss: if keeps { OnArbiterLoss::Keep } else { OnArbiterLoss::Yield },
        })
    }

    fn etcd(&mut self, node: &Node, etcd: &Node) -> Option<Etcd> {
        for word in &etcd.words[1..] {
            if !["http://", "https://"].iter().any(|scheme| word.text.starts_with(scheme)) {
                self.complain(word.blame(format!("\"{}\" is no http://HOST:PORT", word.text)));
                return None;
            }
        }
        let Some(key) = node.child("key").and_then(text) else {
            if !node.mentions("key") {
                self.complain(
                    node.blame("etcd needs a key, the same on all directors that share the addresses"),
                );
            }
            return None;
        };
        let file = |name: &str| node.child(name).and_then(text).map(Into::into);
        let certificate = match (file("cert_file"), file("key_file")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                self.complain(node.blame("cert_file and key_file are needed together"));
                return None;
            }
        };
        let login = match (node.child("user").and_then(text), node.child("password")) {
            (Some(user), Some(password)) => Some((user, self.password(password)?)),
            (None, None) => None,
            _ => {
                self.complain(node.blame("user and password are needed together"));
                return None;
            }
        };
        if let (Some(_), Some(word)) =
            (&login, etcd.words.iter().find(|word| word.text.starts_with("http://")))
        {
            self.complain(word.blame("the password goes there in the clear").only_warns());
        }
        let endpoints = etcd.words[1..].iter().map(|word| word.text.clone()).collect();
        Some(Etcd { endpoints, key, ca_file: file("ca_file"), certificate, login })
    }

    /// A text, or `file:PATH` for what a file holds.
    fn password(&mut self, node: &Node) -> Option<String> {
        let word = text(node)?;
        let Some(path) = word.strip_prefix("file:") else { return Some(word) };
        match std::fs::read_to_string(path) {
            Ok(text) => Some(text.trim().to_owned()),
            Err(error) => {
                self.complain(node.blame(format!("{path}: {error}")));
                None
            }
        }
    }

    /// Those who are master together ask together.
    pub(super) fn check_arbiters(&mut self, node: &Node, group: &SyncGroup, vrrp: &Vrrp) {
        let member = |name: &String| vrrp.instances.iter().find(|instance| instance.name == *name);
        let mut arbiters = group.members.iter().filter_map(member).map(|Instance { arbiter, .. }| arbiter);
        let first = arbiters.next();
        if arbiters.any(|arbiter| Some(arbiter) != first) {
            self.complain(node.blame(format!("all members of {} need the same arbiter", group.name)));
        }
    }
}

/// How long a consent lasts where nothing is said.
const TTL: Duration = Duration::from_secs(5);
