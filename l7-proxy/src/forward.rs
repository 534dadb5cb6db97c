//! Requests on their way to a server, and to another one if that fails.
//!
//! A request is given to another server only if that cannot make it happen twice: the server never
//! got it, or it is idempotent and its body is still whole. Nothing of an answer has reached the
//! client by then. A kept connection that turns out to be closed says nothing about its server:
//! the same server gets the request again on a new one.

mod explained;
mod headers;
mod http2;
mod outgoing;
mod relayed;
mod tunnel;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::header::UPGRADE;
use http::uri::PathAndQuery;
use http::{Extensions, HeaderName, Method, StatusCode, Uri, Version};
use lvs_core::{Cause, Event, Flow, Lease, Refusal};
use tracing::{debug, error, warn};

pub(crate) use self::explained::explain;
pub(crate) use self::headers::nominated;
use self::relayed::{Account, Claim, Rest};
pub(crate) use self::relayed::{Piped, Relayed};
pub(crate) use self::tunnel::Tunnel;
use crate::body::{Cut, Kind, Source};
use crate::error_log::Errno;
use crate::handle::{Answer, exchange};
use crate::model::{HttpVersion, PassUri, ProxyPass, ProxySettings, RetryOn, Timed};
use crate::moment::Moment;
use crate::route::{Route, Server};
use crate::transaction::{PathOrigin, Transaction, request_uri};
use crate::upstream::{self, AskError, Asked, ConnectError, Expired, Fields, Head, Pool, Question, Secure};
use crate::uri::Target;
use crate::variable::Attempt;

/// Forwards a request to a server of the location's upstream.
///
/// # Errors
/// With the status that says why there is no answer.
pub(crate) async fn forward(
    transaction: &mut Transaction,
    server: &Server,
    route: &Route<'_>,
    pass: &ProxyPass,
    target: &Target<'_>,
    received: Option<Rc<Source>>,
) -> Result<Answer, u16> {
    let settings = route.proxy();
    let uri = match request_target(transaction, server, route, pass, target) {
        Some(uri) => uri,
        None => return Err(500),
    };
    let (source, origin) = {
        let exchange = exchange(transaction, server, route, target);
        let body = outgoing::body(settings, &exchange, &transaction.session, received);
        (body, outgoing::origin(settings, &exchange))
    };
    if settings.http_version == HttpVersion::Http10
        && source.as_ref().is_some_and(|source| source.exact_size().is_none())
    {
        // HTTP/1.0 has no way to send a body whose length is not known at its start.
        return Err(411);
    }
    let is_told = transaction.generation.site.router.needs().attempts;
    let pool = transaction.generation.pool(pass.upstream);
    let secure = match pass.tls {
        true => Some(secure(transaction, server, route, target, settings)?),
        false => None,
    };
    let connected = Cell::default();
    let journey =
        Journey { secure, server, route, target, settings, is_told, connected, uri, source, origin, pool };
    journey.run(transaction).await
}

/// What stays the same through all attempts for one request.
struct Journey<'a> {
    server: &'a Server,
    route: &'a Route<'a>,
    target: &'a Target<'a>,
    settings: &'a ProxySettings,
    /// Whether a log or a field may show the attempts.
    is_told: bool,
    /// How long it took the present attempt to connect.
    connected: Cell<Option<Duration>>,
    uri: Uri,
    source: Option<Rc<Source>>,
    /// The address that connections come from, where it is not the system's choice.
    origin: Option<SocketAddr>,
    pool: Rc<Pool>,
    /// How TLS is spoken with the server, if it is.
    secure: Option<Box<Secure>>,
}

/// Returns how TLS is spoken with the servers of a location.
fn secure(
    transaction: &Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
    settings: &ProxySettings,
) -> Result<Box<Secure>, u16> {
    let client = transaction.generation.site.client(&settings.tls).ok_or(500_u16)?.clone();
    let mut scratch = Vec::new();
    let exchange = exchange(transaction, server, route, target);
    let name = settings.tls_name.bytes(&exchange, &mut scratch);
    let name = std::str::from_utf8(name).map_err(|_| 500_u16)?.into();
    Ok(Box::new(Secure { client, name }))
}

