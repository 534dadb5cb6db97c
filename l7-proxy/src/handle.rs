//! From a request's head to its answer: which server block, which location, which handler.
//!
//! Before anything else comes the strict layer: what parsers take and what two readers could take
//! differently is refused here, once, for every handler.

mod afterwards;
mod asked;
mod cached;
mod charset;
mod computed;
mod edit;
mod expires;
mod explained;
mod fill;
mod finish;
mod guard;
mod included;
mod logged;
mod mirror;
mod missing;
mod part;
mod pixel;
mod relay;
mod script;
mod search;
mod secure;
mod slice;
mod status;
mod stored;
mod strict;
mod trailing;
mod tried;
mod unheard;
mod upload;
mod userid;

use std::rc::Rc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{Extensions, HeaderMap, Request, StatusCode, Version};
use http_body::Body as _;
use hyper::ext::ReasonPhrase;

pub(crate) use self::afterwards::Waiting;
use self::finish::{finish, reason};
use self::logged::Logged;
use self::search::{Next, Search};
pub(crate) use self::strict::Refused;
pub(crate) use self::trailing::is_bodiless;
pub(crate) use self::unheard::{Unheard, tell_unheard};
use crate::body::{Body, Cut, Kind, Received, Source};
use crate::forward::{self, Tunnel};
use crate::model::{Auth, CacheUse, ErrorPageStatus, Handler, ServerRanges, Storing};
use crate::moment::Moment;
use crate::pages::{self, Page};
use crate::route::{Route, Server};
use crate::server::Session;
use crate::static_file::{self, Form, Found};
use crate::transaction::Transaction;
use crate::uri::Target;
use crate::variable::{Assigned, Exchange};

/// An answer on its way to become a response.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// In a place of its own, which is used again and again: it is large, and answers are moved about.
    pub(crate) headers: Box<HeaderMap>,
    /// What else there is to say, such as a server's own words for the status.
    pub(crate) extensions: Extensions,
    pub(crate) kind: Kind,
    /// What the connection is used for after this answer, if not for HTTP.
    pub(crate) tunnel: Option<Box<Tunnel>>,
}

/// The head of a response.
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    /// That of the protocol: what is of the old version is not written in chunks.
    pub(crate) version: Version,
    pub(crate) headers: Box<HeaderMap>,
    pub(crate) extensions: Extensions,
    pub(crate) aside: Aside,
}

/// What a response says beside its fields, where nobody asks what it says before it is written.
#[derive(Default)]
pub(crate) struct Aside {
    /// How we name ourselves.
    pub(crate) server: Option<&'static str>,
    pub(crate) persistence: Option<Persistence>,
}

/// Whether a connection goes on behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    Kept,
    Closed,
}

impl Persistence {
    /// As `Connection` says it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Persistence::Kept => "keep-alive",
            Persistence::Closed => "close",
        }
    }
}

impl Aside {
    /// How many bytes of a head it is.
    pub(crate) fn written(&self) -> usize {
        let field = |name: &str, value: &str| name.len() + value.len() + ": \r\n".len();
        self.server.map_or(0, |server| field("Server", server))
            + self.persistence.map_or(0, |persistence| field("Connection", persistence.as_str()))
    }
}

/// A response, as it is before a protocol writes it.
pub(crate) struct Response {
    pub(crate) head: ResponseHead,
    pub(crate) body: Body,
}

impl From<Response> for http::Response<Body> {
    fn from(response: Response) -> http::Response<Body> {
        let ResponseHead { status, version, headers, extensions, .. } = response.head;
        let mut written = http::Response::new(response.body);
        *written.status_mut() = status;
        *written.version_mut() = version;
        *written.headers_mut() = *headers;
        *written.extensions_mut() = extensions;
        written
    }
}

/// What a location does with a request.
enum Step {
    Done(Answer),
    /// An error, or a `return` of a status: `error_page` applies.
    Status(u16, Option<Box<HeaderMap>>),
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
) -> impl Future<Output = Result<http::Response<Body>, Cut>> {
    let (parts, incoming) = request.into_parts();
    let incoming = Some(incoming).filter(|incoming| !incoming.is_end_stream());
    let answered = answer_parts(session, Box::new(parts), incoming, None);
    async { answered.await.map(http::Response::from) }
}

