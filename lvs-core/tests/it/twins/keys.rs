//! Hashing beyond IPVS and nginx: `rendezvous` and `hash-bounded`, with everything worked out for
//! every pick.

use std::net::Ipv4Addr;

use lvs_core::Algorithm;
use proptest::prelude::*;
use siphasher::sip::SipHasher13;

use super::kernel::{Kernel, Node, Rule};
use super::nginx::{crc32, points};
use super::{Call, Pair, Wish, limited_wish, steps};
use crate::setup::address;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rendezvous_picks_as_its_twin(steps in steps(limited_wish().boxed())) {
        Pair::new(Algorithm::Rendezvous, Kernel::new(Rendezvous)).play(steps)?;
    }
}

proptest! {
    // A ring for every pick takes its time.
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn hash_bounded_picks_as_its_twin(steps in steps(light_wish().boxed()), slack in 0..200u16) {
        Pair::new(Algorithm::HashBounded { slack }, Kernel::new(Bounded { slack: slack.into() })).play(steps)?;
    }
}

fn light_wish() -> impl Strategy<Value = Wish> {
    (0..4u32, limited_wish()).prop_map(|(weight, wish)| Wish { weight, ..wish })
}

fn is_usable(node: &Node) -> bool {
    node.can_serve() && node.wish.weight > 0
}

fn key(call: &Call) -> String {
    Ipv4Addr::from(call.source()).to_string()
}

/// Each server draws a number between 0 and 1, takes the root of its weight of it, and the highest wins.
struct Rendezvous;

impl Rule for Rendezvous {
    fn pick(&mut self, list: &[Node], call: &Call) -> Option<usize> {
        let hash = |text: &str| SipHasher13::new().hash(text.as_bytes());
        let drawn = |node: &Node| {
            let mut mixed = hash(&key(call)) ^ hash(&address(node.server).to_string());
            mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            let number = (mixed as f64 / 2f64.powi(64)).clamp(f64::MIN_POSITIVE, 1.0);
            number.powf(1.0 / f64::from(node.wish.weight))
        };
        let usable = (0..list.len()).filter(|place| is_usable(&list[*place]));
        usable.max_by(|one, other| drawn(&list[*one]).total_cmp(&drawn(&list[*other])))
    }
}

/// The first on the ring whose connections, with this one, are within its share and the slack.
struct Bounded {
    /// Percent.
    slack: u64,
}

impl Rule for Bounded {
    fn pick(&mut self, list: &[Node], call: &Call) -> Option<usize> {
        let usable = || list.iter().filter(|node| is_usable(node));
        let connections = 1 + usable().map(|node| u64::from(node.total())).sum::<u64>();
        let weights: u64 = usable().map(|node| u64::from(node.wish.weight)).sum();
        // `connections × weight ÷ weights` is the share; one more than there are must not be more than
        // the share and its slack, rounded up.
        let has_room = |node: &Node| {
            let most = (connections * u64::from(node.wish.weight) * (100 + self.slack)) as f64
                / (100 * weights) as f64;
            f64::from(node.total() + 1) <= most.ceil()
        };
        let points = points(list.iter().rev().map(|node| (node.server, node.wish.weight)));
        let key = crc32(key(call).as_bytes());
        let once_around = points.range(key..).chain(points.range(..key));
        let place = |server: u8| list.iter().position(|node| node.server == server);
        once_around
            .filter_map(|(_, server)| place(*server))
            .find(|place| is_usable(&list[*place]) && has_room(&list[*place]))
    }
}
