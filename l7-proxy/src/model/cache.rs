//! Which answers of servers are kept, where, and for how long (`proxy_cache*`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::http::Method;

use crate::variable::Value;

/// A place on a disk where answers are kept (`proxy_cache_path`).
///
/// What is found again after a start, what goes for its age, and what goes for want of room is seen to by a
/// [`Daemon`](crate::daemon::Daemon). A [`Proxy`](crate::Proxy) without one keeps and sends answers, within the
/// bound of `keys_size`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheZone {
    /// Its name.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
    /// How many digits of an entry's name each level of folders has.
    pub levels: Vec<u8>,
    /// How much memory its keys may take, at nginx's 128 bytes each.
    pub keys_size: u64,
    /// Where an answer is while it comes.
    pub temporary: TemporaryFiles,
    /// Entries that nobody has asked for in this time go; 10 minutes by default.
    pub inactive: Duration,
    /// How many bytes the entries may take; `None` sets no limit.
    pub max_size: Option<u64>,
    /// How many bytes of the file system are left free.
    pub min_free: u64,
    /// How fast entries are found again after a start.
    pub loader: Rhythm,
    /// How fast entries are removed.
    pub manager: Rhythm,
}

impl CacheZone {
    /// Returns a zone of this name with nginx's defaults.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>, keys_size: u64) -> Self {
        Self {
            name: name.into(),
            path: path.into(),
            levels: Vec::new(),
            keys_size,
            temporary: TemporaryFiles::Apart,
            inactive: Duration::from_secs(600),
            max_size: None,
            min_free: 0,
            loader: Rhythm::default(),
            manager: Rhythm::default(),
        }
    }
}

/// Where an answer is while it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemporaryFiles {
    /// In the folder of `proxy_temp_path`, if that is on the same file system.
    Apart,
    /// In the folder of the zone.
    Within,
}

/// How much is done to files in one go, so that disks have time for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rhythm {
    /// So many files at most.
    pub files: u64,
    /// For so long at most.
    pub threshold: Duration,
    /// The pause behind it.
    pub sleep: Duration,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self { files: 100, threshold: Duration::from_millis(200), sleep: Duration::from_millis(50) }
    }
}

/// The place of a [`CacheZone`] in [`Http::caches`](super::Http::caches).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheId(pub usize);

/// Whether answers are kept, and in which zone (`proxy_cache`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CacheUse {
    /// They are not.
    #[default]
    Off,
    /// In this one.
    Zone(CacheId),
    /// In the one of this name; in none where the name is empty or `off`.
    Named(Value),
}

/// How answers are kept at a location (`proxy_cache_*`).
#[derive(Debug, Clone)]
pub struct CacheRules {
    /// What an answer is kept under; `None` for what the server is asked for.
    pub key: Option<Value>,
    /// How long answers are good that do not say it themselves, by their status; the first that fits.
    pub valid: Vec<CacheValid>,
    /// Methods whose answers are kept, beside those of `GET` and `HEAD`, which always are.
    pub methods: Vec<Method>,
    /// An answer is kept when it is asked for this often.
    pub min_uses: u32,
    /// The server is asked, whatever is kept, where one of these is neither empty nor `0`.
    pub bypass: Vec<Value>,
    /// The answer is not kept where one of these is neither empty nor `0`.
    pub no_cache: Vec<Value>,
    /// When an answer is good although its time is over.
    pub use_stale: UseStale,
    /// Whether an answer whose time is over is sent while another is fetched.
    pub background_update: bool,
    /// Whether one request at a time fetches a new answer.
    pub lock: bool,
    /// How long the others wait for it.
    pub lock_timeout: Duration,
    /// How long it may take until another one fetches it.
    pub lock_age: Duration,
    /// Whether servers are asked if an answer whose time is over has changed.
    pub revalidate: bool,
    /// Whether servers are asked for the whole where only its head is wanted.
    pub convert_head: bool,
    /// Requests for a part that begins behind this go to the server as they are; `None` sets no limit.
    pub max_range_offset: Option<u64>,
    /// The folder of answers that are still coming (`proxy_temp_path`).
    pub temporary: Arc<Path>,
    /// Whether answers are read as fast as their servers send them (`proxy_buffering`): those that are not are
    /// not kept. Whatever it says, an answer that is not kept goes to its client as it comes.
    pub buffering: bool,
}

impl Default for CacheRules {
    fn default() -> Self {
        let five_seconds = Duration::from_secs(5);
        Self {
            key: None,
            valid: Vec::new(),
            methods: Vec::new(),
            min_uses: 1,
            bypass: Vec::new(),
            no_cache: Vec::new(),
            use_stale: UseStale::default(),
            background_update: false,
            lock: false,
            lock_timeout: five_seconds,
            lock_age: five_seconds,
            revalidate: false,
            convert_head: true,
            max_range_offset: None,
            temporary: Path::new("proxy_temp").into(),
            buffering: true,
        }
    }
}

impl CacheRules {
    /// Returns whether answers to requests with this method are kept.
    pub fn takes(&self, method: &Method) -> bool {
        matches!(*method, Method::GET | Method::HEAD) || self.methods.contains(method)
    }

    /// Returns how long an answer of this status is good that does not say it itself; nothing if it is not to
    /// be kept.
    pub fn valid_for(&self, status: u16) -> Option<Duration> {
        let fits = |valid: &&CacheValid| valid.status.is_none_or(|known| known == status);
        let valid = self.valid.iter().find(fits)?.time;
        Some(valid).filter(|valid| !valid.is_zero())
    }

    /// Returns the values that say how answers are kept.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.key.iter().chain(&self.bypass).chain(&self.no_cache)
    }
}

/// How long answers of a status are good that do not say it themselves (`proxy_cache_valid`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheValid {
    /// The status; `None` for any.
    pub status: Option<u16>,
    /// How long; no time at all keeps them from being kept.
    pub time: Duration,
}

/// When an answer is good although its time is over (`proxy_cache_use_stale`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UseStale {
    /// No server could be reached, or the connection broke.
    pub error: bool,
    /// A server took too long.
    pub timeout: bool,
    /// What a server answered was no HTTP.
    pub invalid_header: bool,
    /// Somebody is fetching a new one.
    pub updating: bool,
    /// A server answered with one of these: 403, 404, 429, 500, 502, 503, 504.
    pub statuses: Vec<u16>,
}