/// Answers one request; one that was found to be none is `refused`.
pub(crate) fn answer_parts(
    session: Rc<Session>,
    parts: Box<Parts>,
    incoming: Option<Received>,
    refused: Option<Refused>,
) -> impl Future<Output = Result<Response, Cut>> + Unpin {
    session.begin_request(Moment::now());
    let (generation, entry) = session.generation();
    let mut transaction = Transaction::new(session, generation, parts);
    let site = Rc::clone(&transaction.generation);
    let settings = site.site.router.default_server(entry).settings();
    transaction.session.log_to(settings);
    let client = &settings.client;
    let slashes = client.slashes;
    let sound = refused.map_or(Ok(()), Err);
    let recent = &transaction.session.worker.recent_host;
    let size = transaction.head_size();
    let checked = sound
        .and_then(|()| strict::check(&mut transaction.parts, size, &client.head, &mut recent.borrow_mut()));
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
    let session = Rc::clone(&transaction.session);
    let place = Box::new_uninit();
    // Made where it stays.
    let answering = Box::write(place, async move {
        let asked = transaction.parts.uri.path_and_query().cloned();
        let asked = asked.as_ref().map_or("/", |asked| asked.as_str());
        let mut target = Target::parse_with(asked, slashes).unwrap_or_else(|_| {
            refused.get_or_insert(Refused { status: 400, reason: "client sent invalid request" });
            root()
        });
        let mut arrived = Arrived { incoming, body: None, refused };
        match walk(transaction, &mut search, &mut target, &mut arrived, Purpose::Answer).await? {
            Ending::Response(response) => Ok(response),
            // It was not asked for.
            Ending::Word(_) | Ending::Part(_) | Ending::Nothing => Err(Cut::NoAnswer),
        }
    });
    Logged::new(session, Box::into_pin(answering))
}

/// What has come of a request.
struct Arrived {
    incoming: Option<Received>,
    /// The body, where it comes from somewhere else.
    body: Option<Rc<Source>>,
    /// Why it is not to be answered as what it asks for.
    refused: Option<Refused>,
}

/// What a request is led through the locations for.
enum Purpose<'a> {
    /// To answer the client.
    Answer,
    /// To hear whether another request may go on.
    Ask(&'a Auth),
    /// To have it seen by whoever answers it.
    Mirror,
    /// To have its answer in another one.
    Include,
}

/// What comes of a request.
enum Ending {
    Response(Response),
    Word(Word),
    /// A part of another answer.
    Part(Kind),
    /// Nothing that anybody waits for.
    Nothing,
}

/// What a location says of another request.
struct Word {
    status: StatusCode,
    headers: HeaderMap,
    /// The variables of the request, with what `auth_request_set` has made of the answer.
    assigned: Assigned,
}

