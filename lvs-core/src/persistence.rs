//! Templates: which server the clients of a network are kept on.
//!
//! A template is made by the first connection of a client network and renewed by each further
//! one. It holds for the persistence timeout after the last connection *began*; while connections
//! under it live, an expired template is kept a minute at a time (IPVS, `ip_vs_conn_expire`).
//! Expiry is checked at the read, so a lapsed template is never followed, swept or not.
//!
//! The table is many small maps with a lock each, so that a sweep stops nobody for longer than it
//! takes to look at a few thousand entries, and stops itself after some more and goes on at the
//! next call. A template costs about 100 bytes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use crate::config::Persistence;
use crate::flow::canonical;
use crate::server::Live;
use crate::time::Time;

/// The templates of one service.
pub(crate) struct Templates {
    /// Made by the first template: most services have no persistence.
    shards: OnceLock<Box<[Shard]>>,
    hasher: foldhash::fast::RandomState,
    /// Entries of all shards together.
    count: AtomicUsize,
    /// Where the next sweep goes on. Written by sweeps.
    swept: AtomicUsize,
}

#[derive(Default)]
struct Shard {
    entries: RwLock<Entries>,
}

type Entries = HashMap<Network, Arc<Template>, foldhash::fast::RandomState>;

/// A client network as a number, high half and low half: a `u128` would be aligned to 16 bytes and
/// waste 8 of them in each entry.
type Network = (u64, u64);

/// One client network's tie to a server.
pub(crate) struct Template {
    pub(crate) live: Arc<Live>,
    /// Nanoseconds of [`Time`]; renewed by each new connection.
    expires: AtomicU64,
    /// Connections under this template that still live.
    controlled: AtomicU32,
    /// Whether a connection under it ever reached its server. Set by leases.
    assured: AtomicBool,
}

/// One template as it is saved: everything but whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) client: IpAddr,
    pub(crate) left: Duration,
    pub(crate) assured: bool,
}

/// What became of a template to restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    Restored,
    /// The client has come back since and has another one.
    Present,
    NoRoom,
}

/// What a client's entry leads to.
pub(crate) enum Found {
    /// A template that held; renewed.
    Template(Arc<Template>),
    /// A template made for the server that was chosen.
    Made(Arc<Template>),
    /// The table is full: only the server that was chosen.
    NoRoom(Arc<Live>),
}

impl Templates {
    pub(crate) fn new() -> Templates {
        Templates {
            shards: OnceLock::new(),
            hasher: foldhash::fast::RandomState::default(),
            count: AtomicUsize::new(0),
            swept: AtomicUsize::new(0),
        }
    }

    fn shards(&self) -> &[Shard] {
        self.shards.get_or_init(|| (0..SHARDS).map(|_| Shard::default()).collect())
    }

    fn shard(&self, network: Network) -> &Shard {
        // Bits that the maps themselves do not look at: they use the lowest and the highest.
        &self.shards()[(self.hasher.hash_one(network) >> 40) as usize % SHARDS]
    }

    /// Returns the client's template if it holds and leads to a usable server; otherwise what
    /// `choose` chooses, with a template for it.
    ///
    /// The client's shard is locked while `choose` runs, so that a client's first two connections
    /// at once get one server. When the table is full, the choice gets no template.
    pub(crate) fn find_or_make<E>(
        &self,
        rule: &Persistence,
        client: IpAddr,
        now: Time,
        usable: impl Fn(&Live) -> bool,
        choose: impl FnOnce() -> Result<Arc<Live>, E>,
    ) -> Result<Found, E> {
        let network = network(rule, client);
        let shard = self.shard(network);
        if let Some(template) = shard.read().get(&network)
            && template.holds(now)
            && usable(&template.live)
        {
            template.renew(rule, now);
            return Ok(Found::Template(Arc::clone(template)));
        }
        match shard.write().entry(network) {
            Entry::Occupied(mut entry) => {
                let template = entry.get();
                if template.holds(now) && usable(&template.live) {
                    template.renew(rule, now);
                    return Ok(Found::Template(Arc::clone(template)));
                }
                let template = Template::new(choose()?, now + rule.timeout());
                let replaced = entry.insert(Arc::clone(&template));
                replaced.live.templates.fetch_sub(1, Ordering::Relaxed);
                Ok(Found::Made(template))
            }
            Entry::Vacant(entry) => {
                let live = choose()?;
                if self.count.load(Ordering::Relaxed) >= rule.templates_max() {
                    return Ok(Found::NoRoom(live));
                }
                self.count.fetch_add(1, Ordering::Relaxed);
                let template = Template::new(live, now + rule.timeout());
                entry.insert(Arc::clone(&template));
                Ok(Found::Made(template))
            }
        }
    }

