//! Whether a request may go on, and when: limits first, then addresses, passwords and what another
//! location says, as in nginx.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue};
use tracing::error;

use super::{Step, asked, exchange};
use crate::credentials::{self, Cost, Credentials, Form};
use crate::error_log::{Errno, say};
use crate::limit::{Asked, Requests, Table};
use crate::model::{Enforcement, Excess, LimitStatus, LogLevel, RequestsLimit, Satisfy};
use crate::route::{Route, Server};
use crate::stream::access::{self, Verdict};
use crate::transaction::Transaction;
use crate::uri::Target;

/// Lets a request go on, perhaps after a while, or says what it is answered with.
pub(super) async fn admit(
    transaction: &mut Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
) -> Option<Step> {
    let limits = &route.settings.limits;
    if transaction.trace.is_some() {
        // Who asks for the reasons of an answer does not take the place of who wants it.
        return access(transaction, server, route, target).await;
    }
    if !limits.connections.is_empty()
        && transaction.findings.limit_conn.is_none()
        && let Some(status) = enter(transaction, server, route, target)
    {
        return Some(Step::status(status));
    }
    // A request is counted once, however often it is redirected inside.
    if !limits.requests.is_empty() && transaction.findings.limit_req.is_none() {
        match pour(transaction, server, route, target) {
            Poured::Through => {}
            Poured::After(delay) => tokio::time::sleep(delay).await,
            Poured::Never => return Some(Step::status(limits.on_requests.status)),
        }
    }
    access(transaction, server, route, target).await
}

/// Takes the places that `limit_conn` wants; a status if one is not to be had.
fn enter(
    transaction: &mut Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
) -> Option<u16> {
    let limits = &route.settings.limits;
    let mut places = Vec::new();
    for limit in &limits.connections {
        let zone = &transaction.generation.site.router.zones()[limit.zone.0];
        let Table::Connections(table) = &*transaction.generation.zones[limit.zone.0] else { continue };
        let mut key = Vec::new();
        zone.key.write(&exchange(transaction, server, route, target), &mut key);
        if key.is_empty() {
            continue;
        }
        if let Ok(place) = table.enter(&key, limit.most) {
            places.push(place);
            continue;
        }
        let excess = &limits.on_connections;
        let trial = trial(excess);
        let (serial, context) = (transaction.connection.serial, transaction.context(server));
        let name = &zone.name;
        say(excess.level, format_args!("*{serial} limiting connections{trial} by zone \"{name}\"{context}"));
        let (status, refused) = match excess.enforcement {
            Enforcement::On => (LimitStatus::Rejected, Some(excess.status)),
            Enforcement::DryRun => (LimitStatus::RejectedDryRun, None),
        };
        transaction.findings.limit_conn = Some(status);
        return refused;
    }
    // Where no key says anything there is nothing to pass.
    transaction.findings.limit_conn = (!places.is_empty()).then_some(LimitStatus::Passed);
    transaction.places = places;
    None
}

/// What `limit_req` says.
enum Poured {
    Through,
    After(Duration),
    Never,
}

