//! What `--json` writes: one object with the version of its form, and what was asked for.
//!
//! Names of fields stay, and what they mean; new ones may come. A reader that leaves out what it
//! does not know reads every later release of version 1.
//!
//! | command | object |
//! |---|---|
//! | `-L --json`, also with a service | [`Services`] |
//! | `-L -c --json` | [`Connections`] |
//! | `-L --timeout --json` | [`TimeoutValues`] |
//! | `-L --daemon --json` | [`Daemons`] |
//! | `-L --vrrp --json` | [`VirtualRouters`] |
//! | `--explain … --json` | `version`, and `explanation`, which is an [`Explanation`](lvs_core::Explanation) |
//! | `--plan … --json` | `version`, and `plan`, which is [`Changes`](lvs_core::Changes) |
//!
//! A listing of services says all that is known of them, whichever columns were asked for.

use std::net::SocketAddr;

use lvs_core::{
    Family, Forwarding, History, Rates, ServerStats, ServiceKey, ServiceStats, Time, Tunnel, TunnelChecksum,
};
use serde::{Deserialize, Serialize};

use crate::control::Timeouts;
use crate::listing::{flag_names, mask, method};
use crate::standing::{Besides, Standing, cut_off};

pub use crate::failover::{ArbiterView, Daemons, SyncDaemon, SyncRole, VirtualRouter, VirtualRouters};

/// The version that every document begins with.
pub const VERSION: u32 = 1;

/// Services and their servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Services {
    /// [`VERSION`].
    pub version: u32,
    /// In the order of the listing.
    pub services: Vec<Service>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// What clients connect to, as `TCP 192.0.2.10:80`, `FWM 7`, or the name of a pool.
    pub service: String,
    /// `tcp`, `udp` or `sctp`, where the service has an address.
    pub protocol: Option<String>,
    /// Virtual address and port, where the service has them.
    pub address: Option<SocketAddr>,
    /// Firewall mark, of a service that is known by one.
    pub mark: Option<u32>,
    /// `ipv4` or `ipv6`; a named pool has servers of both.
    pub family: Option<String>,
    /// Name of a pool, of a service that is known by one.
    pub pool: Option<String>,
    /// The scheduler with its parameters, as `-s` takes it.
    pub scheduler: String,
    /// Options of the scheduler, as `-b` takes them.
    pub flags: Vec<String>,
    /// Whether and how clients stay on their server.
    pub persistence: Option<Persistence>,
    /// Whether each datagram is scheduled on its own.
    pub one_packet: bool,
    /// Connections refused for want of a server since the counters were zeroed.
    pub refused: u64,
    /// Since the counters were zeroed.
    pub counters: Counters,
    /// By second.
    pub rates: Counters,
    /// How long it could be used.
    pub history: Option<Past>,
    /// Its servers, in the order of the listing.
    pub servers: Vec<Server>,
}

/// Persistence of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// How long a client stays after its last new connection.
    pub timeout_seconds: u64,
    /// Mask or prefix length by which clients stay together; none keeps each address by itself.
    pub mask: Option<String>,
    /// What tells the sessions of a client from each other, as `--pe` takes it.
    #[serde(default)]
    pub engine: Option<String>,
    /// How many templates there may be.
    pub templates_max: usize,
}

/// Numbers that grow, or how fast they do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients, where packets are seen.
    pub packets_in: u64,
    /// Packets to clients, where packets are seen.
    pub packets_out: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
}

/// One server of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// Address and port.
    pub address: SocketAddr,
    /// `masquerading`, `gatewaying`, `tunneling`.
    pub forwarding: String,
    /// Encapsulation of a tunneled server.
    pub tunnel: Option<TunnelOptions>,
    /// Share of new connections.
    pub weight: u32,
    /// Whether it serves only while no other server can.
    pub backup: bool,
    /// Connections at which it is full; 0 for never.
    pub upper_threshold: u32,
    /// Connections below which it is full no longer; 0 for three quarters of the upper threshold.
    pub lower_threshold: u32,
    /// Connections on which both sides may speak.
    pub active: u32,
    /// Other connections.
    pub inactive: u32,
    /// Clients that persistence keeps here.
    pub templates: u32,
    /// Since the counters were zeroed.
    pub counters: Counters,
    /// By second.
    pub rates: Counters,
    /// What it is to new clients: `up`, `draining`, `quiesced`, `down`, `ejected`, `full`,
    /// `warming`, or `backup`. Of several the first that counts.
    pub state: String,
    /// Why, in words; empty for `up`.
    pub reason: String,
    /// Seconds until whoever is left is cut off, while it drains and has a deadline.
    pub cut_off_seconds: Option<f64>,
    /// How long it could be used.
    pub history: Option<Past>,
}

