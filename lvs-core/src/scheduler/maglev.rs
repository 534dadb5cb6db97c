//! `mh`: Maglev hashing. Each server lists the slots of a table in an order of its own; they take
//! turns at claiming the next free one. A server that comes or goes moves few clients but its own.
//!
//! As in IPVS (`ip_vs_mh.c`, 64-bit kernels): 4093 slots, SipHash-1-3, turns by the weight a server
//! had before it was quiesced, so that quiescing moves nobody.

use std::any::Any;

use siphasher::sip::SipHasher13;

use crate::flow::Flow;
use crate::pool::Pool;
use crate::scheduler::hash::{Options, fold_socket};
use crate::scheduler::turn::gcd_with;
use crate::scheduler::{Change, Scheduler, Seat, Setup, Share, Tickets};

/// `mh`.
pub(super) struct Mh {
    /// Indexes of servers; empty if none has ever had a weight.
    slots: Box<[u16]>,
    options: Options,
}

/// A server's way through the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claims {
    server: u16,
    next: usize,
    skip: usize,
    /// Slots claimed in one round.
    turns: u32,
}

impl Mh {
    pub(super) fn new(setup: &Setup<'_>) -> Mh {
        Mh { slots: fill(claims(setup.seats)), options: Options::new(setup.flags) }
    }
}

/// The claims of the servers that have ever had a weight, newest first.
fn claims(seats: &[Seat]) -> Vec<Claims> {
    let weights = || seats.iter().map(|seat| seat.last_weight);
    let gcd = weights().fold(0, gcd_with).max(1);
    let heaviest = weights().max().unwrap_or(0) / gcd;
    let shift = (u32::BITS - heaviest.leading_zeros()).saturating_sub(WEIGHT_BITS);
    let weighted = seats.iter().enumerate().rev().filter(|(_, seat)| seat.last_weight > 0);
    let claims = weighted.take(SLOTS).map(|(server, seat)| {
        let address = fold_socket(seat.address);
        Claims {
            server: server as u16,
            next: hash(FIRST_KEY, address) as usize % SLOTS,
            skip: hash(SECOND_KEY, address) as usize % (SLOTS - 1) + 1,
            turns: ((seat.last_weight / gcd) >> shift).max(1),
        }
    });
    claims.collect()
}

fn fill(mut claims: Vec<Claims>) -> Box<[u16]> {
    if claims.is_empty() {
        return Box::default();
    }
    let mut slots = vec![FREE; SLOTS];
    let mut left = SLOTS;
    loop {
        for claim in &mut claims {
            for _ in 0..claim.turns {
                while slots[claim.next] != FREE {
                    claim.next = (claim.next + claim.skip) % SLOTS;
                }
                slots[claim.next] = claim.server;
                left -= 1;
                if left == 0 {
                    return slots.into();
                }
            }
        }
    }
}

impl Scheduler for Mh {
    fn schedule(&self, pool: Pool<'_>, flow: &Flow, _ticket: u64) -> Option<usize> {
        let client = self.options.client(flow);
        let first = hash(FIRST_KEY, client) as usize % SLOTS;
        let server = usize::from(*self.slots.get(first)?);
        if pool.is_eligible(server) {
            return Some(server);
        }
        if pool.is_withheld(server) && !self.options.falls_back() || !pool.any_eligible() {
            return None;
        }
        let others = (0..SLOTS).map(|step| {
            let retry = client.wrapping_add(((first + step) % SLOTS) as u32);
            usize::from(self.slots[hash(FIRST_KEY, retry) as usize % SLOTS])
        });
        others.into_iter().find(|server| pool.is_eligible(*server))
    }

    fn follows_flow(&self) -> bool {
        true
    }

    fn moved(&self, old: &dyn Scheduler, change: &Change<'_>) -> Option<Share> {
        let old = (old as &dyn Any).downcast_ref::<Mh>()?;
        Options::compare([(old.options, &old.slots), (self.options, &self.slots)], SLOTS, change)
    }

    fn tickets(&self) -> Tickets {
        Tickets::Unused
    }
}

/// The kernel's `hsiphash` of one word.
fn hash(key: u64, word: u32) -> u32 {
    SipHasher13::new_with_keys(key, key).hash(&word.to_le_bytes()) as u32
}

/// Most servers that the table can hold, one slot each: what the kernel is built with by default.
pub(crate) const SLOTS: usize = 4093;

const FREE: u16 = u16::MAX;

/// Bits that are left of the largest weight; larger ones are scaled down together.
const WEIGHT_BITS: u32 = 6;

const FIRST_KEY: u64 = 2_654_435_761;
const SECOND_KEY: u64 = 2_654_446_892;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(weights: &[u32], counts: &[usize], first48: &str) {
        let seats: Vec<Seat> = (1..).zip(weights).map(|(n, weight)| Seat::numbered(n, *weight)).collect();
        let slots = fill(claims(&seats));
        let counted = (0..weights.len() as u16).map(|n| slots.iter().filter(|slot| **slot == n).count());
        assert_eq!(counted.collect::<Vec<_>>(), counts);
        let names: String = slots[..48].iter().map(|slot| char::from(b'A' + *slot as u8)).collect();
        assert_eq!(names, first48);
    }

    #[test]
    fn tables_are_those_of_the_kernel() {
        check(&[1, 1, 1], &[1364, 1364, 1365], "BCBAAAAACBCBCBCBCAAAACBCBCBCBCBAABCBCBCBCBCBCCBC");
        check(&[100, 1], &[4012, 81], &"A".repeat(48));
        check(&[1000, 10], &[4012, 81], &"A".repeat(48));
    }

    #[test]
    fn claims_are_those_of_the_kernel() {
        let seats = [Seat::numbered(1, 1), Seat::numbered(2, 1), Seat::numbered(3, 1)];
        let found = claims(&seats).into_iter().map(|claim| (claim.next, claim.skip, claim.turns));
        assert_eq!(found.collect::<Vec<_>>(), [(3844, 1906, 1), (2949, 1114, 1), (2866, 3185, 1)]);
        let uneven = claims(&[Seat::numbered(1, 1000), Seat::numbered(2, 10)]);
        assert_eq!(uneven.iter().map(|claim| claim.turns).collect::<Vec<_>>(), [1, 50]);
    }

    #[test]
    fn server_that_leaves_moves_hardly_a_slot_that_was_not_its_own() {
        let all = fill(claims(&[Seat::numbered(1, 1), Seat::numbered(2, 1), Seat::numbered(3, 1)]));
        let without = fill(claims(&[Seat::numbered(1, 1), Seat::numbered(3, 1)]));
        let before = all.iter().zip(&without).filter(|(before, _)| **before != 1);
        let renumbered = |server: u16| if server == 2 { 1 } else { server };
        assert_eq!(before.filter(|(before, after)| renumbered(**before) != **after).count(), 4);
    }

    #[test]
    fn hash_is_that_of_the_kernel() {
        let hashes = [0, 1, 0x0a01_0001].map(|word| hash(FIRST_KEY, word));
        assert_eq!(hashes, [492_468_162, 384_591_538, 939_321_412]);
    }
}
