//! Names of fields spelled as people expect them: `Content-Length`, `ETag`, and as `add_header` says.
//!
//! hyper writes names in lower case, which costs a third of what it takes to write them in title
//! case, and knows no third way. Names have no case, yet scripts look for the `X-URI` that they
//! were promised. So the names are put right in the copy of the head that goes to the socket. They
//! keep their length; nothing else of the head is touched.

use std::cell::{Cell, RefCell};

/// How the head of the next response is spelled.
#[derive(Debug, Default)]
pub(crate) struct Spelling {
    due: Cell<Due>,
    /// Names that are not in title case.
    names: RefCell<Vec<Box<str>>>,
}

/// Whether a head is the next thing to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Due {
    #[default]
    Nothing,
    Head,
}

impl Spelling {
    /// A head comes next.
    pub(crate) fn expect_head(&self) {
        self.due.set(Due::Head);
    }

    /// Spells `name` like this in the next head.
    pub(crate) fn note(&self, name: &str) {
        if !is_title_case(name) {
            self.names.borrow_mut().push(name.into());
        }
    }

    /// Whether a head comes next.
    pub(crate) fn is_needed(&self) -> bool {
        self.due.get() == Due::Head
    }

    /// The head is out.
    pub(crate) fn forget(&self) {
        self.due.set(Due::Nothing);
        self.names.borrow_mut().clear();
    }

    /// Puts the names of heads right, or of what is left of one. Its first line has none: it is a
    /// status line, or the rest of a line that is out already.
    pub(crate) fn correct(&self, head: &mut [u8]) {
        let names = self.names.borrow();
        // A server tells the version it has (RFC 9110, section 2.5), also to an older client.
        if let Some(version) = head.get_mut(..VERSION_OLD.len())
            && version == VERSION_OLD
        {
            version.copy_from_slice(VERSION);
        }
        let mut rest = head;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            rest = &mut rest[end + 1..];
            if rest.starts_with(b"\r\n") {
                // Another head may follow: that of a 100 stands before the answer's.
                rest = &mut rest[2..];
                if !rest.starts_with(b"HTTP/1.") {
                    return;
                }
                continue;
            }
            capitalise(rest);
            for name in names.iter().map(|name| name.as_bytes()) {
                if rest.get(name.len()) == Some(&b':') && rest[..name.len()].eq_ignore_ascii_case(name) {
                    rest[..name.len()].copy_from_slice(name);
                }
            }
        }
    }
}

const VERSION: &[u8] = b"HTTP/1.1 ";
const VERSION_OLD: &[u8] = b"HTTP/1.0 ";

/// Writes the name at the beginning of a line in title case.
fn capitalise(line: &mut [u8]) {
    let mut before = b'-';
    for byte in line.iter_mut().take_while(|byte| !matches!(byte, b':' | b'\r')) {
        if before == b'-' {
            byte.make_ascii_uppercase();
        }
        before = *byte;
    }
}

/// Whether a name is in title case: the letter after each hyphen is a capital, all others are
/// small.
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
            "HTTP/1.1 200 OK\r\netag: etag:\r\nx-uri: x-uri: /\r\nx-uris: a-b\r\nlower: lower\r\n\r\nbody: x",
            "HTTP/1.1 200 OK\r\nETag: etag:\r\nX-URI: x-uri: /\r\nX-Uris: a-b\r\nlower: lower\r\n\r\nbody: x",
        );
        check(
            &[],
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ok\r\na: b\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ok\r\nA: b\r\n\r\n",
        );
    }

    #[test]
    fn rest_of_a_head_is_put_right_from_its_next_line_on() {
        check(&["X-URI"], "alue: a\r\nx-uri: /\r\ncontent-length", "alue: a\r\nX-URI: /\r\nContent-Length");
        check(&["X-URI"], "\r\n\r\n", "\r\n\r\n");
        check(&["X-URI"], "", "");
    }

    #[test]
    fn names_in_title_case_need_no_note() {
        let spelling = Spelling::default();
        ["X-Real-Ip", "Server", "X-1-2a", "Content-Type"].iter().for_each(|name| spelling.note(name));
        assert!(spelling.names.borrow().is_empty());
        spelling.note("WWW-Authenticate");
        assert_eq!(spelling.names.borrow().len(), 1);
    }
}
