//! Answers of servers that are kept on a disk (`proxy_cache_path`), so that servers need not be asked again.
//!
//! A [`Store`] is one zone, shared by all workers and handed on by a reload: an [`index`] in memory, and a file
//! for each entry, named as nginx names it. A file is written apart and gets its name when it is whole, so that
//! nobody ever sees a part of one. What the index says of the disk may be wrong at any time (people remove files
//! by hand): a file that is not there, or is not what it should be, is as good as none.
//!
//! What an answer's fields say of keeping it is read by [`validity`]; what a request does with a zone is
//! [`handle`](crate::handle)'s.

mod census;
mod draft;
mod entry;
mod index;
mod keeper;
mod key;
mod validity;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::Notify;
use tracing::{error, warn};

pub(crate) use self::census::Census;
use self::census::Counts;
pub use self::census::Outcome;
pub(crate) use self::draft::{Draft, Keeping};
use self::entry::Damage;
pub(crate) use self::entry::{Content, Entry, Extent, Facts, Head};
use self::index::{Evicted, Full, Index, Standing, Ticket, Turn};
pub(crate) use self::keeper::keep;
pub(crate) use self::key::Key;
pub(crate) use self::validity::{Said, Seconds, Validity, now};
use crate::error_log::Errno;
use crate::model::{CacheZone, Identity, TemporaryFiles};
use crate::moment::Moment;

/// The zones of a proxy.
#[derive(Default)]
pub(crate) struct Stores {
    known: Mutex<Vec<Weak<Store>>>,
}

/// One zone.
pub(crate) struct Store {
    pub(crate) name: String,
    /// These two say what files are called.
    path: PathBuf,
    levels: Vec<u8>,
    state: Mutex<State>,
    /// Whether files may be there that the index does not know, for they have not all been looked at.
    is_cold: AtomicBool,
    /// Whether somebody sees to what is on the disk.
    is_kept: AtomicBool,
    /// Is told when there is more than there is room for.
    crowded: Arc<Notify>,
    counts: Counts,
}

struct State {
    index: Index,
    zone: Arc<CacheZone>,
}

/// What a zone is asked for.
pub(crate) struct Question<'a> {
    /// What the answer is kept under.
    pub(crate) key: &'a Bytes,
    /// The fields of the request.
    pub(crate) headers: &'a HeaderMap,
    /// What of an answer will do.
    pub(crate) extent: Extent,
    pub(crate) min_uses: u32,
    /// How long others wait for one that fetches an answer, if they do.
    pub(crate) lock_age: Option<Duration>,
}

/// What a zone has.
pub(crate) enum Found {
    /// An answer whose time is not over.
    Fresh(Entry),
    /// One whose time is. The claim tells whose turn it is to fetch another.
    Stale(Entry, Claim),
    /// A status that stands for one.
    Refused(u16),
    /// None, and it is to be fetched and kept.
    Missing(Claim),
    /// None, and it is not to be kept.
    Scarce,
    /// None, and somebody else is fetching it.
    Busy(Busy),
}

/// Somebody else's turn.
pub(crate) struct Busy {
    pub(crate) claim: Claim,
    /// Whose it is.
    turn: Ticket,
    /// When it is over at the latest.
    pub(crate) until: Moment,
    freed: Arc<Notify>,
}

impl Busy {
    /// Waits until it is over, or this moment has come.
    pub(crate) async fn over(&self, deadline: Moment) {
        let freed = self.freed.notified();
        // Whatever has happened before is not told any more.
        if !self.claim.is_turn_of(self.turn) {
            return;
        }
        let left = self.until.min(deadline).since(Moment::now());
        // Whoever waits looks again in any case.
        let _ = tokio::time::timeout(left, freed).await;
    }
}

/// A hold on an entry: it stays in the index.
pub(crate) struct Claim {
    store: Arc<Store>,
    key: Key,
    /// What the key of its variants is made of.
    main: Key,
    min_uses: u32,
    /// One's turn to fetch an answer.
    ticket: Option<Ticket>,
}

impl Claim {
    /// Whether it is one's own turn to fetch an answer.
    pub(crate) fn is_updating(&self) -> bool {
        self.ticket.is_some()
    }

    /// Remembers that this status stands for the answer.
    pub(crate) fn refuse(self, status: u16, until: Seconds) {
        self.store.state().index.refuse(self.key, status, until);
    }

    /// Whether it is still the turn of that one.
    fn is_turn_of(&self, other: Ticket) -> bool {
        self.store.state().index.turn_of(self.key) == Some(other)
    }

    /// Holds the entry of another key from now on.
    fn move_to(&mut self, key: Key) -> Result<Standing, Full> {
        let store = Arc::clone(&self.store);
        let standing = store.claim(key, self.min_uses)?;
        store.state().index.release(self.key, self.ticket.take(), self.min_uses);
        self.key = key;
        Ok(standing)
    }

