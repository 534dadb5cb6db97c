//! Templates: which server the clients of a network are kept on.
//!
//! A template is made by the first connection of a client network and renewed by each further
//! one. It holds for the persistence timeout after the last connection *began*; while connections
//! under it live, an expired template is kept a minute at a time (IPVS, `ip_vs_conn_expire`).
//! Expiry is checked at the read, so a lapsed template is never followed, swept or not.
//!
//! The table is many small maps with a lock each, so that a sweep stops nobody for longer than it
//! takes to look at a few thousand entries, and stops itself after some more and goes on at the
//! next call. A template costs about 100 bytes, one of a session up to five times that. A lease holds no
//! template but knows how to find its own again ([`Tie`]): what many clients share is looked at with one wait
//! for memory.
//!
//! With a persistence engine each session of a network has a template ([`session`]).

mod journal;
mod session;
mod table;

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::config::Persistence;
use crate::flow::canonical;
use crate::server::{Handle, Live};
use crate::time::Time;
use journal::Journal;
use session::{Digests, Sessions};
use table::Table;

pub(crate) use table::Network;

/// The templates of one service.
pub(crate) struct Templates {
    /// Made by the first template: most services have no persistence.
    shards: OnceLock<Box<[Shard]>>,
    hasher: foldhash::fast::RandomState,
    digests: Digests,
    /// Entries of all shards together.
    count: AtomicUsize,
    /// Where the next sweep goes on. Written by sweeps.
    swept: AtomicUsize,
    /// Templates ever made; tells a client's template from an earlier one of the same client.
    made: AtomicU32,
    /// Whether changes are noted for standbys. Written when somebody begins or ends to follow them.
    followed: AtomicBool,
    /// Where the next look at the notes goes on. Written by those looks.
    told: AtomicUsize,
}

#[derive(Default)]
struct Shard {
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    table: Table<Template>,
    /// What has changed since a follower looked.
    journal: Journal,
    /// Whose the templates of sessions are.
    sessions: Sessions,
}

/// Whom a template is for.
#[derive(Clone, Copy)]
pub(crate) struct Client<'a> {
    pub(crate) address: IpAddr,
    /// What a persistence engine has found, where the service has one.
    pub(crate) session: Option<&'a [u8]>,
}

/// One client network's tie to a server.
struct Template {
    live: Handle,
    /// Renewed by each new connection.
    expires: Time,
    /// Connections under this template that still live.
    controlled: u32,
    number: NonZeroU32,
    /// Whether a connection under it ever reached its server.
    assured: bool,
}

/// Which template a connection is under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tie {
    pub(crate) network: Network,
    pub(crate) number: NonZeroU32,
}

/// One template as it is saved: everything but its service and server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) client: IpAddr,
    pub(crate) session: Option<Box<[u8]>>,
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

impl Templates {
    pub(crate) fn new() -> Templates {
        Templates {
            shards: OnceLock::new(),
            hasher: foldhash::fast::RandomState::default(),
            digests: Digests::default(),
            count: AtomicUsize::new(0),
            swept: AtomicUsize::new(0),
            made: AtomicU32::new(0),
            followed: AtomicBool::new(false),
            told: AtomicUsize::new(0),
        }
    }

    fn shards(&self) -> &[Shard] {
        self.shards.get_or_init(|| (0..SHARDS).map(|_| Shard::default()).collect())
    }

    fn shard(&self, network: Network) -> &Shard {
        &self.shards()[self.hasher.hash_one(network) as usize % SHARDS]
    }

    /// Counts a connection at the server that the client's template leads to, if the template holds
    /// and the server is usable; otherwise returns what `choose` chooses, with a template for it.
    ///
    /// The client's shard is locked while `choose` runs, so that a client's first two connections
    /// at once get one server. When the table is full, the choice gets no template.
    pub(crate) fn find_or_make<E>(
        &self,
        rule: &Persistence,
        client: Client<'_>,
        now: Time,
        usable: impl Fn(&Live) -> bool,
        choose: impl FnOnce() -> Result<Arc<Live>, E>,
    ) -> Result<(Arc<Live>, Option<Tie>), E> {
        let network = self.key(rule, client);
        let mut entries = self.shard(network).lock();
        let Entries { table, journal, sessions } = &mut *entries;
        let present = match table.get_mut(network) {
            Some(template) if template.holds(now) && usable(&template.live) => {
                let before = std::mem::replace(&mut template.expires, now + rule.timeout());
                template.controlled += 1;
                if self.is_followed() && journal::is_news(before, template.expires, rule.timeout()) {
                    journal.note(network);
                }
                let tie = Tie { network, number: template.number };
                return Ok((template.live.bind(), Some(tie)));
            }
            present => present.is_some(),
        };
        let live = choose()?;
        if !present && !self.take_room(rule) {
            return Ok((live, None));
        }
        let template = self.make(Handle::of(&live), now + rule.timeout(), 1);
        let tie = Tie { network, number: template.number };
        table.insert(network, template);
        sessions.note(network, rule, client);
        if self.is_followed() {
            journal.note(network);
        }
        Ok((live, Some(tie)))
    }

    /// The server that the client's template leads to, if it holds.
    pub(crate) fn peek(&self, rule: &Persistence, client: Client<'_>, now: Time) -> Option<Handle> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let network = self.key(rule, client);
        let entries = self.shard(network).lock();
        let template = entries.table.get(network).filter(|template| template.holds(now))?;
        Some(template.live.clone())
    }

    /// A connection under this template reached its server.
    pub(crate) fn assure(&self, tie: Tie) {
        self.visit(tie, |template, journal| {
            if !std::mem::replace(&mut template.assured, true) && self.is_followed() {
                journal.note(tie.network);
            }
        });
    }

