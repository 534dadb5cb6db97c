//! Whether an answer has fields behind its body, and whether there is a place for them.

use http::header::CONTENT_LENGTH;
use http::{Method, StatusCode, Version};

use super::{Answer, ResponseHead};
use crate::body::{Added, Trailing};
use crate::model::Trailers;
use crate::route::Route;
use crate::server::Protocol;
use crate::transaction::{Origin, Transaction};

/// Returns what comes behind an answer's body, for which there has to be a place: chunks in HTTP/1.1.
pub(super) fn of(transaction: &Transaction, route: &Route<'_>, answer: &mut Answer) -> Trailing {
    let settings = route.settings;
    let passing = match answer.kind.origin() {
        Origin::Server => route.proxy().relay.trailers,
        Origin::Own => Trailers::Dropped,
    };
    let added = match settings.add_trailers.iter().any(|added| added.when.holds(answer.status.as_u16())) {
        true => Added::Something,
        false => Added::Nothing,
    };
    if (passing == Trailers::Dropped && added == Added::Nothing)
        || transaction.parts.method == Method::HEAD
        || is_bodiless(answer.status)
    {
        return Trailing::Nothing;
    }
    if !matches!(transaction.session.protocol, Protocol::Stream(_)) {
        if transaction.parts.version != Version::HTTP_11 || !settings.connection.chunked {
            return Trailing::Nothing;
        }
        if added == Added::Something {
            answer.headers.remove(CONTENT_LENGTH);
        } else if answer.kind.exact_size().is_some() || answer.headers.contains_key(CONTENT_LENGTH) {
            return Trailing::Nothing;
        }
    }
    Trailing::new(passing, added)
}

/// Whether the end of a body can be told only by that of the connection, for want of chunks.
pub(super) fn closes_for_its_end(
    transaction: &Transaction,
    route: &Route<'_>,
    size: Option<u64>,
    head: &ResponseHead,
) -> bool {
    !route.settings.connection.chunked
        && size.is_none()
        && !head.headers.contains_key(CONTENT_LENGTH)
        && transaction.parts.version == Version::HTTP_11
        && transaction.parts.method != Method::HEAD
        && !is_bodiless(head.status)
}

/// Whether no body follows, whatever there is (RFC 9110, section 6.4.1).
pub(crate) fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}
