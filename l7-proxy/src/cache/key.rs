//! What an entry is called: the MD5 sum of its key, and folders by that sum's last digits, as in nginx.
//!
//! People find and remove entries by these names.

use std::fmt;
use std::path::{Path, PathBuf};

use http::header::{ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, HeaderName};
use http::{HeaderMap, HeaderValue};
use md5::{Digest, Md5};

/// The name of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub(super) [u8; 16]);

impl Key {
    /// Returns the name of what is kept under this text.
    pub(crate) fn of(text: &[u8]) -> Key {
        Key(Md5::digest(text).into())
    }

    /// Returns the name of what is kept under the same text for requests that are like this one in the fields
    /// that a `Vary` names.
    pub(super) fn variant(self, vary: &[u8], request: &HeaderMap) -> Key {
        let mut sum = Md5::new();
        sum.update(self.0);
        for name in names(vary) {
            let name = name.to_ascii_lowercase();
            sum.update(&name);
            sum.update(b":");
            if let Ok(name) = HeaderName::from_bytes(&name) {
                let values = request.get_all(&name).iter().map(HeaderValue::as_bytes);
                if [ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE].contains(&name) {
                    // How a list is written makes no difference.
                    join(values.flat_map(names), &mut sum);
                } else {
                    join(values, &mut sum);
                }
            }
            sum.update(b"\r\n");
        }
        Key(sum.finalize().into())
    }

    /// Reads the name of a file.
    pub(super) fn parse(name: &[u8]) -> Option<Key> {
        let mut key = [0; 16];
        if name.len() != 2 * key.len() {
            return None;
        }
        for (byte, digits) in key.iter_mut().zip(name.chunks_exact(2)) {
            let digit = |place: usize| match digits[place] {
                digit @ b'0'..=b'9' => Some(digit - b'0'),
                digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
                _ => None,
            };
            *byte = digit(0)? << 4 | digit(1)?;
        }
        Some(Key(key))
    }

    /// Returns where the entry's file is.
    pub(super) fn path(self, folder: &Path, levels: &[u8]) -> PathBuf {
        let name = self.to_string();
        let mut path = folder.to_owned();
        let mut end = name.len();
        for &level in levels {
            let start = end.saturating_sub(level.into());
            path.push(&name[start..end]);
            end = start;
        }
        path.push(name);
        path
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What commas and blanks part.
fn names(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',' || byte == b' ').filter(|name| !name.is_empty())
}

fn join<'a>(values: impl Iterator<Item = &'a [u8]>, sum: &mut Md5) {
    for (place, value) in values.enumerate() {
        if place > 0 {
            sum.update(b",");
        }
        sum.update(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_where_nginx_has_it() {
        // The example of nginx's documentation has these levels.
        let key = Key::of(b"http://127.0.0.1:8081/t.html");
        let name = key.to_string();
        let path = |levels: &[u8]| key.path(Path::new("/c"), levels).to_str().unwrap().to_owned();
        assert_eq!(path(&[1, 2]), format!("/c/{}/{}/{name}", &name[31..], &name[29..31]));
        assert_eq!(path(&[]), format!("/c/{name}"));
        assert_eq!(Key::of(b"").to_string(), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(Key::parse(name.as_bytes()), Some(key));
        for other in [&name[1..], &name.to_uppercase()[..], "0123456789012345678901234567890g"] {
            assert_eq!(
                Key::parse(other.as_bytes()).map(|_| ()),
                None.filter(|()| *other != *name),
                "{other}"
            );
        }
    }

    #[test]
    fn variant_is_told_by_the_fields_that_vary_names() {
        let variant = |fields: &[(&'static str, &'static str)], vary: &[u8]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            Key::of(b"x").variant(vary, &headers)
        };
        let gzip = variant(&[("accept-encoding", "gzip, br"), ("x", "1")], b"Accept-Encoding");
        assert_eq!(gzip, variant(&[("accept-encoding", "gzip,br"), ("x", "2")], b"accept-encoding"));
        assert_ne!(gzip, variant(&[("accept-encoding", "br")], b"Accept-Encoding"));
        assert_ne!(gzip, variant(&[], b"Accept-Encoding"));
        assert_ne!(variant(&[("x", "a, b")], b"X"), variant(&[("x", "a,b")], b"X"));
        assert_eq!(variant(&[("x", "a"), ("y", "b")], b"X, Y"), variant(&[("y", "b"), ("x", "a")], b"x,y"));
    }
}
