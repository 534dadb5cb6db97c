//! `slice`: an answer that is asked for piece by piece, each with a request of its own for that part, so that a
//! cache keeps and fetches no more of a large answer than is wanted.
//!
//! Whether a server is asked so is for the location to say, which shows `$slice_range` to it and makes it part of
//! the key of the cache; that the variable was looked at is what makes an answer one of pieces. The client's own
//! `Range` says where the first of them begins. Pieces that do not belong together end the answer.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::ext::ReasonPhrase;
use tracing::error;

use super::{Answer, cached};
use crate::body::{self, Clipped, Coming, Cut, Kind};
use crate::forward;
use crate::model::{CacheUse, ProxyPass};
use crate::route::{Route, Server};
use crate::static_file::ByteRange;
use crate::transaction::Transaction;
use crate::upstream::{Pool, parse_length};
use crate::uri::Target;
use crate::variable::Slicing;

/// Where the pieces of an answer are asked for.
pub(super) struct Way {
    pass: ProxyPass,
    pool: Rc<Pool>,
    target: Target<'static>,
}

impl Way {
    pub(super) fn new(pass: &ProxyPass, pool: &Rc<Pool>, target: &Target<'_>) -> Box<Way> {
        Box::new(Way { pass: pass.clone(), pool: Rc::clone(pool), target: target.clone().into_owned() })
    }
}

/// An answer that comes in pieces.
pub(super) struct Sliced {
    way: Box<Way>,
    /// The request, for those of the other pieces.
    template: Box<Transaction>,
    /// How large a piece is.
    size: u64,
    /// The first piece that was asked for.
    first: ByteRange,
    /// How long the whole is.
    complete: u64,
    /// What is wanted of the whole.
    wanted: ByteRange,
    etag: Option<HeaderValue>,
}

/// A piece is not what was asked for.
pub(super) struct Unfit;

/// Makes of the answer for a piece that of the whole; `None` if it is none for a piece.
///
/// # Errors
/// It is not for the piece that was asked for.
pub(super) fn begin(
    transaction: &Transaction,
    server: &Server,
    route: &Route<'_>,
    way: Option<Box<Way>>,
    answer: &mut Answer,
) -> Result<Option<Sliced>, Unfit> {
    let (Some(way), Some(size), Slicing::From(start)) =
        (way, route.settings.files.slice, transaction.findings.slice.get())
    else {
        return Ok(None);
    };
    if answer.status != StatusCode::PARTIAL_CONTENT {
        return Ok(None);
    }
    let size = size.get();
    let found = piece(&answer.headers, start, size).map_err(|why| tell(transaction, server, &why))?;
    answer.status = StatusCode::OK;
    answer.extensions.remove::<ReasonPhrase>();
    for name in [CONTENT_RANGE, ACCEPT_RANGES] {
        answer.headers.remove(name);
    }
    answer.headers.insert(CONTENT_LENGTH, HeaderValue::from(found.complete));
    let etag = answer.headers.get(ETAG).cloned();
    let template = transaction.beside(Rc::clone(&transaction.session));
    let complete = found.complete;
    let wanted = ByteRange { start: 0, end: complete };
    Ok(Some(Sliced { way, template, size, first: found.range, complete, wanted, etag }))
}

/// Says in the log why a piece cannot be used.
fn tell(transaction: &Transaction, server: &Server, why: &str) -> Unfit {
    let (serial, context) = (transaction.connection.serial, transaction.context(server));
    error!("*{serial} {why} while reading response header from upstream{context}");
    Unfit
}

impl Sliced {
    /// Only this of the whole is wanted.
    pub(super) fn narrow(&mut self, range: ByteRange) {
        self.wanted = range;
    }

    /// Gives an answer its body.
    pub(super) fn take_over(self, answer: &mut Answer) {
        let Sliced { way, template, size, first, complete, wanted, etag } = self;
        let kind = std::mem::replace(&mut answer.kind, Kind::Whole(Bytes::new()));
        let (first, next) = match first.start <= wanted.start && wanted.start < first.end {
            true => (clip(kind, first, wanted), first.end),
            // Neither is it wanted, nor what lies between.
            false => (Kind::Whole(Bytes::new()), size * (wanted.start / size)),
        };
        let pieces = Rc::new(Pieces { way, template, size, complete, wanted, etag: RefCell::new(etag) });
        let ask = move |start| -> Coming { Box::pin(Rc::clone(&pieces).fetch(start)) };
        let body = body::Sliced::new(first, (next, size, wanted.end), wanted.len(), Box::new(ask));
        answer.kind = Kind::Sliced(Box::new(body));
    }
}

/// Leaves of a piece what is wanted of it, and no more than it says that it is.
fn clip(kind: Kind, piece: ByteRange, wanted: ByteRange) -> Kind {
    let (start, end) = (piece.start.max(wanted.start), piece.end.min(wanted.end));
    match start == piece.start && end == piece.end && kind.exact_size() == Some(piece.len()) {
        true => kind,
        false => Kind::Clipped(Box::new(Clipped::new(kind, start - piece.start, end.saturating_sub(start)))),
    }
}

