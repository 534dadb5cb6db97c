//! How one server is chosen among those that can be.
//!
//! A [`Scheduler`] sees the servers through a [`Pool`], which shows the eligible ones only, so
//! that "skip the dead" is written once and not in every algorithm.

mod least;
mod turn;

use std::any::Any;
use std::net::SocketAddr;

use crate::config::Algorithm;
use crate::flow::Flow;
use crate::pool::Pool;

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

    /// Whether [`schedule`](Scheduler::schedule) looks at its ticket.
    ///
    /// To count tickets costs threads that share a service more than most choices do, so a
    /// scheduler that never looks says `false` and is given 0.
    fn uses_ticket(&self) -> bool {
        true
    }

    /// Takes over what the scheduler of the configuration before remembered.
    ///
    /// It is called once, before the first pick. `old` is of another type if the service was given
    /// another scheduler. The default forgets.
    fn inherit(&mut self, old: &dyn Scheduler, change: &Change<'_>) {
        let _ = (old, change);
    }
}

/// What a scheduler may know of a server when it is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Address of the server, unique in its service.
    pub address: SocketAddr,
    /// Present weight.
    pub weight: u32,
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

/// The scheduler of an algorithm, for these servers.
pub(crate) fn build(algorithm: Algorithm, seats: &[Seat]) -> Box<dyn Scheduler> {
    match algorithm {
        Algorithm::Rr => Box::new(turn::Rr::new(seats)),
        Algorithm::Wrr => Box::new(turn::Wrr::new(seats)),
        Algorithm::Swrr => Box::new(turn::Swrr::new(seats)),
        Algorithm::Lc => Box::new(least::Least::new(least::connections)),
        Algorithm::Wlc => Box::new(least::Least::new(least::weighted_connections)),
    }
}
