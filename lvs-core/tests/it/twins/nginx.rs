//! nginx's methods as nginx has them: smooth weighted round robin by a walk over all servers for
//! every pick, hashes over bytes that are put together, a ring that is laid out for every pick.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use lvs_core::Algorithm;
use proptest::prelude::*;

use super::{Call, Pair, Twin, Wish, steps, unlimited_wish};
use crate::setup::address;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn swrr_picks_as_its_twin(steps in steps(unlimited_wish().boxed())) {
        Pair::new(Algorithm::Swrr, Nginx::new(Method::Turns)).play(steps)?;
    }

    #[test]
    fn ip_hash_picks_as_its_twin(steps in steps(unlimited_wish().boxed())) {
        Pair::new(Algorithm::IpHash, Nginx::new(Method::Tries(ip_hash))).play(steps)?;
    }

    #[test]
    fn hash_picks_as_its_twin(steps in steps(unlimited_wish().boxed())) {
        Pair::new(Algorithm::Hash, Nginx::new(Method::Tries(hash))).play(steps)?;
    }

    #[test]
    fn least_conn_picks_as_its_twin(steps in steps(unlimited_wish().boxed())) {
        Pair::new(Algorithm::LeastConn, Nginx::new(Method::LeastConn)).play(steps)?;
    }
}

proptest! {
    // A ring for every pick takes its time.
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn hash_consistent_picks_as_its_twin(steps in steps(light_wish().boxed())) {
        Pair::new(Algorithm::HashConsistent, Nginx::new(Method::Tries(ring))).play(steps)?;
    }
}

struct Peer {
    server: u8,
    weight: u32,
    down: bool,
    active: u32,
    inactive: u32,
}

/// The peers in the order they were added. Each set of servers that can be used has a walk of its
/// own; the four that began last are remembered.
struct Nginx {
    peers: Vec<Peer>,
    deleted: Vec<Peer>,
    walks: Vec<Walk>,
    method: Method,
    /// What `least_conn` adds up for its deals among equals.
    credit: BTreeMap<u8, i64>,
}

enum Method {
    Turns,
    /// The servers that are looked at for this call, in their order; then turns.
    Tries(fn(&[Peer], &Call) -> Vec<u8>),
    LeastConn,
}

fn light_wish() -> impl Strategy<Value = Wish> {
    (0..4u32).prop_map(|weight| Wish { weight, upper: 0, lower: 0 })
}

/// How often nginx looks before it deals turns.
const TRIES: usize = 21;

fn at_weight(peers: &[Peer], hash: u32) -> Option<u8> {
    let total: u32 = peers.iter().map(|peer| peer.weight).sum();
    let mut rest = hash.checked_rem(total)?;
    for peer in peers {
        if rest < peer.weight {
            return Some(peer.server);
        }
        rest -= peer.weight;
    }
    None
}

fn ip_hash(peers: &[Peer], call: &Call) -> Vec<u8> {
    let mut hash = 89;
    let hashes = (0..TRIES).map(|_| {
        for octet in &call.source().to_be_bytes()[..3] {
            hash = (hash * 113 + u32::from(*octet)) % 6271;
        }
        hash
    });
    hashes.filter_map(|hash| at_weight(peers, hash)).collect()
}

/// CRC-32, bit by bit.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

fn hash(peers: &[Peer], call: &Call) -> Vec<u8> {
    let key = Ipv4Addr::from(call.source()).to_string();
    let mut hash = 0;
    let hashes = (0..TRIES).map(|attempt| {
        let text = if attempt == 0 { key.clone() } else { format!("{attempt}{key}") };
        hash += crc32(text.as_bytes()) >> 16 & 0x7fff;
        hash
    });
    hashes.filter_map(|hash| at_weight(peers, hash)).collect()
}

/// The points of a ring, with their servers. Of points with one hash that of the server listed first
/// counts.
pub(super) fn points(servers: impl Iterator<Item = (u8, u32)>) -> BTreeMap<u32, u8> {
    let mut points = BTreeMap::new();
    for (server, weight) in servers {
        let name = format!("{}\0{}", address(server).ip(), address(server).port());
        let mut hash = 0u32;
        for _ in 0..weight * 160 {
            hash = crc32(&[name.as_bytes(), &hash.to_le_bytes()].concat());
            points.entry(hash).or_insert(server);
        }
    }
    points
}

fn ring(peers: &[Peer], call: &Call) -> Vec<u8> {
    let points = points(peers.iter().map(|peer| (peer.server, peer.weight)));
    let key = crc32(Ipv4Addr::from(call.source()).to_string().as_bytes());
    points.range(key..).chain(points.range(..key)).take(TRIES).map(|(_, server)| *server).collect()
}

/// Servers with nginx's `current_weight`.
struct Walk {
    servers: Vec<u8>,
    current: Vec<i64>,
}

