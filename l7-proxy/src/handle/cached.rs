//! A request at a location whose answers are kept (`proxy_cache`): what there is, or what a server says.
//!
//! The order of things is nginx's, down to the words of `$upstream_cache_status`: the method, the zone, the key,
//! `proxy_cache_bypass`; then what there is; and only then a server, whose answer is kept if both sides let it
//! be.

mod fetch;

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{Extensions, HeaderMap, Method};
use tracing::{error, info};

use self::fetch::Errand;
use super::logged::Logged;
use super::{Answer, exchange};
use crate::body::{Kind, Source};
use crate::cache::{Content, Entry, Extent, Found, Question, Store, now};
use crate::forward::{self, Unanswered};
use crate::model::{CacheRules, CacheUse, ProxyPass};
use crate::moment::Moment;
use crate::route::{Route, Server};
use crate::server::Beside;
use crate::static_file::FileBody;
use crate::transaction::Transaction;
use crate::upstream::Pool;
use crate::uri::Target;
use crate::variable::{Cached, Exchange, Outcome, Value};

/// Where a request is answered, and under what its answer is kept.
struct Spot<'a> {
    server: &'a Server,
    route: &'a Route<'a>,
    pass: &'a ProxyPass,
    pool: Rc<Pool>,
    target: &'a Target<'a>,
    store: Arc<Store>,
    key: Bytes,
}

/// Answers a request by what is kept, or by a server.
///
/// # Errors
/// As [`forward::forward`].
pub(super) async fn answer(
    transaction: &mut Transaction,
    server: &Server,
    route: &Route<'_>,
    (pass, pool): (&ProxyPass, Rc<Pool>),
    target: &Target<'_>,
    body: Option<Rc<Source>>,
) -> Result<Answer, Unanswered> {
    transaction.findings.cached = None;
    let rules = &*route.proxy().cache_rules;
    let is_head = *transaction.method() == Method::HEAD;
    let store = match rules.takes(transaction.method()) {
        true => zone(transaction, server, route, target)?,
        false => None,
    };
    let Some(store) = store else {
        return forward::forward(transaction, server, route, (pass, pool), target, body).await;
    };
    let key = key(transaction, server, route, pass, target).ok_or(Unanswered::own(500))?;
    let spot = Spot { server, route, pass, pool, target, store, key };
    let mut cached = Box::new(Cached::new(Outcome::Miss));
    cached.converts_head = rules.convert_head && is_head;
    if holds(&rules.bypass, &spot.exchange(transaction)) {
        cached.outcome = Outcome::Bypass;
        transaction.findings.cached = Some(cached);
        let answered = spot.fetch(transaction, body, Errand::overwriting()).await;
        spot.store.count(Outcome::Bypass);
        return answered;
    }
    transaction.findings.cached = Some(cached);
    let answered = spot.look(transaction, body).await;
    if let Some(cached) = &transaction.findings.cached {
        spot.store.count(cached.outcome);
    }
    answered
}

/// Returns the zone of a location.
fn zone(
    transaction: &Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
) -> Result<Option<Arc<Store>>, Unanswered> {
    let caches = &transaction.generation.caches;
    match &route.proxy().cache {
        CacheUse::Off => Ok(None),
        CacheUse::Zone(id) => Ok(caches.get(id.0).cloned()),
        CacheUse::Named(name) => {
            let mut text = Vec::new();
            let name = name.bytes(&exchange(transaction, server, route, target), &mut text);
            if name.is_empty() || name == b"off" {
                return Ok(None);
            }
            let found = caches.iter().find(|store| store.name.as_bytes() == name);
            if found.is_none() {
                let (serial, context) = (transaction.connection.serial, transaction.context(server));
                error!("*{serial} cache \"{}\" not found{context}", name.escape_ascii());
            }
            found.cloned().map(Some).ok_or(Unanswered::own(500))
        }
    }
}

/// Returns what the answer is kept under: what the location says, or the URL that a server is asked for.
fn key(
    transaction: &Transaction,
    server: &Server,
    route: &Route<'_>,
    pass: &ProxyPass,
    target: &Target<'_>,
) -> Option<Bytes> {
    let mut key = Vec::new();
    match &route.proxy().cache_rules.key {
        Some(value) => value.write(&exchange(transaction, server, route, target), &mut key),
        None => {
            let path = forward::request_target(transaction, server, route, pass, target)?;
            let scheme = if pass.tls { "https://" } else { "http://" };
            for part in [scheme, &pass.host, path.as_str(transaction)] {
                key.extend_from_slice(part.as_bytes());
            }
        }
    }
    Some(key.into())
}

/// Whether one of the values is neither empty nor `0`.
fn holds(values: &[Value], exchange: &Exchange<'_>) -> bool {
    let mut text = Vec::new();
    values.iter().any(|value| !matches!(value.bytes(exchange, &mut text), b"" | b"0"))
}

