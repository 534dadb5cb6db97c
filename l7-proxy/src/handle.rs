//! From a request's head to its answer: which server block, which location, which handler.
//!
//! Before anything else comes the strict layer: what hyper takes and what two readers could take
//! differently is refused here, once, for every handler.

mod strict;

use std::rc::Rc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, LOCATION, SERVER, TRANSFER_ENCODING};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper::ext::ReasonPhrase;
use tracing::{debug, error};

use self::strict::Refused;
use crate::body::{Body, Cut, Kind};
use crate::forward::{self, Tunnel};
use crate::model::{ErrorPageStatus, Handler};
use crate::moment::Moment;
use crate::pages::{self, Page, Replied};
use crate::route::{Entry, Located, Route, Router, Server};
use crate::server::{Order, Session};
use crate::static_file::{self, Found};
use crate::transaction::Transaction;
use crate::uri::Target;
use crate::variable::{Completion, Exchange, Response as Answered};

/// An answer on its way to become a response.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// How a server spelled the names of its fields; hyper writes them the same way.
    pub(crate) extensions: Extensions,
    pub(crate) kind: Kind,
    /// What the connection is used for after this answer, if not for HTTP.
    pub(crate) tunnel: Option<Box<Tunnel>>,
}

/// What a location does with a request.
enum Step {
    Done(Answer),
    /// An error, or a `return` of a status: `error_page` applies.
    Status(u16, HeaderMap),
    /// The request starts anew with this path.
    Index(Vec<u8>),
    /// The connection is closed without an answer.
    Close,
}

/// How a location is looked for.
enum Way {
    /// By the path.
    Path,
    /// By name, after an `error_page @name`.
    Named(String),
}

