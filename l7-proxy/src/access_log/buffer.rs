//! What one worker has gathered of a log.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::files::LogFile;
use crate::model::{Gathering, Packing};
use crate::moment::Moment;

/// The lines of a log that are to be written. What is left is written when it is dropped.
pub(super) struct Buffer {
    file: Arc<LogFile>,
    lines: RefCell<Vec<u8>>,
    /// When they are to be written at the latest.
    due: Cell<Option<Moment>>,
}

/// Whether a time has begun to run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Timing {
    /// Gathered lines wait from now on.
    Begun,
    /// As before.
    Same,
}

impl Buffer {
    pub(super) fn new(file: Arc<LogFile>) -> Buffer {
        Buffer { file, lines: RefCell::default(), due: Cell::new(None) }
    }

    pub(super) fn file(&self) -> &LogFile {
        &self.file
    }

    /// When its lines are to be written.
    pub(super) fn due(&self) -> Option<Moment> {
        self.due.get()
    }

    /// Adds the line that `write` appends, and writes what there is no room for, or no reason to gather.
    pub(super) fn add(&self, write: impl FnOnce(&mut Vec<u8>)) -> Timing {
        let mut lines = self.lines.borrow_mut();
        let before = lines.len();
        write(&mut lines);
        let Some(Gathering { size, time, .. }) = self.file.gathering() else {
            self.write(&lines);
            lines.clear();
            return Timing::Same;
        };
        if lines.len() > size && before > 0 {
            self.write(&lines[..before]);
            lines.drain(..before);
            self.due.set(None);
        }
        if lines.len() > size {
            self.write(&lines);
            // Such a line is rare, and so is a need for its room.
            *lines = Vec::new();
            return Timing::Same;
        }
        match time {
            Some(time) if self.due.get().is_none() => {
                self.due.set(Some(Moment::now() + time));
                Timing::Begun
            }
            _ => Timing::Same,
        }
    }

    /// Writes all.
    pub(super) fn flush(&self) {
        self.due.set(None);
        let mut lines = self.lines.borrow_mut();
        if !lines.is_empty() {
            self.write(&lines);
            lines.clear();
        }
    }

    fn write(&self, lines: &[u8]) {
        match self.file.gathering().map(|gathering| gathering.packing) {
            None | Some(Packing::Plain) => self.file.append(lines),
            // Each piece is a member of its own, which together are one file of gzip.
            Some(Packing::Gzip(level)) => {
                let mut packer = GzEncoder::new(Vec::new(), Compression::new(level));
                if packer.write_all(lines).is_ok()
                    && let Ok(packed) = packer.finish()
                {
                    self.file.append(&packed);
                }
            }
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.flush();
    }
}
