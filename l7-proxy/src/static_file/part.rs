//! What a request wants of an answer that is no file: by the same rules, with the validators that the answer
//! has among its fields.

use http::HeaderMap;

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

/// What a request may want of an answer.
pub(crate) struct Terms<'a> {
    pub(crate) conditions: Conditions,
    /// The size of the answer, if there may be parts of it.
    pub(crate) length: Option<u64>,
    /// How many parts of it one answer may have.
    pub(crate) parts_max: usize,
    pub(crate) files: &'a Files,
}

/// Who looks at the conditions of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conditions {
    /// We do.
    Ours,
    /// The server that was asked has done so.
    OfServer,
}

/// Returns what a request wants of an answer with these fields.
pub(crate) fn wanted(request: &HeaderMap, answer: &HeaderMap, terms: &Terms<'_>) -> Wanted {
    let Terms { conditions, length, parts_max, files } = *terms;
    let validators = Validators::of(answer);
    if conditions == Conditions::Ours {
        match conditional::check(request, &validators, files.if_modified_since) {
            Verdict::Send => {}
            Verdict::NotModified => return Wanted::Nothing,
            Verdict::PreconditionFailed => return Wanted::Other,
        }
    }
    let Some(length) = length else { return Wanted::Whole };
    match range::asked(request, &validators, length, files.max_ranges) {
        Ranges::Whole => Wanted::Whole,
        Ranges::Unsatisfiable => Wanted::Beyond,
        Ranges::One(range) => Wanted::Part(range),
        Ranges::Several(ranges) if ranges.len() <= parts_max => Wanted::Parts(ranges),
        Ranges::Several(_) => Wanted::Whole,
    }
}