/// Answers one request.
///
/// Every connection has room for this future as long as it is open, so it holds what it needs once:
/// nothing large is handed from one future to another by value.
pub(crate) fn answer(
    session: Rc<Session>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Body>, Cut>> {
    let framing = session.begin_request(Moment::now());
    let (generation, entry) = session.generation();
    let (parts, incoming) = request.into_parts();
    let mut incoming = Some(incoming).filter(|incoming| !incoming.is_end_stream());
    if incoming.is_some() {
        session.expect_body();
    }
    let mut transaction = Transaction::new(session, generation, parts);
    let sound = framing.map_err(|fault| Refused { status: 400, reason: fault.words() });
    let mut refused = match sound.and_then(|()| strict::check(&transaction.parts)) {
        Ok(host) => {
            transaction.host = host;
            None
        }
        Err(refused) => Some(refused),
    };
    let mut search = Search { entry, way: Way::Path, redirects: 0, error_page: None, internal: false };

    async move {
        // The target and the route borrow from these while the transaction goes on to change.
        let uri = transaction.parts.uri.clone();
        let generation = Rc::clone(&transaction.generation);
        let router = &generation.site.router;
        let asked = uri.path_and_query().map_or("/", |target| target.as_str());
        let mut target = Target::parse(asked).unwrap_or_else(|_| {
            refused.get_or_insert(Refused { status: 400, reason: "client sent invalid request" });
            root()
        });
        loop {
            let (server, route, step) = match refused.take() {
                Some(refused) => search.refuse(&mut transaction, router, refused),
                None => search.locate(&mut transaction, router, &target, incoming.as_ref()),
            };
            let step = match (step, route.handler) {
                (Some(step), _) => step,
                (None, Handler::Files) => serve_file(&transaction, server, &route, &target),
                (None, Handler::Proxy(pass)) => {
                    let body = incoming.take();
                    forward::forward(&mut transaction, server, &route, pass, &target, body)
                        .await
                        .map_or_else(Step::status, Step::Done)
                }
            };
            match search.follow(&mut transaction, server, &route, &target, step) {
                Next::Answer(answer, status) => {
                    return Ok(finish(transaction, server, &route, &target, answer, status));
                }
                Next::Close => {
                    transaction.close();
                    return Err(Cut::NoAnswer);
                }
                Next::Path(next, body) => {
                    transaction.redirected = Some(next.clone());
                    target = next;
                    incoming = incoming.filter(|_| body == RequestBody::Kept);
                }
                Next::Named => {}
            }
        }
    }
}

/// What comes after a location has done its part.
enum Next {
    /// This answer, with another status if an error page says so.
    Answer(Answer, Option<ErrorPageStatus>),
    /// The connection is closed without an answer.
    Close,
    /// The location of this path.
    Path(Target<'static>, RequestBody),
    /// The named location that the search has noted.
    Named,
}

/// Whether a request's body goes along with an internal redirect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RequestBody {
    Kept,
    Dropped,
}

/// The way of a request through locations.
struct Search {
    entry: Entry,
    way: Way,
    /// Internal redirects so far.
    redirects: u32,
    /// The status to answer with, while an error is being answered by an error page.
    error_page: Option<ErrorPageStatus>,
    /// Whether the path is one of ours, not the client's.
    internal: bool,
}

impl Search {
    /// Refuses a request before any location is looked for.
    fn refuse<'g>(
        &self,
        transaction: &mut Transaction,
        router: &'g Router,
        refused: Refused,
    ) -> (&'g Server, Route<'g>, Option<Step>) {
        let Refused { status, reason } = refused;
        let (serial, client) = (transaction.connection.serial, transaction.connection.remote.ip());
        debug!("*{serial} {reason} while reading client request headers, client: {client}");
        // What follows on the connection may be the rest of what was refused.
        transaction.session.finish_soon();
        let server = router.default_server(self.entry);
        let route = server.fallback();
        transaction.place = Some(route.place);
        (server, route, Some(Step::status(status)))
    }

    /// Says what comes after a step.
    fn follow(
        &mut self,
        transaction: &mut Transaction,
        server: &Server,
        route: &Route<'_>,
        target: &Target<'_>,
        step: Step,
    ) -> Next {
        let (status, headers) = match step {
            Step::Done(answer) => return Next::Answer(answer, self.error_page),
            Step::Close => return Next::Close,
            Step::Index(path) => match self.redirect(&path, target.args()) {
                Some(next) => return Next::Path(next, RequestBody::Kept),
                None => (500, HeaderMap::new()),
            },
            Step::Status(status, headers) => (status, headers),
        };
        let exchange = exchange(transaction, server, route, target);
        match self.error_page(status, route, &exchange) {
            Some(ErrorPage::Path(next)) => {
                transaction.act_as_get();
                Next::Path(next, RequestBody::Dropped)
            }
            Some(ErrorPage::Named) => Next::Named,
            Some(ErrorPage::Redirect(page)) => Next::Answer(Answer::page(page), None),
            None => {
                let mut answer = Answer::page(pages::built_in(status, route.settings.server_tokens));
                answer.headers.extend(headers);
                Next::Answer(answer, self.error_page)
            }
        }
    }

    /// Finds the location; also what it does, if that needs neither a file nor a server.
    fn locate<'g>(
        &self,
        transaction: &mut Transaction,
        router: &'g Router,
        target: &Target<'_>,
        incoming: Option<&Incoming>,
    ) -> (&'g Server, Route<'g>, Option<Step>) {
        let server = transaction.find_server(router, self.entry);
        let (route, step) = self.locate_in(server, transaction, target);
        transaction.place = Some(route.place);
        transaction.session.adopt(route.settings);
        let step = step.or_else(|| {
            let size = incoming.map_or(0, |incoming| incoming.size_hint().lower());
            if route.settings.client.max_body_size.is_some_and(|most| size > most) {
                error!("*{} {}: {size} bytes", transaction.connection.serial, Cut::TooLarge);
                return Some(Step::status(413));
            }
            let reply = route.reply?;
            let exchange = exchange(transaction, server, &route, target);
            Some(replied(pages::reply(reply, &exchange, &mut Vec::new())))
        });
        (server, route, step)
    }

    fn locate_in<'g>(
        &self,
        server: &'g Server,
        transaction: &mut Transaction,
        target: &Target<'_>,
    ) -> (Route<'g>, Option<Step>) {
        if let Way::Named(name) = &self.way {
            return match server.named(name) {
                Some(route) => (route, None),
                None => {
                    error!("*{} could not find named location \"@{name}\"", transaction.connection.serial);
                    (server.fallback(), Some(Step::status(500)))
                }
            };
        }
        if let Some(reply) = server.reply() {
            let route = server.fallback();
            let exchange = exchange(transaction, server, &route, target);
            return (route, Some(replied(pages::reply(reply, &exchange, &mut Vec::new()))));
        }
        let located = server.locate(target.path(), &mut transaction.captures);
        let route = located.route();
        if route.internal && !self.internal {
            return (route, Some(Step::status(404)));
        }
        if let Located::AddSlash(_) = located {
            let page = pages::add_slash(&exchange(transaction, server, &route, target));
            return (route, Some(page.map_or(Step::status(500), |page| Step::Done(Answer::page(page)))));
        }
        (route, None)
    }

    /// Returns the target of an internal redirect, unless there were too many.
    fn redirect(&mut self, path: &[u8], args: Option<&str>) -> Option<Target<'static>> {
        self.redirects += 1;
        if self.redirects > REDIRECTS_MAX {
            error!("rewrite or internal redirection cycle");
            return None;
        }
        self.way = Way::Path;
        self.internal = true;
        Target::internal(path, args).ok()
    }

    /// Returns what an error is answered with, if not with the built-in page.
    fn error_page(&mut self, status: u16, route: &Route<'_>, exchange: &Exchange<'_>) -> Option<ErrorPage> {
        if self.error_page.is_some() {
            // An error page that fails has no error page, as in nginx.
            return None;
        }
        let mut pages = route.settings.error_pages.iter();
        let page = pages.find(|page| page.statuses.contains(&status))?;
        let mut text = Vec::new();
        let place = page.target.bytes(exchange, &mut text);
        let kept = match page.status {
            ErrorPageStatus::Keep => ErrorPageStatus::Set(status),
            other => other,
        };
        if let Some(name) = place.strip_prefix(b"@") {
            self.redirects += 1;
            if self.redirects > REDIRECTS_MAX {
                return None;
            }
            self.way = Way::Named(String::from_utf8_lossy(name).into_owned());
            self.internal = true;
            self.error_page = Some(kept);
            return Some(ErrorPage::Named);
        }
        if !place.starts_with(b"/") {
            let code = match page.status {
                ErrorPageStatus::Set(code @ (301 | 302 | 303 | 307 | 308)) => code,
                _ => 302,
            };
            let place = std::str::from_utf8(place).ok()?;
            return pages::redirect(code, place, exchange).map(ErrorPage::Redirect);
        }
        let (path, args) = match memchr::memchr(b'?', place) {
            Some(mark) => (&place[..mark], std::str::from_utf8(&place[mark + 1..]).ok()),
            None => (place, None),
        };
        let target = self.redirect(path, args)?;
        self.error_page = Some(kept);
        Some(ErrorPage::Path(target))
    }
}

