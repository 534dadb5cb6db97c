//! The head of a request: read in one way, or refused.
//!
//! What says where a body ends is judged here, before anybody looks at anything else: of two
//! lengths, or a length and a coding, two readers could take one each, and that is how requests are
//! smuggled. What the fields mean beyond that is for the handlers.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::amend::amend;
use crate::handle::Refused;
use crate::model::HeadLimits;
use crate::server::usual_name;

/// A head that was read.
pub(super) struct Head {
    pub(super) parts: Box<Parts>,
    pub(super) framing: Framing,
    /// Whether the client waits for a word before it sends the body.
    pub(super) expectation: Expectation,
    /// The head as it was sent.
    pub(super) bytes: Bytes,
}

/// What says where a request's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunks,
}

/// What a client waits for before it sends a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expectation {
    Nothing,
    /// The interim answer 100.
    Continue,
}

/// Returns how long the head at the beginning of `bytes` is and reads it; `None` if it is not all
/// there.
///
/// # Errors
/// It is no head, or has no single reading.
pub(super) fn read(bytes: &[u8], fields: HeaderMap) -> Result<Option<(Head, usize)>, Refused> {
    let refused = match read_unchanged(bytes, fields) {
        Err(refused) => refused,
        read => return read,
    };
    let amended = amend(bytes).ok_or(refused)?;
    let Some((mut head, len)) = read_unchanged(&amended, HeaderMap::new())? else { return Ok(None) };
    let len = len - (amended.len() - bytes.len());
    head.bytes = Bytes::copy_from_slice(&bytes[..len]);
    Ok(Some((head, len)))
}

fn read_unchanged(bytes: &[u8], fields: HeaderMap) -> Result<Option<(Head, usize)>, Refused> {
    let mut room = [const { MaybeUninit::uninit() }; FIELDS_USUAL];
    match parse(bytes, &mut room, fields) {
        Err(Unread::TooMany(fields)) => {
            let mut room = vec![MaybeUninit::uninit(); FIELDS_MAX];
            parse(bytes, &mut room, fields).map_err(|unread| match unread {
                Unread::TooMany(_) => too_many(),
                Unread::Refused(refused) => refused,
            })
        }
        Err(Unread::Refused(refused)) => Err(refused),
        Ok(read) => Ok(read),
    }
}

/// What `read` does, for fuzzers: the head, how long it is, and the length of its body, `None` if that comes in chunks.
///
/// # Errors
/// The status that it is refused with.
pub fn read_head(bytes: &[u8]) -> Result<Option<(Parts, usize, Option<u64>)>, u16> {
    let read = read(bytes, HeaderMap::new()).map_err(|refused| refused.status)?;
    Ok(read.map(|(head, len)| match head.framing {
        Framing::Length(length) => (*head.parts, len, Some(length)),
        Framing::Chunks => (*head.parts, len, None),
    }))
}

/// Refuses a beginning of a head that cannot become one within the limits.
pub(super) fn check_partial(bytes: &[u8], limits: &HeadLimits) -> Result<(), Refused> {
    // Whoever speaks another protocol may never send a line.
    let mut method = bytes.iter().take_while(|&&byte| byte != b' ');
    if method.any(|byte| !matches!(byte, b'A'..=b'Z' | b'_' | b'-')) {
        return Err(Refused { status: 400, reason: "client sent invalid method" });
    }
    let size = bytes.len() as u64;
    if size <= limits.line_max() {
        return Ok(());
    }
    if memchr::memchr(b'\n', bytes).is_none() {
        return Err(Refused { status: 414, reason: "client sent too long URI" });
    }
    let last = memchr::memrchr(b'\n', bytes).map_or(bytes, |end| &bytes[end + 1..]);
    if last.len() as u64 > limits.line_max() {
        return Err(Refused { status: 494, reason: "client sent too long header line" });
    }
    // Blanks around values do not count, so that this is above what is looked at in a whole head.
    if size > limits.size_max().saturating_add(limits.line_max()) {
        return Err(Refused { status: 494, reason: "client sent too large request" });
    }
    Ok(())
}

