//! The head of a server's answer: read strictly, for what two readers could read differently is no
//! answer.
//!
//! Fields of the connection to the server end here. Of the others those are kept that the
//! caller wants, spelled as the server spelled them.

use std::mem::MaybeUninit;

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::ext::ReasonPhrase;

use super::malformed::Malformed;
use crate::server::{Spelling, usual_name};
use crate::short;

/// The head of a server's answer.
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: Box<HeaderMap>,
    /// The server's words for the status, where they are not the registered ones.
    pub(crate) reason: Option<ReasonPhrase>,
    pub(super) framing: Framing,
    /// Whether the connection may carry another request.
    pub(super) persistent: bool,
}

/// What says where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunks,
    /// The end of the connection.
    Close,
}

/// Where the fields of an answer go.
pub(crate) struct Fields<'a> {
    /// An empty map.
    pub(crate) headers: Box<HeaderMap>,
    /// Whether a field is for the client.
    pub(crate) wanted: &'a dyn Fn(&HeaderName) -> bool,
    /// Is told how the server spells names.
    pub(crate) spelling: &'a Spelling,
    /// Is told the fields of an early word (status 103), if anybody wants to know.
    pub(crate) hints: Option<&'a Hints<'a>>,
}

/// A field of an early word: its name as the server spells it, and its value.
pub(crate) type Hint<'a> = (&'a [u8], &'a [u8]);

/// Who is told of early words.
type Hints<'a> = dyn Fn(&[Hint<'_>]) + 'a;

/// What was asked, as far as it says how to read the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// `HEAD`: no body follows, whatever the head says.
    HeadOnly,
    Whole,
}

/// What a piece of an answer's beginning is.
pub(super) enum Parsed {
    /// Not yet a whole head.
    Partial,
    /// An interim one (1xx), of this length.
    Interim(usize),
    /// The answer's, of this length.
    Final(Head, usize),
}

/// Reads the head at the beginning of `bytes`; `fields` is taken when it is the answer's.
///
/// # Errors
/// In nginx's words, where it has some.
pub(super) fn parse(
    bytes: &[u8],
    asked: Asked,
    fields: &mut Option<Fields<'_>>,
) -> Result<Parsed, Malformed> {
    // A later minor version says nothing that the one we know does not (RFC 9110, section 2.5).
    if let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9', rest @ ..] = bytes {
        return parse(&[b"HTTP/1.1", rest].concat(), asked, fields);
    }
    let mut room = [const { MaybeUninit::uninit() }; FIELDS_USUAL];
    match parse_within(bytes, &mut room, asked, fields) {
        // How many there may be is up to the size of a head.
        Ok(None) => {
            let mut room = vec![MaybeUninit::uninit(); bytes.len() / FIELD_MIN];
            let parsed = parse_within(bytes, &mut room, asked, fields)?;
            parsed.ok_or_else(|| "upstream sent too many headers".into())
        }
        Ok(Some(parsed)) => Ok(parsed),
        Err(malformed) => Err(malformed),
    }
}

/// What `parse` does, if there are not more fields than there is room for.
fn parse_within<'b>(
    bytes: &'b [u8],
    room: &mut [MaybeUninit<httparse::Header<'b>>],
    asked: Asked,
    fields: &mut Option<Fields<'_>>,
) -> Result<Option<Parsed>, Malformed> {
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let len = match config.parse_response_with_uninit_headers(&mut response, bytes, room) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(Some(Parsed::Partial)),
        Err(httparse::Error::TooManyHeaders) => return Ok(None),
        Err(httparse::Error::Version | httparse::Error::Status) => {
            return Err("upstream sent no valid HTTP/1.0 header".into());
        }
        Err(_) => return Err(Malformed::field(bytes)),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or("upstream sent no valid HTTP/1.0 header")?;
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        if status == StatusCode::EARLY_HINTS
            && let Some(Fields { hints: Some(hints), .. }) = fields
        {
            let fields = response.headers.iter().map(|field| (field.name.as_bytes(), field.value));
            hints(&fields.collect::<Vec<_>>());
        }
        return Ok(Some(Parsed::Interim(len)));
    }
    let Some(Fields { mut headers, wanted, spelling, .. }) = fields.take() else {
        return Err("upstream sent a second answer".into());
    };
    let mut hop = Hop::default();
    // What the client is to agree to is in the fields of the connection.
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    for field in response.headers.iter() {
        let name = match usual_name(field.name) {
            Some(name) => name,
            None => {
                HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| "upstream sent invalid header")?
            }
        };
        hop.note(&name, field)?;
        if !switches && !wanted(&name) {
            continue;
        }
        spelling.note(field.name);
        let value = HeaderValue::from_bytes(field.value).map_err(|_| "upstream sent invalid header")?;
        headers.try_append(name, value).map_err(|_| "upstream sent too many headers")?;
    }
    if !switches {
        hop.take_nominated(&mut headers);
    }
    let usual = status.canonical_reason().unwrap_or_default().as_bytes();
    let reason = response.reason.filter(|reason| !short::same(reason.as_bytes(), usual));
    let reason = reason.and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok());
    let persistent = match response.version {
        Some(1) => !hop.close,
        _ => hop.keep_alive && !hop.close,
    };
    let framing = match hop.framing()? {
        _ if is_bodiless(status, asked) => Framing::Length(0),
        framing => framing,
    };
    let head = Head { status, headers, reason, framing, persistent };
    Ok(Some(Parsed::Final(head, len)))
}

