//! From an answer to a response: what every response has, and what the location adds.

use std::rc::Rc;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, EXPIRES,
    Entry, LAST_MODIFIED, LOCATION, SERVER, SET_COOKIE, TRANSFER_ENCODING, USER_AGENT, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use hyper::ext::ReasonPhrase;

use super::{
    Answer, Aside, Persistence, Response, ResponseHead, charset, edit, exchange, expires, trailing, userid,
};
use crate::body::{Body, Kind, Packed, Unpacked};
use crate::model::{ConnectionSettings, ErrorPageStatus, Expires, Gzip, Prepared, UserIdMode};
use crate::pages;
use crate::route::{Route, Server};
use crate::server::{Carrier, Order, Protocol};
use crate::static_file::{Describing, Form};
use crate::transaction::{Origin, Transaction};
use crate::uri::Target;
use crate::variable::{Exchange, Response as Answered, Value};
use crate::{conf, encoding, fields};

/// Makes the response of an answer: what every response has, and what the location adds.
pub(super) fn finish(
    mut transaction: Box<Transaction>,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
    mut answer: Answer,
    error_page: Option<ErrorPageStatus>,
) -> Response {
    let settings = route.settings;
    // What became of the request for a file that is served in place of an error stays: 206 or 304.
    let of_file = matches!(answer.kind, Kind::File(_)) && answer.status != StatusCode::OK;
    if let Some(ErrorPageStatus::Set(status)) = error_page
        && let Ok(status) = StatusCode::from_u16(status)
        && !of_file
    {
        answer.status = status;
        match reason(status) {
            Some(words) => _ = answer.extensions.insert(ReasonPhrase::from_static(words)),
            None => _ = answer.extensions.remove::<ReasonPhrase>(),
        }
    }
    let headers = &mut answer.headers;
    // Otherwise nearly all there is to say is said.
    let mut aside = Aside::default();
    if answer.kind.head().is_none() {
        let server = pages::signature(settings.server_tokens);
        if says_aside(&transaction) {
            aside.server = Some(server).filter(|_| !headers.keys().any(|name| *name == SERVER));
        } else if let Entry::Vacant(place) = headers.entry(SERVER) {
            place.insert(HeaderValue::from_static(server));
        }
    }
    if let Some(carried) = transaction.carried.take() {
        carry(*carried, headers);
    }
    if !matches!(settings.expires, Expires::Off) {
        let exchange = exchange_with(&transaction, server, route, target, answer.status, headers);
        let said = expires::of(&settings.expires, &exchange, answer.status.as_u16(), headers);
        if let Some((date, control)) = said {
            headers.insert(EXPIRES, date);
            headers.insert(CACHE_CONTROL, control);
        }
    }
    if answer.status == StatusCode::NO_CONTENT && answer.kind.origin() == Origin::Own {
        // There is nothing that could be of a type, or be changed; what a server says is its own affair.
        headers.remove(CONTENT_TYPE);
        headers.remove(LAST_MODIFIED);
    }
    if !settings.add_headers.is_empty() {
        add_headers(&transaction, server, route, target, answer.status, headers);
    }
    if settings.userid.mode != UserIdMode::Off {
        let cookie = userid::of(&exchange(&transaction, server, route, target));
        if let Some(cookie) = cookie {
            userid::add(&settings.userid, cookie, headers);
            transaction.session.spelling.note("P3P");
        }
    }
    if settings.gzip.unpacks {
        unpack(&transaction, &settings.gzip, headers, &mut answer.kind);
    }
    if !settings.substitution.pairs.is_empty() {
        let before = headers.clone();
        let exchange = exchange_with(&transaction, server, route, target, answer.status, &before);
        // What was added is another location's.
        let kind = match &mut answer.kind {
            Kind::Joined(joined) => joined.inner(),
            kind => kind,
        };
        edit::edit(&settings.substitution, &exchange, headers, kind);
    }
    if settings.charset.name.is_some() || transaction.charset.is_some() {
        let before = headers.clone();
        let exchange = exchange_with(&transaction, server, route, target, answer.status, &before);
        charset::add(&transaction, server, &settings.charset, &exchange, headers, &mut answer.kind);
    }
    if settings.gzip.on || settings.gzip.prepared != Prepared::Off {
        let form = answer.extensions.remove::<Form>().unwrap_or(Form::Only);
        compress(&transaction, &settings.gzip, answer.status, headers, &mut answer.kind, form);
    }
    if answer.tunnel.is_none() {
        aside.persistence = persist(&transaction, route, answer.status, headers);
    }
    if transaction.parts.method == Method::HEAD
        && let Kind::Whole(bytes) = &mut answer.kind
        && !bytes.is_empty()
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        *bytes = Bytes::new();
    }
    let trailing = trailing::of(&transaction, route, &mut answer);
    transaction.session.worker.count_response(answer.status);
    let rate = rate(&transaction, server, route, target, &answer);
    let session = Rc::clone(&transaction.session);
    let Answer { status, headers, extensions, kind, tunnel } = answer;
    let mut head = ResponseHead { status, version: Version::HTTP_11, headers, extensions, aside };
    // It has to outlive this call only for its lines in the logs, for trailers, for what limits count, and for what
    // comes afterwards.
    let size = kind.exact_size();
    if trailing::closes_for_its_end(&transaction, route, size, &head) {
        // What is not written in chunks.
        head.version = Version::HTTP_10;
    }
    let may_break_off = kind.may_break_off();
    transaction.is_answered(head.status);
    let outlives = !settings.access_log.is_empty()
        || may_break_off
        || !settings.add_trailers.is_empty()
        || !transaction.places.is_empty()
        || settings.post_action.is_some();
    let mut transaction = outlives.then(|| {
        transaction.answer(&head, size, kind.head().map_or(0, <[u8]>::len));
        transaction
    });
    if let Some(mut tunnel) = tunnel {
        tunnel.keep(transaction.take());
        session.change_protocol(tunnel);
    }
    let mut body = Body::new(kind, session, transaction);
    body.limit(rate.most, rate.free);
    body.trail(trailing);
    Response { head, body }
}

