//! The fields of a request on its way to a server, and of a response on its way back.
//!
//! A field is forwarded unless it belongs to one connection (RFC 9110, section 7.6.1), because it
//! is such a field or because `Connection` says so; requests are given what `proxy_set_header` says
//! in place of the client's own.

use http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SERVER, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::model::{HttpVersion, ProxySettings, SetHeader};
use crate::variable::Exchange;

/// How a request's body is framed for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// As the client said: a length, or no body.
    AsSent,
    /// In chunks, for the client sends chunks.
    Chunked,
}

/// Whether a connection is to be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reuse {
    Kept,
    Once,
}

/// Fills `headers` with the fields of a forwarded request.
pub(super) fn request(
    exchange: &Exchange<'_>,
    settings: &ProxySettings,
    framing: Framing,
    reuse: Reuse,
    headers: &mut HeaderMap,
    scratch: &mut Vec<u8>,
) {
    let client = exchange.headers;
    headers.reserve(client.len() + settings.set_headers.len() + 2);
    let set = settings.set_headers.iter().filter(|set| !frames(&set.name));
    for SetHeader { name, value, .. } in set {
        if let Some(value) = value.header(exchange, scratch) {
            headers.append(name, value);
        }
    }
    let nominated = nominated(client);
    for (name, value) in client {
        let passes = !is_of_one_connection(name)
            && !is_of_one_hop(name)
            && !nominated.contains(name)
            && is_unambiguous(name)
            && !settings.set_headers.iter().any(|set| set.name == *name);
        if passes {
            headers.append(name, value.clone());
        }
    }
    if framing == Framing::Chunked {
        headers.remove(CONTENT_LENGTH);
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let once = reuse == Reuse::Once || settings.http_version == HttpVersion::Http10;
    if once && !settings.set_headers.iter().any(|set| set.name == CONNECTION) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Takes from a response what is not for the client: fields of the connection to the server, and
/// those that we write ourselves or that the server meant for us (nginx hides the same).
pub(super) fn strip_response(headers: &mut HeaderMap) {
    for name in nominated(headers) {
        // A server cannot take away what frames its own answer.
        if name != CONTENT_LENGTH {
            headers.remove(name);
        }
    }
    // One look at each name is cheaper than a search for each that might be there.
    let not_for_the_client = |name: &&HeaderName| {
        is_of_one_connection(name)
            || [&DATE, &SERVER, &PROXY_AUTHENTICATE, &X_PAD].contains(name)
            || name.as_str().starts_with("x-accel-")
    };
    while let Some(name) = headers.keys().find(not_for_the_client).cloned() {
        headers.remove(name);
    }
}

/// What a response must not say about its own length.
///
/// # Errors
/// In nginx's words, if it says it in two ways, or in one that nobody can read.
pub(super) fn check_response_framing(headers: &HeaderMap) -> Result<(), &'static str> {
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(encoding) = encodings.next() else { return Ok(()) };
    if encodings.next().is_some() || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err("upstream sent unknown \"Transfer-Encoding\"");
    }
    if headers.contains_key(CONTENT_LENGTH) {
        return Err("upstream sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time");
    }
    Ok(())
}

/// The fields that `Connection` names as belonging to the connection.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let mut names = Vec::new();
    for value in headers.get_all(CONNECTION) {
        for token in value.as_bytes().split(|&byte| byte == b',') {
            let token = token.trim_ascii();
            if token.is_empty()
                || token.eq_ignore_ascii_case(b"close")
                || token.eq_ignore_ascii_case(b"keep-alive")
                || token.eq_ignore_ascii_case(b"upgrade")
            {
                continue;
            }
            if let Ok(name) = HeaderName::from_bytes(token) {
                names.push(name);
            }
        }
    }
    // A client cannot have the name it asked for taken away, nor what frames its request.
    names.retain(|name| *name != HOST && *name != CONTENT_LENGTH);
    names
}

/// Whether a field says how a message is framed, which only whoever writes it knows.
fn frames(name: &HeaderName) -> bool {
    *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING
}

/// Whether a field belongs to the connection it was received on.
fn is_of_one_connection(name: &HeaderName) -> bool {
    *name == CONNECTION
        || *name == TRANSFER_ENCODING
        || *name == TE
        || *name == TRAILER
        || *name == UPGRADE
        || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
}

/// Whether a field of a request was for us alone. `Proxy` is none at all, but a CGI script finds
/// it in its environment as the proxy to use.
fn is_of_one_hop(name: &HeaderName) -> bool {
    *name == EXPECT || *name == PROXY_AUTHORIZATION || *name == PROXY
}

/// Whether a name means the same to every server.
///
/// To many, `X_Forwarded_For` and `X-Forwarded-For` are one variable; so nginx does not forward
/// names with anything but letters, digits and hyphens.
fn is_unambiguous(name: &HeaderName) -> bool {
    name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY: HeaderName = HeaderName::from_static("proxy");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
static X_PAD: HeaderName = HeaderName::from_static("x-pad");

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        headers.keys().map(HeaderName::as_str).collect()
    }

    #[test]
    fn fields_that_connection_names_stay_behind() {
        let mut headers = headers(&[
            ("connection", "keep-alive, X-Hop , content-length"),
            ("x-hop", "1"),
            ("content-length", "3"),
            ("x-end", "2"),
        ]);
        strip_response(&mut headers);
        assert_eq!(names(&headers), ["content-length", "x-end"]);
    }

    #[test]
    fn what_the_server_meant_for_us_stays_behind() {
        let mut headers = headers(&[
            ("server", "x"),
            ("x-accel-redirect", "/secret"),
            ("x-accel-buffering", "no"),
            ("keep-alive", "timeout=5"),
            ("content-type", "text/html"),
        ]);
        strip_response(&mut headers);
        assert_eq!(names(&headers), ["content-type"]);
    }

    #[test]
    fn response_with_two_lengths_is_refused() {
        let check = |fields: &[_]| check_response_framing(&headers(fields)).is_ok();
        assert!(check(&[]));
        assert!(check(&[("content-length", "3")]));
        assert!(check(&[("transfer-encoding", "Chunked")]));
        assert!(!check(&[("transfer-encoding", "chunked"), ("content-length", "3")]));
        assert!(!check(&[("transfer-encoding", "gzip, chunked")]));
        assert!(!check(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]));
    }
}
