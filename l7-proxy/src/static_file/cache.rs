//! Files that are asked for again and again: what is known of them, and what is in the small ones.
//!
//! Nothing is believed that the file system does not confirm. Without `open_file_cache` each request
//! asks it about the name, and what was read is used again only if it is the same file in the same
//! state. With it the descriptor is kept and asked about instead; the name is asked about when its
//! time is over. A state is told by device, inode, size and the times of both kinds of change; one
//! that is so young that a second change could hide in the same tick of the clock is not kept.
//!
//! Keys are in two lots: one that is used goes into the younger, and when that is full it becomes the
//! older, whose keys go.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::fs::{FileType, Stat, fstat};

use super::describe::{Head, Validators};
use super::links::Links;
use super::{SMALL, read_at, status_of};
use crate::model::{CacheErrors, FileCache};
use crate::moment::Moment;

/// What one worker keeps of files.
#[derive(Debug, Default)]
pub struct Cache {
    young: Lot,
    old: Lot,
    /// Bytes of content in the younger lot.
    bytes: usize,
}

type Lot = HashMap<Box<[u8]>, Entry, foldhash::fast::RandomState>;

#[derive(Debug)]
struct Entry {
    known: Known,
    /// How the name was read.
    links: Links,
    /// When the name was last asked about.
    checked: Moment,
    used: Moment,
    uses: u32,
    /// How long it may stay unused.
    inactive: Duration,
}

/// What is known of a name.
#[derive(Debug, Clone)]
enum Known {
    There(Opened),
    /// What a request for it is answered with.
    Refused(u16),
}

/// A file, a directory, or something else that is there.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub(super) facts: Rc<Facts>,
    /// `None` where all of it is in `content` and no descriptor is kept.
    pub(super) file: Option<Arc<File>>,
    /// All of a small file.
    pub(super) content: Option<Bytes>,
}

/// What the file system says of a file, and what follows from it.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) state: State,
    pub(super) kind: FileType,
    pub(super) validators: Validators,
    pub(super) head: Head,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    /// Seconds and nanoseconds of the last change to the content, and of that to anything.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Cache {
    /// Returns what is called `name`, or the status that says why it cannot be had.
    pub(super) fn open(&mut self, name: &[u8], links: Links, rules: &FileCache) -> Result<Opened, u16> {
        let rules = Some(rules).filter(|rules| rules.max > 0);
        let now = Moment::now();
        if let Some(entry) = self.find(name) {
            entry.used = now;
            entry.uses = entry.uses.saturating_add(1);
            if entry.links == links
                && let Some(known) = entry.confirm(name, rules, now)
            {
                return known.into();
            }
        }
        let known = Known::read(name, links);
        let uses = self.young.get(name).map_or(1, |entry| entry.uses);
        let inactive = rules.map_or(INACTIVE, |rules| rules.inactive);
        let entry = Entry { known: known.clone(), links, checked: now, used: now, uses, inactive };
        self.keep(name, entry, rules);
        known.into()
    }

    /// Forgets what has not been used for as long as it may stay unused.
    pub(crate) fn sweep(&mut self, now: Moment) {
        for lot in [&mut self.young, &mut self.old] {
            lot.retain(|_, entry| now.since(entry.used) <= entry.inactive);
        }
        self.bytes = self.young.values().map(Entry::size).sum();
    }

    /// Returns the entry of a name, which thereby is of the younger lot.
    fn find(&mut self, name: &[u8]) -> Option<&mut Entry> {
        if let Some((name, entry)) = self.old.remove_entry(name) {
            self.bytes += entry.size();
            self.young.insert(name, entry);
        }
        self.young.get_mut(name)
    }

    fn keep(&mut self, name: &[u8], mut entry: Entry, rules: Option<&FileCache>) {
        if let Some(before) = self.young.remove(name) {
            self.bytes -= before.size();
        }
        match (&mut entry.known, rules) {
            (Known::There(opened), None) => {
                if opened.content.is_none() || opened.facts.state.is_fresh() {
                    return;
                }
                opened.file = None;
            }
            (Known::There(opened), Some(rules)) => {
                if opened.facts.state.is_fresh() {
                    opened.content = None;
                }
                // The name is remembered, so that its uses are counted.
                if entry.uses < rules.min_uses {
                    (opened.file, opened.content) = (None, None);
                }
            }
            (Known::Refused(_), Some(FileCache { errors: CacheErrors::Kept, .. })) => {}
            (Known::Refused(_), _) => return,
        }
        let most = rules.map_or(ENTRIES_MAX, |rules| rules.max) / 2;
        if self.young.len() >= most.max(1) || self.bytes + entry.size() > BYTES_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += entry.size();
        self.young.insert(name.into(), entry);
    }
}

