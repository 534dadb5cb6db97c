//! nginx's smooth weighted round robin as nginx does it: a walk over all servers for every pick.

use lvs_core::Algorithm;
use proptest::prelude::*;

use super::{Pair, Twin, Wish, steps, unlimited_wish};

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
    current: i64,
    down: bool,
    active: u32,
    inactive: u32,
}

/// The peers in the order they were added. The walk starts over whenever the servers that can be
/// used are others than at the pick before.
#[derive(Default)]
struct Nginx {
    peers: Vec<Peer>,
    deleted: Vec<Peer>,
    walked: Vec<u8>,
}

impl Nginx {
    fn peer(&mut self, server: u8) -> &mut Peer {
        let known = self.peers.iter_mut().chain(&mut self.deleted);
        known.into_iter().find(|peer| peer.server == server).expect("a server of the twin")
    }

    fn start_over(&mut self) {
        self.peers.iter_mut().for_each(|peer| peer.current = 0);
    }
}

impl Twin for Nginx {
    fn add(&mut self, server: u8, wish: Wish) {
        let peer = match self.deleted.iter().position(|peer| peer.server == server) {
            Some(place) => Peer { weight: wish.weight, ..self.deleted.swap_remove(place) },
            None => Peer { server, weight: wish.weight, current: 0, down: false, active: 0, inactive: 0 },
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

    fn open(&mut self) -> Option<u8> {
        let usable = |peer: &&mut Peer| peer.weight > 0 && !peer.down;
        let walked: Vec<u8> = self.peers.iter_mut().filter(usable).map(|peer| peer.server).collect();
        if walked != self.walked {
            self.start_over();
            self.walked = walked;
        }
        let mut total = 0;
        let mut best: Option<&mut Peer> = None;
        for peer in self.peers.iter_mut().filter(usable) {
            peer.current += i64::from(peer.weight);
            total += i64::from(peer.weight);
            if best.as_ref().is_none_or(|best| peer.current > best.current) {
                best = Some(peer);
            }
        }
        let best = best?;
        best.current -= total;
        best.active += 1;
        Some(best.server)
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
