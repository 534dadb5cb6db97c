//! What a new configuration changes, and for whom.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::config::{Config, ServiceConfig, ServiceKey, Weight};
use crate::director::Services;
use crate::flow::Flow;
use crate::pairing::places_in;
use crate::scheduler::{Change, Scheduler, Seat, Share};
use crate::server::Handle;
use crate::service::{Draft, Service, ServiceState};
use crate::time::Time;

/// What [`Director::apply`](crate::Director::apply) changed, or what
/// [`Director::plan`](crate::Director::plan) says it would.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Changes {
    /// Services that were not there before.
    pub services_added: Vec<ServiceKey>,
    /// Services that are gone.
    pub services_removed: Vec<ServiceKey>,
    /// Services of which something but the servers changed.
    pub services_edited: Vec<ServiceKey>,
    /// Servers that were not there before.
    pub servers_added: Vec<(ServiceKey, SocketAddr)>,
    /// Servers that are gone.
    pub servers_removed: Vec<(ServiceKey, SocketAddr)>,
    /// Servers of which something changed.
    pub servers_edited: Vec<(ServiceKey, SocketAddr)>,
    /// Of those, the ones whose weight changed.
    pub servers_reweighted: Vec<Reweighted>,
    /// What part of hash space leads to another server, for each service whose scheduler follows the
    /// flow, and whose servers or scheduler change.
    pub moved: Vec<Moved>,
    /// Persistent clients that lose their server: it is gone, or persistence is switched off.
    pub templates: u64,
    /// Connections on servers that are gone. They go on, unless the service has
    /// [`expire_nodest_conn`](ServiceConfig::expire_nodest_conn).
    pub connections: u64,
}

/// A server whose weight changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Reweighted {
    /// Its service.
    pub service: ServiceKey,
    /// Its address.
    pub server: SocketAddr,
    /// Weight before.
    pub before: Weight,
    /// Weight after.
    pub after: Weight,
}

/// How much of the hash space of a service leads elsewhere after a change, all servers being up and
/// empty: so many of all clients, destinations or keys get another server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Moved {
    /// The service.
    pub service: ServiceKey,
    /// The part that moves. Schedulers with a table compare their tables. Where that does not tell,
    /// since the scheduler itself changes or there are backups, it is counted over a sample of clients.
    pub share: Share,
}

impl Moved {
    /// Percent of hash space.
    pub fn percent(&self) -> f64 {
        self.share.percent()
    }

    /// What moves when the service schedules as `config` wants; nothing is said where it does not
    /// follow the flow, or nothing changes that it goes by.
    pub(crate) fn by(old: &Service, config: &ServiceConfig) -> Option<Moved> {
        if !old.scheduler().follows_flow() || schedules_alike(&old.config, config) {
            return None;
        }
        let Draft { seats, scheduler, .. } = Draft::of(config, Some(old), None);
        Moved::between(old, config, &seats, &*scheduler)
    }

    /// The same, where the new service is there already.
    pub(crate) fn to(new: &Service, old: &Service) -> Option<Moved> {
        if !old.scheduler().follows_flow() || schedules_alike(&old.config, &new.config) {
            return None;
        }
        Moved::between(old, &new.config, new.seats(), new.scheduler())
    }

    fn between(
        old: &Service,
        config: &ServiceConfig,
        seats: &[Seat],
        scheduler: &dyn Scheduler,
    ) -> Option<Moved> {
        if !scheduler.follows_flow() {
            return None;
        }
        let change = Change { old: old.seats(), new: seats, edited: &[] };
        // Backups are out of sight as long as the others serve, and no table knows who is one.
        let backups = old.config.servers.iter().chain(&config.servers).any(|server| server.backup);
        let told = if backups { None } else { scheduler.moved(old.scheduler(), &change) };
        let share = told.unwrap_or_else(|| sampled(&old.config, config));
        Some(Moved { service: config.key.clone(), share })
    }
}