/// Whether no body follows, whatever the fields say (RFC 9112, section 6.3).
fn is_bodiless(status: StatusCode, asked: Asked) -> bool {
    asked == Asked::HeadOnly
        || matches!(
            status,
            StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        )
}

/// What the fields say about the connection and the framing.
#[derive(Default)]
struct Hop<'a> {
    length: Option<(u64, &'a [u8])>,
    coding: Option<&'a [u8]>,
    close: bool,
    keep_alive: bool,
    /// Values of `Connection` that name other fields.
    nominating: Vec<&'a [u8]>,
}

impl<'a> Hop<'a> {
    fn note(&mut self, name: &HeaderName, field: &httparse::Header<'a>) -> Result<(), Malformed> {
        let value = field.value;
        if *name == CONNECTION {
            for token in tokens(value) {
                if token.eq_ignore_ascii_case(b"close") {
                    self.close = true;
                } else if token.eq_ignore_ascii_case(b"keep-alive") {
                    self.keep_alive = true;
                } else if !token.eq_ignore_ascii_case(b"upgrade") {
                    self.nominating.push(token);
                }
            }
        } else if *name == CONTENT_LENGTH {
            if let Some((_, before)) = self.length {
                return Err(Malformed::twice(field.name, value, before));
            }
            let length = parse_length(value).ok_or_else(|| {
                let line = [field.name.as_bytes(), b": ", value].concat();
                Malformed::showing("upstream sent invalid \"Content-Length\" header", &line)
            })?;
            self.length = Some((length, value));
        } else if *name == TRANSFER_ENCODING {
            if let Some(before) = self.coding {
                return Err(Malformed::twice(field.name, value, before));
            }
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::showing("upstream sent unknown \"Transfer-Encoding\"", value));
            }
            self.coding = Some(value);
        }
        Ok(())
    }

    fn framing(&self) -> Result<Framing, &'static str> {
        match (self.length, self.coding) {
            (Some(_), Some(_)) => {
                Err("upstream sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time")
            }
            (Some((length, _)), None) => Ok(Framing::Length(length)),
            (None, Some(_)) => Ok(Framing::Chunks),
            (None, None) => Ok(Framing::Close),
        }
    }

    /// Takes away the fields that `Connection` names. A server cannot take away what frames its own
    /// answer.
    fn take_nominated(&self, headers: &mut HeaderMap) {
        if self.nominating.is_empty() {
            return;
        }
        let nominated = |name: &HeaderName| {
            let name = name.as_str().as_bytes();
            self.nominating.iter().any(|token| name.eq_ignore_ascii_case(token))
        };
        // What stays, stays in its order.
        let stays = headers.iter().filter(|(name, _)| **name == CONTENT_LENGTH || !nominated(name));
        *headers = stays.map(|(name, value)| (name.clone(), value.clone())).collect();
    }
}

fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Digits and nothing else: no sign, no list.
pub(crate) fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |length, &byte| {
        let digit = char::from(byte).to_digit(10)?;
        length.checked_mul(10)?.checked_add(digit.into())
    })
}

/// As many fields as there is room for on the stack.
const FIELDS_USUAL: usize = 64;

