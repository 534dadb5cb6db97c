//! A virtual service: what belongs to one snapshot ([`Service`]), and what outlives it
//! ([`ServiceState`]).
//!
//! The order in which reasons count is decided here and nowhere else: removed, quiesced, down,
//! ejected, full. The first three and the fourth are one bit per server that changes only when
//! they do; fullness is looked at when a server is chosen. A template ignores quiesced and full,
//! as in IPVS, and ejected while there is nobody else; never the others.

mod build;
mod standing;
mod warming;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crossbeam_utils::CachePadded;

use crate::config::{ServiceConfig, ServiceKey};
use crate::counter::Counter;
use crate::estimator::Estimator;
use crate::flow::Flow;
use crate::health::{AllEjected, Passive};
use crate::history::History;
use crate::lease::Lease;
use crate::persistence::{Client, Templates};
use crate::pool::{Hidden, Pool};
use crate::scheduler::{Peek, Scheduler, Seat, Tickets};
use crate::server::{DOWN, EJECTED, INHIBITED, Live, QUIESCED, REMOVED, Server};
use crate::tally::{Tallies, Tally};
use crate::time::Time;

pub(crate) use build::Draft;

/// Why no server could be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Refusal {
    /// There is no such service.
    NoService,
    /// The service has no servers.
    NoServers,
    /// Every server has weight 0.
    AllQuiesced,
    /// Every server with a weight is down or ejected.
    AllDown,
    /// Every server that is up has reached its upper threshold.
    AllFull,
    /// Every server that could be chosen has already failed this flow.
    AllTried,
    /// Servers could be chosen, but none that the scheduler's rule allows for this flow.
    Unreachable,
    /// The service's persistence engine has found no session.
    NoSession,
}

/// Who wants a server.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) flow: &'a Flow,
    /// What a persistence engine has found.
    pub(crate) session: Option<&'a [u8]>,
    /// Servers that have failed this flow already.
    pub(crate) tried: &'a [SocketAddr],
}

impl<'a> Ask<'a> {
    pub(crate) fn of(flow: &'a Flow, tried: &'a [SocketAddr]) -> Ask<'a> {
        Ask { flow, session: None, tried }
    }
}

/// One service in one snapshot.
pub(crate) struct Service {
    pub(crate) config: ServiceConfig,
    pub(crate) state: Arc<ServiceState>,
    pub(crate) servers: Box<[Server]>,
    seats: Box<[Seat]>,
    scheduler: Box<dyn Scheduler>,
    /// One bit per server that weight and health allow. Written under the writer lock; a late read
    /// picks a server that failed a moment ago.
    usable: Box<[AtomicU64]>,
    /// The same, ejection aside: for when every server is ejected.
    sound: Box<[AtomicU64]>,
    /// The same, all health aside: for a panic.
    weighted: Box<[AtomicU64]>,
    /// Whether too few servers can be used. Written under the writer lock.
    panicking: AtomicBool,
    /// One bit per backup, if there are any.
    backups: Option<Box<[u64]>>,
    /// Whether any server has an upper threshold.
    thresholds: bool,
    /// Whether there are neither backups nor upper thresholds.
    plain: bool,
    /// Until when all is calm, in nanoseconds of [`Time`]; see [`Service::settle`]. Written under the
    /// writer lock.
    calm: AtomicU64,
    tickets: Tickets,
    /// Whether the scheduler sends more to full servers.
    overfills: bool,
}

/// What a service keeps through every reload.
pub(crate) struct ServiceState {
    pub(crate) key: ServiceKey,
    pub(crate) templates: Templates,
    /// Calls of `schedule`. Written by all threads.
    ticket: CachePadded<AtomicU64>,
    /// When the next ejection ends, in nanoseconds of [`Time`]. Written under the writer lock.
    lapse: AtomicU64,
    /// Until when a server warms up, in nanoseconds of [`Time`]. Written under the writer lock.
    warm: AtomicU64,
    /// The latest moment that the writers were told, in nanoseconds of [`Time`]; never if none was.
    clock: AtomicU64,
    history: Mutex<History>,
    /// Written under the writer lock.
    rates: Mutex<Estimator>,
    /// Written by `apply` only.
    expire_nodest_conn: AtomicBool,
    pub(crate) refused: Counter,
    /// What pickers have counted and not handed on.
    pub(crate) tallies: Tallies,
    /// What servers that are gone had counted when they went.
    pub(crate) departed: Departed,
    /// Servers that were deleted and may still have connections. Used under the writer lock.
    retired: Mutex<HashMap<SocketAddr, Weak<Live>>>,
}

