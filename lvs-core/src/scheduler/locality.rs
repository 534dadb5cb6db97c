//! Schedulers that keep a destination on its server: `lblc`, and `lblcr` on a set of servers that
//! grows under load. They are for caches: one service (by firewall mark) sees many destinations,
//! and each is to be cached once.
//!
//! As in IPVS (`ip_vs_lblc.c`, `ip_vs_lblcr.c`). Servers are remembered by address, so that one
//! that is deleted and comes back is known again. IPVS's table may outgrow its limit for a minute;
//! this one never does: a destination that finds it full of fresh entries is scheduled without one.

use std::any::Any;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::flow::{Flow, canonical};
use crate::pool::Pool;
use crate::scheduler::least::{Cost, least, least_loaded, weighted_connections};
use crate::scheduler::{Change, Peek, Scheduler, Setup, Tickets};
use crate::time::Time;

/// `lblc` or `lblcr`, by what it remembers of a destination.
pub(super) struct Locality<M> {
    /// Shared with the configurations before and after. Held for one pick.
    table: Arc<Mutex<Table<M>>>,
    places: HashMap<SocketAddr, usize, foldhash::fast::RandomState>,
    /// Of flows that do not say where they were sent to.
    destination: IpAddr,
}

/// What a scheduler remembers of a destination.
pub(super) trait Memory: Send + 'static {
    /// A destination that was never seen: its server is this.
    fn of(server: SocketAddr, now: Time) -> Self;

    /// The remembered server, if it will do.
    fn recall(&self, servers: &Servers<'_>) -> Option<usize>;

    /// Forgets what is remembered for too long. Done at each use, after the server was chosen.
    fn age(&mut self, _servers: &Servers<'_>) {}

    /// The server that was chosen instead.
    fn store(&mut self, server: SocketAddr, now: Time);
}

/// `lblc` remembers one server.
pub(super) struct One(SocketAddr);

/// `lblcr` remembers a set.
pub(super) struct Set {
    /// Last added first.
    servers: Vec<SocketAddr>,
    modified: Time,
}

/// The servers as they are now, by address.
pub(super) struct Servers<'a> {
    pool: Pool<'a>,
    places: &'a HashMap<SocketAddr, usize, foldhash::fast::RandomState>,
}

struct Table<M> {
    entries: HashMap<IpAddr, Entry<M>, foldhash::fast::RandomState>,
    /// When entries were last looked through for those that nobody used for a day.
    checked: Option<Time>,
    /// When room was last made.
    made_room: Option<Time>,
}

struct Entry<M> {
    memory: M,
    used: Time,
}

impl<M: Memory> Locality<M> {
    pub(super) fn new(setup: &Setup<'_>) -> Locality<M> {
        let places = setup.seats.iter().enumerate().map(|(index, seat)| (seat.address, index));
        let destination = setup.destination.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Locality {
            table: Arc::new(Mutex::new(Table::new())),
            places: places.collect(),
            destination: canonical(destination),
        }
    }
}

impl<M> Locality<M> {
    fn destination(&self, flow: &Flow) -> IpAddr {
        flow.destination().map_or(self.destination, |destination| canonical(destination.ip()))
    }

    /// The table is consistent after each statement, so a panic elsewhere does no harm.
    fn table(&self) -> MutexGuard<'_, Table<M>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Memory> Scheduler for Locality<M> {
    fn schedule(&self, pool: Pool<'_>, flow: &Flow, _ticket: u64) -> Option<usize> {
        let destination = self.destination(flow);
        let now = pool.now();
        let servers = Servers { pool, places: &self.places };
        let mut table = self.table();
        table.check(now);
        if let Some(entry) = table.entries.get_mut(&destination) {
            entry.used = now;
            let recalled = entry.memory.recall(&servers);
            entry.memory.age(&servers);
            if recalled.is_some() {
                return recalled;
            }
            let server = least_loaded(pool)?;
            entry.memory.store(pool.address(server), now);
            return Some(server);
        }
        let server = least_loaded(pool)?;
        if table.has_room(now) {
            let memory = M::of(pool.address(server), now);
            table.entries.insert(destination, Entry { memory, used: now });
        }
        Some(server)
    }

    fn peek(&self, pool: Pool<'_>, flow: &Flow, _ticket: u64) -> Peek {
        let servers = Servers { pool, places: &self.places };
        let table = self.table();
        let due = table.due(pool.now());
        let entry = table.entries.get(&self.destination(flow));
        let entry = entry.filter(|entry| due.is_none_or(|due| !entry.is_forgotten(due)));
        let recalled = entry.and_then(|entry| entry.memory.recall(&servers));
        Peek::Choice(recalled.or_else(|| least_loaded(pool)))
    }

    fn tickets(&self) -> Tickets {
        Tickets::Unused
    }

    /// A server that is remembered gets its destinations even when it is full.
    fn overfills(&self) -> bool {
        true
    }

    fn inherit(&mut self, old: &dyn Scheduler, _change: &Change<'_>) {
        if let Some(old) = (old as &dyn Any).downcast_ref::<Locality<M>>() {
            self.table = Arc::clone(&old.table);
        }
    }
}

