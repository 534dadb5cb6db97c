//! One request from its head to its line in the access log.
//!
//! It is made when the head has been read and dropped when the answer has been sent or given up,
//! by whomever that happens; dropping it writes the line. A request that is dropped without an
//! answer is one whose client has gone, and is logged as nginx's 499.

mod attempts;
mod context;

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Version};

use hyper::ext::ReasonPhrase;
use l4_proxy::proxy_protocol::Addresses;
use tracing::debug;

use self::attempts::Attempts;
pub(crate) use self::context::{Context, Upstream, say_of};
use crate::body::{Cut, Sizes};
use crate::explain::Trace;
use crate::fields;
use crate::handle::{ResponseHead, Waiting};
use crate::host::Recent;
use crate::limit;
use crate::model::{Handler, ProxyPass, RealIp};
use crate::route::{Entry, Place, Route, Router, Server};
use crate::server::{Generation, Protocol, Session};
use crate::uri::Target;
use crate::variable::{Captures, Completion, Connection, Exchange, Findings, Moment, Response, Slicing};

/// One request.
///
/// What most requests have no use for is in a place of its own: a transaction is made and moved for
/// each.
pub(crate) struct Transaction {
    pub(crate) session: Rc<Session>,
    pub(crate) generation: Rc<Generation>,
    /// What the client sent.
    pub(crate) parts: Box<Parts>,
    /// Its head as it was sent; empty in HTTP/2.
    head: Bytes,
    pub(crate) connection: Connection,
    /// The name that the request is for, in lower case; empty if it names none.
    pub(crate) host: Rc<str>,
    /// The path that is asked, if the answer is for us and not for a client: a question that another request
    /// waits for.
    asks: Option<Box<str>>,
    /// The method that an error page is asked with, in place of the client's.
    acting: Option<Method>,
    /// Whether its body goes nowhere, whatever its fields say.
    bodiless: bool,
    pub(crate) captures: Captures,
    pub(crate) attempts: Attempts,
    pub(crate) findings: Findings,
    pub(crate) began: Instant,
    /// The location that answers; `None` while it is not known.
    pub(crate) place: Option<Place>,
    /// Where the location forwards to, if only the request says so.
    pub(crate) named: Option<Rc<ProxyPass>>,
    /// Path and query after an internal redirect.
    pub(crate) redirected: Option<Box<Target<'static>>>,
    /// Whether the path is not any more the one that led to the location: it was rewritten there.
    pub(crate) path: PathOrigin,
    /// The fields that a server sent, where a variable may show them.
    pub(crate) upstream_headers: Option<Box<HeaderMap>>,
    /// The fields that a server sent behind its body, likewise.
    pub(crate) upstream_trailers: Option<Box<HeaderMap>>,
    /// Fields of a server that stay when another location answers in its place.
    pub(crate) carried: Option<Box<HeaderMap>>,
    /// The character set that a server wants its answer to be said to be in (`X-Accel-Charset`).
    pub(crate) charset: Option<Box<str>>,
    /// What led to the answer, where that is asked for in place of the answer.
    pub(crate) trace: Option<Box<Trace>>,
    /// Places among the requests that are being served, where those are limited.
    pub(crate) places: Vec<limit::Place>,
    /// What waits for its end, where something comes afterwards.
    pub(crate) waiting: Option<Box<Waiting>>,
    stage: Stage,
    answer: Answer,
}

/// Whether a request is being answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is.
    Before,
    /// It is over, and goes on with nobody to answer.
    Afterwards,
}

/// How a request's path and its location belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathOrigin {
    /// The path led to the location.
    Located,
    /// The location has rewritten it.
    Rewritten,
}

