//! Access logs: one line per request, buffered per worker.
//!
//! A worker collects lines in a buffer of its own and appends them to the file in one write, so
//! that workers need no lock and no line is torn. What is buffered is written when the buffer is
//! full, at every tick (a second), and when the worker ends.

mod kept;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tracing::error;

use self::kept::Kept;
use crate::error_log::Errno;
use crate::model::{AccessLog, AccessLogTarget, LogTarget, Packing};
use crate::moment::Moment;
use crate::syslog::Sender;
use crate::variable::{Exchange, Value, Variable};

/// The open log files of a process, by target.
#[derive(Debug, Default)]
pub struct LogFiles {
    files: Mutex<HashMap<LogTarget, Arc<LogFile>>>,
    /// How often they were opened anew.
    reopened: AtomicU64,
}

/// A log file.
struct LogFile {
    target: LogTarget,
    /// Held for one write.
    sink: Mutex<Sink>,
    /// Whether a failed write has been reported.
    failed: AtomicBool,
    lost: Mutex<Lost>,
}

/// What a syslog server did not get.
#[derive(Default)]
struct Lost {
    /// Lines since that was last said.
    lines: u64,
    said: Option<Moment>,
}

enum Sink {
    Stderr,
    File(File),
    Syslog(Sender),
}

/// One worker's buffers.
pub(crate) struct Writers {
    files: Arc<LogFiles>,
    /// Few, so that looking through them is quicker than a map.
    buffers: RefCell<Vec<Rc<Buffer>>>,
    /// Files whose names depend on requests.
    kept: RefCell<Kept>,
    /// How often files had been opened anew when those were opened.
    reopened: Cell<u64>,
}

struct Buffer {
    file: Arc<LogFile>,
    packing: Packing,
    lines: RefCell<Vec<u8>>,
}

/// A log that could not be opened.
#[derive(Debug)]
pub struct OpenError {
    target: LogTarget,
    error: io::Error,
}

impl LogFiles {
    /// Opens these logs as far as they are not open, so that the first request need not.
    ///
    /// # Errors
    /// A file cannot be opened for appending.
    pub fn open<'a>(&self, logs: impl IntoIterator<Item = &'a LogTarget>) -> Result<(), OpenError> {
        logs.into_iter().try_for_each(|target| self.file(target).map(drop))
    }

    /// Opens all files anew by their names: after they were moved away.
    ///
    /// A file that cannot be opened stays as it is, and the error is logged.
    pub fn reopen(&self) {
        self.reopened.fetch_add(1, Ordering::Relaxed);
        for file in self.files().values() {
            match Sink::open(&file.target) {
                Ok(sink) => *file.sink() = sink,
                Err(error) => error!("{error}"),
            }
        }
    }

    fn file(&self, target: &LogTarget) -> Result<Arc<LogFile>, OpenError> {
        let mut files = self.files();
        if let Some(file) = files.get(target) {
            return Ok(Arc::clone(file));
        }
        let sink = Mutex::new(Sink::open(target)?);
        let failed = AtomicBool::new(false);
        let file = Arc::new(LogFile { target: target.clone(), sink, failed, lost: Mutex::default() });
        files.insert(target.clone(), Arc::clone(&file));
        Ok(file)
    }

    fn files(&self) -> MutexGuard<'_, HashMap<LogTarget, Arc<LogFile>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogFile {
    fn sink(&self) -> MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, lines: &[u8]) {
        let written = match &mut *self.sink() {
            Sink::Stderr => io::stderr().write_all(lines),
            Sink::File(file) => file.write_all(lines),
            Sink::Syslog(sender) => sender.send(lines),
        };
        match written {
            Ok(()) => self.failed.store(false, Ordering::Relaxed),
            Err(error) if matches!(self.target, LogTarget::Syslog(_)) => self.lose(&error),
            // Said once, not per line: the log of errors may be on the same full disk.
            Err(error) if !self.failed.swap(true, Ordering::Relaxed) => {
                error!("write() to {} failed ({}); lines are lost", self.target, Errno(&error));
            }
            Err(_) => {}
        }
    }
}

impl LogFile {
    /// Takes down that a syslog server did not get a line, and says so now and then: one that cannot keep
    /// up gets some of them in between.
    fn lose(&self, error: &io::Error) {
        let lines = {
            let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
            lost.lines += 1;
            let now = Moment::now();
            if lost.said.is_some_and(|last| now.since(last) < COMPLAINT_EVERY) {
                return;
            }
            lost.said = Some(now);
            std::mem::take(&mut lost.lines)
        };
        error!("send() to {} failed ({}), lines lost: {lines}", self.target, Errno(error));
    }
}

impl Sink {
    fn open(target: &LogTarget) -> Result<Sink, OpenError> {
        match target {
            LogTarget::Stderr => Ok(Sink::Stderr),
            LogTarget::File(path) => match append_to(path) {
                Ok(file) => Ok(Sink::File(file)),
                Err(error) => Err(OpenError { target: target.clone(), error }),
            },
            LogTarget::Syslog(syslog) => match Sender::open(syslog) {
                Ok(sender) => Ok(Sink::Syslog(sender)),
                Err(error) => Err(OpenError { target: target.clone(), error }),
            },
        }
    }
}

/// Opens a file for appending, and makes it if it is not there.
pub(crate) fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

