//! The open log files of a process, which its workers share.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tracing::error;

use crate::error_log::Errno;
use crate::model::{Gathering, LogTarget};
use crate::moment::Moment;
use crate::syslog::Sender;

/// The open log files of a process, by target.
#[derive(Debug, Default)]
pub struct LogFiles {
    files: Mutex<HashMap<LogTarget, Arc<LogFile>>>,
    /// How often files have taken the place of others, or were let go of. Workers look at it with each line.
    changes: AtomicU64,
    users: Mutex<Vec<User>>,
}

/// Part of a configuration, which may log as long as anything holds it.
#[derive(Debug)]
struct User {
    part: Weak<dyn Any + Send + Sync>,
    logs: Vec<LogTarget>,
}

/// A log file. What is moved away and opened anew is another one.
pub(super) struct LogFile {
    target: LogTarget,
    /// How workers gather its lines.
    gathering: Option<Gathering>,
    sink: Sink,
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
    /// Written to in one piece at a time, which the system appends whole.
    File(File),
    Syslog(Mutex<Sender>),
}

/// A log that could not be opened.
#[derive(Debug)]
pub struct OpenError {
    target: LogTarget,
    error: io::Error,
}

impl LogFiles {
    /// Opens these logs as far as they are not open, so that the first request need not. A log's lines are
    /// gathered if any that leads there says so.
    ///
    /// # Errors
    /// A file cannot be opened for appending; then nothing has changed.
    pub fn open<'a>(
        &self,
        logs: impl IntoIterator<Item = (&'a LogTarget, Option<Gathering>)>,
    ) -> Result<(), OpenError> {
        let mut wanted: HashMap<&LogTarget, Option<Gathering>> = HashMap::new();
        for (target, gathering) in logs {
            let known = wanted.entry(target).or_default();
            *known = known.or(gathering);
        }
        let mut files = self.files();
        let is_new =
            |target: &LogTarget, gathering| files.get(target).is_none_or(|file| file.gathering != gathering);
        wanted.retain(|target, gathering| is_new(target, *gathering));
        let opened = wanted.into_iter().map(|(target, gathering)| LogFile::open(target, gathering));
        let opened: Vec<_> = opened.collect::<Result<_, _>>()?;
        for file in opened {
            files.insert(file.target.clone(), Arc::new(file));
        }
        drop(files);
        self.changes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Keeps these logs open as long as this part of a configuration may write to them.
    pub(crate) fn used_by<'a, T: Any + Send + Sync>(
        &self,
        part: &Arc<T>,
        logs: impl IntoIterator<Item = &'a LogTarget>,
    ) {
        let mut users = self.users();
        if users.iter().all(|user| !std::ptr::addr_eq(user.part.as_ptr(), Arc::as_ptr(part))) {
            let weak = Arc::downgrade(part);
            users.push(User { part: weak, logs: logs.into_iter().cloned().collect() });
        }
    }

    /// Lets go of the logs that no configuration names which anything is served by. A worker that has one
    /// in use sees that it has lines to write.
    pub(crate) fn close_unused(&self) {
        let mut users = self.users();
        let before = users.len();
        users.retain(|user| user.part.strong_count() > 0);
        if users.len() == before {
            return;
        }
        let mut files = self.files();
        let before = files.len();
        files.retain(|target, _| users.iter().any(|user| user.logs.contains(target)));
        if files.len() < before {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens all files anew by their names: after they were moved away. What workers have gathered goes
    /// where the files are now.
    ///
    /// A file that cannot be opened stays as it is, and the error is logged.
    pub fn reopen(&self) {
        for file in self.files().values_mut() {
            match LogFile::open(&file.target, file.gathering) {
                Ok(opened) => *file = Arc::new(opened),
                Err(error) => error!("{error}"),
            }
        }
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// How often files have taken the place of others.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Returns a log file, which is opened if it is not yet.
    pub(super) fn file(
        &self,
        target: &LogTarget,
        gathering: Option<Gathering>,
    ) -> Result<Arc<LogFile>, OpenError> {
        let mut files = self.files();
        if let Some(file) = files.get(target) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(LogFile::open(target, gathering)?);
        files.insert(target.clone(), Arc::clone(&file));
        Ok(file)
    }

    fn users(&self) -> MutexGuard<'_, Vec<User>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> MutexGuard<'_, HashMap<LogTarget, Arc<LogFile>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogFile {
    fn open(target: &LogTarget, gathering: Option<Gathering>) -> Result<LogFile, OpenError> {
        let sink = match target {
            LogTarget::Stderr => Ok(Sink::Stderr),
            LogTarget::File(path) => append_to(path).map(Sink::File),
            LogTarget::Syslog(syslog) => Sender::open(syslog).map(|sender| Sink::Syslog(Mutex::new(sender))),
        };
        let target = target.clone();
        match sink {
            Ok(sink) => {
                let failed = AtomicBool::new(false);
                Ok(LogFile { target, gathering, sink, failed, lost: Mutex::default() })
            }
            Err(error) => Err(OpenError { target, error }),
        }
    }

    /// Where it is.
    pub(super) fn target(&self) -> &LogTarget {
        &self.target
    }

    /// How its lines are gathered.
    pub(super) fn gathering(&self) -> Option<Gathering> {
        self.gathering
    }

    /// Writes lines in one piece.
    pub(super) fn append(&self, lines: &[u8]) {
        let written = match &self.sink {
            Sink::Stderr => io::stderr().write_all(lines),
            Sink::File(file) => (&*file).write_all(lines),
            Sink::Syslog(sender) => sender.lock().unwrap_or_else(PoisonError::into_inner).send(lines),
        };
        match written {
            // A look first: workers share it.
            Ok(()) if !self.failed.load(Ordering::Relaxed) => {}
            Ok(()) => self.failed.store(false, Ordering::Relaxed),
            Err(error) if matches!(self.target, LogTarget::Syslog(_)) => self.lose(&error),
            // Said once, not per line: the log of errors may be on the same full disk.
            Err(error) if !self.failed.swap(true, Ordering::Relaxed) => {
                error!("write() to {} failed ({}); lines are lost", self.target, Errno(&error));
            }
            Err(_) => {}
        }
    }

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

/// Opens a file for appending, and makes it if it is not there.
pub(crate) fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
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
