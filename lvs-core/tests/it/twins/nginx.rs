//! nginx's smooth weighted round robin as nginx does it: a walk over all servers for every pick.

use lvs_core::Algorithm;
use proptest::prelude::*;

use super::{Call, Pair, Twin, Wish, steps, unlimited_wish};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn swrr_picks_as_its_twin(steps in steps(unlimited_wish().boxed())) {
        Pair::new(Algorithm::Swrr, Nginx::default()).play(steps)?;
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
#[derive(Default)]
struct Nginx {
    peers: Vec<Peer>,
    deleted: Vec<Peer>,
    walks: Vec<Walk>,
}

/// Servers with nginx's `current_weight`.
struct Walk {
    servers: Vec<u8>,
    current: Vec<i64>,
}

impl Nginx {
    fn peer(&mut self, server: u8) -> &mut Peer {
        let known = self.peers.iter_mut().chain(&mut self.deleted);
        known.into_iter().find(|peer| peer.server == server).expect("a server of the twin")
    }

    /// A service that is built begins with all servers that have a weight.
    fn start_over(&mut self) {
        self.walks.clear();
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

    fn open(&mut self, _call: &Call) -> Option<u8> {
        let usable = self.peers.iter().filter(|peer| peer.weight > 0 && !peer.down);
        let servers: Vec<u8> = usable.map(|peer| peer.server).collect();
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
        self.peer(servers[best]).active += 1;
        Some(servers[best])
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
