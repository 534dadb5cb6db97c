//! Who sees to what is on the disk: finds the entries of an earlier process, and removes those that nobody wants
//! any more, or that there is no room for. Both take their time, in portions.
//!
//! It waits for disks, so that it has a thread to itself, and holds its zone only while it is at work.

use std::fs::{self, DirEntry, ReadDir};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use tokio::time::{sleep, timeout};
use tracing::{error, info};

use super::entry::SIZE_MIN;
use super::key::Key;
use super::{Store, on_disk};
use crate::error_log::Errno;
use crate::model::Rhythm;
use crate::moment::Moment;

/// Sees to a zone until nobody uses it any more; does nothing if somebody does already.
pub(crate) async fn keep(store: Arc<Store>) {
    if store.is_kept.swap(true, Ordering::Relaxed) {
        return;
    }
    let crowded = Arc::clone(&store.crowded);
    let folder = store.path.clone();
    let store = {
        let weak = Arc::downgrade(&store);
        drop(store);
        weak
    };
    let mut open = match fs::read_dir(&folder) {
        Ok(entries) => vec![entries],
        Err(error) => {
            error!("opendir() \"{}\" failed ({})", folder.display(), Errno(&error));
            Vec::new()
        }
    };
    while !open.is_empty() {
        let Some(pause) = load(&store, &mut open) else { return };
        sleep(pause).await;
    }
    if let Some(store) = store.upgrade() {
        store.is_cold.store(false, Ordering::Relaxed);
        let (entries, size) = store.state().index.extent();
        info!("http file cache: {} {entries} entries, {size} bytes", folder.display());
    }
    loop {
        let Some(pause) = store.upgrade().map(|store| manage(&store)) else { return };
        // More room may be needed before.
        let _ = timeout(pause, crowded.notified()).await;
    }
}

/// One portion of work.
struct Portion {
    rhythm: Rhythm,
    began: Instant,
    files: u64,
}

impl Portion {
    fn new(rhythm: Rhythm) -> Portion {
        Portion { rhythm, began: Instant::now(), files: 0 }
    }

    /// Counts a file; says whether it was the last one.
    fn is_done(&mut self) -> bool {
        self.files += 1;
        self.files >= self.rhythm.files || self.began.elapsed() >= self.rhythm.threshold
    }
}

/// Looks at some of the files in these folders; returns how long to rest, or `None` if the zone is gone.
fn load(store: &Weak<Store>, open: &mut Vec<ReadDir>) -> Option<Duration> {
    let store = store.upgrade()?;
    let mut portion = Portion::new(store.zone().loader);
    while let Some(folder) = open.last_mut() {
        match folder.next() {
            None => _ = open.pop(),
            Some(Ok(entry)) => {
                match look(&store, &entry) {
                    Ok(Some(inner)) => open.push(inner),
                    Ok(None) => {}
                    // It may have gone meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => error!("\"{}\" cannot be read ({})", entry.path().display(), Errno(&error)),
                }
                if portion.is_done() {
                    break;
                }
            }
            Some(Err(error)) => {
                error!("readdir() in \"{}\" failed ({})", store.path.display(), Errno(&error));
                open.pop();
            }
        }
    }
    Some(if open.is_empty() { Duration::ZERO } else { portion.rhythm.sleep })
}

/// Takes an entry in; returns what is in a folder.
fn look(store: &Store, entry: &DirEntry) -> io::Result<Option<ReadDir>> {
    let kind = entry.file_type()?;
    let path = entry.path();
    if kind.is_dir() {
        return fs::read_dir(path).map(Some);
    }
    if !kind.is_file() {
        return Ok(None);
    }
    let name = entry.file_name();
    let found = entry.metadata()?;
    let Some(key) = Key::parse(name.as_bytes()) else {
        if is_left_behind(name.as_bytes(), &found) {
            store.unlink(&path);
        }
        // It is not ours.
        return Ok(None);
    };
    let size = found.size();
    let is_taken = size >= SIZE_MIN
        // One that is elsewhere, for the levels were others, would never be found.
        && path == store.path_of(key)
        && store.state().index.find(key, on_disk(size), Moment::now());
    if !is_taken {
        store.unlink(&path);
    }
    Ok(None)
}

/// Whether a file is that of an answer which nobody can be writing any more.
fn is_left_behind(name: &[u8], found: &fs::Metadata) -> bool {
    let age = found.modified().ok().and_then(|then| SystemTime::now().duration_since(then).ok());
    name.len() == 10 && name.iter().all(u8::is_ascii_digit) && age.is_some_and(|age| age > ABANDONED)
}

/// Removes some of what is to go; returns when to look again.
fn manage(store: &Store) -> Duration {
    let zone = store.zone();
    let mut portion = Portion::new(zone.manager);
    loop {
        let evicted = store.state().index.expire(Moment::now().before(zone.inactive));
        let Some(evicted) = evicted else { break };
        store.remove(&evicted);
        if portion.is_done() {
            return portion.rhythm.sleep;
        }
    }
    while is_crowded(store, zone.max_size, zone.min_free) {
        let evicted = store.state().index.evict();
        let Some(evicted) = evicted else { return BUSY };
        store.remove(&evicted);
        if portion.is_done() {
            return portion.rhythm.sleep;
        }
    }
    let next = store.state().index.next_expiry(zone.inactive);
    next.map_or(USUAL, |next| next.since(Moment::now())).clamp(BUSY, USUAL)
}

/// Whether there is too little room, on the disk or for keys.
fn is_crowded(store: &Store, max_size: Option<u64>, min_free: u64) -> bool {
    let (entries, size) = {
        let index = &store.state().index;
        if index.is_over_capacity() {
            return true;
        }
        index.extent()
    };
    if entries == 0 {
        return false;
    }
    let free = || {
        let found = rustix::fs::statvfs(&store.path).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    };
    max_size.is_some_and(|most| size > most) || (min_free > 0 && free().is_some_and(|free| free <= min_free))
}

/// A file of an answer that was not written to for so long is nobody's.
const ABANDONED: Duration = Duration::from_secs(3600);

/// How long it takes until somebody looks again, as in nginx.
const USUAL: Duration = Duration::from_secs(10);

/// The same when something is to go that somebody is at work with, and the least.
const BUSY: Duration = Duration::from_secs(1);
