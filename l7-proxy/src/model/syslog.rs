//! Logs that a syslog server gets.

use std::fmt;
use std::net::SocketAddr;

use crate::unix;

use super::log::LogLevel;

/// A syslog server, and how lines are marked for it (RFC 3164).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Syslog {
    /// Where it listens for datagrams.
    pub server: SocketAddr,
    /// What kind of program sends the lines; `local7` by default.
    pub facility: Facility,
    /// How severe lines of access logs are; `info` by default. Those of `error_log` have their own.
    pub severity: LogLevel,
    /// What stands before each line; `nginx` by default, so that what looks for it finds it.
    pub tag: String,
    /// Whether the name of this machine stands before that.
    pub hostname: Hostname,
}

impl Syslog {
    /// Returns nginx's defaults with this server.
    pub fn new(server: SocketAddr) -> Self {
        Self {
            server,
            facility: Facility::LOCAL7,
            severity: LogLevel::Info,
            tag: "nginx".to_owned(),
            hostname: Hostname::Told,
        }
    }
}

/// Whether lines tell the name of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hostname {
    /// They do.
    Told,
    /// They do not (`nohostname`).
    LeftOut,
}

/// What kind of program sends a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Facility(u8);

impl Facility {
    /// The last of those that are for local use.
    pub const LOCAL7: Facility = Facility(23);

    /// Returns the facility that nginx calls so.
    pub fn named(name: &str) -> Option<Self> {
        let number = FACILITIES.iter().position(|known| *known == name)?;
        u8::try_from(number).ok().map(Self)
    }

    /// Returns its number (RFC 3164, section 4.1.1).
    pub fn number(self) -> u8 {
        self.0
    }
}

/// By their numbers.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "intern", "lpr", "news", "uucp", "clock", "authpriv", "ftp",
    "ntp", "audit", "alert", "cron", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

impl fmt::Display for Syslog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "syslog:server={}", unix::shown(self.server))
    }
}