/// Returns how a file has to be described that is answered with: by fields wherever one of them may be
/// looked at or changed before they go out.
pub(super) fn describing(
    transaction: &Transaction,
    route: &Route<'_>,
    error_page: Option<ErrorPageStatus>,
) -> Describing {
    if matches!(error_page, Some(ErrorPageStatus::Set(status)) if status != 200) {
        return Describing::ErrorPage;
    }
    let settings = route.settings;
    let of_one_connection =
        matches!(transaction.session.protocol, Protocol::Http1 | Protocol::Http1InTheClear);
    let looked_at = transaction.generation.site.router.needs().sent_fields
        || expires::looks(&settings.expires)
        || settings.add_headers.iter().any(|add| REPLACED.contains(&add.name))
        || !settings.add_trailers.is_empty()
        || settings.gzip.on
        || !settings.substitution.pairs.is_empty()
        || !settings.addition.is_empty()
        || settings.gzip.unpacks
        || settings.gzip.prepared != Prepared::Off
        || settings.charset.name.is_some()
        || transaction.charset.is_some()
        || transaction.carried.is_some();
    if of_one_connection && !looked_at { Describing::Text } else { Describing::Fields }
}

/// Compresses an answer if that is wanted, and says that it depends on what the client takes.
fn compress(
    transaction: &Transaction,
    gzip: &Gzip,
    status: StatusCode,
    headers: &mut HeaderMap,
    kind: &mut Kind,
    form: Form,
) {
    let parts = &transaction.parts;
    let mut varies = form == Form::Chosen;
    let is_head = parts.method == Method::HEAD;
    let told = || headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    let size = || match kind {
        // What a server does not send, for nobody has asked for it.
        Kind::Relayed(_) if is_head => told(),
        _ => told().or_else(|| kind.exact_size()),
    };
    let suits = gzip.on
        && matches!(status.as_u16(), 200 | 403 | 404)
        && !headers.contains_key(CONTENT_ENCODING)
        && gzip.types.contain(headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes))
        && size().is_none_or(|size| size >= gzip.min_length);
    if suits {
        varies = true;
        if encoding::takes_gzip(gzip, parts.version, &parts.headers, headers) {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            headers.remove(CONTENT_LENGTH);
            headers.remove(ACCEPT_RANGES);
            weaken(headers);
            match kind {
                Kind::Whole(bytes) if is_head => bytes.clear(),
                // Without a body as it is.
                _ if is_head => {}
                _ => {
                    let plain = std::mem::replace(kind, Kind::Whole(Bytes::new()));
                    *kind = Kind::Packed(Box::new(Packed::new(plain, gzip.level)));
                }
            }
        }
    }
    if varies && gzip.vary {
        headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// Unpacks what was compressed for a client that does not take it so.
fn unpack(transaction: &Transaction, gzip: &Gzip, headers: &mut HeaderMap, kind: &mut Kind) {
    if headers.get(CONTENT_ENCODING).is_none_or(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"gzip")) {
        return;
    }
    if gzip.vary {
        headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    let parts = &transaction.parts;
    if encoding::takes_gzip(gzip, parts.version, &parts.headers, headers) {
        return;
    }
    headers.remove(CONTENT_ENCODING);
    headers.remove(CONTENT_LENGTH);
    headers.remove(ACCEPT_RANGES);
    weaken(headers);
    let packed = std::mem::replace(kind, Kind::Whole(Bytes::new()));
    *kind = Kind::Unpacked(Box::new(Unpacked::new(packed)));
}

/// Makes a validator say that the content is the same and its bytes may not be.
pub(super) fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")) else { return };
    match HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        Ok(weak) => _ = headers.insert(ETAG, weak),
        Err(_) => _ = headers.remove(ETAG),
    }
}

