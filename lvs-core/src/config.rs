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

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::health::HealthPolicy;
use crate::scheduler::{CustomScheduler, MH_SERVERS_MAX};

pub use algorithm::Algorithm;
pub use error::{ConfigError, EditError, UnknownAlgorithm};

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

/// What identifies a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(from = "String", into = "String"))]
pub enum ServiceKey {
    /// Protocol, virtual address and port (`-t`, `-u`).
    Address {
        /// Transport protocol.
        protocol: Protocol,
        /// VIP and port.
        address: SocketAddr,
    },
    /// Packets with this firewall mark (`-f`).
    Mark {
        /// The mark.
        mark: NonZeroU32,
        /// Address family of the packets.
        family: Family,
    },
    /// A pool that no address leads to, such as an `upstream` block of nginx.
    Name(Arc<str>),
}

/// Transport protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams; a flow counts as inactive, as in IPVS.
    Udp,
    /// Associations; known to rules and listings.
    Sctp,
}

/// Address family of a firewall-mark service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6 (`-6`).
    V6,
}

/// Share of new connections that a server takes, relative to its pool: 0 to 2 147 483 647.
///
/// Zero *quiesces* a server: it keeps the connections and the clients it has and gets no new
/// ones, as with `ipvsadm --weight 0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "u32", into = "u32"))]
pub struct Weight(u32);

/// Connection counts between which a server stops and resumes taking new ones (`-x`, `-y`).
///
/// At `upper` connections the server is full; it takes new ones again below `lower`, or below
/// three quarters of `upper` where `lower` is 0. An `upper` of 0 means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(try_from = "crate::serial::RawThresholds", into = "crate::serial::RawThresholds")
)]
pub struct Thresholds {
    upper: u32,
    lower: u32,
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

/// Keeps the clients of one network on one server (`-p`, `-M`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(try_from = "crate::serial::RawPersistence", into = "crate::serial::RawPersistence")
)]
pub struct Persistence {
    timeout: Duration,
    mask_v4: Ipv4Addr,
    prefix_v6: u8,
    capacity: usize,
    expire_quiescent: bool,
}

/// Options of a scheduler, the bits that `ipvsadm -b` sets.
///
/// The bits are shared between schedulers: the first is `sh-fallback`, `mh-fallback` or `flag-1`,
/// by scheduler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(from = "u8", into = "u8"))]
pub struct SchedulerFlags(u8);

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

impl ServiceKey {
    /// A TCP service.
    pub fn tcp(address: SocketAddr) -> ServiceKey {
        ServiceKey::Address { protocol: Protocol::Tcp, address }
    }

    /// A UDP service.
    pub fn udp(address: SocketAddr) -> ServiceKey {
        ServiceKey::Address { protocol: Protocol::Udp, address }
    }

    /// A named pool.
    pub fn name(name: &str) -> ServiceKey {
        ServiceKey::Name(name.into())
    }

    /// Virtual address and port, where the service has them.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            ServiceKey::Address { address, .. } => Some(*address),
            ServiceKey::Mark { .. } | ServiceKey::Name(_) => None,
        }
    }

    /// Address family that the service is bound to; a named pool takes both.
    pub fn family(&self) -> Option<Family> {
        match self {
            ServiceKey::Address { address, .. } => Some(Family::of(address.ip())),
            ServiceKey::Mark { family, .. } => Some(*family),
            ServiceKey::Name(_) => None,
        }
    }
}

/// Reads what [`Display`](fmt::Display) prints. Whatever is no address and no mark is a name.
impl FromStr for ServiceKey {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<ServiceKey, Self::Err> {
        let address =
            |protocol, text: &str| text.parse().ok().map(|address| ServiceKey::Address { protocol, address });
        let mark = |text: &str, family| text.parse().ok().map(|mark| ServiceKey::Mark { mark, family });
        let found = match text.split_once(' ') {
            Some(("TCP", rest)) => address(Protocol::Tcp, rest),
            Some(("UDP", rest)) => address(Protocol::Udp, rest),
            Some(("SCTP", rest)) => address(Protocol::Sctp, rest),
            Some(("FWM", rest)) => match rest.strip_suffix(" IPv6") {
                Some(rest) => mark(rest, Family::V6),
                None => mark(rest, Family::V4),
            },
            _ => None,
        };
        Ok(found.unwrap_or_else(|| ServiceKey::name(text)))
    }
}

/// As a listing of `ipvsadm -Ln` names it: `TCP 192.0.2.1:80`, `FWM 7 IPv6`.
impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceKey::Address { protocol, address } => write!(f, "{protocol} {address}"),
            ServiceKey::Mark { mark, family: Family::V4 } => write!(f, "FWM {mark}"),
            ServiceKey::Mark { mark, family: Family::V6 } => write!(f, "FWM {mark} IPv6"),
            ServiceKey::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        })
    }
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