/// Asks every bucket, and counts the request in all of them or in none.
fn pour(transaction: &mut Transaction, server: &Server, route: &Route<'_>, target: &Target<'_>) -> Poured {
    let limits = &route.settings.limits;
    let excess = &limits.on_requests;
    let mut asked: Vec<(&RequestsLimit, &Requests, Vec<u8>)> = Vec::with_capacity(limits.requests.len());
    for limit in &limits.requests {
        let zone = &transaction.generation.site.router.zones()[limit.zone.0];
        let Table::Requests(table) = &*transaction.generation.zones[limit.zone.0] else { continue };
        let mut key = Vec::new();
        zone.key.write(&exchange(transaction, server, route, target), &mut key);
        if !key.is_empty() {
            asked.push((limit, table, key));
        }
    }
    let Some(((last, table, key), others)) = asked.split_last() else { return Poured::Through };
    let now = table.now();
    let mut found = Vec::with_capacity(asked.len());
    for (limit, table, key) in others {
        found.push((limit, table, table.look(key, limit.burst, table.now())));
    }
    if found.iter().all(|(_, _, asked)| matches!(asked, Asked::Fits { .. })) {
        found.push((last, table, table.take(key, last.burst, now)));
    }
    let name = |limit: &RequestsLimit| &transaction.generation.site.router.zones()[limit.zone.0].name;
    let (serial, context, trial) =
        (transaction.connection.serial, transaction.context(server), trial(excess));
    let mut delay = Duration::ZERO;
    let mut delayed_by = None;
    for (limit, table, asked) in &found {
        match *asked {
            Asked::Overflows { excess: amount } => {
                let (whole, rest, name) = (amount / 1000, amount % 1000, name(limit));
                say(
                    excess.level,
                    format_args!(
                        "*{serial} limiting requests{trial}, excess: {whole}.{rest:03} by zone \"{name}\"{context}"
                    ),
                );
                let (status, poured) = match excess.enforcement {
                    Enforcement::On => (LimitStatus::Rejected, Poured::Never),
                    Enforcement::DryRun => (LimitStatus::RejectedDryRun, Poured::Through),
                };
                transaction.findings.limit_req = Some(status);
                return poured;
            }
            Asked::Fits { excess: amount } => {
                let undelayed = limit.undelayed.map_or(u64::MAX, |count| u64::from(count) * 1000);
                let wait = table.wait(amount.saturating_sub(undelayed));
                if wait > delay {
                    (delay, delayed_by) = (wait, Some((limit, amount)));
                }
            }
        }
    }
    for (_, table, key) in others {
        table.count(key, table.now());
    }
    let Some((limit, amount)) = delayed_by else {
        transaction.findings.limit_req = Some(LimitStatus::Passed);
        return Poured::Through;
    };
    let (whole, rest, name) = (amount / 1000, amount % 1000, name(limit));
    say(
        milder(excess.level),
        format_args!(
            "*{serial} delaying request{trial}, excess: {whole}.{rest:03}, by zone \"{name}\"{context}"
        ),
    );
    match excess.enforcement {
        Enforcement::On => {
            transaction.findings.limit_req = Some(LimitStatus::Delayed);
            Poured::After(delay)
        }
        Enforcement::DryRun => {
            transaction.findings.limit_req = Some(LimitStatus::DelayedDryRun);
            Poured::Through
        }
    }
}

fn trial(excess: &Excess) -> &'static str {
    match excess.enforcement {
        Enforcement::On => "",
        Enforcement::DryRun => ", dry run",
    }
}

/// The level of what is only delayed: one below that of what is refused.
fn milder(level: LogLevel) -> LogLevel {
    match level {
        LogLevel::Info | LogLevel::Debug => LogLevel::Debug,
        LogLevel::Notice => LogLevel::Info,
        LogLevel::Warn => LogLevel::Notice,
        _ => LogLevel::Warn,
    }
}

/// What one check says of a client.
pub(super) enum Opinion {
    /// Nothing: it is not configured, or not about this client.
    None,
    Welcome,
    /// It is answered with this, unless another check suffices.
    Unwelcome(u16, HeaderMap),
    /// The check itself has failed.
    Failed(u16),
}

/// Asks the checks by address and by password, as `satisfy` says.
async fn access(
    transaction: &mut Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
) -> Option<Step> {
    let satisfy = route.settings.auth.satisfy;
    let mut kept_out: Option<(u16, HeaderMap)> = None;
    for check in [Check::Address, Check::Password, Check::Request] {
        let opinion = match check {
            Check::Address => by_address(transaction, route),
            Check::Password => by_password(transaction, server, route, target).await,
            Check::Request => by_request(transaction, server, route).await,
        };
        match opinion {
            Opinion::None => {}
            Opinion::Welcome if satisfy == Satisfy::Any => return None,
            Opinion::Welcome => {}
            Opinion::Failed(status) => return Some(Step::status(status)),
            Opinion::Unwelcome(status, headers) => {
                let known = kept_out.as_ref().is_some_and(|(status, _)| *status == 401);
                if !known {
                    kept_out = Some((status, headers));
                }
                if satisfy == Satisfy::All {
                    break;
                }
            }
        }
    }
    let (status, headers) = kept_out?;
    if status == 401 {
        transaction.session.spelling.note("WWW-Authenticate");
    }
    let client = transaction.connection.remote.ip();
    transaction.tell(|| match status {
        401 => "a password is asked for, and this is none or not the right one".to_owned(),
        _ => format!("access forbidden by rule: {client} may not come in"),
    });
    if status == 403 {
        let (serial, context) = (transaction.connection.serial, transaction.context(server));
        error!("*{serial} access forbidden by rule{context}");
    }
    let delay = route.settings.auth.delay;
    if status == 401 && !delay.is_zero() && transaction.trace.is_none() {
        let (serial, context) = (transaction.connection.serial, transaction.context(server));
        say(LogLevel::Info, format_args!("*{serial} delaying unauthorized request{context}"));
        tokio::time::sleep(delay).await;
    }
    Some(Step::Status(status, Some(Box::new(headers))))
}