/// What is kept of the answer for the log.
#[derive(Default)]
struct Answer {
    /// Zero while there is none.
    status: u16,
    head_size: u64,
    body_size: u64,
    completion: Option<Completion>,
    /// How much it was compressed.
    packed: Option<Sizes>,
    /// The fields, where a log shows one.
    headers: Option<Box<HeaderMap>>,
    /// Those behind the body, likewise.
    trailers: Option<Box<HeaderMap>>,
}

/// Whose body an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Server,
    /// Ours: a file or a page.
    Own,
}

impl Transaction {
    pub(crate) fn new(
        session: Rc<Session>,
        generation: Rc<Generation>,
        parts: Box<Parts>,
    ) -> Box<Transaction> {
        let (connection, head, host) = (session.connection(), session.take_head(), Recent::none());
        let (began, place) = (Instant::now(), Box::new_uninit());
        // Made where it stays.
        let transaction = Transaction {
            head,
            session,
            generation,
            parts,
            connection,
            host,
            asks: None,
            acting: None,
            bodiless: false,
            captures: Captures::default(),
            attempts: Attempts::default(),
            findings: Findings::default(),
            began,
            place: None,
            named: None,
            redirected: None,
            path: PathOrigin::Located,
            upstream_headers: None,
            upstream_trailers: None,
            carried: None,
            charset: None,
            trace: None,
            places: Vec::new(),
            waiting: None,
            stage: Stage::Before,
            answer: Answer::default(),
        };
        Box::write(place, transaction)
    }

    /// A question about this request, that the location of a path of ours answers: the client's fields and no
    /// body.
    pub(crate) fn question(&self, path: &str) -> Box<Transaction> {
        let (session, generation) = (Rc::clone(&self.session), Rc::clone(&self.generation));
        let mut asking = Transaction::new(session, generation, self.parts.clone());
        asking.asks = Some(path.into());
        asking.acting = Some(Method::GET);
        asking.head = self.head.clone();
        asking.connection = self.connection;
        asking.host.clone_from(&self.host);
        asking.began = self.began;
        asking.findings.clone_from(&self.findings);
        asking.findings.slice.set(Slicing::Never);
        asking
    }

    /// A copy of this request on a session of its own, for the location of a path of ours; its answer is nobody's.
    pub(crate) fn mirrored(&self, session: Rc<Session>, path: &str) -> Box<Transaction> {
        let mut mirrored = self.question(path);
        mirrored.session = session;
        mirrored.acting.clone_from(&self.acting);
        mirrored
    }

    /// The same request on a session of its own, at the location that it has come to; its answer is nobody's.
    pub(crate) fn beside(&self, session: Rc<Session>) -> Box<Transaction> {
        let mut beside = self.question(request_uri(&self.parts));
        beside.session = session;
        beside.session.receive(self.session.received());
        beside.acting.clone_from(&self.acting);
        beside.captures.clone_from(&self.captures);
        beside.place = self.place;
        beside.named.clone_from(&self.named);
        beside.redirected.clone_from(&self.redirected);
        beside.path = self.path;
        beside.findings.slice.clone_from(&self.findings.slice);
        beside
    }

    /// What this request goes on as when it is over, on a session of its own, towards a location of ours: its
    /// answer is nobody's, and variables show the one that was given.
    pub(crate) fn afterwards(&mut self, session: Rc<Session>, path: &str) -> Box<Transaction> {
        let mut after = self.beside(session);
        after.asks = Some(path.into());
        after.stage = Stage::Afterwards;
        after.findings.slice.set(Slicing::Never);
        after.attempts = std::mem::take(&mut self.attempts);
        after.upstream_headers = self.upstream_headers.take();
        after.upstream_trailers = self.upstream_trailers.take();
        after.answer = std::mem::take(&mut self.answer);
        if after.answer.status == 0 {
            after.answer.status = self.session.unanswered();
        }
        after.answer.headers.get_or_insert_default();
        after
    }

    /// Whether something may come after it: what is no answer to a client has no end of its own.
    pub(crate) fn may_be_followed(&self) -> bool {
        !self.asks() && self.trace.is_none() && self.waiting.is_none()
    }

