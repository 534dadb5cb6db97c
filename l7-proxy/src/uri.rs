//! The path of a request: one reading of it, which is matched, looked up and forwarded.
//!
//! A path is decoded and normalised once, as nginx does it: `%XX` decoded, `//` merged, `.` and
//! `..` resolved. What nginx refuses is refused: a bad `%`, `%00`, and `..` above the root.
//!
//! **Path parameters are not part of what is matched.** nginx takes `/a.jsp;jsessionid=1` for a
//! file name. A servlet container strips `;…` from every segment *before* it resolves dots, so that
//! `/x/..;/a.jsp` is its `/a.jsp` and `/admin;x/` its `/admin/`: a location that guards either
//! would be walked around. Here `;…` is set aside as the container does it and goes along when
//! the request is forwarded. A `;` that belongs to a name is written `%3B`, in a request as well
//! as in what is forwarded.
//!
//! **What is forwarded means what was matched.** `proxy_pass` without a path forwards the client's
//! own spelling, as nginx does, escapes untouched (`/queues/%2F` stays that), but only where that
//! spelling has the structure that was matched. Once a dot segment had to be resolved or an empty
//! one dropped, the normalised path is forwarded in its place, for servers differ in what they
//! make of those. A path replaced by `proxy_pass` is always written from the normalised one.

mod reader;

use std::borrow::Cow;
use std::fmt;

use self::reader::{Reader, Separator};
use crate::model::Slashes;

/// Path and query of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    /// The path as sent; what is forwarded if `spelling` says so.
    raw: Cow<'a, str>,
    /// Decoded and normalised, without parameters; begins with a slash.
    path: Cow<'a, [u8]>,
    /// Parameters that were set aside, each with its place in `path`, in rising order.
    parameters: Vec<(usize, String)>,
    args: Option<Cow<'a, str>>,
    spelling: Spelling,
}

/// In which spelling a path is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    AsSent,
    Normalised,
}

/// Why a request target is refused, each time with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetError {
    /// It does not begin with a slash.
    NotAPath,
    /// A `%` is not followed by two hexadecimal digits.
    BadEscape,
    /// It holds a NUL.
    Nul,
    /// `..` leads above the root.
    AboveRoot,
    /// A segment is a dot segment to whoever decodes `%3B` before cutting off parameters.
    AmbiguousDots,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAPath => "request target is not a path",
            Self::BadEscape => "invalid percent-encoding in path",
            Self::Nul => "NUL in path",
            Self::AboveRoot => "path leads above the root",
            Self::AmbiguousDots => "path has a dot segment with an encoded semicolon",
        })
    }
}

impl std::error::Error for TargetError {}

impl<'a> Target<'a> {
    /// Reads path and query as they stand in a request line.
    ///
    /// ```
    /// # use l7_proxy::uri::Target;
    /// let target = Target::parse("/shop/..;/app//a%2ejsp;jsessionid=1?x=1")?;
    /// assert_eq!(target.path(), b"/app/a.jsp");
    /// assert_eq!(target.forwarded(), "/app/a.jsp;jsessionid=1");
    /// assert_eq!(target.args(), Some("x=1"));
    /// # Ok::<_, l7_proxy::uri::TargetError>(())
    /// ```
    ///
    /// # Errors
    /// For what cannot be read in one way only; the answer to it is 400.
    pub fn parse(text: &'a str) -> Result<Self, TargetError> {
        Self::parse_with(text, Slashes::Merged)
    }