/// Encapsulation of a tunneled server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelOptions {
    /// `ipip`, `gue` or `gre`.
    pub r#type: String,
    /// UDP port of the decapsulator.
    pub port: Option<u16>,
    /// `nocsum`, `csum` or `remcsum`.
    pub checksum: Option<String>,
}

/// How long a service or server could be used and could not, since the director began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// Time in which it could be used.
    pub up_seconds: f64,
    /// Time in which failures kept it out.
    pub down_seconds: f64,
    /// Time in which it was quiesced.
    pub planned_seconds: f64,
    /// Steps from up to down.
    pub failures: u64,
    /// Share of the time, planned downtime aside, in which it could be used.
    pub availability: Option<f64>,
    /// How long it has been what it is: up, down or quiesced.
    pub since_seconds: Option<f64>,
}

/// Connections and persistence templates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    /// [`VERSION`].
    pub version: u32,
    /// Connections, then templates.
    pub connections: Vec<ConnectionEntry>,
}

/// One connection, or one template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionEntry {
    /// `TCP`, `UDP`, `SCTP`, or `IP` for what a firewall mark or a pool ties together.
    pub protocol: String,
    /// How long it lives on if nothing more is heard of it.
    pub expires_seconds: u64,
    /// IPVS's name of the state; `NONE` or `ASSURED` for a template.
    pub state: String,
    /// Address and port of the client; of a template, its network and 0.
    pub client: SocketAddr,
    /// Address and port that the client asked for; of a template that a firewall mark makes, the mark
    /// in the place of an address, as IPVS shows it. A pool has none.
    pub r#virtual: Option<SocketAddr>,
    /// Name of the pool, of a template that one makes.
    #[serde(default)]
    pub pool: Option<String>,
    /// Address and port of the real server.
    pub server: SocketAddr,
    /// Whether this is a persistence template.
    pub template: bool,
    /// What the persistence engine found, of a template of one session.
    #[serde(default)]
    pub session: Option<String>,
    /// Bytes from the client so far; a template has none.
    #[serde(default)]
    pub bytes_in: Option<u64>,
    /// Bytes to the client so far.
    #[serde(default)]
    pub bytes_out: Option<u64>,
}

/// How long connections may be idle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeoutValues {
    /// [`VERSION`].
    pub version: u32,
    /// A TCP connection on which both sides may speak.
    pub tcp_seconds: u64,
    /// A TCP connection of which one half has ended.
    pub tcp_fin_seconds: u64,
    /// A UDP flow.
    pub udp_seconds: u64,
}

impl Service {
    pub(crate) fn new(stats: &ServiceStats, besides: &Besides) -> Service {
        let ServiceStats { config, .. } = stats;
        let protocol = match &config.key {
            ServiceKey::Address { protocol, .. } => Some(protocol.to_string().to_ascii_lowercase()),
            _ => None,
        };
        let (mark, pool) = match &config.key {
            ServiceKey::Mark { mark, .. } => (Some(mark.get()), None),
            ServiceKey::Name(name) => (None, Some(name.to_string())),
            ServiceKey::Address { .. } => (None, None),
        };
        let family = config.key.family().map(|family| match family {
            Family::V4 => "ipv4".to_owned(),
            Family::V6 => "ipv6".to_owned(),
        });
        let persistence = config.persistence.map(|persistence| Persistence {
            timeout_seconds: persistence.timeout().as_secs(),
            mask: mask(config),
            engine: persistence.persistence_engine().map(|engine| engine.name().to_owned()),
            templates_max: persistence.templates_max(),
        });
        Service {
            service: config.key.to_string(),
            protocol,
            address: config.key.address(),
            mark,
            family,
            pool,
            scheduler: config.algorithm.to_string(),
            flags: flag_names(config).map(str::to_owned).collect(),
            persistence,
            one_packet: config.one_packet,
            refused: stats.refused,
            counters: Counters {
                connections: stats.connections,
                packets_in: stats.packets_in,
                packets_out: stats.packets_out,
                bytes_in: stats.bytes_in,
                bytes_out: stats.bytes_out,
            },
            rates: stats.rates.into(),
            history: besides.history(&config.key).map(|history| Past::new(history, besides.now)),
            servers: stats.servers.iter().map(|server| Server::new(&config.key, server, besides)).collect(),
        }
    }
}