enum Unread {
    /// There are more fields than there is room for; the map is given back.
    TooMany(HeaderMap),
    Refused(Refused),
}

fn parse<'b>(
    bytes: &'b [u8],
    room: &mut [MaybeUninit<httparse::Header<'b>>],
    mut fields: HeaderMap,
) -> Result<Option<(Head, usize)>, Unread> {
    let mut request = httparse::Request::new(&mut []);
    let config = httparse::ParserConfig::default();
    let len = match config.parse_request_with_uninit_headers(&mut request, bytes, room) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Unread::TooMany(fields)),
        Err(httparse::Error::Token) => return Err(bad("client sent invalid request line")),
        Err(httparse::Error::Version) => return Err(unknown_version(bytes)),
        Err(_) => return Err(bad("client sent invalid header line")),
    };
    let (Some(method), Some(path), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(bad("client sent invalid request"));
    };
    // A fragment is nobody's business but the client's: one server drops it, another takes it for path.
    if memchr::memchr(b'#', path.as_bytes()).is_some() {
        return Err(bad("client sent invalid request"));
    }
    let version = if minor == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| bad("client sent invalid method"))?;
    // One copy of the head, which all values share.
    let head = Bytes::copy_from_slice(&bytes[..len]);
    let place = |part: &[u8]| head.slice_ref(&head[offset(bytes, part)..][..part.len()]);
    let uri =
        Uri::from_maybe_shared(place(path.as_bytes())).map_err(|_| bad("client sent invalid request"))?;
    let mut framed = Framed::default();
    let mut expectation = Expectation::Nothing;
    fields.reserve(request.headers.len());
    for field in request.headers.iter() {
        let name = match usual_name(field.name) {
            Some(name) => name,
            None => HeaderName::from_bytes(field.name.as_bytes())
                .map_err(|_| bad("client sent invalid header line"))?,
        };
        match field.name.len() {
            6 if name == EXPECT && field.value.eq_ignore_ascii_case(b"100-continue") => {
                expectation = Expectation::Continue;
            }
            14 if name == CONTENT_LENGTH => framed.length(field.value)?,
            17 if name == TRANSFER_ENCODING => framed.coding(field.value, version)?,
            _ => {}
        }
        let value = HeaderValue::from_maybe_shared(place(field.value));
        fields.append(name, value.map_err(|_| bad("client sent invalid header line"))?);
    }
    let framing = framed.framing()?;
    if version == Version::HTTP_10 {
        expectation = Expectation::Nothing;
    }
    let mut parts = Box::new(Request::new(()).into_parts().0);
    (parts.method, parts.uri, parts.version, parts.headers) = (method, uri, version, fields);
    Ok(Some((Head { parts, framing, expectation, bytes: head }, len)))
}

/// Where a part of `whole` begins in it.
fn offset(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr() - whole.as_ptr().addr()
}

/// What the fields say of the framing so far.
#[derive(Default)]
struct Framed {
    length: Option<u64>,
    coding: Coding,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Coding {
    #[default]
    None,
    /// The last one is `chunked`; whether it is the only one is looked at with the other fields.
    Chunked,
    /// One that we do not know; told when it is known that there is no other.
    Unknown,
}

impl Framed {
    fn length(&mut self, value: &[u8]) -> Result<(), Unread> {
        if self.length.is_some() {
            return Err(bad("client sent duplicate header line: \"Content-Length\""));
        }
        self.length =
            Some(parse_length(value).ok_or_else(|| bad("client sent invalid \"Content-Length\" header"))?);
        Ok(())
    }

    fn coding(&mut self, value: &[u8], version: Version) -> Result<(), Unread> {
        let last = value.rsplit(|&byte| byte == b',').next().unwrap_or_default();
        if version == Version::HTTP_10 {
            return Err(bad("client sent HTTP/1.0 request with \"Transfer-Encoding\" header"));
        }
        if self.coding != Coding::None {
            return Err(bad("client sent duplicate header line: \"Transfer-Encoding\""));
        }
        let chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
        self.coding = if chunked { Coding::Chunked } else { Coding::Unknown };
        Ok(())
    }

