//! What variables are read from: one request, its connection, and its answer so far.

use std::cell::{Ref, RefCell};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, Method, Version};
use l4_proxy::proxy_protocol::Header;

use crate::model::{Pattern, ProxyPass, Settings};
use crate::tls::Handshake;
use crate::uri::Target;

use super::{Around, Definitions, Findings};

/// What is known about a request at the moment a value is written: references only, built anew
/// wherever a value is needed.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// The client's connection.
    pub connection: &'a Connection,
    /// TLS with the client, if it is spoken.
    pub tls: Option<&'a Handshake>,
    /// The socket of the client's connection, where a variable asks the kernel about it.
    pub socket: Option<&'a OwnedFd>,
    /// What a header of the PROXY protocol said of the connection.
    pub proxied: Option<&'a Header>,
    /// The request's method.
    pub method: &'a Method,
    /// What variables show as the request's method: that of the request that a question is about.
    pub asked_method: &'a Method,
    /// The request's version.
    pub version: Version,
    /// The request's head as it was sent; empty where it was no text, as in HTTP/2.
    pub head: &'a [u8],
    /// Bytes of the request's body that have come.
    pub received: u64,
    /// Path and query as the client sent them.
    pub request_uri: &'a str,
    /// The path that is matched and the query; differs from the client's after an internal redirect.
    pub target: &'a Target<'a>,
    /// The request's fields as the client sent them.
    pub headers: &'a HeaderMap,
    /// The name that the request is for, from [`crate::host::Host::name`]; empty if it has none.
    pub host: &'a str,
    /// First name of the virtual server.
    pub server_name: &'a str,
    /// What holds at the location.
    pub settings: &'a Settings,
    /// Groups of the regular expressions that matched.
    pub captures: &'a Captures,
    /// The variables that the configuration defines.
    pub definitions: &'a Definitions,
    /// What else is known of the request.
    pub findings: &'a Findings,
    /// The program around the request.
    pub around: &'a dyn Around,
    /// `proxy_pass` of the location, if the request is forwarded.
    pub proxy: Option<&'a ProxyPass>,
    /// The servers that were tried, in order.
    pub attempts: &'a [Attempt],
    /// The answer, as far as it is known.
    pub response: Option<Response<'a>>,
    /// The moment that it is asked about.
    pub moment: Moment,
}

/// The moment that a request is asked about.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    /// That of the asking, for a request that began then. The clock is read only if a variable
    /// wants to know.
    Asked(Instant),
    /// A given one.
    At {
        /// Time since the request began.
        elapsed: Duration,
        /// The time of day.
        now: SystemTime,
    },
}

impl Moment {
    pub(super) fn elapsed(self) -> Duration {
        match self {
            Moment::Asked(began) => began.elapsed(),
            Moment::At { elapsed, .. } => elapsed,
        }
    }

    pub(crate) fn now(self) -> SystemTime {
        match self {
            Moment::Asked(_) => SystemTime::now(),
            Moment::At { now, .. } => now,
        }
    }
}

/// A client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The client's address.
    pub remote: SocketAddr,
    /// The address of the peer: the client's, unless that is another by the peer's word.
    pub peer: SocketAddr,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// Number of the connection in this process.
    pub serial: u64,
    /// Requests on the connection so far, this one included.
    pub requests: u64,
    /// How the client speaks to us.
    pub scheme: Scheme,
    /// When the connection was made.
    pub opened: Instant,
    /// Whether this request had begun before the one before it was answered.
    pub pipelined: bool,
}

/// How a client speaks to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// Returns the name as in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Returns the port that a URL need not name.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// One server that a request was given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// The server; `None` if none could be chosen, and the upstream's name stands for it.
    pub server: Option<SocketAddr>,
    /// The status that it answered, or the one that stands for its failure (502, 504).
    pub status: Option<u16>,
    /// How long it took; `None` while it goes on.
    pub elapsed: Option<Duration>,
    /// Bytes of its body that we have passed on.
    pub length: u64,
    /// Bytes sent to it, and received from it.
    pub traffic: (u64, u64),
    /// Whether it was asked after an internal redirect, and not in place of the one before it.
    pub apart: bool,
    /// How long it took to connect: nothing for a kept connection, `None` if there was none.
    pub connected: Option<Duration>,
    /// How long it took until the head of the answer; `None` if there was none.
    pub answered: Option<Duration>,
}

impl Attempt {
    /// Returns an attempt of which only this is known.
    pub fn new(server: Option<SocketAddr>, status: Option<u16>, elapsed: Option<Duration>) -> Self {
        Self {
            server,
            status,
            elapsed,
            length: 0,
            traffic: (0, 0),
            apart: false,
            connected: None,
            answered: None,
        }
    }
}

