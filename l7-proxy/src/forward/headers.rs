//! The fields of a request on its way to a server, and of a response on its way back.
//!
//! A field is forwarded unless it belongs to one connection (RFC 9110, section 7.6.1), because it
//! is such a field or because `Connection` says so; requests are given what `proxy_set_header` says
//! in place of the client's own.

use http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, EXPECT, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, PROXY_AUTHORIZATION, RANGE, SERVER, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::outgoing;
use crate::fields::{self, NameFilter};
use crate::model::{FieldNames, HttpVersion, ProxySettings, SetHeader};
use crate::variable::{Asking, Exchange};

/// How a request's body is framed for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// As the client said: a length, or no body.
    AsSent,
    /// In chunks, for the client sends chunks.
    Chunked,
    /// By this length: the body is not as the client sent it.
    Length(u64),
    /// There is none, whatever the client sent.
    None,
}

/// Whether a connection is to be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reuse {
    Kept,
    /// The server is told that this is the only request.
    Once,
}

impl Reuse {
    /// What `settings` say of a connection that there is a place to keep for, or not.
    pub(super) fn of(settings: &ProxySettings, place: Reuse) -> Reuse {
        let decided = settings.set_headers.iter().any(|set| set.name == CONNECTION);
        match settings.http_version {
            _ if decided => Reuse::Kept,
            HttpVersion::Http10 => Reuse::Once,
            HttpVersion::Http11 | HttpVersion::Http2 => place,
        }
    }
}

/// Writes the head of a forwarded request.
///
/// Names are spelled as the client spelled them, as by nginx; those of HTTP/2, which has no capitals, in
/// title case, as people write them.
pub(super) fn request(
    exchange: &Exchange<'_>,
    settings: &ProxySettings,
    target: &str,
    framing: Framing,
    reuse: Reuse,
    head: &mut Vec<u8>,
) {
    let client = exchange.headers;
    let version = match settings.http_version {
        HttpVersion::Http10 => " HTTP/1.0\r\n",
        HttpVersion::Http11 | HttpVersion::Http2 => " HTTP/1.1\r\n",
    };
    let method = outgoing::method(settings, exchange);
    let method = method.as_ref().unwrap_or(exchange.method);
    for piece in [method.as_str(), " ", target, version] {
        head.extend_from_slice(piece.as_bytes());
    }
    let set = settings.set_headers.iter().filter(|set| !frames(&set.name));
    for SetHeader { written, value, .. } in set {
        let line = head.len();
        head.extend_from_slice(written.as_bytes());
        head.extend_from_slice(b": ");
        let start = head.len();
        value.write(exchange, head);
        if is_field_value(&head[start..]) {
            head.extend_from_slice(b"\r\n");
        } else {
            head.truncate(line);
        }
    }
    for (name, value) in conditions(exchange, settings) {
        push_name(&name, FieldNames::default(), head);
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    let stays = held_back(exchange, settings, framing);
    for (name, value) in client {
        if stays(name) {
            continue;
        }
        if let Some(line) = plain_line(exchange.head, name, value) {
            head.extend_from_slice(line);
        } else if push_name(name, exchange.settings.client.names, head) {
            if let Some(written) = spelled(exchange.head, name, value) {
                head.truncate(head.len() - written.len());
                head.extend_from_slice(written);
            }
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
    }
    match framing {
        Framing::Chunked => head.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::Length(size) => head.extend_from_slice(format!("Content-Length: {size}\r\n").as_bytes()),
        Framing::AsSent | Framing::None => {}
    }
    if reuse == Reuse::Once {
        head.extend_from_slice(b"Connection: close\r\n");
    }
    head.extend_from_slice(b"\r\n");
}

/// Returns which fields of a client's request are not for the server.
pub(super) fn held_back(
    exchange: &Exchange<'_>,
    settings: &ProxySettings,
    framing: Framing,
) -> impl Fn(&HeaderName) -> bool {
    let nominated = nominated(exchange.headers);
    let cached = exchange.findings.cached.as_ref();
    let wants_whole = cached.is_some_and(|cached| cached.asking != Asking::AsSent);
    // For a few fields it is not worth being made.
    let filter = match settings.pass.headers && !wants_whole && exchange.headers.len() > FEW {
        true => {
            settings.set_headers.iter().map(|set| &set.name).chain(&nominated).fold(OURS, NameFilter::with)
        }
        false => NameFilter::ALL,
    };
    move |name| {
        filter.lets(name)
            && (is_of_one_connection(name)
                || (wants_whole && WITH_CONDITIONS.contains(name))
                || is_of_one_hop(name)
                || (framing != Framing::AsSent && *name == CONTENT_LENGTH)
                || (!settings.pass.headers && *name != CONTENT_LENGTH)
                || nominated.contains(name)
                // What frames the request is not for the configuration to say.
                || (!frames(name) && settings.set_headers.iter().any(|set| set.name == *name)))
    }
}

/// As many fields as are looked at without a filter.
const FEW: usize = 4;

/// Fields of a request that may be for us alone, whatever the location says: those of [`is_of_one_connection`] and
/// [`is_of_one_hop`], and what may frame it.
const OURS: NameFilter = NameFilter::of(&[
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
]);

/// Fields that ask for less than the whole, which what is to be kept has to be.
const WITH_CONDITIONS: [HeaderName; 6] =
    [IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE];

/// Returns the fields by which a server is asked whether something has changed, where that is wanted.
pub(super) fn conditions(
    exchange: &Exchange<'_>,
    settings: &ProxySettings,
) -> impl Iterator<Item = (HeaderName, HeaderValue)> + use<> {
    let mut fields = [None, None];
    if let Some(cached) = &exchange.findings.cached {
        let decided = |name: &HeaderName| settings.set_headers.iter().any(|set| set.name == *name);
        let modified = cached.modified().and_then(|date| HeaderValue::try_from(date).ok());
        let etag = cached.etag().and_then(|tag| HeaderValue::from_bytes(tag).ok());
        fields = [(IF_MODIFIED_SINCE, modified), (IF_NONE_MATCH, etag)].map(|(name, value)| {
            let value = value.filter(|_| !decided(&name))?;
            Some((name, value))
        });
    }
    fields.into_iter().flatten()
}

/// Whether a field of an answer is for whoever comes after us.
pub(super) fn is_end_to_end(name: &HeaderName) -> bool {
    !is_of_one_connection(name)
}

/// Whether we write a field of an answer ourselves, in place of the server's.
pub(super) fn is_ours(name: &HeaderName) -> bool {
    *name == DATE || *name == SERVER
}

/// Whether a value can be sent, and is worth it: nginx leaves out fields that are empty. What breaks
/// a line would begin another field.
fn is_field_value(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|&byte| (byte >= b' ' && byte != 0x7f) || byte == b'\t')
}

/// Returns a field's line, its end included, if it stands in the client's head as we would write it, under a
/// name that means the same to every server: that is copied whole.
fn plain_line<'h>(head: &'h [u8], name: &HeaderName, value: &HeaderValue) -> Option<&'h [u8]> {
    let name = name.as_str().as_bytes();
    let at = value.as_bytes().as_ptr().addr().checked_sub(head.as_ptr().addr())?;
    let start = at.checked_sub(name.len() + b": ".len())?;
    let line = head.get(start..at + value.len() + b"\r\n".len())?;
    let (written, rest) = line.split_at(name.len());
    let is_plain = rest.starts_with(b": ")
        && rest.ends_with(b"\r\n")
        && written.iter().zip(name).all(|(&written, &byte)| PLAIN[usize::from(written)] == byte);
    is_plain.then_some(line)
}