    /// A connection under this template ended.
    pub(crate) fn release(&self, tie: Tie) {
        self.visit(tie, |template, _| template.controlled -= 1);
    }

    /// Nothing happens if the template is gone: the client was moved, or persistence switched off.
    fn visit(&self, tie: Tie, change: impl FnOnce(&mut Template, &mut Journal)) {
        let mut entries = self.shard(tie.network).lock();
        let Entries { table, journal, .. } = &mut *entries;
        if let Some(template) = table.get_mut(tie.network).filter(|found| found.number == tie.number) {
            change(template, journal);
        }
    }

    /// Puts a saved template back, unless the client has one by now.
    pub(crate) fn insert(&self, rule: &Persistence, live: Handle, saved: &Saved, now: Time) -> Inserted {
        let network = self.key(rule, saved.client());
        let mut entries = self.shard(network).lock();
        match entries.table.get(network) {
            Some(template) if template.holds(now) => return Inserted::Present,
            None if !self.take_room(rule) => return Inserted::NoRoom,
            _ => {}
        }
        entries.table.insert(network, self.remake(rule, live, saved, now));
        entries.sessions.note(network, rule, saved.client());
        Inserted::Restored
    }

    /// Takes over what another director says of a client, unless this one serves that client itself.
    pub(crate) fn learn(&self, rule: &Persistence, live: Handle, saved: &Saved, now: Time) -> Inserted {
        let network = self.key(rule, saved.client());
        let mut entries = self.shard(network).lock();
        match entries.table.get_mut(network) {
            Some(template) if template.controlled > 0 => return Inserted::Present,
            Some(template) if std::ptr::eq(&*template.live, &*live) => {
                template.expires = expiry(rule, saved, now);
                template.assured = saved.assured;
                return Inserted::Restored;
            }
            None if !self.take_room(rule) => return Inserted::NoRoom,
            _ => {}
        }
        entries.table.insert(network, self.remake(rule, live, saved, now));
        entries.sessions.note(network, rule, saved.client());
        Inserted::Restored
    }

    fn remake(&self, rule: &Persistence, live: Handle, saved: &Saved, now: Time) -> Template {
        let mut template = self.make(live, expiry(rule, saved, now), 0);
        template.assured = saved.assured;
        template
    }

    /// Counts one more entry if there is room for it.
    fn take_room(&self, rule: &Persistence) -> bool {
        let free = self.count.load(Ordering::Relaxed) < rule.templates_max();
        if free {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        free
    }

    fn make(&self, live: Handle, expires: Time, controlled: u32) -> Template {
        live.templates.fetch_add(1, Ordering::Relaxed);
        let number =
            NonZeroU32::MIN.saturating_add(self.made.fetch_add(1, Ordering::Relaxed) % (u32::MAX - 1));
        Template { live, expires, controlled, number, assured: false }
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
            let shard = &self.shards()[place];
            if self.is_followed() {
                let mut entries = shard.lock();
                let Entries { table, journal, .. } = &mut *entries;
                let held = table.iter().filter(|(_, template)| template.is_held(now));
                held.for_each(|(network, _)| journal.note(network));
            }
            visited += self.retain(shard, |template| template.hold_or_expire(now));
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
    fn retain(&self, shard: &Shard, keep: impl FnMut(&mut Template) -> bool) -> usize {
        let mut entries = shard.lock();
        let Entries { table, sessions, .. } = &mut *entries;
        let visited = table.len();
        table.retain(keep);
        sessions.retain(|network| table.get(network).is_some());
        self.count.fetch_sub(visited - table.len(), Ordering::Relaxed);
        visited
    }

    /// Calls `visit` with each template that holds and its server.
    pub(crate) fn for_each(&self, now: Time, mut visit: impl FnMut(Saved, &Live)) {
        for shard in self.shards.get().into_iter().flatten() {
            let Entries { table, sessions, .. } = &*shard.lock();
            for (network, template) in table.iter().filter(|(_, template)| template.holds(now)) {
                visit(template.saved(sessions.whose(network), now), &template.live);
            }
        }
    }

    /// Under which number a client's template is.
    fn key(&self, rule: &Persistence, client: Client<'_>) -> Network {
        let network = network(rule, client.address);
        client.session.map_or(network, |session| self.digests.of(network, session))
    }
}

impl Shard {
    /// A map is whole whenever a caller's `choose` could panic.
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Template {
    fn holds(&self, now: Time) -> bool {
        self.expires > now || self.controlled > 0
    }

    fn hold_or_expire(&mut self, now: Time) -> bool {
        if self.is_held(now) {
            self.expires = now + HELD;
        }
        self.expires > now
    }

    /// Its time is over, and connections under it live.
    fn is_held(&self, now: Time) -> bool {
        self.expires <= now && self.controlled > 0
    }

    fn saved(&self, whose: Client<'_>, now: Time) -> Saved {
        Saved {
            client: whose.address,
            session: whose.session.map(Into::into),
            left: self.expires.since(now),
            assured: self.assured,
        }
    }
}

impl Saved {
    fn client(&self) -> Client<'_> {
        Client { address: self.client, session: self.session.as_deref() }
    }
}

/// A template that goes is no longer counted at its server.
impl Drop for Template {
    fn drop(&mut self) {
        self.live.templates.fetch_sub(1, Ordering::Relaxed);
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

/// Longer than a new template holds, none can have left.
fn expiry(rule: &Persistence, saved: &Saved, now: Time) -> Time {
    now + saved.left.min(rule.timeout().max(HELD))
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