impl Entry {
    fn size(&self) -> usize {
        match &self.known {
            Known::There(opened) => opened.content.as_ref().map_or(0, Bytes::len),
            Known::Refused(_) => 0,
        }
    }

    /// Returns what is known, if it is still so.
    fn confirm(&mut self, name: &[u8], rules: Option<&FileCache>, now: Moment) -> Option<Known> {
        let in_time = rules.is_some_and(|rules| now.since(self.checked) < rules.valid);
        match &self.known {
            Known::Refused(_) => in_time.then(|| self.known.clone()),
            Known::There(opened) => {
                if opened.facts.kind.is_file() && opened.file.is_none() && opened.content.is_none() {
                    return None;
                }
                let found = match &opened.file {
                    // Whoever replaces a file takes its name away, which is a change to it.
                    Some(file) if in_time => fstat(file),
                    None if in_time && rules.is_some() && opened.facts.kind.is_dir() => {
                        return Some(self.known.clone());
                    }
                    _ => {
                        self.checked = now;
                        self.links.stat(name)
                    }
                };
                let same = found.is_ok_and(|found| State::of(&found) == opened.facts.state);
                same.then(|| self.known.clone())
            }
        }
    }
}

impl Known {
    fn read(name: &[u8], links: Links) -> Known {
        match Opened::read(name, links) {
            Ok(opened) => Known::There(opened),
            Err(error) => Known::Refused(status_of(&error)),
        }
    }
}

impl From<Known> for Result<Opened, u16> {
    fn from(known: Known) -> Self {
        match known {
            Known::There(opened) => Ok(opened),
            Known::Refused(status) => Err(status),
        }
    }
}

impl Opened {
    /// Opens a file, and reads it if it is small.
    fn read(name: &[u8], links: Links) -> io::Result<Opened> {
        let file = links.open(name)?;
        let facts = Rc::new(Facts::of(&fstat(&file)?));
        if !facts.kind.is_file() {
            return Ok(Opened { facts, file: None, content: None });
        }
        let small = usize::try_from(facts.state.size).ok().filter(|&size| size <= SMALL);
        let content = match small {
            Some(size) => Some(read_at(&file, 0, size)?),
            None => None,
        };
        Ok(Opened { facts, file: Some(Arc::new(file)), content })
    }
}

impl Facts {
    fn of(found: &Stat) -> Facts {
        let state = State::of(found);
        let validators = Validators::new(state.modified.0, state.size);
        let kind = FileType::from_raw_mode(found.st_mode);
        Facts { state, kind, validators, head: Head::default() }
    }
}

impl State {
    fn of(found: &Stat) -> State {
        State {
            device: found.st_dev,
            inode: found.st_ino,
            size: u64::try_from(found.st_size).unwrap_or(0),
            modified: (found.st_mtime, i64::try_from(found.st_mtime_nsec).unwrap_or(0)),
            changed: (found.st_ctime, i64::try_from(found.st_ctime_nsec).unwrap_or(0)),
        }
    }

    /// Whether it is so young that the next one could look the same.
    fn is_fresh(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let settled = i64::try_from(now.as_secs()).unwrap_or(i64::MAX) - FRESH;
        self.modified.0.max(self.changed.0) >= settled
    }
}

/// Seconds after which a state is told from the next one for certain.
const FRESH: i64 = 2;

/// How many files are kept where the configuration does not say.
const ENTRIES_MAX: usize = 2048;

/// How many bytes of content are kept.
const BYTES_MAX: usize = 16 << 20;

/// How long a file may stay unused where the configuration does not say.
const INACTIVE: Duration = Duration::from_secs(60);