    /// Whether it is asked whether it may go on, as requests of clients are.
    pub(crate) fn is_judged(&self) -> bool {
        !self.asks() || self.stage == Stage::Afterwards
    }

    /// Whether the client reads interim answers, and we can write them.
    pub(crate) fn takes_interim_answers(&self) -> bool {
        match self.session.protocol {
            Protocol::Stream(_) => self.parts.version == Version::HTTP_2,
            _ => self.parts.version == Version::HTTP_11,
        }
    }

    /// How large the head was, if it was sent as text.
    pub(crate) fn head_size(&self) -> Option<usize> {
        Some(self.head.len()).filter(|&size| size > 0)
    }

    /// Whether the answer is for us.
    pub(crate) fn asks(&self) -> bool {
        self.asks.is_some()
    }

    /// The path that is asked, if another request waits for the answer.
    pub(crate) fn question_path(&self) -> Option<&str> {
        self.asks.as_deref().filter(|_| self.stage == Stage::Before)
    }

    /// What variables are read from, at the route that is being asked.
    pub(crate) fn exchange<'a>(
        &'a self,
        target: &'a Target<'a>,
        server_name: &'a str,
        route: &Route<'a>,
    ) -> Exchange<'a> {
        Exchange {
            connection: &self.connection,
            tls: self.session.tls.as_deref(),
            proxied: self.session.proxied.as_deref(),
            method: self.method(),
            // A question is about the client's own.
            asked_method: if self.asks() { &self.parts.method } else { self.method() },
            version: self.parts.version,
            head: &self.head,
            received: self.session.received(),
            request_uri: request_uri(&self.parts),
            target,
            headers: &self.parts.headers,
            host: &self.host,
            server_name,
            settings: route.settings,
            captures: &self.captures,
            definitions: self.generation.site.router.definitions(),
            findings: &self.findings,
            socket: self.session.socket.as_deref(),
            around: &*self.session.worker,
            proxy: match route.handler {
                Handler::Proxy(pass) => Some(pass),
                Handler::ProxyTo(_) => self.named.as_deref(),
                Handler::Files | Handler::Status(_) | Handler::EmptyGif => None,
            },
            attempts: self.attempts.list(),
            response: match (self.stage, &self.answer.headers) {
                (Stage::Afterwards, Some(headers)) => Some(self.told(self.answer.status, headers)),
                _ => None,
            },
            moment: Moment::Asked(self.began),
        }
    }

    /// Keeps what logs may show of an answer that is about to be sent with a body of this size, and so many
    /// bytes of [fields](crate::body::Kind::head) beside those of its head.
    pub(crate) fn answer(&mut self, head: &ResponseHead, size: Option<u64>, written: usize) {
        let field = |name: usize, value: usize| name + value + ": \r\n".len();
        let fields = head.headers.iter().map(|(name, value)| field(name.as_str().len(), value.len()));
        let own = head.extensions.get::<ReasonPhrase>().map(|reason| reason.as_bytes().len());
        let reason = own.unwrap_or_else(|| head.status.canonical_reason().unwrap_or_default().len());
        // What whoever writes the head adds.
        let framing = match size {
            _ if written > 0 || fields::has(&head.headers, &CONTENT_LENGTH) => 0,
            Some(size) => field("Content-Length".len(), size.to_string().len()),
            None if self.parts.version == Version::HTTP_11 => {
                field("Transfer-Encoding".len(), "chunked".len())
            }
            None => 0,
        };
        let date = field("Date".len(), "Thu, 01 Jan 1970 00:00:00 GMT".len());
        let first_line = "HTTP/1.1 200 \r\n".len() + reason;
        let size = first_line
            + written
            + head.aside.written()
            + fields.sum::<usize>()
            + framing
            + date
            + "\r\n".len();
        self.answer.head_size = size as u64;
        if self.generation.site.router.needs().sent_fields {
            self.answer.headers = Some(head.headers.clone());
        }
    }

    /// The answer is over.
    pub(crate) fn settle(&mut self, body_size: u64, completion: Completion, sizes: Option<Sizes>) {
        self.answer.packed = sizes;
        self.answer.body_size = body_size;
        self.answer.completion = Some(completion);
    }

    /// Keeps what the server sent behind its body, where a variable may show it.
    pub(crate) fn receive_trailers(&mut self, fields: &HeaderMap) {
        if self.generation.site.router.needs().upstream_fields {
            self.upstream_trailers = Some(Box::new(fields.clone()));
        }
    }

    /// Keeps the fields behind the body, where a log shows one.
    pub(crate) fn trail(&mut self, fields: &HeaderMap) {
        if self.generation.site.router.needs().sent_fields {
            self.answer.trailers = Some(Box::new(fields.clone()));
        }
    }

    /// Notes how many bytes of the answer's body are out; `from` says whether they are those of the latest attempt.
    pub(crate) fn count(&mut self, body_size: u64, from: Origin) {
        self.answer.body_size = body_size;
        if from == Origin::Server {
            self.attempts.count(body_size);
        }
    }

    /// Lets somebody look at what is known of the request and its answer when that is out, or nearly.
    pub(crate) fn look(&self, look: impl FnOnce(&Route<'_>, &Exchange<'_>)) {
        let Some(place) = self.place else { return };
        let (server, route) = self.generation.site.router.at(place);
        let asked = match self.redirected {
            Some(_) => None,
            // A path that cannot be read is in the log as `$request_uri`.
            None => Target::parse(request_uri(&self.parts)).or_else(|_| Target::parse("/")).ok(),
        };
        let Some(target) = self.redirected.as_deref().or(asked.as_ref()) else { return };
        let none = HeaderMap::new();
        let answer = &self.answer;
        let status = if answer.status == 0 { self.session.unanswered() } else { answer.status };
        let exchange = self.exchange(target, server.name(), &route);
        let exchange = Exchange {
            method: &self.parts.method,
            asked_method: &self.parts.method,
            response: Some(self.told(status, answer.headers.as_deref().unwrap_or(&none))),
            ..exchange
        };
        look(&route, &exchange);
    }

    /// What variables show of the answer when it is over.
    fn told<'a>(&'a self, status: u16, headers: &'a HeaderMap) -> Response<'a> {
        let answer = &self.answer;
        Response {
            status,
            headers,
            trailers: answer.trailers.as_deref(),
            upstream_headers: self.upstream_headers.as_deref(),
            upstream_trailers: self.upstream_trailers.as_deref(),
            body_bytes_sent: answer.body_size,
            bytes_sent: answer.head_size + answer.body_size,
            packed: answer.packed.map(|sizes| (sizes.plain, sizes.packed)),
            completion: answer.completion.unwrap_or(Completion::Partial),
        }
    }

    fn log(&self) {
        if self.asks() && self.stage == Stage::Before {
            return;
        }
        let logs = |place: Place| !self.generation.site.router.at(place).1.settings.access_log.is_empty();
        if !self.place.is_some_and(logs) {
            return;
        }
        self.look(|route, exchange| {
            for log in &route.settings.access_log {
                self.session.worker.writers.log(log, exchange);
            }
        });
    }

    /// What a line in the log of errors says of the request it is about.
    pub(crate) fn context<'a>(&'a self, server: &'a Server) -> Context<'a> {
        Context { transaction: self, server_name: server.name(), upstream: None }
    }

    /// Takes down that the client has gone while a server was asked.
    #[cold]
    fn tell_gone(&self) {
        let Some(place) = self.place else { return };
        let (_, route) = self.generation.site.router.at(place);
        let is_forwarded = matches!(route.handler, Handler::Proxy(_) | Handler::ProxyTo(_));
        if !is_forwarded || self.session.unanswered() != CLIENT_CLOSED_REQUEST {
            return;
        }
        let latest = self.attempts.list().last().and_then(|attempt| attempt.server);
        let serial = self.connection.serial;
        say_of(self, latest, |context| {
            debug!(
                "*{serial} epoll_wait() reported that client prematurely closed connection, so upstream \
                 connection is closed too while sending request to upstream{context}"
            );
        });
    }

    /// Its answer has this status, and is about to be sent.
    pub(crate) fn is_answered(&mut self, status: StatusCode) {
        self.answer.status = status.as_u16();
    }

    /// The method that a handler goes by.
    pub(crate) fn method(&self) -> &Method {
        self.acting.as_ref().unwrap_or(&self.parts.method)
    }

    /// Goes by `GET` from now on: what an error page is asked with, as in nginx.
    pub(crate) fn act_as_get(&mut self) {
        if self.parts.method != Method::HEAD {
            self.acting = Some(Method::GET);
        }
    }

    /// Whether an error page is asked for, or what a server has named instead of its answer.
    pub(crate) fn acts_as_get(&self) -> bool {
        self.acting.is_some()
    }

    /// Has its body go nowhere from now on.
    pub(crate) fn give_up_body(&mut self) {
        self.bodiless = true;
    }

    /// Whether its body goes nowhere.
    pub(crate) fn is_bodiless(&self) -> bool {
        self.bodiless
    }

    /// Takes down a step of the request's way, if that is asked for.
    pub(crate) fn tell(&self, step: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            trace.add(&step());
        }
    }

    /// Takes the peer's word on the client's address, once.
    pub(crate) fn identify(&mut self, real_ip: &RealIp) {
        if real_ip.from.is_empty() || self.connection.remote != self.connection.peer {
            return;
        }
        let proxied = match self.session.proxied.as_deref().map(|header| header.addresses) {
            Some(Addresses::Tcp(source, _) | Addresses::Udp(source, _)) => Some(source),
            Some(Addresses::Own) | None => None,
        };
        if let Some(client) = real_ip.client(self.connection.peer, &self.parts.headers, proxied) {
            self.connection.remote = client;
            self.tell(|| format!("the client is {}: the peer's word on it is taken", client.ip()));
        }
    }

    /// Is answered by closing the connection.
    pub(crate) fn close(&mut self) {
        self.answer.status = CLOSED_WITHOUT_ANSWER;
    }

    /// Was not read whole, and is not answered; in the log it has this status.
    pub(crate) fn is_unheard(&mut self, status: u16) {
        self.answer.status = status;
    }

    /// Is not answered: nobody is there. In the log it is a bad request, as in nginx.
    pub(crate) fn abandon(&mut self) -> Cut {
        self.answer.status = Cut::Gone.status();
        Cut::Gone
    }

    /// Looks for the virtual server of the request's name.
    pub(crate) fn find_server<'r>(&mut self, router: &'r Router, entry: Entry) -> &'r Server {
        router.server(entry, &self.host, &mut self.captures)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.attempts.end((0, 0));
        if self.answer.status == 0 && !self.asks() {
            self.tell_gone();
        }
        let waiting = self.waiting.take();
        if !waiting.is_some_and(|waiting| waiting.go_on(self)) {
            self.log();
        }
        self.session.worker.keep_headers(std::mem::take(&mut self.parts.headers));
    }
}

/// Path and query as the client sent them.
pub(crate) fn request_uri(parts: &Parts) -> &str {
    parts.uri.path_and_query().map_or("/", |target| target.as_str())
}

/// What nginx logs for a client that did not wait for its answer.
pub(crate) const CLIENT_CLOSED_REQUEST: u16 = 499;

/// What nginx logs for a connection that the configuration closes without an answer.
const CLOSED_WITHOUT_ANSWER: u16 = 444;
