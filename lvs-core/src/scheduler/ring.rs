//! Schedulers that look for a server on a ring: nginx's `hash … consistent`, and consistent hashing
//! with bounded loads.
//!
//! Each server has 160 points on the ring for each unit of its weight (Ketama), placed by the
//! CRC-32 of its address as nginx writes it in its configuration, `IP:PORT`. A key belongs to the
//! first point at or after its own CRC-32. A server that comes or goes moves only its own clients.

use std::any::Any;
use std::collections::HashMap;
use std::net::SocketAddr;

use crate::flow::Flow;
use crate::pool::Pool;
use crate::scheduler::key::crc32;
use crate::scheduler::keyed::TRIES;
use crate::scheduler::turn::{Swrr, share};
use crate::scheduler::{Change, Scheduler, Seat, Setup};

/// Points in the order of their hashes: hash in the high half, index of the server in the low half.
/// Where hashes are equal the server listed first counts.
struct Ring(Box<[u64]>);

impl Ring {
    fn new(seats: &[Seat]) -> Ring {
        let mut points = Vec::new();
        let unit = unit(seats);
        for (server, seat) in seats.iter().enumerate() {
            add_points(&mut points, server, seat, unit);
        }
        points.sort_unstable();
        Ring(points.into())
    }

    /// The ring after a change: points of servers that stayed as they were stay too. This is what an
    /// edit of one among many servers costs, where a ring laid out anew costs fifty times as much.
    fn changed(&self, change: &Change<'_>) -> Ring {
        let unit = unit(change.new);
        let known: HashMap<SocketAddr, (usize, u32), foldhash::fast::RandomState> =
            change.new.iter().enumerate().map(|(at, seat)| (seat.address, (at, seat.weight))).collect();
        // Where each old server is now, if its points are still good.
        let moved: Vec<Option<usize>> = change
            .old
            .iter()
            .map(|seat| {
                known.get(&seat.address).filter(|(_, weight)| *weight == seat.weight).map(|(at, _)| *at)
            })
            .collect();
        if unit != self::unit(change.old) || !moved.iter().flatten().is_sorted() {
            return Ring::new(change.new);
        }
        let mut stayed = vec![false; change.new.len()];
        moved.iter().flatten().for_each(|at| stayed[*at] = true);
        let mut fresh = Vec::new();
        for (server, seat) in change.new.iter().enumerate().filter(|(server, _)| !stayed[*server]) {
            add_points(&mut fresh, server, seat, unit);
        }
        fresh.sort_unstable();
        let mut fresh = fresh.into_iter().peekable();
        let mut points = Vec::with_capacity(self.0.len() + fresh.len());
        for point in &self.0 {
            let Some(server) = moved[server_at(*point)] else { continue };
            let point = point & HASH | server as u64;
            while let Some(before) = fresh.next_if(|fresh| *fresh < point) {
                points.push(before);
            }
            points.push(point);
        }
        points.extend(fresh);
        Ring(points.into())
    }

    /// The servers at and after this hash, once around, as often as they have points.
    fn from(&self, hash: u32) -> impl Iterator<Item = usize> {
        let start = self.0.partition_point(|point| *point < u64::from(hash) << 32);
        let (before, after) = self.0.split_at(start);
        let mut last = None;
        let once_around = after.iter().chain(before);
        // Only the first of points with one hash is on the ring.
        once_around
            .filter(move |point| last.replace(*point & HASH) != Some(*point & HASH))
            .map(|p| server_at(*p))
    }
}

/// Weight that stands for one set of points: 1 as in nginx, more where the ring would grow beyond
/// all use.
fn unit(seats: &[Seat]) -> u32 {
    let total: u64 = seats.iter().map(|seat| u64::from(seat.weight)).sum();
    u32::try_from(total.div_ceil(SETS_MAX)).unwrap_or(u32::MAX).max(1)
}

fn add_points(points: &mut Vec<u64>, server: usize, seat: &Seat, unit: u32) {
    let name = seat.address.to_string();
    let (host, port) = name.rsplit_once(':').unwrap_or((&name, ""));
    let base = crc32(crc32(crc32(0, host.as_bytes()), &[0]), port.as_bytes());
    let mut hash = 0u32;
    for _ in 0..POINTS * u64::from(seat.weight.div_ceil(unit)) {
        hash = crc32(base, &hash.to_le_bytes());
        points.push(u64::from(hash) << 32 | server as u64);
    }
}

fn server_at(point: u64) -> usize {
    (point & !HASH) as usize
}

