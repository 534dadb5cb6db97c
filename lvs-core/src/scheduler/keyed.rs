//! Schedulers that compute a server from a hash: nginx's `ip_hash` and `hash`, and weighted
//! rendezvous hashing.
//!
//! nginx divides the hash by the total of the weights, and the remainder falls on a server. If that
//! one cannot be chosen it hashes on, twenty times, and then deals turns. Any change of the servers
//! moves most clients; `hash_consistent`, `mh` and `rendezvous` are there to avoid that.

use std::any::Any;
use std::marker::PhantomData;
use std::net::IpAddr;

use crate::flow::{Flow, canonical};
use crate::pairing::places_in;
use crate::pool::Pool;
use crate::scheduler::choice::mix;
use crate::scheduler::key::Key;
use crate::scheduler::smooth::Swrr;
use crate::scheduler::{Change, Peek, Scheduler, Seat, Setup, Share, Tickets};

/// The weights, laid end to end in the order the servers were added.
struct Shares {
    /// Sum of the weights up to and including each server's.
    sums: Box<[u64]>,
    total: u64,
}

impl Shares {
    fn new(seats: &[Seat]) -> Shares {
        let mut total = 0;
        let sums = seats.iter().map(|seat| {
            total += u64::from(seat.weight);
            total
        });
        let sums = sums.collect();
        Shares { sums, total }
    }

    /// The server that the remainder of the hash falls on.
    fn find(&self, hash: u64) -> Option<usize> {
        let rest = hash.checked_rem(self.total)?;
        Some(self.sums.partition_point(|sum| *sum <= rest))
    }

    /// The servers that the hashes from 0 on fall on, one after the other.
    fn owners(&self) -> impl Iterator<Item = Option<usize>> {
        let (mut server, mut rest) = (0, 0);
        std::iter::repeat_with(move || {
            if self.total == 0 {
                return None;
            }
            while self.sums[server] <= rest {
                server += 1;
            }
            let owner = server;
            rest += 1;
            if rest == self.total {
                (server, rest) = (0, 0);
            }
            Some(owner)
        })
    }

    /// What moves of so many hashes.
    fn moved(&self, old: &Shares, hashes: u64, change: &Change<'_>) -> Share {
        Share::of_differing(old.owners().zip(self.owners()).take(hashes as usize), change)
    }
}

/// What nginx hashes for a flow, one number for each try.
pub(super) trait Hashes: 'static {
    /// Numbers that a first try comes to.
    const COUNT: u64;

    /// The numbers; none if there is nothing to hash.
    fn of(flow: &Flow) -> impl Iterator<Item = u64>;
}

/// `ip_hash` and `hash`: the server whose share of the weights the hash falls on, and turns if none of
/// those that it leads to can be chosen.
pub(super) struct Hashed<H> {
    shares: Shares,
    turns: Swrr,
    hashes: PhantomData<fn() -> H>,
}

/// nginx's hash of an IPv4 client's network of 256, or of a whole IPv6 address.
pub(super) struct OfClient;

/// The CRC-32 of a key, as nginx and memcached's clients take it.
pub(super) struct OfKey;

pub(super) type IpHash = Hashed<OfClient>;
pub(super) type Hash = Hashed<OfKey>;

impl Hashes for OfClient {
    const COUNT: u64 = 6271;

    fn of(flow: &Flow) -> impl Iterator<Item = u64> {
        let mut octets = [0; 16];
        let length = match canonical(flow.client().ip()) {
            IpAddr::V4(v4) => {
                octets[..3].copy_from_slice(&v4.octets()[..3]);
                3
            }
            IpAddr::V6(v6) => {
                octets = v6.octets();
                16
            }
        };
        let mut hash = 89;
        std::iter::repeat_with(move || {
            for octet in &octets[..length] {
                hash = (hash * 113 + u64::from(*octet)) % Self::COUNT;
            }
            hash
        })
    }
}

impl Hashes for OfKey {
    const COUNT: u64 = 0x8000;

