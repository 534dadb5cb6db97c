//! An answer on its way to the client: its head, then its body as it comes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use http_body::{Body as _, Frame};
use hyper::ext::ReasonPhrase;
use l4_proxy::socket::Behind;

use super::channel::Channel;
use crate::body::{Body, Cut};
use crate::date;
use crate::forward::Piped;
use crate::handle::{Persistence, ResponseHead, is_bodiless};
use crate::outgoing::{Outgoing, Piece};
use crate::server::Spelling;
use crate::static_file::{FileBody, MOVED_MAX};
use crate::upstream::parse_length;
use crate::variable::number;

/// What is being written to a client.
pub(super) struct Reply {
    outgoing: Outgoing,
    /// A piece of a large body that nobody looks at, behind what is outgoing.
    piped: Option<Piped>,
    body: Body,
    coding: Coding,
    state: State,
    /// Whether anything has left.
    begun: bool,
    /// Whether it goes to a client that goes on in another protocol.
    switches: bool,
    pub(super) persistence: Persistence,
}

/// How a body is framed for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// There is none.
    None,
    /// By its length, of which this much is to come.
    Length(u64),
    Chunks,
    /// By the end of the connection.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There is more to come.
    Open,
    /// What is left to be written is at hand.
    Closing,
    /// The same, and it is not all.
    Broken,
}

/// What of a request says how it is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) version: Version,
    pub(super) whole: Whole,
}

/// Whether an answer has a body at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Whole {
    /// `HEAD`: no body follows, whatever the head says.
    HeadOnly,
    Body,
}

impl Whole {
    /// What a request of this method is answered with.
    pub(in crate::server) fn of(method: &Method) -> Whole {
        if *method == Method::HEAD { Whole::HeadOnly } else { Whole::Body }
    }
}

/// An answer was not sent to its end: nobody is to take what was sent for all of it.
#[derive(Debug)]
pub(super) struct Unsent;

impl Reply {
    /// An answer of this head and body, behind what there is in `ours`.
    pub(super) fn new(
        head: &ResponseHead,
        body: Body,
        asked: Asked,
        spelling: &Spelling,
        mut ours: Vec<u8>,
    ) -> Reply {
        let coding = coding(head, &body, asked);
        let persistence = write_head(head, coding, &body, spelling, &mut ours);
        let state = match coding {
            Coding::None | Coding::Length(0) => State::Closing,
            _ => State::Open,
        };
        Reply {
            outgoing: Outgoing::new(ours),
            piped: None,
            body,
            coding,
            state,
            begun: false,
            switches: head.status == StatusCode::SWITCHING_PROTOCOLS,
            persistence,
        }
    }