impl Server {
    fn new(service: &ServiceKey, stats: &ServerStats, besides: &Besides) -> Server {
        let config = &stats.config;
        let draining = besides.draining(service, config.address);
        let Standing { state, reason } = besides.standing(service, stats);
        let tunnel = match config.forwarding {
            Forwarding::Tunneling(tunnel) => Some(TunnelOptions::new(tunnel)),
            _ => None,
        };
        let forwarding = match method(config.forwarding) {
            "Masq" => "masquerading",
            "Route" => "gatewaying",
            "Tunnel" => "tunneling",
            _ => "bypass",
        };
        Server {
            address: config.address,
            forwarding: forwarding.to_owned(),
            tunnel,
            weight: config.weight.value(),
            backup: config.backup,
            upper_threshold: config.thresholds.upper(),
            lower_threshold: config.thresholds.lower(),
            active: stats.load.active,
            inactive: stats.load.inactive,
            templates: stats.templates,
            counters: Counters {
                connections: stats.connections,
                packets_in: stats.packets_in,
                packets_out: stats.packets_out,
                bytes_in: stats.bytes_in,
                bytes_out: stats.bytes_out,
            },
            rates: stats.rates.into(),
            state: state.to_owned(),
            reason,
            cut_off_seconds: draining
                .and_then(|draining| cut_off(draining, besides.now))
                .map(|time| time.as_secs_f64()),
            history: besides
                .history_of(service, config.address)
                .map(|history| Past::new(history, besides.now)),
        }
    }
}

impl TunnelOptions {
    fn new(tunnel: Tunnel) -> TunnelOptions {
        let name = |checksum| match checksum {
            TunnelChecksum::Absent => "nocsum".to_owned(),
            TunnelChecksum::Present => "csum".to_owned(),
            TunnelChecksum::Remote => "remcsum".to_owned(),
        };
        let (r#type, port, checksum) = match tunnel {
            Tunnel::Gue { port, checksum } => ("gue", Some(port), Some(name(checksum))),
            Tunnel::Gre { checksum } => ("gre", None, Some(name(checksum))),
            _ => ("ipip", None, None),
        };
        TunnelOptions { r#type: r#type.to_owned(), port, checksum }
    }
}

impl Past {
    fn new(history: &History, now: Time) -> Past {
        Past {
            up_seconds: history.up.as_secs_f64(),
            down_seconds: history.down.as_secs_f64(),
            planned_seconds: history.planned.as_secs_f64(),
            failures: history.failures,
            availability: history.availability(),
            since_seconds: history.spells.back().map(|spell| now.since(spell.since).as_secs_f64()),
        }
    }
}

impl From<Rates> for Counters {
    fn from(rates: Rates) -> Counters {
        let Rates { connections, packets_in, packets_out, bytes_in, bytes_out, .. } = rates;
        Counters { connections, packets_in, packets_out, bytes_in, bytes_out }
    }
}

impl From<Timeouts> for TimeoutValues {
    fn from(timeouts: Timeouts) -> TimeoutValues {
        TimeoutValues {
            version: VERSION,
            tcp_seconds: timeouts.tcp.as_secs(),
            tcp_fin_seconds: timeouts.tcp_fin.as_secs(),
            udp_seconds: timeouts.udp.as_secs(),
        }
    }
}
