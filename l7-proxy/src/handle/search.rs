//! The way of a request through servers and locations: scripts, internal redirects, error pages.

use http::header::{CONTENT_TYPE, USER_AGENT};
use http_body::Body as _;
use tracing::{debug, error};

use super::script::{Ran, Script, Stage};
use super::strict::Refused;
use super::{Answer, Step, exchange, explained};
use crate::body::Received;
use crate::model::{ErrorPageStatus, Padding, Recursion, Return};
use crate::pages::{self, Page, Replied};
use crate::route::{Entry, Located, Route, Router, Server};
use crate::transaction::{PathOrigin, Transaction};
use crate::uri::Target;
use crate::variable::Exchange;

/// What comes after a location has done its part.
pub(super) enum Next {
    /// This answer, with another status if an error page says so.
    Answer(Answer, Option<ErrorPageStatus>),
    /// The connection is closed without an answer.
    Close,
    /// The location of this path.
    Path(Target<'static>),
    /// The named location that the search has noted.
    Named,
}

/// How a location is looked for.
enum Way {
    /// By the path, after the server's own script.
    Server,
    /// By the path.
    Path,
    /// By name, after an `error_page @name`.
    Named(String),
}

/// The way of a request through locations.
pub(super) struct Search {
    entry: Entry,
    way: Way,
    /// Internal redirects so far.
    redirects: u32,
    /// The status to answer with, while an error is being answered by an error page.
    error_page: Option<ErrorPageStatus>,
    /// Whether the path is one of ours, not the client's.
    internal: bool,
}

/// What a location does, if that needs neither a file nor a server.
type Found<'g> = (Route<'g>, Option<Step>);

impl Search {
    pub(super) fn new(entry: Entry) -> Search {
        Search { entry, way: Way::Server, redirects: 0, error_page: None, internal: false }
    }

    /// The way of a question that we ask ourselves.
    pub(super) fn internal(entry: Entry) -> Search {
        Search { internal: true, ..Search::new(entry) }
    }

    /// Begins at a named location.
    pub(super) fn begin_at(&mut self, name: &str) {
        self.way = Way::Named(name.to_owned());
    }

    /// Where the request has come in.
    pub(super) fn entry(&self) -> Entry {
        self.entry
    }