impl Nginx {
    fn new(method: Method) -> Nginx {
        let (peers, deleted, walks) = (Vec::new(), Vec::new(), Vec::new());
        Nginx { peers, deleted, walks, method, credit: BTreeMap::new() }
    }

    fn usable(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(|peer| peer.weight > 0 && !peer.down)
    }

    /// The next turn, if anybody can take it.
    fn deal(&mut self) -> Option<u8> {
        let servers: Vec<u8> = self.usable().map(|peer| peer.server).collect();
        if servers.is_empty() {
            return None;
        }
        if !self.walks.iter().any(|walk| walk.servers == servers) {
            self.begin(servers.clone());
        }
        let walk = self.walks.iter_mut().find(|walk| walk.servers == servers).expect("a walk");
        let mut best = 0;
        let mut total = 0;
        for (place, server) in servers.iter().enumerate() {
            let peer = self.peers.iter().find(|peer| peer.server == *server).expect("a listed server");
            walk.current[place] += i64::from(peer.weight);
            total += i64::from(peer.weight);
            if walk.current[place] > walk.current[best] {
                best = place;
            }
        }
        walk.current[best] -= total;
        Some(servers[best])
    }

    fn least_conn(&mut self) -> Option<u8> {
        let conns = |peer: &Peer| peer.active + peer.inactive;
        let no_more = |one: &Peer, other: &Peer| conns(one) * other.weight <= conns(other) * one.weight;
        let is_least = |peer: &&Peer| self.usable().all(|other| no_more(peer, other));
        let least: Vec<(u8, u32)> =
            self.usable().filter(is_least).map(|peer| (peer.server, peer.weight)).collect();
        if least.len() < 2 {
            return least.first().map(|(server, _)| *server);
        }
        let mut best = least[0].0;
        for (server, weight) in &least {
            *self.credit.entry(*server).or_default() += i64::from(*weight);
            if self.credit[server] > self.credit[&best] {
                best = *server;
            }
        }
        let total: i64 = least.iter().map(|(_, weight)| i64::from(*weight)).sum();
        *self.credit.entry(best).or_default() -= total;
        Some(best)
    }

    fn peer(&mut self, server: u8) -> &mut Peer {
        let known = self.peers.iter_mut().chain(&mut self.deleted);
        known.into_iter().find(|peer| peer.server == server).expect("a server of the twin")
    }

    /// A service that is built begins with all servers that have a weight.
    fn start_over(&mut self) {
        self.walks.clear();
        self.credit.clear();
        let servers = self.peers.iter().filter(|peer| peer.weight > 0).map(|peer| peer.server).collect();
        self.begin(servers);
    }

    fn begin(&mut self, servers: Vec<u8>) {
        let current = vec![0; servers.len()];
        self.walks.insert(0, Walk { servers, current });
        self.walks.truncate(4);
    }
}

impl Twin for Nginx {
    fn add(&mut self, server: u8, wish: Wish) {
        let peer = match self.deleted.iter().position(|peer| peer.server == server) {
            Some(place) => Peer { weight: wish.weight, ..self.deleted.swap_remove(place) },
            None => Peer { server, weight: wish.weight, down: false, active: 0, inactive: 0 },
        };
        self.peers.push(peer);
        self.start_over();
    }

    fn edit(&mut self, server: u8, wish: Wish) {
        let before = std::mem::replace(&mut self.peer(server).weight, wish.weight);
        if before != wish.weight {
            self.start_over();
        }
    }

    fn delete(&mut self, server: u8) {
        let place = self.peers.iter().position(|peer| peer.server == server).expect("a listed server");
        let peer = self.peers.remove(place);
        if peer.active + peer.inactive > 0 {
            self.deleted.push(peer);
        }
        self.start_over();
    }

    fn set_down(&mut self, server: u8, down: bool) {
        self.peer(server).down = down;
    }

    fn open(&mut self, call: &Call) -> Option<u8> {
        let server = match &self.method {
            Method::Turns => self.deal(),
            Method::LeastConn => self.least_conn(),
            Method::Tries(candidates) => {
                let candidates = candidates(&self.peers, call);
                let found =
                    candidates.into_iter().find(|server| self.usable().any(|peer| peer.server == *server));
                found.or_else(|| self.deal())
            }
        }?;
        self.peer(server).active += 1;
        Some(server)
    }

    fn close(&mut self, server: u8) {
        let peer = self.peer(server);
        peer.active -= 1;
        peer.inactive += 1;
    }

    fn expire(&mut self, server: u8, closed: bool) {
        let peer = self.peer(server);
        if closed {
            peer.inactive -= 1;
        } else {
            peer.active -= 1;
        }
        self.deleted.retain(|peer| peer.active + peer.inactive > 0);
    }

    fn state(&self, server: u8) -> (u32, u32, bool) {
        let peer = self.peers.iter().find(|peer| peer.server == server).expect("a listed server");
        (peer.active, peer.inactive, false)
    }
}
