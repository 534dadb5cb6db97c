//! Answers that need neither a file nor a server: built-in pages, `return`, redirects.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::model::{Return, ReturnBody, ServerTokens};
use crate::uri;
use crate::variable::{Exchange, Response};

/// An answer that is known whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The status.
    pub status: StatusCode,
    /// `Content-Type`; `None` where there is no body, or no type for it.
    pub content_type: Option<HeaderValue>,
    /// `Location` of a redirect.
    pub location: Option<HeaderValue>,
    /// The body.
    pub body: Bytes,
}

/// What a `return` amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replied {
    /// This answer; `error_page` does not apply.
    Page(Page),
    /// The answer of this status, which an `error_page` may replace.
    Status(u16),
    /// The connection is closed without an answer (444).
    Close,
}

/// Returns the built-in answer of a status: a small page, or an empty body where nginx has none.
///
/// A status that cannot be sent becomes 500. nginx's own numbers for faults of a request
/// (494 to 497) are sent as 400.
pub fn built_in(status: u16, tokens: ServerTokens) -> Page {
    static PAGES: LazyLock<HashMap<(u16, ServerTokens), Bytes>> = LazyLock::new(|| {
        let all = |tokens| TITLES.iter().map(move |&(status, title)| ((status, tokens), body(title, tokens)));
        all(ServerTokens::On).chain(all(ServerTokens::Off)).collect()
    });
    let body = PAGES.get(&(status, tokens)).cloned();
    let sent = if matches!(status, 494..=497) { 400 } else { status };
    Page {
        status: StatusCode::from_u16(sent).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        content_type: body.is_some().then(|| HeaderValue::from_static("text/html")),
        location: None,
        body: body.unwrap_or_default(),
    }
}

/// Makes the page of an error longer where the browser of this `User-Agent` would show one of its own in
/// place of a short one: Internet Explorer and Chrome, as nginx knows them.
pub(crate) fn pad(page: &mut Page, agent: &[u8]) {
    let has = |text: &str| memchr::memmem::find(agent, text.as_bytes()).is_some();
    let is_explorer = || memchr::memmem::find(agent, b"MSIE ").is_some_and(|at| at + 7 < agent.len());
    let is_chrome = || has("Chrome/") && !has("Gecko/");
    if page.status.as_u16() < 400 || page.body.is_empty() || has("Opera") || !(is_explorer() || is_chrome()) {
        return;
    }
    let mut body = page.body.to_vec();
    (0..6).for_each(|_| body.extend_from_slice(PADDING));
    page.body = body.into();
}

/// Returns what a `return` answers.
pub fn reply(reply: &Return, exchange: &Exchange<'_>, scratch: &mut Vec<u8>) -> Replied {
    let tokens = exchange.settings.server_tokens;
    match &reply.body {
        ReturnBody::Page if reply.status == 444 => Replied::Close,
        ReturnBody::Text(text) if text.is_empty() && reply.status == 444 => Replied::Close,
        ReturnBody::Page if !matches!(reply.status, 200..=203 | 205..=299) => Replied::Status(reply.status),
        // As if nothing had been written: an error has its page.
        ReturnBody::Text(text) if text.is_empty() && reply.status >= 400 => Replied::Status(reply.status),
        ReturnBody::Page => {
            Replied::Page(Page { content_type: media_type(exchange), ..built_in(reply.status, tokens) })
        }
        ReturnBody::Text(text) => {
            let none = HeaderMap::new();
            let status = exchange.findings.error_status.unwrap_or(reply.status);
            let exchange = &Exchange { response: Some(Response::begun(status, &none)), ..*exchange };
            let body = Bytes::copy_from_slice(text.bytes(exchange, scratch));
            let page = built_in(reply.status, tokens);
            Replied::Page(Page { content_type: media_type(exchange), body, ..page })
        }
        ReturnBody::Location(place) => {
            let place = place.bytes(exchange, scratch);
            let page = match std::str::from_utf8(place) {
                Ok(place) => redirect(reply.status, place, exchange),
                Err(_) => HeaderValue::from_bytes(place)
                    .ok()
                    .map(|location| Page { location: Some(location), ..built_in(reply.status, tokens) }),
            };
            page.map_or(Replied::Status(500), Replied::Page)
        }
    }
}

/// Returns the type of a text of ours: that of a file of the request's name.
fn media_type(exchange: &Exchange<'_>) -> Option<HeaderValue> {
    let files = &exchange.settings.files;
    files.types.of(exchange.target.path()).or(files.default_type.as_ref()).cloned()
}

/// Returns the redirect to the request's path with a slash at its end, or `None` if that cannot be
/// written.
///
/// For a directory, and for a forwarding location whose path lacks its slash.
pub fn add_slash(exchange: &Exchange<'_>) -> Option<Page> {
    let mut place = String::new();
    uri::escape(exchange.target.path(), &mut place);
    place.push('/');
    if let Some(args) = exchange.target.args().filter(|args| !args.is_empty()) {
        place.push('?');
        place.push_str(args);
    }
    redirect(301, &place, exchange)
}