/// Why an attempt brought no answer.
#[derive(Debug)]
enum Failure {
    /// There is no connection.
    Connect(ConnectError),
    /// The connection broke before an answer came.
    Broken {
        error: Option<io::Error>,
        reach: Reach,
        /// Whether the connection was a kept one that its server may have closed meanwhile.
        kept: bool,
    },
    /// The server has said that it has not begun with the request.
    Refused {
        what: &'static str,
        /// Whether the connection had been idle.
        kept: bool,
    },
    /// The answer took too long.
    TimedOut(Expired),
    /// The answer is no HTTP.
    Invalid(&'static str),
    /// The client is at fault, or gone.
    Client(Cut),
}

/// What a server has answered, and the connection that the rest comes on.
struct Response {
    head: Head,
    rest: Rest,
}

/// How far a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Not a byte of it was sent.
    Nowhere,
    /// The server may have acted on it.
    Server,
}

impl Journey<'_> {
    async fn run(&self, transaction: &mut Transaction) -> Result<Answer, u16> {
        let flow = self.flow(transaction);
        let began = Moment::now();
        self.pool.budget.count(began);
        let mut tried: Vec<SocketAddr> = Vec::new();
        let mut last = None;
        let mut chosen = self.bound_to(transaction);
        // Held while another server than the first is asked.
        let mut repetition = None;
        let worker = Rc::clone(&transaction.session.worker);
        let director = worker.director();
        loop {
            let choose = || director.schedule_except(&self.pool.key, &flow, &tried, Moment::now().as_time());
            let found = match (chosen.take(), &self.pool.line) {
                (Some(lease), _) => Ok(lease),
                (None, Some(line)) => line.choose(choose).await,
                (None, None) => choose(),
            };
            let lease = match found {
                Ok(lease) => lease,
                Err(refusal) => return Err(last.unwrap_or_else(|| self.refused(transaction, refusal))),
            };
            let server = lease.server();
            let attempted = (self.is_told || self.pool.is_clocked()).then(Instant::now);
            let mut connect = Connect::Pooled;
            let sent = loop {
                let sent = self.attempt(transaction, server, connect).await;
                match &sent {
                    Err(failure) if failure.is_stale() && self.may_repeat(transaction, failure.reach()) => {
                        connect = Connect::New;
                    }
                    _ => break sent,
                }
            };
            let failure = match sent {
                Ok(response) => {
                    let status = response.head.status.as_u16();
                    self.note(transaction, server, Some(status), attempted, Arrival::Head);
                    if let (Some(timing), Some(began)) = (&self.pool.timing, attempted) {
                        timing.observe(began.elapsed());
                    }
                    let next = self.settings.next_upstream.on.statuses.contains(&status);
                    if !next {
                        let event = match (attempted, self.pool.timed) {
                            (Some(began), Some(Timed::Head)) => Event::Responded { latency: began.elapsed() },
                            _ => Event::Succeeded,
                        };
                        director.report(&lease, event, Moment::now().as_time());
                        let timed = attempted.filter(|_| self.pool.timed == Some(Timed::LastByte));
                        return Ok(self.answer(transaction, lease, response, timed));
                    }
                    if !matches!(status, 403 | 404) {
                        let event = Event::Failed(format!("HTTP {status}").into());
                        self.disabled(
                            transaction,
                            &lease,
                            director.report(&lease, event, Moment::now().as_time()),
                        );
                    }
                    tried.push(server);
                    drop(repetition.take());
                    if self.may_repeat(transaction, Reach::Server) && self.has_tries(&tried, began) {
                        repetition = self.pool.budget.repeat();
                    }
                    if repetition.is_some() {
                        chosen = director
                            .schedule_except(&self.pool.key, &flow, &tried, Moment::now().as_time())
                            .ok();
                    }
                    if chosen.is_none() {
                        return Ok(self.answer(transaction, lease, response, None));
                    }
                    last = Some(status);
                    continue;
                }
                Err(failure) => failure,
            };
            let status = failure.status();
            // A client's fault is no answer of the server's.
            let noted = Some(status).filter(|_| !matches!(failure, Failure::Client(_)));
            self.note(transaction, server, noted, attempted, Arrival::Nothing);
            self.report(transaction, &lease, &failure);
            drop(lease);
            tried.push(server);
            let again = failure.is_among(&self.settings.next_upstream.on)
                && self.may_repeat(transaction, failure.reach())
                && self.has_tries(&tried, began);
            drop(repetition.take());
            if again && failure.reach() == Reach::Server {
                repetition = self.pool.budget.repeat();
            }
            if !again || (failure.reach() == Reach::Server && repetition.is_none()) {
                return Err(status);
            }
            last = Some(status);
        }
    }

    /// The server that the client is bound to, if it is to any.
    fn bound_to(&self, transaction: &Transaction) -> Option<Lease> {
        let bound = self.pool.bound.as_ref()?;
        let exchange = exchange(transaction, self.server, self.route, self.target);
        bound.take(&exchange, transaction.session.worker.director(), &self.pool.key)
    }

    /// Takes down what became of an attempt, where that may be shown.
    fn note(
        &self,
        transaction: &mut Transaction,
        server: SocketAddr,
        status: Option<u16>,
        began: Option<Instant>,
        arrival: Arrival,
    ) {
        if let Some(began) = began.filter(|_| self.is_told) {
            let attempt = Attempt::new(Some(server), status, began.elapsed());
            let answered = (arrival == Arrival::Head).then_some(attempt.elapsed);
            let connected = self.connected.take();
            transaction.attempts.push(Attempt { answered, connected, ..attempt });
        }
    }

    /// What the choice of a server goes by.
    fn flow(&self, transaction: &Transaction) -> Flow {
        let flow = Flow::new(transaction.session.remote).to(transaction.session.local);
        let Some(value) = &self.pool.hashed else { return flow };
        let mut key = Vec::new();
        value.write(&exchange(transaction, self.server, self.route, self.target), &mut key);
        flow.key(&key)
    }

    /// Whether the request may be sent once more after it got this far.
    fn may_repeat(&self, transaction: &Transaction, reach: Reach) -> bool {
        let whole = self.source.as_ref().is_none_or(|source| source.is_whole());
        let harmless = reach == Reach::Nowhere
            || is_idempotent(&transaction.parts.method)
            || self.settings.next_upstream.on.non_idempotent;
        whole && harmless
    }

    fn has_tries(&self, tried: &[SocketAddr], began: Moment) -> bool {
        let next = &self.settings.next_upstream;
        next.tries.is_none_or(|most| tried.len() < most as usize)
            && next.timeout.is_none_or(|most| Moment::now().since(began) < most)
    }

    /// Sends the request once.
    async fn attempt(
        &self,
        transaction: &Transaction,
        server: SocketAddr,
        connect: Connect,
    ) -> Result<Response, Failure> {
        if self.settings.http_version == HttpVersion::Http2 {
            // In a place of its own: HTTP/1.1 has no room for it.
            return Box::pin(self.attempt_http2(transaction, server, connect)).await;
        }
        let pooled = match connect {
            // A kept connection may come from anywhere.
            Connect::Pooled if self.origin.is_none() => {
                self.pool.take(server, self.secure.as_deref(), Moment::now())
            }
            Connect::Pooled | Connect::New => None,
        };
        let kept = pooled.is_some();
        let worker = &transaction.session.worker;
        let connection = match pooled {
            Some(connection) => {
                self.connected.set(Some(Duration::ZERO));
                connection
            }
            None => {
                self.connected.set(None);
                let began = self.is_told.then(Instant::now);
                let connection = upstream::connect(
                    worker,
                    server,
                    self.secure.as_deref(),
                    self.origin,
                    self.settings.connect_timeout,
                )
                .await
                .map_err(Failure::Connect)?;
                self.connected.set(began.map(|began| began.elapsed()));
                connection
            }
        };
        let link = &connection.link;
        link.begin(self.settings);
        if let Some(source) = &self.source {
            source.rewind();
        }
        let place = if self.pool.keeps() && self.origin.is_none() {
            headers::Reuse::Kept
        } else {
            headers::Reuse::Once
        };
        let reuse = headers::Reuse::of(self.settings, place);
        let all = transaction.generation.site.router.needs().upstream_fields;
        let relay = &self.settings.relay;
        let wanted = |name: &HeaderName| {
            headers::is_end_to_end(name) && (!headers::is_ours(name) || all || relay.pass.contains(name))
        };
        let question = Question {
            head: self.head(transaction, reuse),
            body: self.source.clone(),
            asked: if *transaction.method() == Method::HEAD { Asked::HeadOnly } else { Asked::Whole },
            fields: Fields {
                headers: worker.take_headers(),
                wanted: &wanted,
                spelling: &transaction.session.spelling,
            },
            head_max: self.settings.buffer_size,
            buffers: &worker.scratch,
        };
        match upstream::ask(&connection, question).await {
            Ok((head, mut incoming)) => {
                if reuse == headers::Reuse::Once {
                    incoming.close_at_end();
                }
                let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
                if switches && !self.asked_for_upgrade(transaction) {
                    return Err(Failure::Invalid("upstream changed protocol without being asked"));
                }
                Ok(Response { head, rest: Rest::Http1(incoming, connection) })
            }
            Err(AskError::Client(cut)) => Err(Failure::Client(cut)),
            Err(AskError::Expired(expired)) => Err(Failure::TimedOut(expired)),
            Err(AskError::Invalid(what)) => Err(Failure::Invalid(what)),
            Err(AskError::Refused(what)) => Err(Failure::Refused { what, kept }),
            Err(AskError::Broken(error)) => {
                let reach = if link.has_begun() { Reach::Server } else { Reach::Nowhere };
                Err(Failure::Broken { error, reach, kept: kept && !link.heard() })
            }
        }
    }

    /// How the request's body is framed for the server.
    fn framing(&self) -> headers::Framing {
        let sent = self.settings.set_body.is_none() && self.settings.pass.body;
        let size = self.source.as_ref().map(|source| (source.exact_size(), source.is_size_told()));
        match size {
            Some((None, _)) => headers::Framing::Chunked,
            Some((Some(size), told)) if !sent || !told => headers::Framing::Length(size),
            None if !sent => headers::Framing::None,
            _ => headers::Framing::AsSent,
        }
    }

    /// Writes the request's head.
    fn head(&self, transaction: &Transaction, reuse: headers::Reuse) -> Vec<u8> {
        let exchange = exchange(transaction, self.server, self.route, self.target);
        let mut head = transaction.session.worker.scratch.take();
        head.clear();
        let path = self.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        headers::request(&exchange, self.settings, path, self.framing(), reuse, &mut head);
        head
    }

    /// Whether the client and the location both want another protocol.
    fn asked_for_upgrade(&self, transaction: &Transaction) -> bool {
        transaction.parts.headers.contains_key(UPGRADE)
            && transaction.parts.version == Version::HTTP_11
            && self.settings.set_headers.iter().any(|set| set.name == UPGRADE)
    }

    /// Makes the answer of a server's response; its body is timed, too, if the beginning is given.
    fn answer(
        &self,
        transaction: &Transaction,
        lease: Lease,
        response: Response,
        timed: Option<Instant>,
    ) -> Answer {
        let Response { head: Head { status, mut headers, reason, .. }, rest } = response;
        if let Some(bound) = &self.pool.bound {
            let exchange = exchange(transaction, self.server, self.route, self.target);
            bound.bind(&exchange, lease.server(), &mut headers);
        }
        if let Some(source) = &self.source {
            source.settle();
        }
        let mut extensions = Extensions::new();
        if let Some(reason) = reason {
            extensions.insert(reason);
        }
        let rest = match rest {
            Rest::Http1(incoming, _) if status == StatusCode::SWITCHING_PROTOCOLS => {
                let (server, answered) = incoming.into_transport();
                let tunnel = Tunnel::new(lease, server, answered, self.settings.read_timeout);
                let kind = Kind::Whole(bytes::Bytes::new());
                return Answer { status, headers, extensions, kind, tunnel: Some(Box::new(tunnel)) };
            }
            rest => rest,
        };
        let account = Account { lease, traffic: rest.traffic(), timed };
        let claim = Claim { account, pool: Rc::clone(&self.pool) };
        let session = Rc::clone(&transaction.session);
        let relayed = Relayed::new(rest, claim, session, transaction.parts.version);
        Answer { status, headers, extensions, kind: Kind::Relayed(Box::new(relayed)), tunnel: None }
    }

    /// Tells the director of a failure, and the log.
    fn report(&self, transaction: &Transaction, lease: &Lease, failure: &Failure) {
        let phase = match failure {
            Failure::Connect(_) => "connecting to upstream",
            Failure::TimedOut(Expired::Send) | Failure::Client(_) => "sending request to upstream",
            _ => "reading response header from upstream",
        };
        if let Failure::Client(cut @ (Cut::Gone | Cut::Client)) = failure {
            let (serial, client) = (transaction.connection.serial, transaction.connection.remote.ip());
            return debug!("*{serial} {cut} while {phase}, client: {client}");
        }
        self.log(transaction, &format!("{failure} while {phase}"), &lease.server().to_string());
        let event = match failure {
            Failure::Client(_) | Failure::Connect(ConnectError::Local(_)) => return,
            failure if failure.is_stale() => return,
            Failure::Connect(ConnectError::Failed(error)) => Event::ConnectFailed(cause(error)),
            Failure::Connect(ConnectError::TimedOut) => Event::ConnectFailed("connect timed out".into()),
            failure => Event::Failed(failure.to_string().into()),
        };
        let transition = transaction.session.worker.director().report(lease, event, Moment::now().as_time());
        self.disabled(transaction, lease, transition);
    }

    fn disabled(&self, transaction: &Transaction, lease: &Lease, transition: Option<lvs_core::Transition>) {
        if let Some(transition) = transition {
            let serial = transaction.connection.serial;
            let (upstream, server) = (lease.service(), lease.server());
            warn!("*{serial} upstream server {server} of \"{upstream}\" is {}", transition.condition);
        }
    }

    /// Takes down that no server could be chosen; returns the status for it.
    fn refused(&self, transaction: &mut Transaction, refusal: Refusal) -> u16 {
        let name = self.pool.key.to_string();
        self.log(transaction, &format!("no live upstreams ({refusal}) while connecting to upstream"), &name);
        let elapsed = Duration::ZERO;
        transaction.attempts.push(Attempt::new(None, Some(502), elapsed));
        502
    }

    fn log(&self, transaction: &Transaction, what: &str, upstream: &str) {
        let Transaction { connection, parts, .. } = transaction;
        let (serial, client) = (connection.serial, connection.remote.ip());
        let scheme = if self.secure.is_some() { "https" } else { "http" };
        let (method, asked, path) = (&parts.method, request_uri(parts), &self.uri);
        error!(
            "*{serial} {what}, client: {client}, server: {}, request: \"{method} {asked} {:?}\", \
             upstream: \"{scheme}://{upstream}{path}\", host: \"{}\"",
            self.server.name(),
            parts.version,
            transaction.host,
        );
    }
}

