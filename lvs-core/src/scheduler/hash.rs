//! Schedulers that look a hash of an address up in a table: `dh` and `sh`.
//!
//! As in IPVS (`ip_vs_dh.c`, `ip_vs_sh.c`, Linux 4.18 and later): 256 slots, dealt to the servers
//! newest first, whatever their health; only the server that a flow comes upon is looked at.
//!
//! If that one is quiesced or full, the flow is refused unless `sh-fallback` or `mh-fallback` asks
//! for a search. If it is *down* the search goes on without being asked: an IPVS director has
//! keepalived take such a server off the list, and would not refuse its clients either.

use std::any::Any;
use std::net::{IpAddr, SocketAddr};

use crate::config::SchedulerFlags;
use crate::flow::{Flow, canonical};
use crate::pool::Pool;
use crate::scheduler::{Change, Scheduler, Seat, Setup, Share, Tickets};

/// What the flags of `sh` and `mh` say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Options {
    flags: SchedulerFlags,
}

impl Options {
    pub(super) fn new(flags: SchedulerFlags) -> Options {
        Options { flags }
    }

    /// The client as a number: its address, with `sh-port` and `mh-port` its port added.
    pub(super) fn client(self, flow: &Flow) -> u32 {
        let client = flow.client();
        let port = if self.flags.contains(SchedulerFlags::SECOND) { client.port() } else { 0 };
        fold(client.ip()).wrapping_add(u32::from(port))
    }

    /// Whether another server is looked for in place of one that is quiesced or full.
    pub(super) fn falls_back(self) -> bool {
        self.flags.contains(SchedulerFlags::FIRST)
    }

    /// What moves between two tables of so many slots. They do not tell where the client is hashed in
    /// another way, or others stand in for the quiesced.
    pub(super) fn compare<S: Copy + Into<u32>>(
        [old, new]: [(Options, &[S]); 2],
        slots: usize,
        change: &Change<'_>,
    ) -> Option<Share> {
        let ((before, old), (after, new)) = (old, new);
        let quiesced = || change.old.iter().chain(change.new).any(|seat| seat.weight == 0);
        if before != after || after.falls_back() && quiesced() {
            return None;
        }
        Some(differing(old, new, slots, change))
    }
}

/// How many of so many slots lead elsewhere; those of a quiesced server lead nowhere.
fn differing<S: Copy + Into<u32>>(old: &[S], new: &[S], slots: usize, change: &Change<'_>) -> Share {
    let owner = |table: &[S], seats: &[Seat], slot: usize| {
        let server = (*table.get(slot)?).into() as usize;
        (seats[server].weight > 0).then_some(server)
    };
    let owners = (0..slots).map(|slot| (owner(old, change.old, slot), owner(new, change.new, slot)));
    Share::of_differing(owners, change)
}

/// An address as one word. An IPv4 client is the same whichever way its address is written.
pub(super) fn fold(address: IpAddr) -> u32 {
    match canonical(address) {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            (bits >> 96) as u32 ^ (bits >> 64) as u32 ^ (bits >> 32) as u32 ^ bits as u32
        }
    }
}

/// Slot of a folded address (the kernel's `hash_32`).
fn slot(folded: u32) -> usize {
    (folded.wrapping_mul(GOLDEN_RATIO) >> 24) as usize
}

/// Indexes of servers; empty if there are none.
fn table(seats: &[Seat], run: fn(&Seat) -> u32) -> Box<[u32]> {
    let newest_first = || (0..seats.len()).rev();
    let runs = newest_first()
        .cycle()
        .flat_map(|server| std::iter::repeat_n(server as u32, run(&seats[server]).max(1) as usize));
    runs.take(SLOTS).collect()
}

/// `dh`: a slot for each server in turn, looked up by the destination.
pub(super) struct Dh {
    slots: Box<[u32]>,
    /// Of flows that do not say where they were sent to.
    destination: u32,
}

impl Dh {
    pub(super) fn new(setup: &Setup<'_>) -> Dh {
        let destination = setup.destination.map_or(0, fold);
        Dh { slots: table(setup.seats, |_| 1), destination }
    }
}

