//! Files of logs whose names depend on requests, kept open for a while (`open_log_file_cache`).

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::append_to;
use crate::model::LogFileCache;
use crate::moment::Moment;

/// The files that one worker keeps.
#[derive(Default)]
pub(super) struct Kept {
    /// The one that was used last is at the end; few, so that looking through them is quick.
    files: Vec<KeptFile>,
}

struct KeptFile {
    path: PathBuf,
    /// `None` while it has not been used often enough to be kept open.
    file: Option<File>,
    uses: u32,
    used: Moment,
    /// When its name was last asked about.
    checked: Moment,
}

impl Kept {
    /// Appends a line to the file of this name.
    ///
    /// # Errors
    /// The file cannot be opened, or not written to.
    pub(super) fn append(&mut self, path: &Path, line: &[u8], rules: &LogFileCache) -> io::Result<()> {
        let now = Moment::now();
        self.files.retain(|kept| now.since(kept.used) < rules.inactive);
        let mut kept = match self.files.iter().position(|kept| kept.path == path) {
            Some(place) => self.files.remove(place),
            None => KeptFile { path: path.to_owned(), file: None, uses: 0, used: now, checked: now },
        };
        (kept.uses, kept.used) = (kept.uses.saturating_add(1), now);
        if now.since(kept.checked) >= rules.valid {
            kept.checked = now;
            kept.file = kept.file.take().filter(|file| is_called(file, path));
        }
        let mut file = match kept.file.take() {
            Some(file) => file,
            None => append_to(path)?,
        };
        let written = file.write_all(line);
        if kept.uses >= rules.min_uses {
            kept.file = Some(file);
        }
        if self.files.len() >= rules.max {
            self.files.remove(0);
        }
        self.files.push(kept);
        written
    }

    /// Closes all of them: their names may stand for others now.
    pub(super) fn clear(&mut self) {
        self.files.clear();
    }
}

/// Whether a name still stands for an open file.
fn is_called(file: &File, path: &Path) -> bool {
    let identity = |facts: io::Result<std::fs::Metadata>| facts.ok().map(|facts| (facts.dev(), facts.ino()));
    let found = identity(path.metadata());
    found.is_some() && found == identity(file.metadata())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Appends to these files in order, with a room for two; returns which could be written to after
    /// their folder was moved away.
    fn survivors(appended: &[&str], rules: LogFileCache) -> String {
        let folder = tempfile::tempdir().unwrap();
        let (before, after) = (folder.path().join("logs"), folder.path().join("moved"));
        std::fs::create_dir(&before).unwrap();
        let mut kept = Kept::default();
        for name in appended {
            kept.append(&before.join(name), b"line\n", &rules).unwrap();
        }
        std::fs::rename(&before, &after).unwrap();
        let written = ["a", "b", "c"].into_iter().filter(|name| {
            kept.append(&before.join(name), b"line\n", &LogFileCache { max: 9, ..rules }).is_ok()
        });
        written.collect()
    }

    #[test]
    fn file_stays_open_once_it_was_used_often_enough_and_is_among_the_latest() {
        let rules = LogFileCache { max: 2, min_uses: 2, ..LogFileCache::default() };
        assert_eq!(survivors(&["a", "a", "b"], rules), "a");
        assert_eq!(survivors(&["a", "a", "b", "b", "c", "c"], rules), "bc");
        assert_eq!(survivors(&["a", "b", "c"], LogFileCache { min_uses: 1, ..rules }), "bc");
    }

    #[test]
    fn name_is_asked_about_when_its_time_is_over() {
        let rules = LogFileCache { max: 2, valid: Duration::ZERO, ..LogFileCache::default() };
        assert_eq!(survivors(&["a", "b"], rules), "");
    }
}