/// Which connections an attempt may use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Connect {
    /// A kept one, or a new one.
    Pooled,
    /// A new one.
    New,
}

/// What came of an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arrival {
    /// The head of an answer.
    Head,
    Nothing,
}

/// Whether doing it twice does what doing it once does (nginx's list).
fn is_idempotent(method: &Method) -> bool {
    !(*method == Method::POST || *method == Method::PATCH || method.as_str() == "LOCK")
}

/// A failed connect in the words of the director's listings.
fn cause(error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect refused".into(),
        io::ErrorKind::ConnectionReset => "connection reset".into(),
        io::ErrorKind::HostUnreachable => "host unreachable".into(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".into(),
        _ => Errno(error).to_string().into(),
    }
}

/// Returns the target of the forwarded request; `None` if it cannot be written.
fn request_target(
    transaction: &Transaction,
    server: &Server,
    route: &Route<'_>,
    pass: &ProxyPass,
    target: &Target<'_>,
) -> Option<Uri> {
    // A path that the location has rewritten is the whole of it, as in nginx.
    let replaced = pass.uri.as_ref().filter(|_| transaction.path == PathOrigin::Located);
    let mut path = match replaced {
        None => {
            let forwarded = target.forwarded();
            if let std::borrow::Cow::Borrowed(_) = forwarded
                && transaction.redirected.is_none()
            {
                return transaction.parts.uri.path_and_query().cloned().map(Uri::from);
            }
            forwarded.into_owned()
        }
        Some(PassUri::Prefix(prefix)) => {
            let mut path = prefix.clone();
            path.push_str(&target.forwarded_after(route.prefix_len));
            path
        }
        Some(PassUri::Whole(uri)) => {
            let exchange = exchange(transaction, server, route, target);
            let mut whole = Vec::new();
            uri.write(&exchange, &mut whole);
            return Some(Uri::from(PathAndQuery::try_from(whole).ok()?));
        }
    };
    if let Some(args) = target.args() {
        path.push('?');
        path.push_str(args);
    }
    Some(Uri::from(PathAndQuery::try_from(path).ok()?))
}

