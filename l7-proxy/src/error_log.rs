//! A [`tracing::Subscriber`] that writes what happens as nginx writes it:
//! `2026/01/02 15:04:05 [error] 4711#4712: *5 connect() failed …`.
//!
//! The library only emits events. A program that wants nginx's `error_log` installs this one, as
//! the binary does; any other subscriber does as well. Times are those of this machine, as in the access log.
//!
//! nginx knows eight levels and `tracing` five: `INFO` is nginx's `notice` (the proxy's own life),
//! `DEBUG` its `info` (what clients do), `TRACE` its `debug`. Events with the target [`EMERG`] are
//! `emerg`: the proxy could not do what it was told.

use std::cell::{Cell, RefCell};
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber, debug, error, info, trace, warn};

use crate::access_log::append_to;
use crate::date;
use crate::model::{self, ErrorLogTarget, LogLevel, LogTarget, Memory};
use crate::syslog::Sender;

/// The target of events of level `emerg`.
pub const EMERG: &str = "l7_proxy::emerg";

/// Writes events to the places that `error_log` names. A clone writes to the same places.
#[derive(Clone, Default)]
pub struct ErrorLog {
    sinks: Arc<RwLock<Sinks>>,
}

/// Where events go.
#[derive(Default)]
struct Sinks {
    /// Those of the process.
    process: Vec<Sink>,
    /// Those of servers and locations that have their own.
    others: Vec<(Places, Vec<Sink>)>,
}

/// Where the events of a server or a location go.
pub type Places = Arc<Vec<model::ErrorLog>>;

struct Sink {
    wanted: model::ErrorLog,
    way: Way,
}

enum Way {
    Stderr,
    File(File),
    Syslog(Sender),
    Memory(Arc<Memory>),
}

/// Emits an event of a level that is known at run time only.
pub(crate) fn say(level: LogLevel, text: fmt::Arguments<'_>) {
    match level {
        LogLevel::Debug => trace!("{text}"),
        LogLevel::Info => debug!("{text}"),
        LogLevel::Notice => info!("{text}"),
        LogLevel::Warn => warn!("{text}"),
        LogLevel::Error | LogLevel::Crit | LogLevel::Alert => error!("{text}"),
        LogLevel::Emerg => error!(target: EMERG, "{text}"),
    }
}

impl ErrorLog {
    /// A log that goes nowhere yet.
    pub fn new() -> ErrorLog {
        ErrorLog::default()
    }

    /// Writes to these places from now on, and to no other.
    ///
    /// # Errors
    /// A file cannot be opened for appending; then nothing has changed.
    pub fn write_to(&self, places: &[model::ErrorLog]) -> io::Result<()> {
        let sinks = places.iter().map(Sink::open).collect::<io::Result<Vec<_>>>()?;
        self.sinks.write().unwrap_or_else(PoisonError::into_inner).process = sinks;
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }

    /// Writes what happens to requests of servers and locations with logs of their own to those from
    /// now on.
    ///
    /// # Errors
    /// As [`write_to`](Self::write_to).
    pub fn write_apart_to(&self, others: Vec<Places>) -> io::Result<()> {
        let mut opened: Vec<(Places, Vec<Sink>)> = Vec::new();
        for places in others {
            if opened.iter().all(|(known, _)| *known != places) {
                let sinks = places.iter().map(Sink::open).collect::<io::Result<Vec<_>>>()?;
                opened.push((places, sinks));
            }
        }
        self.sinks.write().unwrap_or_else(PoisonError::into_inner).others = opened;
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }

    /// Opens all files anew by their names: after they were moved away.
    ///
    /// # Errors
    /// A file cannot be opened; then all stay as they are.
    pub fn reopen(&self) -> io::Result<()> {
        let (places, others) = {
            let sinks = self.sinks();
            let places: Vec<_> = sinks.process.iter().map(|sink| sink.wanted.clone()).collect();
            (places, sinks.others.iter().map(|(places, _)| Arc::clone(places)).collect())
        };
        self.write_to(&places)?;
        self.write_apart_to(others)
    }

    /// Returns the first file among its places, as long as it has any.
    pub fn file(&self) -> Option<File> {
        self.sinks().process.iter().find_map(|sink| match &sink.way {
            Way::File(file) => file.try_clone().ok(),
            Way::Stderr | Way::Syslog(_) | Way::Memory(_) => None,
        })
    }

    /// Whether standard error is one of its places.
    pub fn writes_to_stderr(&self) -> bool {
        self.sinks().process.iter().any(|sink| matches!(sink.way, Way::Stderr))
    }