/// Totals of deleted servers, so that those of the service never fall.
#[derive(Default)]
pub(crate) struct Departed {
    pub(crate) connections: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) packets_in: Counter,
    pub(crate) packets_out: Counter,
}

impl ServiceState {
    pub(crate) fn new(key: ServiceKey) -> ServiceState {
        ServiceState {
            key,
            templates: Templates::new(),
            ticket: CachePadded::new(AtomicU64::new(0)),
            lapse: AtomicU64::new(Time::NEVER.as_nanos()),
            warm: AtomicU64::new(0),
            clock: AtomicU64::new(Time::NEVER.as_nanos()),
            history: Mutex::default(),
            rates: Mutex::default(),
            expire_nodest_conn: AtomicBool::new(false),
            refused: Counter::default(),
            tallies: Tallies::default(),
            departed: Departed::default(),
            retired: Mutex::default(),
        }
    }

    /// Takes in what time it is. Called under the writer lock.
    pub(crate) fn set_clock(&self, now: Time) {
        self.clock.store(now.as_nanos(), Ordering::Relaxed);
    }

    pub(crate) fn clock(&self) -> Option<Time> {
        Some(Time::from_nanos(self.clock.load(Ordering::Relaxed))).filter(|now| *now != Time::NEVER)
    }

    pub(crate) fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn rates(&self) -> std::sync::MutexGuard<'_, Estimator> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn expires_nodest_conn(&self) -> bool {
        self.expire_nodest_conn.load(Ordering::Relaxed)
    }

    fn retired(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Weak<Live>>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Chooses a server, none of those tried, and counts the connection there.
    ///
    /// `ticket` is called if the scheduler looks at one, `lapse` if an ejection is over. The connection
    /// is counted in the tally, if there is one.
    #[inline]
    pub(crate) fn schedule(
        &self,
        ask: Ask<'_>,
        now: Time,
        tally: Option<&Tally>,
        ticket: impl FnOnce(&Service) -> u64,
        lapse: impl FnOnce(&Service),
    ) -> Result<Lease, Refusal> {
        let ticket = || if self.tickets == Tickets::Unused { 0 } else { ticket(self) };
        if ask.tried.is_empty() && now.as_nanos() < self.calm.load(Ordering::Relaxed) {
            let ticket = ticket();
            let pool = self.pool(&self.usable, None, &[], now);
            return match self.scheduler.schedule(pool, ask.flow, ticket) {
                Some(server) => {
                    let live = &self.servers[server].live;
                    let claimed = match tally {
                        Some(tally) => {
                            tally.count(server);
                            live.claim()
                        }
                        None => live.begin(),
                    };
                    Ok(Lease::new(claimed, None))
                }
                None => self.schedule_with_care(ask, now, || ticket),
            };
        }
        if self.has_lapsed(now) {
            lapse(self);
        }
        self.schedule_with_care(ask, now, ticket)
    }

    /// The next ticket.
    pub(crate) fn ticket(&self) -> u64 {
        self.state.ticket.fetch_add(1, Ordering::Relaxed)
    }

    /// So many tickets for one who takes them from there.
    pub(crate) fn reserve_tickets(&self, count: u64) -> Range<u64> {
        let first = self.state.ticket.fetch_add(count, Ordering::Relaxed);
        first..first.wrapping_add(count)
    }

    pub(crate) fn tickets(&self) -> Tickets {
        self.tickets
    }

    /// Looks at everything that can stand in the way.
    #[inline(never)]
    fn schedule_with_care(
        &self,
        ask: Ask<'_>,
        now: Time,
        ticket: impl FnOnce() -> u64,
    ) -> Result<Lease, Refusal> {
        let Ask { flow, session, tried } = ask;
        let engine = self.config.persistence.and_then(|rule| rule.persistence_engine());
        let chosen = match &self.config.persistence {
            None => self.choose(flow, tried, now, ticket()).map(|live| (live, None)),
            // As IPVS, which drops what its engine makes nothing of.
            Some(_) if engine.is_some() && session.is_none() => Err(Refusal::NoSession),
            Some(rule) => {
                let session = session.filter(|_| engine.is_some());
                let client = Client { address: flow.client().ip(), session };
                let usable = |live: &Live| self.keeps_clients(live) && !tried.contains(&live.address);
                let choose = || self.choose(flow, tried, now, ticket());
                self.state.templates.find_or_make(rule, client, now, usable, choose)
            }
        };
        match chosen {
            Ok((live, tie)) => Ok(Lease::new(live, tie)),
            Err(refusal) => {
                self.state.refused.add(1);
                Err(refusal)
            }
        }
    }

    /// Whether a template that leads to this server is followed.
    pub(crate) fn keeps_clients(&self, live: &Live) -> bool {
        let allowed = match live.standing() & (REMOVED | DOWN | EJECTED) {
            0 => true,
            EJECTED if self.tries_ejected() => true,
            standing => standing & REMOVED == 0 && self.is_panicking(),
        };
        let moves = self.config.persistence.is_some_and(|rule| rule.expires_quiescent_template());
        allowed && !(moves && live.standing() & QUIESCED != 0)
    }

    /// What the scheduler says, admitted.
    fn choose(
        &self,
        flow: &Flow,
        tried: &[SocketAddr],
        now: Time,
        ticket: u64,
    ) -> Result<Arc<Live>, Refusal> {
        let warming = self.is_warming(now);
        if warming {
            self.share_choice(now);
        }
        let mut looked_again = false;
        // A server that fills up between choice and admission is full at the next look.
        for _ in 0..=self.servers.len() {
            let Some(server) = self.pick(flow, tried, ticket, now) else {
                let refusal = self.refusal(tried);
                // Perhaps one came free after the scheduler had looked at it.
                if refusal != Refusal::Unreachable || std::mem::replace(&mut looked_again, true) {
                    return Err(refusal);
                }
                continue;
            };
            let live = &self.servers[server].live;
            if warming
                && self.holds_back(server, now)
                && let Some(other) = self.pick_other(flow, tried, server, ticket, now)
                && let Some(admitted) = self.servers[other].live.admit()
            {
                return Ok(admitted);
            }
            if self.overfills {
                return Ok(live.bind());
            }
            if let Some(admitted) = live.admit() {
                return Ok(admitted);
            }
        }
        Err(Refusal::AllFull)
    }

    /// Asks the scheduler for one of the servers, else of the backups, else of those that are only
    /// ejected, if the policy has them tried.
    fn pick(&self, flow: &Flow, tried: &[SocketAddr], ticket: u64, now: Time) -> Option<usize> {
        self.pick_by(tried, now, |pool| self.scheduler.schedule(pool, flow, ticket))
    }

    fn pick_by(
        &self,
        tried: &[SocketAddr],
        now: Time,
        scheduled: impl Fn(Pool<'_>) -> Option<usize>,
    ) -> Option<usize> {
        // A search in vain moves the mark of `wrr` and would spoil the turns of the other rank.
        let seek = |pool: Pool<'_>| if pool.any_eligible() { scheduled(pool) } else { None };
        let among = |bits| match &self.backups {
            None => seek(self.pool(bits, None, tried, now)),
            Some(backups) => {
                let rank = |invert| self.pool(bits, Some(Hidden { backups, invert }), tried, now);
                seek(rank(false)).or_else(|| seek(rank(true)))
            }
        };
        let ejected = || match self.config.health.all_ejected {
            AllEjected::TryAll => among(&self.sound),
            AllEjected::Refuse => None,
        };
        // Where there is nobody at all, the mark moves as the kernel's does.
        let in_vain = || scheduled(self.pool(&self.usable, None, tried, now));
        if self.is_panicking() {
            return among(&self.weighted);
        }
        among(&self.usable).or_else(ejected).or_else(in_vain)
    }

    /// What [`Service::choose`] would choose for a new flow; the error is that the scheduler cannot tell,
    /// and the servers it would choose from.
    pub(crate) fn peek(&self, flow: &Flow, now: Time) -> Result<Option<usize>, Vec<usize>> {
        let choice = self.peek_except(flow, &[], now)?;
        let held_back = choice.filter(|server| self.is_warming(now) && self.would_hold_back(*server, now));
        if let Some(server) = held_back {
            let except = [self.servers[server].live.address];
            if self.pool(&self.usable, None, &except, now).any_eligible()
                && let Some(other) = self.peek_except(flow, &except, now)?
            {
                return Ok(Some(other));
            }
        }
        Ok(choice)
    }

    fn peek_except(&self, flow: &Flow, tried: &[SocketAddr], now: Time) -> Result<Option<usize>, Vec<usize>> {
        let ticket = self.state.ticket.load(Ordering::Relaxed);
        let unknown = RefCell::new(Vec::new());
        let choice = self.pick_by(tried, now, |pool| match self.scheduler.peek(pool, flow, ticket) {
            Peek::Choice(choice) => choice,
            Peek::Unknown => {
                // Who sends more to a full server may do so here.
                let overfills = self.overfills;
                let possible =
                    |server: &usize| pool.is_eligible(*server) || overfills && pool.is_open(*server);
                let servers: Vec<usize> = (0..pool.len()).filter(possible).collect();
                let any = servers.first().copied();
                *unknown.borrow_mut() = servers;
                any
            }
        });
        match unknown.into_inner() {
            unknown if unknown.is_empty() => Ok(choice),
            unknown => Err(unknown),
        }
    }

    pub(crate) fn scheduler(&self) -> &dyn Scheduler {
        &*self.scheduler
    }

    pub(crate) fn seats(&self) -> &[Seat] {
        &self.seats
    }

    pub(crate) fn is_panicking(&self) -> bool {
        self.panicking.load(Ordering::Relaxed)
    }

    /// What is chosen in the place of a server that holds back.
    fn pick_other(
        &self,
        flow: &Flow,
        tried: &[SocketAddr],
        server: usize,
        ticket: u64,
        now: Time,
    ) -> Option<usize> {
        // On the stack, since a choice does not allocate; who has tried more takes what he gets.
        let mut except = [self.servers[server].live.address; EXCEPT_MAX + 1];
        except.get_mut(..tried.len())?.copy_from_slice(tried);
        let except = except.get(..=tried.len())?;
        self.pool(&self.usable, None, except, now).any_eligible().then_some(())?;
        self.pick(flow, except, ticket, now)
    }

    /// Whether there is nobody but ejected servers, and the policy has them tried.
    fn tries_ejected(&self) -> bool {
        self.config.health.all_ejected == AllEjected::TryAll
            && self.usable.iter().all(|bits| bits.load(Ordering::Relaxed) == 0)
    }

    fn pool<'a>(
        &'a self,
        bits: &'a [AtomicU64],
        hidden: Option<Hidden<'a>>,
        tried: &'a [SocketAddr],
        now: Time,
    ) -> Pool<'a> {
        Pool::new(&self.servers, bits, hidden, self.thresholds, tried, now)
    }

    /// The reason that stands in the way of the server that came closest.
    pub(crate) fn refusal(&self, tried: &[SocketAddr]) -> Refusal {
        let reasons = self.servers.iter().map(|server| {
            let live = &server.live;
            match live.standing() {
                standing if standing & INHIBITED != 0 => Refusal::AllDown,
                standing if standing & (REMOVED | QUIESCED) != 0 => Refusal::AllQuiesced,
                standing if standing & (DOWN | EJECTED) != 0 => Refusal::AllDown,
                _ if live.is_full() => Refusal::AllFull,
                _ if tried.contains(&live.address) => Refusal::AllTried,
                _ => Refusal::Unreachable,
            }
        });
        reasons.max_by_key(|reason| *reason as u8).unwrap_or(Refusal::NoServers)
    }

    pub(crate) fn position(&self, server: SocketAddr) -> Option<usize> {
        self.seats.iter().position(|seat| seat.address == server)
    }

    /// The rule for failures of this server in traffic.
    pub(crate) fn passive(&self, server: usize) -> Option<Passive> {
        self.config.servers[server].passive.or(self.config.health.passive)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::NoService => "there is no such service",
            Refusal::NoServers => "the service has no servers",
            Refusal::AllQuiesced => "every server has weight 0",
            Refusal::AllDown => "every server with a weight is down",
            Refusal::AllFull => "every server that is up is full",
            Refusal::AllTried => "every server that could be chosen has failed this flow",
            Refusal::Unreachable => "the scheduler's rule allows no server for this flow",
            Refusal::NoSession => "the persistence engine has found nothing to tell the session by",
        })
    }
}

impl std::error::Error for Refusal {}

/// Servers that may have failed a flow before one that warms up takes it nevertheless.
const EXCEPT_MAX: usize = 15;
