//! What a new configuration changes, and for whom.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::config::{Algorithm, Config, SchedulerFlags, ServerConfig, ServiceConfig, ServiceKey, Weight};
use crate::director::Services;
use crate::flow::Flow;
use crate::service::{Service, ServiceState};
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
    /// What part of the clients gets another server, for each service whose scheduler follows the
    /// client, and whose servers or scheduler change.
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

/// How many of a sample of clients a hashing scheduler sends elsewhere after a change, all servers
/// being up and empty.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Moved {
    /// The service.
    pub service: ServiceKey,
    /// Clients that move.
    pub moved: u32,
    /// Clients that were looked at.
    pub sample: u32,
}

impl Moved {
    /// Clients that move, of a hundred.
    pub fn percent(&self) -> f64 {
        f64::from(self.moved) * 100.0 / f64::from(self.sample.max(1))
    }

    fn between(before: &ServiceConfig, after: &ServiceConfig) -> Option<Moved> {
        // Apart from those that serve, so that asking leaves no trace.
        let apart = |config: &ServiceConfig| {
            Service::build(config.clone(), Arc::new(ServiceState::new(config.key.clone())), None, None)
        };
        let (old, new) = (apart(before), apart(after));
        if !new.follows_flow() {
            return None;
        }
        let choice = |service: &Service, flow: &Flow| {
            let server = service.peek(flow, Time::ZERO).ok().flatten();
            server.map(|server| service.servers[server].live.address)
        };
        let moves = (0..SAMPLE).filter(|client| {
            // Spread over all addresses, since hashes of neighbours are neighbours in some schedulers.
            let client = Ipv4Addr::from(client.wrapping_mul(0x9e37_79b1));
            let flow = Flow::new((client, 40_000).into()).to((client, 80).into());
            choice(&old, &flow) != choice(&new, &flow)
        });
        Some(Moved { service: after.key.clone(), moved: moves.count() as u32, sample: SAMPLE })
    }
}

/// What a hashing scheduler's choices depend on.
fn places(service: &ServiceConfig) -> (Algorithm, SchedulerFlags, Vec<(SocketAddr, Weight, bool)>) {
    let servers = service.servers.iter().map(|server| (server.address, server.weight, server.backup));
    (service.algorithm, service.flags, servers.collect())
}

impl Changes {
    pub(crate) fn between(old: &Config, new: &Config) -> Changes {
        let mut changes = Changes::default();
        let before: HashMap<&ServiceKey, &ServiceConfig> =
            old.services.iter().map(|service| (&service.key, service)).collect();
        for service in &new.services {
            match before.get(&service.key) {
                None => {
                    changes.services_added.push(service.key.clone());
                    let added = service.servers.iter().map(|server| (service.key.clone(), server.address));
                    changes.servers_added.extend(added);
                }
                Some(before) => changes.compare(before, service),
            }
        }
        let after: HashSet<&ServiceKey> = new.services.iter().map(|service| &service.key).collect();
        for service in old.services.iter().filter(|service| !after.contains(&service.key)) {
            changes.services_removed.push(service.key.clone());
            let removed = service.servers.iter().map(|server| (service.key.clone(), server.address));
            changes.servers_removed.extend(removed);
        }
        changes
    }

    fn compare(&mut self, old: &ServiceConfig, new: &ServiceConfig) {
        let but_servers = |service: &ServiceConfig| ServiceConfig { servers: Vec::new(), ..service.clone() };
        if but_servers(old) != but_servers(new) {
            self.services_edited.push(new.key.clone());
        }
        let before: HashMap<SocketAddr, &ServerConfig> =
            old.servers.iter().map(|server| (server.address, server)).collect();
        for server in &new.servers {
            match before.get(&server.address) {
                None => self.servers_added.push((new.key.clone(), server.address)),
                Some(before) => {
                    if *before != server {
                        self.servers_edited.push((new.key.clone(), server.address));
                    }
                    if before.weight != server.weight {
                        let (before, after) = (before.weight, server.weight);
                        let reweighted =
                            Reweighted { service: new.key.clone(), server: server.address, before, after };
                        self.servers_reweighted.push(reweighted);
                    }
                }
            }
        }
        let after: HashSet<SocketAddr> = new.servers.iter().map(|server| server.address).collect();
        let removed = old.servers.iter().filter(|server| !after.contains(&server.address));
        self.servers_removed.extend(removed.map(|server| (new.key.clone(), server.address)));
    }

    /// Adds what a change does to those who are being served, whom the configurations do not know.
    pub(crate) fn look_up(&mut self, present: &Services, wanted: &Config) {
        for (service, server) in &self.servers_removed {
            let Some(service) = present.get(service) else { continue };
            let Some(place) = service.position(*server) else { continue };
            let live = &service.servers[place].live;
            self.connections += u64::from(live.load().total());
            self.templates += u64::from(live.templates.load(Ordering::Relaxed));
        }
        for wanted in &wanted.services {
            let Some(service) = present.get(&wanted.key) else { continue };
            let kept = wanted.servers.iter().filter_map(|server| service.position(server.address));
            if wanted.persistence.is_none() {
                let templates = kept
                    .map(|place| u64::from(service.servers[place].live.templates.load(Ordering::Relaxed)));
                self.templates += templates.sum::<u64>();
            }
            if service.follows_flow()
                && places(&service.config) != places(wanted)
                && let Some(moved) = Moved::between(&service.config, wanted)
            {
                self.moved.push(moved);
            }
        }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }
}

/// How many clients are looked at.
const SAMPLE: u32 = 4096;