/// What an error is answered with.
enum ErrorPage {
    /// What is at this path.
    Path(Target<'static>),
    /// What a named location says.
    Named,
    /// A redirect of the client.
    Redirect(Page),
}

/// Answers with a file.
fn serve_file(transaction: &Transaction, server: &Server, route: &Route<'_>, target: &Target<'_>) -> Step {
    let exchange = exchange(transaction, server, route, target);
    let scratch = &mut *transaction.session.worker.scratch.borrow_mut();
    match static_file::find(&exchange, scratch) {
        Found::File(file) => Step::Done(Answer {
            status: file.status,
            headers: file.headers,
            extensions: Extensions::new(),
            kind: Kind::File(file.body),
            tunnel: None,
        }),
        Found::Index(path) => Step::Index(path),
        Found::AddSlash => {
            pages::add_slash(&exchange).map_or(Step::status(500), |page| Step::Done(Answer::page(page)))
        }
        Found::Status(status, headers) => Step::Status(status, headers),
    }
}

fn replied(replied: Replied) -> Step {
    match replied {
        Replied::Page(page) => Step::Done(Answer::page(page)),
        Replied::Status(status) => Step::status(status),
        Replied::Close => Step::Close,
    }
}

/// What variables are read from at a route.
pub(crate) fn exchange<'a>(
    transaction: &'a Transaction,
    server: &'a Server,
    route: &Route<'a>,
    target: &'a Target<'a>,
) -> Exchange<'a> {
    transaction.exchange(target, server.name(), route)
}

