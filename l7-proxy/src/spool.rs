//! A body in a file: a request's, for a program that is told the file's name, or since it is larger than what
//! is kept in memory; an answer's, on its way into a cache or to its place.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};

use crate::identity::Identity;

/// A file that holds a body; removed when dropped, unless it is to stay.
#[derive(Debug)]
pub struct Spool {
    file: File,
    path: PathBuf,
    afterwards: Cell<Afterwards>,
}

/// What becomes of the file when the request is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// It stays, for whoever was told its name.
    Kept,
    /// It goes.
    Removed,
}

impl Spool {
    /// Makes an empty file in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(crate) fn create(folder: &Path, afterwards: Afterwards) -> io::Result<Spool> {
        let mut failure = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..ATTEMPTS {
            let mut number = [0; 4];
            SystemRandom::new().fill(&mut number).map_err(|_| io::Error::other("no randomness"))?;
            let path = folder.join(format!("{:010}", u32::from_ne_bytes(number)));
            match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok(Spool { file, path, afterwards: Cell::new(afterwards) }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(folder)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => failure = error,
                Err(error) => return Err(error),
            }
        }
        Err(failure)
    }

    /// Makes a folder for such files, and gives it to the user that workers act as, as nginx does.
    ///
    /// # Errors
    /// It cannot be made, or given away.
    pub(crate) fn prepare(folder: &Path, owner: &Identity) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        std::os::unix::fs::chown(folder, Some(owner.user), None)
    }

    /// Returns the name of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a piece of the body.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn append(&self, piece: &[u8]) -> io::Result<()> {
        let mut file = &self.file;
        file.write_all(piece)
    }

    /// Writes a piece at a place.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write(&self, offset: u64, piece: &[u8]) -> io::Result<()> {
        self.file.write_all_at(piece, offset)
    }

    /// Gives the file another name, under which it stays.
    ///
    /// # Errors
    /// It cannot have that name.
    pub(crate) fn move_to(&self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.afterwards.set(Afterwards::Kept);
        Ok(())
    }

    /// Gives the file permissions, and says when it was changed, if that is known.
    ///
    /// # Errors
    /// The system does not allow it.
    pub(crate) fn describe(&self, access: u32, modified: Option<SystemTime>) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(access))?;
        if let Some(modified) = modified {
            // A time that the file system has no room for is no reason to have no file.
            let _ = self.file.set_modified(modified);
        }
        Ok(())
    }

    /// Reads at most `most` bytes at `offset`; fewer only at the end.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn read(&self, offset: u64, most: usize) -> io::Result<Bytes> {
        let mut piece = vec![0; most];
        self.file.read_exact_at(&mut piece, offset)?;
        Ok(piece.into())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if self.afterwards.get() == Afterwards::Removed {
            // Somebody may have taken it away.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Two are the same if they are the same file.
impl PartialEq for Spool {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for Spool {}

/// How many names are tried until one is free.
const ATTEMPTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_is_read_back_and_its_file_goes_unless_it_is_to_stay() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("a/b");
        for (afterwards, stays) in [(Afterwards::Removed, false), (Afterwards::Kept, true)] {
            let spool = Spool::create(&folder, afterwards).unwrap();
            spool.append(b"0123").unwrap();
            spool.append(b"456").unwrap();
            assert_eq!(spool.read(2, 4).unwrap(), "2345");
            let path = spool.path().to_owned();
            drop(spool);
            assert_eq!(path.exists(), stays);
        }
    }
}