    fn of(flow: &Flow) -> impl Iterator<Item = u64> {
        let key = flow.hash_key();
        let tries = if key.is_empty() { 0 } else { TRIES };
        let mut hash = 0;
        (0..tries).map(move |attempt| {
            let mut digits = [0; 2];
            let digest = key.crc32_after(decimal(attempt, &mut digits));
            hash += u64::from(digest >> 16) % Self::COUNT;
            hash
        })
    }
}

impl<H: Hashes> Hashed<H> {
    pub(super) fn new(setup: &Setup<'_>) -> Hashed<H> {
        Hashed { shares: Shares::new(setup.seats), turns: Swrr::not_laid_out(), hashes: PhantomData }
    }

    /// The first server that can be chosen of those that the hashes lead to.
    fn find(&self, pool: Pool<'_>, flow: &Flow) -> Option<usize> {
        for hash in H::of(flow).take(usize::from(TRIES)) {
            let server = self.shares.find(hash)?;
            if pool.is_eligible(server) {
                return Some(server);
            }
        }
        None
    }
}

impl<H: Hashes> Scheduler for Hashed<H> {
    fn schedule(&self, pool: Pool<'_>, flow: &Flow, ticket: u64) -> Option<usize> {
        self.find(pool, flow).or_else(|| self.turns.schedule(pool, flow, ticket))
    }

    fn peek(&self, pool: Pool<'_>, flow: &Flow, ticket: u64) -> Peek {
        self.find(pool, flow).map_or_else(|| self.turns.peek(pool, flow, ticket), Peek::from)
    }

    fn follows_flow(&self) -> bool {
        true
    }

    fn moved(&self, old: &dyn Scheduler, change: &Change<'_>) -> Option<Share> {
        let old = (old as &dyn Any).downcast_ref::<Hashed<H>>()?;
        Some(self.shares.moved(&old.shares, H::COUNT, change))
    }

    fn tickets(&self) -> Tickets {
        Tickets::Distinct
    }

    fn inherit(&mut self, old: &dyn Scheduler, change: &Change<'_>) {
        if let Some(old) = (old as &dyn Any).downcast_ref::<Hashed<H>>() {
            self.turns.inherit(&old.turns, change);
        }
    }
}

/// The number of a further try as nginx writes it before the key; nothing for the first.
fn decimal(attempt: u8, digits: &mut [u8; 2]) -> &[u8] {
    *digits = [b'0' + attempt / 10, b'0' + attempt % 10];
    match attempt {
        0 => &[],
        1..=9 => &digits[1..],
        _ => digits,
    }
}

/// `rendezvous`: every server draws a number from the key, and the highest one wins; a heavy server
/// draws higher. Only the clients of a server that comes or goes move, and exactly by weight.
pub(super) struct Rendezvous {
    /// Hash of each server's address.
    names: Box<[u64]>,
}

impl Rendezvous {
    pub(super) fn new(setup: &Setup<'_>, before: Option<(&dyn Scheduler, &Change<'_>)>) -> Rendezvous {
        let name = |seat: &Seat| Key::new(seat.address.to_string().as_bytes()).hash64();
        let known = before.and_then(|(old, change)| {
            let old = (old as &dyn Any).downcast_ref::<Rendezvous>()?;
            Some((old, places_in(change.old, change.new)))
        });
        // To write a thousand addresses out costs more than all else of a change.
        let names = setup.seats.iter().enumerate().map(|(server, seat)| match &known {
            Some((old, places)) => places[server].map_or_else(|| name(seat), |place| old.names[place]),
            None => name(seat),
        });
        Rendezvous { names: names.collect() }
    }
}