    /// Refuses a request before any location is looked for.
    pub(super) fn refuse<'g>(
        &self,
        transaction: &mut Transaction,
        router: &'g Router,
        refused: Refused,
    ) -> (&'g Server, Route<'g>, Option<Step>) {
        let Refused { status, reason } = refused;
        transaction.tell(|| format!("refused with {status}: {reason}"));
        let server = router.default_server(self.entry);
        let (serial, context) = (transaction.connection.serial, transaction.context(server));
        debug!("*{serial} {reason} while reading client request {}{context}", refused.part());
        // What follows on the connection may be the rest of what was refused.
        transaction.session.finish_soon();
        transaction.give_up_body();
        let route = server.fallback();
        transaction.place = Some(route.place);
        (server, route, Some(Step::status(status)))
    }

    /// The status to answer with, while an error is being answered by an error page.
    pub(super) fn status(&self) -> Option<ErrorPageStatus> {
        self.error_page
    }

    /// Says what comes after a step.
    pub(super) fn follow(
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
                Some(next) => return Next::Path(next),
                None => {
                    self.tell_cycle(transaction, server, &path);
                    (500, None)
                }
            },
            Step::Elsewhere(place) => match self.elsewhere(&place) {
                Some(next) => return next,
                None => {
                    self.tell_cycle(transaction, server, &place);
                    (500, None)
                }
            },
            Step::Status(status, headers) => (status, headers),
        };
        if status == 413 {
            // No page wants what was too much already.
            transaction.give_up_body();
        }
        let before = self.redirects;
        let exchange = exchange(transaction, server, route, target);
        let found = self.error_page(status, route, &exchange);
        if found.is_some() {
            transaction.tell(|| format!("error_page for {status}"));
        } else if before <= REDIRECTS_MAX {
            self.tell_cycle(transaction, server, target.path());
        }
        if matches!(found, Some(ErrorPage::Path(_) | ErrorPage::Named)) {
            // What the error says of itself stays: how to log in, or where else to go.
            if let Some(headers) = &headers {
                transaction.carried.get_or_insert_default().extend((**headers).clone());
            }
            transaction.findings.error_status = match self.error_page {
                Some(ErrorPageStatus::Set(status)) => Some(status),
                _ => None,
            };
        }
        match found {
            Some(ErrorPage::Path(next)) => {
                transaction.act_as_get();
                Next::Path(next)
            }
            Some(ErrorPage::Named) => Next::Named,
            Some(ErrorPage::Redirect(page)) => Next::Answer(Answer::page(page), None),
            None => {
                let mut page = pages::built_in(status, route.settings.server_tokens);
                if route.settings.padding == Padding::On
                    && let Some(agent) = transaction.parts.headers.get(USER_AGENT)
                {
                    pages::pad(&mut page, agent.as_bytes());
                }
                let mut answer = Answer::page(page);
                if let Some(headers) = headers {
                    answer.headers.extend(*headers);
                }
                // A page of ours is not of the kind that a server's answer was.
                if let Some(carried) = &mut transaction.carried {
                    carried.remove(CONTENT_TYPE);
                }
                // An error page that fails answers with its own failure, as in nginx.
                Next::Answer(answer, None)
            }
        }
    }

    /// Finds the location; also what it does, if that needs neither a file nor a server.
    pub(super) fn locate<'g>(
        &mut self,
        transaction: &mut Transaction,
        router: &'g Router,
        target: &mut Target<'_>,
        incoming: Option<&Received>,
    ) -> (&'g Server, Route<'g>, Option<Step>) {
        let server = transaction.find_server(router, self.entry);
        explained::server(transaction, server);
        let size = incoming.map_or(0, |incoming| incoming.size_hint().lower());
        let (route, step) = loop {
            if let Some(found) = self.pass(server, transaction, target, size) {
                break found;
            }
            self.redirects += 1;
            if self.redirects > REDIRECTS_MAX {
                let (serial, context) = (transaction.connection.serial, transaction.context(server));
                let path = target.path().escape_ascii();
                error!(
                    "*{serial} rewrite or internal redirection cycle while processing \"{path}\"{context}"
                );
                break (server.fallback(), Some(Step::status(500)));
            }
        };
        transaction.place = Some(route.place);
        transaction.session.adopt(route.settings);
        if step.is_none() {
            transaction.identify(&route.settings.real_ip);
        }
        (server, route, step)
    }

    /// Goes through scripts and locations once; `None` if a script has changed the path.
    fn pass<'g>(
        &mut self,
        server: &'g Server,
        transaction: &mut Transaction,
        target: &mut Target<'_>,
        size: u64,
    ) -> Option<Found<'g>> {
        transaction.path = PathOrigin::Located;
        if matches!(self.way, Way::Server) {
            self.way = Way::Path;
            let route = server.fallback();
            transaction.identify(&route.settings.real_ip);
            if !server.script().is_empty() || server.reply().is_some() {
                transaction.place = Some(route.place);
                let stage = Stage::Server;
                let mut script = Script { transaction, server, route, target, stage };
                let ran = script.run(server.script(), server.reply());
                match ran {
                    Ran::Through { reply: None } | Ran::Anew => {}
                    ran => return self.ran(ran, server, transaction, route, target),
                }
            }
        }
        let (mut route, step) = self.locate_in(server, transaction, target);
        explained::location(transaction, server, &route, target.path());
        if step.is_some() {
            return Some((route, step));
        }
        if route.settings.client.max_body_size.is_some_and(|most| size > most) {
            let (serial, context) = (transaction.connection.serial, transaction.context(server));
            error!("*{serial} client intended to send too large body: {size} bytes{context}");
            return Some((route, Some(Step::status(413))));
        }
        route = server.for_method(route, transaction.method());
        if route.script.is_empty() && route.reply.is_none() {
            return Some((route, None));
        }
        let stage = Stage::Location;
        let mut script = Script { transaction, server, route, target, stage };
        let ran = script.run(route.script, route.reply);
        let route = script.route;
        self.ran(ran, server, transaction, route, target)
    }

    /// Says what comes after a script.
    fn ran<'g>(
        &mut self,
        ran: Ran<'g>,
        server: &'g Server,
        transaction: &Transaction,
        route: Route<'g>,
        target: &Target<'_>,
    ) -> Option<Found<'g>> {
        let step = match ran {
            Ran::Anew => {
                self.way = Way::Path;
                self.internal = true;
                return None;
            }
            Ran::Through { reply: None } => None,
            Ran::Through { reply: Some(reply) } => {
                explained::reply(transaction, reply);
                Some(answer(reply, &exchange(transaction, server, &route, target)))
            }
            Ran::Page(page) => Some(Step::Done(Answer::page(page))),
            Ran::Failed => Some(Step::status(500)),
        };
        Some((route, step))
    }

    fn locate_in<'g>(
        &self,
        server: &'g Server,
        transaction: &mut Transaction,
        target: &Target<'_>,
    ) -> Found<'g> {
        if let Way::Named(name) = &self.way {
            return match server.named(name) {
                Some(route) => (route, None),
                None => {
                    error!("*{} could not find named location \"@{name}\"", transaction.connection.serial);
                    (server.fallback(), Some(Step::status(500)))
                }
            };
        }
        let located = server.locate(target.path(), &mut transaction.captures);
        let route = located.route();
        if route.internal && !self.internal {
            return (route, Some(Step::status(404)));
        }
        if let Located::AddSlash(_) = located {
            let page = pages::add_slash(&exchange(transaction, server, &route, target));
            return (route, Some(page.map_or(Step::status(500), Step::page)));
        }
        let backslash = target.path().contains(&b'\\');
        if backslash && !leads_there_with_slashes(server, transaction, target.path()) {
            transaction
                .tell(|| "refused with 400: with slashes for backslashes it leads elsewhere".to_owned());
            return (server.fallback(), Some(Step::status(400)));
        }
        (route, None)
    }

    /// Returns the target of an internal redirect, unless there were too many.
    fn redirect(&mut self, path: &[u8], args: Option<&str>) -> Option<Target<'static>> {
        self.redirects += 1;
        if self.redirects > REDIRECTS_MAX {
            return None;
        }
        self.way = Way::Server;
        self.internal = true;
        Target::internal(path, args).ok()
    }

    /// Takes down that a request was not sent to another place, if it has been sent to too many.
    fn tell_cycle(&self, transaction: &Transaction, server: &Server, place: &[u8]) {
        if self.redirects <= REDIRECTS_MAX {
            return;
        }
        let (serial, context) = (transaction.connection.serial, transaction.context(server));
        let doing = if place.starts_with(b"@") {
            "while redirect to named location"
        } else {
            "while internally redirecting to"
        };
        let place = place.escape_ascii();
        error!("*{serial} rewrite or internal redirection cycle {doing} \"{place}\"{context}");
    }

    /// Returns what comes after a request was sent to another path, or to a named location.
    fn elsewhere(&mut self, place: &[u8]) -> Option<Next> {
        if let Some(name) = place.strip_prefix(b"@") {
            self.name(name)?;
            return Some(Next::Named);
        }
        let (path, args) = split(place);
        Some(Next::Path(self.redirect(path, args)?))
    }

    /// Looks for a named location next, unless there were too many redirects.
    fn name(&mut self, name: &[u8]) -> Option<()> {
        self.redirects += 1;
        if self.redirects > REDIRECTS_MAX {
            return None;
        }
        self.way = Way::Named(String::from_utf8_lossy(name).into_owned());
        self.internal = true;
        Some(())
    }

    /// Returns what an error is answered with, if not with the built-in page.
    fn error_page(&mut self, status: u16, route: &Route<'_>, exchange: &Exchange<'_>) -> Option<ErrorPage> {
        if self.error_page.is_some() && route.settings.recursion == Recursion::Off {
            // An error page that fails has no error page, unless the configuration says so.
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
            self.name(name)?;
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
        let (path, args) = split(place);
        let target = self.redirect(path, args)?;
        self.error_page = Some(kept);
        Some(ErrorPage::Path(target))
    }
}

/// Whether a path leads to the same location when its backslashes are read as slashes. Some servers read
/// them so (Tomcat's `allowBackslash`), and what one location denies must not get there through another.
fn leads_there_with_slashes(server: &Server, transaction: &mut Transaction, path: &[u8]) -> bool {
    let slashed: Vec<u8> = path.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect();
    let Ok(slashed) = Target::internal(&slashed, None) else { return false };
    let captures = &mut transaction.captures;
    let as_slashed = server.locate(slashed.path(), captures).route().place;
    as_slashed == server.locate(path, captures).route().place
}

/// Splits a place into path and query.
fn split(place: &[u8]) -> (&[u8], Option<&str>) {
    match memchr::memchr(b'?', place) {
        Some(mark) => (&place[..mark], std::str::from_utf8(&place[mark + 1..]).ok()),
        None => (place, None),
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

/// What a `return` amounts to.
fn answer(reply: &Return, exchange: &Exchange<'_>) -> Step {
    match pages::reply(reply, exchange, &mut Vec::new()) {
        Replied::Page(page) => Step::page(page),
        Replied::Status(status) => Step::status(status),
        Replied::Close => Step::Close,
    }
}

/// As many internal redirects as nginx follows.
const REDIRECTS_MAX: u32 = 10;