/// How fast an answer is sent.
#[derive(Clone, Copy, Default)]
struct Rate {
    /// Bytes per second; 0 sets no limit.
    most: u64,
    /// Bytes that go before that holds.
    free: u64,
}

/// Returns how fast an answer is sent at most.
fn rate(
    transaction: &Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
    answer: &Answer,
) -> Rate {
    let settings = route.settings;
    let read = |value: &Value| {
        let exchange = exchange_with(transaction, server, route, target, answer.status, &answer.headers);
        let mut text = Vec::new();
        let text = std::str::from_utf8(value.bytes(&exchange, &mut text)).ok();
        text.and_then(conf::parse_size).unwrap_or(0)
    };
    let to_client = match transaction.findings.limit_rate {
        Some(rate) => rate,
        None => settings.limit_rate.as_ref().map_or(0, read),
    };
    let from_server = match (&answer.kind, &route.proxy().limit_rate) {
        (Kind::Relayed(_), Some(value)) => read(value),
        _ => 0,
    };
    let Some(most) = [to_client, from_server].into_iter().filter(|&rate| rate > 0).min() else {
        return Rate::default();
    };
    let free = if to_client == most { settings.limit_rate_after.as_ref().map_or(0, read) } else { 0 };
    Rate { most, free }
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
    let mut scratch = Vec::new();
    for add in route.settings.add_headers.iter().filter(|add| add.when.holds(status.as_u16())) {
        // What frames the answer is not the configuration's to say.
        if add.name == CONTENT_LENGTH || add.name == TRANSFER_ENCODING || add.name == CONNECTION {
            continue;
        }
        let exchange = exchange_with(transaction, server, route, target, status, headers);
        let value = add.value.header(&exchange, &mut scratch);
        if REPLACED.contains(&add.name) {
            headers.remove(&add.name);
        }
        if let Some(value) = value {
            headers.append(add.name.clone(), value);
            transaction.session.spelling.note(&add.written);
        }
    }
}

/// Fields of which there is one: that of the configuration takes the place of any other, and an
/// empty one takes it away.
const REPLACED: [HeaderName; 2] = [LAST_MODIFIED, ETAG];

