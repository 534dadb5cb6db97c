//! Names of fields spelled as people expect them: `Content-Length`, `ETag`, and as `add_header` says.
//!
//! Names have no case, yet scripts look for the `X-URI` that they were promised. Within the proxy
//! they are in lower case; they are written in title case unless something else was noted.

use std::cell::RefCell;

use http::{HeaderName, header};

/// How the head of the next response is spelled.
#[derive(Debug, Default)]
pub(crate) struct Spelling {
    /// Names that are not in title case.
    names: RefCell<Vec<Box<str>>>,
}

impl Spelling {
    /// Spells `name` like this in the next head.
    pub(crate) fn note(&self, name: &str) {
        if !is_usual(name) && !is_title_case(name) {
            self.names.borrow_mut().push(name.into());
        }
    }

    /// Takes what was noted, while something else is asked.
    pub(crate) fn take(&self) -> Vec<Box<str>> {
        self.names.take()
    }

    /// Has noted this and nothing else.
    pub(crate) fn put_back(&self, names: Vec<Box<str>>) {
        self.names.replace(names);
    }

    /// The head is out.
    pub(crate) fn forget(&self) {
        self.names.borrow_mut().clear();
    }

    /// Writes a name, which is in lower case.
    pub(crate) fn write(&self, name: &str, out: &mut Vec<u8>) {
        let names = self.names.borrow();
        // The latest word counts.
        if let Some(noted) = names.iter().rev().find(|noted| noted.eq_ignore_ascii_case(name)) {
            out.extend_from_slice(noted.as_bytes());
            return;
        }
        if let Some(usual) = usual(name) {
            out.extend_from_slice(usual.as_bytes());
            return;
        }
        let start = out.len();
        out.extend_from_slice(name.as_bytes());
        let mut before = b'-';
        for byte in &mut out[start..] {
            if before == b'-' {
                byte.make_ascii_uppercase();
            }
            before = *byte;
        }
    }
}

/// Names that most messages have, in lower and in title case: a look here is cheaper than one at each
/// letter.
macro_rules! usual {
    ($($lower:literal $title:literal $name:ident,)*) => {
        /// The name of a field that nearly everybody has and spells in title case: it is looked up at
        /// once, where any other is read letter by letter.
        pub(crate) fn usual_name(name: &str) -> Option<HeaderName> {
            match name {
                $($title => Some(header::$name),)*
                _ => None,
            }
        }

        fn usual(name: &str) -> Option<&'static str> {
            match name {
                $($lower => Some($title),)*
                _ => None,
            }
        }

        fn is_usual(name: &str) -> bool {
            matches!(name, $($title)|*)
        }
    };
}

usual! {
    "age" "Age" AGE,
    "date" "Date" DATE,
    "host" "Host" HOST,
    "vary" "Vary" VARY,
    "accept" "Accept" ACCEPT,
    "cookie" "Cookie" COOKIE,
    "server" "Server" SERVER,
    "expires" "Expires" EXPIRES,
    "location" "Location" LOCATION,
    "connection" "Connection" CONNECTION,
    "set-cookie" "Set-Cookie" SET_COOKIE,
    "user-agent" "User-Agent" USER_AGENT,
    "content-type" "Content-Type" CONTENT_TYPE,
    "accept-ranges" "Accept-Ranges" ACCEPT_RANGES,
    "cache-control" "Cache-Control" CACHE_CONTROL,
    "last-modified" "Last-Modified" LAST_MODIFIED,
    "content-length" "Content-Length" CONTENT_LENGTH,
    "accept-encoding" "Accept-Encoding" ACCEPT_ENCODING,
    "accept-language" "Accept-Language" ACCEPT_LANGUAGE,
    "content-encoding" "Content-Encoding" CONTENT_ENCODING,
    "transfer-encoding" "Transfer-Encoding" TRANSFER_ENCODING,
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

    #[test]
    fn names_are_in_title_case_unless_noted() {
        let spelling = Spelling::default();
        ["ETag", "x-uri", "X-URI", "lower"].iter().for_each(|name| spelling.note(name));
        let check = |name: &str, expected: &str| {
            let mut out = b"-".to_vec();
            spelling.write(name, &mut out);
            assert_eq!(std::str::from_utf8(&out[1..]).unwrap(), expected);
        };
        for (name, expected) in [
            ("last-modified", "Last-Modified"),
            ("etag", "ETag"),
            ("x-uri", "X-URI"),
            ("x-uris", "X-Uris"),
            ("lower", "lower"),
            ("content-length", "Content-Length"),
            ("x-1a-b", "X-1a-B"),
        ] {
            check(name, expected);
        }
        spelling.forget();
        let mut out = Vec::new();
        spelling.write("x-uri", &mut out);
        assert_eq!(out, b"X-Uri");
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