/// Letters, in lower case, digits and hyphens, which names that mean the same to every server have; zero for all
/// other bytes.
const PLAIN: [u8; 256] = {
    let mut plain = [0; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            plain[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    plain
};

/// Returns a name as the client spelled it: in the head, where its value stands, it stands before that.
fn spelled<'h>(head: &'h [u8], name: &HeaderName, value: &HeaderValue) -> Option<&'h [u8]> {
    // An empty value has no place.
    let at = value.as_bytes().as_ptr().addr().checked_sub(head.as_ptr().addr())?;
    let before = head.get(..at)?.trim_ascii_end().strip_suffix(b":")?;
    let written = &before[before.len().checked_sub(name.as_str().len())?..];
    written.eq_ignore_ascii_case(name.as_str().as_bytes()).then_some(written)
}

/// Writes a name in title case, if it means the same to every server.
///
/// To many, `X_Forwarded_For` and `X-Forwarded-For` are one variable; so nginx does not forward
/// names with anything but letters, digits and hyphens.
fn push_name(name: &HeaderName, taken: FieldNames, head: &mut Vec<u8>) -> bool {
    let start = head.len();
    head.extend_from_slice(name.as_str().as_bytes());
    let mut before = b'-';
    for byte in &mut head[start..] {
        match *byte {
            b'a'..=b'z' if before == b'-' => *byte = byte.to_ascii_uppercase(),
            b'a'..=b'z' | b'0'..=b'9' | b'-' => {}
            b'_' if taken.underscores => {}
            _ if taken.odd => {}
            _ => {
                head.truncate(start);
                return false;
            }
        }
        before = *byte;
    }
    true
}

/// Whether a name means the same to every server.
pub(super) fn is_unambiguous(name: &HeaderName, taken: FieldNames) -> bool {
    name.as_str().bytes().all(|byte| match byte {
        b'a'..=b'z' | b'0'..=b'9' | b'-' => true,
        b'_' => taken.underscores || taken.odd,
        _ => taken.odd,
    })
}

/// The fields that `Connection` names as belonging to the connection.
pub(crate) fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    if !fields::has(headers, &CONNECTION) {
        return Vec::new();
    }
    let is_own = |word: &[u8]| OWN_WORDS.iter().any(|own| own.eq_ignore_ascii_case(word));
    let values = headers.get_all(CONNECTION).iter().map(HeaderValue::as_bytes);
    values
        .filter(|value| !is_own(value))
        .flat_map(fields::words)
        .filter(|word| !is_own(word))
        .filter_map(|word| HeaderName::from_bytes(word).ok())
        // A client cannot have the name it asked for taken away, nor what frames its request.
        .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
        .collect()
}

