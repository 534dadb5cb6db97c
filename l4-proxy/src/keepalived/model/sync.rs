//! `lvs_sync_daemon`, and the words of our own that it needs: `lvs_sync_key`, `lvs_sync_peers`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::build::{Build, address};
use crate::keepalived::complaint::Word;
use crate::keepalived::schema;
use crate::keepalived::tree::Node;

/// With whom, where and how templates are shared.
#[derive(Clone, PartialEq, Eq)]
pub struct SyncDaemon {
    /// Interface that the others are on.
    pub interface: String,
    /// While this VRRP instance is master, this director tells; otherwise it hears. Without, it does
    /// both.
    pub instance: Option<String>,
    /// Directors with another number do not hear each other.
    pub id: u8,
    /// Longest message.
    pub size: usize,
    /// Port of all.
    pub port: u16,
    /// Routers that a multicast message may pass, and one.
    pub ttl: u8,
    /// Where messages go without peers.
    pub group: IpAddr,
    /// Messages go to these, and come from nobody else.
    pub peers: Vec<IpAddr>,
    /// What messages are signed with.
    pub key: Vec<u8>,
}

/// Without the key.
impl fmt::Debug for SyncDaemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SyncDaemon { interface, instance, id, size, port, ttl, group, peers, key: _ } = self;
        f.debug_struct("SyncDaemon")
            .field("interface", interface)
            .field("instance", instance)
            .field("id", id)
            .field("size", size)
            .field("port", port)
            .field("ttl", ttl)
            .field("group", group)
            .field("peers", peers)
            .finish_non_exhaustive()
    }
}

impl Build<'_> {
    pub(super) fn sync_daemon(&mut self) -> Option<SyncDaemon> {
        let blocks = self.blocks("global_defs");
        let find = |name: &str| blocks.iter().find_map(|block| block.child(name));
        let Some(node) = find("lvs_sync_daemon") else {
            for word in ["lvs_sync_key", "lvs_sync_peers"].into_iter().filter_map(find) {
                let message = format!("{} has no effect without lvs_sync_daemon", word.name());
                self.unfit.push(word.blame(message).only_warns());
            }
            return None;
        };
        let mut daemon = SyncDaemon {
            interface: node.text(1)?.to_owned(),
            instance: None,
            id: 0,
            size: SIZE,
            port: PORT,
            ttl: 1,
            group: GROUP.into(),
            peers: Vec::new(),
            key: Vec::new(),
        };
        self.sync_words(&node.words[2..], &mut daemon);
        if let Some(peers) = find("lvs_sync_peers") {
            daemon.peers = peers.children().iter().filter_map(|peer| address(peer, 0)).collect();
            if daemon.peers.iter().any(|peer| peer.is_ipv4() != daemon.peers[0].is_ipv4()) {
                self.complain(peers.blame("lvs_sync_peers are of one address family"));
            }
        }
        let Some(key) = find("lvs_sync_key") else {
            let message = "templates are not synchronised without a key: add lvs_sync_key file:PATH, hex:BYTES or a text";
            self.unfit.push(node.blame(message).only_warns());
            return None;
        };
        daemon.key = self.sync_key(key)?;
        Some(daemon)
    }

    /// `[[inst] INSTANCE] [id N] [maxlen N] [port N] [ttl N] [group ADDRESS]`
    fn sync_words(&mut self, words: &[Word], daemon: &mut SyncDaemon) {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let name = word.text.as_str();
            if !["inst", "id", "maxlen", "port", "ttl", "group"].contains(&name) {
                self.sync_instance(word, daemon);
                continue;
            }
            let Some(value) = words.next() else {
                self.complain(word.blame(format!("{name} needs a value")));
                return;
            };
            let mut number = |least: i64, most: i64| {
                let number = schema::integer(&value.text).filter(|number| (least..=most).contains(number));
                if number.is_none() {
                    self.complain(value.blame(format!("wanted a number from {least} to {most}")));
                }
                number
            };
            match name {
                "inst" => self.sync_instance(value, daemon),
                "id" => daemon.id = number(0, 255).map_or(daemon.id, |number| number as u8),
                "maxlen" => daemon.size = number(256, 65_507).map_or(daemon.size, |number| number as usize),
                "port" => daemon.port = number(1, 65_535).map_or(daemon.port, |number| number as u16),
                "ttl" => daemon.ttl = number(1, 255).map_or(daemon.ttl, |number| number as u8),
                _ => match value.text.parse::<IpAddr>().ok().filter(IpAddr::is_multicast) {
                    Some(group) => daemon.group = group,
                    None => self.complain(value.blame("wanted a multicast address")),
                },
            }
        }
    }

    fn sync_instance(&mut self, word: &Word, daemon: &mut SyncDaemon) {
        if self.blocks("vrrp_instance").iter().all(|node| node.text(1) != Some(&word.text)) {
            self.complain(word.blame(format!("there is no vrrp_instance {}", word.text)));
        }
        daemon.instance = Some(word.text.clone());
    }

    fn sync_key(&mut self, node: &Node) -> Option<Vec<u8>> {
        let text = node.text(1)?;
        let key = if let Some(path) = text.strip_prefix("file:") {
            std::fs::read(path)
                .map(|bytes| bytes.trim_ascii().to_vec())
                .map_err(|error| format!("{path}: {error}"))
        } else if let Some(digits) = text.strip_prefix("hex:") {
            hex(digits).ok_or_else(|| "wanted an even number of hexadecimal digits".to_owned())
        } else {
            Ok(text.as_bytes().to_vec())
        };
        match key {
            Ok(key) if key.len() >= KEY_MIN => Some(key),
            Ok(_) => {
                self.complain(node.blame(format!("a key has at least {KEY_MIN} bytes")));
                None
            }
            Err(error) => {
                self.complain(node.blame(error));
                None
            }
        }
    }
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok()
        })
        .collect()
}

/// IPVS's.
const PORT: u16 = 8848;
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 81);

/// What an Ethernet frame has room for.
const SIZE: usize = 1472;

const KEY_MIN: usize = 16;
