//! What of a server's answer its client wants: nothing if it has it, or a part.
//!
//! An answer that is kept, or may be, is looked at as a file is; one of a location with `proxy_force_ranges`,
//! or one that comes in `slice`s, for parts alone. All others go as their servers sent them. Whether a server
//! says `none` in its `Accept-Ranges` or `bytes` makes no difference to nginx, and none here.

use http::header::{ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hyper::ext::ReasonPhrase;

use super::slice::Sliced;
use super::{Answer, Step, exchange, slice};
use crate::body::{Clipped, Kind};
use crate::model::{ErrorPageStatus, ServerRanges};
use crate::route::{Route, Server};
use crate::static_file::{ByteRange, Conditions, FileBody, Terms, Wanted, boundary, is_made_anew, wanted};
use crate::transaction::Transaction;
use crate::upstream::parse_length;
use crate::uri::Target;

/// Makes of an answer what its client wants of it.
pub(super) fn reduce(
    transaction: &Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
    pieces: Option<Box<slice::Way>>,
    step: Step,
    error_page: Option<ErrorPageStatus>,
) -> Step {
    let mut answer = match step {
        Step::Done(answer) => answer,
        step => return step,
    };
    let mut sliced = match slice::begin(transaction, server, route, pieces, &mut answer) {
        Ok(sliced) => sliced,
        Err(slice::Unfit) => return Step::Close,
    };
    let stands_for_error = matches!(error_page, Some(ErrorPageStatus::Set(status)) if status != 200);
    let looks = answer.status == StatusCode::OK && !transaction.asks() && !stands_for_error;
    let files = &route.settings.files;
    let told = answer.headers.get(CONTENT_LENGTH).and_then(|value| parse_length(value.as_bytes()));
    let (conditions, parts_max) = offered(transaction, route, sliced.as_ref(), &mut answer);
    let length = told.filter(|&length| {
        let exchange = exchange(transaction, server, route, target);
        let media_type = answer.headers.get(CONTENT_TYPE);
        let is_recoded = transaction.charset.is_some();
        looks && parts_max > 0 && !is_recoded && !is_made_anew(&exchange, length, media_type, &answer.headers)
    });
    let terms = Terms { conditions, length, parts_max, files };
    let found = match looks {
        true => wanted(&transaction.parts.headers, &answer.headers, &terms),
        false => Wanted::Whole,
    };
    match found {
        Wanted::Whole => {
            if length.is_some() && files.max_ranges != Some(0) {
                answer.headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            }
        }
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
            sliced = None;
            answer.kind = Kind::Whole(bytes::Bytes::new());
            answer.extensions.remove::<ReasonPhrase>();
        }
        Wanted::Part(range) => {
            let all = told.unwrap_or(0);
            answer.headers.insert(CONTENT_RANGE, field(&range.content_range(all)));
            part(transaction, sliced.as_mut(), &mut answer, range);
            partial(&mut answer, range.len());
        }
        Wanted::Parts(ranges) => parts(&mut answer, &ranges),
    }
    if let Some(sliced) = sliced.filter(|_| *transaction.method() != Method::HEAD) {
        sliced.take_over(&mut answer);
    }
    Step::Done(answer)
}

/// Says whose conditions a request's are, and how many parts of an answer there may be, if there may be any. What
/// the server says of that is taken away where it is ours to say.
fn offered(
    transaction: &Transaction,
    route: &Route<'_>,
    sliced: Option<&Sliced>,
    answer: &mut Answer,
) -> (Conditions, usize) {
    let cached = transaction.findings.cached.as_ref();
    let is_kept = cached.is_some_and(|cached| cached.is_kept);
    let is_keepable = is_kept || cached.is_some_and(|cached| cached.is_keepable);
    let conditions = if is_keepable { Conditions::Ours } else { Conditions::OfServer };
    let is_forced = route.proxy().relay.ranges == ServerRanges::Forced;
    if sliced.is_none() && !is_forced && !is_keepable {
        return (conditions, 0);
    }
    let is_offered = answer.headers.remove(ACCEPT_RANGES).is_some();
    let most = match sliced {
        Some(_) => 1,
        None if !is_forced && !is_offered => 0,
        None if is_kept => usize::MAX,
        None => 1,
    };
    (conditions, most)
}

/// Leaves one part of a body.
fn part(transaction: &Transaction, sliced: Option<&mut Sliced>, answer: &mut Answer, range: ByteRange) {
    if let Some(sliced) = sliced {
        return sliced.narrow(range);
    }
    match &mut answer.kind {
        Kind::Filled(filled) => filled.part(range.start, range.end),
        Kind::Whole(_) | Kind::File(_) => file(answer, |file| file.narrowed(range)),
        // No body comes, and none is told of.
        _ if *transaction.method() == Method::HEAD => {}
        kind => {
            let whole = std::mem::replace(kind, Kind::Whole(bytes::Bytes::new()));
            *kind = Kind::Clipped(Box::new(Clipped::new(whole, range.start, range.len())));
        }
    }
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
    answer.extensions.remove::<ReasonPhrase>();
}

/// Returns a field of digits, letters and the like that we wrote ourselves.
fn field(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}
