//! `sub_filter`: an answer in which texts are replaced.

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_TYPE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue};

use super::finish::weaken;
use crate::body::{Edited, Kind};
use crate::model::Substitution;
use crate::substitute::{Often, Substituter};
use crate::transaction::Origin;
use crate::variable::{Exchange, Value};

/// Replaces texts in an answer whose type is among those wanted; its size is not known any more then.
pub(super) fn edit(rules: &Substitution, exchange: &Exchange<'_>, headers: &mut HeaderMap, kind: &mut Kind) {
    // What only a head is asked of has a size and no body.
    let is_empty = match headers.get(CONTENT_LENGTH) {
        Some(length) => length == "0",
        None => kind.exact_size() == Some(0),
    };
    if is_empty || !rules.types.contain(headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes)) {
        return;
    }
    let text = |value: &Value| {
        let mut text = Vec::new();
        value.write(exchange, &mut text);
        text
    };
    let pairs: Vec<_> = rules.pairs.iter().map(|(old, new)| (text(old), text(new))).collect();
    if pairs.iter().all(|(text, _)| text.is_empty()) {
        return;
    }
    headers.remove(CONTENT_LENGTH);
    if kind.origin() == Origin::Own {
        headers.remove(ACCEPT_RANGES);
    }
    if rules.keeps_validators {
        weaken(headers);
    } else {
        headers.remove(LAST_MODIFIED);
        headers.remove(ETAG);
    }
    let often = if rules.once { Often::Once } else { Often::Always };
    let substituter = Substituter::new(pairs, often);
    let plain = std::mem::replace(kind, Kind::Whole(Bytes::new()));
    *kind = Kind::Edited(Box::new(Edited::new(plain, substituter)));
}
