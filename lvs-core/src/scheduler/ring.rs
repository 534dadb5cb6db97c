//! Schedulers that look for a server on a ring: nginx's `hash … consistent`, and consistent hashing
//! with bounded loads.
//!
//! Each server has 160 points on the ring for each unit of its weight (Ketama), placed by the
//! CRC-32 of its address as nginx writes it in its configuration, `IP:PORT`. A key belongs to the
//! first point at or after its own CRC-32. A server that comes or goes moves only its own clients.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use crate::flow::Flow;
use crate::pairing::places_in;
use crate::pool::Pool;
use crate::scheduler::key::crc32;
use crate::scheduler::keyed::TRIES;
use crate::scheduler::smooth::{Swrr, share};
use crate::scheduler::{Change, Peek, Scheduler, Seat, Setup, Share, Tickets};

/// A ring that was laid out once, and what has changed since.
///
/// A thousand servers of some weight have millions of points, and to lay them out takes as long as
/// thousands of picks. An edit of one server touches some hundreds of them: those are listed, and
/// looked up beside the others, until they are many.
struct Ring {
    layout: Arc<Layout>,
    /// Where each server of the layout is now; [`GONE`] if it is there no more.
    places: Box<[u32]>,
    /// Points that are not in the layout, of servers by their present index.
    added: Box<[u64]>,
    /// Points of the layout that do not count any more, of servers that are still there.
    dropped: Box<[u64]>,
}

/// Points in the order of their hashes: hash in the high half, index of the server in the low half.
/// Where hashes are equal the server listed first counts.
struct Layout {
    points: Box<[u64]>,
    seats: Box<[Seat]>,
}

impl Ring {
    fn new(seats: &[Seat]) -> Ring {
        let mut points = Vec::new();
        let unit = unit(seats);
        for (server, seat) in seats.iter().enumerate() {
            add_points(&mut points, server, seat, 0..sets(seat, unit));
        }
        points.sort_unstable();
        Ring {
            layout: Arc::new(Layout { points: points.into(), seats: seats.into() }),
            places: (0..seats.len() as u32).collect(),
            added: Box::default(),
            dropped: Box::default(),
        }
    }

    fn after(before: Option<&Ring>, setup: &Setup<'_>) -> Ring {
        before.map_or_else(|| Ring::new(setup.seats), |before| before.changed(setup.seats))
    }

    /// The ring of these servers, on the same layout as long as most of it holds.
    fn changed(&self, seats: &[Seat]) -> Ring {
        let layout = &self.layout;
        let unit = unit(seats);
        let places = places_in(seats, &layout.seats);
        // Among points of one hash the layout has the servers in its own order.
        if unit != self::unit(&layout.seats) || !places.iter().flatten().is_sorted() {
            return Ring::new(seats);
        }
        let (mut added, mut dropped) = (Vec::new(), Vec::new());
        let mut gone = 0;
        let mut fresh = vec![true; seats.len()];
        for (server, (before, place)) in layout.seats.iter().zip(&places).enumerate() {
            let had = sets(before, unit);
            let Some(place) = *place else {
                gone += POINTS * had;
                continue;
            };
            fresh[place] = false;
            let has = sets(&seats[place], unit);
            add_points(&mut added, place, before, had..has);
            add_points(&mut dropped, server, before, has..had);
        }
        for (server, seat) in seats.iter().enumerate().filter(|(server, _)| fresh[*server]) {
            add_points(&mut added, server, seat, 0..sets(seat, unit));
        }
        if added.len() + dropped.len() + gone as usize > layout.points.len() / WORN {
            return Ring::new(seats);
        }
        added.sort_unstable();
        dropped.sort_unstable();
        Ring {
            layout: Arc::clone(layout),
            places: places.into_iter().map(|place| place.map_or(GONE, |place| place as u32)).collect(),
            added: added.into(),
            dropped: dropped.into(),
        }
    }