/// Leads a request through servers and locations to its answer.
///
/// What it goes by stays where it is: moving it here would cost as much as a part of the way.
async fn walk<'t>(
    mut transaction: Box<Transaction>,
    search: &mut Search,
    target: &mut Target<'t>,
    arrived: &mut Arrived,
    purpose: Purpose<'_>,
) -> Result<Ending, Cut> {
    let Arrived { incoming, body, refused } = arrived;
    // The route borrows from it while the transaction goes on to change.
    let generation = Rc::clone(&transaction.generation);
    let router = &generation.site.router;
    loop {
        let (server, route, step) = match refused.take() {
            Some(refused) => search.refuse(&mut transaction, router, refused),
            None => search.locate(&mut transaction, router, target, incoming.as_ref()),
        };
        if route.settings.post_action.is_some() && transaction.may_be_followed() {
            afterwards::wait(&mut transaction, search.entry());
        }
        let step = unless_undecided(&mut transaction, step);
        let step = match step {
            None if !route.settings.admits_all() && transaction.is_judged() => {
                // In a place of its own: most requests need no room for it.
                let step = Box::pin(guard::admit(&mut transaction, server, &route, target)).await;
                unless_undecided(&mut transaction, step)
            }
            step => step,
        };
        let step = step.or_else(|| {
            let tried = route.try_files?;
            tried::look(&mut transaction, server, &route, target, tried)
        });
        let step = match step {
            None if !route.settings.mirror.paths.is_empty()
                && !transaction.asks()
                && transaction.trace.is_none() =>
            {
                // In a place of its own, as above.
                let mirrored =
                    Box::pin(mirror::send(&mut transaction, server, &route, target, incoming, body)).await;
                match mirrored {
                    Ok(()) => None,
                    Err(cut) => Some(upload::cut_short(&mut transaction, server, cut)?),
                }
            }
            step => step,
        };
        let named;
        let (to, step) = match (step, route.handler) {
            (None, Handler::Proxy(pass)) => {
                (pass.upstream.map(|upstream| (pass, generation.pool(upstream))), None)
            }
            (None, Handler::ProxyTo(to)) => {
                // In a place of its own, as above.
                let passed = Box::pin(computed::pass(&mut transaction, server, &route, target, to)).await;
                match (unless_undecided(&mut transaction, None), passed) {
                    (None, Ok((pass, pool))) => {
                        named = pass;
                        (Some((&*named, pool)), None)
                    }
                    (None, Err(status)) => (None, Some(Step::status(status))),
                    (undecided, _) => (None, undecided),
                }
            }
            (step, _) => (None, step),
        };
        let mut step = match (step, to, route.handler) {
            (Some(step), ..) => step,
            (None, Some(to), _) if transaction.trace.is_some() => {
                transaction.tell(|| forward::explain(&transaction, server, &route, to, target));
                Step::Done(explained::asked())
            }
            (None, None, Handler::Files) => serve_file(&transaction, server, &route, target, search.status()),
            (None, None, Handler::EmptyGif) => pixel::answer(&transaction, route.settings),
            (None, None, Handler::Status(page)) => status::answer(&transaction, route.settings, *page),
            // Nobody to forward to, which no file can say.
            (None, None, Handler::Proxy(_) | Handler::ProxyTo(_)) => Step::status(500),
            (None, Some(to), _) => match upload::prepare(&mut transaction, &route, incoming, body).await {
                Err(cut) => upload::cut_short(&mut transaction, server, cut)?,
                Ok(sent) => {
                    let pieces = route.settings.files.slice.map(|_| slice::Way::new(to.0, &to.1, target));
                    let answered = if route.proxy().cache == CacheUse::Off {
                        // What a location before this one had to do with a cache is over.
                        if transaction.findings.cached.is_some() {
                            transaction.findings.cached = None;
                        }
                        forward::forward(&mut transaction, server, &route, to, target, sent).await
                    } else {
                        // In a place of its own, as above.
                        let cached = cached::answer(&mut transaction, server, &route, to, target, sent);
                        Box::pin(cached).await
                    };
                    let most = route.settings.client.body.buffer_size;
                    let shown = body.as_ref().and_then(|body| body.shown());
                    transaction.findings.body = shown.filter(|body| body.len() as u64 <= most);
                    match answered {
                        Ok(mut answer) => {
                            if route.proxy().store != Storing::Off {
                                // In a place of its own, as above.
                                Box::pin(stored::store(&transaction, server, &route, target, &mut answer))
                                    .await;
                            }
                            let step = relay::examine(&mut transaction, server, &route, target, answer);
                            match &transaction.findings.cached {
                                None if pieces.is_none()
                                    && route.proxy().relay.ranges == ServerRanges::AsSent =>
                                {
                                    step
                                }
                                _ => part::reduce(
                                    &transaction,
                                    server,
                                    &route,
                                    target,
                                    pieces,
                                    step,
                                    search.status(),
                                ),
                            }
                        }
                        Err(_) if body.as_ref().is_some_and(|body| body.is_abandoned()) => {
                            return Err(transaction.abandon());
                        }
                        Err(unanswered) => Step::status(unanswered.status),
                    }
                }
            },
        };
        let is_spoilt = incoming.as_ref().is_some_and(|incoming| incoming.is_spoilt());
        if is_spoilt && matches!(step, Step::Done(_) | Step::Status(..400, _)) {
            // An error page is not to be answered so once more.
            transaction.give_up_body();
            step = upload::cut_short(&mut transaction, server, Cut::Chunks)?;
        }
        match search.follow(&mut transaction, server, &route, target, step) {
            Next::Answer(answer, status) if let Purpose::Ask(auth) = purpose => {
                let word = asked::word(&mut transaction, server, &route, target, auth, (&answer, status));
                answer.kind.discard().await;
                return Ok(Ending::Word(word));
            }
            Next::Answer(answer, _) if matches!(purpose, Purpose::Mirror) => {
                answer.kind.discard().await;
                return Ok(Ending::Nothing);
            }
            Next::Answer(answer, _) if matches!(purpose, Purpose::Include) => {
                return Ok(Ending::Part(answer.kind));
            }
            Next::Answer(answer, _) if transaction.trace.is_some() => {
                let answer = explained::answer(&mut transaction, answer);
                let response = finish(transaction, server, &route, target, answer, None);
                return Ok(Ending::Response(response));
            }
            Next::Answer(mut answer, status) => {
                if let Some(body) = body {
                    if let Some(waiting) = &mut transaction.waiting {
                        waiting.body = body.copy();
                    }
                    body.settle();
                }
                let addition = &route.settings.addition;
                if !addition.is_empty() {
                    // In a place of its own, as above.
                    Box::pin(included::surround(&mut transaction, server, &route, addition, &mut answer))
                        .await?;
                }
                let response = finish(transaction, server, &route, target, answer, status);
                return Ok(Ending::Response(response));
            }
            Next::Close if transaction.trace.is_some() => {
                transaction.tell(|| "the connection would be closed without an answer".to_owned());
                let answer = explained::answer(&mut transaction, explained::asked());
                let response = finish(transaction, server, &route, target, answer, None);
                return Ok(Ending::Response(response));
            }
            Next::Close => {
                if route.settings.connection.resets_timed_out {
                    transaction.session.part_by_reset();
                }
                transaction.close();
                return Err(Cut::NoAnswer);
            }
            Next::Path(next) => {
                transaction.named = None;
                transaction.findings.forget_slice();
                transaction.tell(|| format!("goes on as {}", next.path().escape_ascii()));
                transaction.redirected = Some(Box::new(next.clone()));
                *target = next;
            }
            Next::Named => {
                transaction.named = None;
                transaction.findings.forget_slice();
            }
        }
        if transaction.is_bodiless() {
            (*incoming, *body) = (None, None);
        }
    }
}

