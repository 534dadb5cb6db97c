//! The servers of one virtual server: which of them serve, at which weight, and whether they are
//! enough. Pure: outcomes go in, changes come out.
//!
//! A server is up if all its checks are. The quorum is gained when the servers that are up weigh
//! `quorum + hysteresis`, and lost below `quorum - hysteresis`, or when nothing is left. Only if
//! there is a sorry server does a lost quorum take the remaining servers out.
//!
//! What the table has to say follows from the present state alone, never from the way there.

use lvs_core::Cause;

use super::model::VirtualServer;
use crate::check::Weighs;
use crate::check::rhythm::Standing;

/// The state of a virtual server's servers.
#[derive(Clone, Debug)]
pub struct Pool {
    quorum: u64,
    hysteresis: u64,
    has_sorry: bool,
    servers: Vec<Member>,
    enough: bool,
}

#[derive(Clone, Debug)]
struct Member {
    weight: u32,
    inhibit: bool,
    checks: Vec<Check>,
}

/// What one check has said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it counts as.
    pub standing: Standing,
    /// Why, if it counts as failed.
    pub cause: Option<Cause>,
    /// What it said about the weight.
    pub weighs: Option<Weighs>,
}

/// What the table has to say about a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// It takes clients at this weight.
    Serves(u32),
    /// It takes no new clients, for this reason, and keeps those it has: `inhibit_on_failure`.
    Inhibited(Cause),
    /// It takes none, for this reason.
    Out(Cause),
}

/// Something that happened, for the log and for scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A server is up.
    Up(usize),
    /// A server is down, for this reason.
    Down(usize, Cause),
    /// A server that is up has another weight.
    Weight(usize, u32),
    /// The servers that are up are enough; they weigh so much.
    Gained(u64),
    /// They are not enough any more.
    Lost(u64),
}

impl Check {
    /// A check before it has said anything.
    pub fn new(standing: Standing) -> Check {
        let cause = (standing == Standing::Down).then(|| Cause::from("not checked yet"));
        Check { standing, cause, weighs: None }
    }
}

impl Pool {
    /// The servers of a virtual server, with what their checks say, in the same order.
    ///
    /// `enough` is whether the quorum was there before; without a before it is taken to be there if
    /// it is there without hysteresis.
    pub fn new(service: &VirtualServer, checks: Vec<Vec<Check>>, enough: Option<bool>) -> Pool {
        let members = service.servers.iter().zip(checks).map(|(server, checks)| Member {
            weight: server.weight,
            inhibit: server.inhibit,
            checks,
        });
        let mut pool = Pool {
            quorum: service.quorum.into(),
            hysteresis: service.hysteresis.into(),
            has_sorry: service.sorry.is_some(),
            servers: members.collect(),
            enough: true,
        };
        let live = pool.live();
        pool.enough = enough.unwrap_or(live > 0 && live >= pool.quorum);
        pool
    }

    /// Takes in what a check says now; says what came of it. If that is nothing, all other servers are
    /// placed as before.
    pub fn hear(&mut self, server: usize, check: usize, says: Check) -> Vec<Change> {
        let Some(member) = self.servers.get_mut(server) else { return Vec::new() };
        let before = (member.is_up(), member.effective_weight());
        let Some(place) = member.checks.get_mut(check) else { return Vec::new() };
        *place = says;
        let after = (member.is_up(), member.effective_weight());
        let mut changes = Vec::new();
        match (before, after) {
            ((false, _), (true, _)) => changes.push(Change::Up(server)),
            ((true, _), (false, _)) => changes.push(Change::Down(server, member.cause())),
            ((true, old), (true, new)) if old != new => changes.push(Change::Weight(server, new)),
            _ => return changes,
        }
        changes.extend(self.count());
        changes
    }

    /// Looks whether the quorum is gained or lost.
    pub fn count(&mut self) -> Option<Change> {
        let live = self.live();
        if !self.enough && live > 0 && live >= self.quorum + self.hysteresis {
            self.enough = true;
            return Some(Change::Gained(live));
        }
        if self.enough && (live == 0 || live < self.quorum.saturating_sub(self.hysteresis)) {
            self.enough = false;
            return Some(Change::Lost(live));
        }
        None
    }

    /// What the servers that are up weigh.
    pub fn live(&self) -> u64 {
        self.servers
            .iter()
            .filter(|server| server.is_up())
            .map(|server| u64::from(server.effective_weight()))
            .sum()
    }

    /// Whether the quorum is there.
    pub fn is_enough(&self) -> bool {
        self.enough
    }

    /// Whether the sorry server takes the clients.
    pub fn is_sorry(&self) -> bool {
        self.has_sorry && !self.enough
    }

    /// Whether a server is up.
    pub fn is_up(&self, server: usize) -> bool {
        self.servers.get(server).is_some_and(Member::is_up)
    }

    /// What a check said last.
    pub fn check(&self, server: usize, check: usize) -> Option<&Check> {
        self.servers.get(server)?.checks.get(check)
    }

    /// What the table has to say about each server.
    pub fn placements(&self) -> Vec<Placement> {
        let closed = self.closed();
        self.servers.iter().map(|server| server.placement(closed.as_ref())).collect()
    }

    /// What the table has to say about one server.
    pub fn placement_of(&self, server: usize) -> Option<Placement> {
        let closed = self.closed();
        self.servers.get(server).map(|server| server.placement(closed.as_ref()))
    }

    /// Why those that are up do not serve, while the sorry server does.
    fn closed(&self) -> Option<Cause> {
        self.is_sorry().then(|| {
            let (live, quorum) = (self.live(), self.quorum);
            format!("quorum lost, weight {live} of {quorum}: the sorry server serves").into()
        })
    }
}

impl Member {
    /// What the table has to say about it, if this keeps out those that are up.
    fn placement(&self, closed: Option<&Cause>) -> Placement {
        let out = match closed {
            _ if !self.is_up() => self.cause(),
            Some(closed) => closed.clone(),
            None => return Placement::Serves(self.effective_weight()),
        };
        // With weight 0 by itself it was out already: that is no outage.
        if self.inhibit && self.weight > 0 { Placement::Inhibited(out) } else { Placement::Out(out) }
    }

    fn is_up(&self) -> bool {
        self.checks.iter().all(|check| check.standing == Standing::Up)
    }

    /// Why it is down: the first of its checks that failed.
    fn cause(&self) -> Cause {
        let failed = self.checks.iter().find_map(|check| check.cause.clone());
        failed.unwrap_or_else(|| Cause::from("check failed"))
    }

    /// The configured weight and what checks add to it; one that says a weight adds the difference.
    fn effective_weight(&self) -> u32 {
        let configured = i64::from(self.weight);
        let added = self.checks.iter().filter_map(|check| check.weighs).map(|weighs| match weighs {
            Weighs::Is(weight) => i64::from(weight) - configured,
            Weighs::Adds(number) => number,
        });
        let sum = added.fold(configured, i64::saturating_add);
        u32::try_from(sum.clamp(0, i64::from(WEIGHT_MAX))).unwrap_or(WEIGHT_MAX)
    }
}

/// As much as a server can weigh.
const WEIGHT_MAX: u32 = i32::MAX as u32;
