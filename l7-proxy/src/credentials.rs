//! Names and passwords: what a client sends, and the file that says who may come in.
//!
//! The file is nginx's and Apache's: `name:password` on each line, the password in one of the forms that
//! their tools write.

pub(crate) mod base64;
mod des;
mod forms;

use http::HeaderMap;
use http::header::AUTHORIZATION;

pub(crate) use self::forms::{Cost, Form};

/// A name and a password as a client sent them (`Authorization: Basic`).
#[derive(Clone)]
pub(crate) struct Credentials {
    text: Vec<u8>,
    colon: usize,
}

impl Credentials {
    /// Returns those of a request, if it has any; a password may be missing.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Credentials> {
        let (scheme, rest) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return None;
        }
        let text = base64::decode(rest.trim_ascii())?;
        let colon = memchr::memchr(b':', &text).unwrap_or(text.len());
        Some(Credentials { text, colon })
    }

    /// The name.
    pub(crate) fn name(&self) -> &[u8] {
        &self.text[..self.colon]
    }

    /// The password; `None` where there is no colon before it.
    pub(crate) fn password(&self) -> Option<&[u8]> {
        self.text.get(self.colon + 1..)
    }
}

/// Returns the password that a file has for a name, in whatever form; what follows a second colon is a
/// comment.
pub(crate) fn look_up<'f>(file: &'f [u8], name: &[u8]) -> Option<&'f [u8]> {
    file.split(|&byte| byte == b'\n').find_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let rest = line.strip_prefix(name)?.strip_prefix(b":")?;
        if name.starts_with(b"#") {
            return None;
        }
        rest.split(|&byte| byte == b':').next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_found_whole_and_comments_are_no_names() {
        let file = b"# staff\n#anna:x\nannabel:1\r\nanna:2:a comment\nempty:\n";
        assert_eq!(look_up(file, b"anna"), Some(&b"2"[..]));
        assert_eq!(look_up(file, b"annabel"), Some(&b"1"[..]));
        assert_eq!(look_up(file, b"empty"), Some(&b""[..]));
        for name in [&b"#anna"[..], b"ann", b"staff"] {
            assert_eq!(look_up(file, name), None);
        }
    }
}
