//! From an answer to a response: what every response has, and what the location adds.

use std::rc::Rc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, ETAG, SERVER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use hyper::ext::ReasonPhrase;

use super::{Answer, exchange};
use crate::body::{Body, Kind};
use crate::model::ErrorPageStatus;
use crate::pages;
use crate::route::{Route, Server};
use crate::server::{Carrier, Order, Protocol};
use crate::transaction::Transaction;
use crate::uri::Target;
use crate::variable::{Completion, Exchange, Response as Answered};

/// Makes the response of an answer: what every response has, and what the location adds.
pub(super) fn finish(
    mut transaction: Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
    mut answer: Answer,
    error_page: Option<ErrorPageStatus>,
) -> Response<Body> {
    let settings = route.settings;
    if let Some(ErrorPageStatus::Set(status)) = error_page
        && let Ok(status) = StatusCode::from_u16(status)
    {
        answer.status = status;
        answer.extensions.remove::<ReasonPhrase>();
    }
    let headers = &mut answer.headers;
    headers.insert(SERVER, pages::server_field(settings.server_tokens));
    if !settings.add_headers.is_empty() {
        add_headers(&transaction, server, route, target, answer.status, headers);
    }
    if let Kind::File(_) = &answer.kind
        && headers.contains_key(ETAG)
    {
        transaction.session.spelling.note("ETag");
    }
    transaction.session.spelling.expect_head();
    if answer.tunnel.is_none() {
        persist(&transaction, route, answer.status, headers);
    }
    if transaction.parts.method == Method::HEAD
        && let Kind::Whole(bytes) = &mut answer.kind
        && !bytes.is_empty()
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        *bytes = Bytes::new();
    }
    let session = Rc::clone(&transaction.session);
    let mut response = Response::new(());
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    *response.extensions_mut() = answer.extensions;
    let (head, ()) = response.into_parts();
    // It has to outlive this call only for its line in the log.
    let size = answer.kind.exact_size();
    let mut transaction = (!settings.access_log.is_empty()).then(|| {
        transaction.answer(&head, size);
        Box::new(transaction)
    });
    if let Some(mut tunnel) = answer.tunnel {
        tunnel.keep(transaction.take());
        session.change_protocol(tunnel);
    }
    Response::from_parts(head, Body::new(answer.kind, session, transaction))
}

/// Adds what `add_header` says.
fn add_headers(
    transaction: &Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
    status: StatusCode,
    headers: &mut HeaderMap,
) {
    let status = status.as_u16();
    let mut scratch = Vec::new();
    for add in route.settings.add_headers.iter().filter(|add| add.when.holds(status)) {
        let answered = Answered {
            status,
            headers,
            upstream_headers: Some(headers),
            trailers: None,
            upstream_trailers: None,
            body_bytes_sent: 0,
            bytes_sent: 0,
            completion: Completion::Partial,
        };
        let exchange = exchange(transaction, server, route, target);
        let exchange = Exchange { response: Some(answered), ..exchange };
        // What frames the answer is not the configuration's to say.
        if add.name == CONTENT_LENGTH || add.name == TRANSFER_ENCODING || add.name == CONNECTION {
            continue;
        }
        if let Some(value) = add.value.header(&exchange, &mut scratch) {
            headers.append(add.name.clone(), value);
            transaction.session.spelling.note(&add.written);
        }
    }
}

/// Says whether the connection is kept; hyper does as the field says.
fn persist(transaction: &Transaction, route: &Route<'_>, status: StatusCode, headers: &mut HeaderMap) {
    let session = &transaction.session;
    let connection = &route.settings.connection;
    let worn = connection.keepalive_timeout.is_none()
        || session.requests() >= connection.keepalive_requests
        || session.age() >= connection.keepalive_time;
    if let Protocol::Stream(Carrier(whole)) = &session.protocol {
        // HTTP/2 says it by a frame of its own, and knows no `Connection`.
        if worn && whole.order() == Order::Serve {
            whole.command(Order::Finish);
        }
        return;
    }
    let over = session.order() != Order::Serve || worn || ends_connection(status);
    if over {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    } else if let Some(time) = connection.keepalive_header {
        let value = format!("timeout={}", time.as_secs());
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(&KEEP_ALIVE, value);
        }
    }
}

/// Statuses after which nginx does not trust the connection any more.
fn ends_connection(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 413 | 414 | 500 | 501)
}

/// Where nginx's words for a status are not the registered ones.
pub(super) fn reason(status: StatusCode) -> Option<&'static [u8]> {
    Some(match status.as_u16() {
        302 => b"Moved Temporarily",
        405 => b"Not Allowed",
        408 => b"Request Time-out",
        413 => b"Request Entity Too Large",
        414 => b"Request-URI Too Large",
        416 => b"Requested Range Not Satisfiable",
        503 => b"Service Temporarily Unavailable",
        504 => b"Gateway Time-out",
        _ => return None,
    })
}

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