impl Weight {
    /// Quiesced.
    pub const ZERO: Weight = Weight(0);
    /// The weight of a server of which nothing else was said.
    pub const ONE: Weight = Weight(1);
    /// The largest weight that IPVS keeps.
    pub const MAX: Weight = Weight(i32::MAX as u32);

    /// This weight.
    ///
    /// # Errors
    /// [`ConfigError::Weight`] above [`Weight::MAX`].
    pub fn new(weight: u32) -> Result<Weight, ConfigError> {
        if weight > Weight::MAX.0 { Err(ConfigError::Weight(weight)) } else { Ok(Weight(weight)) }
    }

    /// The number.
    pub fn value(self) -> u32 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Weight {
        Weight::ONE
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Thresholds {
    /// Full at `upper` connections, open again below `lower`; 0 means unset.
    ///
    /// # Errors
    /// [`ConfigError::Thresholds`] if `lower` is above `upper`, also when `upper` is 0, as IPVS.
    pub fn new(upper: u32, lower: u32) -> Result<Thresholds, ConfigError> {
        if lower > upper {
            return Err(ConfigError::Thresholds { upper, lower });
        }
        Ok(Thresholds { upper, lower })
    }

    /// Connections at which the server is full; 0 for no limit.
    pub fn upper(self) -> u32 {
        self.upper
    }

    /// Connections below which a full server opens again; 0 for three quarters of the upper.
    pub fn lower(self) -> u32 {
        self.lower
    }
}

impl Persistence {
    /// Longest timeout, 31 days, as in ipvsadm.
    pub const TIMEOUT_MAX: Duration = Duration::from_secs(31 * 24 * 3600);

    /// Each client address stays on its server for `timeout` after its last new connection.
    ///
    /// # Errors
    /// [`ConfigError::PersistenceTimeout`] if it is below a second or above 31 days.
    pub fn new(timeout: Duration) -> Result<Persistence, ConfigError> {
        if timeout < Duration::from_secs(1) || timeout > Persistence::TIMEOUT_MAX {
            return Err(ConfigError::PersistenceTimeout(timeout));
        }
        Ok(Persistence {
            timeout,
            mask_v4: Ipv4Addr::BROADCAST,
            prefix_v6: 128,
            capacity: TEMPLATES_DEFAULT,
            expire_quiescent: false,
        })
    }

    /// IPv4 clients that are equal under this mask stay together.
    #[must_use]
    pub fn mask(self, mask_v4: Ipv4Addr) -> Persistence {
        Persistence { mask_v4, ..self }
    }

    /// IPv6 clients with this prefix length in common stay together.
    ///
    /// # Errors
    /// [`ConfigError::PersistencePrefix`] unless it is 1 to 128.
    pub fn prefix(self, prefix_v6: u8) -> Result<Persistence, ConfigError> {
        if !(1..=128).contains(&prefix_v6) {
            return Err(ConfigError::PersistencePrefix(prefix_v6));
        }
        Ok(Persistence { prefix_v6, ..self })
    }

    /// At most this many templates; a client that finds no room is scheduled without one.
    #[must_use]
    pub fn capacity(self, capacity: usize) -> Persistence {
        Persistence { capacity, ..self }
    }

    /// Clients of a quiesced server move at their next connection (the sysctl
    /// `expire_quiescent_template`); otherwise they stay for as long as they keep coming.
    #[must_use]
    pub fn expire_quiescent_template(self) -> Persistence {
        Persistence { expire_quiescent: true, ..self }
    }

    /// Whether clients of a quiesced server move.
    pub fn expires_quiescent_template(&self) -> bool {
        self.expire_quiescent
    }

    /// How long a client stays after its last new connection.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The mask of IPv4 clients.
    pub fn mask_v4(&self) -> Ipv4Addr {
        self.mask_v4
    }

    /// The prefix length of IPv6 clients.
    pub fn prefix_v6(&self) -> u8 {
        self.prefix_v6
    }

    /// How many templates there may be.
    pub fn templates_max(&self) -> usize {
        self.capacity
    }
}

impl SchedulerFlags {
    /// `flag-1`, `sh-fallback`, `mh-fallback`.
    pub const FIRST: SchedulerFlags = SchedulerFlags(1);
    /// `flag-2`, `sh-port`, `mh-port`.
    pub const SECOND: SchedulerFlags = SchedulerFlags(2);
    /// `flag-3`.
    pub const THIRD: SchedulerFlags = SchedulerFlags(4);

    /// Whether no flag is set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `flags` are set.
    pub fn contains(self, flags: SchedulerFlags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These flags and those.
    #[must_use]
    pub fn with(self, flags: SchedulerFlags) -> SchedulerFlags {
        SchedulerFlags(self.0 | flags.0)
    }
}

/// Room for a million client networks: about 100 MB when full.
const TEMPLATES_DEFAULT: usize = 1_000_000;
