//! What is said about a service or a server in numbers, each within its range.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::ConfigError;

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
    engine: Option<PersistenceEngine>,
}

/// What is read in a client's words to tell what belongs together (`--pe`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum PersistenceEngine {
    /// The `Call-ID` of SIP over UDP: what belongs to one call stays on one server, from whichever
    /// port of the network it comes.
    Sip,
}

/// Options of a scheduler, the bits that `ipvsadm -b` sets.
///
/// The bits are shared between schedulers: the first is `sh-fallback`, `mh-fallback` or `flag-1`,
/// by scheduler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(from = "u8", into = "u8"))]
pub struct SchedulerFlags(u8);

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
            engine: None,
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
    ///
    /// A template takes about 100 bytes. One of a session takes 200 to 500, by the session's length, and
    /// whoever makes sessions up fills what there is: a million of them, the default, is half a gigabyte.
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

    /// Each session of a client network stays on its server, and not all of the network: what this
    /// engine finds in the client's words is a part of the template's key (`--pe`). Whoever schedules
    /// says what was found ([`Director::schedule_session`](crate::Director::schedule_session)).
    #[must_use]
    pub fn engine(self, engine: PersistenceEngine) -> Persistence {
        Persistence { engine: Some(engine), ..self }
    }

    /// What tells the sessions of a client network from each other, if anything does.
    pub fn persistence_engine(&self) -> Option<PersistenceEngine> {
        self.engine
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

impl PersistenceEngine {
    /// Its name, as `ipvsadm --pe` takes it.
    pub fn name(self) -> &'static str {
        match self {
            PersistenceEngine::Sip => "sip",
        }
    }

    /// The engine of this name.
    pub fn of_name(name: &str) -> Option<PersistenceEngine> {
        (name == PersistenceEngine::Sip.name()).then_some(PersistenceEngine::Sip)
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
