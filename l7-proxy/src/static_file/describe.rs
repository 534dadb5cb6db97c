//! The head of an answer with a file, and what of the file is sent.
//!
//! Most requests are for a whole file and under no condition. What is to be said of it then is the same
//! each time, so that it is written once for each state of a file and kept with it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use super::cache::{Facts, Opened};
use super::conditional::{self, Verdict};
use super::range::{self, Ranges};
use super::{Content, Describing, FileAnswer, FileBody, Form, Found, refusal};
use crate::date;
use crate::encoding::takes_gzip;
use crate::model::{Files, MediaTypes, ServerTokens, Settings};
use crate::pages;
use crate::variable::{Exchange, number};

/// How the bytes of a file stand for what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Plain,
    /// They were compressed beforehand.
    Gzip,
}

/// Returns the answer for an open file.
pub(super) fn describe(
    exchange: &Exchange<'_>,
    opened: Opened,
    coding: Coding,
    describing: Describing,
) -> Found {
    let files = &exchange.settings.files;
    let Opened { facts, file, content } = opened;
    let content = Content { file, whole: content, start: 0 };
    let size = facts.state.size;
    let media_type = files.types.of(exchange.target.path()).or(files.default_type.as_ref());
    let version = exchange.version;
    if describing == Describing::Text
        && coding == Coding::Plain
        && version >= Version::HTTP_10
        && !sets_terms(exchange.headers)
    {
        let text = facts.head.text(&facts, exchange.settings, media_type);
        let body = FileBody::part(content, 0, size).with_head(text);
        return answer(exchange, StatusCode::OK, HeaderMap::new(), body);
    }

    let etag = facts.validators.etag.as_ref().filter(|_| files.etag);
    let validators = Validators { etag: etag.cloned(), ..facts.validators.clone() };
    let mut headers = HeaderMap::with_capacity(8);
    let verdict = match describing {
        Describing::ErrorPage => Verdict::Send,
        _ => conditional::check(exchange.headers, &validators, files.if_modified_since),
    };
    match verdict {
        Verdict::Send => {}
        Verdict::NotModified => {
            validators.describe(&mut headers);
            return answer(exchange, StatusCode::NOT_MODIFIED, headers, FileBody::empty());
        }
        Verdict::PreconditionFailed => return refusal(412),
    }
    // Of what was compressed beforehand there are no parts: they are of no use to who knows the plain file.
    let divided = coding == Coding::Plain
        && describing != Describing::ErrorPage
        && version >= Version::HTTP_10
        && !is_made_anew(exchange, size, media_type, &HeaderMap::new());
    let asked = match divided {
        true => range::asked(exchange.headers, &validators, size, files.max_ranges),
        false => Ranges::Whole,
    };
    let mut status = StatusCode::PARTIAL_CONTENT;
    let body = match asked {
        Ranges::Whole => {
            status = StatusCode::OK;
            if divided && offers_ranges(files) {
                headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            }
            FileBody::part(content, 0, size)
        }
        Ranges::Unsatisfiable => {
            headers.insert(CONTENT_RANGE, text(&format!("bytes */{size}")));
            return Found::Status(416, headers);
        }
        Ranges::One(range) => {
            headers.insert(CONTENT_RANGE, text(&range.content_range(size)));
            FileBody::part(content, range.start, range.len())
        }
        Ranges::Several(ranges) => {
            let boundary = range::boundary(facts.state.inode, size);
            let body = FileBody::multipart(content, &ranges, size, media_type, &boundary);
            headers.insert(CONTENT_TYPE, text(&format!("multipart/byteranges; boundary={boundary}")));
            body
        }
    };
    if let Some(media_type) = media_type
        && !headers.contains_key(CONTENT_TYPE)
    {
        headers.insert(CONTENT_TYPE, media_type.clone());
    }
    if coding == Coding::Gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.left()));
    validators.describe(&mut headers);
    if describing == Describing::ErrorPage {
        headers.remove(LAST_MODIFIED);
    }
    answer(exchange, status, headers, body)
}

/// Whether other bytes go out than those of a file, or of an answer with these fields, so that nobody can say
/// which are a part of them: texts are replaced or added, put into another character set, or it is compressed
/// on the way.
pub(crate) fn is_made_anew(
    exchange: &Exchange<'_>,
    size: u64,
    media_type: Option<&HeaderValue>,
    answer: &HeaderMap,
) -> bool {
    let Settings { addition, substitution, gzip, charset, .. } = exchange.settings;
    let media_type = media_type.map(HeaderValue::as_bytes);
    let is_of = |types: &MediaTypes| types.contain(media_type);
    let is_plain = || !answer.contains_key(CONTENT_ENCODING);
    let takes_gzip = || takes_gzip(gzip, exchange.version, exchange.headers, answer);
    (size > 0 && !substitution.pairs.is_empty() && is_of(&substitution.types))
        || (charset.resizes(media_type) && charset.takes(media_type) && is_plain())
        || (!addition.is_empty() && is_of(&addition.types) && is_plain())
        || (gzip.on && size >= gzip.min_length && is_of(&gzip.types) && is_plain() && takes_gzip())
}

