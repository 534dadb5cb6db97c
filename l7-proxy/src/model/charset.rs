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
    /// Whether texts may have another size when they are put into the character set.
    pub(crate) fn resizes(&self) -> bool {
        let (Some(name), Some(source)) = (&self.name, &self.source) else { return false };
        let texts =
            [name, source].map(|value| value.as_literal().and_then(|text| std::str::from_utf8(text).ok()));
        match texts {
            [Some(name), Some(source)] => is_utf8(name) != is_utf8(source),
            _ => true,
        }
    }

    /// Whether answers of this type are put into the character set.
    pub(crate) fn takes(&self, media_type: Option<&[u8]>) -> bool {
        let own = media_type.is_some_and(|value| charset::split(value).1.is_some());
        if own { self.overrides } else { self.types.contain(media_type) }
    }
}
