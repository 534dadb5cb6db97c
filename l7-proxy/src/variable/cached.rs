//! What the cache has to do with a request.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Method;

pub use crate::cache::Outcome;
use crate::date;

/// What the cache has to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    /// As it stands; it may be another when a server has answered.
    pub outcome: Outcome,
    /// The tag of what is kept and may still be good.
    pub tag: Bytes,
    /// When that was changed, in seconds since 1970.
    pub changed: Option<u64>,
    /// How servers are asked.
    pub asking: Asking,
    /// Whether they are asked with `GET` where the client has said `HEAD`.
    pub converts_head: bool,
    /// Whether the answer is one that was there, whole as its server sent it.
    pub is_kept: bool,
    /// Whether neither the request nor the server's answer forbids to keep that.
    pub is_keepable: bool,
}

/// How servers are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// As the client asks.
    AsSent,
    /// For the whole and without conditions, so that the answer can be kept.
    Whole,
    /// The same, unless it is what is kept already.
    Changes,
}

impl Cached {
    /// A request of which nothing but this is known.
    pub(crate) fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            tag: Bytes::new(),
            changed: None,
            asking: Asking::Whole,
            converts_head: false,
            is_kept: false,
            is_keepable: false,
        }
    }

    /// The tag that a server is asked to compare.
    pub(crate) fn etag(&self) -> Option<&[u8]> {
        let asks = self.asking == Asking::Changes && self.outcome == Outcome::Expired;
        Some(&*self.tag).filter(|tag| asks && !tag.is_empty())
    }

    /// The date that a server is asked to compare.
    pub(crate) fn modified(&self) -> Option<String> {
        let asks = self.asking == Asking::Changes && self.outcome == Outcome::Expired;
        let changed = self.changed.filter(|_| asks)?;
        let moment = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(changed))?;
        Some(date::http(moment))
    }

    /// The method that servers are asked with in place of the client's.
    pub(crate) fn method(&self, asked: &Method) -> Option<Method> {
        (self.converts_head && *asked == Method::HEAD).then_some(Method::GET)
    }
}