/// The shortest line that is a field: a name of one letter, a colon, and the end.
const FIELD_MIN: usize = b"x:\n".len();

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `head` as the answer to a GET; returns its framing and whether its connection is kept.
    fn read(head: &str) -> Result<(Framing, bool), Malformed> {
        ask(head, Asked::Whole).map(|head| (head.framing, head.persistent))
    }

    fn ask(head: &str, asked: Asked) -> Result<Head, Malformed> {
        let spelling = Spelling::default();
        let wanted = |name: &HeaderName| *name != CONNECTION && *name != TRANSFER_ENCODING;
        let fields = Fields { headers: Box::default(), wanted: &wanted, spelling: &spelling, hints: None };
        match parse(head.as_bytes(), asked, &mut Some(fields))? {
            Parsed::Final(parsed, len) if len == head.len() => Ok(parsed),
            Parsed::Final(..) | Parsed::Interim(_) | Parsed::Partial => Err("not a whole answer".into()),
        }
    }

    #[test]
    fn body_ends_where_the_head_says() {
        let check = |fields: &str, framing| {
            assert_eq!(read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")), Ok((framing, true)), "{fields}");
        };
        check("Content-Length: 3\r\n", Framing::Length(3));
        check("content-length: 18446744073709551615\r\n", Framing::Length(u64::MAX));
        check("Transfer-Encoding: Chunked\r\n", Framing::Chunks);
        check("X: y\r\n", Framing::Close);
    }

    #[test]
    fn later_minor_version_is_read_as_the_one_we_know_and_no_other() {
        let read = |version: &str| read(&format!("{version} 200 OK\r\nContent-Length: 3\r\n\r\n"));
        assert_eq!(read("HTTP/1.2"), Ok((Framing::Length(3), true)));
        assert_eq!(read("HTTP/1.9"), Ok((Framing::Length(3), true)));
        assert_eq!(read("HTTP/1.0"), Ok((Framing::Length(3), false)));
        for version in ["HTTP/0.9", "HTTP/1.10", "HTTP/2.0", "HTTP/2", "ICY"] {
            assert!(read(version).is_err(), "{version}");
        }
    }

    #[test]
    fn more_fields_than_a_map_can_have_are_refused() {
        let fields = |count: u32| {
            let names = (0..count).map(|number| format!("x{number:x}:\n"));
            format!("HTTP/1.1 200 OK\r\n{}\n", names.collect::<String>())
        };
        assert_eq!(read(&fields(20_000)), Ok((Framing::Close, true)));
        assert_eq!(read(&fields(30_000)), Err("upstream sent too many headers".into()));
    }

    #[test]
    fn answer_without_a_body_has_none_whatever_it_says() {
        for status in ["204 No Content", "304 Not Modified", "101 Switching Protocols"] {
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: 3\r\n\r\n");
            assert_eq!(read(&head), Ok((Framing::Length(0), true)), "{status}");
        }
        let head = ask("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Asked::HeadOnly).unwrap();
        assert_eq!(head.framing, Framing::Length(0));
    }

    #[test]
    fn framing_that_can_be_read_in_two_ways_is_refused() {
        for fields in [
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 3\r\nContent-Length: 3\r\n",
            "Content-Length: 3, 3\r\n",
            "Content-Length: +3\r\n",
            "Content-Length:\r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length : 3\r\n",
            "X: a\r\n b\r\n",
            "X: a\0b\r\n",
        ] {
            assert!(read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).is_err(), "{fields}");
        }
        for line in ["HTTP/1.1 20 OK", "HTTP/1.1 099 OK", "HTTP/2.0 200 OK", "ICY 200 OK", "HTTP/1.1  200 OK"]
        {
            assert!(read(&format!("{line}\r\nContent-Length: 0\r\n\r\n")).is_err(), "{line}");
        }
    }

    #[test]
    fn connection_is_kept_by_the_rules_of_its_version() {
        let kept = |line: &str| read(&format!("{line}\r\nContent-Length: 0\r\n\r\n")).unwrap().1;
        assert!(kept("HTTP/1.1 200 OK"));
        assert!(!kept("HTTP/1.1 200 OK\r\nConnection: x, Close"));
        assert!(!kept("HTTP/1.0 200 OK"));
        assert!(kept("HTTP/1.0 200 OK\r\nConnection: Keep-Alive"));
    }

    #[test]
    fn fields_that_connection_names_stay_behind() {
        let head = "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop , content-length\r\nX-Hop: 1\r\n\
                    Content-Length: 3\r\nX-End: 2\r\n\r\n";
        let head = ask(head, Asked::Whole).unwrap();
        let names: Vec<&str> = head.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-length", "x-end"]);
    }

    #[test]
    fn fields_are_read_however_many_there_are() {
        for count in [FIELDS_USUAL, FIELDS_USUAL + 1, 4000] {
            let head = format!("HTTP/1.1 200 OK\r\n{}\n", "X:\n".repeat(count));
            assert_eq!(ask(&head, Asked::Whole).unwrap().headers.len(), count);
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_what_there_was() {
        for (head, expected) in [
            ("ICY 200 OK\r\n\r\n", "no valid HTTP/1.0 header"),
            ("HTTP/1.1 099 OK\r\n\r\n", "no valid HTTP/1.0 header"),
            (
                "HTTP/1.1 200 OK\r\ncontent-Length: 3\r\ncontent-length: 4\r\n\r\n",
                "duplicate header line: \"content-length: 4\", previous value: \"content-length: 3\"",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n",
                "invalid \"Content-Length\" header: \"Content-Length: -3\"",
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: br\r\n\r\n", "unknown \"Transfer-Encoding\": \"br\""),
            ("HTTP/1.1 200 OK\r\nX y\r\n\r\n", "invalid header: \"X\\x20...\""),
        ] {
            let told = ask(head, Asked::Whole).err().map(|malformed| malformed.to_string());
            assert_eq!(told, Some(format!("upstream sent {expected}")), "{head:?}");
        }
    }
}