/// What variables are read from when the head of the answer is known.
pub(super) fn exchange_with<'a>(
    transaction: &'a Transaction,
    server: &'a Server,
    route: &Route<'a>,
    target: &'a Target<'a>,
    status: StatusCode,
    headers: &'a HeaderMap,
) -> Exchange<'a> {
    let upstream_headers = transaction.upstream_headers.as_deref();
    let answered = Answered { upstream_headers, ..Answered::begun(status.as_u16(), headers) };
    Exchange { response: Some(answered), ..exchange(transaction, server, route, target) }
}

/// Adds the fields that stayed when another location took a server's place.
fn carry(carried: HeaderMap, headers: &mut HeaderMap) {
    let mut last = None;
    for (name, value) in carried {
        let first = name.is_some();
        let Some(name) = name.or(last) else { break };
        // What the server said of the content holds in place of what we would; where an error leads does not
        // hold against where its page leads.
        let is_beaten = name == LOCATION && headers.contains_key(LOCATION);
        if first && name != SET_COOKIE && !is_beaten {
            headers.insert(&name, value);
        } else if !is_beaten {
            headers.append(&name, value);
        }
        last = Some(name);
    }
}

/// Whether what a connection's writer knows best is left to it: where no variable shows it.
fn says_aside(transaction: &Transaction) -> bool {
    matches!(transaction.session.protocol, Protocol::Http1 | Protocol::Http1InTheClear)
        && !transaction.generation.site.router.needs().sent_fields
}

/// Says whether the connection is kept, in a field or by what is returned; whoever writes the answer does as
/// it says.
fn persist(
    transaction: &Transaction,
    route: &Route<'_>,
    status: StatusCode,
    headers: &mut HeaderMap,
) -> Option<Persistence> {
    let session = &transaction.session;
    let connection = &route.settings.connection;
    let worn = connection.keepalive_timeout.is_none()
        || session.requests() >= connection.keepalive_requests
        || session.age() >= connection.keepalive_time;
    if let Protocol::Stream(Carrier { connection: whole, .. }) = &session.protocol {
        // HTTP/2 says it by a frame of its own, and knows no `Connection`.
        if worn && whole.order() == Order::Serve {
            whole.command(Order::Finish);
        }
        return None;
    }
    let parts = &transaction.parts;
    let over = session.order() != Order::Serve
        || worn
        // It may send the body that it was not told to send, or not.
        || session.expects_word()
        || ends_connection(status)
        || !is_wanted(parts)
        || is_disabled(connection, parts);
    let persistence = if over { Persistence::Closed } else { Persistence::Kept };
    let aside = says_aside(transaction);
    if !aside {
        headers.insert(CONNECTION, HeaderValue::from_static(persistence.as_str()));
    }
    if !over && let Some(time) = connection.keepalive_header {
        let value = format!("timeout={}", time.as_secs());
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(&KEEP_ALIVE, value);
        }
    }
    aside.then_some(persistence)
}

/// Whether the client wants the connection kept.
fn is_wanted(parts: &Parts) -> bool {
    match parts.version {
        Version::HTTP_11 => !fields::connection_says(&parts.headers, "close"),
        _ => fields::connection_says(&parts.headers, "keep-alive"),
    }
}

/// Whether the client is a browser that keep-alive is off for.
fn is_disabled(connection: &ConnectionSettings, parts: &Parts) -> bool {
    let disabled = connection.keepalive_disabled;
    let posts = disabled.msie6 && parts.method == Method::POST;
    if !posts && !disabled.safari {
        return false;
    }
    let Some(agent) = parts.headers.get(USER_AGENT).map(HeaderValue::as_bytes) else { return false };
    let has = |text: &str| memchr::memmem::find(agent, text.as_bytes()).is_some();
    let old_msie = || has("MSIE 4.") || has("MSIE 5.") || has("MSIE 6.");
    (posts && old_msie()) || (disabled.safari && has("Mac OS X") && has("Safari/") && !has("Chrome/"))
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