/// What it takes to ask for the other pieces.
struct Pieces {
    way: Box<Way>,
    template: Box<Transaction>,
    size: u64,
    /// How long the first piece has said that the whole is.
    complete: u64,
    wanted: ByteRange,
    /// What the pieces so far have in common.
    etag: RefCell<Option<HeaderValue>>,
}

impl Pieces {
    /// Fetches the piece that begins here.
    async fn fetch(self: Rc<Self>, start: u64) -> Result<Kind, Cut> {
        let mut part = self.template.beside(Rc::clone(&self.template.session));
        part.findings.slice.set(Slicing::From(start));
        let generation = Rc::clone(&part.generation);
        let place = part.place.ok_or(Cut::Server)?;
        let (server, route) = generation.site.router.at(place);
        let Way { pass, pool, target } = &*self.way;
        let to = (pass, Rc::clone(pool));
        let answered = match route.proxy().cache == CacheUse::Off {
            true => forward::forward(&mut part, server, &route, to, target, None).await,
            false => cached::answer(&mut part, server, &route, to, target, None).await,
        };
        // The head of the answer is out: how this one is spelled is nobody's.
        part.session.spelling.forget();
        let failed = |why: String| {
            tell(&part, server, &why);
            Cut::Server
        };
        let unexpected = |status| failed(format!("unexpected status code {status} in slice response"));
        let answer = answered.map_err(|unanswered| unexpected(unanswered.status))?;
        if answer.status != StatusCode::PARTIAL_CONTENT {
            return Err(unexpected(answer.status.as_u16()));
        }
        let etag = answer.headers.get(ETAG);
        let mut common = self.etag.borrow_mut();
        if common.as_ref().is_some_and(|common| etag != Some(common)) {
            return Err(failed("etag mismatch in slice response".to_owned()));
        }
        common.clone_from(&etag.cloned());
        let piece = piece(&answer.headers, start, self.size).map_err(failed)?;
        if piece.complete != self.complete {
            return Err(failed("complete length mismatch in slice response".to_owned()));
        }
        Ok(clip(answer.kind, piece.range, self.wanted))
    }
}

/// A piece of an answer.
struct Piece {
    range: ByteRange,
    /// How long the whole is.
    complete: u64,
}

/// Returns what piece an answer is, if it is the one that was asked for.
fn piece(headers: &HeaderMap, start: u64, size: u64) -> Result<Piece, String> {
    let told = headers.get(CONTENT_RANGE).and_then(|range| content_range(range.as_bytes()));
    let (range, complete) = told.ok_or("invalid range in slice response")?;
    let complete = complete.ok_or("no complete length in slice response")?;
    let end = start.saturating_add(size).min(complete);
    if range != (ByteRange { start, end }) {
        let ByteRange { start: found, end: last } = range;
        return Err(format!("unexpected range in slice response: {found}-{last}, expected: {start}-{end}"));
    }
    Ok(Piece { range, complete })
}

/// Reads a `Content-Range`: the part, and the length of the whole unless that is a `*`.
fn content_range(value: &[u8]) -> Option<(ByteRange, Option<u64>)> {
    let text = std::str::from_utf8(value).ok()?.strip_prefix("bytes ")?;
    let (range, complete) = text.split_once('/')?;
    let (start, last) = range.split_once('-')?;
    let number = |text: &str| parse_length(text.trim_matches(' ').as_bytes());
    let range = ByteRange { start: number(start)?, end: number(last)?.checked_add(1)? };
    if range.end <= range.start {
        return None;
    }
    match complete.trim_matches(' ') {
        "*" => Some((range, None)),
        complete => Some((range, Some(number(complete)?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(told: &str, expected: Result<u64, &str>) {
        let headers = HeaderMap::from_iter([(CONTENT_RANGE, HeaderValue::from_str(told).unwrap())]);
        let found = piece(&headers, 10, 10);
        let found = found.as_ref().map(|piece| piece.complete).map_err(String::as_str);
        assert_eq!(found, expected, "{told}");
    }

    #[test]
    fn piece_is_the_one_that_was_asked_for_or_none() {
        check("bytes 10-19/100", Ok(100));
        check("bytes  10 - 19 / 100 ", Ok(100));
        // The last one is shorter.
        check("bytes 10-14/15", Ok(15));
        for told in
            ["10-19/100", "bytes 10-19", "bytes -19/100", "bytes 10-/100", "bytes 10-19/", "bytes 1a-19/9"]
        {
            check(told, Err("invalid range in slice response"));
        }
        // A last byte that lies before the first.
        check("bytes 10-9/10", Err("invalid range in slice response"));
        check("bytes 10-4/5", Err("invalid range in slice response"));
        check("bytes 10-19/*", Err("no complete length in slice response"));
        check("bytes 10-18/100", Err("unexpected range in slice response: 10-19, expected: 10-20"));
        check("bytes 0-9/100", Err("unexpected range in slice response: 0-10, expected: 10-20"));
    }
}