impl Writers {
    pub(crate) fn new(files: Arc<LogFiles>) -> Writers {
        Writers { files, buffers: RefCell::default(), kept: RefCell::default(), reopened: Cell::new(0) }
    }

    /// Adds a line for a request.
    pub(crate) fn log(&self, log: &AccessLog, exchange: &Exchange<'_>) {
        if let Some(condition) = &log.condition
            && matches!(condition.bytes(exchange, &mut Vec::new()), b"" | b"0")
        {
            return;
        }
        let line = |lines: &mut Vec<u8>| {
            log.format.line.write_log(exchange, log.format.escape, lines);
            lines.push(b'\n');
        };
        match &log.target {
            AccessLogTarget::Fixed(target) => self.append(target, log.packing, line),
            AccessLogTarget::Varying(path) => self.log_to(path, log, exchange),
        }
    }

    /// Adds what `write` appends to the lines of a log.
    pub(crate) fn append(&self, target: &LogTarget, packing: Packing, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(buffer) = self.buffer(target, packing) else { return };
        let mut lines = buffer.lines.borrow_mut();
        write(&mut lines);
        // A syslog server gets each by itself, with the time that it has.
        if lines.len() >= BUFFER_SIZE || matches!(target, LogTarget::Syslog(_)) {
            buffer.write(&mut lines);
        }
    }

    /// Adds a line to a file whose name depends on the request. It is opened for this line, unless the
    /// configuration says how many are kept: what clients can name must not be kept open without a limit.
    ///
    /// As in nginx nothing is written for a request whose document root is not there: clients would
    /// make files of any name.
    fn log_to(&self, path: &Value, log: &AccessLog, exchange: &Exchange<'_>) {
        let mut name = Vec::new();
        path.write(exchange, &mut name);
        let mut line = Vec::new();
        log.format.line.write_log(exchange, log.format.escape, &mut line);
        line.push(b'\n');
        let path = Path::new(OsStr::from_bytes(&name));
        // The name may hold a path of the client's choice, which must not lead anywhere else.
        if name.contains(&0) || path.components().any(|part| part == Component::ParentDir) {
            return;
        }
        let mut root = Vec::new();
        Value::variable(Variable::DocumentRoot).write(exchange, &mut root);
        if !Path::new(OsStr::from_bytes(&root)).exists() {
            return;
        }
        let rules = &exchange.settings.log_files;
        let written = if rules.max == 0 {
            append_to(path).and_then(|mut file| file.write_all(&line))
        } else {
            let mut kept = self.kept.borrow_mut();
            let reopened = self.files.reopened.load(Ordering::Relaxed);
            if self.reopened.replace(reopened) != reopened {
                kept.clear();
            }
            kept.append(path, &line, rules)
        };
        if let Err(error) = written {
            error!("open() \"{}\" failed ({}) while logging request", path.display(), Errno(&error));
        }
    }

    /// Writes what is buffered.
    pub(crate) fn flush(&self) {
        self.buffers.borrow().iter().for_each(|buffer| buffer.flush());
    }

    fn buffer(&self, target: &LogTarget, packing: Packing) -> Option<Rc<Buffer>> {
        let mut buffers = self.buffers.borrow_mut();
        let mut known = buffers.iter();
        if let Some(buffer) =
            known.find(|buffer| buffer.packing == packing && is_same(&buffer.file.target, target))
        {
            return Some(Rc::clone(buffer));
        }
        // Opened when the configuration was taken; if it cannot be now, that has been reported.
        let file = self.files.file(target).ok()?;
        let buffer = Rc::new(Buffer { file, packing, lines: RefCell::default() });
        buffers.push(Rc::clone(&buffer));
        Some(buffer)
    }
}

/// Compares byte for byte: comparing paths by component costs more than the rest of a lookup.
fn is_same(one: &LogTarget, other: &LogTarget) -> bool {
    match (one, other) {
        (LogTarget::Stderr, LogTarget::Stderr) => true,
        (LogTarget::File(one), LogTarget::File(other)) => one.as_os_str() == other.as_os_str(),
        (LogTarget::Syslog(one), LogTarget::Syslog(other)) => one == other,
        _ => false,
    }
}

impl Buffer {
    fn flush(&self) {
        let mut lines = self.lines.borrow_mut();
        if !lines.is_empty() {
            self.write(&mut lines);
        }
    }

    fn write(&self, lines: &mut Vec<u8>) {
        match self.packing {
            Packing::Plain => self.file.append(lines),
            // Each piece is a member of its own, which together are one file of gzip.
            Packing::Gzip(level) => {
                let mut packer = GzEncoder::new(Vec::new(), Compression::new(level));
                if packer.write_all(lines).is_ok()
                    && let Ok(packed) = packer.finish()
                {
                    self.file.append(&packed);
                }
            }
        }
        lines.clear();
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.flush();
    }
}

impl fmt::Debug for LogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogFile({})", self.target)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "open() \"{}\" failed ({})", self.target, Errno(&self.error))
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogTarget::Stderr => f.write_str("stderr"),
            LogTarget::File(path) => path.display().fmt(f),
            LogTarget::Syslog(syslog) => syslog.fmt(f),
        }
    }
}

/// How often it is said that a syslog server does not get its lines.
const COMPLAINT_EVERY: Duration = Duration::from_secs(5);

/// Lines are written when this much has gathered.
const BUFFER_SIZE: usize = 32 * 1024;
