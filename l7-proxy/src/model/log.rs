//! Logs: of requests, and of what goes wrong.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::variable::Value;

use super::memory::Memory;
use super::syslog::Syslog;

/// A log that gets a line for each request.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// Where the lines go.
    pub target: AccessLogTarget,
    /// What a line says.
    pub format: Arc<LogFormat>,
    /// A line is written if this is neither empty nor `0` (`if=`).
    pub condition: Option<Value>,
    /// How lines are gathered; `None` writes each by itself.
    pub gathering: Option<Gathering>,
}

/// How the lines of a log file are gathered before they are written, by each worker for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gathering {
    /// So many bytes at most (`buffer=`); a line that is longer is written by itself.
    pub size: usize,
    /// For so long at most (`flush=`); `None` is until there is no more room.
    pub time: Option<Duration>,
    /// In what form they are written.
    pub packing: Packing,
}

/// In what form a log file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Packing {
    /// Lines as they are.
    #[default]
    Plain,
    /// Compressed at this level (`gzip`).
    Gzip(u32),
}

impl AccessLogTarget {
    /// Returns where lines go, if that is the same for all requests.
    pub fn fixed(&self) -> Option<&LogTarget> {
        match self {
            Self::Fixed(target) => Some(target),
            Self::Varying(_) => None,
        }
    }
}

/// Where the lines of an access log go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// To one place.
    Fixed(LogTarget),
    /// To a file whose name depends on the request.
    Varying(Value),
}

/// What a line of an access log says (`log_format`).
#[derive(Debug, Clone)]
pub struct LogFormat {
    /// The name it was defined under.
    pub name: String,
    /// The line, without its end.
    pub line: Value,
    /// How bytes are written that would break a line.
    pub escape: Escape,
}

/// How bytes are written that would break a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Escape {
    /// `"`, `\` and bytes outside printable ASCII as `\xHH`; an unset variable as `-`.
    #[default]
    Default,
    /// As inside a JSON string; an unset variable as nothing.
    Json,
    /// As they are; an unset variable as nothing.
    None,
}

/// How many files of logs whose names depend on requests are kept open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogFileCache {
    /// How many are kept by a worker at most; 0 keeps none, the default.
    pub max: usize,
    /// How long one may stay unused; 10 s by default.
    pub inactive: Duration,
    /// How often it must have been used to be kept open; once by default.
    pub min_uses: u32,
    /// How long it is believed that its name still stands for it; 60 s by default.
    pub valid: Duration,
}

impl Default for LogFileCache {
    fn default() -> Self {
        Self { max: 0, inactive: Duration::from_secs(10), min_uses: 1, valid: Duration::from_secs(60) }
    }
}

/// Whether it is a diagnostic that a file is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogNotFound {
    /// It is.
    #[default]
    On,
    /// It is not.
    Off,
}

/// One `error_log`: where it goes and from which level on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorLog {
    /// Where the lines go.
    pub target: ErrorLogTarget,
    /// The least severe level that is written.
    pub level: LogLevel,
}

/// Where the lines of an `error_log` go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorLogTarget {
    /// Where those of any log may go.
    Written(LogTarget),
    /// To memory, where a page shows the latest (`lvs_log`).
    Memory(Arc<Memory>),
}

impl ErrorLogTarget {
    /// Returns the memory that lines go to, if they go to any.
    pub fn memory(&self) -> Option<&Arc<Memory>> {
        match self {
            Self::Memory(memory) => Some(memory),
            Self::Written(_) => None,
        }
    }
}

impl From<LogTarget> for ErrorLogTarget {
    fn from(target: LogTarget) -> Self {
        Self::Written(target)
    }
}

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LogTarget {
    /// Standard error.
    Stderr,
    /// Appended to a file; the path is absolute or relative to the working directory.
    File(PathBuf),
    /// To a syslog server.
    Syslog(Arc<Syslog>),
}

/// Severity of a diagnostic, least severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What happened.
    Info,
    /// What happened and is worth knowing.
    Notice,
    /// What is odd.
    Warn,
    /// What failed.
    Error,
    /// What failed and will fail again.
    Crit,
    /// What needs a person now.
    Alert,
    /// The system is unusable.
    Emerg,
}
