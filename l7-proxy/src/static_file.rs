//! What to answer for a path in the file system: a file or a part of it, its index, or a refusal.
//!
//! The answer is plain data ([`FileAnswer`]) with an open file; nothing here waits. The order of
//! checks, the statuses and the validators are nginx's (`ETag: "mtime-size"` in hexadecimal,
//! `If-Modified-Since` compared for equality unless told otherwise).
//!
//! Only regular files are served, a page's source never ([`crate::jsp`]), and the path cannot lead
//! out of the root, for it has no dot segments left ([`crate::uri`]). Symbolic links are followed,
//! as in nginx.

mod body;
mod cache;
mod conditional;
mod range;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use rustix::io::Errno;

use crate::encoding::takes_gzip;
use crate::jsp;
use crate::model::{Prepared, Root};
use crate::variable::Exchange;

pub use self::body::FileBody;
pub use self::cache::Cache;
use self::cache::Opened;
use self::conditional::Verdict;
use self::range::Ranges;

/// Files up to this size are read at once; larger ones in pieces of it.
const PIECE: usize = 64 * 1024;

/// What a path amounts to.
#[derive(Debug)]
pub enum Found {
    /// A file, or the part of it that was asked for, or that it has not changed.
    File(FileAnswer),
    /// The index of a directory: the request starts anew with this path, so that a location for
    /// `.jsp` gets an `index.jsp`.
    Index(Vec<u8>),
    /// A directory whose path lacks its slash: [`crate::pages::add_slash`].
    AddSlash,
    /// A refusal, with what else belongs into its head.
    Status(u16, HeaderMap),
}

/// An answer with a file, or without one where a validator matched.
#[derive(Debug)]
pub struct FileAnswer {
    /// 200, 206 or 304.
    pub status: StatusCode,
    /// What describes the file, `Content-Length` included.
    pub headers: HeaderMap,
    /// The bytes to send; empty for `HEAD` and 304.
    pub body: FileBody,
    /// What of the file is sent.
    pub form: Form,
}

/// Whether there are several forms of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// There is one.
    Only,
    /// There is one that was compressed beforehand, and what is sent depends on the client.
    Chosen,
}

/// Returns what to answer for the request's path under the location's root.
///
/// `scratch` is cleared and used for the file's name.
pub fn find(exchange: &Exchange<'_>, scratch: &mut Vec<u8>, cache: &mut Cache) -> Found {
    let path = exchange.target.path();
    let method = exchange.method;
    let directory = path.ends_with(b"/");
    if !matches!(*method, Method::GET | Method::HEAD | Method::POST) {
        return refusal(405);
    }
    scratch.clear();
    file_name(exchange, scratch);
    if scratch.contains(&0) || jsp::is_private(path) {
        return refusal(404);
    }
    if directory {
        // The directory itself may be called like a page; its index decides.
        return index(exchange, scratch);
    }
    if jsp::is_source(scratch) {
        return refusal(404);
    }
    let rules = &exchange.settings.files.cache;
    let (prepared, form) = prepared(exchange, scratch, cache);
    let gzip = prepared.is_some();
    let opened = match prepared.map_or_else(|| cache.open(scratch, rules), Ok) {
        Ok(opened) => opened,
        Err(status) => return refusal(status),
    };
    if opened.facts.kind.is_dir() {
        return Found::AddSlash;
    }
    if !opened.facts.kind.is_file() {
        return refusal(404);
    }
    if *method == Method::POST {
        return refusal(405);
    }
    let mut found = describe(exchange, opened, path);
    if let Found::File(file) = &mut found {
        file.form = form;
        if gzip {
            file.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
    }
    found
}

/// Returns the file that was compressed beforehand, if it is there and the client takes it.
fn prepared(exchange: &Exchange<'_>, name: &mut Vec<u8>, cache: &mut Cache) -> (Option<Opened>, Form) {
    let gzip = &exchange.settings.gzip;
    if gzip.prepared == Prepared::Off {
        return (None, Form::Only);
    }
    let takes = gzip.prepared == Prepared::Always
        || takes_gzip(gzip, exchange.version, exchange.headers, &HeaderMap::new());
    if !takes && !gzip.vary {
        return (None, Form::Only);
    }
    name.extend_from_slice(b".gz");
    let opened = cache.open(name, &exchange.settings.files.cache);
    name.truncate(name.len() - b".gz".len());
    match opened.ok().filter(|opened| opened.facts.kind.is_file()) {
        Some(opened) => {
            let form = if gzip.prepared == Prepared::On { Form::Chosen } else { Form::Only };
            (Some(opened).filter(|_| takes), form)
        }
        None => (None, Form::Only),
    }
}

/// Appends the name of the file that the path stands for.
fn file_name(exchange: &Exchange<'_>, name: &mut Vec<u8>) {
    let path = exchange.target.path();
    match &exchange.settings.files.root {
        Root::Root(root) => {
            root.write(exchange, name);
            name.extend_from_slice(path);
        }
        Root::Alias { directory, replaces } => {
            directory.write(exchange, name);
            let whole = if exchange.findings.below_alias { 0 } else { path.len() };
            let replaced = replaces.unwrap_or(whole);
            name.extend_from_slice(path.get(replaced..).unwrap_or_default());
        }
    }
}

/// Returns the first index file of a directory that is there.
fn index(exchange: &Exchange<'_>, directory: &mut Vec<u8>) -> Found {
    let base = directory.len();
    let mut name = Vec::new();
    for index in &exchange.settings.files.index {
        let name = index.bytes(exchange, &mut name);
        if name.starts_with(b"/") {
            return Found::Index(name.to_vec());
        }
        directory.truncate(base);
        directory.extend_from_slice(name);
        match rustix::fs::stat(&**directory) {
            Ok(_) => return Found::Index([exchange.target.path(), name].concat()),
            Err(Errno::NOENT) => {}
            Err(error) => return refusal(status_of(&error.into())),
        }
    }
    directory.truncate(base);
    match rustix::fs::stat(&**directory) {
        Ok(_) => refusal(403),
        Err(error) => refusal(status_of(&error.into())),
    }
}

fn status_of(error: &io::Error) -> u16 {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => 404,
        io::ErrorKind::PermissionDenied => 403,
        // Links that go round.
        _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => 403,
        _ => 500,
    }
}

