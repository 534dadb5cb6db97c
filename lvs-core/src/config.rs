//! What an operator asks for, as plain data.
//!
//! A [`Config`] is the whole wish: services in the order they were added, each with its servers
//! in the order they were added. It is edited with `ipvsadm`'s verbs and handed to
//! [`Director::apply`](crate::Director::apply), which checks it as a whole.
//!
//! Order matters: IPVS links a new server at the front of its list, so its schedulers walk the
//! servers *last added first* and a tie goes to the newest.

mod algorithm;
mod error;
mod key;
mod value;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::health::HealthPolicy;
use crate::scheduler::{CustomScheduler, MH_SERVERS_MAX};

pub use algorithm::Algorithm;
pub use error::{ConfigError, EditError, MalformedKey, UnknownAlgorithm};
pub use key::{Family, Protocol, ServiceKey};
pub use value::{Persistence, PersistenceEngine, SchedulerFlags, Thresholds, Weight};

/// Everything a director serves.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Config {
    /// The services, in the order they were added.
    pub services: Vec<ServiceConfig>,
}

/// One virtual service and its real servers.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct ServiceConfig {
    /// What clients connect to.
    pub key: ServiceKey,
    /// How a server is chosen.
    #[cfg_attr(feature = "serde", serde(default))]
    pub algorithm: Algorithm,
    /// A scheduler of the embedder's own, in place of the algorithm.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub custom: Option<CustomScheduler>,
    /// Options of the scheduler (`ipvsadm -b`).
    #[cfg_attr(feature = "serde", serde(default))]
    pub flags: SchedulerFlags,
    /// What random choices are mixed with: the same seed and the same flows, the same choices.
    #[cfg_attr(feature = "serde", serde(default))]
    pub seed: u64,
    /// Keeps clients on their server, if set (`ipvsadm -p`).
    #[cfg_attr(feature = "serde", serde(default))]
    pub persistence: Option<Persistence>,
    /// Every datagram is scheduled on its own (`ipvsadm -o`).
    #[cfg_attr(feature = "serde", serde(default))]
    pub one_packet: bool,
    /// Connections to a server that is deleted are cut off, which their leases tell (the sysctl
    /// `expire_nodest_conn`); otherwise they may end in peace.
    #[cfg_attr(feature = "serde", serde(default))]
    pub expire_nodest_conn: bool,
    /// What makes a server unavailable and available again.
    #[cfg_attr(feature = "serde", serde(default))]
    pub health: HealthPolicy,
    /// The real servers, in the order they were added.
    #[cfg_attr(feature = "serde", serde(default))]
    pub servers: Vec<ServerConfig>,
}

/// One real server of a service.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct ServerConfig {
    /// Where it listens (RIP and port).
    pub address: SocketAddr,
    /// Its share of new connections.
    #[cfg_attr(feature = "serde", serde(default))]
    pub weight: Weight,
    /// How packets reach it.
    #[cfg_attr(feature = "serde", serde(default))]
    pub forwarding: Forwarding,
    /// When it is full, and when it is no longer.
    #[cfg_attr(feature = "serde", serde(default))]
    pub thresholds: Thresholds,
    /// Serves only while no server that is not a backup can be chosen (nginx's `backup`).
    #[cfg_attr(feature = "serde", serde(default))]
    pub backup: bool,
    /// Overrides the service's rule for failures seen in traffic (nginx's `max_fails`).
    #[cfg_attr(feature = "serde", serde(default))]
    pub passive: Option<crate::health::Passive>,
    /// How long it warms up when it comes back, in place of the service's time; 0 leaves it to the
    /// service (nginx's `slow_start`).
    #[cfg_attr(feature = "serde", serde(default, with = "crate::serial::seconds"))]
    pub slow_start: Duration,
}

/// How packets reach a real server.
///
/// A proxy can only masquerade: it ends the client's connection and opens its own. The other
/// methods are kept so that rules written for the kernel can be read and printed back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Forwarding {
    /// Addresses are rewritten in both directions (`-m`).
    #[default]
    Masquerading,
    /// Sent to the server's link address unchanged (`-g`).
    Gatewaying,
    /// Wrapped in a packet to the server (`-i`).
    Tunneling(Tunnel),
}

