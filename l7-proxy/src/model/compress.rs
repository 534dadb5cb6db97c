//! Which answers are sent compressed, and to whom: `gzip` and `gzip_static`.

use std::collections::HashSet;

use super::Pattern;

/// Everything of this kind that holds at one location.
#[derive(Debug, Clone)]
pub struct Gzip {
    /// Whether answers are compressed as they are sent (`gzip`, off by default).
    pub on: bool,
    /// Whether files that were compressed beforehand are sent (`gzip_static`).
    pub prepared: Prepared,
    /// Which media types are compressed (`gzip_types`); always `text/html`.
    pub types: MediaTypes,
    /// Whether what a server has compressed is sent plain to clients that do not take it (`gunzip`).
    pub unpacks: bool,
    /// The shortest answer that is compressed, where its length is known; 20 by default.
    pub min_length: u64,
    /// How hard to try, 1 to 9; 1 by default.
    pub level: u32,
    /// Whether caches are told that the answer depends on `Accept-Encoding` (`gzip_vary`).
    pub vary: bool,
    /// What is compressed for a client behind another proxy (`gzip_proxied`); nothing by default.
    pub proxied: GzipProxied,
    /// The oldest version of HTTP that a client may speak; 1.1 by default.
    pub http_version: OldestVersion,
    /// Clients for whom nothing is compressed, by their `User-Agent` (`gzip_disable`).
    pub disable: Vec<Pattern>,
}

impl Default for Gzip {
    fn default() -> Self {
        Self {
            on: false,
            prepared: Prepared::Off,
            types: MediaTypes::default(),
            unpacks: false,
            min_length: 20,
            level: 1,
            vary: false,
            proxied: GzipProxied::default(),
            http_version: OldestVersion::Http11,
            disable: Vec::new(),
        }
    }
}

/// Whether files that were compressed beforehand are sent in place of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prepared {
    /// They are not.
    #[default]
    Off,
    /// To clients that take them.
    On,
    /// To all clients.
    Always,
}

/// A set of media types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaTypes {
    /// All of them (`*`).
    All,
    /// These, in lower case and without parameters.
    These(HashSet<String>),
}

impl Default for MediaTypes {
    fn default() -> Self {
        Self::These(HashSet::from(["text/html".to_owned()]))
    }
}

impl MediaTypes {
    /// Returns the set of these types, to which `text/html` always belongs, or of all if `*` is one.
    pub fn of(words: &[String]) -> Self {
        if words.iter().any(|word| word == "*") {
            return Self::All;
        }
        let words = words.iter().map(|word| word.to_ascii_lowercase());
        Self::These(words.chain(["text/html".to_owned()]).collect())
    }

    /// Adds a type, or all for `*`; returns whether it was not there yet.
    pub(crate) fn add(&mut self, word: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(_) if word == "*" => {
                *self = Self::All;
                true
            }
            Self::These(types) => types.insert(word.to_ascii_lowercase()),
        }
    }

    /// Returns whether a field's value names one of them; an answer without the field is of all types alone.
    pub fn contain(&self, content_type: Option<&[u8]>) -> bool {
        let Self::These(types) = self else { return true };
        let Some(content_type) = content_type else { return false };
        let end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
        let Ok(name) = std::str::from_utf8(content_type[..end].trim_ascii()) else { return false };
        types.contains(name) || types.contains(&*name.to_ascii_lowercase())
    }
}

/// The oldest version of HTTP that a client may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldestVersion {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// What is compressed for clients behind another proxy, which says so in `Via`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GzipProxied {
    /// Everything.
    pub any: bool,
    /// Answers that have expired when they are sent.
    pub expired: bool,
    /// Answers with `Cache-Control: no-cache`.
    pub no_cache: bool,
    /// Answers with `Cache-Control: no-store`.
    pub no_store: bool,
    /// Answers with `Cache-Control: private`.
    pub private: bool,
    /// Answers without `Last-Modified`.
    pub no_last_modified: bool,
    /// Answers without `ETag`.
    pub no_etag: bool,
    /// Answers to requests with `Authorization`.
    pub auth: bool,
}
