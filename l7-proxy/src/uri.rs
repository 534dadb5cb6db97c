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

use std::borrow::Cow;
use std::fmt;

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
        // A fragment is none of the server's business; nginx cuts it off as well.
        let text = text.split_once('#').map_or(text, |(text, _)| text);
        let (raw, args) = match text.split_once('?') {
            Some((raw, args)) => (raw, Some(Cow::Borrowed(args))),
            None => (text, None),
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
        let mut reader = Reader::new(raw.len());
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
        let mut reader = Reader::new(path.len());
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

/// How a slash was written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Separator {
    Plain,
    Encoded,
}

/// Builds the normalised path segment by segment; `path` always begins with a slash and ends with
/// the segment that is being read.
struct Reader {
    path: Vec<u8>,
    parameters: Vec<(usize, String)>,
    spelling: Spelling,
    /// Where the segment that is being read begins in `path`.
    segment: usize,
    /// How the slash before that segment was written.
    before: Separator,
}

impl Reader {
    fn new(capacity: usize) -> Self {
        let mut path = Vec::with_capacity(capacity);
        path.push(b'/');
        Self {
            path,
            parameters: Vec::new(),
            spelling: Spelling::AsSent,
            segment: 1,
            before: Separator::Plain,
        }
    }

    /// Reads a path that begins with a slash.
    fn read(&mut self, raw: &str) -> Result<(), TargetError> {
        let bytes = raw.as_bytes();
        let mut at = 1;
        while let Some(&byte) = bytes.get(at) {
            at += 1;
            match byte {
                0 => return Err(TargetError::Nul),
                b'/' => self.end_segment(Separator::Plain)?,
                b';' => {
                    let end = memchr::memchr(b'/', &bytes[at..]).map_or(bytes.len(), |length| at + length);
                    check_escapes(&bytes[at..end])?;
                    self.parameters.push((self.path.len(), raw[at - 1..end].to_owned()));
                    at = end;
                }
                b'%' => {
                    let decoded = bytes.get(at..at + 2).and_then(decode).ok_or(TargetError::BadEscape)?;
                    at += 2;
                    match decoded {
                        0 => return Err(TargetError::Nul),
                        b'/' => self.end_segment(Separator::Encoded)?,
                        // Not for us, but whoever decodes first and then cuts sees dots.
                        b';' if matches!(&self.path[self.segment..], b"." | b"..") => {
                            return Err(TargetError::AmbiguousDots);
                        }
                        decoded => self.path.push(decoded),
                    }
                }
                byte => self.path.push(byte),
            }
        }
        self.end()
    }

    /// Ends a segment at a slash.
    fn end_segment(&mut self, separator: Separator) -> Result<(), TargetError> {
        match &self.path[self.segment..] {
            b"" => {
                // An encoded slash beside a plain one is data to many servers (`/queues/%2F/x`):
                // only an empty segment that was written as such makes the spelling unfit.
                if self.before == Separator::Plain && separator == Separator::Plain {
                    self.spelling = Spelling::Normalised;
                }
                self.parameters.retain(|(place, _)| *place < self.segment);
            }
            b"." => self.drop_segment(),
            b".." => self.drop_two_segments()?,
            _ => {
                self.path.push(b'/');
                self.segment = self.path.len();
            }
        }
        self.before = separator;
        Ok(())
    }

    /// Ends the last segment.
    fn end(&mut self) -> Result<(), TargetError> {
        match &self.path[self.segment..] {
            b"." => self.drop_segment(),
            b".." => self.drop_two_segments()?,
            // `/a/;x` is `/a/`; the parameters of nothing are dropped with it.
            b"" if self.parameters.last().is_some_and(|(place, _)| *place >= self.segment) => {
                self.drop_segment()
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes back the segment that was read.
    fn drop_segment(&mut self) {
        self.spelling = Spelling::Normalised;
        self.path.truncate(self.segment);
        self.parameters.retain(|(place, _)| *place < self.segment);
    }

    /// Takes back the segment that was read and the one before it.
    fn drop_two_segments(&mut self) -> Result<(), TargetError> {
        // The slash that ends the segment before, if there is one.
        let Some(slash) = self.segment.checked_sub(1).filter(|&slash| slash > 0) else {
            return Err(TargetError::AboveRoot);
        };
        let before = self.path[..slash].iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        self.segment = before + 1;
        self.drop_segment();
        Ok(())
    }
}

/// Returns the byte that two hexadecimal digits stand for.
fn decode(digits: &[u8]) -> Option<u8> {
    let &[high, low] = digits else { return None };
    let (high, low) = (char::from(high).to_digit(16)?, char::from(low).to_digit(16)?);
    u8::try_from(high << 4 | low).ok()
}

/// Checks the escapes of a parameter, which is forwarded as it is.
fn check_escapes(mut text: &[u8]) -> Result<(), TargetError> {
    while let Some(percent) = memchr::memchr2(b'%', 0, text) {
        if text[percent] == 0 {
            return Err(TargetError::Nul);
        }
        let rest = &text[percent + 1..];
        match rest.get(..2).and_then(decode) {
            None => return Err(TargetError::BadEscape),
            Some(0) => return Err(TargetError::Nul),
            Some(_) => text = &rest[2..],
        }
    }
    Ok(())
}
