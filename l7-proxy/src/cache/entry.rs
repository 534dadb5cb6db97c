//! An entry as a file: what is known of an answer, its head, and its body as it was.
//!
//! The format is ours, and has its version in its first bytes. What is in front of the body has a checksum, and
//! how long the body is stands there, so that a file which is not an entry, is another's, or is not whole is
//! found out before anything of it is sent. The text of the key stands by itself in a line behind `KEY: `, as
//! in nginx's files: people look for it with `grep`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use flate2::Crc;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::ext::ReasonPhrase;

use super::key::Key;
use super::validity::{Seconds, Validity};
use crate::server::Spelling;

/// What is known of an answer beside its head and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) validity: Validity,
    /// When its server says that what is in it was changed.
    pub(crate) modified: Option<Seconds>,
    pub(crate) etag: Bytes,
    /// The fields of requests that it depends on.
    pub(super) vary: Bytes,
    /// What the request for it had in those.
    pub(super) variant: Key,
    pub(crate) extent: Extent,
}

/// What of an answer there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Whole,
    /// Its head was all that was asked for.
    Head,
}

/// An entry that was read.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) facts: Facts,
    /// The head of the answer, as text.
    pub(super) head: Bytes,
    pub(crate) body: Content,
    /// What tells the file from another that has taken its name.
    pub(super) inode: u64,
    /// The bytes of the file.
    pub(super) size: u64,
}

/// The body of an entry.
#[derive(Debug)]
pub(crate) enum Content {
    /// It was read with the rest.
    Read(Bytes),
    /// So many bytes of the file, from this place on.
    InFile { file: File, offset: u64, length: u64 },
}

impl Content {
    pub(crate) fn length(&self) -> u64 {
        match self {
            Content::Read(bytes) => bytes.len() as u64,
            Content::InFile { length, .. } => *length,
        }
    }
}

/// Why a file is no entry.
#[derive(Debug)]
pub(super) enum Damage {
    /// There is none.
    Absent,
    /// What is there is something else, or not whole.
    Broken(&'static str),
    /// It cannot be read.
    Unreadable(io::Error),
}

impl From<io::Error> for Damage {
    fn from(error: io::Error) -> Damage {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Damage::Absent,
            io::ErrorKind::UnexpectedEof => Damage::Broken("is too small"),
            _ => Damage::Unreadable(error),
        }
    }
}

/// What stands in front of a body.
#[derive(Debug, Clone)]
pub(super) struct Preface {
    pub(super) facts: Facts,
    pub(super) key: Bytes,
    pub(super) head: Bytes,
    pub(super) body_length: u64,
}

impl Preface {
    /// Returns the place at which the body begins.
    pub(super) fn length(&self) -> usize {
        FIXED
            + KEY_MARK.len()
            + self.key.len()
            + 1
            + self.facts.vary.len()
            + self.facts.etag.len()
            + self.head.len()
    }