/// An answer, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// The status.
    pub status: u16,
    /// The fields.
    pub headers: &'a HeaderMap,
    /// The fields behind the body, as far as they are put together.
    pub trailers: Option<&'a HeaderMap>,
    /// The fields that the server sent, before any of ours; `None` if we answered ourselves.
    pub upstream_headers: Option<&'a HeaderMap>,
    /// The fields that the server sent behind its body.
    pub upstream_trailers: Option<&'a HeaderMap>,
    /// Bytes of the body that went out.
    pub body_bytes_sent: u64,
    /// Bytes that went out, the head included.
    pub bytes_sent: u64,
    /// Bytes of the body before and after it was compressed, if it was.
    pub packed: Option<(u64, u64)>,
    /// Whether the answer went out whole.
    pub completion: Completion,
}

impl<'a> Response<'a> {
    /// Returns an answer of which nothing but its head is known, and nothing has gone out.
    pub fn begun(status: u16, headers: &'a HeaderMap) -> Self {
        Self {
            status,
            headers,
            trailers: None,
            upstream_headers: None,
            upstream_trailers: None,
            body_bytes_sent: 0,
            bytes_sent: 0,
            packed: None,
            completion: Completion::Partial,
        }
    }
}

/// Whether an answer went out whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// All of it.
    Whole,
    /// Not yet, or never.
    Partial,
}

/// Groups of the regular expressions that matched a request.
///
/// `$1` to `$9` belong to the expression that matched last; a named group stays until an
/// expression with a group of the same name matches. A look at a variable may be a match, too, where
/// it is a `map` with expressions, so that groups change behind a shared reference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captures(RefCell<Groups>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Groups {
    subject: Vec<u8>,
    groups: [Option<Range<u32>>; 10],
    named: Vec<(Box<str>, Vec<u8>)>,
    gave_up: bool,
}

impl Captures {
    /// Matches `subject` and, if it matches, remembers the groups.
    pub fn matches(&mut self, pattern: &Pattern, subject: &[u8]) -> bool {
        self.0.get_mut().matches(pattern, subject)
    }

    /// The same while a variable is looked at.
    pub(crate) fn matches_at_a_look(&self, pattern: &Pattern, subject: &[u8]) -> bool {
        self.0.borrow_mut().matches(pattern, subject)
    }

    /// Returns whether of some subject it was not found out if it matches, since this was asked last:
    /// nothing that follows from that can be relied on.
    pub(crate) fn take_failure(&mut self) -> bool {
        std::mem::take(&mut self.0.get_mut().gave_up)
    }

    /// Returns the same groups, written so that each can stand in arguments as one value. Those with a name
    /// stay as they are, as in nginx.
    pub(crate) fn for_arguments(&self) -> Captures {
        Captures(RefCell::new(self.0.borrow().for_arguments()))
    }

    /// Returns the text of group `number`.
    pub fn group(&self, number: u8) -> Option<Ref<'_, [u8]>> {
        Ref::filter_map(self.0.borrow(), |groups| groups.group(number)).ok()
    }

    /// Returns the text of the group called `name`.
    pub fn named(&self, name: &str) -> Option<Ref<'_, [u8]>> {
        Ref::filter_map(self.0.borrow(), |groups| groups.named(name)).ok()
    }
}

impl Groups {
    fn matches(&mut self, pattern: &Pattern, subject: &[u8]) -> bool {
        let found = pattern.find(subject, |group| {
            if group.number == 0 {
                self.groups = Default::default();
                if group.range.is_some() {
                    self.subject.clear();
                    self.subject.extend_from_slice(subject);
                }
            }
            let Some(range) = group.range else { return };
            if let Some(slot) = self.groups.get_mut(group.number) {
                *slot = u32::try_from(range.start)
                    .ok()
                    .zip(u32::try_from(range.end).ok())
                    .map(|(start, end)| start..end);
            }
            let (Some(name), Some(text)) = (group.name, subject.get(range)) else { return };
            match self.named.iter_mut().find(|(known, _)| &**known == name) {
                Some((_, value)) => *value = text.to_vec(),
                None => self.named.push((name.into(), text.to_vec())),
            }
        });
        self.gave_up |= found.is_err();
        found.unwrap_or(false)
    }

    fn for_arguments(&self) -> Groups {
        let mut escaped = Groups { named: self.named.clone(), ..Groups::default() };
        for (number, slot) in (0_u8..).zip(&mut escaped.groups) {
            let Some(group) = self.group(number) else { continue };
            let start = u32::try_from(escaped.subject.len());
            escape_argument(group, &mut escaped.subject);
            let end = u32::try_from(escaped.subject.len());
            *slot = start.ok().zip(end.ok()).map(|(start, end)| start..end);
        }
        escaped
    }

    fn group(&self, number: u8) -> Option<&[u8]> {
        let range = self.groups.get(usize::from(number))?.as_ref()?;
        self.subject.get(range.start as usize..range.end as usize)
    }

    fn named(&self, name: &str) -> Option<&[u8]> {
        self.named.iter().find(|(known, _)| &**known == name).map(|(_, value)| &**value)
    }
}

/// Appends a value so that it can stand among others in arguments.
fn escape_argument(value: &[u8], out: &mut Vec<u8>) {
    for &byte in value {
        match byte {
            ..=b' ' | 0x7f.. | b'#' | b'%' | b'&' | b'+' | b'?' => {
                out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            byte => out.push(byte),
        }
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";
