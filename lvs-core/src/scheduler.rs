//! How one server is chosen among those that can be.
//!
//! A [`Scheduler`] sees the servers through a [`Pool`], which shows the eligible ones only, so
//! that "skip the dead" is written once and not in every algorithm.

mod choice;
mod custom;
mod hash;
mod key;
mod keyed;
mod least;
mod least_in_turn;
mod locality;
mod maglev;
mod ring;
mod smooth;
mod turn;

use std::any::Any;
use std::net::{IpAddr, SocketAddr};

use crate::config::{Algorithm, SchedulerFlags, ServiceConfig};
use crate::flow::Flow;
use crate::pairing::places_in;
use crate::pool::Pool;

pub use custom::CustomScheduler;
pub use key::Key;
pub(crate) use maglev::SLOTS as MH_SERVERS_MAX;

/// An algorithm, with whatever it remembers between picks.
///
/// One instance serves one configuration of one service, from all threads at once.
pub trait Scheduler: Any + Send + Sync {
    /// Returns the index of the server that takes this flow, or `None` if no server is eligible.
    ///
    /// `ticket` counts the flows of one service, over all its configurations; if a flow's first
    /// choice fills up at that moment, the next call has the same ticket. What looks random is to
    /// be derived from it, so that every run can be replayed.
    fn schedule(&self, pool: Pool<'_>, flow: &Flow, ticket: u64) -> Option<usize>;

    /// What [`schedule`](Scheduler::schedule) needs of its tickets. To count them costs threads that
    /// share a service more than most choices do.
    fn tickets(&self) -> Tickets {
        Tickets::Consecutive
    }

    /// Whether its choices follow the flow, as hashing does, as long as servers are up and have room:
    /// then it can be said what part of all flows a change of the servers moves.
    fn follows_flow(&self) -> bool {
        false
    }

    /// Returns what [`schedule`](Scheduler::schedule) would, and leaves everything as it is.
    ///
    /// The default asks, if the choices follow the flow, and else knows nothing. Who follows the flow
    /// and moves something by choosing has to say here what it would choose.
    fn peek(&self, pool: Pool<'_>, flow: &Flow, ticket: u64) -> Peek {
        if self.follows_flow() { Peek::Choice(self.schedule(pool, flow, ticket)) } else { Peek::Unknown }
    }

    /// The share of hash space that leads to another server than it did under `old`, all servers
    /// being up and empty. It is asked only of those whose choices follow the flow.
    ///
    /// `None` if it cannot tell, which is the default; then a sample of flows is counted.
    fn moved(&self, old: &dyn Scheduler, change: &Change<'_>) -> Option<Share> {
        let _ = (old, change);
        None
    }

    /// Takes over what the scheduler of the configuration before remembered.
    ///
    /// It is called once, before the first pick. `old` is of another type if the service was given
    /// another scheduler. The default forgets.
    fn inherit(&mut self, old: &dyn Scheduler, change: &Change<'_>) {
        let _ = (old, change);
    }

    /// Whether a server that has reached its upper threshold takes what this scheduler sends it
    /// nevertheless. The default is that another one is asked for.
    fn overfills(&self) -> bool {
        false
    }
}

/// What a scheduler needs of the tickets it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tickets {
    /// It does not look at them, and is given 0.
    Unused,
    /// No two flows have the same, which is enough to mix random choices from. Each
    /// [`Picker`](crate::Picker) takes some in advance.
    Distinct,
    /// They count the flows.
    Consecutive,
}

/// What a scheduler says of its next choice without making it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// This it would be.
    Choice(Option<usize>),
    /// One of the eligible servers; it cannot tell which without choosing.
    Unknown,
}

impl From<usize> for Peek {
    fn from(server: usize) -> Peek {
        Peek::Choice(Some(server))
    }
}

/// A part of a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Share {
    /// How many of the whole.
    pub part: u64,
    /// How many there are.
    pub whole: u64,
}

impl Share {
    /// The part of a hundred.
    pub fn percent(self) -> f64 {
        self.part as f64 * 100.0 / self.whole.max(1) as f64
    }

    /// How many of these differ before and after a change: the servers that own the parts of a hash
    /// space. `None` is nobody's.
    fn of_differing(
        owners: impl Iterator<Item = (Option<usize>, Option<usize>)>,
        change: &Change<'_>,
    ) -> Share {
        let after = places_in(change.new, change.old);
        let (mut part, mut whole) = (0, 0);
        for (before, now) in owners {
            // Of a server that is gone, all parts move.
            let stays = match before {
                None => now.is_none(),
                Some(before) => after[before].is_some() && after[before] == now,
            };
            part += u64::from(!stays);
            whole += 1;
        }
        Share { part, whole }
    }
}