impl Spot<'_> {
    fn rules(&self) -> &CacheRules {
        &self.route.proxy().cache_rules
    }

    fn exchange<'t>(&'t self, transaction: &'t Transaction) -> Exchange<'t> {
        exchange(transaction, self.server, self.route, self.target)
    }

    /// Answers by what there is, if there is something.
    async fn look(
        &self,
        transaction: &mut Transaction,
        body: Option<Rc<Source>>,
    ) -> Result<Answer, Unanswered> {
        let use_stale = &self.rules().use_stale;
        match self.find(transaction).await {
            Found::Fresh(entry) => match self.send(transaction, entry, Outcome::Hit) {
                Some(answer) => Ok(answer),
                None => self.fetch(transaction, body, Errand::overwriting()).await,
            },
            Found::Refused(status) => {
                note(transaction, Outcome::Hit);
                Err(Unanswered::own(status))
            }
            Found::Missing(claim) => self.fetch(transaction, body, Errand::keeping(claim)).await,
            Found::Scarce | Found::Busy(_) => self.fetch(transaction, body, Errand::passing()).await,
            Found::Stale(entry, claim) => {
                let may_wait = use_stale.updating || entry.facts.validity.serves_updating(now());
                if may_wait && !claim.is_updating() {
                    drop(claim);
                    return self.send(transaction, entry, Outcome::Updating).ok_or(Unanswered::own(500));
                }
                if may_wait && self.rules().background_update {
                    let errand = Errand::renewing(claim, entry.without_body());
                    self.update_beside(transaction, body.as_ref(), errand);
                    return self.send(transaction, entry, Outcome::Stale).ok_or(Unanswered::own(500));
                }
                note(transaction, Outcome::Expired);
                self.fetch(transaction, body, Errand::renewing(claim, entry)).await
            }
        }
    }

    /// Looks for what there is; waits for somebody else's turn, where that is wanted.
    async fn find(&self, transaction: &Transaction) -> Found {
        let rules = self.rules();
        let wants_head = *transaction.method() == Method::HEAD && !rules.convert_head;
        let question = Question {
            key: &self.key,
            headers: &transaction.parts.headers,
            extent: if wants_head { Extent::Head } else { Extent::Whole },
            min_uses: rules.min_uses,
            lock_age: rules.lock.then_some(rules.lock_age),
        };
        let deadline = Moment::now() + rules.lock_timeout;
        let mut found = self.store.ask(&question);
        while let Found::Busy(busy) = found {
            if Moment::now() >= deadline {
                let (serial, context) = (transaction.connection.serial, transaction.context(self.server));
                info!("*{serial} cache lock timeout{context}");
                return Found::Scarce;
            }
            busy.over(deadline).await;
            found = self.store.ask_again(busy.claim, &question);
        }
        found
    }

    /// Makes the answer of an entry; `None` if its head cannot be read.
    fn send(&self, transaction: &mut Transaction, entry: Entry, outcome: Outcome) -> Option<Answer> {
        let session = &transaction.session;
        let head = entry.head(session.worker.take_fields(), &session.spelling)?;
        note(transaction, outcome);
        if let Some(cached) = &mut transaction.findings.cached {
            cached.is_kept = true;
        }
        self.store.count_served(entry.body.length());
        let mut extensions = Extensions::new();
        if let Some(reason) = head.reason {
            extensions.insert(reason);
        }
        let kind = match entry.body {
            Content::Read(bytes) => Kind::Whole(bytes),
            Content::InFile { file, offset, length } => {
                Kind::File(Box::new(FileBody::behind(file, offset, length)))
            }
        };
        Some(Answer { status: head.status, headers: head.headers, extensions, kind, tunnel: None })
    }

    /// Fetches a new answer in place of one that is sent meanwhile.
    fn update_beside(&self, transaction: &Transaction, body: Option<&Rc<Source>>, errand: Errand) {
        let Some(beside) = Beside::of(&transaction.session) else {
            let (serial, context) = (transaction.connection.serial, transaction.context(self.server));
            return error!("*{serial} worker_connections are not enough to update an answer{context}");
        };
        let session = Rc::clone(beside.session());
        let mut copied = transaction.beside(Rc::clone(&session));
        if let Some(cached) = &mut copied.findings.cached {
            cached.outcome = Outcome::Expired;
        }
        let body = match body.map(|body| body.copy()) {
            // It was not read whole, so that it is this request's alone.
            Some(None) => return,
            Some(Some(copy)) => Some(Source::of_copy(copy, Rc::clone(&session))),
            None => None,
        };
        let (place, target) = (self.route.place, self.target.clone().into_owned());
        let (pass, pool, store, key) =
            (self.pass.clone(), Rc::clone(&self.pool), Arc::clone(&self.store), self.key.clone());
        let updating = Box::pin(async move {
            let generation = Rc::clone(&copied.generation);
            let (server, route) = generation.site.router.at(place);
            copied.session.adopt(route.settings);
            let spot = Spot { server, route: &route, pass: &pass, pool, target: &target, store, key };
            // Whatever goes wrong has been logged.
            if let Ok(answer) = spot.fetch(&mut copied, body, errand).await
                && !matches!(answer.kind, Kind::Filled(_))
            {
                answer.kind.discard().await;
            }
        });
        tokio::task::spawn_local(async move {
            tokio::select! {
                biased;
                () = beside.aborted() => {}
                () = Logged::new(session, updating) => {}
            }
        });
    }
}

/// Takes down what the cache has to do with an answer.
fn note(transaction: &mut Transaction, outcome: Outcome) {
    if let Some(cached) = &mut transaction.findings.cached {
        cached.outcome = outcome;
    }
}

/// The fields of a request, for what depends on them.
fn fields_of(transaction: &Transaction) -> &HeaderMap {
    &transaction.parts.headers
}