/// `hash_consistent`: nginx's `hash … consistent`.
pub(super) struct HashConsistent {
    ring: Ring,
    turns: Swrr,
}

impl HashConsistent {
    pub(super) fn new(setup: &Setup<'_>, before: Option<(&dyn Scheduler, &Change<'_>)>) -> HashConsistent {
        let old = before
            .and_then(|(old, change)| Some(((old as &dyn Any).downcast_ref::<HashConsistent>()?, change)));
        let ring = old.map_or_else(|| Ring::new(setup.seats), |(old, change)| old.ring.changed(change));
        HashConsistent { ring, turns: Swrr::new(setup.seats) }
    }
}

impl Scheduler for HashConsistent {
    fn schedule(&self, pool: Pool<'_>, flow: &Flow, ticket: u64) -> Option<usize> {
        let mut tried = self.ring.from(flow.hash_key().crc32()).take(usize::from(TRIES));
        let found = tried.find(|server| pool.is_eligible(*server));
        found.or_else(|| self.turns.schedule(pool, flow, ticket))
    }

    fn inherit(&mut self, old: &dyn Scheduler, change: &Change<'_>) {
        if let Some(old) = (old as &dyn Any).downcast_ref::<HashConsistent>() {
            self.turns.inherit(&old.turns, change);
        }
    }
}

/// `hash-bounded`: the ring, but no server takes more than its share of all connections and some
/// slack; what is beyond goes to the next on the ring (Mirrokni, Thorup, Zadimoghaddam, 2016).
pub(super) struct HashBounded {
    ring: Ring,
    /// Percent above the fair share.
    slack: u16,
}

impl HashBounded {
    pub(super) fn new(
        setup: &Setup<'_>,
        slack: u16,
        before: Option<(&dyn Scheduler, &Change<'_>)>,
    ) -> HashBounded {
        let old =
            before.and_then(|(old, change)| Some(((old as &dyn Any).downcast_ref::<HashBounded>()?, change)));
        let ring = old.map_or_else(|| Ring::new(setup.seats), |(old, change)| old.ring.changed(change));
        HashBounded { ring, slack }
    }
}

impl Scheduler for HashBounded {
    fn schedule(&self, pool: Pool<'_>, flow: &Flow, ticket: u64) -> Option<usize> {
        // The bound counts the connection that is to be placed.
        let (mut connections, mut weights) = (1u128, 0u128);
        for server in pool.oldest_first() {
            connections += u128::from(pool.load(server).total());
            weights += u128::from(pool.weight(server));
        }
        let has_room = |server: &usize| {
            let share =
                connections * u128::from(pool.weight(*server)) * u128::from(100 + u32::from(self.slack));
            pool.is_eligible(*server)
                && u128::from(pool.load(*server).total()) < share.div_ceil((100 * weights).max(1))
        };
        // Loads may change while they are looked at; then anybody will do.
        self.ring.from(flow.hash_key().crc32()).find(has_room).or_else(|| share(pool, ticket))
    }
}

/// Points on the ring for each unit of weight.
const POINTS: u64 = 160;

/// Sets of points that a ring has room for: about 40 MB.
const SETS_MAX: u64 = 32_768;

/// Where a point keeps its hash.
const HASH: u64 = 0xFFFF_FFFF_0000_0000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_after_a_change_is_as_if_it_had_been_laid_out_anew() {
        let old: Vec<Seat> = (1..=9).map(|n| Seat::numbered(n, u32::from(n % 4))).collect();
        let ring = Ring::new(&old);
        let edited = Seat::numbered(3, 1);
        let mut changes = vec![old.clone(), old[2..].to_vec(), old.iter().rev().copied().collect()];
        changes.push(
            old.iter().map(|seat| if seat.address == edited.address { edited } else { *seat }).collect(),
        );
        changes.push(old[..7].iter().copied().chain([Seat::numbered(10, 2)]).collect());
        for new in changes {
            let change = Change { old: &old, new: &new, edited: &[] };
            assert_eq!(ring.changed(&change).0, Ring::new(&new).0);
        }
    }

    #[test]
    fn points_are_spread_by_weight() {
        let ring = Ring::new(&[Seat::numbered(1, 1), Seat::numbered(2, 3)]);
        assert_eq!(ring.0.len(), 640);
        assert_eq!(ring.0.iter().filter(|point| server_at(**point) == 1).count(), 480);
        assert_eq!(Ring::new(&[Seat::numbered(1, u32::MAX / 2)]).0.len() as u64, POINTS * SETS_MAX);
    }
}