/// What a scheduler is set up with.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Setup<'a> {
    /// The servers, in the order they were added; a [`Pool`] knows them by their place here.
    pub seats: &'a [Seat],
    /// Options that were asked for.
    pub flags: SchedulerFlags,
    /// What random choices are to be mixed with, beside the ticket.
    pub seed: u64,
    /// The service's own address, which flows are sent to unless they say otherwise.
    pub destination: Option<IpAddr>,
}

/// What a scheduler may know of a server when it is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Address of the server, unique in its service.
    pub address: SocketAddr,
    /// Present weight.
    pub weight: u32,
    /// The weight, or the last that was not 0 since the server was added.
    pub last_weight: u32,
}

#[cfg(test)]
impl Seat {
    /// The n-th server.
    fn numbered(n: u8, weight: u32) -> Seat {
        Seat { address: SocketAddr::from(([10, 2, 0, n], 80)), weight, last_weight: weight }
    }

    fn of_weight(weight: u32) -> Seat {
        Seat::numbered(1, weight)
    }
}

/// The servers of a service before and after a change, each in the order they were added.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Before.
    pub old: &'a [Seat],
    /// After.
    pub new: &'a [Seat],
    /// Servers that stayed and were edited, also those whose edit changed nothing: in IPVS some
    /// schedulers start over at any edit.
    pub edited: &'a [SocketAddr],
}

impl Change<'_> {
    /// Where the server at this old index is now, unless it was removed.
    pub fn moved(&self, old: usize) -> Option<usize> {
        let address = self.old[old].address;
        self.new.iter().position(|seat| seat.address == address)
    }
}

/// The scheduler that a service asks for, with what it takes over from the one before.
pub(crate) fn build(
    config: &ServiceConfig,
    setup: &Setup<'_>,
    before: Option<(&dyn Scheduler, &Change<'_>)>,
) -> Box<dyn Scheduler> {
    let mut scheduler = match &config.custom {
        Some(custom) => custom.build(setup),
        None => named(config.algorithm, setup, before),
    };
    if let Some((old, change)) = before {
        scheduler.inherit(old, change);
    }
    scheduler
}

fn named(
    algorithm: Algorithm,
    setup: &Setup<'_>,
    before: Option<(&dyn Scheduler, &Change<'_>)>,
) -> Box<dyn Scheduler> {
    let seats = setup.seats;
    match algorithm {
        Algorithm::Rr => Box::new(turn::Rr::new(seats)),
        Algorithm::Wrr => Box::new(turn::Wrr::new(seats)),
        Algorithm::Lc => Box::new(least::Least::new(least::connections)),
        Algorithm::Wlc => Box::new(least::Least::new(least::weighted_connections)),
        Algorithm::Lblc => Box::new(locality::Locality::<locality::One>::new(setup)),
        Algorithm::Lblcr => Box::new(locality::Locality::<locality::Set>::new(setup)),
        Algorithm::Dh => Box::new(hash::Dh::new(setup)),
        Algorithm::Sh => Box::new(hash::Sh::new(setup)),
        Algorithm::Sed => Box::new(least::Least::new(least::expected_delay)),
        Algorithm::Nq => Box::new(least::Least::new(least::never_queue)),
        Algorithm::Fo => Box::new(least::Least::new(least::failover)),
        Algorithm::Ovf => Box::new(least::Least::new(least::overflow)),
        Algorithm::Mh => Box::new(maglev::Mh::new(setup)),
        Algorithm::Twos => Box::new(choice::Twos::new(setup)),
        Algorithm::Swrr => Box::new(smooth::Swrr::new(seats)),
        Algorithm::IpHash => Box::new(keyed::IpHash::new(setup)),
        Algorithm::Hash => Box::new(keyed::Hash::new(setup)),
        Algorithm::HashConsistent => Box::new(ring::HashConsistent::new(setup, before.map(|(old, _)| old))),
        Algorithm::LeastConn => Box::new(least_in_turn::LeastInTurn::new(seats, least_in_turn::Connections)),
        Algorithm::LeastTime => Box::new(least_in_turn::LeastInTurn::new(seats, least_in_turn::AnswerTime)),
        Algorithm::Random => Box::new(choice::Random::new(setup)),
        Algorithm::RandomTwo => Box::new(choice::RandomTwo::new(setup)),
        Algorithm::Ewma => Box::new(choice::Ewma::new(setup)),
        Algorithm::Rendezvous => Box::new(keyed::Rendezvous::new(setup, before)),
        Algorithm::HashBounded { slack } => {
            Box::new(ring::HashBounded::new(setup, slack, before.map(|(old, _)| old)))
        }
    }
}
