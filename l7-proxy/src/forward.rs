//! Requests on their way to a server, and to another one if that fails.
//!
//! A request is given to another server only if that cannot make it happen twice: the server never
//! got it, or it is idempotent and its body is still whole. Nothing of an answer has reached the
//! client by then. A kept connection that turns out to be closed says nothing about its server:
//! the same server gets the request again on a new one.

mod explained;
mod failure;
mod headers;
mod hints;
mod http2;
mod outgoing;
mod relayed;
mod single;
mod tunnel;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::header::UPGRADE;
use http::{Extensions, HeaderName, Method, StatusCode, Version};
use lvs_core::{Event, Flow, Lease, Refusal};
use tracing::{debug, error, warn};

pub(crate) use self::explained::explain;
use self::failure::{Failure, Reach};
pub(crate) use self::failure::{Fault, Unanswered};
pub(crate) use self::headers::nominated;
use self::outgoing::Forwarded;
pub(crate) use self::outgoing::request_target;
use self::relayed::{Account, Claim, Rest};
pub(crate) use self::relayed::{Breakage, Piped, Relayed};
pub(crate) use self::tunnel::Tunnel;
use crate::body::{Cut, Kind, Source};
use crate::handle::{Answer, exchange};
use crate::leg::{Leg, cause};
use crate::model::{HttpVersion, ProxyPass, ProxySettings, Timed};
use crate::moment::Moment;
use crate::route::{Route, Server};
use crate::transaction::{Context, Transaction, Upstream};
use crate::unix;
use crate::upstream::{
    self, AskError, Asked, ConnectError, Expired, Fields, Head, Hint, Pool, Question, Secure,
};
use crate::uri::Target;

/// Forwards a request to one of the servers of a pool.
///
/// # Errors
/// With what says why there is no answer.
pub(crate) async fn forward(
    transaction: &mut Transaction,
    server: &Server,
    route: &Route<'_>,
    (pass, pool): (&ProxyPass, Rc<Pool>),
    target: &Target<'_>,
    received: Option<Rc<Source>>,
) -> Result<Answer, Unanswered> {
    let settings = route.proxy();
    let path = match request_target(transaction, server, route, pass, target) {
        Some(path) => path,
        None => return Err(Unanswered::own(500)),
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
        return Err(Unanswered::own(411));
    }
    let is_told = transaction.generation.site.router.needs().attempts;
    transaction.attempts.forwarded();
    transaction.session.settle_abort(settings.client_abort);
    let secure = match pass.tls {
        true => Some(secure(transaction, server, route, target, settings).map_err(Unanswered::own)?),
        false => None,
    };
    let traffic = Cell::default();
    let journey = Journey {
        secure,
        scheme: pass.scheme(),
        server,
        route,
        target,
        settings,
        is_told,
        traffic,
        path,
        source,
        origin,
        pool,
    };
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
    /// Bytes of the present attempt to the server and from it, if it failed.
    traffic: Cell<(u64, u64)>,
    /// Path and query, as the server gets them.
    path: Forwarded,
    source: Option<Rc<Source>>,
    /// The address that connections come from, where it is not the system's choice.
    origin: Option<SocketAddr>,
    pool: Rc<Pool>,
    /// That of `proxy_pass`, for logs.
    scheme: &'static str,
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
    let client = transaction.generation.site.client(&settings.tls).ok_or(500_u16)?;
    let mut scratch = Vec::new();
    let exchange = exchange(transaction, server, route, target);
    let client = client.identified(&mut |text| text.http(&exchange)).map_err(|error| {
        error!("*{} {error} while connecting to upstream", transaction.connection.serial);
        500_u16
    })?;
    let name = settings.tls_name.bytes(&exchange, &mut scratch);
    let name = std::str::from_utf8(name).map_err(|_| 500_u16)?.into();
    Ok(Box::new(Secure { client, name }))
}

/// What a server has answered, and the connection that the rest comes on.
struct Response {
    head: Head,
    rest: Rest,
}

