//! Where log lines go: standard error, through a buffer.
//!
//! A line costs its formatting and a copy; a thread of its own writes them out, so that a slow
//! terminal or a full disk never holds up a connection. At the bound of the buffer lines are
//! dropped, and how many is said.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use l4_proxy::clock;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

/// Writes out what is left when it is dropped.
pub(crate) struct Log {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    written: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    dropped: u64,
    ended: bool,
}

/// Starts logging what `filter` lets through: levels by target, such as `info,connection=off`.
pub(crate) fn start(filter: Targets) -> Log {
    let shared = Arc::new(Shared::default());
    let lines = tracing_subscriber::fmt::layer().with_writer(Buffer(Arc::clone(&shared))).event_format(Line);
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    // The process has one log; a second start would be a mistake that the first one survives.
    let _ = tracing::subscriber::set_global_default(subscriber);
    let reader = Arc::clone(&shared);
    let writer = std::thread::Builder::new().name("log".to_owned()).spawn(move || write_out(&reader)).ok();
    Log { shared, writer }
}

fn write_out(shared: &Shared) {
    let mut lines = Vec::new();
    loop {
        let (dropped, ended) = {
            let state = shared.lock();
            let waited = shared.written.wait_timeout_while(state, FLUSH, |state| !state.ended);
            let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut lines, &mut state.lines);
            (std::mem::take(&mut state.dropped), state.ended)
        };
        let mut stderr = io::stderr().lock();
        // A log that cannot be written has nowhere to complain.
        let _ = stderr.write_all(&lines);
        if dropped > 0 {
            let _ = writeln!(stderr, "l4-proxy: {dropped} log lines dropped: standard error is too slow");
        }
        lines.clear();
        if ended {
            return;
        }
    }
}

impl Shared {
    /// Lines are appended whole, so a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.written.notify_all();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// The form of a line: time in UTC, as is that of messages, level, what happened, the facts.
///
/// It is written for each connection, so it is kept as cheap as it can be.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let now = clock::now();
        let metadata = event.metadata();
        write!(line, "{now:.3} {:5} {}:", metadata.level(), metadata.target())?;
        let mut facts = Facts { line: &mut line, written: Ok(()) };
        event.record(&mut facts);
        facts.written?;
        writeln!(line)
    }
}

struct Facts<'a, 'b> {
    line: &'a mut Writer<'b>,
    written: fmt::Result,
}

impl Facts<'_, '_> {
    fn write(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let written = match field.name() {
            "message" => write!(self.line, " {value}"),
            name => write!(self.line, " {name}={value}"),
        };
        self.written = self.written.and(written);
    }
}

impl Visit for Facts<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write(field, format_args!("{value}"));
    }
}

/// One line's way into the buffer.
struct Buffer(Arc<Shared>);

impl<'a> MakeWriter<'a> for Buffer {
    type Writer = &'a Buffer;

    fn make_writer(&'a self) -> &'a Buffer {
        self
    }
}

impl Write for &Buffer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        if state.lines.len() + line.len() <= BUFFER_MAX {
            state.lines.extend_from_slice(line);
        } else {
            state.dropped += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prints an answer on standard output.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Prints an error on standard error.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

const FLUSH: Duration = Duration::from_millis(100);

const BUFFER_MAX: usize = 4 << 20;