/// Encapsulation of a tunneled server (`--tun-type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Tunnel {
    /// IP in IP.
    #[default]
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// UDP port of the decapsulator.
        port: u16,
        /// Checksum of the outer header.
        checksum: TunnelChecksum,
    },
    /// Generic routing encapsulation.
    Gre {
        /// Checksum of the outer header.
        checksum: TunnelChecksum,
    },
}

/// Checksum of an encapsulation header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum TunnelChecksum {
    /// None (`--tun-nocsum`).
    #[default]
    Absent,
    /// Over the whole packet (`--tun-csum`).
    Present,
    /// Left to the receiver to place (`--tun-remcsum`, GUE only).
    Remote,
}

impl Config {
    /// The service with this key.
    pub fn service(&self, key: &ServiceKey) -> Option<&ServiceConfig> {
        self.services.iter().find(|service| service.key == *key)
    }

    /// Adds a service (`ipvsadm -A`).
    ///
    /// # Errors
    /// [`EditError::ServiceExists`].
    pub fn add_service(&mut self, service: ServiceConfig) -> Result<(), EditError> {
        if self.service(&service.key).is_some() {
            return Err(EditError::ServiceExists);
        }
        self.services.push(service);
        Ok(())
    }

    /// Replaces what is said about a service and keeps its servers (`ipvsadm -E`).
    ///
    /// # Errors
    /// [`EditError::NoService`].
    pub fn edit_service(&mut self, service: ServiceConfig) -> Result<(), EditError> {
        let old = self.service_mut(&service.key)?;
        let servers = std::mem::take(&mut old.servers);
        *old = ServiceConfig { servers, ..service };
        Ok(())
    }

    /// Removes a service and its servers (`ipvsadm -D`).
    ///
    /// # Errors
    /// [`EditError::NoService`].
    pub fn delete_service(&mut self, key: &ServiceKey) -> Result<(), EditError> {
        self.service_mut(key)?;
        self.services.retain(|service| service.key != *key);
        Ok(())
    }

    /// Adds a server to a service (`ipvsadm -a`).
    ///
    /// # Errors
    /// [`EditError::NoService`], [`EditError::ServerExists`].
    pub fn add_server(&mut self, key: &ServiceKey, server: ServerConfig) -> Result<(), EditError> {
        let service = self.service_mut(key)?;
        if service.servers.iter().any(|other| other.address == server.address) {
            return Err(EditError::ServerExists);
        }
        service.servers.push(server);
        Ok(())
    }

    /// Replaces what is said about a server; it keeps its place (`ipvsadm -e`).
    ///
    /// # Errors
    /// [`EditError::NoService`], [`EditError::NoServer`].
    pub fn edit_server(&mut self, key: &ServiceKey, server: ServerConfig) -> Result<(), EditError> {
        let service = self.service_mut(key)?;
        let old = service.servers.iter_mut().find(|other| other.address == server.address);
        *old.ok_or(EditError::NoServer)? = server;
        Ok(())
    }

    /// Removes a server from a service (`ipvsadm -d`).
    ///
    /// # Errors
    /// [`EditError::NoService`], [`EditError::NoServer`].
    pub fn delete_server(&mut self, key: &ServiceKey, server: SocketAddr) -> Result<(), EditError> {
        let service = self.service_mut(key)?;
        let place = service.servers.iter().position(|other| other.address == server);
        service.servers.remove(place.ok_or(EditError::NoServer)?);
        Ok(())
    }

    fn service_mut(&mut self, key: &ServiceKey) -> Result<&mut ServiceConfig, EditError> {
        self.services.iter_mut().find(|service| service.key == *key).ok_or(EditError::NoService)
    }

    /// Checks what no single value can: that keys are unique and options fit their service.
    ///
    /// # Errors
    /// The first contradiction, in the order of the services.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut keys: HashSet<_, foldhash::fast::RandomState> = HashSet::default();
        for service in &self.services {
            if !keys.insert(&service.key) {
                return Err(ConfigError::DuplicateService(service.key.clone()));
            }
            service.check()?;
        }
        Ok(())
    }
}