/// An answer with the body, unless only its head is asked for.
fn answer(exchange: &Exchange<'_>, status: StatusCode, headers: HeaderMap, mut body: FileBody) -> Found {
    if *exchange.method == Method::HEAD {
        body.clear();
    } else if body.read_small().is_err() {
        // It was cut short, or the disk fails; nothing of the answer is out yet.
        return refusal(500);
    }
    Found::File(FileAnswer { status, headers, body, form: Form::Only })
}

/// Whether a request says what of a file it wants, or when.
fn sets_terms(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| matches!(name.as_str().as_bytes(), [b'i', b'f', b'-', ..] | b"range"))
}

/// What identifies one state of a file to a client.
#[derive(Debug, Clone)]
pub(super) struct Validators {
    /// `None` where that is not known.
    pub(super) modified: Option<SystemTime>,
    /// The same as a field's value.
    date: HeaderValue,
    pub(super) etag: Option<HeaderValue>,
}

impl Validators {
    pub(super) fn new(modified: i64, size: u64) -> Self {
        // To the second, as it is sent. Before 1970 there is no date that all clients read.
        let seconds = u64::try_from(modified).unwrap_or(0);
        let modified = date::sendable(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let date = text(&date::http(modified));
        Self { modified: Some(modified), date, etag: Some(text(&format!("\"{seconds:x}-{size:x}\""))) }
    }

    /// Those that an answer has among its fields.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let modified = headers.get(LAST_MODIFIED);
        Self {
            modified: modified.and_then(conditional::date),
            date: modified.cloned().unwrap_or(HeaderValue::from_static("")),
            etag: headers.get(ETAG).cloned(),
        }
    }

    fn describe(&self, headers: &mut HeaderMap) {
        headers.insert(LAST_MODIFIED, self.date.clone());
        if let Some(etag) = &self.etag {
            headers.insert(ETAG, etag.clone());
        }
    }
}

/// What is said of a whole file, as it goes out; that of the place that was asked last.
#[derive(Debug, Default)]
pub(super) struct Head {
    latest: RefCell<Option<Text>>,
}

#[derive(Debug)]
struct Text {
    media_type: Option<HeaderValue>,
    etag: bool,
    ranges: bool,
    tokens: ServerTokens,
    text: Rc<[u8]>,
}

impl Head {
    fn text(&self, facts: &Facts, settings: &Settings, media_type: Option<&HeaderValue>) -> Rc<[u8]> {
        let mut latest = self.latest.borrow_mut();
        let (etag, ranges) = (settings.files.etag, offers_ranges(&settings.files));
        let tokens = settings.server_tokens;
        match &*latest {
            Some(latest)
                if latest.media_type.as_ref() == media_type
                    && (latest.etag, latest.ranges, latest.tokens) == (etag, ranges, tokens) =>
            {
                Rc::clone(&latest.text)
            }
            _ => {
                let text: Rc<[u8]> = write(facts, settings, media_type).into();
                let media_type = media_type.cloned();
                *latest = Some(Text { media_type, etag, ranges, tokens, text: Rc::clone(&text) });
                text
            }
        }
    }
}

fn write(facts: &Facts, settings: &Settings, media_type: Option<&HeaderValue>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut field = |name: &[u8], value: &[u8]| {
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    let mut length = Vec::new();
    number(facts.state.size, &mut length);
    field(b"Server", pages::signature(settings.server_tokens).as_bytes());
    if let Some(media_type) = media_type {
        field(b"Content-Type", media_type.as_bytes());
    }
    field(b"Content-Length", &length);
    field(b"Last-Modified", facts.validators.date.as_bytes());
    if let Some(tag) = facts.validators.etag.as_ref().filter(|_| settings.files.etag) {
        field(b"ETag", tag.as_bytes());
    }
    if offers_ranges(&settings.files) {
        field(b"Accept-Ranges", b"bytes");
    }
    out
}

/// Whether clients are told that they may ask for parts.
fn offers_ranges(files: &Files) -> bool {
    files.max_ranges != Some(0)
}

/// Returns a field of digits, letters and the like that we wrote ourselves.
fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}
