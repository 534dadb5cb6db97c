//! What to answer for a path in the file system: a file or a part of it, its index, or a refusal.
//!
//! The answer is plain data ([`FileAnswer`]) with an open file; nothing here waits. The order of
//! checks, the statuses and the validators are nginx's (`ETag: "mtime-size"` in hexadecimal,
//! `If-Modified-Since` compared for equality unless told otherwise).
//!
//! Only regular files are served, a page's source never ([`crate::jsp`]), and the path cannot lead
//! out of the root, for it has no dot segments left ([`crate::uri`]). Symbolic links are followed
//! unless `disable_symlinks` says otherwise.

mod body;
mod cache;
mod conditional;
mod describe;
mod links;
mod listing;
mod part;
mod range;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::VARY;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use rustix::io::Errno;

use crate::encoding::takes_gzip;
use crate::jsp;
use crate::model::{Prepared, Root};
use crate::variable::Exchange;

pub use self::body::FileBody;
pub(crate) use self::body::MOVED_MAX;
pub use self::cache::Cache;
use self::cache::Opened;
pub(crate) use self::conditional::status as conditional_status;
pub(crate) use self::describe::is_made_anew;
use self::describe::{Coding, describe};
pub(crate) use self::links::Links;
pub(crate) use self::part::{Conditions, Terms, Wanted, wanted};
pub(crate) use self::range::{ByteRange, boundary};

/// Files up to this size are kept in memory and sent from there: to copy them costs less than a second
/// system call.
const SMALL: usize = 16 * 1024;

/// How much is read at a time of what the kernel cannot move by itself.
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
    /// What is in a directory: the type of a page, and the page.
    Listing(HeaderValue, Bytes),
    /// A refusal, with what else belongs into its head.
    Status(u16, HeaderMap),
}

/// An answer with a file, or without one where a validator matched.
#[derive(Debug)]
pub struct FileAnswer {
    /// 200, 206 or 304.
    pub status: StatusCode,
    /// What describes the file, `Content-Length` included; empty where the body has a [text](FileBody::head)
    /// that does.
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

/// How a file is described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Describing {
    /// By fields, which whoever makes the answer may look at and change.
    Fields,
    /// By a text that is made once for a file, where it is sent whole; else by fields.
    Text,
    /// By the fields of an error's answer: it is sent whole, whatever a client asked for of what it did
    /// not get.
    ErrorPage,
}

/// Returns what to answer for the request's path under the location's root.
///
/// `scratch` is cleared and used for the file's name.
pub fn find(
    exchange: &Exchange<'_>,
    describing: Describing,
    scratch: &mut Vec<u8>,
    cache: &mut Cache,
) -> Found {
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
        if exchange.settings.files.random_index {
            return any_file(exchange, scratch);
        }
        // The directory itself may be called like a page; its index decides.
        return index(exchange, scratch);
    }
    if jsp::is_source(scratch) {
        return refusal(404);
    }
    let rules = &exchange.settings.files.cache;
    let (prepared, form) = prepared(exchange, scratch, cache);
    let coding = if prepared.is_some() { Coding::Gzip } else { Coding::Plain };
    let opened = match prepared.map_or_else(|| cache.open(scratch, Links::of(exchange, scratch), rules), Ok) {
        Ok(opened) => opened,
        Err(status) => {
            let varies = form == Form::Chosen && exchange.settings.gzip.vary;
            let vary = varies.then_some((VARY, HeaderValue::from_static("Accept-Encoding")));
            return Found::Status(status, HeaderMap::from_iter(vary));
        }
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
    let mut found = describe(exchange, opened, coding, describing);
    if let Found::File(file) = &mut found {
        file.form = form;
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
    let opened = cache.open(name, Links::of(exchange, name), &exchange.settings.files.cache);
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
pub(crate) fn file_name(exchange: &Exchange<'_>, name: &mut Vec<u8>) {
    let path = exchange.target.path();
    match &exchange.settings.files.root {
        Root::Root(root) => {
            root.write(exchange, name);
            name.extend_from_slice(path);
        }
        Root::Alias { directory, replaces } => {
            directory.write(exchange, name);
            let whole = exchange.findings.below_alias.unwrap_or(path.len());
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
        match Links::of(exchange, directory).stat(directory) {
            Ok(_) => return Found::Index([exchange.target.path(), name].concat()),
            Err(Errno::NOENT) => {}
            Err(error) => return refusal(status_of(&error.into())),
        }
    }
    directory.truncate(base);
    match Links::of(exchange, directory).stat(directory) {
        Ok(_) if exchange.settings.files.listing.on && *exchange.method != Method::POST => {
            list(exchange, directory)
        }
        Ok(_) => refusal(403),
        Err(error) => refusal(status_of(&error.into())),
    }
}

/// Returns one of the files of a directory.
fn any_file(exchange: &Exchange<'_>, directory: &[u8]) -> Found {
    let found = match Links::of(exchange, directory).stat(directory) {
        Ok(_) => listing::any_file(directory),
        Err(error) => Err(error.into()),
    };
    match found {
        Ok(Some(name)) => Found::Index([exchange.target.path(), &name].concat()),
        Ok(None) => refusal(403),
        Err(error) => refusal(status_of(&error)),
    }
}

/// Shows what is in a directory.
fn list(exchange: &Exchange<'_>, directory: &[u8]) -> Found {
    match listing::read(directory) {
        Ok(entries) => match listing::page(exchange, &entries) {
            Some((kind, page)) => Found::Listing(HeaderValue::from_static(kind), page.into()),
            None => refusal(400),
        },
        Err(error) => refusal(status_of(&error)),
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

/// Where the bytes of a file come from.
#[derive(Debug, Default)]
struct Content {
    /// An open file.
    file: Option<Arc<File>>,
    /// All of it, where that is known.
    whole: Option<Bytes>,
    /// Where in the file it begins.
    start: u64,
}

/// Reads `len` bytes at `offset`.
fn read_at(file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
    let mut piece = vec![0; len];
    file.read_exact_at(&mut piece, offset)?;
    Ok(piece.into())
}
