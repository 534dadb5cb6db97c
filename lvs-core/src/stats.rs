//! Services, servers and templates as they are now, for those who look.
//!
//! The counters are read one after the other while connections come and go, so a sum may be of two
//! moments that lie close together.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::config::{ServerConfig, ServiceConfig, ServiceKey};
use crate::counter::Counter;
use crate::estimator::{Rates, Totals};
use crate::health::Condition;
use crate::occupancy::Load;
use crate::persistence::Saved;
use crate::server::{Handle, Live};
use crate::service::{Departed, Service};
use crate::time::Time;

/// One service as it is now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServiceStats {
    /// What was asked for; its servers are in `servers`.
    pub config: ServiceConfig,
    /// Connections scheduled since the counters were last zeroed.
    pub connections: u64,
    /// Connections refused for want of a server.
    pub refused: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Packets from clients, where packets are seen.
    pub packets_in: u64,
    /// Packets to clients, where packets are seen.
    pub packets_out: u64,
    /// What passes in a second; [`Director::tick`](crate::Director::tick) keeps it up to date.
    pub rates: Rates,
    /// Its servers, in the order they were added.
    pub servers: Vec<ServerStats>,
}

/// One server of a service as it is now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerStats {
    /// What was asked for.
    pub config: ServerConfig,
    /// Connections now.
    pub load: Load,
    /// Templates that lead here.
    pub templates: u32,
    /// Connections scheduled since the counters were last zeroed.
    pub connections: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Packets from clients, where packets are seen.
    pub packets_in: u64,
    /// Packets to clients, where packets are seen.
    pub packets_out: u64,
    /// What passes in a second; [`Director::tick`](crate::Director::tick) keeps it up to date.
    pub rates: Rates,
    /// Whether health allows it to be chosen, and why not.
    pub condition: Condition,
    /// Whether it has reached its upper threshold.
    pub full: bool,
    /// The share of its strength that it has reached, while it warms up.
    pub warmth: Option<f64>,
}

/// What was counted elsewhere ([`Director::add_counts`](crate::Director::add_counts)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections scheduled.
    pub connections: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients.
    pub packets_out: u64,
}

/// One persistence template.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TemplateStats {
    /// The service it belongs to.
    pub service: ServiceKey,
    /// Lowest address of the client network.
    pub client: IpAddr,
    /// What the service's persistence engine found: only clients that say the same share the template.
    pub session: Option<Box<[u8]>>,
    /// The server its clients stay on.
    pub server: SocketAddr,
    /// How long it still holds without a new connection.
    pub left: Duration,
    /// Whether a connection under it ever reached the server (`ASSURED` in listings of IPVS):
    /// [`Event::Succeeded`](crate::Event::Succeeded) was reported for one.
    pub assured: bool,
}

impl TemplateStats {
    /// A template as another director tells of it.
    pub fn told(
        service: ServiceKey,
        client: IpAddr,
        server: SocketAddr,
        left: Duration,
        assured: bool,
    ) -> TemplateStats {
        TemplateStats { service, client, session: None, server, left, assured }
    }

    /// The same template, of this session.
    #[must_use]
    pub fn of_session(self, session: &[u8]) -> TemplateStats {
        TemplateStats { session: Some(session.into()), ..self }
    }

    pub(crate) fn new(service: &ServiceKey, saved: Saved, live: &Live) -> TemplateStats {
        let Saved { client, session, left, assured } = saved;
        TemplateStats { service: service.clone(), client, session, server: live.address, left, assured }
    }
}

impl ServiceStats {
    pub(crate) fn of(service: &Service) -> ServiceStats {
        let warmth = |server| service.warmth(server, service.state.clock()?);
        let servers = service.config.servers.iter().zip(&service.servers).enumerate();
        let servers = servers.map(|(place, (config, server))| ServerStats {
            warmth: warmth(place),
            ..ServerStats::of(config, &server.live)
        });
        let [connections, packets_in, packets_out, bytes_in, bytes_out] = totals(service);
        ServiceStats {
            config: service.config.clone(),
            connections,
            refused: service.state.refused.get(),
            bytes_in,
            bytes_out,
            packets_in,
            packets_out,
            rates: service.state.rates().rates(),
            servers: servers.collect(),
        }
    }
}

impl ServerStats {
    fn of(config: &ServerConfig, live: &Handle) -> ServerStats {
        let [connections, packets_in, packets_out, bytes_in, bytes_out] = totals_of(live);
        ServerStats {
            config: config.clone(),
            load: live.load(),
            templates: live.templates.load(Ordering::Relaxed),
            connections,
            bytes_in,
            bytes_out,
            packets_in,
            packets_out,
            rates: live.rates().rates(),
            condition: live.health().condition(),
            full: live.is_full(),
            warmth: None,
        }
    }
}

/// Sets every counter to zero.
pub(crate) fn reset(service: &Service) {
    service.state.tallies.gather();
    let Departed { connections, bytes_in, bytes_out, packets_in, packets_out } = &service.state.departed;
    for counter in [&service.state.refused, connections, bytes_in, bytes_out, packets_in, packets_out] {
        counter.reset();
    }
    service.state.rates().reset();
    for server in &service.servers {
        let live = &server.live;
        live.occupancy.reset_connections();
        for counter in [&live.bytes_in, &live.bytes_out, &live.packets_in, &live.packets_out] {
            counter.reset();
        }
        live.rates().reset();
    }
}

/// Takes a sample of every counter that has a rate.
pub(crate) fn estimate(service: &Service, now: Time) {
    service.state.rates().sample(totals(service), now);
    for server in &service.servers {
        server.live.rates().sample(totals_of(&server.live), now);
    }
}

/// What a service counted, with what servers that are gone had counted.
fn totals(service: &Service) -> Totals {
    service.state.tallies.gather();
    let Departed { connections, bytes_in, bytes_out, packets_in, packets_out } = &service.state.departed;
    let departed = [connections, packets_in, packets_out, bytes_in, bytes_out].map(Counter::get);
    service.servers.iter().fold(departed, |mut sum, server| {
        // Totals wrap instead of overflowing.
        sum.iter_mut().zip(totals_of(&server.live)).for_each(|(sum, count)| *sum = sum.wrapping_add(count));
        sum
    })
}

fn totals_of(live: &Live) -> Totals {
    let [packets_in, packets_out, bytes_in, bytes_out] =
        [&live.packets_in, &live.packets_out, &live.bytes_in, &live.bytes_out].map(Counter::get);
    [live.occupancy.connections(), packets_in, packets_out, bytes_in, bytes_out]
}
