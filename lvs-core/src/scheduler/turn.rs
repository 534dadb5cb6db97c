//! Schedulers that take turns: `rr` and `wrr`.
//!
//! Both are IPVS's, to the last tie: a cursor into the list, newest first, and for `wrr`
//! a threshold that sinks from sweep to sweep (`ip_vs_rr.c`, `ip_vs_wrr.c`). Each is one word, so that
//! a pick takes no lock: `rr` counts the steps of its cursor, `wrr` swaps cursor and threshold together.
//!
//! A pure ticket could not replace the cursor: it stays behind when a server is full, steps back
//! when its server is deleted, and starts over when a weight is edited, and the kernel's sequence
//! shows each of these.

use std::any::Any;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::flow::Flow;
use crate::pool::Pool;
use crate::scheduler::{Change, Peek, Scheduler, Seat, Tickets};

/// `rr`: each server in turn, newest first.
pub(super) struct Rr {
    /// Steps down the list that were ever made, where the step from its end to its head counts as one
    /// too. To count them takes threads that share a service one atomic addition each; to swap a cursor
    /// takes them a read more, and another try where two meet. All threads write it, so nothing that
    /// they only read lies on its cache line.
    steps: CachePadded<AtomicU64>,
    wheel: Wheel,
}

/// Where a number of steps leads, without a division.
#[derive(Clone, Copy)]
struct Wheel {
    servers: u32,
    /// 2^64 divided by the number of servers (Lemire, Kaser and Kurz, "Faster remainder by direct
    /// computation", 2019).
    inverse: u64,
}

impl Wheel {
    fn new(servers: usize) -> Wheel {
        let servers = u32::try_from(servers).unwrap_or(u32::MAX);
        Wheel { servers, inverse: (u64::MAX / u64::from(servers.max(1))).wrapping_add(1) }
    }

    /// The index that so many steps lead to.
    #[inline]
    fn index(self, steps: u64) -> usize {
        let rest = match u32::try_from(steps) {
            Ok(steps) => {
                let fraction = self.inverse.wrapping_mul(u64::from(steps));
                ((u128::from(fraction) * u128::from(self.servers)) >> 64) as u64
            }
            Err(_) => steps % u64::from(self.servers),
        };
        (u64::from(self.servers) - 1 - rest) as usize
    }
}

impl Rr {
    pub(super) fn new(seats: &[Seat]) -> Rr {
        Rr { steps: CachePadded::new(AtomicU64::new(0)), wheel: Wheel::new(seats.len()) }
    }

    /// How many more steps lead to the next eligible server, and which it is.
    fn next(&self, pool: Pool<'_>, steps: u64) -> Option<(u64, usize)> {
        let due = self.wheel.index(steps);
        let next = pool.next_older(due + 1).or_else(|| pool.next_older(pool.len()))?;
        let passed = if next <= due { due - next } else { due + pool.len() - next };
        Some((passed as u64 + 1, next))
    }
}

impl Scheduler for Rr {
    #[inline]
    fn schedule(&self, pool: Pool<'_>, _flow: &Flow, _ticket: u64) -> Option<usize> {
        if pool.is_empty() {
            return None;
        }
        let due = self.wheel.index(self.steps.fetch_add(1, Ordering::Relaxed));
        if pool.is_eligible(due) {
            return Some(due);
        }
        // The step has led to somebody who is passed over; those behind him are passed at once.
        let mut steps = self.steps.load(Ordering::Relaxed);
        loop {
            let Some((more, next)) = self.next(pool, steps) else {
                // A search in vain moves nothing.
                self.steps.fetch_sub(1, Ordering::Relaxed);
                return None;
            };
            match self.steps.compare_exchange_weak(steps, steps + more, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Some(next),
                Err(moved) => steps = moved,
            }
        }
    }

    fn peek(&self, pool: Pool<'_>, _flow: &Flow, _ticket: u64) -> Peek {
        if pool.is_empty() {
            return Peek::Choice(None);
        }
        Peek::Choice(self.next(pool, self.steps.load(Ordering::Relaxed)).map(|(_, next)| next))
    }

    fn tickets(&self) -> Tickets {
        Tickets::Unused
    }

    /// The cursor stays on its server. If that one was deleted it steps to the next newer one, so
    /// that nobody is skipped.
    fn inherit(&mut self, old: &dyn Scheduler, change: &Change<'_>) {
        let Some(old) = (old as &dyn Any).downcast_ref::<Rr>() else { return };
        let steps = old.steps.load(Ordering::Relaxed);
        let Some(last) = steps.checked_sub(1).filter(|_| !change.old.is_empty()) else { return };
        let last = old.wheel.index(last);
        // Whoever was served last, or who is listed next to him; nobody means the head of the list.
        let kept = (last..change.old.len()).find_map(|index| change.moved(index));
        *self.steps.get_mut() = kept.map_or(0, |kept| (change.new.len() - kept) as u64);
    }
}