    /// Writes into an entry's file how long it is good from now on.
    pub(crate) fn renew(&self, entry: &Entry, validity: Validity) {
        let path = self.store.path_of(self.key);
        let renewed = File::options().read(true).write(true).open(&path).and_then(|file| {
            let facts = Facts { validity, ..entry.facts.clone() };
            entry.renew(&file, facts)
        });
        match renewed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                error!("cache file \"{}\" cannot be renewed ({})", path.display(), Errno(&error));
            }
            _ => {}
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.store.state().index.release(self.key, self.ticket, self.min_uses);
    }
}

impl Stores {
    /// Returns those of a configuration's zones, in their order, which go by it from now on.
    pub(crate) fn adopt(&self, zones: &[CacheZone]) -> Box<[Arc<Store>]> {
        let stores = self.of(zones);
        stores.iter().zip(zones).for_each(|(store, zone)| store.adopt(zone));
        stores
    }

    /// Returns those of a configuration's zones, in their order; what is in use stays as it is.
    pub(crate) fn of(&self, zones: &[CacheZone]) -> Box<[Arc<Store>]> {
        if zones.is_empty() {
            return Box::default();
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|store| store.strong_count() > 0);
        let mut store = |zone: &CacheZone| {
            let found = known.iter().filter_map(Weak::upgrade).find(|store| store.is_of(zone));
            found.unwrap_or_else(|| {
                let store = Arc::new(Store::new(zone));
                known.push(Arc::downgrade(&store));
                store
            })
        };
        zones.iter().map(&mut store).collect()
    }

