//! Early words of servers (status 103) on their way to the client (`early_hints`).
//!
//! A client of HTTP/1.1 gets the names as the server has spelled them.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::headers;
use crate::handle::exchange;
use crate::model::Relay;
use crate::route::{Route, Server};
use crate::server::{Protocol, Session};
use crate::transaction::Transaction;
use crate::upstream::Hint;
use crate::uri::Target;

/// Whether the client of a request gets early words.
pub(super) fn are_wanted(
    transaction: &Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
) -> bool {
    let conditions = &route.settings.early_hints;
    if conditions.is_empty() || transaction.asks() || !transaction.takes_interim_answers() {
        return false;
    }
    let exchange = exchange(transaction, server, route, target);
    let mut text = Vec::new();
    conditions.iter().any(|condition| !matches!(condition.bytes(&exchange, &mut text), b"" | b"0"))
}

/// Hands an early word over to be written, without the fields that are not for the client.
pub(super) fn pass(session: &Session, relay: &Relay, fields: &[Hint<'_>]) {
    let mut head = b"HTTP/1.1 103 Early Hints\r\n".to_vec();
    let mut map = HeaderMap::new();
    let is_stream = matches!(session.protocol, Protocol::Stream(_));
    for (written, value) in fields {
        let Ok(name) = HeaderName::from_bytes(written) else { continue };
        if relay.is_hidden(&name) || !headers::is_end_to_end(&name) || headers::frames(&name) {
            continue;
        }
        let Ok(checked) = HeaderValue::from_bytes(value) else { continue };
        if is_stream {
            map.append(name, checked);
            continue;
        }
        for piece in [written, &b": "[..], value, b"\r\n"] {
            head.extend_from_slice(piece);
        }
    }
    if is_stream {
        return session.hint_early(map);
    }
    head.extend_from_slice(b"\r\n");
    session.hint(&head);
}