impl ServiceConfig {
    /// A service without servers, persistence or flags.
    pub fn new(key: ServiceKey, algorithm: Algorithm) -> ServiceConfig {
        ServiceConfig {
            key,
            algorithm,
            custom: None,
            flags: SchedulerFlags::default(),
            seed: 0,
            persistence: None,
            one_packet: false,
            expire_nodest_conn: false,
            health: HealthPolicy::default(),
            servers: Vec::new(),
        }
    }

    /// Whether the same is said of both services, their servers aside.
    pub(crate) fn is_alike_but_for_servers(&self, other: &ServiceConfig) -> bool {
        // Named one by one, so that what is added here is not forgotten below.
        let ServiceConfig {
            key,
            algorithm,
            custom,
            flags,
            seed,
            persistence,
            one_packet,
            expire_nodest_conn,
            health,
            servers: _,
        } = self;
        *key == other.key
            && *algorithm == other.algorithm
            && *custom == other.custom
            && *flags == other.flags
            && *seed == other.seed
            && *persistence == other.persistence
            && *one_packet == other.one_packet
            && *expire_nodest_conn == other.expire_nodest_conn
            && *health == other.health
    }

    /// The same service with a scheduler of the embedder's own.
    #[must_use]
    pub fn scheduler(self, scheduler: CustomScheduler) -> ServiceConfig {
        ServiceConfig { custom: Some(scheduler), ..self }
    }

    /// The same service with one more server.
    #[must_use]
    pub fn server(mut self, server: ServerConfig) -> ServiceConfig {
        self.servers.push(server);
        self
    }

    fn check(&self) -> Result<(), ConfigError> {
        if let ServiceKey::Address { protocol, address } = &self.key {
            if address.port() == 0 && self.persistence.is_none() {
                return Err(ConfigError::PortZeroWithoutPersistence(self.key.clone()));
            }
            if self.one_packet && *protocol != Protocol::Udp {
                return Err(ConfigError::OnePacketWithoutUdp(self.key.clone()));
            }
        }
        let sends_datagrams = match &self.key {
            ServiceKey::Address { protocol, .. } => *protocol == Protocol::Udp,
            // Of its clients some may.
            ServiceKey::Mark { .. } => true,
            ServiceKey::Name(_) => false,
        };
        let engine = self.persistence.and_then(|rule| rule.persistence_engine());
        if let Some(engine) = engine.filter(|_| !sends_datagrams) {
            return Err(ConfigError::EngineWithoutUdp(self.key.clone(), engine));
        }
        if self.algorithm == Algorithm::Mh && self.servers.len() > MH_SERVERS_MAX {
            return Err(ConfigError::TooManyServers(self.key.clone(), self.servers.len()));
        }
        let mut addresses =
            HashSet::with_capacity_and_hasher(self.servers.len(), foldhash::fast::RandomState::default());
        for server in &self.servers {
            if !addresses.insert(server.address) {
                return Err(ConfigError::DuplicateServer(self.key.clone(), server.address));
            }
            let tunneled = matches!(server.forwarding, Forwarding::Tunneling(_));
            let same_family =
                self.key.family().is_none_or(|family| family == Family::of(server.address.ip()));
            if !same_family && !tunneled {
                return Err(ConfigError::MixedFamilies(self.key.clone(), server.address));
            }
        }
        Ok(())
    }
}

impl ServerConfig {
    /// A masqueraded server of weight 1 without thresholds.
    pub fn new(address: SocketAddr) -> ServerConfig {
        ServerConfig {
            address,
            weight: Weight::ONE,
            forwarding: Forwarding::default(),
            thresholds: Thresholds::default(),
            backup: false,
            passive: None,
            slow_start: Duration::ZERO,
        }
    }

    /// The same server with this weight.
    #[must_use]
    pub fn weight(self, weight: Weight) -> ServerConfig {
        ServerConfig { weight, ..self }
    }
}
