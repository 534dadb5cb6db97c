//! What is known of a server's health, for a director that goes on where another one ended.
//!
//! Times are relative, since the other one may have another clock.

use std::time::Duration;

use super::{Cause, Health, Verdict};
use crate::time::Time;

/// Why a server is not all there: what [`Director::health_records`](crate::Director::health_records) tells
/// and [`Director::restore_health`](crate::Director::restore_health) takes in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthRecord {
    /// What probes found, if they took it down.
    pub down: Option<Finding>,
    /// Weight 0 keeps it out while it is down ([`Probe::Inhibited`](crate::Probe::Inhibited)).
    pub inhibited: bool,
    /// What traffic found and how long it is left alone yet, if it is ejected.
    pub ejected: Option<(Finding, Duration)>,
    /// Probes in a row that say otherwise.
    pub against: u32,
    /// Ejections in a row.
    pub ejections: u32,
    /// Failures in traffic that are not forgotten, and how long ago the last of them was.
    pub failures: (u32, Duration),
    /// How long it has been warming up, if it does.
    pub warming: Option<Duration>,
    /// How long its clients may stay yet, if it drains.
    pub drains: Option<Duration>,
}

/// What took a server out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How long ago that was.
    pub ago: Duration,
    /// Failures that it took.
    pub failures: u32,
    /// What the last of them saw.
    pub cause: Cause,
}

impl Health {
    pub(crate) fn record(&self, now: Time) -> HealthRecord {
        let finding = |verdict: &Verdict| Finding {
            ago: now.since(verdict.since),
            failures: verdict.failures,
            cause: verdict.cause.clone(),
        };
        HealthRecord {
            down: self.down.as_ref().map(finding),
            inhibited: self.is_inhibited(),
            ejected: self.ejected.as_ref().map(|(verdict, until)| (finding(verdict), until.since(now))),
            against: self.against,
            ejections: self.ejections,
            failures: (
                self.failures,
                if self.failures > 0 { now.since(self.last_failure) } else { Duration::ZERO },
            ),
            warming: None,
            drains: None,
        }
    }

    pub(crate) fn restored(record: &HealthRecord, now: Time) -> Health {
        let ago = |time: Duration| Time::from_epoch(now.since(Time::ZERO).saturating_sub(time));
        let verdict = |Finding { ago: since, failures, cause }: &Finding| Verdict {
            since: ago(*since),
            failures: *failures,
            cause: cause.clone(),
        };
        Health {
            down: record.down.as_ref().map(verdict),
            inhibited: record.inhibited,
            against: record.against,
            ejected: record.ejected.as_ref().map(|(finding, left)| (verdict(finding), now + *left)),
            ejections: record.ejections,
            failures: record.failures.0,
            last_failure: ago(record.failures.1),
        }
    }
}