    /// Returns it as bytes; `None` if a part is longer than can be told.
    pub(super) fn write(&self) -> Option<Vec<u8>> {
        let Facts { validity, modified, etag, vary, variant, extent } = &self.facts;
        let length = |bytes: &Bytes| u32::try_from(bytes.len()).ok();
        let mut out = Vec::with_capacity(self.length());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&u32::try_from(self.length()).ok()?.to_le_bytes());
        let times = [validity.until, validity.while_updating, validity.if_error, modified.unwrap_or(NEVER)];
        for number in [self.body_length].into_iter().chain(times) {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&variant.0);
        for part in [&self.key, vary, etag] {
            out.extend_from_slice(&length(part)?.to_le_bytes());
        }
        out.push(if *extent == Extent::Whole { b'w' } else { b'h' });
        out.extend_from_slice(KEY_MARK);
        for part in [&self.key[..], b"\n", vary, etag, &self.head] {
            out.extend_from_slice(part);
        }
        let sum = checksum(&out);
        out[MAGIC.len()..MAGIC.len() + 4].copy_from_slice(&sum.to_le_bytes());
        Some(out)
    }

    fn parse(bytes: Bytes) -> Result<Preface, &'static str> {
        let mut reader = Reader { bytes: bytes.slice(MAGIC.len()..) };
        let sum = reader.number()?;
        if checksum(&bytes) != sum {
            return Err("is damaged");
        }
        reader.number()?;
        let body_length = reader.long()?;
        let (until, while_updating, if_error) = (reader.long()?, reader.long()?, reader.long()?);
        let modified = Some(reader.long()?).filter(|&modified| modified != NEVER);
        let variant = reader.take(16)?;
        let variant = Key(variant[..].try_into().map_err(|_| TOO_SMALL)?);
        let (key, vary, etag) = (reader.number()?, reader.number()?, reader.number()?);
        let extent = if reader.take(1)?[..] == b"w"[..] { Extent::Whole } else { Extent::Head };
        reader.take(KEY_MARK.len())?;
        let key = reader.take(key as usize)?;
        reader.take(1)?;
        let (vary, etag) = (reader.take(vary as usize)?, reader.take(etag as usize)?);
        let validity = Validity { until, while_updating, if_error };
        let facts = Facts { validity, modified, etag, vary, variant, extent };
        Ok(Preface { facts, key, head: reader.bytes, body_length })
    }

    /// Reads that of a file; returns it with the beginning of the body, as far as that was read.
    pub(super) fn read(file: &File, size: u64) -> Result<(Preface, Bytes), Damage> {
        // Most entries are read whole.
        let mut room = vec![0; usize::try_from(size).unwrap_or(FIRST_READ).min(FIRST_READ)];
        file.read_exact_at(&mut room, 0)?;
        let mut bytes = Bytes::from(room);
        if bytes.len() < FIXED {
            return Err(Damage::Broken(TOO_SMALL));
        }
        if !bytes.starts_with(MAGIC) {
            return Err(Damage::Broken("is of another version, or no entry at all"));
        }
        let at = MAGIC.len() + 4;
        let length = u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize;
        if length < FIXED || length as u64 > size || length > PREFACE_MAX {
            return Err(Damage::Broken("is damaged"));
        }
        if length > bytes.len() {
            let mut room = vec![0; length];
            file.read_exact_at(&mut room, 0)?;
            bytes = room.into();
        }
        let preface = Preface::parse(bytes.split_to(length)).map_err(Damage::Broken)?;
        if preface.body_length != size - length as u64 {
            return Err(Damage::Broken("is not whole"));
        }
        Ok((preface, bytes))
    }
}

/// Sums up what stands in front of a body, without the sum itself.
fn checksum(preface: &[u8]) -> u32 {
    let mut sum = Crc::new();
    sum.update(preface.get(MAGIC.len() + 4..).unwrap_or_default());
    sum.sum()
}

struct Reader {
    bytes: Bytes,
}

impl Reader {
    fn take(&mut self, length: usize) -> Result<Bytes, &'static str> {
        if length > self.bytes.len() { Err(TOO_SMALL) } else { Ok(self.bytes.split_to(length)) }
    }

    fn number(&mut self) -> Result<u32, &'static str> {
        Ok(u32::from_le_bytes(self.take(4)?[..].try_into().map_err(|_| TOO_SMALL)?))
    }

    fn long(&mut self) -> Result<u64, &'static str> {
        Ok(u64::from_le_bytes(self.take(8)?[..].try_into().map_err(|_| TOO_SMALL)?))
    }
}

/// The head of an answer.
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: Box<HeaderMap>,
    pub(crate) reason: Option<ReasonPhrase>,
}