impl Scheduler for Rendezvous {
    fn schedule(&self, pool: Pool<'_>, flow: &Flow, _ticket: u64) -> Option<usize> {
        let key = flow.hash_key().hash64();
        let mut highest: Option<(usize, f64)> = None;
        for server in pool.oldest_first() {
            // Evenly between 0 and 1, ends excluded; its logarithm makes a race that each server wins
            // as often as its weight says.
            let drawn = ((mix(key ^ self.names[server]) >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
            let score = f64::from(pool.weight(server)) / -drawn.ln();
            if highest.is_none_or(|(_, best)| score > best) {
                highest = Some((server, score));
            }
        }
        highest.map(|(server, _)| server)
    }

    fn tickets(&self) -> Tickets {
        Tickets::Unused
    }

    fn follows_flow(&self) -> bool {
        true
    }

    fn moved(&self, old: &dyn Scheduler, change: &Change<'_>) -> Option<Share> {
        (old as &dyn Any).downcast_ref::<Rendezvous>()?;
        let whole = 1u64 << 32;
        let part = (whole as f64 * (1.0 - kept(change))).round();
        Some(Share { part: part as u64, whole })
    }
}

/// The share of keys that stay on their server.
///
/// A server's time in the race for a key is a random number of its own, exponentially distributed,
/// divided by its weight. Server *i* wins before and after the change if everyone else's number is
/// larger than its own by the factor *w_j / w_i*, before and after, which happens once in the sum over
/// all *j* of the larger of both factors. The factor after is the larger one where the weight of
/// *j* has grown more than that of *i*, so that servers in the order of their growth need but sums.
fn kept(change: &Change<'_>) -> f64 {
    let places = places_in(change.old, change.new);
    let total = |seats: &[Seat]| seats.iter().map(|seat| f64::from(seat.weight)).sum::<f64>();
    let (before, after) = (total(change.old), total(change.new));
    if before == 0.0 || after == 0.0 {
        return if before == after { 1.0 } else { 0.0 };
    }
    // Weights before and after of those who win in both; who is only there before or after is among
    // the totals.
    let mut both: Vec<(f64, f64)> = change
        .new
        .iter()
        .zip(places)
        .filter_map(|(seat, place)| Some((change.old[place?].weight.into(), seat.weight.into())))
        .filter(|(old, new)| *old > 0.0 && *new > 0.0)
        .collect();
    both.sort_by(|(old, new), (other_old, other_new)| (new * other_old).total_cmp(&(other_new * old)));
    // Of those who grew no more than the present one the weight before counts, of the others the one
    // after. To come is to grow without end, and to go not at all.
    let stayed_before: f64 = both.iter().map(|(old, _)| old).sum();
    let (mut grown_less, mut grown_more) = (before - stayed_before, after);
    let mut kept = 0.0;
    for (old, new) in both {
        grown_less += old;
        grown_more -= new;
        kept += 1.0 / (grown_less / old + grown_more / new);
    }
    kept
}

/// How often nginx looks before it deals turns.
pub(super) const TRIES: u8 = 21;

#[cfg(test)]
mod tests {
    use super::*;

    fn share_kept(old: &[Seat], new: &[Seat]) -> f64 {
        kept(&Change { old, new, edited: &[] })
    }

    #[test]
    fn share_that_rendezvous_keeps_is_what_the_weights_say() {
        let seats = |weights: &[u32]| -> Vec<Seat> {
            (1..).zip(weights).map(|(n, weight)| Seat::numbered(n, *weight)).collect()
        };
        let check = |old: &[u32], new: &[u32], share: f64| {
            let found = share_kept(&seats(old), &seats(new));
            assert!((found - share).abs() < 1e-9, "{old:?} {new:?}: {found}");
        };
        check(&[1, 2, 3], &[1, 2, 3], 1.0);
        check(&[1, 2, 3], &[2, 4, 6], 1.0);
        check(&[1, 1, 1], &[1, 1, 1, 1], 3.0 / 4.0);
        check(&[1, 1, 1, 1], &[1, 1, 0, 1], 3.0 / 4.0);
        // The last one had a quarter and keeps a tenth; nobody else loses any.
        check(&[3, 3, 3, 3], &[3, 3, 3, 1], 0.85);
        check(&[0, 0], &[1, 0], 0.0);
        check(&[0], &[0], 1.0);
    }
}