/// Returns a redirect to `place`, made absolute if it is a path of ours; `None` if it holds what a
/// field must not hold.
pub fn redirect(status: u16, place: &str, exchange: &Exchange<'_>) -> Option<Page> {
    let page = built_in(status, exchange.settings.server_tokens);
    Some(Page { location: Some(absolute(place, exchange)?), ..page })
}

/// Returns a place for `Location`: a path of ours with scheme and host in front of it.
pub(crate) fn absolute(place: &str, exchange: &Exchange<'_>) -> Option<HeaderValue> {
    let redirects = &exchange.settings.redirects;
    if !place.starts_with('/') || !redirects.absolute {
        return HeaderValue::from_str(place).ok();
    }
    let scheme = exchange.connection.scheme;
    let local = exchange.connection.local;
    let name = match (exchange.host, exchange.server_name) {
        (_, name) if redirects.server_name && !name.is_empty() => name.to_owned(),
        (host, _) if !host.is_empty() => host.to_owned(),
        _ if local.is_ipv6() => format!("[{}]", local.ip()),
        _ => local.ip().to_string(),
    };
    let port = if redirects.port && local.port() != scheme.default_port() {
        format!(":{}", local.port())
    } else {
        String::new()
    };
    HeaderValue::from_str(&format!("{}://{name}{port}{place}", scheme.as_str())).ok()
}

/// Returns a place as it can stand in `Location`: what no URL may hold is escaped.
pub(crate) fn escape_location(place: &[u8]) -> String {
    let mut text = String::with_capacity(place.len());
    for &byte in place {
        match byte {
            ..=b' ' | 0x7f.. | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                _ = write!(text, "%{byte:02X}");
            }
            byte => text.push(char::from(byte)),
        }
    }
    text
}

/// How we name ourselves, in the field `Server` and on pages.
pub fn signature(tokens: ServerTokens) -> &'static str {
    match tokens {
        ServerTokens::On => concat!("l7-proxy/", env!("CARGO_PKG_VERSION")),
        ServerTokens::Off => "l7-proxy",
    }
}

fn body(title: &str, tokens: ServerTokens) -> Bytes {
    let signature = signature(tokens);
    // nginx's numbers for faults of a request say in a second line which.
    let (title, heading, detail) = match title.split_once('|') {
        Some((heading, detail)) => {
            (format!("400 {detail}"), heading, format!("<center>{detail}</center>\r\n"))
        }
        None => (title.to_owned(), title, String::new()),
    };
    Bytes::from(format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{heading}</h1></center>\r\n\
         {detail}<hr><center>{signature}</center>\r\n</body>\r\n</html>\r\n"
    ))
}

/// The statuses that have a page, in nginx's words; scripts look for them.
const TITLES: [(u16, &str); 38] = [
    (301, "301 Moved Permanently"),
    (302, "302 Found"),
    (303, "303 See Other"),
    (307, "307 Temporary Redirect"),
    (308, "308 Permanent Redirect"),
    (400, "400 Bad Request"),
    (401, "401 Authorization Required"),
    (402, "402 Payment Required"),
    (403, "403 Forbidden"),
    (404, "404 Not Found"),
    (405, "405 Not Allowed"),
    (406, "406 Not Acceptable"),
    (408, "408 Request Time-out"),
    (409, "409 Conflict"),
    (410, "410 Gone"),
    (411, "411 Length Required"),
    (412, "412 Precondition Failed"),
    (413, "413 Request Entity Too Large"),
    (414, "414 Request-URI Too Large"),
    (415, "415 Unsupported Media Type"),
    (416, "416 Requested Range Not Satisfiable"),
    (417, "417 Expectation Failed"),
    (421, "421 Misdirected Request"),
    (426, "426 Upgrade Required"),
    (429, "429 Too Many Requests"),
    (431, "431 Request Header Fields Too Large"),
    (494, "400 Bad Request|Request Header Or Cookie Too Large"),
    (495, "400 Bad Request|The SSL certificate error"),
    (496, "400 Bad Request|No required SSL certificate was sent"),
    (497, "400 Bad Request|The plain HTTP request was sent to HTTPS port"),
    (500, "500 Internal Server Error"),
    (501, "501 Not Implemented"),
    (502, "502 Bad Gateway"),
    (503, "503 Service Temporarily Unavailable"),
    (504, "504 Gateway Time-out"),
    (505, "505 HTTP Version Not Supported"),
    (507, "507 Insufficient Storage"),
    (511, "511 Network Authentication Required"),
];

/// A line that makes a page longer.
const PADDING: &[u8] = b"<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n";
