//! A log in memory, of which the latest lines are kept.

use std::collections::VecDeque;
use std::fmt;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where the latest lines of a log are kept, for whoever asks for them (`error_log memory:SIZE`).
///
/// Two of them are equal if they are the same one.
pub struct Memory {
    size: usize,
    /// Whole lines, the oldest first; never more than `size` bytes.
    lines: Mutex<VecDeque<u8>>,
}

impl Memory {
    /// Returns one for so many bytes, which are set aside for it; `None` if there are not as many, or if no
    /// line would fit.
    pub fn new(size: usize) -> Option<Self> {
        let mut lines = VecDeque::new();
        lines.try_reserve_exact(size).ok().filter(|()| size >= SIZE_MIN)?;
        Some(Self { size, lines: Mutex::new(lines) })
    }

    /// Returns what was written last.
    pub fn latest(&self) -> Vec<u8> {
        self.lines().iter().copied().collect()
    }

    /// Adds a line, in the place of the oldest ones. Of one that is too long its beginning is kept.
    pub(crate) fn write(&self, line: &[u8]) {
        let mut lines = self.lines();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = &line[..line.len().min(self.size - 1)];
        while lines.len() + line.len() + 1 > self.size {
            let first = lines.iter().position(|&byte| byte == b'\n').map_or(lines.len(), |end| end + 1);
            lines.drain(..first);
        }
        lines.extend(line);
        lines.push_back(b'\n');
    }

    fn lines(&self) -> MutexGuard<'_, VecDeque<u8>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory:{}", self.size)
    }
}

impl PartialEq for Memory {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self, other)
    }
}

impl Eq for Memory {}

/// As in nginx there is room for something.
const SIZE_MIN: usize = 11;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], expected: &str) {
        let memory = Memory::new(12).unwrap();
        lines.iter().for_each(|line| memory.write(line.as_bytes()));
        assert_eq!(String::from_utf8(memory.latest()).unwrap(), expected, "{lines:?}");
    }

    #[test]
    fn oldest_lines_make_room_for_the_latest() {
        check(&[], "");
        check(&["one\n", "two\n", "six\n"], "one\ntwo\nsix\n");
        check(&["one\n", "two\n", "six\n", "four\n"], "six\nfour\n");
        check(&["one\n", "two\n", "eleven here\n"], "eleven here\n");
    }

    #[test]
    fn line_that_is_too_long_is_cut() {
        check(&["one\n", "more than twelve\n", "x\n"], "x\n");
        check(&["one\n", "more than twelve\n"], "more than t\n");
    }

    #[test]
    fn size_that_nothing_fits_into_is_none() {
        assert!(Memory::new(10).is_none());
        assert!(Memory::new(usize::MAX).is_none());
    }
}
