//! Names of fields spelled as the configuration and nginx spell them.
//!
//! hyper writes names in title case (`X-Uri`, `Etag`), or as a server spelled them that it read
//! them from; there is no way to tell it otherwise. Names have no case, yet scripts look for the
//! `X-URI` that `add_header` was given. So the few names that are spelled in another way are put
//! right in a copy of the head on its way to the socket. They keep their length; nothing else of
//! the head is touched.

use std::cell::RefCell;

/// The names that the head of the next response spells in a way of its own.
#[derive(Debug, Default)]
pub(crate) struct Spelling {
    names: RefCell<Vec<Box<str>>>,
}

impl Spelling {
    /// Spells `name` like this, unless hyper does so anyway.
    pub(crate) fn note(&self, name: &str) {
        if !is_title_case(name) {
            self.names.borrow_mut().push(name.into());
        }
    }

    /// Returns whether there is anything to put right.
    pub(crate) fn is_needed(&self) -> bool {
        !self.names.borrow().is_empty()
    }

    /// The head is out.
    pub(crate) fn forget(&self) {
        self.names.borrow_mut().clear();
    }

    /// Puts the names of a head right, or of what is left of one.
    pub(crate) fn correct(&self, head: &mut [u8]) {
        let names = self.names.borrow();
        let mut start = 0;
        while start < head.len() {
            let line = &mut head[start..];
            if line.starts_with(b"\r\n") {
                return;
            }
            for name in names.iter().map(|name| name.as_bytes()) {
                if line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name) {
                    line[..name.len()].copy_from_slice(name);
                }
            }
            match memchr::memchr(b'\n', line) {
                Some(end) => start += end + 1,
                None => return,
            }
        }
    }
}

/// Whether hyper writes a name like this by itself: the letter after each hyphen is a capital, all
/// others are small.
fn is_title_case(name: &str) -> bool {
    let mut before = b'-';
    name.bytes().all(|byte| {
        let fits = if before == b'-' { !byte.is_ascii_lowercase() } else { !byte.is_ascii_uppercase() };
        before = byte;
        fits
    })
}

#[cfg(test)]
mod tests {
    use super::Spelling;

    #[track_caller]
    fn check(names: &[&str], head: &str, expected: &str) {
        let spelling = Spelling::default();
        names.iter().for_each(|name| spelling.note(name));
        let mut head = head.as_bytes().to_vec();
        spelling.correct(&mut head);
        assert_eq!(std::str::from_utf8(&head).unwrap(), expected);
    }

    #[test]
    fn only_names_are_put_right() {
        check(
            &["ETag", "X-URI", "lower"],
            "HTTP/1.1 200 OK\r\nEtag: etag:\r\nX-Uri: X-Uri: /\r\nX-Uris: 1\r\nLower: Lower\r\n\r\n",
            "HTTP/1.1 200 OK\r\nETag: etag:\r\nX-URI: X-Uri: /\r\nX-Uris: 1\r\nlower: Lower\r\n\r\n",
        );
        check(&["X-URI"], "X-Uri: /", "X-URI: /");
        check(&["X-URI"], "A: b\r\n\r\nX-Uri: body", "A: b\r\n\r\nX-Uri: body");
        check(&["X-URI"], "X-U", "X-U");
    }

    #[test]
    fn names_that_need_no_help_are_not_noted() {
        let spelling = Spelling::default();
        ["X-Real-Ip", "Server", "X-1-2a", "Content-Type"].iter().for_each(|name| spelling.note(name));
        assert!(!spelling.is_needed());
        spelling.note("WWW-Authenticate");
        assert!(spelling.is_needed());
    }
}
