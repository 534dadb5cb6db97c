//! Whether a client already has what it asks for: `If-Modified-Since` and its kin, by nginx's rules.
//!
//! Where both `If-None-Match` and `If-Modified-Since` are sent, both must say "unmodified" for a 304;
//! RFC 9110 would ignore the second.

use std::time::SystemTime;

use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::model::IfModifiedSince;

use super::describe::Validators;

/// What the conditions of a request come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The file is sent.
    Send,
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
}

/// Returns the status for a request of something that has no tag and was changed at this second: 200,
/// 304 or 412.
pub(crate) fn status(headers: &HeaderMap, modified: u32, rule: IfModifiedSince) -> StatusCode {
    let mut validators = Validators::new(modified.into(), 0);
    validators.etag = None;
    match check(headers, &validators, rule) {
        Verdict::Send => StatusCode::OK,
        Verdict::NotModified => StatusCode::NOT_MODIFIED,
        Verdict::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
    }
}

pub(super) fn check(headers: &HeaderMap, validators: &Validators, rule: IfModifiedSince) -> Verdict {
    if let Some(since) = headers.get(IF_UNMODIFIED_SINCE)
        && date(since).is_none_or(|since| validators.modified.is_some_and(|modified| modified > since))
    {
        return Verdict::PreconditionFailed;
    }
    if headers.contains_key(IF_MATCH) && !lists(headers, IF_MATCH, validators, Comparison::Strong) {
        return Verdict::PreconditionFailed;
    }
    let since = headers.get(IF_MODIFIED_SINCE);
    let none_match = headers.contains_key(IF_NONE_MATCH);
    if since.is_none() && !none_match {
        return Verdict::Send;
    }
    if let Some(since) = since
        && modified_since(since, validators.modified, rule)
    {
        return Verdict::Send;
    }
    if none_match && !lists(headers, IF_NONE_MATCH, validators, Comparison::Weak) {
        return Verdict::Send;
    }
    Verdict::NotModified
}

fn modified_since(since: &HeaderValue, modified: Option<SystemTime>, rule: IfModifiedSince) -> bool {
    let Some(modified) = modified else { return true };
    match (rule, date(since)) {
        (IfModifiedSince::Off, _) | (_, None) => true,
        (IfModifiedSince::Exact, Some(since)) => modified != since,
        (IfModifiedSince::Before, Some(since)) => modified > since,
    }
}

/// Reads a date in one of the three formats of HTTP.
pub(super) fn date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

/// How two entity tags are compared (RFC 9110, section 8.8.3.2). Those of files are never weak, those of servers
/// may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Returns whether one of the tags in the list is the file's; `*` is any file's.
fn lists(headers: &HeaderMap, name: http::HeaderName, validators: &Validators, by: Comparison) -> bool {
    headers.get_all(name).iter().any(|list| {
        let mut rest = list.as_bytes().trim_ascii();
        if rest == b"*" {
            return true;
        }
        let Some(ours) = validators.etag.as_ref().map(HeaderValue::as_bytes) else { return false };
        // A weak one equals nothing where it has to be the same to the byte.
        let ours = if by == Comparison::Weak { ours.strip_prefix(b"W/").unwrap_or(ours) } else { ours };
        while let Some((tag, strength, after)) = next_tag(rest) {
            if tag == ours && (strength == Comparison::Strong || by == Comparison::Weak) {
                return true;
            }
            rest = after;
        }
        false
    })
}

/// Splits a list of tags: the first one with its quotes, how it may be compared, and the rest. What is no
/// list has no tags from there on.
fn next_tag(list: &[u8]) -> Option<(&[u8], Comparison, &[u8])> {
    let start = list.iter().position(|&byte| !matches!(byte, b' ' | b'\t' | b','))?;
    let list = &list[start..];
    let (list, strength) = match list.strip_prefix(b"W/") {
        Some(list) => (list, Comparison::Weak),
        None => (list, Comparison::Strong),
    };
    // A tag may hold commas, so that it ends at its quote and nowhere else.
    let end = memchr::memchr(b'"', list.strip_prefix(b"\"")?)? + 2;
    let (tag, rest) = list.split_at(end);
    let next = rest.iter().find(|&&byte| !matches!(byte, b' ' | b'\t'));
    next.is_none_or(|&byte| byte == b',').then_some((tag, strength, rest))
}