fn refusal(status: u16) -> Found {
    Found::Status(status, HeaderMap::new())
}

/// Returns the answer for an open file.
fn describe(exchange: &Exchange<'_>, opened: Opened, path: &[u8]) -> Found {
    let files = &exchange.settings.files;
    let Opened { facts, file, content } = opened;
    let mut validators = facts.validators.clone();
    if !files.etag {
        validators.etag = None;
    }
    let mut headers = HeaderMap::with_capacity(8);
    match conditional::check(exchange.headers, &validators, files.if_modified_since) {
        Verdict::Send => {}
        Verdict::NotModified => {
            validators.describe(&mut headers);
            let status = StatusCode::NOT_MODIFIED;
            return Found::File(FileAnswer { status, headers, body: FileBody::empty(), form: Form::Only });
        }
        Verdict::PreconditionFailed => return refusal(412),
    }
    let size = facts.state.size;
    let content = Content { file, whole: content };
    let ranges = match exchange.version {
        Version::HTTP_09 => Ranges::Whole,
        _ => range::asked(exchange.headers, &validators, size, files.max_ranges),
    };
    let media_type = files.types.of(path).or(files.default_type.as_ref());
    let mut status = StatusCode::PARTIAL_CONTENT;
    let mut body = match ranges {
        Ranges::Whole => {
            status = StatusCode::OK;
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
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
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.left()));
    validators.describe(&mut headers);
    if *exchange.method == Method::HEAD {
        body = FileBody::empty();
    } else if body.read_small().is_err() {
        // It was cut short, or the disk fails; nothing of the answer is out yet.
        return refusal(500);
    }
    Found::File(FileAnswer { status, headers, body, form: Form::Only })
}

/// What identifies one state of a file to a client.
#[derive(Debug, Clone)]
struct Validators {
    modified: SystemTime,
    /// The same as a field's value.
    date: HeaderValue,
    etag: Option<HeaderValue>,
}

impl Validators {
    fn new(modified: i64, size: u64) -> Self {
        // To the second, as it is sent. Before 1970 there is no date that all clients read.
        let seconds = u64::try_from(modified).unwrap_or(0);
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let date = text(&httpdate::fmt_http_date(modified));
        Self { modified, date, etag: Some(text(&format!("\"{seconds:x}-{size:x}\""))) }
    }

    fn describe(&self, headers: &mut HeaderMap) {
        headers.insert(LAST_MODIFIED, self.date.clone());
        if let Some(etag) = &self.etag {
            headers.insert(ETAG, etag.clone());
        }
    }
}

/// Where the bytes of a file come from.
#[derive(Debug, Default)]
struct Content {
    /// An open file.
    file: Option<Arc<File>>,
    /// All of it, where that is known.
    whole: Option<Bytes>,
}

/// Returns a field of digits, letters and the like that we wrote ourselves.
fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// Reads `len` bytes at `offset`.
fn read_at(file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
    let mut piece = vec![0; len];
    file.read_exact_at(&mut piece, offset)?;
    Ok(piece.into())
}
