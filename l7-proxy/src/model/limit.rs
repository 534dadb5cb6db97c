//! How many requests of a kind are served at a time, and how fast they may follow each other:
//! `limit_conn` and `limit_req`.

use crate::variable::Value;

use super::LogLevel;

/// What has something in common is counted here (`limit_conn_zone`, `limit_req_zone`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// The name.
    pub name: String,
    /// What is counted by; requests for which it is empty are not counted.
    pub key: Value,
    /// How much memory its keys may take.
    pub size: u64,
    /// What is counted.
    pub kind: ZoneKind,
}

/// What a zone counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZoneKind {
    /// Requests that are being served.
    Connections,
    /// Requests that follow each other.
    Requests {
        /// How many thousandths of a request are let through per second.
        rate: u64,
    },
}

/// The place of a [`Zone`] in [`Http::zones`](super::Http::zones).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ZoneId(pub usize);

/// Everything of this kind that holds at one location.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// `limit_conn`.
    pub connections: Vec<ConnectionsLimit>,
    /// What becomes of a request that is one too many.
    pub on_connections: Excess,
    /// `limit_req`.
    pub requests: Vec<RequestsLimit>,
    /// What becomes of a request that comes too early.
    pub on_requests: Excess,
}

impl Limits {
    /// Returns whether there is no limit.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.requests.is_empty()
    }
}

/// A bound on the requests that are being served (`limit_conn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionsLimit {
    /// Where they are counted.
    pub zone: ZoneId,
    /// The most for one key.
    pub most: u32,
}

/// A bound on how fast requests may follow each other (`limit_req`): a leaky bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestsLimit {
    /// Where they are counted, which also knows the rate.
    pub zone: ZoneId,
    /// How many may come before their time.
    pub burst: u32,
    /// How many of those are served at once; the others wait for their time. `None` is all of them.
    pub undelayed: Option<u32>,
}

/// What becomes of a request beyond a limit, and what is said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excess {
    /// What it is answered with; 503 by default.
    pub status: u16,
    /// The level of the line in the log; `error` by default.
    pub level: LogLevel,
    /// Whether the limit is only tried.
    pub enforcement: Enforcement,
}

impl Default for Excess {
    fn default() -> Self {
        Self { status: 503, level: LogLevel::Error, enforcement: Enforcement::On }
    }
}

/// Whether a limit holds or is only tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Enforcement {
    /// It holds.
    #[default]
    On,
    /// What is beyond it is logged and served.
    DryRun,
}

/// What a limit has said of a request: `$limit_conn_status`, `$limit_req_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitStatus {
    /// It is within the limit.
    Passed,
    /// It had to wait.
    Delayed,
    /// It was refused.
    Rejected,
    /// It would have had to wait.
    DelayedDryRun,
    /// It would have been refused.
    RejectedDryRun,
}

impl LimitStatus {
    /// Returns the word that variables show.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "PASSED",
            Self::Delayed => "DELAYED",
            Self::Rejected => "REJECTED",
            Self::DelayedDryRun => "DELAYED_DRY_RUN",
            Self::RejectedDryRun => "REJECTED_DRY_RUN",
        }
    }
}