impl Failure {
    /// The status that the client gets for it.
    fn status(&self) -> u16 {
        match self {
            Failure::Connect(ConnectError::TimedOut) | Failure::TimedOut(_) => 504,
            Failure::Connect(ConnectError::Local(_)) => 500,
            Failure::Client(Cut::TooLarge) => 413,
            Failure::Client(_) => 400,
            Failure::Connect(ConnectError::Failed(_))
            | Failure::Broken { .. }
            | Failure::Refused { .. }
            | Failure::Invalid(_) => 502,
        }
    }

    /// Whether it is a reason to try another server.
    fn is_among(&self, on: &RetryOn) -> bool {
        match self {
            Failure::Connect(ConnectError::Failed(_)) | Failure::Broken { .. } | Failure::Refused { .. } => {
                on.error
            }
            Failure::Connect(ConnectError::TimedOut) | Failure::TimedOut(_) => on.timeout,
            Failure::Invalid(_) => on.invalid_header,
            Failure::Connect(ConnectError::Local(_)) | Failure::Client(_) => false,
        }
    }

    /// Whether it says nothing about the server but that it had closed a kept connection.
    fn is_stale(&self) -> bool {
        matches!(self, Failure::Broken { kept: true, .. } | Failure::Refused { kept: true, .. })
    }

    fn reach(&self) -> Reach {
        match self {
            Failure::Connect(_) | Failure::Refused { .. } => Reach::Nowhere,
            Failure::Broken { reach, .. } => *reach,
            Failure::TimedOut(_) | Failure::Invalid(_) | Failure::Client(_) => Reach::Server,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Connect(ConnectError::Failed(error)) => write!(f, "connect() failed ({})", Errno(error)),
            Failure::Connect(ConnectError::Local(error)) => write!(f, "socket() failed ({})", Errno(error)),
            Failure::Connect(ConnectError::TimedOut) | Failure::TimedOut(_) => {
                f.write_str("upstream timed out (110: Connection timed out)")
            }
            Failure::Broken { error: Some(error), .. } => write!(f, "recv() failed ({})", Errno(error)),
            Failure::Broken { error: None, .. } => f.write_str("upstream prematurely closed connection"),
            Failure::Refused { what, .. } | Failure::Invalid(what) => f.write_str(what),
            Failure::Client(cut) => cut.fmt(f),
        }
    }
}
