//! Schedulers that compute a server from a hash: nginx's `ip_hash` and `hash`, and weighted
//! rendezvous hashing.
//!
//! nginx divides the hash by the total of the weights, and the remainder falls on a server. If that
//! one cannot be chosen it hashes on, twenty times, and then deals turns. Any change of the servers
//! moves most clients; `hash_consistent`, `mh` and `rendezvous` are there to avoid that.

use std::any::Any;
use std::net::IpAddr;

use crate::flow::{Flow, canonical};
use crate::pool::Pool;
use crate::scheduler::choice::mix;
use crate::scheduler::key::Key;
use crate::scheduler::turn::Swrr;
use crate::scheduler::{Change, Scheduler, Seat, Setup};

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
}

/// `ip_hash`: nginx's hash of an IPv4 client's network of 256, or of a whole IPv6 address.
pub(super) struct IpHash {
    shares: Shares,
    turns: Swrr,
}

impl IpHash {
    pub(super) fn new(setup: &Setup<'_>) -> IpHash {
        IpHash { shares: Shares::new(setup.seats), turns: Swrr::new(setup.seats) }
    }
}

impl Scheduler for IpHash {
    fn schedule(&self, pool: Pool<'_>, flow: &Flow, ticket: u64) -> Option<usize> {
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
        for _ in 0..TRIES {
            for octet in &octets[..length] {
                hash = (hash * 113 + u64::from(*octet)) % 6271;
            }
            let server = self.shares.find(hash)?;
            if pool.is_eligible(server) {
                return Some(server);
            }
        }
        self.turns.schedule(pool, flow, ticket)
    }

    fn inherit(&mut self, old: &dyn Scheduler, change: &Change<'_>) {
        if let Some(old) = (old as &dyn Any).downcast_ref::<IpHash>() {
            self.turns.inherit(&old.turns, change);
        }
    }
}

/// `hash`: the CRC-32 of a key, as nginx and memcached's clients take it.
pub(super) struct Hash {
    shares: Shares,
    turns: Swrr,
}

impl Hash {
    pub(super) fn new(setup: &Setup<'_>) -> Hash {
        Hash { shares: Shares::new(setup.seats), turns: Swrr::new(setup.seats) }
    }
}

impl Scheduler for Hash {
    fn schedule(&self, pool: Pool<'_>, flow: &Flow, ticket: u64) -> Option<usize> {
        let key = flow.hash_key();
        if key.is_empty() {
            return self.turns.schedule(pool, flow, ticket);
        }
        let mut hash = 0;
        for attempt in 0..TRIES {
            let mut digits = [0; 2];
            let digest = key.crc32_after(decimal(attempt, &mut digits));
            hash += u64::from(digest >> 16 & 0x7fff);
            let server = self.shares.find(hash)?;
            if pool.is_eligible(server) {
                return Some(server);
            }
        }
        self.turns.schedule(pool, flow, ticket)
    }

    fn inherit(&mut self, old: &dyn Scheduler, change: &Change<'_>) {
        if let Some(old) = (old as &dyn Any).downcast_ref::<Hash>() {
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
    pub(super) fn new(setup: &Setup<'_>) -> Rendezvous {
        let names = setup.seats.iter().map(|seat| Key::new(seat.address.to_string().as_bytes()).hash64());
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

    fn uses_ticket(&self) -> bool {
        false
    }
}

/// How often nginx looks before it deals turns.
pub(super) const TRIES: u8 = 21;
