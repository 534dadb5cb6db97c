//! The pipes that `notify_fifo` and its like name: a line for each change, for whoever reads.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use tracing::info;

/// Writes a line to a FIFO, which is made if it is not there.
///
/// What is written while nobody has it open is lost, and so is what does not fit: nothing waits for a
/// reader.
pub(crate) fn write(fifo: &Path, line: &str) {
    // It is there but for the first time.
    let _ = mknodat(CWD, fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0);
    // Open for reading too, so that opening neither waits for a reader nor fails without one.
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(fifo);
    let written = opened.and_then(|mut file| match file.metadata()?.file_type().is_fifo() {
        true => file.write_all(line.as_bytes()),
        false => Err(std::io::Error::other("it is not a FIFO")),
    });
    if let Err(error) = written {
        info!("cannot write to {}: {error}", fifo.display());
    }
}