/// `wrr`: the servers whose weight reaches a threshold take turns; after each sweep over the list
/// the threshold sinks by the weights' common divisor, and from the lowest returns to the top.
pub(super) struct Wrr {
    /// Index served last (the number of servers stands for the head of the list) in the high half,
    /// threshold in the low half.
    state: CachePadded<AtomicU64>,
    levels: Levels,
    /// The distinct weights, heaviest first, each with a bit for every server of that weight or more.
    reaching: Box<[(u32, Box<[u64]>)]>,
}

/// The thresholds that the weights of a pool give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Levels {
    /// Highest threshold; 0 when no server has a weight.
    top: u32,
    /// From one threshold to the next lower one.
    step: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    cursor: u32,
    threshold: u32,
}

impl Wrr {
    /// As if the servers had been added one by one, which is how IPVS gets them, and why the first
    /// sweep serves every server once: the first server alone has one threshold, and later ones
    /// do not raise the present threshold.
    pub(super) fn new(seats: &[Seat]) -> Wrr {
        let mut wrr = Wrr {
            state: CachePadded::new(AtomicU64::new(0)),
            levels: Levels::of(&[]),
            reaching: reaching(seats),
        };
        let mut weights = Vec::with_capacity(seats.len());
        wrr.add(&mut weights, seats.iter().map(|seat| seat.weight), 0);
        wrr
    }

    fn add(&mut self, weights: &mut Vec<u32>, added: impl Iterator<Item = u32>, threshold: u32) {
        let (mut gcd, mut max, mut threshold) = (gcd_of(weights), max_of(weights), threshold);
        for weight in added {
            weights.push(weight);
            (gcd, max) = (gcd_with(gcd, weight), max.max(weight));
            threshold = Levels::from_divisor(gcd, max).settle(threshold);
        }
        self.levels = Levels::from_divisor(gcd, max);
        self.set(Mark { cursor: weights.len() as u32, threshold });
    }

    /// The newest eligible server before `limit` with at least this weight.
    #[inline]
    fn first_reaching(&self, pool: Pool<'_>, limit: usize, threshold: u32) -> Option<usize> {
        let classes = self.reaching.partition_point(|(weight, _)| *weight >= threshold);
        let (_, bits) = self.reaching.get(classes.checked_sub(1)?)?;
        pool.next_older_among(bits, limit)
    }

    /// The largest weight of an eligible server.
    fn heaviest(&self, pool: Pool<'_>) -> Option<u32> {
        let eligible = |(_, bits): &&(u32, Box<[u64]>)| pool.next_older_among(bits, pool.len()).is_some();
        self.reaching.iter().find(eligible).map(|(weight, _)| *weight)
    }

    fn set(&mut self, mark: Mark) {
        *self.state.get_mut() = mark.pack();
    }

    /// The next server and the mark after it; or the mark that a vain search leaves behind.
    fn next(&self, pool: Pool<'_>, mark: Mark) -> Result<(usize, Mark), Mark> {
        let head = pool.len();
        if let Some(server) = self.first_reaching(pool, mark.cursor as usize, mark.threshold) {
            return Ok((server, Mark { cursor: server as u32, ..mark }));
        }
        let Levels { top, step } = self.levels;
        let lower = |threshold: u32| if threshold > step { threshold - step } else { top };
        // Nearly always the next sweep finds somebody.
        let threshold = lower(mark.threshold);
        if let Some(server) = self.first_reaching(pool, head, threshold) {
            return Ok((server, Mark { cursor: server as u32, threshold }));
        }
        loop {
            let Some(heaviest) = self.heaviest(pool) else {
                // The kernel gives up at the last server before the cursor or after a whole cycle
                // of thresholds; where that leaves the mark shows in the picks after it.
                let at_head = mark.cursor as usize == head;
                return Err(if at_head || mark.threshold > step {
                    Mark { cursor: head as u32, threshold: top }
                } else {
                    mark
                });
            };
            // Sweeps at thresholds above the heaviest eligible server find nobody: go to the first
            // that does.
            let mut threshold = lower(mark.threshold);
            if threshold > heaviest {
                threshold -= (threshold - heaviest).div_ceil(step) * step;
            }
            if let Some(server) = self.first_reaching(pool, head, threshold) {
                return Ok((server, Mark { cursor: server as u32, threshold }));
            }
            // The heaviest filled up or failed between the two looks; others may be left.
        }
    }
}

