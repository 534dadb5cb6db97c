//! `dh`, `sh` and `mh` as the kernel has them, with the tables laid out anew for each pick.

use lvs_core::{Algorithm, SchedulerFlags, ServiceConfig};
use proptest::prelude::*;
use siphasher::sip::SipHasher13;

use super::kernel::{Kernel, Node, Rule};
use super::{Call, Pair, limited_wish, steps};
use crate::setup::{address, service};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn dh_picks_as_its_twin(steps in steps(limited_wish().boxed())) {
        Pair::new(Algorithm::Dh, Kernel::new(Dh)).play(steps)?;
    }

    #[test]
    fn sh_picks_as_its_twin(steps in steps(limited_wish().boxed()), flags in flags()) {
        Pair::of(flagged(Algorithm::Sh, flags), Kernel::new(Sh { flags })).play(steps)?;
    }

    #[test]
    fn mh_picks_as_its_twin(steps in steps(limited_wish().boxed()), flags in flags()) {
        Pair::of(flagged(Algorithm::Mh, flags), Kernel::new(Mh { flags, table: Vec::new() })).play(steps)?;
    }
}

fn flags() -> impl Strategy<Value = SchedulerFlags> {
    let bits = [SchedulerFlags::FIRST, SchedulerFlags::SECOND];
    prop::sample::subsequence(bits.to_vec(), 0..=2)
        .prop_map(|bits| bits.into_iter().fold(SchedulerFlags::default(), SchedulerFlags::with))
}

fn flagged(algorithm: Algorithm, flags: SchedulerFlags) -> ServiceConfig {
    let mut service = service(algorithm, &[]);
    service.flags = flags;
    service
}

fn is_usable(node: &Node) -> bool {
    node.can_serve() && node.wish.weight > 0
}

/// A server that is down is to the kernel one that is not in the list, for which others are
/// sought; one that is quiesced or full is left alone.
fn is_passed_over(node: &Node) -> bool {
    node.wish.weight > 0 && !node.overload
}

fn hash_32(number: u32) -> usize {
    (number.wrapping_mul(0x61C8_8647) >> 24) as usize
}

fn client(call: &Call, flags: SchedulerFlags) -> u32 {
    if flags.contains(SchedulerFlags::SECOND) { call.source() + 40_000 } else { call.source() }
}

struct Dh;

impl Rule for Dh {
    fn pick(&mut self, list: &[Node], call: &Call) -> Option<usize> {
        let slot = hash_32(call.destination());
        let place = slot.checked_rem(list.len())?;
        if is_usable(&list[place]) || !is_passed_over(&list[place]) {
            return is_usable(&list[place]).then_some(place);
        }
        (slot..slot + 256).map(|slot| slot % 256 % list.len()).find(|place| is_usable(&list[*place]))
    }
}

struct Sh {
    flags: SchedulerFlags,
}

impl Rule for Sh {
    fn pick(&mut self, list: &[Node], call: &Call) -> Option<usize> {
        let mut table = Vec::new();
        while table.len() < 256 && !list.is_empty() {
            for (place, node) in list.iter().enumerate() {
                table.extend(vec![place; node.wish.weight.max(1) as usize]);
            }
        }
        let hash = hash_32(client(call, self.flags));
        let first = *table.get(hash)?;
        if is_usable(&list[first]) {
            return Some(first);
        }
        if !self.flags.contains(SchedulerFlags::FIRST) && !is_passed_over(&list[first]) {
            return None;
        }
        let offsets = (0..256).map(|offset| (offset + hash) % 256);
        offsets.map(|offset| table[(offset + hash) % 256]).find(|place| is_usable(&list[*place]))
    }
}

struct Mh {
    flags: SchedulerFlags,
    /// Numbers of servers.
    table: Vec<u8>,
}

const SIZE: usize = 4093;

fn hsiphash(number: u32, key: u64) -> usize {
    SipHasher13::new_with_keys(key, key).hash(&number.to_le_bytes()) as u32 as usize
}

impl Rule for Mh {
    fn pick(&mut self, list: &[Node], call: &Call) -> Option<usize> {
        let place_at = |slot: usize| {
            let server = self.table.get(slot)?;
            list.iter().position(|node| node.server == *server)
        };
        let client = client(call, self.flags);
        let slot = |offset: usize| hsiphash(client + offset as u32, 2_654_435_761) % SIZE;
        let hash = slot(0);
        let first = place_at(hash)?;
        if is_usable(&list[first]) {
            return Some(first);
        }
        if !self.flags.contains(SchedulerFlags::FIRST) && !is_passed_over(&list[first]) {
            return None;
        }
        let offsets = (0..SIZE).map(|offset| (offset + hash) % SIZE);
        offsets.filter_map(|offset| place_at(slot(offset))).find(|place| is_usable(&list[*place]))
    }

    fn changed(&mut self, list: &[Node]) {
        self.table.clear();
        let weights = || list.iter().map(|node| node.last_weight).filter(|weight| *weight > 0);
        let Some(heaviest) = weights().max() else { return };
        let divides_all = |divisor: &u32| weights().all(|weight| weight % divisor == 0);
        let gcd = (1..=heaviest).rev().find(divides_all).expect("1 divides");
        let mut shift = 0;
        while (heaviest / gcd) >> shift >= 64 {
            shift += 1;
        }
        let mut slots = vec![None; SIZE];
        let mut filled = 0;
        let mut step = vec![0; list.len()];
        loop {
            for (place, node) in list.iter().enumerate().filter(|(_, node)| node.last_weight > 0) {
                let std::net::SocketAddr::V4(address) = address(node.server) else { unreachable!() };
                let name = address.ip().to_bits() + u32::from(address.port());
                let offset = hsiphash(name, 2_654_435_761) % SIZE;
                let skip = hsiphash(name, 2_654_446_892) % (SIZE - 1) + 1;
                for _ in 0..((node.last_weight / gcd) >> shift).max(1) {
                    while slots[(offset + step[place] * skip) % SIZE].is_some() {
                        step[place] += 1;
                    }
                    slots[(offset + step[place] * skip) % SIZE] = Some(node.server);
                    filled += 1;
                    if filled == SIZE {
                        self.table = slots.into_iter().flatten().collect();
                        return;
                    }
                }
            }
        }
    }
}
