//! What an explanation says of the steps of a request's way.

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};

use super::Answer;
use crate::body::Kind;
use crate::explain::{self, Trace};
use crate::fields;
use crate::model::{Matcher, Return, ReturnBody};
use crate::pages::Page;
use crate::route::{Route, Server};
use crate::transaction::{Transaction, request_uri};

/// Begins an explanation, if one is asked for by somebody who may.
pub(super) fn begin(transaction: &mut Transaction) {
    let parts = &transaction.parts;
    let peer = transaction.connection.peer.ip();
    if !fields::has(&parts.headers, &explain::FIELD) || !transaction.generation.site.router.explains_to(peer)
    {
        return;
    }
    let trace = Box::<Trace>::default();
    let (method, path) = (&parts.method, request_uri(parts));
    let (local, host) = (transaction.connection.local, &transaction.host);
    trace.add(&format!("{method} {path} for \"{host}\", from {peer} to {local}"));
    transaction.trace = Some(trace);
    // It is for us alone, so that what would be sent is told as it would be.
    transaction.parts.headers.remove(&explain::FIELD);
}

/// A server was found for the request's name.
pub(super) fn server(transaction: &Transaction, server: &Server) {
    transaction.tell(|| {
        let (names, place) = server.label();
        let reason = explain::reason(names, &transaction.host);
        let place = place.map(|place| format!(" in {place}")).unwrap_or_default();
        format!("server \"{}\"{place}: {reason}", server.name())
    });
}

/// A location was found for the path.
pub(super) fn location(transaction: &Transaction, server: &Server, route: &Route<'_>, path: &[u8]) {
    transaction.tell(|| {
        let path = path.escape_ascii();
        let Some(label) = server.location_label(route) else {
            return format!("no location matches {path}: a file under the server's root");
        };
        let reason = match label.matcher {
            Matcher::Exact(_) => "is the path",
            Matcher::Prefix(_) => "is the longest prefix, and no regular expression matches",
            Matcher::FinalPrefix(_) => "is the longest prefix, and ^~ asks no regular expression",
            Matcher::Regex(_) => "is the first regular expression that matches",
            Matcher::Named(_) => "was named",
        };
        let place = label.place.as_ref().map(|place| format!(" in {place}")).unwrap_or_default();
        format!("location {}{place}: {reason} (path {path})", label.matcher)
    });
}

/// A `return` answers.
pub(super) fn reply(transaction: &Transaction, reply: &Return) {
    transaction.tell(|| match &reply.body {
        ReturnBody::Page => format!("return {}", reply.status),
        ReturnBody::Text(_) => format!("return {} with a text", reply.status),
        ReturnBody::Location(_) => format!("return {} to another place", reply.status),
    });
}

/// Puts the explanation in the place of the answer.
pub(super) fn answer(transaction: &mut Transaction, answer: Answer) -> Answer {
    let Some(trace) = transaction.trace.take() else { return answer };
    match &answer.kind {
        Kind::File(file) => {
            let size = http_body::Body::size_hint(file).exact().unwrap_or(0);
            trace.add(&format!("answer: {} with {size} bytes of the file", answer.status.as_u16()));
        }
        Kind::Whole(_) if answer.status == ASKED => {}
        _ => trace.add(&format!("answer: {}", answer.status.as_u16())),
    }
    let mut explained = Answer::page(Page {
        status: StatusCode::OK,
        content_type: Some(HeaderValue::from_static("text/plain; charset=utf-8")),
        location: None,
        body: Bytes::from(trace.into_text()),
    });
    explained.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    explained
}

/// Stands for the answer of a server that was not asked.
pub(super) fn asked() -> Answer {
    Answer::page(Page { status: ASKED, content_type: None, location: None, body: Bytes::new() })
}

const ASKED: StatusCode = StatusCode::PROCESSING;