    /// The server of a point of the layout, if the point counts.
    fn counted(&self, point: u64) -> Option<usize> {
        let place = self.places[server_at(point)];
        let dropped = !self.dropped.is_empty() && self.dropped.binary_search(&point).is_ok();
        (place != GONE && !dropped).then_some(place as usize)
    }

    /// The servers at and after this hash, once around, as often as they have points.
    fn from(&self, hash: u32) -> impl Iterator<Item = usize> {
        // How far off, and who.
        let distance = move |point: u64| hash_at(point).wrapping_sub(hash);
        let laid_out = once_around(&self.layout.points, hash)
            .filter_map(move |point| Some((distance(point), self.counted(point)?)));
        let added = once_around(&self.added, hash).map(move |point| (distance(point), server_at(point)));
        let (mut laid_out, mut added) = (laid_out.peekable(), added.peekable());
        let both = std::iter::from_fn(move || match (laid_out.peek(), added.peek()) {
            (Some(one), Some(other)) if other < one => added.next(),
            (None, _) => added.next(),
            _ => laid_out.next(),
        });
        // Only the first of points with one hash is on the ring.
        let mut last = None;
        both.filter(move |(distance, _)| last.replace(*distance) != Some(*distance)).map(|(_, server)| server)
    }

    /// How far it is from the point before this hash.
    fn gap(&self, hash: u32) -> u32 {
        let back = |point: u64| hash.wrapping_sub(hash_at(point)).wrapping_sub(1);
        let counted = backwards(&self.layout.points, hash).find(|point| self.counted(*point).is_some());
        let added = backwards(&self.added, hash).next();
        let nearest = counted.into_iter().chain(added).map(back).min();
        nearest.unwrap_or(u32::MAX)
    }

    /// What part of the ring leads elsewhere than it did on `old`.
    ///
    /// The stretches before the points that come or go are looked at, since no other changes hands;
    /// of very many, some that stand for all.
    fn moved(&self, old: &Ring, change: &Change<'_>) -> Share {
        let (before, after) = (unit(change.old), unit(change.new));
        let places = places_in(change.new, change.old);
        let mut touched = Vec::new();
        let mut stayed = vec![false; change.new.len()];
        for (seat, place) in change.old.iter().zip(places) {
            let (had, has) = (sets(seat, before), place.map_or(0, |place| sets(&change.new[place], after)));
            add_points(&mut touched, 0, seat, had.min(has)..had.max(has));
            place.into_iter().for_each(|place| stayed[place] = true);
        }
        for (seat, _) in change.new.iter().zip(stayed).filter(|(_, stayed)| !stayed) {
            add_points(&mut touched, 0, seat, 0..sets(seat, after));
        }
        touched.sort_unstable();
        touched.dedup();
        let stride = touched.len().div_ceil(STRETCHES_MAX).max(1);
        let owner =
            |ring: &Ring, seats: &[Seat], hash| ring.from(hash).next().map(|server| seats[server].address);
        let stretches = touched.iter().step_by(stride).map(|point| hash_at(*point));
        let moved = stretches.filter(|hash| owner(old, change.old, *hash) != owner(self, change.new, *hash));
        let part: u64 = moved.map(|hash| u64::from(old.gap(hash).min(self.gap(hash))) + 1).sum();
        Share { part: (part * stride as u64).min(RING), whole: RING }
    }
}

/// The points from this hash on, once around.
fn once_around(points: &[u64], hash: u32) -> impl Iterator<Item = u64> {
    let (before, after) = points.split_at(points.partition_point(|point| hash_at(*point) < hash));
    after.iter().chain(before).copied()
}

/// The points before this hash, once around.
fn backwards(points: &[u64], hash: u32) -> impl Iterator<Item = u64> {
    let (before, after) = points.split_at(points.partition_point(|point| hash_at(*point) < hash));
    before.iter().rev().chain(after.iter().rev()).copied()
}

/// Weight that stands for one set of points: 1 as in nginx, more where the ring would grow beyond
/// all use.
fn unit(seats: &[Seat]) -> u32 {
    let total: u64 = seats.iter().map(|seat| u64::from(seat.weight)).sum();
    u32::try_from(total.div_ceil(SETS_MAX)).unwrap_or(u32::MAX).max(1)
}

