//! A server's answer that becomes a file (`proxy_store`).
//!
//! It is written apart, where other answers are that are still coming, and gets its name when it is whole, so
//! that nobody ever sees a part of it. Folders that its name wants are made. Where the two places are on
//! different file systems it is copied beside its place first, while the worker stands still, as nginx's does.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::SystemTime;

use crate::body::Deposit;
use crate::spool::{Afterwards, Spool};

/// An answer that is being written; dropped before its end it leaves nothing.
pub(crate) struct Stored {
    file: Rc<Spool>,
    length: u64,
    path: PathBuf,
    access: u32,
    modified: Option<SystemTime>,
}

impl Stored {
    /// Begins a file that will have this name, these permissions and this time.
    ///
    /// # Errors
    /// There can be no file in the temporary folder.
    pub(crate) fn begin(
        temporary: &Path,
        path: PathBuf,
        access: u32,
        modified: Option<SystemTime>,
    ) -> io::Result<Stored> {
        let file = Rc::new(Spool::create(temporary, Afterwards::Removed)?);
        Ok(Stored { file, length: 0, path, access, modified })
    }

    /// Copies the file beside its place, and moves it there.
    fn copy(&self) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let beside = Spool::create(folder, Afterwards::Removed)?;
        let mut at = 0;
        while at < self.length {
            let most = usize::try_from(self.length - at).unwrap_or(PIECE).min(PIECE);
            let piece = self.file.read(at, most)?;
            beside.write(at, &piece)?;
            at += piece.len() as u64;
        }
        beside.describe(self.access, self.modified)?;
        beside.move_to(&self.path)
    }
}

impl Deposit for Stored {
    fn file(&self) -> (Rc<Spool>, u64) {
        (Rc::clone(&self.file), 0)
    }

    fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write(self.length, piece)?;
        self.length += piece.len() as u64;
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        self.file.describe(self.access, self.modified)?;
        let mut moved = self.file.move_to(&self.path);
        if moved.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            if let Some(folder) = self.path.parent() {
                create(folder, self.access | (self.access & 0o444) >> 2)?;
            }
            moved = self.file.move_to(&self.path);
        }
        match moved {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => self.copy(),
            moved => moved,
        }
    }
}

/// Makes a folder and those that it is in, as far as they are not there, with these permissions.
fn create(folder: &Path, access: u32) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(outer) = folder.parent() {
        create(outer, access)?;
    }
    match DirBuilder::new().mode(access).create(folder) {
        // Whatever the process takes away by its mask.
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(access)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// How much is copied at a time.
const PIECE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(folder: &Path, name: &str) -> Box<Stored> {
        let then = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        let mut stored = Stored::begin(&folder.join("t"), folder.join(name), 0o644, Some(then)).unwrap();
        stored.append(b"01").unwrap();
        stored.append(b"23").unwrap();
        Box::new(stored)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn file_has_its_name_when_it_is_whole_and_folders_on_the_way_are_made() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let one = stored(folder, "a/b/c");
        assert!(!folder.join("a").exists());
        one.finish().unwrap();
        assert_eq!(fs::read(folder.join("a/b/c")).unwrap(), b"0123");
        assert_eq!((mode(&folder.join("a/b/c")), mode(&folder.join("a"))), (0o644, 0o755));
        // What is given up leaves nothing.
        drop(stored(folder, "a/b/d"));
        assert_eq!(fs::read_dir(folder.join("t")).unwrap().count(), 0);
        assert!(!folder.join("a/b/d").exists());
    }

    #[test]
    fn copy_is_as_good_as_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let one = stored(folder.path(), "c");
        one.copy().unwrap();
        let path = folder.path().join("c");
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"0123".to_vec(), 0o644));
        let then = fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(then.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 1_700_000_000);
    }
}