impl Scheduler for Dh {
    fn schedule(&self, pool: Pool<'_>, flow: &Flow, _ticket: u64) -> Option<usize> {
        let destination = flow.destination().map_or(self.destination, |address| fold(address.ip()));
        let first = slot(destination);
        let server = *self.slots.get(first)? as usize;
        if pool.is_eligible(server) {
            return Some(server);
        }
        // `dh` has no fallback of its own.
        if pool.is_withheld(server) {
            return None;
        }
        let next = (1..SLOTS).map(|step| self.slots[(first + step) % SLOTS] as usize);
        next.into_iter().find(|server| pool.is_eligible(*server))
    }

    fn follows_flow(&self) -> bool {
        true
    }

    fn moved(&self, old: &dyn Scheduler, change: &Change<'_>) -> Option<Share> {
        let old = (old as &dyn Any).downcast_ref::<Dh>()?;
        Some(differing(&old.slots, &self.slots, SLOTS, change))
    }

    fn tickets(&self) -> Tickets {
        Tickets::Unused
    }
}

/// `sh`: slots in runs as long as the weight, looked up by the client.
pub(super) struct Sh {
    slots: Box<[u32]>,
    options: Options,
}

impl Sh {
    pub(super) fn new(setup: &Setup<'_>) -> Sh {
        Sh { slots: table(setup.seats, |seat| seat.weight), options: Options::new(setup.flags) }
    }
}

impl Scheduler for Sh {
    fn schedule(&self, pool: Pool<'_>, flow: &Flow, _ticket: u64) -> Option<usize> {
        let first = slot(self.options.client(flow));
        let server = *self.slots.get(first)? as usize;
        if pool.is_eligible(server) {
            return Some(server);
        }
        if pool.is_withheld(server) && !self.options.falls_back() {
            return None;
        }
        // The kernel adds the offset, which counts from the slot, to the slot: the search begins at
        // twice the slot.
        let others = (0..SLOTS).map(|step| self.slots[(2 * first + step) % SLOTS] as usize);
        others.into_iter().find(|server| pool.is_eligible(*server))
    }

    fn follows_flow(&self) -> bool {
        true
    }

    fn moved(&self, old: &dyn Scheduler, change: &Change<'_>) -> Option<Share> {
        let old = (old as &dyn Any).downcast_ref::<Sh>()?;
        Options::compare([(old.options, &old.slots), (self.options, &self.slots)], SLOTS, change)
    }

    fn tickets(&self) -> Tickets {
        Tickets::Unused
    }
}

/// Addresses are hashed by their port too where they name a server.
pub(super) fn fold_socket(address: SocketAddr) -> u32 {
    fold(address.ip()).wrapping_add(u32::from(address.port()))
}

const SLOTS: usize = 256;

/// 2³² divided by the golden ratio, as the kernel rounds it.
const GOLDEN_RATIO: u32 = 0x61C8_8647;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_of_sh_is_dealt_in_runs_newest_first() {
        let seats = [3, 2, 1].map(Seat::of_weight);
        let slots = table(&seats, |seat| seat.weight);
        let names: String = slots.iter().map(|server| ["A", "B", "C"][*server as usize]).collect();
        assert_eq!(names[..24], *"CBBAAACBBAAACBBAAACBBAAA");
        assert_eq!(["A", "B", "C"].map(|name| names.matches(name).count()), [127, 86, 43]);
    }

    #[test]
    fn slots_are_those_of_the_kernel() {
        let slots = (1..=16).map(|n| slot(0x0a01_0000 | n)).collect::<Vec<_>>();
        assert_eq!(slots, [174, 15, 113, 211, 53, 150, 248, 90, 188, 30, 127, 225, 67, 165, 7, 104]);
        assert_eq!(slot(0xc0a8_0001), 192);
    }

    #[test]
    fn ipv6_address_is_folded_and_its_mapped_form_is_not_one() {
        let fold_text = |text: &str| fold(text.parse().expect("an address"));
        assert_eq!(fold_text("2001:db8::1"), 0x2001_0db8 ^ 1);
        assert_eq!(fold_text("::ffff:10.1.0.1"), 0x0a01_0001);
    }
}