    /// The same, with a word on what several slashes in a row are.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_with(text: &'a str, slashes: Slashes) -> Result<Self, TargetError> {
        // A fragment is none of the server's business; nginx cuts it off as well.
        let (raw, args) = match memchr::memchr2(b'?', b'#', text.as_bytes()) {
            None => (text, None),
            Some(at) if text.as_bytes()[at] == b'#' => (&text[..at], None),
            Some(at) => {
                let args = &text[at + 1..];
                let args = args.split_once('#').map_or(args, |(args, _)| args);
                (&text[..at], Some(Cow::Borrowed(args)))
            }
        };
        if !raw.starts_with('/') {
            return Err(TargetError::NotAPath);
        }
        if is_plain(raw.as_bytes()) {
            return Ok(Self {
                raw: Cow::Borrowed(raw),
                path: Cow::Borrowed(raw.as_bytes()),
                parameters: Vec::new(),
                args,
                spelling: Spelling::AsSent,
            });
        }
        let mut reader = Reader::new(raw.len(), slashes);
        reader.read(raw)?;
        Ok(Self {
            raw: Cow::Borrowed(raw),
            path: Cow::Owned(reader.path),
            parameters: reader.parameters,
            args,
            spelling: reader.spelling,
        })
    }

    /// Returns the target of an internal redirect: a path that is decoded already, as index files
    /// and `error_page` give it.
    ///
    /// # Errors
    /// If the path does not begin with a slash, holds a NUL, or leads above the root.
    pub fn internal(path: &[u8], args: Option<&str>) -> Result<Target<'static>, TargetError> {
        if path.first() != Some(&b'/') {
            return Err(TargetError::NotAPath);
        }
        let mut reader = Reader::new(path.len(), Slashes::Merged);
        for &byte in &path[1..] {
            if byte == 0 {
                return Err(TargetError::Nul);
            }
            match byte {
                b'/' => reader.end_segment(Separator::Plain)?,
                byte => reader.path.push(byte),
            }
        }
        reader.end()?;
        Ok(Target {
            raw: Cow::Borrowed(""),
            path: Cow::Owned(reader.path),
            parameters: Vec::new(),
            args: args.map(|args| Cow::Owned(args.to_owned())),
            spelling: Spelling::Normalised,
        })
    }

    /// Returns the target `/`.
    pub fn root() -> Target<'static> {
        Target {
            raw: Cow::Borrowed("/"),
            path: Cow::Borrowed(b"/"),
            parameters: Vec::new(),
            args: None,
            spelling: Spelling::AsSent,
        }
    }

    /// Returns the path that is matched: decoded, normalised, without parameters.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Returns the query as sent; `Some("")` for a lone `?`.
    pub fn args(&self) -> Option<&str> {
        self.args.as_deref()
    }

    /// Returns the path to forward where `proxy_pass` keeps the path.
    pub fn forwarded(&self) -> Cow<'_, str> {
        match self.spelling {
            Spelling::AsSent => Cow::Borrowed(&self.raw),
            Spelling::Normalised => Cow::Owned(self.forwarded_after(0)),
        }
    }

    /// Returns what follows the first `matched` bytes of [`path`](Self::path), escaped for a
    /// request line and with its parameters: what is appended to the path of a `proxy_pass`.
    pub fn forwarded_after(&self, matched: usize) -> String {
        let rest = self.path.get(matched..).unwrap_or_default();
        let mut out = String::with_capacity(rest.len() + 16);
        let mut done = 0;
        for (place, parameters) in self.parameters.iter().filter(|(place, _)| *place >= matched) {
            let place = place - matched;
            escape(&rest[done..place], &mut out);
            out.push_str(parameters);
            done = place;
        }
        escape(&rest[done..], &mut out);
        out
    }

    /// Returns the same path with another query.
    pub fn with_args(&self, args: Option<String>) -> Target<'static> {
        Target { args: args.map(Cow::Owned), ..self.clone().into_owned() }
    }

    /// Returns the same target without a hold on the request it was read from.
    pub fn into_owned(self) -> Target<'static> {
        Target {
            raw: Cow::Owned(self.raw.into_owned()),
            path: Cow::Owned(self.path.into_owned()),
            parameters: self.parameters,
            args: self.args.map(|args| Cow::Owned(args.into_owned())),
            spelling: self.spelling,
        }
    }
}

