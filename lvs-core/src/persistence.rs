//! Templates: which server the clients of a network are kept on.
//!
//! A template is made by the first connection of a client network and renewed by each further
//! one. It holds for the persistence timeout after the last connection *began*; while connections
//! under it live, an expired template is kept a minute at a time (IPVS, `ip_vs_conn_expire`).
//! Expiry is checked at the read, so a lapsed template is never followed, swept or not.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::config::Persistence;
use crate::flow::canonical;
use crate::server::Live;
use crate::time::Time;

/// The templates of one service.
pub(crate) struct Templates {
    map: DashMap<u128, Arc<Template>, foldhash::fast::RandomState>,
    /// Entries of the map, which itself would have to visit every shard to tell.
    count: AtomicUsize,
}

/// One client network's tie to a server.
pub(crate) struct Template {
    pub(crate) live: Arc<Live>,
    /// Nanoseconds of [`Time`]; renewed by each new connection.
    expires: AtomicU64,
    /// Connections under this template that still live.
    controlled: AtomicU32,
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
            map: DashMap::with_hasher(foldhash::fast::RandomState::default()),
            count: AtomicUsize::new(0),
        }
    }

    /// Returns the client's template if it holds and leads to a usable server; otherwise what
    /// `choose` chooses, with a template for it.
    ///
    /// The client's entry is locked while `choose` runs, so that a client's first two connections
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
        if let Some(template) = self.map.get(&network)
            && template.holds(now)
            && usable(&template.live)
        {
            template.renew(rule, now);
            return Ok(Found::Template(Arc::clone(&template)));
        }
        match self.map.entry(network) {
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

    /// Removes what has expired; keeps what has expired and still has connections, a minute more.
    pub(crate) fn sweep(&self, now: Time) {
        self.retain(|template| template.hold_or_expire(now));
    }

    /// Removes everything: persistence was switched off.
    pub(crate) fn clear(&self) {
        if self.count.load(Ordering::Relaxed) > 0 {
            self.retain(|_| false);
        }
    }

    fn retain(&self, mut keep: impl FnMut(&Template) -> bool) {
        self.map.retain(|_, template| {
            let kept = keep(template);
            if !kept {
                self.count.fetch_sub(1, Ordering::Relaxed);
                template.live.templates.fetch_sub(1, Ordering::Relaxed);
            }
            kept
        });
    }

    /// Calls `visit` with each template that holds: client network, server, time left.
    pub(crate) fn for_each(&self, now: Time, mut visit: impl FnMut(IpAddr, &Live, Duration)) {
        for entry in &self.map {
            if entry.holds(now) {
                let expires = Time::from_nanos(entry.expires.load(Ordering::Relaxed));
                visit(address(*entry.key()), &entry.live, expires.since(now));
            }
        }
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
fn network(rule: &Persistence, client: IpAddr) -> u128 {
    match canonical(client) {
        IpAddr::V4(v4) => u128::from((v4 & rule.mask_v4()).to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6) & u128::MAX << (128 - u32::from(rule.prefix_v6())),
    }
}

fn address(network: u128) -> IpAddr {
    canonical(IpAddr::V6(network.into()))
}

/// How much longer an expired template stays while connections under it live.
const HELD: Duration = Duration::from_secs(60);