impl<M> Table<M> {
    fn new() -> Table<M> {
        let entries = HashMap::with_hasher(foldhash::fast::RandomState::default());
        Table { entries, checked: None, made_room: None }
    }

    /// Every half hour, entries that were not used for a day go.
    fn check(&mut self, now: Time) {
        let due = self.due(now);
        if let Some(due) = due {
            self.entries.retain(|_, entry| !entry.is_forgotten(due));
        }
        self.checked = due.or(self.checked).or(Some(now));
    }

    /// The latest moment at which entries should have been looked through and were not.
    fn due(&self, now: Time) -> Option<Time> {
        let checked = self.checked?;
        let rounds = now.since(checked).as_nanos() / CHECK_INTERVAL.as_nanos();
        let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
        (rounds > 0).then(|| checked + CHECK_INTERVAL.saturating_mul(rounds))
    }

    /// Whether one more entry may be kept. In a full table, those that were not used for some minutes
    /// make room; the search for them is a walk, which is made once a minute at most.
    fn has_room(&mut self, now: Time) -> bool {
        if self.entries.len() < ENTRIES_MAX {
            return true;
        }
        if self.made_room.is_some_and(|before| now.since(before) < ROOM_INTERVAL) {
            return false;
        }
        self.made_room = Some(now);
        self.entries.retain(|_, entry| now.since(entry.used) < UNUSED);
        self.entries.len() < ENTRIES_MAX
    }
}

impl<M> Entry<M> {
    fn is_forgotten(&self, now: Time) -> bool {
        now.since(self.used) > EXPIRATION
    }
}

impl Servers<'_> {
    fn find(&self, address: SocketAddr) -> Option<usize> {
        self.places.get(&address).copied()
    }

    /// Whether a server has more active connections than its weight while another has less than half
    /// of its own.
    fn is_busy(&self, server: usize) -> bool {
        let pool = self.pool;
        let is_idle = |other: usize| u64::from(pool.load(other).active) * 2 < u64::from(pool.weight(other));
        pool.load(server).active > pool.weight(server)
            && (0..pool.len()).any(|other| pool.is_open(other) && is_idle(other))
    }
}

impl Memory for One {
    fn of(server: SocketAddr, _now: Time) -> One {
        One(server)
    }

    fn recall(&self, servers: &Servers<'_>) -> Option<usize> {
        let server = servers.find(self.0)?;
        // Whether it is full is not asked, as in IPVS.
        (servers.pool.is_open(server) && !servers.is_busy(server)).then_some(server)
    }

    fn store(&mut self, server: SocketAddr, _now: Time) {
        self.0 = server;
    }
}

impl Memory for Set {
    fn of(server: SocketAddr, now: Time) -> Set {
        Set { servers: vec![server], modified: now }
    }

    fn recall(&self, servers: &Servers<'_>) -> Option<usize> {
        let pool = servers.pool;
        let eligible =
            self.servers.iter().filter_map(|address| servers.find(*address)).filter(|s| pool.is_eligible(*s));
        least(eligible, pool, weighted_connections).filter(|server| !servers.is_busy(*server))
    }

    fn age(&mut self, servers: &Servers<'_>) {
        if self.servers.len() > 1 && servers.pool.now().since(self.modified) > EXPIRATION {
            self.shrink(servers);
        }
    }

    fn store(&mut self, server: SocketAddr, now: Time) {
        if !self.servers.contains(&server) {
            self.servers.insert(0, server);
            self.modified = now;
        }
    }
}

impl Set {
    /// Drops a server that is gone, else the one with the most load for its weight.
    fn shrink(&mut self, servers: &Servers<'_>) {
        let gone = self.servers.iter().position(|address| servers.find(*address).is_none());
        let most = || {
            let members = self.servers.iter().enumerate();
            let mut most: Option<(usize, Cost)> = None;
            for (place, address) in members {
                let Some(server) = servers.find(*address) else { continue };
                let weight = servers.pool.weight(server);
                let Some(cost) = weighted_connections(servers.pool.load(server), weight) else { continue };
                if weight > 0 && most.as_ref().is_none_or(|(_, most)| most.is_below(&cost)) {
                    most = Some((place, cost));
                }
            }
            most.map(|(place, _)| place)
        };
        if let Some(place) = gone.or_else(most) {
            self.servers.remove(place);
            self.modified = servers.pool.now();
        }
    }
}

/// Entries of a table, as in IPVS: 16 for each of 1024 buckets.
const ENTRIES_MAX: usize = 16_384;

/// How long an entry stays unused, and a set unchanged (`net.ipv4.vs.lblc_expiration`).
const EXPIRATION: Duration = Duration::from_secs(24 * 3600);

const CHECK_INTERVAL: Duration = Duration::from_secs(30 * 60);

/// How long an entry of a full table stays unused.
const UNUSED: Duration = Duration::from_secs(6 * 60);

const ROOM_INTERVAL: Duration = Duration::from_secs(60);