/// Refuses where an expression came to no end: whatever was decided by it was not.
fn unless_undecided(transaction: &mut Transaction, step: Option<Step>) -> Option<Step> {
    if transaction.captures.take_failure() { Some(Step::status(500)) } else { step }
}

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
    scratch.clear();
    let cache = &mut transaction.session.worker.files.borrow_mut();
    let describing = finish::describing(transaction, route, error_page);
    match static_file::find(&exchange, describing, scratch, cache) {
        Found::File(file) => Step::Done(Answer {
            status: file.status,
            headers: match file.headers.is_empty() {
                true => transaction.session.worker.take_fields(),
                false => Box::new(file.headers),
            },
            extensions: match file.form {
                Form::Only => Extensions::new(),
                form @ Form::Chosen => {
                    let mut extensions = Extensions::new();
                    extensions.insert(form);
                    extensions
                }
            },
            kind: Kind::File(Box::new(file.body)),
            tunnel: None,
        }),
        Found::Listing(kind, page) => {
            let mut answer = Answer::plain(StatusCode::OK, page);
            answer.headers.insert(CONTENT_TYPE, kind);
            Step::Done(answer)
        }
        Found::Index(path) => Step::Index(path),
        Found::AddSlash => pages::add_slash(&exchange).map_or(Step::status(500), Step::page),
        Found::Status(status, headers) => {
            missing::tell(transaction, server, route, status, scratch);
            Step::Status(status, Some(Box::new(headers)).filter(|headers| !headers.is_empty()))
        }
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
        Step::Status(status, None)
    }

    /// A page; a redirect is subject to `error_page` as if it were an error.
    fn page(page: Page) -> Step {
        match page.location {
            Some(location) => {
                let headers = HeaderMap::from_iter([(LOCATION, location)]);
                Step::Status(page.status.as_u16(), Some(Box::new(headers)))
            }
            None => Step::Done(Answer::page(page)),
        }
    }
}

impl Answer {
    fn plain(status: StatusCode, body: Bytes) -> Answer {
        let kind = Kind::Whole(body);
        Answer { status, headers: Box::default(), extensions: Extensions::new(), kind, tunnel: None }
    }

    fn page(page: Page) -> Answer {
        let mut headers = Box::<HeaderMap>::default();
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
