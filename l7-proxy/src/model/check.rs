//! Active checks of an upstream's servers, as `health_check` and `match` say them, of `http {}` and of `stream {}`.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, HeaderName};

use super::pattern::{self, Pattern};
use super::stream::Transport;
use crate::variable::Value;

/// When servers are checked, and what the outcomes come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cadence {
    /// From one check of a server to the next; 5 s by default.
    pub interval: Duration,
    /// Up to so much later, at random; 0 by default.
    pub jitter: Duration,
    /// Failed checks in a row that take a server out; 1 by default.
    pub fails: u32,
    /// Passed checks in a row that bring it back; 1 by default.
    pub passes: u32,
    /// The port that is asked, in place of the server's own.
    pub port: Option<u16>,
    /// How a server that was never checked counts.
    pub unchecked: Unchecked,
}

/// How the servers of a location's upstream are checked (`health_check`).
#[derive(Debug, Clone)]
pub struct HealthCheck {
    /// When, and what it comes to.
    pub cadence: Cadence,
    /// What is asked for; `/` by default.
    pub uri: String,
    /// What a server has to answer.
    pub expected: Arc<Expected>,
    /// What is asked in place of `uri`, by gRPC's health protocol (`type=grpc`).
    pub grpc: Option<GrpcCheck>,
    /// How long one connection serves for checks; 0 makes a new one for each.
    pub keepalive_time: Duration,
}

/// How the servers of an upstream of `stream {}` are checked.
#[derive(Debug, Clone)]
pub struct StreamCheck {
    /// When, and what it comes to.
    pub cadence: Cadence,
    /// By connections, or by datagrams (`udp`).
    pub transport: Transport,
    /// What is said, and what is to be heard; by default a connection is enough.
    pub talk: Arc<Talk>,
}

/// What is said to a server, and what it has to say (`match` of `stream {}`).
#[derive(Debug, Clone, Default)]
pub struct Talk {
    /// What it is called.
    pub name: String,
    /// What is sent (`send`); empty sends nothing on a connection.
    pub send: Vec<u8>,
    /// What the server has to send (`expect`).
    pub expect: Option<Expectation>,
}

/// What a server has to send.
#[derive(Debug, Clone)]
pub enum Expectation {
    /// This before anything else.
    Begins(Vec<u8>),
    /// Something that matches.
    Matches(Pattern),
}

impl Expectation {
    /// Whether what was sent so far is as expected; `None` if more may make it so.
    pub fn judge(&self, heard: &[u8]) -> Option<bool> {
        match self {
            Self::Begins(wanted) if heard.starts_with(wanted) => Some(true),
            Self::Begins(wanted) if wanted.starts_with(heard) => None,
            Self::Begins(_) => Some(false),
            Self::Matches(pattern) => match pattern.find(heard, |_| {}) {
                Ok(true) => Some(true),
                Ok(false) => None,
                Err(_) => Some(false),
            },
        }
    }
}

/// A question of gRPC's health protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcCheck {
    /// The service that is asked for (`grpc_service`), at most 127 bytes; empty for the server as a whole.
    pub service: String,
    /// A status that is as good as an answer that the service serves (`grpc_status`): 12 for servers
    /// that do not know the protocol.
    pub status: Option<u32>,
}

/// How a server that was never checked counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unchecked {
    /// It is up.
    Up,
    /// It is down until it has passed (`mandatory`).
    Down,
}

/// What a server has to answer (`match`); by default a status of 2xx or 3xx.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// What it is called.
    pub name: String,
    /// The status; `None` leaves it at 200 to 399.
    pub status: Option<Statuses>,
    /// The fields.
    pub fields: Vec<Field>,
    /// Variables that are to be neither empty nor `0` (`require`), with their names as written.
    pub required: Vec<(String, Value)>,
    /// The body.
    pub body: Option<(Holds, Pattern)>,
}

/// Whether a test is to hold or not (`!`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// It is to hold.
    Yes,
    /// It is not.
    No,
}

/// A set of statuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statuses {
    /// Whether they are wanted.
    pub holds: Holds,
    /// Those.
    pub ranges: Vec<RangeInclusive<u16>>,
}

/// What is asked of a field.
#[derive(Debug, Clone)]
pub struct Field {
    /// Whether the test is to hold.
    pub holds: Holds,
    /// Its name.
    pub name: HeaderName,
    /// What is tested.
    pub test: FieldTest,
}

/// A test of a field.
#[derive(Debug, Clone)]
pub enum FieldTest {
    /// It is there.
    IsThere,
    /// It has this value.
    Is(String),
    /// It matches.
    Matches(Pattern),
}

/// What was wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// The status.
    Status(u16),
    /// This variable is empty or `0`.
    Variable(String),
    /// This field.
    Field(HeaderName),
    /// The body.
    Body,
}

impl Default for Cadence {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            jitter: Duration::ZERO,
            fails: 1,
            passes: 1,
            port: None,
            unchecked: Unchecked::Up,
        }
    }
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            cadence: Cadence::default(),
            uri: "/".to_owned(),
            expected: Arc::default(),
            grpc: None,
            keepalive_time: Duration::ZERO,
        }
    }
}

impl Holds {
    fn agrees(self, found: bool) -> bool {
        found == (self == Self::Yes)
    }
}

impl Expected {
    /// Judges the head of an answer.
    ///
    /// # Errors
    /// What is not as it should be.
    pub fn judge_head(&self, status: u16, fields: &HeaderMap) -> Result<(), Mismatch> {
        let fits = match &self.status {
            None => (200..400).contains(&status),
            Some(wanted) => wanted.holds.agrees(wanted.ranges.iter().any(|range| range.contains(&status))),
        };
        if !fits {
            return Err(Mismatch::Status(status));
        }
        for Field { holds, name, test } in &self.fields {
            let mut values = fields.get_all(name).iter().map(|value| value.as_bytes());
            let found = match test {
                FieldTest::IsThere => Ok(values.next().is_some()),
                FieldTest::Is(wanted) => Ok(values.any(|value| value == wanted.as_bytes())),
                FieldTest::Matches(pattern) => any_matches(pattern, values),
            };
            if !found.is_ok_and(|found| holds.agrees(found)) {
                return Err(Mismatch::Field(name.clone()));
            }
        }
        Ok(())
    }

    /// Judges the body of an answer, or as much of it as was read.
    ///
    /// # Errors
    /// It is not as it should be.
    pub fn judge_body(&self, body: &[u8]) -> Result<(), Mismatch> {
        match &self.body {
            Some((holds, pattern)) => match any_matches(pattern, [body]) {
                Ok(found) if holds.agrees(found) => Ok(()),
                _ => Err(Mismatch::Body),
            },
            None => Ok(()),
        }
    }
}

/// Returns whether a text matches. One of which that cannot be found out is as it should be for no test.
fn any_matches<'a>(
    pattern: &Pattern,
    texts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<bool, pattern::GaveUp> {
    for text in texts {
        if pattern.find(text, |_| {})? {
            return Ok(true);
        }
    }
    Ok(false)
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "HTTP {status}"),
            Self::Field(name) => write!(f, "field \"{name}\" does not match"),
            Self::Variable(name) => write!(f, "variable \"{name}\" does not match"),
            Self::Body => f.write_str("body does not match"),
        }
    }
}

impl std::error::Error for Mismatch {}
