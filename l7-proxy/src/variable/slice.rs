//! `$slice_range`: which piece of an answer a server is asked for.

use http::HeaderMap;
use http::header::{IF_RANGE, RANGE};

use super::exchange::{Completion, Exchange};
use super::findings::Slicing;
use crate::model::Files;

/// Returns the piece as it is asked for, if there is one. Before there is an answer, to look is to ask for pieces.
pub(super) fn range(exchange: &Exchange<'_>) -> Option<String> {
    let files = &exchange.settings.files;
    let size = files.slice?.get();
    let asked = &exchange.findings.slice;
    let start = match asked.get() {
        Slicing::Never => return None,
        Slicing::From(start) => start,
        Slicing::Unasked if exchange.response.is_some() => return None,
        Slicing::Unasked => size * (wanted_from(exchange.headers, files) / size),
    };
    if exchange.response.is_some_and(|response| response.completion == Completion::Whole) {
        return None;
    }
    asked.set(Slicing::From(start));
    Some(format!("bytes={start}-{}", start.saturating_add(size - 1)))
}

/// Returns where the only part begins that a request asks for; where it asks for more, or for one only if nothing
/// has changed, the whole may be wanted.
fn wanted_from(headers: &HeaderMap, files: &Files) -> u64 {
    let first = || {
        let value = headers.get(RANGE).filter(|_| !headers.contains_key(IF_RANGE))?;
        let (unit, list) = value.as_bytes().split_at_checked(6)?;
        if !unit.eq_ignore_ascii_case(b"bytes=") || list.contains(&b',') || files.max_ranges == Some(0) {
            return None;
        }
        let text = std::str::from_utf8(list).ok()?.trim_start_matches(' ');
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let start: i64 = text[..end].parse().ok()?;
        u64::try_from(start).ok()
    };
    first().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn first_piece_is_where_the_only_part_begins() {
        for (range, expected) in [
            ("bytes=70-", 70),
            ("BYTES= 70-80", 70),
            ("bytes=-70", 0),
            ("bytes=70-80,90-", 0),
            ("bytes=9223372036854775807-", i64::MAX as u64),
            ("bytes=9223372036854775808-", 0),
            ("lines=70-", 0),
            ("bytes", 0),
        ] {
            let mut headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_static(range))]);
            assert_eq!(wanted_from(&headers, &Files::default()), expected, "{range}");
            headers.insert(IF_RANGE, HeaderValue::from_static("\"tag\""));
            assert_eq!(wanted_from(&headers, &Files::default()), 0, "{range}");
        }
    }
}