/// Appends `path` to `out` so that it can stand in a request line and reads back as the same path.
///
/// Escapes what nginx escapes, and `;`, which in a decoded path is part of a name.
pub fn escape(path: &[u8], out: &mut String) {
    for &byte in path {
        match byte {
            ..=b' '
            | 0x7f..
            | b'"'
            | b'#'
            | b'%'
            | b';'
            | b'<'
            | b'>'
            | b'?'
            | b'\\'
            | b'^'
            | b'`'
            | b'{'
            | b'|'
            | b'}' => {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
            byte => out.push(char::from(byte)),
        }
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Returns whether a path is what it says: nothing to decode, merge, resolve or set aside.
fn is_plain(raw: &[u8]) -> bool {
    let mut before = 0;
    for &byte in raw {
        if matches!(byte, b'%' | b';' | 0) || (before == b'/' && matches!(byte, b'/' | b'.')) {
            return false;
        }
        before = byte;
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Target, TargetError};

    fn show(path: &[u8]) -> String {
        path.escape_ascii().to_string()
    }

    /// Checks what a path is matched as and forwarded as.
    #[track_caller]
    fn check(raw: &str, path: &str, forwarded: &str) {
        let target = Target::parse(raw).unwrap_or_else(|error| panic!("{raw}: {error}"));
        assert_eq!((&*show(target.path()), &*target.forwarded()), (path, forwarded), "{raw}");
    }

    #[test]
    fn client_s_spelling_is_forwarded_where_it_has_the_structure_that_was_matched() {
        check("/", "/", "/");
        check("/a/b.html", "/a/b.html", "/a/b.html");
        check("/a%20b", "/a b", "/a%20b");
        check("/%61.jsp", "/a.jsp", "/%61.jsp");
        check("/a.jsp;jsessionid=1", "/a.jsp", "/a.jsp;jsessionid=1");
        check("/a;x/b;y=%41", "/a/b", "/a;x/b;y=%41");
        check("/a%2Fb", "/a/b", "/a%2Fb");
        check("/queues/%2F/x", "/queues/x", "/queues/%2F/x");
        check("/a%3Bb", "/a;b", "/a%3Bb");
        check("/a%252e", "/a%2e", "/a%252e");
        check("/...", "/...", "/...");
        check("/.a/..b/c..", "/.a/..b/c..", "/.a/..b/c..");
        check("/a/", "/a/", "/a/");
        check("/a;x/", "/a/", "/a;x/");
    }

    #[test]
    fn normalised_path_is_forwarded_where_the_structure_had_to_change() {
        check("//a//b///", "/a/b/", "/a/b/");
        check("/a/./b", "/a/b", "/a/b");
        check("/a/../b", "/b", "/b");
        check("/a/b/..", "/a/", "/a/");
        check("/a/b/.", "/a/b/", "/a/b/");
        check("/a/%2e%2E/b", "/b", "/b");
        check("/x/..;/a.jsp", "/a.jsp", "/a.jsp");
        check("/x/..;y=1/a.jsp;z", "/a.jsp", "/a.jsp;z");
        check("/.;x/a", "/a", "/a");
        check("/;x/a", "/a", "/a");
        check("/%2F;x/a", "/a", "/a");
        check("/a/;x", "/a/", "/a/");
        check("/a;p/b;q/../c;r", "/a/c", "/a;p/c;r");
        check("/private%2F..%2Fpublic/x", "/public/x", "/public/x");
        check("/./a%3Bb%20%25%3F%C3%A9", "/a;b %?\\xc3\\xa9", "/a%3Bb%20%25%3F%C3%A9");
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        for (raw, error) in [
            ("", TargetError::NotAPath),
            ("*", TargetError::NotAPath),
            ("a", TargetError::NotAPath),
            ("?a", TargetError::NotAPath),
            ("http://a/", TargetError::NotAPath),
            ("/%", TargetError::BadEscape),
            ("/%4", TargetError::BadEscape),
            ("/%4g", TargetError::BadEscape),
            ("/%+1", TargetError::BadEscape),
            ("/a;x=%zz", TargetError::BadEscape),
            ("/a%00", TargetError::Nul),
            ("/a;x=%00", TargetError::Nul),
            ("/a\0", TargetError::Nul),
            ("/..", TargetError::AboveRoot),
            ("/../a", TargetError::AboveRoot),
            ("/a/../../b", TargetError::AboveRoot),
            ("//..", TargetError::AboveRoot),
            ("/%2e%2e/a", TargetError::AboveRoot),
            ("/..;/a", TargetError::AboveRoot),
            ("/a/..%3B/b", TargetError::AmbiguousDots),
            ("/a/.%3bx", TargetError::AmbiguousDots),
            ("/a/%2e%2e%3b", TargetError::AmbiguousDots),
        ] {
            assert_eq!(Target::parse(raw).err(), Some(error), "{raw:?}");
        }
    }

    #[test]
    fn query_is_left_as_it_was_sent() {
        let args = |text| Target::parse(text).unwrap().args().map(str::to_owned);
        assert_eq!(args("/a"), None);
        assert_eq!(args("/a?"), Some(String::new()));
        assert_eq!(args("/a?b=/../%zz?;c#d"), Some("b=/../%zz?;c".to_owned()));
        assert_eq!(Target::parse("/a#b?c").unwrap().args(), None);
    }

    #[test]
    fn rest_after_a_prefix_is_escaped_and_keeps_its_parameters() {
        let rest = |raw, matched| Target::parse(raw).unwrap().forwarded_after(matched);
        assert_eq!(rest("/app/a%20b;x=1/c%3Bd", 5), "a%20b;x=1/c%3Bd");
        assert_eq!(rest("/app;x/a", 5), "a");
        assert_eq!(rest("/app;x/a", 4), ";x/a");
        assert_eq!(rest("/app", 9), "");
    }

    #[test]
    fn internal_path_is_taken_as_decoded() {
        let target = Target::internal(b"/a%41/./b c;d", Some("x=1")).unwrap();
        assert_eq!(target.path(), b"/a%41/b c;d");
        assert_eq!(target.forwarded(), "/a%2541/b%20c%3Bd");
        assert_eq!(target.args(), Some("x=1"));
        assert_eq!(Target::internal(b"/../a", None).err(), Some(TargetError::AboveRoot));
        assert_eq!(Target::internal(b"a", None).err(), Some(TargetError::NotAPath));
        assert_eq!(Target::internal(b"/a\0", None).err(), Some(TargetError::Nul));
        assert_eq!(Target::internal(b"/a/..;b", None).err(), Some(TargetError::AmbiguousDots));
    }

    /// The same in four plain steps: cut off parameters, decode, split, resolve.
    fn twin(raw: &str) -> Option<Vec<u8>> {
        let cut: Vec<&str> = raw.split('/').map(|segment| segment.split(';').next().unwrap()).collect();
        let mut decoded = Vec::new();
        let mut bytes = cut.join("/").into_bytes().into_iter();
        while let Some(byte) = bytes.next() {
            if byte == b'%' {
                let digits = [bytes.next()?, bytes.next()?];
                decoded.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            } else {
                decoded.push(byte);
            }
        }
        let segments: Vec<&[u8]> = decoded.split(|&byte| byte == b'/').skip(1).collect();
        let mut kept: Vec<&[u8]> = Vec::new();
        for segment in &segments {
            match *segment {
                b"" | b"." => {}
                b".." => _ = kept.pop()?,
                segment if segment.contains(&0) => return None,
                segment if segment.starts_with(b".;") || segment.starts_with(b"..;") => return None,
                segment => kept.push(segment),
            }
        }
        let mut path = Vec::new();
        for segment in &kept {
            path.push(b'/');
            path.extend_from_slice(segment);
        }
        if kept.is_empty() || matches!(segments.last(), Some(&(b"" | b"." | b".."))) {
            path.push(b'/');
        }
        Some(path)
    }

    fn raw_path() -> impl Strategy<Value = String> {
        "/([ab.;/]|\\.\\./|%2e|%2F|%3B|%41|%25|%20|;x=1/){0,12}"
    }

    proptest! {
        #[test]
        fn path_is_what_the_plain_steps_give(raw in raw_path()) {
            let path = Target::parse(&raw).ok().map(|target| target.path().to_vec());
            prop_assert_eq!(path.map(|path| show(&path)), twin(&raw).map(|path| show(&path)));
        }

        #[test]
        fn what_is_forwarded_is_read_again_as_what_was_matched(raw in raw_path()) {
            if let Ok(target) = Target::parse(&raw) {
                let forwarded = target.forwarded().into_owned();
                let again = Target::parse(&forwarded).unwrap();
                prop_assert_eq!(show(again.path()), show(target.path()));
                let replaced = format!("/base{}", target.forwarded_after(0));
                let again = Target::parse(&replaced).unwrap();
                prop_assert_eq!(show(again.path()), format!("/base{}", show(target.path())));
            }
        }

        #[test]
        fn no_text_is_read_with_a_panic_or_to_a_path_with_dots(text in "/.{0,20}") {
            if let Ok(target) = Target::parse(&text) {
                let dots = target.path().split(|&byte| byte == b'/').any(|name| matches!(name, b"." | b".."));
                prop_assert!(!dots);
            }
        }
    }
}