/// What `Connection` says of the connection itself.
const OWN_WORDS: [&[u8]; 3] = [b"close", b"keep-alive", b"upgrade"];

/// Whether a field says how a message is framed, which only whoever writes it knows.
pub(super) fn frames(name: &HeaderName) -> bool {
    *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING
}

/// Whether a field belongs to the connection it was received on.
pub(super) fn is_of_one_connection(name: &HeaderName) -> bool {
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

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY: HeaderName = HeaderName::from_static("proxy");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_connection_and_those_of_ours_stay_behind() {
        for name in ["keep-alive", "connection", "transfer-encoding"] {
            assert!(!is_end_to_end(&HeaderName::from_static(name)), "{name}");
        }
        for name in ["content-type", "content-length", "x-accel-redirect"] {
            let name = HeaderName::from_static(name);
            assert!(is_end_to_end(&name) && !is_ours(&name), "{name}");
        }
    }

    #[test]
    fn names_are_written_in_title_case_unless_they_are_ambiguous() {
        let check = |name: &'static str, expected: Option<&str>| {
            let mut head = b"before".to_vec();
            let pushed = push_name(&HeaderName::from_static(name), FieldNames::default(), &mut head);
            let written = head.strip_prefix(b"before").unwrap();
            assert_eq!(pushed.then(|| std::str::from_utf8(written).unwrap()), expected, "{name}");
            assert!(pushed || written.is_empty());
        };
        check("x-forwarded-for", Some("X-Forwarded-For"));
        check("x-1a-b", Some("X-1a-B"));
        check("x_forwarded_for", None);
        check("x.y", None);
    }

    #[test]
    fn name_is_found_before_its_value_in_the_head() {
        let head = bytes::Bytes::from_static(b"GET / HTTP/1.1\r\nX-ID:  one\r\nx-id:two\r\n\r\n");
        let name = HeaderName::from_static("x-id");
        let value = |text: &[u8]| {
            let at = memchr::memmem::find(&head, text).unwrap();
            HeaderValue::from_maybe_shared(head.slice(at..at + text.len())).unwrap()
        };
        assert_eq!(spelled(&head, &name, &value(b"one")), Some(&b"X-ID"[..]));
        assert_eq!(spelled(&head, &name, &value(b"two")), Some(&b"x-id"[..]));
        // Another one's value, or a value from elsewhere, has no name here.
        assert_eq!(spelled(&head, &HeaderName::from_static("x-ie"), &value(b"two")), None);
        assert_eq!(spelled(&head, &name, &HeaderValue::from_static("one")), None);
        assert_eq!(spelled(b"", &name, &HeaderValue::from_static("one")), None);
    }

    #[test]
    fn line_is_copied_only_where_it_is_as_we_would_write_it() {
        let line = |text: &str, name: &str, value: &str| {
            let head = bytes::Bytes::from(format!("GET / HTTP/1.1\r\n{text}Host: a\r\n\r\n"));
            let at = memchr::memmem::find(&head, value.as_bytes()).unwrap();
            let value = HeaderValue::from_maybe_shared(head.slice(at..at + value.len())).unwrap();
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            plain_line(&head, &name, &value).map(|line| String::from_utf8(line.to_vec()).unwrap())
        };
        assert_eq!(line("X-ID: one\r\n", "x-id", "one").as_deref(), Some("X-ID: one\r\n"));
        for text in ["X-ID:one\r\n", "X-ID:  one\r\n", "X-ID: one \r\n", "X-ID: one\n", "X-IE: one\r\n"] {
            assert_eq!(line(text, "x-id", "one"), None, "{text:?}");
        }
        for (text, name) in [("x_id: one\r\n", "x_id"), ("x.id: one\r\n", "x.id")] {
            assert_eq!(line(text, name, "one"), None, "{text:?}");
        }
        let name = HeaderName::from_static("x-id");
        assert_eq!(plain_line(b"X-ID: one\r\n", &name, &HeaderValue::from_static("one")), None);
        assert_eq!(plain_line(b"", &name, &HeaderValue::from_static("one")), None);
    }

    #[test]
    fn filter_lets_all_through_that_is_for_us_alone() {
        let ours = [
            CONNECTION,
            TRANSFER_ENCODING,
            TE,
            TRAILER,
            UPGRADE,
            EXPECT,
            PROXY_AUTHORIZATION,
            CONTENT_LENGTH,
        ];
        for name in ours.iter().chain([&KEEP_ALIVE, &PROXY_CONNECTION, &PROXY]) {
            assert!(OURS.lets(name), "{name}");
        }
    }

    #[test]
    fn value_cannot_begin_another_field() {
        assert!(is_field_value(b"a\tb \xff"));
        for value in [&b""[..], b"a\r\nX: 1", b"a\nb", b"\0", b"\x7f"] {
            assert!(!is_field_value(value), "{value:?}");
        }
    }
}