    /// Returns the memory of the head, for the next one.
    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        self.outgoing.take_buffer()
    }

    /// Writes what there is to write.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, channel: &Channel) -> Poll<Result<(), Unsent>> {
        loop {
            ready!(self.poll_drain(cx, channel)).map_err(|_| Unsent)?;
            // The beginning of a body is often there with the head: then one write does for both.
            let staged = match self.state {
                State::Open if self.outgoing.has_room() => self.poll_body(cx, channel),
                State::Broken => Poll::Ready(Err(Unsent)),
                State::Open | State::Closing => Poll::Ready(Ok(())),
            };
            if let Poll::Ready(Err(Unsent)) = staged {
                self.state = State::Broken;
            }
            let file_follows = self.state == State::Open && self.file(channel).is_some();
            if let Some(pieces) = self.outgoing.pieces() {
                let written = match pieces {
                    [head, [], []] if file_follows => channel.poll_write_ahead(cx, head),
                    pieces => channel.poll_write(cx, pieces, self.behind()),
                };
                let count = ready!(written).map_err(|_| Unsent)?;
                self.outgoing.advance(count);
                self.begun = true;
                continue;
            }
            if staged.is_pending() {
                if channel.poll_flush(cx).map_err(|_| Unsent)?.is_pending()
                    || channel.poll_gone(cx).is_pending()
                {
                    return Poll::Pending;
                }
                return Poll::Ready(Err(Unsent));
            }
            ready!(staged)?;
            if self.state == State::Closing && self.piped.is_none() {
                return channel.poll_flush(cx).map_err(|_| Unsent);
            }
        }
    }

    /// What comes behind what is outgoing.
    fn behind(&self) -> Behind {
        match (self.state, self.persistence) {
            (State::Closing, Persistence::Closed) if !self.switches => Behind::End,
            _ => Behind::Nothing,
        }
    }

    /// Empties the pipe, if there is one.
    fn poll_drain(&mut self, cx: &mut Context<'_>, channel: &Channel) -> Poll<io::Result<()>> {
        if let Some(piped) = &mut self.piped {
            ready!(channel.poll_drain(cx, piped))?;
        }
        if let Some(Piped { pipe, .. }) = self.piped.take() {
            pipe.give_back();
        }
        Poll::Ready(Ok(()))
    }

    /// Gets the next piece of a large body that is on its way from one socket to another.
    fn poll_splice(&mut self, cx: &mut Context<'_>, channel: &Channel) -> Option<Poll<Result<(), Unsent>>> {
        let Coding::Length(left) = &mut self.coding else { return None };
        // What is to be written stands before it.
        if !self.outgoing.is_empty() || !channel.is_plain() {
            return None;
        }
        let piped = match self.body.poll_splice(cx)? {
            Poll::Ready(Ok(piped)) => piped,
            Poll::Ready(Err(_)) => return Some(Poll::Ready(Err(Unsent))),
            Poll::Pending => return Some(Poll::Pending),
        };
        let Some(rest) = left.checked_sub(piped.bytes as u64) else { return Some(Poll::Ready(Err(Unsent))) };
        *left = rest;
        if rest == 0 {
            self.state = State::Closing;
        }
        self.piped = Some(piped);
        Some(Poll::Ready(Ok(())))
    }

    /// The file that what comes next is moved from.
    fn file(&mut self, channel: &Channel) -> Option<&mut FileBody> {
        match self.coding {
            Coding::Length(1..) if channel.is_plain() => self.body.file(),
            _ => None,
        }
    }

    /// Moves what comes next from a file to the client.
    fn poll_move(&mut self, cx: &mut Context<'_>, channel: &Channel) -> Option<Poll<Result<(), Unsent>>> {
        let waits = !self.outgoing.is_empty();
        let file = self.file(channel)?;
        if waits {
            // What is to be written stands before it.
            return Some(Poll::Ready(Ok(())));
        }
        let count = match channel.poll_move(cx, file) {
            Poll::Ready(Ok(count)) => count,
            // The client has gone, or the file is not what was promised.
            Poll::Ready(Err(_)) => return Some(Poll::Ready(Err(Unsent))),
            Poll::Pending => return Some(Poll::Pending),
        };
        self.body.moved(count);
        let Coding::Length(left) = &mut self.coding else { return None };
        let Some(rest) = left.checked_sub(count as u64) else { return Some(Poll::Ready(Err(Unsent))) };
        *left = rest;
        if rest == 0 {
            self.state = State::Closing;
        } else if count >= MOVED_MAX {
            // Others have their turn before it goes on.
            cx.waker().wake_by_ref();
            return Some(Poll::Pending);
        }
        Some(Poll::Ready(Ok(())))
    }

    /// Gets the next piece of the body, and frames it.
    fn poll_body(&mut self, cx: &mut Context<'_>, channel: &Channel) -> Poll<Result<(), Unsent>> {
        if let Some(polled) = self.poll_splice(cx, channel) {
            return polled;
        }
        if let Some(polled) = self.poll_move(cx, channel) {
            return polled;
        }
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose() {
            Ok(frame) => frame,
            Err(cut) => {
                if self.coding == Coding::Close {
                    // The end of the connection would be taken for that of the body.
                    channel.session.part_by_reset();
                }
                // What a server has made a mess of, and nothing has left of, is no answer: nobody is to take
                // its head for one. Without one a client may ask again, as behind nginx.
                if cut == Cut::Malformed && !self.begun {
                    self.outgoing = Outgoing::new(Vec::new());
                }
                return Poll::Ready(Err(Unsent));
            }
        };
        let mut ends = frame.is_none() || self.body.is_end_stream();
        let data = match frame.map(Frame::into_data) {
            None => Bytes::new(),
            Some(Ok(data)) => data,
            Some(Err(frame)) => {
                self.state = State::Closing;
                if let (Coding::Chunks, Ok(trailers)) = (self.coding, frame.into_trailers()) {
                    write_trailers(&trailers, &channel.session.spelling, self.outgoing.buffer());
                }
                return Poll::Ready(self.ended());
            }
        };
        if let Coding::Length(left) = &mut self.coding {
            // More than was announced would be taken for the next answer.
            *left = left.checked_sub(data.len() as u64).ok_or(Unsent)?;
            ends |= *left == 0;
        }
        if ends {
            self.state = State::Closing;
            self.ended()?;
        }
        match self.coding {
            Coding::None | Coding::Length(_) | Coding::Close => self.outgoing.put(data),
            Coding::Chunks => self.outgoing.put_chunk(data, if ends { Piece::Last } else { Piece::Inner }),
        }
        Poll::Ready(Ok(()))
    }

    /// Whether a body that has ended has all that was announced.
    fn ended(&self) -> Result<(), Unsent> {
        match self.coding {
            Coding::Length(1..) => Err(Unsent),
            _ => Ok(()),
        }
    }
}

