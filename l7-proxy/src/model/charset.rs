//! The character set that answers are said to be in (`charset`).

use crate::variable::Value;

use super::compress::MediaTypes;

/// Which character set is added to which media types.
#[derive(Debug, Clone)]
pub struct Charset {
    /// Its name; `None` adds none. A variable may say `off`, or nothing.
    pub name: Option<Value>,
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
        Self { name: None, types, overrides: false }
    }
}
