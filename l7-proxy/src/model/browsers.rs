//! Which browsers are modern, and which are not (`modern_browser`, `ancient_browser`).

/// Which browsers are modern, and which are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Browsers {
    /// Those that are modern from a version on, in the order in which they are looked for.
    pub modern: Vec<(Browser, u64)>,
    /// Whether all are that nothing is said of (`modern_browser unlisted`).
    pub unlisted: bool,
    /// Texts by which others are known for ancient.
    pub ancient: Vec<String>,
    /// Whether Netscape up to 4 is (`ancient_browser netscape4`).
    pub netscape4: bool,
    /// What `$modern_browser` is for a modern one; `1` by default.
    pub modern_value: String,
    /// What `$ancient_browser` is for one that is not.
    pub ancient_value: String,
}

impl Default for Browsers {
    fn default() -> Self {
        let one = || "1".to_owned();
        Self {
            modern: Vec::new(),
            unlisted: false,
            ancient: Vec::new(),
            netscape4: false,
            modern_value: one(),
            ancient_value: one(),
        }
    }
}

/// A family of browsers that `modern_browser` knows, in the order in which they are looked for: Opera first, for it
/// may call itself by the names of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Browser {
    /// `opera`
    Opera,
    /// `msie`
    Msie,
    /// `gecko`
    Gecko,
    /// `safari`
    Safari,
    /// `konqueror`
    Konqueror,
}

impl Browser {
    /// Returns the one that a file calls so.
    pub(crate) fn named(name: &str) -> Option<Browser> {
        Some(match &*name.to_ascii_lowercase() {
            "opera" => Browser::Opera,
            "msie" => Browser::Msie,
            "gecko" => Browser::Gecko,
            "safari" => Browser::Safari,
            "konqueror" => Browser::Konqueror,
            _ => return None,
        })
    }
}

/// Reads `7.5` so that versions compare as numbers do: two digits for each part behind the first. What ends it,
/// if it is neither a digit nor a dot, is returned too.
pub(crate) fn version(text: &[u8]) -> (u64, Option<u8>) {
    let (mut version, mut part, mut scale) = (0_u64, 0_u64, 1_000_000_u64);
    for &byte in text {
        match byte {
            b'0'..=b'9' => part = part.saturating_mul(10).saturating_add(u64::from(byte - b'0')),
            b'.' => {
                version = version.saturating_add(part.saturating_mul(scale));
                (part, scale) = (0, scale / 100);
            }
            other => return (version.saturating_add(part.saturating_mul(scale)), Some(other)),
        }
    }
    (version.saturating_add(part.saturating_mul(scale)), None)
}