/// Whether the schedulers of two configurations of a service choose alike.
fn schedules_alike(before: &ServiceConfig, after: &ServiceConfig) -> bool {
    let same_servers = before.servers.len() == after.servers.len()
        && before.servers.iter().zip(&after.servers).all(|(before, after)| {
            (before.address, before.weight, before.backup) == (after.address, after.weight, after.backup)
        });
    let same_rule = before.algorithm == after.algorithm && before.custom == after.custom;
    same_servers && same_rule && before.flags == after.flags
}

/// The share that moves of a sample of clients.
fn sampled(before: &ServiceConfig, after: &ServiceConfig) -> Share {
    // Apart from those that serve, so that asking leaves no trace.
    let apart = |config: &ServiceConfig| {
        let state = Arc::new(ServiceState::new(config.key.clone()));
        Service::build(config.clone(), state, None, None)
    };
    let (old, new) = (apart(before), apart(after));
    let choice = |service: &Service, flow: &Flow| {
        let server = service.peek(flow, Time::ZERO).ok().flatten();
        server.map(|server| service.servers[server].live.address)
    };
    // Some schedulers look at every server for each client.
    let servers = before.servers.len().max(after.servers.len()).max(1);
    let sample = (LOOKS_MAX / servers).clamp(SAMPLE_LEAST, SAMPLE_MOST) as u32;
    let moves = (0..sample).filter(|client| {
        // Spread over all addresses, since hashes of neighbours are neighbours in some schedulers.
        let client = Ipv4Addr::from(client.wrapping_mul(0x9e37_79b1));
        let flow = Flow::new((client, 40_000).into()).to((client, 80).into());
        choice(&old, &flow) != choice(&new, &flow)
    });
    Share { part: moves.count() as u64, whole: u64::from(sample) }
}

impl Changes {
    /// What `new` changes for the configuration `old`, which the services that are there have; the
    /// shares that move are left out.
    pub(crate) fn between(old: &Config, new: &Config, present: &Services) -> Changes {
        let mut changes = Changes::default();
        for service in &new.services {
            match present.get(&service.key) {
                None => {
                    changes.services_added.push(service.key.clone());
                    let added = service.servers.iter().map(|server| (service.key.clone(), server.address));
                    changes.servers_added.extend(added);
                }
                Some(before) => changes.compare(before, service),
            }
        }
        let after: HashSet<&ServiceKey, foldhash::fast::RandomState> =
            new.services.iter().map(|service| &service.key).collect();
        for service in old.services.iter().filter(|service| !after.contains(&service.key)) {
            changes.services_removed.push(service.key.clone());
            let servers = present.get(&service.key).map_or(&[][..], |service| &service.servers);
            servers.iter().for_each(|server| changes.lose(&service.key, &server.live));
        }
        changes
    }

    fn compare(&mut self, old: &Service, new: &ServiceConfig) {
        let before = &old.config;
        if !before.is_alike_but_for_servers(new) {
            self.services_edited.push(new.key.clone());
        }
        let mut gone = vec![true; before.servers.len()];
        for (server, place) in new.servers.iter().zip(places_in(&before.servers, &new.servers)) {
            let Some(place) = place else {
                self.servers_added.push((new.key.clone(), server.address));
                continue;
            };
            gone[place] = false;
            if new.persistence.is_none() {
                self.templates += templates(&old.servers[place].live);
            }
            let before = &before.servers[place];
            if before != server {
                self.servers_edited.push((new.key.clone(), server.address));
            }
            if before.weight != server.weight {
                let (before, after) = (before.weight, server.weight);
                let service = new.key.clone();
                self.servers_reweighted.push(Reweighted { service, server: server.address, before, after });
            }
        }
        for (server, _) in old.servers.iter().zip(gone).filter(|(_, gone)| *gone) {
            self.lose(&new.key, &server.live);
        }
    }

    fn lose(&mut self, service: &ServiceKey, live: &Handle) {
        self.servers_removed.push((service.clone(), live.address));
        self.connections += u64::from(live.load().total());
        self.templates += templates(live);
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }
}

fn templates(live: &Handle) -> u64 {
    u64::from(live.templates.load(Ordering::Relaxed))
}

/// Servers that are looked at for a sample, about.
const LOOKS_MAX: usize = 1 << 18;

/// Clients of a sample.
const SAMPLE_MOST: usize = 4096;
const SAMPLE_LEAST: usize = 512;
