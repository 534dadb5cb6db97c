//! Access logs: one line per request, written at once unless the log gathers them.
//!
//! A worker gathers lines in a buffer of its own and appends them to the file in one write, so that
//! workers need no lock and no line is torn. What is gathered is written when there is no room for the
//! next line, when its time is over, when files are opened anew (to where they were) and when the worker
//! ends.

mod buffer;
mod files;
mod kept;

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::error;

use self::buffer::{Buffer, Timing};
pub(crate) use self::files::append_to;
pub use self::files::{LogFiles, OpenError};
use self::kept::Kept;
use crate::error_log::Errno;
use crate::model::{AccessLog, AccessLogTarget, Gathering, LogFileCache, LogTarget};
use crate::moment::{COARSE, Moment};
use crate::variable::{Exchange, Value, Variable};

/// One worker's buffers.
pub(crate) struct Writers {
    files: Arc<LogFiles>,
    /// Few, so that looking through them is quicker than a map.
    buffers: RefCell<Vec<Rc<Buffer>>>,
    /// Files whose names depend on requests.
    kept: RefCell<Kept>,
    /// How often files had taken the place of others when these were asked for.
    changes: Cell<u64>,
    /// Told when lines have begun to wait.
    waiting: Notify,
}

impl Writers {
    pub(crate) fn new(files: Arc<LogFiles>) -> Writers {
        Writers {
            changes: Cell::new(files.changes()),
            files,
            buffers: RefCell::default(),
            kept: RefCell::default(),
            waiting: Notify::new(),
        }
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
            AccessLogTarget::Fixed(target) => self.append(target, log.gathering, line),
            AccessLogTarget::Varying(path) => self.log_to(path, log, exchange),
        }
    }

    /// Adds the line that `write` appends to a log.
    pub(crate) fn append(
        &self,
        target: &LogTarget,
        gathering: Option<Gathering>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.look_again();
        if let Some(buffer) = self.buffer(target, gathering)
            && buffer.add(write) == Timing::Begun
        {
            self.waiting.notify_one();
        }
    }

    /// Waits until lines have been gathered for as long as they may, and writes them.
    pub(crate) async fn flush_when_due(&self) {
        loop {
            let due = self.buffers.borrow().iter().filter_map(|buffer| buffer.due()).min();
            let Some(due) = due else {
                self.waiting.notified().await;
                continue;
            };
            let now = Moment::now();
            if due <= now {
                return self.flush_due(now);
            }
            tokio::select! {
                () = sleep(due.since(now) + COARSE) => {}
                () = self.waiting.notified() => {}
            }
        }
    }

    /// Writes what has been gathered for as long as it may be.
    pub(crate) fn flush_due(&self, now: Moment) {
        let buffers = self.buffers.borrow();
        buffers
            .iter()
            .filter(|buffer| buffer.due().is_some_and(|due| due <= now))
            .for_each(|buffer| buffer.flush());
    }

    /// Writes all that has been gathered.
    pub(crate) fn flush(&self) {
        self.buffers.borrow().iter().for_each(|buffer| buffer.flush());
    }

    /// Lets go of files that others have taken the place of; what was gathered for them is written there.
    pub(crate) fn look_again(&self) {
        let changes = self.files.changes();
        if self.changes.replace(changes) != changes {
            self.buffers.borrow_mut().clear();
            self.kept.borrow_mut().clear();
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
        let mut root = Vec::new();
        Value::variable(Variable::DocumentRoot).write(exchange, &mut root);
        if Path::new(OsStr::from_bytes(&root)).exists() {
            self.append_to_named(&name, &line, &exchange.settings.log_files);
        }
    }

    /// Appends a line to the file of this name, part of which may be a client's choice.
    pub(crate) fn append_to_named(&self, name: &[u8], line: &[u8], rules: &LogFileCache) {
        let path = Path::new(OsStr::from_bytes(name));
        // It must not lead anywhere else.
        if name.contains(&0) || path.components().any(|part| part == Component::ParentDir) {
            return;
        }
        let written = if rules.max == 0 {
            append_to(path).and_then(|mut file| file.write_all(line))
        } else {
            self.look_again();
            self.kept.borrow_mut().append(path, line, rules)
        };
        if let Err(error) = written {
            error!("open() \"{}\" failed ({}) while logging request", path.display(), Errno(&error));
        }
    }

    fn buffer(&self, target: &LogTarget, gathering: Option<Gathering>) -> Option<Rc<Buffer>> {
        let mut buffers = self.buffers.borrow_mut();
        if let Some(buffer) = buffers.iter().find(|buffer| is_same(buffer.file().target(), target)) {
            return Some(Rc::clone(buffer));
        }
        // Opened when the configuration was taken; if it cannot be now, that has been reported.
        let file = self.files.file(target, gathering).ok()?;
        let buffer = Rc::new(Buffer::new(file));
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
