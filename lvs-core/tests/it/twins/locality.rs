//! `lblc` and `lblcr` as the kernel has them.

use std::collections::BTreeMap;

use lvs_core::Algorithm;
use proptest::prelude::*;

use super::kernel::{Kernel, Node, Rule, cheapest, weighted_connections};
use super::{Call, Pair, limited_wish, steps};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lblc_picks_as_its_twin(steps in steps(limited_wish().boxed())) {
        Pair::new(Algorithm::Lblc, Kernel::new(Lblc::default())).play(steps)?;
    }

    #[test]
    fn lblcr_picks_as_its_twin(steps in steps(limited_wish().boxed())) {
        Pair::new(Algorithm::Lblcr, Kernel::new(Lblcr::default())).play(steps)?;
    }
}

const DAY: u64 = 86_400;

/// When the table was last gone through: every half hour since the first pick.
#[derive(Default)]
struct Timer {
    began: Option<u64>,
}

impl Timer {
    fn last_check(&mut self, now: u64) -> u64 {
        let began = *self.began.get_or_insert(now);
        now - (now - began) % 1800
    }
}

fn place_of(list: &[Node], server: u8) -> Option<usize> {
    list.iter().position(|node| node.server == server)
}

fn is_busy(list: &[Node], place: usize) -> bool {
    let half_idle = |node: &Node| !node.down && node.wish.weight > 0 && node.active * 2 < node.wish.weight;
    list[place].active > list[place].wish.weight && list.iter().any(half_idle)
}

/// Per destination a server, and when it was last used.
#[derive(Default)]
struct Lblc {
    cache: BTreeMap<u32, (u8, u64)>,
    timer: Timer,
}

impl Rule for Lblc {
    fn pick(&mut self, list: &[Node], call: &Call) -> Option<usize> {
        let check = self.timer.last_check(call.now);
        self.cache.retain(|_, (_, used)| *used + DAY >= check);
        let cached = self.cache.get_mut(&call.destination());
        if let Some((server, used)) = cached {
            *used = call.now;
            let place = place_of(list, *server);
            let good =
                |place: &usize| !list[*place].down && list[*place].wish.weight > 0 && !is_busy(list, *place);
            if let Some(place) = place.filter(good) {
                return Some(place);
            }
        }
        let place = cheapest(list, weighted_connections)?;
        self.cache.insert(call.destination(), (list[place].server, call.now));
        Some(place)
    }
}

#[derive(Default)]
struct Lblcr {
    cache: BTreeMap<u32, Set>,
    timer: Timer,
}

struct Set {
    /// Newest member first.
    servers: Vec<u8>,
    modified: u64,
    used: u64,
}

impl Set {
    fn minimum(&self, list: &[Node]) -> Option<usize> {
        let mut least: Option<usize> = None;
        for place in self.servers.iter().filter_map(|server| place_of(list, *server)) {
            let node = &list[place];
            if !node.can_serve() || node.wish.weight == 0 {
                continue;
            }
            let is_less = |least: usize| {
                list[least].overhead() * u64::from(node.wish.weight)
                    > node.overhead() * u64::from(list[least].wish.weight)
            };
            if least.is_none_or(is_less) {
                least = Some(place);
            }
        }
        least
    }

    /// The member to drop: one that was deleted, else the one with the most load for its weight.
    fn worst(&self, list: &[Node]) -> Option<u8> {
        let gone = self.servers.iter().find(|server| place_of(list, **server).is_none());
        if let Some(gone) = gone {
            return Some(*gone);
        }
        let mut most: Option<usize> = None;
        for place in self.servers.iter().filter_map(|server| place_of(list, *server)) {
            let node = &list[place];
            let is_more = |most: usize| {
                list[most].overhead() * u64::from(node.wish.weight)
                    < node.overhead() * u64::from(list[most].wish.weight)
            };
            if node.wish.weight > 0 && most.is_none_or(is_more) {
                most = Some(place);
            }
        }
        most.map(|place| list[place].server)
    }
}

impl Rule for Lblcr {
    fn pick(&mut self, list: &[Node], call: &Call) -> Option<usize> {
        let now = call.now;
        let check = self.timer.last_check(now);
        self.cache.retain(|_, set| set.used + DAY >= check);
        if let Some(set) = self.cache.get_mut(&call.destination()) {
            set.used = now;
            let minimum = set.minimum(list);
            if set.servers.len() > 1
                && now > set.modified + DAY
                && let Some(worst) = set.worst(list)
            {
                set.servers.retain(|server| *server != worst);
                set.modified = now;
            }
            if let Some(place) = minimum.filter(|place| !is_busy(list, *place)) {
                return Some(place);
            }
            let place = cheapest(list, weighted_connections)?;
            if !set.servers.contains(&list[place].server) {
                set.servers.insert(0, list[place].server);
                set.modified = now;
            }
            return Some(place);
        }
        let place = cheapest(list, weighted_connections)?;
        let set = Set { servers: vec![list[place].server], modified: now, used: now };
        self.cache.insert(call.destination(), set);
        Some(place)
    }
}
