//! Which parts of a file a client asks for, by nginx's reading of `Range` and `If-Range`.

use std::hash::{BuildHasher, RandomState};

use http::HeaderMap;
use http::header::{IF_RANGE, RANGE};

use super::conditional::date;
use super::describe::Validators;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ranges {
    /// The whole file.
    Whole,
    /// Nothing that is there: 416.
    Unsatisfiable,
    /// One part.
    One(ByteRange),
    /// Several parts, together not more than the file.
    Several(Vec<ByteRange>),
}

/// A part of a file that is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByteRange {
    /// The first byte.
    pub(crate) start: u64,
    /// The byte after the last.
    pub(crate) end: u64,
}

impl ByteRange {
    pub(crate) fn len(self) -> u64 {
        self.end - self.start
    }

    pub(crate) fn content_range(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.start, self.end - 1)
    }
}

/// Returns the parts that a request asks for.
pub(super) fn asked(
    headers: &HeaderMap,
    validators: &Validators,
    size: u64,
    ranges_max: Option<usize>,
) -> Ranges {
    let Some(value) = headers.get(RANGE) else { return Ranges::Whole };
    let Some((unit, list)) = value.as_bytes().split_at_checked(6) else { return Ranges::Whole };
    if !unit.eq_ignore_ascii_case(b"bytes=")
        || list.is_empty()
        || ranges_max == Some(0)
        || !if_range(headers, validators)
    {
        return Ranges::Whole;
    }
    parse(list, size, ranges_max.unwrap_or(usize::MAX))
}

/// Returns whether `If-Range`, where it is sent, names the file as it is.
fn if_range(headers: &HeaderMap, validators: &Validators) -> bool {
    let Some(value) = headers.get(IF_RANGE) else { return true };
    if value.as_bytes().ends_with(b"\"") {
        return validators.etag.as_ref() == Some(value);
    }
    validators.modified.is_some() && date(value) == validators.modified
}

fn parse(list: &[u8], size: u64, ranges_max: usize) -> Ranges {
    let mut ranges = Vec::new();
    let mut sum = 0_u64;
    for item in list.split(|&byte| byte == b',') {
        let range = match parse_one(trim(item), size) {
            Item::Range(range) => range,
            Item::Outside => continue,
            Item::Malformed => return Ranges::Unsatisfiable,
            Item::Whole => return Ranges::Whole,
        };
        ranges.push(range);
        sum = sum.saturating_add(range.len());
        if ranges.len() > ranges_max {
            return Ranges::Whole;
        }
    }
    match &*ranges {
        [] => Ranges::Unsatisfiable,
        // Parts that overlap could make a small request cost many times the file.
        _ if sum > size => Ranges::Whole,
        &[range] => Ranges::One(range),
        _ => Ranges::Several(ranges),
    }
}

/// What one item of the list is.
enum Item {
    Range(ByteRange),
    /// Nothing that is there.
    Outside,
    Malformed,
    /// The beginning of an empty file.
    Whole,
}

fn parse_one(item: &[u8], size: u64) -> Item {
    let Some(dash) = memchr::memchr(b'-', item) else { return Item::Malformed };
    let (first, last) = (trim(&item[..dash]), trim(&item[dash + 1..]));
    let (start, end) = match (first, last) {
        (b"", b"") => return Item::Malformed,
        (b"", last) => match number(last) {
            Some(count) => (size.saturating_sub(count), size),
            None => return Item::Malformed,
        },
        (first, b"") => match number(first) {
            Some(start) => (start, size),
            None => return Item::Malformed,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(start), Some(last)) => (start, size.min(last.saturating_add(1))),
            _ => return Item::Malformed,
        },
    };
    if start < end {
        Item::Range(ByteRange { start, end })
    } else if start == 0 {
        Item::Whole
    } else {
        Item::Outside
    }
}

/// Takes blanks away, of which nginx knows one here.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] | [rest @ .., b' '] = text {
        text = rest;
    }
    text
}

/// Reads digits; `None` if there is anything else, or more than a file can have bytes.
fn number(text: &[u8]) -> Option<u64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(text).ok()?.parse().ok()?;
    i64::try_from(number).is_ok().then_some(number)
}

/// Returns a text that does not occur in the file but by malice or a miracle.
pub(crate) fn boundary(inode: u64, size: u64) -> String {
    // Seeded anew at each call, so that nobody can put the boundary into a file beforehand.
    format!("{:020}", RandomState::new().hash_one((inode, size)))
}