    /// Returns those that are in use.
    pub(crate) fn all(&self) -> Vec<Arc<Store>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Store {
    fn new(zone: &CacheZone) -> Store {
        let mut index = Index::default();
        index.set_capacity(capacity_of(zone));
        Store {
            name: zone.name.clone(),
            path: zone.path.clone(),
            levels: zone.levels.clone(),
            state: Mutex::new(State { index, zone: Arc::new(zone.clone()) }),
            is_cold: AtomicBool::new(true),
            is_kept: AtomicBool::new(false),
            crowded: Arc::default(),
            counts: Counts::default(),
        }
    }

    /// Whether it has the files of this zone.
    fn is_of(&self, zone: &CacheZone) -> bool {
        (&self.name, &self.path, &self.levels) == (&zone.name, &zone.path, &zone.levels)
    }

    /// Goes by this configuration from now on.
    fn adopt(&self, zone: &CacheZone) {
        let mut state = self.state();
        state.index.set_capacity(capacity_of(zone));
        if state.index.is_over_capacity() {
            self.crowded.notify_one();
        }
        if *state.zone != *zone {
            state.zone = Arc::new(zone.clone());
        }
    }

    /// Makes the folder, and gives it to the user that workers act as.
    ///
    /// # Errors
    /// It cannot be made, or given away.
    pub(crate) fn prepare(&self, owner: Option<&Identity>) -> io::Result<()> {
        create_folder(&self.path)?;
        match owner {
            Some(owner) => std::os::unix::fs::chown(&self.path, Some(owner.user), None),
            None => Ok(()),
        }
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.path
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn zone(&self) -> Arc<CacheZone> {
        Arc::clone(&self.state().zone)
    }

    fn path_of(&self, key: Key) -> PathBuf {
        key.path(&self.path, &self.levels)
    }

    /// Looks for an answer.
    pub(crate) fn ask(self: &Arc<Store>, question: &Question<'_>) -> Found {
        let key = Key::of(question.key);
        match self.claim(key, question.min_uses) {
            Ok(standing) => {
                let (store, min_uses) = (Arc::clone(self), question.min_uses);
                let claim = Claim { store, key, main: key, min_uses, ticket: None };
                self.look(claim, standing, question)
            }
            Err(Full) => {
                warn!("cache \"{}\" has no room for one more key", self.name);
                Found::Scarce
            }
        }
    }

    /// Looks again after somebody else's turn.
    pub(crate) fn ask_again(self: &Arc<Store>, claim: Claim, question: &Question<'_>) -> Found {
        let standing = self.state().index.look(claim.key, now(), claim.min_uses);
        self.look(claim, standing, question)
    }

    /// Holds an entry that is to be written whatever there is.
    pub(crate) fn overwrite(self: &Arc<Store>, key: &[u8]) -> Option<Claim> {
        let key = Key::of(key);
        self.claim(key, 1).ok()?;
        Some(Claim { store: Arc::clone(self), key, main: key, min_uses: 1, ticket: None })
    }

    fn claim(&self, key: Key, min_uses: u32) -> Result<Standing, Full> {
        let claimed = self.state().index.claim(key, Moment::now(), now(), min_uses);
        let (standing, evicted) = claimed?;
        if let Some(evicted) = evicted {
            self.remove(&evicted);
        }
        Ok(standing)
    }

    fn look(self: &Arc<Store>, mut claim: Claim, mut standing: Standing, question: &Question<'_>) -> Found {
        loop {
            let is_cold = self.is_cold.load(Ordering::Relaxed);
            let may_be_there = match standing {
                Standing::Refused(status) => return Found::Refused(status),
                Standing::Scarce if !is_cold => return Found::Scarce,
                Standing::Stored => true,
                Standing::Wanted | Standing::New | Standing::Scarce => is_cold,
            };
            let entry = if may_be_there { self.open(&claim, question) } else { None };
            let Some(entry) = entry else {
                let is_counted = matches!(standing, Standing::New | Standing::Scarce);
                return if is_counted && claim.min_uses > 1 {
                    Found::Scarce
                } else {
                    self.fetch(claim, question)
                };
            };
            if !entry.facts.vary.is_empty() {
                let variant = claim.main.variant(&entry.facts.vary, question.headers);
                if variant != entry.facts.variant {
                    if claim.key != claim.main {
                        // Variants of a variant there are none: it is not what its name says.
                        return self.fetch(claim, question);
                    }
                    match claim.move_to(variant) {
                        Ok(found) => standing = found,
                        Err(Full) => return Found::Scarce,
                    }
                    continue;
                }
            }
            return if entry.facts.validity.is_over(now()) {
                claim.ticket = self.state().index.begin_update(claim.key, Moment::now());
                Found::Stale(entry, claim)
            } else {
                Found::Fresh(entry)
            };
        }
    }

    /// Takes one's turn to fetch an answer, where turns are taken.
    fn fetch(&self, mut claim: Claim, question: &Question<'_>) -> Found {
        let Some(age) = question.lock_age else { return Found::Missing(claim) };
        let turn = self.state().index.lock(claim.key, Moment::now(), age);
        match turn {
            Some(Turn::Own(ticket)) => {
                claim.ticket = Some(ticket);
                Found::Missing(claim)
            }
            Some(Turn::Others(turn, until, freed)) => Found::Busy(Busy { claim, turn, until, freed }),
            None => Found::Missing(claim),
        }
    }

    /// Opens an entry; one that is none goes.
    fn open(&self, claim: &Claim, question: &Question<'_>) -> Option<Entry> {
        let path = self.path_of(claim.key);
        let written = self.state().index.written(claim.key);
        let entry = File::open(&path).map_err(Damage::from).and_then(|file| Entry::read(file, question.key));
        let damage = match entry {
            // A head will not do where the whole is asked for.
            Ok(entry) if entry.facts.extent == Extent::Head && question.extent == Extent::Whole => {
                return None;
            }
            Ok(entry) => {
                self.state().index.find(claim.key, on_disk(entry.size), Moment::now());
                return Some(entry);
            }
            Err(damage) => damage,
        };
        if !self.state().index.lose(claim.key, written) {
            // Another was written meanwhile, which whoever asks next finds.
            return None;
        }
        match damage {
            Damage::Absent => {}
            Damage::Unreadable(error) => {
                error!("cache file \"{}\" cannot be read ({})", path.display(), Errno(&error));
            }
            Damage::Broken(why) => {
                error!("cache file \"{}\" {why}", path.display());
                self.unlink(&path);
            }
        }
        None
    }

    fn remove(&self, evicted: &Evicted) {
        if evicted.has_file {
            self.unlink(&self.path_of(evicted.key));
        }
    }

    fn unlink(&self, path: &Path) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                error!("unlink() \"{}\" failed ({})", path.display(), Errno(&error));
            }
            _ => {}
        }
    }
}

/// How many keys a zone has room for.
fn capacity_of(zone: &CacheZone) -> usize {
    usize::try_from(zone.keys_size / KEY_SIZE).unwrap_or(usize::MAX)
}

/// Where an answer of a zone is while it comes: in this folder, unless it could not be moved from there into
/// the zone's in one step.
fn temporary_folder<'a>(zone: &'a CacheZone, apart: &'a Path) -> &'a Path {
    if zone.temporary == TemporaryFiles::Within {
        return &zone.path;
    }
    let device = |path: &Path| rustix::fs::stat(path).ok().map(|found| found.st_dev);
    if device(apart).is_none() && create_folder(apart).is_err() {
        return &zone.path;
    }
    if device(apart) == device(&zone.path) { apart } else { &zone.path }
}

/// Makes a folder that only its owner looks into.
fn create_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// What a file takes on a disk.
fn on_disk(size: u64) -> u64 {
    size.next_multiple_of(4096)
}

/// What a key takes of a zone's memory: nginx's figure, so that a size means the same.
const KEY_SIZE: u64 = 128;
