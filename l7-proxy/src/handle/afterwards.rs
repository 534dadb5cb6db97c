//! `post_action`: a location that a request goes on to when it is over, however it ended. Nobody listens to
//! what that answers.
//!
//! It is a request of its own, on a connection that is none, as a copy for `mirror` is: the client's next one
//! does not wait for it, as it does in nginx. What variables show is the request that is over, and its line in
//! the log is written when all is done, by the location that it has come to, as in nginx. What comes
//! afterwards has no such action itself.
//!
//! Who ends a request may not begin anything, so a task waits for the end from the start.

use std::pin::Pin;
use std::rc::Rc;

use tokio::sync::oneshot;
use tracing::error;

use super::logged::Logged;
use super::search::Search;
use super::{Arrived, Ending, Purpose, root, walk};
use crate::body::{Cut, Duplicate, Source};
use crate::route::Entry;
use crate::server::Beside;
use crate::transaction::Transaction;
use crate::uri::Target;

/// What waits for the end of a request.
pub(crate) struct Waiting {
    end: oneshot::Sender<Over>,
    /// The request's body, once all of it is there.
    pub(super) body: Option<Duplicate>,
}

/// A request that is over, with what it goes on as.
struct Over {
    beside: Beside,
    transaction: Box<Transaction>,
    body: Option<Duplicate>,
    place: Box<str>,
}

/// Has something wait for the end of a request.
pub(super) fn wait(transaction: &mut Transaction, entry: Entry) {
    let (end, ended) = oneshot::channel();
    transaction.waiting = Some(Box::new(Waiting { end, body: None }));
    tokio::task::spawn_local(async move {
        // It may end somewhere else, where nothing comes afterwards.
        let Ok(Over { beside, transaction, body, place }) = ended.await else { return };
        let session = Rc::clone(beside.session());
        let body = body.map(|body| Source::of_copy(body, Rc::clone(&session)));
        // Its type is not named here, since it may have this one in it.
        let going: Pin<Box<dyn Future<Output = Result<Ending, Cut>>>> =
            Box::pin(go_on(transaction, entry, body, place));
        tokio::select! {
            biased;
            () = beside.aborted() => {}
            // Whatever goes wrong has been logged.
            _ = Logged::new(session, going) => {}
        }
    });
}

/// Leads a request that is over through the location of a path, or a named one.
async fn go_on(
    mut transaction: Box<Transaction>,
    entry: Entry,
    body: Option<Rc<Source>>,
    place: Box<str>,
) -> Result<Ending, Cut> {
    let slashes = transaction.generation.site.router.default_server(entry).settings().client.slashes;
    let asked = transaction.parts.uri.path_and_query().cloned();
    let asked = asked.as_ref().map_or("/", |asked| asked.as_str());
    let mut search = Search::internal(entry);
    let mut target = match (place.strip_prefix('@'), &transaction.redirected) {
        (None, _) => Target::internal(place.as_bytes(), None).unwrap_or_else(|_| root()),
        (Some(_), Some(redirected)) => Target::clone(redirected),
        (Some(_), None) => Target::parse_with(asked, slashes).unwrap_or_else(|_| root()),
    };
    transaction.named = None;
    match place.strip_prefix('@') {
        Some(name) => search.begin_at(name),
        None => transaction.redirected = Some(Box::new(target.clone().into_owned())),
    }
    let mut arrived = Arrived { incoming: None, body, refused: None };
    walk(transaction, &mut search, &mut target, &mut arrived, Purpose::Mirror).await
}

impl Waiting {
    /// Goes on where the location says that answered the request; says whether there is anything to go on with,
    /// which then writes the line in the log.
    pub(crate) fn go_on(self, over: &mut Transaction) -> bool {
        let Some(at) = over.place else { return false };
        let generation = Rc::clone(&over.generation);
        let (server, route) = generation.site.router.at(at);
        let Some(place) = &route.settings.post_action else { return false };
        let Some(beside) = Beside::of(&over.session) else {
            let (serial, context) = (over.connection.serial, over.context(server));
            error!("*{serial} worker_connections are not enough for post_action \"{place}\"{context}");
            return false;
        };
        let transaction = over.afterwards(Rc::clone(beside.session()), place);
        let over = Over { beside, transaction, body: self.body, place: place.clone() };
        // If nobody waits, the line in the log has been written by what was not taken.
        let _ = self.end.send(over);
        true
    }
}
