//! Why a configuration or an edit was refused, in the operator's words.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{PersistenceEngine, ServiceKey, Weight};
use crate::scheduler::MH_SERVERS_MAX;

/// Why a configuration was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// Two services have one key.
    DuplicateService(ServiceKey),
    /// Two servers of a service have one address.
    DuplicateServer(ServiceKey, SocketAddr),
    /// Port 0 stands for all ports, and they only make sense together for clients that stay.
    PortZeroWithoutPersistence(ServiceKey),
    /// Only datagrams can be scheduled one by one.
    OnePacketWithoutUdp(ServiceKey),
    /// The engine reads datagrams only.
    EngineWithoutUdp(ServiceKey, PersistenceEngine),
    /// Only a tunnel can lead to a server of another address family.
    MixedFamilies(ServiceKey, SocketAddr),
    /// The lower threshold lies above the upper one.
    Thresholds {
        /// The upper threshold asked for.
        upper: u32,
        /// The lower threshold asked for.
        lower: u32,
    },
    /// More servers than the table of `mh` has slots, 4093.
    TooManyServers(ServiceKey, usize),
    /// A weight above 2 147 483 647.
    Weight(u32),
    /// A persistence timeout of 0 or above 31 days.
    PersistenceTimeout(Duration),
    /// An IPv6 prefix length of 0 or above 128.
    PersistencePrefix(u8),
}

/// Why an edit could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EditError {
    /// The service to add is already there.
    ServiceExists,
    /// The service to change is not there.
    NoService,
    /// The server to add is already there.
    ServerExists,
    /// The server to change is not there.
    NoServer,
}

/// What names no service: nothing at all, or a protocol or `FWM` and then no address or mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedKey(pub String);

/// A scheduler's name that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownAlgorithm(pub String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::DuplicateService(key) => write!(f, "service {key} is given twice"),
            ConfigError::DuplicateServer(key, server) => {
                write!(f, "server {server} of service {key} is given twice")
            }
            ConfigError::PortZeroWithoutPersistence(key) => {
                write!(f, "service {key} has port 0, which needs persistence")
            }
            ConfigError::OnePacketWithoutUdp(key) => {
                write!(f, "service {key} is not UDP and cannot schedule each packet")
            }
            ConfigError::EngineWithoutUdp(key, engine) => {
                write!(f, "service {key} is not UDP, and the engine {} reads nothing else", engine.name())
            }
            ConfigError::MixedFamilies(key, server) => {
                write!(
                    f,
                    "server {server} of service {key} has another address family, which needs tunneling"
                )
            }
            ConfigError::Thresholds { upper, lower } => {
                write!(f, "lower threshold {lower} is above upper threshold {upper}")
            }
            ConfigError::TooManyServers(key, count) => {
                write!(f, "service {key} has {count} servers, and mh takes {MH_SERVERS_MAX}")
            }
            ConfigError::Weight(weight) => write!(f, "weight {weight} is above {}", Weight::MAX),
            ConfigError::PersistenceTimeout(timeout) => {
                write!(f, "persistence timeout of {} s is not within 1 s to 31 days", timeout.as_secs())
            }
            ConfigError::PersistencePrefix(prefix) => {
                write!(f, "persistence prefix length {prefix} is not 1 to 128")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EditError::ServiceExists => "the service already exists",
            EditError::NoService => "there is no such service",
            EditError::ServerExists => "the server already exists",
            EditError::NoServer => "there is no such server",
        })
    }
}

impl std::error::Error for EditError {}

impl fmt::Display for MalformedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\"{}\" names no service: wanted TCP, UDP or SCTP and ADDRESS:PORT, FWM MARK, or a name",
            self.0
        )
    }
}

impl std::error::Error for MalformedKey {}

impl fmt::Display for UnknownAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown scheduler \"{}\"", self.0)
    }
}

impl std::error::Error for UnknownAlgorithm {}