#[derive(Clone, Copy)]
enum Check {
    Address,
    Password,
    Request,
}

fn by_address(transaction: &Transaction, route: &Route<'_>) -> Opinion {
    match access::verdict(&route.settings.access, transaction.connection.remote.ip()) {
        None => Opinion::None,
        Some(Verdict::Allow) => Opinion::Welcome,
        Some(Verdict::Deny) => Opinion::Unwelcome(403, HeaderMap::new()),
    }
}

async fn by_request(transaction: &mut Transaction, server: &Server, route: &Route<'_>) -> Opinion {
    let auth = &route.settings.auth;
    let Some(path) = &auth.request else { return Opinion::None };
    if transaction.trace.is_some() {
        transaction.tell(|| format!("auth_request would ask {path}"));
        return Opinion::None;
    }
    asked::ask(transaction, server, route, auth, path).await
}

async fn by_password(
    transaction: &Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
) -> Opinion {
    let auth = &route.settings.auth;
    let (Some(realm), Some(users)) = (&auth.realm, &auth.users) else { return Opinion::None };
    let (mut text, mut path) = (Vec::new(), Vec::new());
    let asked = exchange(transaction, server, route, target);
    let realm = realm.bytes(&asked, &mut text);
    if realm == b"off" {
        return Opinion::None;
    }
    let challenge = || {
        let value = [b"Basic realm=\"", realm, b"\""].concat();
        let value = HeaderValue::from_bytes(&value).ok();
        Opinion::Unwelcome(401, value.into_iter().map(|value| (WWW_AUTHENTICATE, value)).collect())
    };
    let (serial, context) = (transaction.connection.serial, transaction.context(server));
    let Some(credentials) = Credentials::of(&transaction.parts.headers) else {
        say(
            LogLevel::Info,
            format_args!("*{serial} no user/password was provided for basic authentication{context}"),
        );
        return challenge();
    };
    let path = Path::new(OsStr::from_bytes(users.bytes(&asked, &mut path)));
    let name = credentials.name().escape_ascii();
    let file = match std::fs::read(path) {
        Ok(file) => file,
        Err(error) => {
            error!("*{serial} open() \"{}\" failed ({}){context}", path.display(), Errno(&error));
            return Opinion::Failed(if error.kind() == io::ErrorKind::NotFound { 403 } else { 500 });
        }
    };
    let Some(known) = credentials::look_up(&file, credentials.name()) else {
        error!("*{serial} user \"{name}\" was not found in \"{}\"{context}", path.display());
        return challenge();
    };
    let Some(form) = Form::parse(known) else {
        error!(
            "*{serial} user \"{name}\": the form of the password in \"{}\" is not supported{context}",
            path.display()
        );
        return challenge();
    };
    if matches(form, credentials.clone()).await {
        return Opinion::Welcome;
    }
    error!("*{serial} user \"{name}\": password mismatch{context}");
    challenge()
}

/// Compares a password; one that costs milliseconds on a thread where no connection waits for it.
async fn matches(form: Form, credentials: Credentials) -> bool {
    let cost = form.cost();
    let compare = move || credentials.password().is_some_and(|password| form.is(password));
    match cost {
        Cost::Small => compare(),
        Cost::Large => tokio::task::spawn_blocking(compare).await.unwrap_or(false),
    }
}
