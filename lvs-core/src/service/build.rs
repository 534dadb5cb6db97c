//! How a service of one snapshot is made from the one before it, and what becomes of the servers that
//! it does not have any more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::config::{Protocol, ServiceConfig, ServiceKey, Weight};
use crate::health::SlowStart;
use crate::occupancy::Kind;
use crate::pairing::places_in;
use crate::scheduler::{self, Change, Scheduler, Seat, Setup};
use crate::server::{Handle, Live, REMOVED, Server};
use crate::service::{Service, ServiceState};

/// What a service would schedule by; to make it leaves no trace.
pub(crate) struct Draft {
    pub(crate) seats: Box<[Seat]>,
    pub(crate) scheduler: Box<dyn Scheduler>,
    /// Where each server was before, if it was there.
    places: Vec<Option<usize>>,
}

impl Draft {
    /// `touched` was edited, even if nothing about it changed.
    pub(crate) fn of(config: &ServiceConfig, old: Option<&Service>, touched: Option<SocketAddr>) -> Draft {
        let places = places_in(old.map_or(&[], |old| &*old.config.servers), &config.servers);
        let mut edited = Vec::new();
        let seats = config.servers.iter().zip(&places).map(|(server, place)| {
            let (address, weight) = (server.address, server.weight.value());
            let before = place.and_then(|place| Some((old?, place)));
            let Some((old, place)) = before else { return Seat { address, weight, last_weight: weight } };
            if old.config.servers[place] != *server || touched == Some(address) {
                edited.push(address);
            }
            let quiesced = server.weight == Weight::ZERO;
            let last_weight = if quiesced { old.servers[place].live.last_weight() } else { weight };
            Seat { address, weight, last_weight }
        });
        let seats: Box<[Seat]> = seats.collect();
        let destination = config.key.address().map(|address| address.ip());
        let setup = Setup { seats: &seats, flags: config.flags, seed: config.seed, destination };
        let change = old.map(|old| Change { old: &old.seats, new: &seats, edited: &edited });
        let before = old.zip(change.as_ref()).map(|(old, change)| (&*old.scheduler, change));
        let scheduler = scheduler::build(config, &setup, before);
        Draft { seats, scheduler, places }
    }
}

impl Service {
    /// The service as `config` wants it, with the live parts of `old` by server address.
    /// `touched` was edited, even if nothing about it changed.
    pub(crate) fn build(
        config: ServiceConfig,
        state: Arc<ServiceState>,
        old: Option<&Service>,
        touched: Option<SocketAddr>,
    ) -> Service {
        let Draft { seats, scheduler, places } = Draft::of(&config, old, touched);
        state.expire_nodest_conn.store(config.expire_nodest_conn, Ordering::Relaxed);
        let servers = Service::servers(&config, &state, old, &seats, &places);
        let words = servers.len().div_ceil(64);
        let blank = || (0..words).map(|_| AtomicU64::new(0)).collect();
        let backups = config.servers.iter().any(|server| server.backup).then(|| {
            let mut bits = vec![0; words];
            for (index, _) in config.servers.iter().enumerate().filter(|(_, server)| server.backup) {
                bits[index / 64] |= 1 << (index % 64);
            }
            bits.into()
        });
        let thresholds = config.servers.iter().any(|server| server.thresholds.upper() > 0);
        let service = Service {
            plain: backups.is_none() && !thresholds,
            usable: blank(),
            sound: blank(),
            weighted: blank(),
            panicking: AtomicBool::new(false),
            backups,
            thresholds,
            calm: AtomicU64::new(0),
            tickets: scheduler.tickets(),
            overfills: scheduler.overfills(),
            seats,
            scheduler,
            servers,
            state,
            config,
        };
        service.take_up(old, &places);
        service
    }

    /// The servers, with the counters and the health that they had.
    fn servers(
        config: &ServiceConfig,
        state: &Arc<ServiceState>,
        old: Option<&Service>,
        seats: &[Seat],
        places: &[Option<usize>],
    ) -> Box<[Server]> {
        let datagrams = matches!(config.key, ServiceKey::Address { protocol: Protocol::Udp, .. });
        let kind = if datagrams { Kind::Inactive } else { Kind::Active };
        let mut retired = state.retired();
        retired.retain(|_, live| live.strong_count() > 0);
        let servers = config.servers.iter().zip(seats).zip(places).map(|((server, seat), place)| {
            let before = place.and_then(|place| Some((old?, place)));
            let live = match before {
                Some((old, place)) => old.servers[place].live.clone(),
                None => {
                    let retired = retired.remove(&server.address).and_then(|live| live.upgrade());
                    let fresh = || Arc::new(Live::new(Arc::clone(state), server.address, kind));
                    Handle::new(retired.unwrap_or_else(fresh))
                }
            };
            if before.is_none_or(|(old, place)| old.config.servers[place] != *server) {
                live.set_thresholds(server.thresholds.upper(), server.thresholds.lower());
            }
            live.set_last_weight(seat.last_weight);
            Server { weight: seat.weight, live }
        });
        servers.collect()
    }

    /// Brings everybody's standing up to date with the new weights, and has those warm up that came
    /// to a service at work.
    fn take_up(&self, old: Option<&Service>, places: &[Option<usize>]) {
        let serves = old.is_some_and(|old| !old.servers.is_empty());
        for (index, (server, place)) in self.servers.iter().zip(places).enumerate() {
            self.find_standing(index);
            if server.weight > 0 {
                server.live.set_deadline(None);
            }
            if let (true, Some(now), None) = (serves, self.state.clock(), place)
                && self.config.health.slow_start_for == SlowStart::RecoveredAndAdded
            {
                self.warm_up(index, now);
            }
        }
        self.find_panic();
        self.find_next_lapse();
    }

    /// Marks servers that `successor` does not have as removed, and remembers them as long as they
    /// have connections.
    pub(crate) fn retire_servers(&self, successor: Option<&Service>) {
        let places = places_in(successor.map_or(&[], |service| &*service.seats), &self.seats);
        self.state.tallies.gather();
        let mut retired = self.state.retired();
        for (Server { live, .. }, _) in self.servers.iter().zip(places).filter(|(_, place)| place.is_none()) {
            live.set_standing(REMOVED);
            live.depart();
            live.rates().reset();
            retired.insert(live.address, Arc::downgrade(live.reference()));
        }
    }
}