    /// The server that the client's template leads to, if it holds.
    pub(crate) fn peek(&self, rule: &Persistence, client: IpAddr, now: Time) -> Option<Arc<Live>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let network = network(rule, client);
        let entries = self.shard(network).read();
        let template = entries.get(&network).filter(|template| template.holds(now))?;
        Some(Arc::clone(&template.live))
    }

    /// Puts a saved template back, unless the client has one by now.
    pub(crate) fn insert(&self, rule: &Persistence, live: Arc<Live>, saved: Saved, now: Time) -> Inserted {
        let network = network(rule, saved.client);
        match self.shard(network).write().entry(network) {
            Entry::Occupied(entry) if entry.get().holds(now) => Inserted::Present,
            Entry::Vacant(_) if self.count.load(Ordering::Relaxed) >= rule.templates_max() => {
                Inserted::NoRoom
            }
            entry => {
                // Longer than a new template holds, none can have had left.
                let template = Template::new(live, now + saved.left.min(rule.timeout().max(HELD)));
                template.assured.store(saved.assured, Ordering::Relaxed);
                match entry {
                    Entry::Occupied(mut entry) => {
                        entry.insert(template).live.templates.fetch_sub(1, Ordering::Relaxed);
                    }
                    Entry::Vacant(entry) => {
                        self.count.fetch_add(1, Ordering::Relaxed);
                        entry.insert(template);
                    }
                }
                Inserted::Restored
            }
        }
    }

    /// Removes what has expired; keeps what has expired and still has connections, a minute more.
    ///
    /// A call looks at a part of a large table only.
    pub(crate) fn sweep(&self, now: Time) {
        let mut visited = 0;
        for _ in 0..SHARDS {
            if visited >= SWEPT_AT_ONCE || self.count.load(Ordering::Relaxed) == 0 {
                return;
            }
            let place = self.swept.fetch_add(1, Ordering::Relaxed) % SHARDS;
            visited += self.retain(&self.shards()[place], |template| template.hold_or_expire(now));
        }
    }

    /// Removes everything: persistence was switched off.
    pub(crate) fn clear(&self) {
        if self.count.load(Ordering::Relaxed) > 0 {
            for shard in self.shards() {
                self.retain(shard, |_| false);
            }
        }
    }

    /// Returns how many entries it looked at.
    fn retain(&self, shard: &Shard, mut keep: impl FnMut(&Template) -> bool) -> usize {
        let mut entries = shard.write();
        let visited = entries.len();
        entries.retain(|_, template| {
            let kept = keep(template);
            if !kept {
                self.count.fetch_sub(1, Ordering::Relaxed);
                template.live.templates.fetch_sub(1, Ordering::Relaxed);
            }
            kept
        });
        // What a rush of clients took is given back when they are gone.
        if entries.capacity() > SHRUNK_ABOVE && entries.len() < entries.capacity() / 8 {
            entries.shrink_to_fit();
        }
        visited
    }

    /// Calls `visit` with each template that holds and its server.
    pub(crate) fn for_each(&self, now: Time, mut visit: impl FnMut(Saved, &Arc<Live>)) {
        for shard in self.shards.get().into_iter().flatten() {
            for (network, template) in &*shard.read() {
                if template.holds(now) {
                    let expires = Time::from_nanos(template.expires.load(Ordering::Relaxed));
                    let assured = template.assured.load(Ordering::Relaxed);
                    let saved = Saved { client: address(*network), left: expires.since(now), assured };
                    visit(saved, &template.live);
                }
            }
        }
    }
}

/// A map is whole whenever a caller's `choose` could panic.
impl Shard {
    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Template {
    /// A template about to enter the table, and counted at its server as one that is there.
    fn new(live: Arc<Live>, expires: Time) -> Arc<Template> {
        live.templates.fetch_add(1, Ordering::Relaxed);
        Arc::new(Template {
            live,
            expires: AtomicU64::new(expires.as_nanos()),
            controlled: AtomicU32::new(0),
            assured: AtomicBool::new(false),
        })
    }

    /// Counts a connection under this template.
    pub(crate) fn control(&self) {
        self.controlled.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection under this template ended.
    pub(crate) fn release(&self) {
        self.controlled.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection under this template reached its server.
    pub(crate) fn assure(&self) {
        // Read first: the word is shared by all connections of the client.
        if !self.assured.load(Ordering::Relaxed) {
            self.assured.store(true, Ordering::Relaxed);
        }
    }

    fn renew(&self, rule: &Persistence, now: Time) {
        self.expires.store((now + rule.timeout()).as_nanos(), Ordering::Relaxed);
    }

    fn holds(&self, now: Time) -> bool {
        self.expires.load(Ordering::Relaxed) > now.as_nanos() || self.controlled.load(Ordering::Relaxed) > 0
    }

    fn hold_or_expire(&self, now: Time) -> bool {
        if self.expires.load(Ordering::Relaxed) > now.as_nanos() {
            return true;
        }
        if self.controlled.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.expires.store((now + HELD).as_nanos(), Ordering::Relaxed);
        true
    }
}

/// The client's network as one number: IPv4 in its IPv6-mapped place, so that both families share
/// a table without meeting.
fn network(rule: &Persistence, client: IpAddr) -> Network {
    let network = match canonical(client) {
        IpAddr::V4(v4) => u128::from((v4 & rule.mask_v4()).to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6) & u128::MAX << (128 - u32::from(rule.prefix_v6())),
    };
    ((network >> 64) as u64, network as u64)
}

fn address((high, low): Network) -> IpAddr {
    canonical(IpAddr::V6((u128::from(high) << 64 | u128::from(low)).into()))
}

/// How much longer an expired template stays while connections under it live.
const HELD: Duration = Duration::from_secs(60);

/// Parts of the table, each with a lock: a full table of a million has 4000 entries in each.
const SHARDS: usize = 256;

/// Entries after which a sweep leaves the rest to the next: some milliseconds of work.
const SWEPT_AT_ONCE: usize = 65_536;

/// Capacity of a part below which no memory is given back.
const SHRUNK_ABOVE: usize = 256;