/// Sets of points that a server has.
fn sets(seat: &Seat, unit: u32) -> u64 {
    u64::from(seat.weight.div_ceil(unit))
}

/// Adds the points of some of a server's sets: each point goes on from the one before it.
fn add_points(points: &mut Vec<u64>, server: usize, seat: &Seat, sets: Range<u64>) {
    if sets.is_empty() {
        return;
    }
    let name = seat.address.to_string();
    let (host, port) = name.rsplit_once(':').unwrap_or((&name, ""));
    let base = crc32(crc32(crc32(0, host.as_bytes()), &[0]), port.as_bytes());
    let mut hash = 0u32;
    for point in 0..POINTS * sets.end {
        hash = crc32(base, &hash.to_le_bytes());
        if point >= POINTS * sets.start {
            points.push(u64::from(hash) << 32 | server as u64);
        }
    }
}

fn server_at(point: u64) -> usize {
    point as u32 as usize
}

fn hash_at(point: u64) -> u32 {
    (point >> 32) as u32
}

/// `hash_consistent`: nginx's `hash … consistent`.
pub(super) struct HashConsistent {
    ring: Ring,
    turns: Swrr,
}

impl HashConsistent {
    pub(super) fn new(setup: &Setup<'_>, before: Option<&dyn Scheduler>) -> HashConsistent {
        let old = before.and_then(|old| (old as &dyn Any).downcast_ref::<HashConsistent>());
        HashConsistent { ring: Ring::after(old.map(|old| &old.ring), setup), turns: Swrr::not_laid_out() }
    }

    /// The first server that can be chosen of those that come upon the key; none if they all cannot.
    fn find(&self, pool: Pool<'_>, flow: &Flow) -> Option<usize> {
        let mut tried = self.ring.from(flow.hash_key().crc32()).take(usize::from(TRIES));
        tried.find(|server| pool.is_eligible(*server))
    }
}

impl Scheduler for HashConsistent {
    fn schedule(&self, pool: Pool<'_>, flow: &Flow, ticket: u64) -> Option<usize> {
        self.find(pool, flow).or_else(|| self.turns.schedule(pool, flow, ticket))
    }

    fn tickets(&self) -> Tickets {
        Tickets::Distinct
    }

    fn peek(&self, pool: Pool<'_>, flow: &Flow, ticket: u64) -> Peek {
        self.find(pool, flow).map_or_else(|| self.turns.peek(pool, flow, ticket), Peek::from)
    }

    fn follows_flow(&self) -> bool {
        true
    }