impl Journey<'_> {
    async fn run(&self, transaction: &mut Transaction) -> Result<Answer, Unanswered> {
        let flow = self.flow(transaction);
        let began = Moment::now();
        self.pool.budget.count(began);
        let mut tried: Vec<SocketAddr> = Vec::new();
        // Those of them that are not asked again: all but what is listed more often than that.
        let mut spent: Vec<SocketAddr> = Vec::new();
        let mut last = None;
        let mut chosen = self.bound_to(transaction);
        // Held while another server than the first is asked.
        let mut repetition = None;
        let worker = Rc::clone(&transaction.session.worker);
        let director = self.pool.director(worker.director());
        loop {
            let choose = || self.pool.schedule(worker.director(), &flow, &spent);
            let found = match (chosen.take(), &self.pool.line) {
                (Some(lease), _) => Ok(lease),
                (None, Some(line)) => line.choose(choose).await,
                (None, None) => choose(),
            };
            let lease = match found {
                Ok(lease) => lease,
                Err(refusal) => return Err(last.unwrap_or_else(|| self.refused(transaction, refusal))),
            };
            let _leaving = Leaving(&self.pool);
            let server = lease.server();
            let attempted = (self.is_told || self.pool.is_clocked()).then(Instant::now);
            if self.is_told
                && let Some(now) = attempted
            {
                transaction.attempts.begin(server, now);
            }
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
                    transaction.attempts.answered(status);
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
                        let transition = director.report(&lease, event, Moment::now().as_time());
                        self.disabled(
                            transaction,
                            &lease,
                            transition,
                            "reading response header from upstream",
                        );
                    }
                    self.rule_out(server, &mut tried, &mut spent);
                    drop(repetition.take());
                    if self.may_repeat(transaction, Reach::Server) && self.has_tries(&tried, began) {
                        repetition = self.pool.budget.repeat();
                    }
                    if repetition.is_some() {
                        chosen = self.pool.schedule(worker.director(), &flow, &spent).ok();
                    }
                    if chosen.is_none() {
                        return Ok(self.answer(transaction, lease, response, None));
                    }
                    transaction.attempts.end(response.rest.traffic().so_far());
                    last = Some(Unanswered { status, fault: Fault::Status });
                    continue;
                }
                Err(failure) => failure,
            };
            let outcome = failure.outcome();
            // A client's fault is no answer of the server's.
            if !matches!(failure, Failure::Client(_)) {
                transaction.attempts.failed(outcome.status);
            }
            transaction.attempts.end(self.traffic.take());
            self.report(transaction, &lease, &failure);
            drop(lease);
            self.rule_out(server, &mut tried, &mut spent);
            let again = failure.is_among(&self.settings.next_upstream.on)
                && self.may_repeat(transaction, failure.reach())
                && self.has_tries(&tried, began);
            drop(repetition.take());
            if again && failure.reach() == Reach::Server {
                repetition = self.pool.budget.repeat();
            }
            if !again || (failure.reach() == Reach::Server && repetition.is_none()) {
                return Err(outcome);
            }
            last = Some(outcome);
        }
    }

    /// The server that the client is bound to, if it is to any.
    fn bound_to(&self, transaction: &Transaction) -> Option<Lease> {
        let bound = self.pool.bound.as_ref()?;
        let exchange = exchange(transaction, self.server, self.route, self.target);
        bound.take(&exchange, transaction.session.worker.director(), &self.pool.key)
    }

    /// Takes down that a server was tried. One that is listed several times is tried as often.
    fn rule_out(&self, server: SocketAddr, tried: &mut Vec<SocketAddr>, spent: &mut Vec<SocketAddr>) {
        tried.push(server);
        if tried.iter().filter(|&&other| other == server).count() >= self.pool.times_listed(server) {
            spent.push(server);
        }
    }

    /// What the choice of a server goes by.
    fn flow(&self, transaction: &Transaction) -> Flow {
        let connection = &transaction.connection;
        let flow = Flow::new(connection.remote).to(connection.local);
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

    /// How connections for the request are made.
    fn leg(&self) -> Leg {
        Leg { origin: self.origin, nodelay: true, socket: self.settings.socket }
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
                transaction.attempts.connected(Duration::ZERO);
                connection
            }
            None => {
                let began = self.is_told.then(Instant::now);
                let (secure, within) = (self.secure.as_deref(), self.settings.connect_timeout);
                // In a place of its own: most requests find a connection.
                let connection = Box::pin(upstream::connect(worker, server, secure, self.leg(), within));
                let connection = connection.await.map_err(Failure::Connect)?;
                if let Some(began) = began {
                    transaction.attempts.connected(began.elapsed());
                }
                connection
            }
        };
        let link = &connection.link;
        link.begin(self.settings, transaction.generation.site.server_patience);
        if let Some(source) = &self.source {
            source.rewind();
        }
        let place = if self.pool.keeps() && self.origin.is_none() {
            headers::Reuse::Kept
        } else {
            headers::Reuse::Once
        };
        let reuse = headers::Reuse::of(self.settings, place);
        let all = self.wants_all(transaction);
        let relay = &self.settings.relay;
        let wanted = |name: &HeaderName| {
            headers::is_end_to_end(name) && (!headers::is_ours(name) || all || relay.pass.contains(name))
        };
        let pass = |fields: &[Hint<'_>]| hints::pass(&transaction.session, relay, fields);
        let wanted_early = hints::are_wanted(transaction, self.server, self.route, self.target);
        let question = Question {
            head: self.head(transaction, reuse),
            body: self.source.clone(),
            asked: asked(transaction),
            fields: Fields {
                headers: worker.take_fields(),
                wanted: &wanted,
                spelling: &transaction.session.spelling,
                hints: if wanted_early { Some(&pass) } else { None },
            },
            head_max: self.settings.buffer_size,
            buffers: &worker.scratch,
        };
        let asked = upstream::ask(&connection, question).await;
        if asked.is_err() {
            self.traffic.set(link.traffic());
        }
        match asked {
            Ok((head, mut incoming)) => {
                if reuse == headers::Reuse::Once {
                    incoming.close_at_end();
                }
                let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
                if switches && !self.asked_for_upgrade(transaction) {
                    return Err(Failure::Invalid("upstream changed protocol without being asked".into()));
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

    /// Whether all fields of an answer are wanted, also those that we write ourselves.
    fn wants_all(&self, transaction: &Transaction) -> bool {
        transaction.generation.site.router.needs().upstream_fields || transaction.findings.cached.is_some()
    }

    /// How the request's body is framed for the server.
    fn framing(&self, transaction: &Transaction) -> headers::Framing {
        if transaction.asks() {
            let size = self.source.as_ref().and_then(|source| source.exact_size());
            return size.map_or(headers::Framing::None, headers::Framing::Length);
        }
        let sent = self.settings.set_body.is_none() && self.settings.pass.body;
        let size = self.source.as_ref().map(|source| (source.exact_size(), source.is_size_told()));
        match size {
            Some((None, _)) => headers::Framing::Chunked,
            Some((Some(size), told)) if !sent || !told => headers::Framing::Length(size),
            None if !sent || transaction.is_bodiless() => headers::Framing::None,
            _ => headers::Framing::AsSent,
        }
    }

    /// Writes the request's head.
    fn head(&self, transaction: &Transaction, reuse: headers::Reuse) -> Vec<u8> {
        let exchange = exchange(transaction, self.server, self.route, self.target);
        let mut head = transaction.session.worker.scratch.take();
        head.clear();
        headers::request(
            &exchange,
            self.settings,
            self.path.as_str(transaction),
            self.framing(transaction),
            reuse,
            &mut head,
        );
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
        for second in single::keep_first(&mut headers) {
            let server = unix::in_url(lease.server());
            let (serial, context) = (transaction.connection.serial, self.context(transaction, &server));
            warn!("*{serial} {second}, ignored while reading response header from upstream{context}");
        }
        if let Some(bound) = &self.pool.bound {
            let exchange = exchange(transaction, self.server, self.route, self.target);
            bound.bind(&exchange, lease.server(), &mut headers);
        }
        let mut extensions = Extensions::new();
        if let Some(reason) = reason {
            extensions.insert(reason);
        }
        let rest = match rest {
            Rest::Http1(incoming, _) if status == StatusCode::SWITCHING_PROTOCOLS => {
                let (server, answered) = incoming.into_transport();
                let tunnel =
                    Tunnel::new(lease, Rc::clone(&self.pool), server, answered, self.settings.read_timeout);
                let kind = Kind::Whole(bytes::Bytes::new());
                return Answer { status, headers, extensions, kind, tunnel: Some(Box::new(tunnel)) };
            }
            rest => rest,
        };
        let account = Account { lease, traffic: rest.traffic(), timed };
        let claim = Claim { account, pool: Rc::clone(&self.pool) };
        let session = Rc::clone(&transaction.session);
        let relayed = Relayed::new(rest, claim, session);
        Answer { status, headers, extensions, kind: Kind::Relayed(relayed), tunnel: None }
    }

    /// Tells the director of a failure, and the log.
    fn report(&self, transaction: &Transaction, lease: &Lease, failure: &Failure) {
        let phase = match failure {
            Failure::Connect(_) => "connecting to upstream",
            Failure::TimedOut(Expired::Send) | Failure::Client(_) => "sending request to upstream",
            _ => "reading response header from upstream",
        };
        let server = unix::in_url(lease.server());
        let (serial, context) = (transaction.connection.serial, self.context(transaction, &server));
        if let Failure::Client(cut @ Cut::Gone) = failure {
            return debug!("*{serial} {cut} while {phase}{context}");
        }
        error!("*{serial} {failure} while {phase}{context}");
        let event = match failure {
            Failure::Client(_) | Failure::Connect(ConnectError::Local(_)) => return,
            failure if failure.is_stale() => return,
            Failure::Connect(ConnectError::Failed(error)) => Event::ConnectFailed(cause(error)),
            Failure::Connect(ConnectError::TimedOut) => Event::ConnectFailed("connect timed out".into()),
            // Listings count by these words, so that they show nothing of what there was.
            Failure::Invalid(malformed) => Event::Failed(malformed.what.into()),
            failure => Event::Failed(failure.to_string().into()),
        };
        let director = self.pool.director(transaction.session.worker.director());
        let transition = director.report(lease, event, Moment::now().as_time());
        self.disabled(transaction, lease, transition, phase);
    }

    /// Takes down that a server gets nothing any more for a while.
    fn disabled(
        &self,
        transaction: &Transaction,
        lease: &Lease,
        transition: Option<lvs_core::Transition>,
        phase: &str,
    ) {
        let Some(transition) = transition else { return };
        let server = unix::in_url(lease.server());
        let (serial, context) = (transaction.connection.serial, self.context(transaction, &server));
        let condition = transition.condition;
        warn!("*{serial} upstream server temporarily disabled while {phase} ({condition}){context}");
    }

    /// Takes down that no server could be chosen; returns what that comes to.
    fn refused(&self, transaction: &mut Transaction, refusal: Refusal) -> Unanswered {
        let name = &self.pool.key;
        let (serial, context) = (transaction.connection.serial, self.context(transaction, name));
        error!("*{serial} no live upstreams while connecting to upstream ({refusal}){context}");
        transaction.attempts.none(502);
        Unanswered { status: 502, fault: Fault::Connection }
    }

    /// What a line in the log of errors says of the request and the server, or the upstream.
    fn context<'a>(&'a self, transaction: &'a Transaction, name: &'a dyn std::fmt::Display) -> Context<'a> {
        transaction.context(self.server).at(Upstream {
            scheme: self.scheme,
            name,
            path: self.path.as_str(transaction),
        })
    }
}

/// An attempt, which ends however it may: then somebody who waits for a server may have its place.
struct Leaving<'a>(&'a Pool);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.call();
    }
}

/// What of an answer a server is asked for.
fn asked(transaction: &Transaction) -> Asked {
    let cached = transaction.findings.cached.as_ref();
    if *transaction.method() == Method::HEAD && !cached.is_some_and(|cached| cached.converts_head) {
        Asked::HeadOnly
    } else {
        Asked::Whole
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

/// Whether doing it twice does what doing it once does (nginx's list).
fn is_idempotent(method: &Method) -> bool {
    !(*method == Method::POST || *method == Method::PATCH || method.as_str() == "LOCK")
}