/// Makes the response of an answer: what every response has, and what the location adds.
fn finish(
    mut transaction: Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
    mut answer: Answer,
    error_page: Option<ErrorPageStatus>,
) -> Response<Body> {
    let settings = route.settings;
    if let Some(ErrorPageStatus::Set(status)) = error_page
        && let Ok(status) = StatusCode::from_u16(status)
    {
        answer.status = status;
        answer.extensions.remove::<ReasonPhrase>();
    }
    let headers = &mut answer.headers;
    headers.insert(SERVER, pages::server_field(settings.server_tokens));
    if !settings.add_headers.is_empty() {
        add_headers(&transaction, server, route, target, answer.status, headers);
    }
    if let Kind::File(_) = &answer.kind
        && headers.contains_key(ETAG)
    {
        transaction.session.spelling.note("ETag");
    }
    transaction.session.spelling.expect_head();
    if answer.tunnel.is_none() {
        persist(&transaction, route, answer.status, headers);
    }
    if transaction.parts.method == Method::HEAD
        && let Kind::Whole(bytes) = &mut answer.kind
        && !bytes.is_empty()
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        *bytes = Bytes::new();
    }
    let session = Rc::clone(&transaction.session);
    let mut response = Response::new(());
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    *response.extensions_mut() = answer.extensions;
    let (head, ()) = response.into_parts();
    // It has to outlive this call only for its line in the log.
    let size = answer.kind.exact_size();
    let mut transaction = (!settings.access_log.is_empty()).then(|| {
        transaction.answer(&head, size);
        Box::new(transaction)
    });
    if let Some(mut tunnel) = answer.tunnel {
        tunnel.keep(transaction.take());
        session.change_protocol(tunnel);
    }
    Response::from_parts(head, Body::new(answer.kind, session, transaction))
}

/// Adds what `add_header` says.
fn add_headers(
    transaction: &Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
    status: StatusCode,
    headers: &mut HeaderMap,
) {
    let status = status.as_u16();
    let mut scratch = Vec::new();
    for add in route.settings.add_headers.iter().filter(|add| add.when.holds(status)) {
        let answered = Answered {
            status,
            headers,
            upstream_headers: Some(headers),
            body_bytes_sent: 0,
            bytes_sent: 0,
            completion: Completion::Partial,
        };
        let exchange = exchange(transaction, server, route, target);
        let exchange = Exchange { response: Some(answered), ..exchange };
        // What frames the answer is not the configuration's to say.
        if add.name == CONTENT_LENGTH || add.name == TRANSFER_ENCODING || add.name == CONNECTION {
            continue;
        }
        if let Some(value) = add.value.header(&exchange, &mut scratch) {
            headers.append(add.name.clone(), value);
            transaction.session.spelling.note(&add.written);
        }
    }
}

/// Says whether the connection is kept; hyper does as the field says.
fn persist(transaction: &Transaction, route: &Route<'_>, status: StatusCode, headers: &mut HeaderMap) {
    let session = &transaction.session;
    let connection = &route.settings.connection;
    let over = session.order() != Order::Serve
        || connection.keepalive_timeout.is_none()
        || session.requests() >= connection.keepalive_requests
        || session.age() >= connection.keepalive_time
        || ends_connection(status);
    if over {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    } else if let Some(time) = connection.keepalive_header {
        let value = format!("timeout={}", time.as_secs());
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(&KEEP_ALIVE, value);
        }
    }
}

/// Statuses after which nginx does not trust the connection any more.
fn ends_connection(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 413 | 414 | 500 | 501)
}

/// Where nginx's words for a status are not the registered ones.
fn reason(status: StatusCode) -> Option<&'static [u8]> {
    Some(match status.as_u16() {
        302 => b"Moved Temporarily",
        405 => b"Not Allowed",
        408 => b"Request Time-out",
        413 => b"Request Entity Too Large",
        414 => b"Request-URI Too Large",
        416 => b"Requested Range Not Satisfiable",
        503 => b"Service Temporarily Unavailable",
        504 => b"Gateway Time-out",
        _ => return None,
    })
}

impl Step {
    fn status(status: u16) -> Step {
        Step::Status(status, HeaderMap::new())
    }
}

impl Answer {
    fn page(page: Page) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some(content_type) = page.content_type {
            headers.insert(CONTENT_TYPE, content_type);
        }
        if let Some(location) = page.location {
            headers.insert(LOCATION, location);
        }
        let mut extensions = Extensions::new();
        if let Some(reason) = reason(page.status) {
            extensions.insert(ReasonPhrase::from_static(reason));
        }
        let kind = Kind::Whole(page.body);
        Answer { status: page.status, headers, extensions, kind, tunnel: None }
    }
}

/// The target that stands for one that cannot be read.
fn root() -> Target<'static> {
    Target::internal(b"/", None).expect("a slash is a path")
}

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// As many internal redirects as nginx follows.
const REDIRECTS_MAX: u32 = 10;