    fn moved(&self, old: &dyn Scheduler, change: &Change<'_>) -> Option<Share> {
        let old = (old as &dyn Any).downcast_ref::<HashConsistent>()?;
        Some(self.ring.moved(&old.ring, change))
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
    pub(super) fn new(setup: &Setup<'_>, slack: u16, before: Option<&dyn Scheduler>) -> HashBounded {
        let old = before.and_then(|old| (old as &dyn Any).downcast_ref::<HashBounded>());
        HashBounded { ring: Ring::after(old.map(|old| &old.ring), setup), slack }
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

    fn tickets(&self) -> Tickets {
        Tickets::Distinct
    }

    fn follows_flow(&self) -> bool {
        true
    }

    fn moved(&self, old: &dyn Scheduler, change: &Change<'_>) -> Option<Share> {
        let old = (old as &dyn Any).downcast_ref::<HashBounded>()?;
        Some(self.ring.moved(&old.ring, change))
    }
}

/// Points on the ring for each unit of weight.
const POINTS: u64 = 160;

/// Sets of points that a ring has room for: about 40 MB.
const SETS_MAX: u64 = 32_768;

/// Stands for the place of a server that is gone.
const GONE: u32 = u32::MAX;

/// A layout is worn out when one point of so many has come or gone.
const WORN: usize = 4;

/// Stretches of a ring that are looked at to say how much of it moves.
const STRETCHES_MAX: usize = 512;

/// Hashes on a ring.
const RING: u64 = 1 << 32;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    /// Whom each stretch of a ring belongs to.
    fn owners(ring: &Ring, seats: &[Seat]) -> Vec<(u32, SocketAddr)> {
        let mut hashes: Vec<u32> =
            ring.layout.points.iter().chain(&ring.added).map(|point| hash_at(*point)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        let servers =
            hashes.iter().map(|hash| (*hash, seats[ring.from(*hash).next().expect("a point")].address));
        servers.collect()
    }

    fn numbered(weights: &[(u8, u32)]) -> Vec<Seat> {
        weights.iter().map(|(n, weight)| Seat::numbered(*n, *weight)).collect()
    }

    /// Servers 1 to 30, of weights 0 to 3.
    fn thirty() -> Vec<Seat> {
        (1..=30).map(|n| Seat::numbered(n, u32::from(n % 4))).collect()
    }

    fn changes() -> Vec<Vec<Seat>> {
        let old = thirty();
        let edited = |n: usize, weight| {
            let mut new = thirty();
            new[n].weight = weight;
            new
        };
        let mut changes =
            vec![old.clone(), old[2..].to_vec(), old[..29].to_vec(), edited(3, 2), edited(6, 1)];
        changes.push(edited(6, 0));
        changes.push([&old[..5], &old[6..20], &numbered(&[(40, 2)]), &old[21..]].concat());
        changes.push(old.iter().rev().copied().collect());
        changes.push(old[..7].to_vec());
        changes
    }

    #[test]
    fn ring_after_a_change_is_as_if_it_had_been_laid_out_anew() {
        let ring = Ring::new(&thirty());
        for new in changes() {
            let (changed, fresh) = (ring.changed(&new), Ring::new(&new));
            let whole = |ring: &Ring| ring.from(0x1234_5678).collect::<Vec<_>>();
            assert_eq!(whole(&changed), whole(&fresh));
            // And once more, back to what it was.
            assert_eq!(whole(&changed.changed(&thirty())), whole(&ring));
        }
    }

    #[test]
    fn small_change_keeps_the_layout() {
        let ring = Ring::new(&thirty());
        let mut new = thirty();
        new[3].weight += 1;
        assert!(Arc::ptr_eq(&ring.changed(&new).layout, &ring.layout));
        assert!(!Arc::ptr_eq(&ring.changed(&new[..7]).layout, &ring.layout));
    }

    #[test]
    fn share_that_moves_is_what_a_walk_around_the_ring_finds() {
        let old = thirty();
        let ring = Ring::new(&old);
        for new in changes() {
            let changed = ring.changed(&new);
            let mut hashes: Vec<u32> = [owners(&ring, &old), owners(&changed, &new)]
                .concat()
                .into_iter()
                .map(|(hash, _)| hash)
                .collect();
            hashes.sort_unstable();
            hashes.dedup();
            let mut last = hashes[hashes.len() - 1];
            let mut walked = 0;
            for hash in hashes {
                let before = ring.from(hash).next().map(|server| old[server].address);
                let after = changed.from(hash).next().map(|server| new[server].address);
                walked += u64::from(hash.wrapping_sub(last)) * u64::from(before != after);
                last = hash;
            }
            let told = changed.moved(&ring, &Change { old: &old, new: &new, edited: &[] });
            let (told, walked) = (told.percent(), Share { part: walked, whole: RING }.percent());
            assert!((told - walked).abs() <= walked * 0.1, "{told} {walked}");
        }
    }

    #[test]
    fn points_are_spread_by_weight() {
        let ring = Ring::new(&numbered(&[(1, 1), (2, 3)]));
        assert_eq!(ring.layout.points.len(), 640);
        assert_eq!(ring.layout.points.iter().filter(|point| server_at(**point) == 1).count(), 480);
        let heavy = Ring::new(&numbered(&[(1, u32::MAX / 2)]));
        assert_eq!(heavy.layout.points.len() as u64, POINTS * SETS_MAX);
    }
}