/// For each distinct weight above 0, heaviest first, a bit for every server of that weight or more.
fn reaching(seats: &[Seat]) -> Box<[(u32, Box<[u64]>)]> {
    let mut heaviest_first: Vec<usize> = (0..seats.len()).filter(|seat| seats[*seat].weight > 0).collect();
    heaviest_first.sort_unstable_by_key(|seat| std::cmp::Reverse(seats[*seat].weight));
    let mut bits = vec![0; seats.len().div_ceil(64)];
    let classes = heaviest_first.chunk_by(|one, other| seats[*one].weight == seats[*other].weight);
    let reached = classes.map(|class| {
        class.iter().for_each(|seat| bits[seat / 64] |= 1 << (seat % 64));
        (seats[class[0]].weight, bits.clone().into())
    });
    reached.collect()
}

impl Scheduler for Wrr {
    fn schedule(&self, pool: Pool<'_>, _flow: &Flow, _ticket: u64) -> Option<usize> {
        if self.levels.top == 0 {
            return None;
        }
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            let (found, after) = match self.next(pool, Mark::unpack(state)) {
                Ok((server, after)) => (Some(server), after),
                Err(after) => (None, after),
            };
            let swap =
                self.state.compare_exchange_weak(state, after.pack(), Ordering::Relaxed, Ordering::Relaxed);
            match swap {
                Ok(_) => return found,
                Err(moved) => state = moved,
            }
        }
    }

    fn peek(&self, pool: Pool<'_>, _flow: &Flow, _ticket: u64) -> Peek {
        if self.levels.top == 0 {
            return Peek::Choice(None);
        }
        let mark = Mark::unpack(self.state.load(Ordering::Relaxed));
        Peek::Choice(self.next(pool, mark).ok().map(|(server, _)| server))
    }

    fn tickets(&self) -> Tickets {
        Tickets::Unused
    }

    /// Every deletion, edit and addition, one after the other as the kernel sees them, sends the
    /// cursor to the head and fits the threshold to the new levels. After another scheduler the
    /// servers are there already, and the first sweep is that of the highest threshold.
    fn inherit(&mut self, old: &dyn Scheduler, change: &Change<'_>) {
        let Some(old) = (old as &dyn Any).downcast_ref::<Wrr>() else {
            let threshold = self.levels.top;
            return self.set(Mark { cursor: change.new.len() as u32, threshold });
        };
        let mark = Mark::unpack(old.state.load(Ordering::Relaxed));
        let same_servers =
            change.old.iter().map(|seat| seat.address).eq(change.new.iter().map(|seat| seat.address));
        if same_servers && change.edited.is_empty() {
            self.set(mark);
            return;
        }
        let mut threshold = mark.threshold;
        let mut seats: Vec<Seat> = change.old.to_vec();
        let settle = |seats: &[Seat], threshold: u32| {
            let weights: Vec<u32> = seats.iter().map(|seat| seat.weight).collect();
            Levels::of(&weights).settle(threshold)
        };
        let known = |seats: &[Seat]| -> HashSet<SocketAddr, foldhash::fast::RandomState> {
            seats.iter().map(|seat| seat.address).collect()
        };
        let (before, after) = (known(change.old), known(change.new));
        for old in change.old {
            if !after.contains(&old.address) {
                seats.retain(|seat| seat.address != old.address);
                threshold = settle(&seats, threshold);
            }
        }
        for edited in change.edited {
            let after = change.new.iter().find(|seat| seat.address == *edited);
            let seat = seats.iter_mut().find(|seat| seat.address == *edited);
            if let (Some(seat), Some(after)) = (seat, after) {
                *seat = *after;
                threshold = settle(&seats, threshold);
            }
        }
        let added = change.new.iter().filter(|new| !before.contains(&new.address));
        let mut weights: Vec<u32> = seats.iter().map(|seat| seat.weight).collect();
        self.add(&mut weights, added.map(|seat| seat.weight), threshold);
    }
}

impl Levels {
    fn of(weights: &[u32]) -> Levels {
        Levels::from_divisor(gcd_of(weights), max_of(weights))
    }

    /// Thresholds are one above a multiple of the divisor, which makes `weight >= threshold` come
    /// out right also where the highest is no multiple of the step.
    fn from_divisor(gcd: u32, max: u32) -> Levels {
        let step = gcd.max(1);
        Levels { top: max.saturating_sub(step - 1), step }
    }

    /// The threshold that goes on after the levels have changed.
    fn settle(self, threshold: u32) -> u32 {
        if threshold > self.top || threshold == 0 {
            self.top
        } else if self.step > 1 {
            threshold / self.step * self.step + 1
        } else {
            threshold
        }
    }
}

impl Mark {
    fn pack(self) -> u64 {
        u64::from(self.cursor) << 32 | u64::from(self.threshold)
    }

    fn unpack(state: u64) -> Mark {
        Mark { cursor: (state >> 32) as u32, threshold: state as u32 }
    }
}

fn gcd_of(weights: &[u32]) -> u32 {
    weights.iter().fold(0, |gcd, &weight| gcd_with(gcd, weight))
}

fn max_of(weights: &[u32]) -> u32 {
    weights.iter().copied().max().unwrap_or(0)
}

pub(super) fn gcd_with(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
