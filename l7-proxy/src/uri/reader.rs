//! The reader of paths: decodes and normalises one, a segment at a time.

use super::{Spelling, TargetError};
use crate::model::Slashes;

/// How a slash was written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Separator {
    Plain,
    Encoded,
}

/// Builds the normalised path segment by segment; `path` always begins with a slash and ends with
/// the segment that is being read.
pub(super) struct Reader {
    pub(super) path: Vec<u8>,
    pub(super) parameters: Vec<(usize, String)>,
    pub(super) spelling: Spelling,
    /// Where the segment that is being read begins in `path`.
    segment: usize,
    /// How the slash before that segment was written.
    before: Separator,
    slashes: Slashes,
}

impl Reader {
    pub(super) fn new(capacity: usize, slashes: Slashes) -> Self {
        let mut path = Vec::with_capacity(capacity);
        path.push(b'/');
        Self {
            path,
            parameters: Vec::new(),
            spelling: Spelling::AsSent,
            segment: 1,
            before: Separator::Plain,
            slashes,
        }
    }

    /// Reads a path that begins with a slash.
    pub(super) fn read(&mut self, raw: &str) -> Result<(), TargetError> {
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
                        decoded => self.path.push(decoded),
                    }
                }
                byte => self.path.push(byte),
            }
        }
        self.end()
    }

    /// Ends a segment at a slash.
    pub(super) fn end_segment(&mut self, separator: Separator) -> Result<(), TargetError> {
        match &self.path[self.segment..] {
            b"" => {
                // An encoded slash beside a plain one is data to many servers (`/queues/%2F/x`):
                // only an empty segment that was written as such makes the spelling unfit.
                let plain = self.before == Separator::Plain && separator == Separator::Plain;
                match self.slashes {
                    Slashes::Merged if plain || self.has_parameters() => self.drop_segment(),
                    Slashes::Merged => {}
                    Slashes::Kept => {
                        self.path.push(b'/');
                        self.segment = self.path.len();
                    }
                }
            }
            b"." => self.drop_segment(),
            b".." => self.drop_two_segments()?,
            segment if is_ambiguous(segment) => return Err(TargetError::AmbiguousDots),
            _ => {
                self.path.push(b'/');
                self.segment = self.path.len();
            }
        }
        self.before = separator;
        Ok(())
    }

    /// Ends the last segment.
    pub(super) fn end(&mut self) -> Result<(), TargetError> {
        match &self.path[self.segment..] {
            b"." => self.drop_segment(),
            b".." => self.drop_two_segments()?,
            segment if is_ambiguous(segment) => return Err(TargetError::AmbiguousDots),
            // `/a/;x` is `/a/`; the parameters of nothing are dropped with it.
            b"" if self.has_parameters() => self.drop_segment(),
            _ => {}
        }
        Ok(())
    }

    /// Returns whether the segment that is being read has parameters.
    fn has_parameters(&self) -> bool {
        self.parameters.last().is_some_and(|(place, _)| *place >= self.segment)
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

/// Returns whether a segment is no dot segment, but would be one to whoever decodes `%3B` before
/// cutting off parameters.
fn is_ambiguous(segment: &[u8]) -> bool {
    segment.starts_with(b".;") || segment.starts_with(b"..;")
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