    fn framing(&self) -> Result<Framing, Unread> {
        match (self.length, self.coding) {
            (_, Coding::Unknown) => Err(Unread::Refused(Refused {
                status: 501,
                reason: "client sent unknown \"Transfer-Encoding\"",
            })),
            (Some(_), Coding::Chunked) => {
                Err(bad("client sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time"))
            }
            (None, Coding::Chunked) => Ok(Framing::Chunks),
            (length, Coding::None) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

/// Digits and nothing else: no sign, no list; and no more than a signed number holds, which is what most
/// servers keep it in.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let length = value.iter().try_fold(0_u64, |length, &byte| {
        let digit = char::from(byte).to_digit(10)?;
        length.checked_mul(10)?.checked_add(digit.into())
    })?;
    (length <= LENGTH_MAX).then_some(length)
}

fn bad(reason: &'static str) -> Unread {
    Unread::Refused(Refused { status: 400, reason })
}

/// A later version than we know is told apart from what is none.
fn unknown_version(bytes: &[u8]) -> Unread {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    let major = line.rsplit(|&byte| byte == b' ').next().and_then(|version| version.strip_prefix(b"HTTP/"));
    let status = if major.is_some_and(|major| matches!(major, [b'2'..=b'9', b'.', ..])) { 505 } else { 400 };
    Unread::Refused(Refused { status, reason: "client sent invalid version" })
}

fn too_many() -> Refused {
    Refused { status: 494, reason: "client sent too many header lines" }
}

/// The largest length, as in nginx.
const LENGTH_MAX: u64 = i64::MAX as u64;

/// As many fields as there is room for on the stack.
const FIELDS_USUAL: usize = 64;

/// The most fields that are read at all; `max_headers` says how many are taken.
const FIELDS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn framing(fields: &str) -> Result<Framing, &'static str> {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        match read(head.as_bytes(), HeaderMap::new()) {
            Ok(Some((read, len))) => {
                assert_eq!(len, head.len());
                Ok(read.framing)
            }
            Ok(None) => panic!("{fields:?} is not whole"),
            Err(refused) => {
                // As in nginx: a coding that is not known is one that is not implemented.
                let status = if refused.reason.contains("unknown") { 501 } else { 400 };
                assert_eq!(refused.status, status, "{fields:?}");
                Err(refused.reason)
            }
        }
    }

    const BOTH: &str = "client sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time";

    #[test]
    fn framing_has_one_reading() {
        assert_eq!(framing(""), Ok(Framing::Length(0)));
        assert_eq!(framing("Content-Length: 5\r\n"), Ok(Framing::Length(5)));
        assert_eq!(framing("content-length:005\r\n"), Ok(Framing::Length(5)));
        assert_eq!(framing("Content-Length: 9223372036854775807\r\n"), Ok(Framing::Length(LENGTH_MAX)));
        assert_eq!(framing("Transfer-Encoding: CHUNKED\r\n"), Ok(Framing::Chunks));
        assert_eq!(framing("Content-Lengths: 1\r\nTransfer-Encodin: x\r\n"), Ok(Framing::Length(0)));
    }

    #[test]
    fn framing_that_has_two_readings_is_refused() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "transfer-ENCODING:chunked\r\ncontent-LENGTH:0\r\n",
        ] {
            assert_eq!(framing(fields), Err(BOTH), "{fields:?}");
        }
        for fields in [
            "Content-Length: 5\r\nX: y\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length:\r\n",
            "Content-Length: 9223372036854775808\r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: chunked;q=1\r\n",
            "Transfer-Encoding: \x0bchunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            " Transfer-Encoding: chunked\r\n",
            "X: y\r\n Transfer-Encoding: chunked\r\n",
            "X: y\rTransfer-Encoding: chunked\r\n",
            "X: y\0\r\n",
            "Transfer\0Encoding: chunked\r\n",
        ] {
            assert!(framing(fields).is_err(), "{fields:?}");
        }
        let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(read(old.as_bytes(), HeaderMap::new()).is_err());
    }

    #[test]
    fn head_is_read_when_all_of_it_is_there() {
        let head = "\r\nGET /a?b HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nX: \u{e4}\r\n\r\n";
        let bytes = [head.as_bytes(), b"body"].concat();
        for len in 0..head.len() {
            assert!(matches!(read(&bytes[..len], HeaderMap::new()), Ok(None)), "{len}");
        }
        let (read, len) = read(&bytes, HeaderMap::new()).unwrap().unwrap();
        assert_eq!((len, read.expectation), (head.len(), Expectation::Continue));
        assert_eq!(read.parts.uri, "/a?b");
        assert_eq!(read.parts.headers["x"].as_bytes(), "\u{e4}".as_bytes());
        assert_eq!(read.parts.headers.len(), 3);
    }

    #[test]
    fn line_that_only_nearly_is_one_is_read_to_the_same_end() {
        for (line, target) in [
            ("GET /a?q=\"<b>\" HTTP/1.1", "/a?q=%22%3Cb%3E%22"),
            ("GET /<`> HTTP/1.1", "/%3C%60%3E"),
            ("GET /a HTTP/1.2", "/a"),
            ("GET /a\" HTTP/1.9", "/a\""),
        ] {
            let head = format!("{line}\r\nHost: a\r\nX: \"<\r\n\r\n");
            for len in 0..head.len() {
                assert!(
                    matches!(read(&head.as_bytes()[..len], HeaderMap::new()), Ok(None)),
                    "{line} to {len}"
                );
            }
            let (read, len) = read(format!("{head}next").as_bytes(), HeaderMap::new()).unwrap().unwrap();
            assert_eq!((read.parts.uri.to_string().as_str(), len), (target, head.len()), "{line}");
            assert_eq!((read.parts.version, read.bytes), (Version::HTTP_11, Bytes::from(head)));
        }
        for line in ["GET /a<b c HTTP/1.1", "GET /a< HTTP/1.1 ", "GET /\x01< HTTP/1.1", "GET /a HTTP/1.12"] {
            assert!(
                read(format!("{line}\r\nHost: a\r\n\r\n").as_bytes(), HeaderMap::new()).is_err(),
                "{line}"
            );
        }
    }

    #[test]
    fn target_with_a_fragment_is_refused() {
        let head = "GET /a#/b HTTP/1.1\r\nHost: a\r\n\r\n";
        assert!(read(head.as_bytes(), HeaderMap::new()).is_err());
    }

    #[test]
    fn many_fields_are_read_and_too_many_are_refused() {
        let head = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(count));
        for count in [FIELDS_USUAL, FIELDS_USUAL + 1, FIELDS_MAX] {
            let (read, _) = read(head(count).as_bytes(), HeaderMap::new()).unwrap().unwrap();
            assert_eq!(read.parts.headers.len(), count);
        }
        let refused = read(head(FIELDS_MAX + 1).as_bytes(), HeaderMap::new()).err();
        assert_eq!(refused, Some(too_many()));
    }

    #[test]
    fn beginning_of_a_head_is_bounded() {
        let limits = HeadLimits { first: 5, lines: 2, line: 10, fields: 100 };
        let check =
            |bytes: &str| check_partial(bytes.as_bytes(), &limits).err().map(|refused| refused.status);
        assert_eq!(check("GET /67890"), None);
        assert_eq!(check("M-SEARCH"), None);
        assert_eq!(check("get /"), Some(400));
        assert_eq!(check("\u{16}\u{3}\u{1}"), Some(400));
        assert_eq!(check("GET /678901"), Some(414));
        assert_eq!(check("GET /\r\n1234567890"), None);
        assert_eq!(check("GET /\r\n12345678901"), Some(494));
        assert_eq!(check("GET /\r\n12345678\r\n12345678\r\n12345678\r\n"), Some(494));
    }
}
