//! Which of the symbolic links in a file's name are followed (`disable_symlinks`).
//!
//! Where not all are, a name is walked from folder to folder by descriptors, so that a link that is
//! put in place meanwhile is met as any other: what was looked at is what is opened.

use std::fs::File;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::{Errno, Result};

use crate::model::Follow;
use crate::variable::Exchange;

/// Which of the links in one name are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// All.
    All,
    /// Those of an owner whose target has the same, in what stands behind so many bytes.
    OfOwner(usize),
    /// None in what stands behind so many bytes.
    None(usize),
}

impl Links {
    /// Returns what is said of a name where a request is.
    pub(crate) fn of(exchange: &Exchange<'_>, name: &[u8]) -> Links {
        let rule = &exchange.settings.files.symlinks;
        let kind = match rule.follow {
            Follow::All => return Links::All,
            Follow::OfOwner => Links::OfOwner,
            Follow::None => Links::None,
        };
        let mut scratch = Vec::new();
        let from = rule.from.as_ref().map_or(&b""[..], |from| from.bytes(exchange, &mut scratch));
        match name.strip_prefix(from) {
            // Nothing is left to be looked at.
            Some(b"") => Links::All,
            Some([b'/', ..]) => kind(from.len()),
            Some(_) if from.ends_with(b"/") => kind(from.len() - 1),
            // It is in the middle of a word, or not in front.
            Some(_) | None => kind(0),
        }
    }

    /// Returns what the file system says of a name.
    pub(crate) fn stat(self, name: &[u8]) -> Result<Stat> {
        if self == Links::All {
            return rustix::fs::stat(name);
        }
        let found = fstat(self.walk(name, OFlags::PATH)?)?;
        // Without being followed a link is found itself.
        if FileType::from_raw_mode(found.st_mode).is_symlink() { Err(Errno::LOOP) } else { Ok(found) }
    }

    /// Opens a file for reading, without waiting, whatever it is.
    pub(super) fn open(self, name: &[u8]) -> Result<File> {
        // A fifo would wait for a writer, and a terminal could become ours.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match self {
            Links::All => openat(CWD, name, flags | OFlags::CLOEXEC, Mode::empty())?,
            _ => self.walk(name, flags)?,
        };
        Ok(file.into())
    }

    /// Opens a name, one folder after the other.
    fn walk(self, name: &[u8], flags: OFlags) -> Result<OwnedFd> {
        let (Links::OfOwner(from) | Links::None(from)) = self else {
            return openat(CWD, name, flags | OFlags::CLOEXEC, Mode::empty());
        };
        let (start, mut rest) = match (from, name.split_at_checked(from)) {
            (0, _) | (_, None) if name.starts_with(b"/") => (&b"/"[..], name),
            (0, _) | (_, None) => (&b"."[..], name),
            (_, Some(split)) => split,
        };
        let mut at = openat(CWD, start, FOLDER, Mode::empty())?;
        while let Some(slash) = memchr::memchr(b'/', rest) {
            let part = &rest[..slash];
            rest = &rest[slash + 1..];
            if !part.is_empty() {
                at = self.step(&at, part, FOLDER)?;
            }
        }
        if rest.is_empty() {
            return openat(&at, ".", flags | OFlags::CLOEXEC, Mode::empty());
        }
        self.step(&at, rest, flags | OFlags::CLOEXEC)
    }

    /// Opens what is called `part` in a folder.
    fn step(self, folder: &OwnedFd, part: &[u8], flags: OFlags) -> Result<OwnedFd> {
        let Links::OfOwner(_) = self else {
            return openat(folder, part, flags | OFlags::NOFOLLOW, Mode::empty());
        };
        let found = openat(folder, part, flags, Mode::empty())?;
        let name = statat(folder, part, AtFlags::SYMLINK_NOFOLLOW)?;
        if fstat(&found)?.st_uid == name.st_uid { Ok(found) } else { Err(Errno::LOOP) }
    }
}

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