impl Head {
    /// Writes a head, its fields spelled as their server spells them.
    pub(crate) fn write(
        status: StatusCode,
        headers: &HeaderMap,
        reason: Option<&ReasonPhrase>,
        spelling: &Spelling,
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(status.as_str().as_bytes());
        if let Some(reason) = reason {
            out.push(b' ');
            out.extend_from_slice(reason.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        for (name, value) in headers {
            spelling.write(name.as_str(), &mut out);
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out
    }

    /// Reads a head into an empty map; `None` if it is none.
    fn read(text: &Bytes, mut headers: Box<HeaderMap>, spelling: &Spelling) -> Option<Head> {
        let mut rest = text.clone();
        let mut line = || {
            let end = memchr::memmem::find(&rest, b"\r\n")?;
            let line = rest.split_to(end);
            rest = rest.slice(2..);
            Some(line)
        };
        let first = line()?;
        let status = StatusCode::from_bytes(first.get(..3)?).ok()?;
        let reason = match first.get(3..)? {
            b"" => None,
            reason => Some(ReasonPhrase::try_from(&reason[1..]).ok()?),
        };
        while let Some(mut line) = line() {
            let colon = memchr::memchr(b':', &line)?;
            let name = line.split_to(colon);
            let written = std::str::from_utf8(&name).ok()?;
            spelling.note(written);
            let value = HeaderValue::from_maybe_shared(line.slice(2.min(line.len())..)).ok()?;
            headers.append(HeaderName::from_bytes(&name).ok()?, value);
        }
        Some(Head { status, headers, reason })
    }
}

impl Entry {
    /// Opens the entry of a file, if it is that of `key`.
    pub(super) fn read(file: File, key: &[u8]) -> Result<Entry, Damage> {
        let found = rustix::fs::fstat(&file).map_err(io::Error::from)?;
        let size = u64::try_from(found.st_size).unwrap_or(0);
        let read = match Preface::read(&file, size) {
            // Its times may have been written anew at this moment.
            Err(Damage::Broken("is damaged")) => Preface::read(&file, size),
            read => read,
        };
        let (preface, rest) = read?;
        if preface.key != key {
            return Err(Damage::Broken("has md5 collision"));
        }
        let (offset, length) = (preface.length() as u64, preface.body_length);
        let Preface { mut facts, mut head, .. } = preface;
        let body = if rest.len() as u64 == length {
            Content::Read(rest)
        } else {
            // What was read of the body is not held for as long as it takes to send it.
            for part in [&mut facts.vary, &mut facts.etag, &mut head] {
                *part = Bytes::copy_from_slice(part);
            }
            Content::InFile { file, offset, length }
        };
        Ok(Entry { facts, head, body, inode: found.st_ino, size })
    }

    /// Returns the head; its fields go into an empty map.
    pub(crate) fn head(&self, headers: Box<HeaderMap>, spelling: &Spelling) -> Option<Head> {
        Head::read(&self.head, headers, spelling)
    }

    /// Returns the same without its body: what it takes to have it compared by a server.
    pub(crate) fn without_body(&self) -> Entry {
        let Entry { facts, head, inode, size, .. } = self;
        let body = Content::Read(Bytes::new());
        Entry { facts: facts.clone(), head: head.clone(), body, inode: *inode, size: *size }
    }

    /// Writes into the file how long the entry is good from now on, if it is still the same.
    pub(super) fn renew(&self, file: &File, facts: Facts) -> io::Result<()> {
        let found = rustix::fs::fstat(file)?;
        if found.st_ino != self.inode || u64::try_from(found.st_size).unwrap_or(0) != self.size {
            return Ok(());
        }
        let Ok((preface, _)) = Preface::read(file, self.size) else { return Ok(()) };
        let preface = Preface { facts, ..preface };
        match preface.write() {
            Some(bytes) => file.write_all_at(&bytes, 0),
            None => Ok(()),
        }
    }
}

/// The first bytes of each file; the last of them is the version.
const MAGIC: &[u8; 8] = b"l7cache\x01";

/// Bytes of what has the same length in all files.
const FIXED: usize = MAGIC.len() + 4 + 4 + 5 * 8 + 16 + 3 * 4 + 1;

/// A smaller file is none.
pub(super) const SIZE_MIN: u64 = FIXED as u64;

const KEY_MARK: &[u8] = b"\nKEY: ";

/// What stands for a moment that is not known.
const NEVER: u64 = u64::MAX;

/// How much of a file is read at once. What is left of a larger one is moved by the kernel.
const FIRST_READ: usize = 20 * 1024;

/// What stands in front of a body is never longer.
pub(super) const PREFACE_MAX: usize = 1 << 20;

const TOO_SMALL: &str = "is too small";