    fn sinks(&self) -> RwLockReadGuard<'_, Sinks> {
        self.sinks.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The least severe level that any place wants.
    fn threshold(&self) -> Option<LogLevel> {
        self.sinks().all().map(|sink| sink.wanted.level).min()
    }
}

impl Sinks {
    fn all(&self) -> impl Iterator<Item = &Sink> {
        self.process.iter().chain(self.others.iter().flat_map(|(_, sinks)| sinks))
    }

    /// Where events of a place go.
    fn of(&self, places: Option<&Places>) -> &[Sink] {
        let own = places.and_then(|places| self.others.iter().find(|(known, _)| known == places));
        own.map_or(&self.process, |(_, sinks)| sinks)
    }
}

thread_local! {
    /// Where what happens goes while something is done for a request whose location has its own logs.
    static PLACES: RefCell<Option<Places>> = const { RefCell::new(None) };
    /// Whether there are any: cheaper to look at, which every request does several times.
    static IS_APART: Cell<bool> = const { Cell::new(false) };
}

/// Lets what happens go to these logs, or those of the process; returns where it went.
fn replace(places: Option<Places>) -> Option<Places> {
    if places.is_none() && !IS_APART.get() {
        return None;
    }
    IS_APART.set(places.is_some());
    PLACES.replace(places)
}

/// Lets what happens go to the logs of a place, until it is dropped.
pub(crate) struct Within {
    before: Option<Places>,
}

/// Lets what happens go to these logs, or those of the process.
pub(crate) fn within(places: Option<Places>) -> Within {
    Within { before: replace(places) }
}

/// Lets what happens in a task go to these logs, or those of the process.
pub(crate) async fn told<T>(mut places: Option<Places>, task: impl Future<Output = T>) -> T {
    let mut task = std::pin::pin!(task);
    std::future::poll_fn(|context| {
        let within = within(places.take());
        let polled = task.as_mut().poll(context);
        // It may have gone on with others, which are those of the next time.
        places = replace(None);
        drop(within);
        polled
    })
    .await
}

/// Lets what happens go to other logs for the rest of the present [`Within`].
pub(crate) fn go_on_with(places: Option<Places>) {
    replace(places);
}

impl Drop for Within {
    fn drop(&mut self) {
        replace(self.before.take());
    }
}

impl Sink {
    fn open(wanted: &model::ErrorLog) -> io::Result<Sink> {
        let way = match &wanted.target {
            ErrorLogTarget::Memory(memory) => Way::Memory(Arc::clone(memory)),
            ErrorLogTarget::Written(target) => match target {
                LogTarget::Stderr => Way::Stderr,
                LogTarget::File(path) => Way::File(open(path)?),
                LogTarget::Syslog(syslog) => Way::Syslog(Sender::open(syslog)?),
            },
        };
        Ok(Sink { wanted: wanted.clone(), way })
    }

    /// There is nowhere to report that the report of errors fails.
    fn write(&self, severity: LogLevel, line: &[u8]) {
        let _ = match &self.way {
            Way::Stderr => io::stderr().write_all(line),
            Way::File(file) => {
                let mut file = file;
                file.write_all(line)
            }
            Way::Syslog(sender) => sender.send_as(severity, line),
            Way::Memory(memory) => {
                memory.write(line);
                Ok(())
            }
        };
    }
}

fn open(path: &Path) -> io::Result<File> {
    append_to(path).map_err(|error| {
        io::Error::new(error.kind(), format!("open() \"{}\" failed ({})", path.display(), Errno(&error)))
    })
}

fn severity(metadata: &Metadata<'_>) -> LogLevel {
    match *metadata.level() {
        _ if metadata.target() == EMERG => LogLevel::Emerg,
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        // What became of one client of the TCP side.
        Level::INFO if metadata.target() == "connection" => LogLevel::Info,
        Level::INFO => LogLevel::Notice,
        Level::DEBUG if !is_of_a_library(metadata) => LogLevel::Info,
        _ => LogLevel::Debug,
    }
}

/// Whether a library says it that speaks a protocol for us: its frames and handshakes are nobody's news.
fn is_of_a_library(metadata: &Metadata<'_>) -> bool {
    let name = metadata.target().split("::").next().unwrap_or_default();
    matches!(name, "h2" | "rustls" | "tokio_rustls" | "mio")
}

