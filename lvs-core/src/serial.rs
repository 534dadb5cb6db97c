//! How configurations look in a file (feature `serde`).
//!
//! Addresses, services and algorithms are strings as listings print them, times are seconds, and
//! what is left out has its default. Nothing can be read that could not be built.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::{
    Algorithm, ConfigError, MalformedKey, Persistence, PersistenceEngine, SchedulerFlags, ServiceKey,
    Thresholds, UnknownAlgorithm, Weight,
};

/// A duration as a number of seconds.
pub(crate) mod seconds {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(time.as_secs_f64())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl From<ServiceKey> for String {
    fn from(key: ServiceKey) -> String {
        key.to_string()
    }
}

impl TryFrom<String> for ServiceKey {
    type Error = MalformedKey;

    fn try_from(text: String) -> Result<ServiceKey, MalformedKey> {
        text.parse()
    }
}

impl From<Algorithm> for String {
    fn from(algorithm: Algorithm) -> String {
        algorithm.to_string()
    }
}

impl TryFrom<String> for Algorithm {
    type Error = UnknownAlgorithm;

    fn try_from(name: String) -> Result<Algorithm, UnknownAlgorithm> {
        name.parse()
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> u32 {
        weight.value()
    }
}

impl TryFrom<u32> for Weight {
    type Error = ConfigError;

    fn try_from(weight: u32) -> Result<Weight, ConfigError> {
        Weight::new(weight)
    }
}

/// Thresholds that may contradict each other.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawThresholds {
    #[serde(default)]
    upper: u32,
    #[serde(default)]
    lower: u32,
}

impl From<Thresholds> for RawThresholds {
    fn from(thresholds: Thresholds) -> RawThresholds {
        RawThresholds { upper: thresholds.upper(), lower: thresholds.lower() }
    }
}

impl TryFrom<RawThresholds> for Thresholds {
    type Error = ConfigError;

    fn try_from(raw: RawThresholds) -> Result<Thresholds, ConfigError> {
        Thresholds::new(raw.upper, raw.lower)
    }
}

/// Persistence of which nothing has been checked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPersistence {
    #[serde(with = "seconds")]
    timeout: Duration,
    #[serde(default)]
    mask: Option<Ipv4Addr>,
    #[serde(default)]
    prefix: Option<u8>,
    #[serde(default)]
    capacity: Option<usize>,
    #[serde(default)]
    expire_quiescent_template: bool,
    #[serde(default)]
    engine: Option<PersistenceEngine>,
}

impl From<Persistence> for RawPersistence {
    fn from(rule: Persistence) -> RawPersistence {
        RawPersistence {
            timeout: rule.timeout(),
            mask: Some(rule.mask_v4()),
            prefix: Some(rule.prefix_v6()),
            capacity: Some(rule.templates_max()),
            expire_quiescent_template: rule.expires_quiescent_template(),
            engine: rule.persistence_engine(),
        }
    }
}

impl TryFrom<RawPersistence> for Persistence {
    type Error = ConfigError;

    fn try_from(raw: RawPersistence) -> Result<Persistence, ConfigError> {
        let mut rule = Persistence::new(raw.timeout)?;
        if let Some(mask) = raw.mask {
            rule = rule.mask(mask);
        }
        if let Some(prefix) = raw.prefix {
            rule = rule.prefix(prefix)?;
        }
        if let Some(capacity) = raw.capacity {
            rule = rule.capacity(capacity);
        }
        if let Some(engine) = raw.engine {
            rule = rule.engine(engine);
        }
        Ok(if raw.expire_quiescent_template { rule.expire_quiescent_template() } else { rule })
    }
}

impl From<SchedulerFlags> for u8 {
    fn from(flags: SchedulerFlags) -> u8 {
        let all = [SchedulerFlags::FIRST, SchedulerFlags::SECOND, SchedulerFlags::THIRD];
        all.iter().enumerate().map(|(bit, flag)| u8::from(flags.contains(*flag)) << bit).sum()
    }
}

impl From<u8> for SchedulerFlags {
    fn from(bits: u8) -> SchedulerFlags {
        let all = [SchedulerFlags::FIRST, SchedulerFlags::SECOND, SchedulerFlags::THIRD];
        let set = all.into_iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
        set.fold(SchedulerFlags::default(), |flags, (_, flag)| flags.with(flag))
    }
}
