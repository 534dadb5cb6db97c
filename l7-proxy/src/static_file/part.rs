//! What a request wants of an answer that is no file: by the same rules, with the validators that the answer
//! has among its fields.

use http::HeaderMap;
use http::header::ACCEPT_RANGES;

use super::conditional::{self, Verdict};
use super::describe::Validators;
use super::range::{self, ByteRange, Ranges};
use crate::model::Files;

/// What a request wants of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Whole,
    /// Nothing: its client has it (304).
    Nothing,
    /// Nothing, as it is not what its client thinks (412).
    Other,
    /// A part that is not there (416).
    Beyond,
    /// A part.
    Part(ByteRange),
    /// Several.
    Parts(Vec<ByteRange>),
}

/// Returns what a request wants of an answer with these fields. Parts there are where the answer offers them and
/// `length` is known; several of them only up to `parts_max`.
pub(crate) fn wanted(
    request: &HeaderMap,
    answer: &HeaderMap,
    length: Option<u64>,
    files: &Files,
    parts_max: usize,
) -> Wanted {
    let validators = Validators::of(answer);
    match conditional::check(request, &validators, files.if_modified_since) {
        Verdict::Send => {}
        Verdict::NotModified => return Wanted::Nothing,
        Verdict::PreconditionFailed => return Wanted::Other,
    }
    let Some(length) = length.filter(|_| answer.contains_key(ACCEPT_RANGES)) else { return Wanted::Whole };
    match range::asked(request, &validators, length, files.max_ranges) {
        Ranges::Whole => Wanted::Whole,
        Ranges::Unsatisfiable => Wanted::Beyond,
        Ranges::One(range) => Wanted::Part(range),
        Ranges::Several(ranges) if ranges.len() <= parts_max => Wanted::Parts(ranges),
        Ranges::Several(_) => Wanted::Whole,
    }
}