impl Subscriber for ErrorLog {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && self.threshold().is_some_and(|threshold| severity(metadata) >= threshold)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.threshold() {
            None => LevelFilter::OFF,
            Some(LogLevel::Debug) => LevelFilter::TRACE,
            Some(LogLevel::Info) => LevelFilter::DEBUG,
            Some(LogLevel::Notice) => LevelFilter::INFO,
            Some(LogLevel::Warn) => LevelFilter::WARN,
            Some(LogLevel::Error | LogLevel::Crit | LogLevel::Alert | LogLevel::Emerg) => LevelFilter::ERROR,
        })
    }

    fn event(&self, event: &Event<'_>) {
        let severity = severity(event.metadata());
        let mut line = Vec::with_capacity(256);
        date::write_error(SystemTime::now(), &mut line);
        let mut text = Text::default();
        event.record(&mut text);
        let (process, thread) = (std::process::id(), rustix::thread::gettid().as_raw_nonzero());
        // Writing to a Vec cannot fail.
        let _ = writeln!(line, " [{severity}] {process}#{thread}: {}{}", text.message, text.fields);
        let sinks = self.sinks();
        PLACES.with_borrow(|places| {
            let sinks = sinks.of(places.as_ref()).iter();
            sinks.filter(|sink| severity >= sink.wanted.level).for_each(|sink| sink.write(severity, &line));
        });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An error of the system as nginx writes it: `111: Connection refused`.
#[derive(Debug)]
pub struct Errno<'a>(pub &'a io::Error);

impl fmt::Display for Errno<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        match self.0.raw_os_error() {
            Some(code) => {
                let words = text.strip_suffix(&format!(" (os error {code})")).unwrap_or(&text);
                write!(f, "{code}: {words}")
            }
            None => f.write_str(&text),
        }
    }
}

/// An event as text: its message, then its fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Notice => "notice",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
            LogLevel::Crit => "crit",
            LogLevel::Alert => "alert",
            LogLevel::Emerg => "emerg",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(path: &Path, level: LogLevel) -> Vec<model::ErrorLog> {
        vec![model::ErrorLog { target: LogTarget::File(path.to_owned()).into(), level }]
    }

    #[test]
    fn line_has_the_shape_of_nginx() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("error.log");
        let log = ErrorLog::new();
        log.write_to(&places(&path, LogLevel::Notice)).unwrap();
        tracing::subscriber::with_default(log, || {
            tracing::info!(count = 2, "reconfiguring");
            tracing::debug!("a client did something");
            tracing::error!(target: EMERG, "unknown directive \"x\"");
        });
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let [first, second] = *lines else { panic!("two lines: {text}") };
        let shape =
            regex::Regex::new(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[notice\] \d+#\d+: reconfiguring count=2$");
        assert!(shape.unwrap().is_match(first), "{first}");
        assert!(second.contains("[emerg]") && second.ends_with(": unknown directive \"x\""), "{second}");
    }

    #[test]
    fn place_with_a_log_of_its_own_gets_its_events_and_the_process_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let own = Arc::new(places(&path("own.log"), LogLevel::Error));
        let log = ErrorLog::new();
        log.write_to(&places(&path("error.log"), LogLevel::Error)).unwrap();
        log.write_apart_to(vec![Arc::clone(&own)]).unwrap();
        tracing::subscriber::with_default(log, || {
            tracing::error!("one");
            {
                let _at = within(Some(own));
                tracing::error!("two");
                go_on_with(None);
                tracing::error!("three");
            }
            tracing::error!("four");
        });
        let words = |name: &str| -> Vec<String> {
            let text = std::fs::read_to_string(path(name)).unwrap();
            text.lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
        };
        assert_eq!(words("error.log"), ["one", "three", "four"]);
        assert_eq!(words("own.log"), ["two"]);
    }

    #[test]
    fn error_of_the_system_is_written_with_its_number_first() {
        let error = io::Error::from_raw_os_error(111);
        assert_eq!(Errno(&error).to_string(), "111: Connection refused");
        assert_eq!(Errno(&io::Error::other("odd")).to_string(), "odd");
    }

    #[test]
    fn file_that_cannot_be_opened_leaves_the_log_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("error.log");
        let log = ErrorLog::new();
        log.write_to(&places(&path, LogLevel::Error)).unwrap();
        let error =
            log.write_to(&places(&folder.path().join("no/such/error.log"), LogLevel::Debug)).unwrap_err();
        assert!(error.to_string().contains("no/such/error.log\" failed"), "{error}");
        assert_eq!(log.threshold(), Some(LogLevel::Error));
    }
}