/// Decides how a body is framed.
fn coding(head: &ResponseHead, body: &Body, asked: Asked) -> Coding {
    if asked.whole == Whole::HeadOnly || is_bodiless(head.status) {
        return Coding::None;
    }
    let told = head.headers.get(CONTENT_LENGTH).and_then(|value| parse_length(value.as_bytes()));
    match told.or_else(|| body.size_hint().exact()) {
        Some(length) => Coding::Length(length),
        // An answer of the old version is one that is not to be in chunks.
        None if asked.version == Version::HTTP_11 && head.version == Version::HTTP_11 => Coding::Chunks,
        None => Coding::Close,
    }
}

/// Writes a head; returns what it says of the connection.
fn write_head(
    head: &ResponseHead,
    coding: Coding,
    body: &Body,
    spelling: &Spelling,
    out: &mut Vec<u8>,
) -> Persistence {
    let ResponseHead { status, headers, extensions, aside, .. } = head;
    // A server tells the version it has (RFC 9110, section 2.5), also to an older client.
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    let reason = extensions.get::<ReasonPhrase>().map(ReasonPhrase::as_bytes);
    out.extend_from_slice(reason.or(status.canonical_reason().map(str::as_bytes)).unwrap_or_default());
    out.extend_from_slice(b"\r\n");
    if let Some(server) = aside.server {
        for piece in ["Server: ", server, "\r\n"] {
            out.extend_from_slice(piece.as_bytes());
        }
    }
    let said = match coding {
        Coding::Close => Some(Persistence::Closed),
        _ => aside.persistence,
    };
    let mut persistence = said.unwrap_or(Persistence::Kept);
    let (mut dated, mut length_told) = (false, false);
    if let Some(fields) = body.head() {
        out.extend_from_slice(fields);
        length_told = true;
    }
    for (name, value) in &**headers {
        match name.as_str().len() {
            4 if name == DATE => dated = true,
            14 if name == CONTENT_LENGTH => {
                // An answer that can have no body has no length, either.
                if status.is_informational() || *status == StatusCode::NO_CONTENT {
                    continue;
                }
                length_told = true;
            }
            10 if name == CONNECTION => {
                if said.is_some() {
                    continue;
                }
                if value.as_bytes().eq_ignore_ascii_case(b"close") {
                    persistence = Persistence::Closed;
                }
            }
            17 if name == TRANSFER_ENCODING => continue,
            _ => {}
        }
        write_field(name, value, spelling, out);
    }
    if !dated && !status.is_informational() {
        out.extend_from_slice(b"Date: ");
        date::write_http(out);
        out.extend_from_slice(b"\r\n");
    }
    match coding {
        Coding::Length(length) if !length_told => {
            out.extend_from_slice(b"Content-Length: ");
            number(length, out);
            out.extend_from_slice(b"\r\n");
        }
        // What the answer to a `GET` would have.
        Coding::None if !length_told && status.is_success() && *status != StatusCode::NO_CONTENT => {
            if let Some(length @ 1..) = body.size_hint().exact() {
                out.extend_from_slice(b"Content-Length: ");
                number(length, out);
                out.extend_from_slice(b"\r\n");
            }
        }
        Coding::None | Coding::Length(_) | Coding::Close => {}
        Coding::Chunks => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    if let Some(said) = said {
        for piece in ["Connection: ", said.as_str(), "\r\n"] {
            out.extend_from_slice(piece.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
    spelling.forget();
    persistence
}

fn write_field(name: &HeaderName, value: &HeaderValue, spelling: &Spelling, out: &mut Vec<u8>) {
    spelling.write(name.as_str(), out);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes the end of a chunked body, with its fields: as nginx does, also for a client that does not
/// say that it takes them, and has to read over them (RFC 9112, section 7.1.2).
fn write_trailers(fields: &HeaderMap, spelling: &Spelling, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in fields.iter().filter(|(name, _)| may_trail(name)) {
        write_field(name, value, spelling, out);
    }
    spelling.forget();
    out.extend_from_slice(b"\r\n");
}

/// Whether a field may stand behind a body: not if it says how to read the message (RFC 9110,
/// section 6.5.1).
fn may_trail(name: &HeaderName) -> bool {
    *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING && *name != CONNECTION
}
