//! From a request's head to its answer: which server block, which location, which handler.
//!
//! Before anything else comes the strict layer: what parsers take and what two readers could take
//! differently is refused here, once, for every handler.

mod computed;
mod expires;
mod explained;
mod finish;
mod guard;
mod relay;
mod script;
mod search;
mod secure;
mod status;
mod strict;
mod trailing;
mod tried;

use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{Extensions, HeaderMap, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::ext::ReasonPhrase;

use self::finish::{finish, reason};
use self::search::{Next, RequestBody, Search};
pub(crate) use self::strict::Refused;
use crate::body::{Body, Cut, Keeping, Kind, Received, Source};
use crate::forward::{self, Tunnel};
use crate::model::{ErrorPageStatus, Handler, RequestBuffering};
use crate::moment::Moment;
use crate::pages::{self, Page};
use crate::route::{Route, Server};
use crate::server::Session;
use crate::static_file::{self, Form, Found};
use crate::transaction::Transaction;
use crate::uri::Target;
use crate::variable::Exchange;

/// An answer on its way to become a response.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// What else there is to say, such as a server's own words for the status.
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
    /// The request starts anew with this path and query, or at this named location.
    Elsewhere(Vec<u8>),
    /// The connection is closed without an answer.
    Close,
}

/// Answers one request.
///
/// The future has a place of its own: whoever drives it moves it about.
pub(crate) fn answer(
    session: Rc<Session>,
    request: Request<Received>,
) -> Pin<Box<impl Future<Output = Result<Response<Body>, Cut>>>> {
    let (parts, incoming) = request.into_parts();
    let incoming = Some(incoming).filter(|incoming| !incoming.is_end_stream());
    answer_parts(session, parts, incoming, None)
}

/// Answers one request; one that was found to be none is `refused`.
pub(crate) fn answer_parts(
    session: Rc<Session>,
    parts: Parts,
    mut incoming: Option<Received>,
    refused: Option<Refused>,
) -> Pin<Box<impl Future<Output = Result<Response<Body>, Cut>>>> {
    session.begin_request(Moment::now());
    let (generation, entry) = session.generation();
    let mut transaction = Box::new(Transaction::new(session, generation, parts));
    let site = Rc::clone(&transaction.generation);
    let client = &site.site.router.default_server(entry).settings().client;
    let slashes = client.slashes;
    let sound = refused.map_or(Ok(()), Err);
    let recent = &transaction.session.worker.recent_host;
    let checked =
        sound.and_then(|()| strict::check(&mut transaction.parts, &client.head, &mut recent.borrow_mut()));
    let mut refused = match checked {
        Ok(host) => {
            transaction.host = host;
            None
        }
        Err(refused) => Some(refused),
    };
    explained::begin(&mut transaction);
    if let Some(by_tls) = secure::check(&mut transaction, entry) {
        refused.get_or_insert(by_tls);
    }
    let mut search = Search::new(entry);

    Box::pin(async move {
        // The target and the route borrow from these while the transaction goes on to change.
        let uri = transaction.parts.uri.clone();
        let generation = Rc::clone(&transaction.generation);
        let router = &generation.site.router;
        let asked = uri.path_and_query().map_or("/", |target| target.as_str());
        let mut target = Target::parse_with(asked, slashes).unwrap_or_else(|_| {
            refused.get_or_insert(Refused { status: 400, reason: "client sent invalid request" });
            root()
        });
        let mut body: Option<Rc<Source>> = None;
        loop {
            let (server, route, step) = match refused.take() {
                Some(refused) => search.refuse(&mut transaction, router, refused),
                None => search.locate(&mut transaction, router, &mut target, incoming.as_ref()),
            };
            let step = match step {
                None if !route.settings.admits_all() => {
                    // In a place of its own: most requests need no room for it.
                    Box::pin(guard::admit(&mut transaction, server, &route, &target)).await
                }
                step => step,
            };
            let step = step.or_else(|| {
                let tried = route.try_files?;
                tried::look(&mut transaction, server, &route, &mut target, tried)
            });
            let computed;
            let (route, step) = match (step, route.handler) {
                (None, Handler::ProxyTo(url)) => {
                    match computed::pass(&transaction, server, &route, &target, url) {
                        Ok(pass) => {
                            computed = Handler::Proxy(pass);
                            (Route { handler: &computed, ..route }, None)
                        }
                        Err(status) => (route, Some(Step::status(status))),
                    }
                }
                (step, _) => (route, step),
            };
            let step = match (step, route.handler) {
                // It has become another handler, or a status.
                (None, Handler::ProxyTo(_)) => Step::status(500),
                (Some(step), _) => step,
                (None, Handler::Files) => serve_file(&transaction, server, &route, &target, search.status()),
                (None, Handler::Proxy(pass)) if transaction.trace.is_some() => {
                    transaction.tell(|| forward::explain(&transaction, server, &route, pass, &target));
                    Step::Done(explained::asked())
                }
                (None, Handler::Status(page)) => status::answer(&transaction, *page),
                (None, Handler::Proxy(pass)) => {
                    if let Some(incoming) = incoming.take() {
                        body = Some(source(&transaction, &route, incoming));
                    }
                    let sent = body.as_ref().filter(|body| body.is_whole()).cloned();
                    match hold(&route, sent.as_ref()).await {
                        Err(Cut::Gone) => return Err(transaction.abandon()),
                        Err(cut) => Step::status(cut.status()),
                        Ok(()) => {
                            let sent = sent.clone();
                            let answered =
                                forward::forward(&mut transaction, server, &route, pass, &target, sent).await;
                            transaction.findings.body = body.as_ref().and_then(|body| body.shown());
                            match answered {
                                Ok(answer) => {
                                    relay::examine(&mut transaction, server, &route, &target, answer)
                                }
                                Err(_) if body.as_ref().is_some_and(|body| body.is_abandoned()) => {
                                    return Err(transaction.abandon());
                                }
                                Err(status) => Step::status(status),
                            }
                        }
                    }
                }
            };
            match search.follow(&mut transaction, server, &route, &target, step) {
                Next::Answer(answer, _) if transaction.trace.is_some() => {
                    let answer = explained::answer(&mut transaction, answer);
                    return Ok(finish(transaction, server, &route, &target, answer, None));
                }
                Next::Answer(answer, status) => {
                    return Ok(finish(transaction, server, &route, &target, answer, status));
                }
                Next::Close if transaction.trace.is_some() => {
                    transaction.tell(|| "the connection would be closed without an answer".to_owned());
                    let answer = explained::answer(&mut transaction, explained::asked());
                    return Ok(finish(transaction, server, &route, &target, answer, None));
                }
                Next::Close => {
                    transaction.close();
                    return Err(Cut::NoAnswer);
                }
                Next::Path(next, body) => {
                    transaction.tell(|| format!("goes on as {}", next.path().escape_ascii()));
                    transaction.redirected = Some(Box::new(next.clone()));
                    target = next;
                    incoming = incoming.filter(|_| body == RequestBody::Kept);
                }
                Next::Named => {}
            }
        }
    })
}

