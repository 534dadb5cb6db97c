//! How files are found, kept and described.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderValue;

use crate::variable::Value;

/// How files are found and described.
#[derive(Debug, Clone)]
pub struct Files {
    /// Where the path is looked up.
    pub root: Root,
    /// File names tried, in order, for a path that ends in a slash.
    pub index: Vec<Value>,
    /// Media types by extension.
    pub types: Arc<Types>,
    /// Media type of a file whose extension is not in [`types`](Self::types); `None` sends no type.
    pub default_type: Option<HeaderValue>,
    /// Whether `ETag` is sent and compared (`etag`, on by default).
    pub etag: bool,
    /// How `If-Modified-Since` is compared.
    pub if_modified_since: IfModifiedSince,
    /// The most ranges of one answer; 0 ignores `Range`; `None` sets no limit (`max_ranges`).
    pub max_ranges: Option<usize>,
    /// How large the pieces are that a server is asked for, if it is asked for pieces (`slice`).
    pub slice: Option<NonZeroU64>,
    /// Whether descriptors are kept, and for how long (`open_file_cache`).
    pub cache: FileCache,
    /// Which symbolic links are followed (`disable_symlinks`).
    pub symlinks: Symlinks,
    /// How a directory without an index is shown.
    pub listing: Listing,
    /// Whether a directory stands for one of its files, by chance (`random_index`).
    pub random_index: bool,
}

/// How a directory without an index is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Listing {
    /// Whether it is (`autoindex`).
    pub on: bool,
    /// In what form (`autoindex_format`).
    pub form: ListingForm,
    /// How sizes are shown to people (`autoindex_exact_size`).
    pub sizes: Sizes,
    /// Whether times are shown to people as the clocks of this machine have them, in place of UTC
    /// (`autoindex_localtime`).
    pub local_time: bool,
}

/// In what form a directory is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListingForm {
    /// A page for people.
    #[default]
    Html,
    /// JSON.
    Json,
    /// A call in JavaScript of the function that the argument `callback` names; JSON without one.
    Jsonp,
    /// XML.
    Xml,
}

/// How the sizes of files are shown to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sizes {
    /// In bytes.
    #[default]
    Exact,
    /// In the largest unit that they are some of.
    Rounded,
}

/// Which of the symbolic links in a file's name are followed.
#[derive(Debug, Clone, Default)]
pub struct Symlinks {
    /// The rule.
    pub follow: Follow,
    /// The beginning of names that it does not hold for (`from=`); a name that begins otherwise is looked
    /// at whole.
    pub from: Option<Value>,
}

/// Which symbolic links are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Follow {
    /// All.
    #[default]
    All,
    /// Those that belong to the owner of what they lead to (`if_not_owner`).
    OfOwner,
    /// None (`on`).
    None,
}

/// For how long open files are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileCache {
    /// How many are kept by a worker at most; 0 keeps none, the default.
    pub max: usize,
    /// How long one may stay unused; 60 s by default.
    pub inactive: Duration,
    /// How long it is believed that a name still stands for the same file; 60 s by default.
    pub valid: Duration,
    /// How often it must have been used to be kept open.
    pub min_uses: u32,
    /// Whether it is also kept that a file is not there.
    pub errors: CacheErrors,
}

/// Whether errors are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheErrors {
    /// They are.
    Kept,
    /// They are not.
    Forgotten,
}

impl Default for FileCache {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self { max: 0, inactive: minute, valid: minute, min_uses: 1, errors: CacheErrors::Forgotten }
    }
}

impl Default for Files {
    fn default() -> Self {
        Self {
            root: Root::Root(Value::literal("html")),
            index: vec![Value::literal("index.html")],
            types: Arc::new(Types::default()),
            default_type: Some(HeaderValue::from_static("text/plain")),
            etag: true,
            if_modified_since: IfModifiedSince::default(),
            max_ranges: None,
            slice: None,
            cache: FileCache::default(),
            symlinks: Symlinks::default(),
            listing: Listing::default(),
            random_index: false,
        }
    }
}

/// Where a path is looked up in the file system.
#[derive(Debug, Clone)]
pub enum Root {
    /// The whole path is appended to this directory (`root`).
    Root(Value),
    /// The directory takes the place of the path's beginning (`alias`).
    Alias {
        /// What stands in place of it.
        directory: Value,
        /// How many bytes of the path it replaces: the prefix of the location that has the
        /// `alias`. `None` replaces all of it, as in a location given by a regular expression.
        replaces: Option<usize>,
    },
}

/// How `If-Modified-Since` is compared with the time of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IfModifiedSince {
    /// Ignored.
    Off,
    /// Equal times mean unmodified.
    #[default]
    Exact,
    /// A file not newer than the given time is unmodified.
    Before,
}

/// Media types by file name extension (`types {}`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Types {
    by_extension: HashMap<Vec<u8>, HeaderValue, foldhash::fast::RandomState>,
}

impl Default for Types {
    fn default() -> Self {
        let mut types = Self::none();
        types.insert("html", HeaderValue::from_static("text/html"));
        types.insert("gif", HeaderValue::from_static("image/gif"));
        types.insert("jpg", HeaderValue::from_static("image/jpeg"));
        types
    }
}

impl Types {
    /// Returns a table without any type.
    pub fn none() -> Self {
        Self { by_extension: HashMap::default() }
    }

    /// Gives `extension` a media type; returns the one that it had.
    pub fn insert(&mut self, extension: &str, media_type: HeaderValue) -> Option<HeaderValue> {
        self.by_extension.insert(extension.to_ascii_lowercase().into_bytes(), media_type)
    }

    /// Returns the media type of the extension of `path`, compared without regard to case.
    pub fn of(&self, path: &[u8]) -> Option<&HeaderValue> {
        let name = path.rsplit(|&byte| byte == b'/').next()?;
        let dot = memchr::memrchr(b'.', name)?;
        let extension = &name[dot + 1..];
        // Extensions are short; a longer one than this is in no table.
        let mut lower = [0; 64];
        let lower = lower.get_mut(..extension.len())?;
        lower.copy_from_slice(extension);
        lower.make_ascii_lowercase();
        self.by_extension.get(&*lower)
    }
}
