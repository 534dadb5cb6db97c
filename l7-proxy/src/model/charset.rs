//! The character set that answers are said to be in, and are put into (`charset`).

use crate::charset::{self, is_utf8};
use crate::variable::Value;

use super::compress::MediaTypes;

/// Which character set is added to which media types.
#[derive(Debug, Clone)]
pub struct Charset {
    /// Its name; `None` adds none. A variable may say `off`, or nothing.
    pub name: Option<Value>,
    /// The one that texts are in which do not say it themselves (`source_charset`): they are put into the other
    /// one. `None` leaves them as they are.
    pub source: Option<Value>,
    /// The media types that it is added to (`charset_types`).
    pub types: MediaTypes,
    /// Whether it takes the place of one that a server has said (`override_charset`).
    pub overrides: bool,
}

impl Default for Charset {
    fn default() -> Self {
        let types = [
            "text/html",
            "text/xml",
            "text/plain",
            "text/vnd.wap.wml",
            "application/javascript",
            "application/rss+xml",
        ];
        let types = MediaTypes::These(types.map(str::to_owned).into());
        Self { name: None, source: None, types, overrides: false }
    }
}

impl Charset {
    /// Whether answers of this type may have another size when they are put into the character set.
    pub(crate) fn resizes(&self, media_type: Option<&[u8]>) -> bool {
        let Some(name) = &self.name else { return false };
        let from = match (media_type.and_then(|value| charset::split(value).1), &self.source) {
            // What an answer says itself goes before what it is said to be.
            (Some(own), _) => Some(own),
            (None, Some(source)) => source.as_literal(),
            (None, None) => return false,
        };
        let is_utf8 = |name| std::str::from_utf8(name).is_ok_and(is_utf8);
        match (name.as_literal(), from) {
            (Some(name), Some(from)) => is_utf8(name) != is_utf8(from),
            _ => true,
        }
    }

    /// Whether answers of this type are put into the character set.
    pub(crate) fn takes(&self, media_type: Option<&[u8]>) -> bool {
        let own = media_type.is_some_and(|value| charset::split(value).1.is_some());
        if own { self.overrides } else { self.types.contain(media_type) }
    }
}