/// Makes a request's body ready to be sent to servers.
fn source(transaction: &Transaction, route: &Route<'_>, incoming: Received) -> Rc<Source> {
    let limit = route.settings.client.max_body_size;
    let shown = transaction.generation.site.router.needs().body;
    let keeping = if shown { Keeping::Remembered } else { Keeping::UntilAnswered };
    Source::new(incoming, Rc::clone(&transaction.session), limit, keeping)
}

/// Reads a body before a server is asked, if the location says so.
async fn hold(route: &Route<'_>, body: Option<&Rc<Source>>) -> Result<(), Cut> {
    match body {
        Some(body) if route.proxy().buffering == RequestBuffering::On => body.hold(HOLD_MAX).await,
        _ => Ok(()),
    }
}

/// The most of a request's body that is read before a server is asked; the rest is sent on as it
/// comes. nginx has a file for it, and a limit of 1 MB unless told otherwise.
const HOLD_MAX: usize = 1 << 20;

/// Answers with a file.
fn serve_file(
    transaction: &Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
    error_page: Option<ErrorPageStatus>,
) -> Step {
    let exchange = exchange(transaction, server, route, target);
    let scratch = &mut *transaction.session.worker.scratch.borrow_mut();
    let cache = &mut transaction.session.worker.files.borrow_mut();
    let describing = finish::describing(transaction, route, error_page);
    match static_file::find(&exchange, describing, scratch, cache) {
        Found::File(file) => Step::Done(Answer {
            status: file.status,
            headers: file.headers,
            extensions: match file.form {
                Form::Only => Extensions::new(),
                form @ Form::Chosen => {
                    let mut extensions = Extensions::new();
                    extensions.insert(form);
                    extensions
                }
            },
            kind: Kind::File(file.body),
            tunnel: None,
        }),
        Found::Index(path) => Step::Index(path),
        Found::AddSlash => pages::add_slash(&exchange).map_or(Step::status(500), Step::page),
        Found::Status(status, headers) => Step::Status(status, headers),
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

impl Step {
    fn status(status: u16) -> Step {
        Step::Status(status, HeaderMap::new())
    }

    /// A page; a redirect is subject to `error_page` as if it were an error.
    fn page(page: Page) -> Step {
        match page.location {
            Some(location) => {
                let headers = HeaderMap::from_iter([(LOCATION, location)]);
                Step::Status(page.status.as_u16(), headers)
            }
            None => Step::Done(Answer::page(page)),
        }
    }
}

impl Answer {
    fn plain(status: StatusCode, body: Bytes) -> Answer {
        let kind = Kind::Whole(body);
        Answer { status, headers: HeaderMap::new(), extensions: Extensions::new(), kind, tunnel: None }
    }

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
