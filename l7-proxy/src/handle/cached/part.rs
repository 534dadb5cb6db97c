//! What of a kept answer its client wants: nothing if it has it, or a part.

use http::header::{ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::ext::ReasonPhrase;

use super::super::{Answer, Step};
use crate::body::Kind;
use crate::model::ErrorPageStatus;
use crate::route::Route;
use crate::static_file::{ByteRange, FileBody, Wanted, boundary, wanted};
use crate::transaction::Transaction;
use crate::upstream::parse_length;

/// Makes of an answer what its client wants of it; one that was not kept goes as its server sent it.
pub(in crate::handle) fn reduce(
    transaction: &Transaction,
    route: &Route<'_>,
    step: Step,
    error_page: Option<ErrorPageStatus>,
) -> Step {
    let mut answer = match step {
        Step::Done(answer) => answer,
        step => return step,
    };
    let cached = transaction.findings.cached.as_ref();
    let is_kept = matches!(answer.kind, Kind::Filled(_)) || cached.is_some_and(|cached| cached.is_kept);
    let stands_for_error = matches!(error_page, Some(ErrorPageStatus::Set(status)) if status != 200);
    if !is_kept || transaction.asks() || stands_for_error || answer.status != StatusCode::OK {
        return Step::Done(answer);
    }
    let told = answer.headers.get(CONTENT_LENGTH).and_then(|value| parse_length(value.as_bytes()));
    let parts_max = if matches!(answer.kind, Kind::Filled(_)) { 1 } else { usize::MAX };
    let files = &route.settings.files;
    match wanted(&transaction.parts.headers, &answer.headers, told, files, parts_max) {
        Wanted::Whole => {}
        Wanted::Other => return Step::status(412),
        Wanted::Beyond => {
            let range = field(&format!("bytes */{}", told.unwrap_or(0)));
            return Step::Status(416, Some(Box::new(HeaderMap::from_iter([(CONTENT_RANGE, range)]))));
        }
        Wanted::Nothing => {
            answer.status = StatusCode::NOT_MODIFIED;
            for name in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING, ACCEPT_RANGES] {
                answer.headers.remove(name);
            }
            answer.kind = Kind::Whole(bytes::Bytes::new());
            answer.extensions.remove::<ReasonPhrase>();
        }
        Wanted::Part(range) => {
            let all = told.unwrap_or(0);
            answer.headers.insert(CONTENT_RANGE, field(&range.content_range(all)));
            match &mut answer.kind {
                Kind::Filled(filled) => filled.part(range.start, range.end),
                _ => file(&mut answer, |file| file.narrowed(range)),
            }
            partial(&mut answer, range.len());
        }
        Wanted::Parts(ranges) => parts(&mut answer, &ranges),
    }
    Step::Done(answer)
}

fn parts(answer: &mut Answer, ranges: &[ByteRange]) {
    let boundary = boundary(ranges.len() as u64, ranges.iter().map(|range| range.start).sum());
    let media_type = answer.headers.get(CONTENT_TYPE).cloned();
    file(answer, |file| file.parted(ranges, media_type.as_ref(), &boundary));
    let told = field(&format!("multipart/byteranges; boundary={boundary}"));
    answer.headers.insert(CONTENT_TYPE, told);
    let length = answer.kind.exact_size().unwrap_or(0);
    partial(answer, length);
}

/// Changes a body that is in a file or in memory.
fn file(answer: &mut Answer, change: impl FnOnce(FileBody) -> FileBody) {
    let kind = std::mem::replace(&mut answer.kind, Kind::Whole(bytes::Bytes::new()));
    answer.kind = match kind {
        Kind::Whole(bytes) => Kind::File(Box::new(change(FileBody::of_bytes(bytes)))),
        Kind::File(file) => Kind::File(Box::new(change(*file))),
        other => other,
    };
}

fn partial(answer: &mut Answer, length: u64) {
    answer.status = StatusCode::PARTIAL_CONTENT;
    answer.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    answer.headers.remove(ACCEPT_RANGES);
    answer.extensions.remove::<ReasonPhrase>();
}

/// Returns a field of digits, letters and the like that we wrote ourselves.
fn field(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}
