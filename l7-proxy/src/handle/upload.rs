//! A request's body before it is sent to servers: how much of it is read first, and where to.

use std::rc::Rc;

use tracing::{debug, error};

use super::Step;
use crate::body::{Cut, Keeping, Received, Source};
use crate::error_log::Errno;
use crate::model::{BodyStore, Errors, RequestBuffering};
use crate::route::{Route, Server};
use crate::spool::{Afterwards, Spool};
use crate::transaction::Transaction;

/// Makes a request's body ready to be sent to servers, and reads of it what the location wants read
/// before; `None` if there is none to send.
///
/// # Errors
/// It could not be read, or what was sent of it before was not kept.
pub(super) async fn prepare(
    transaction: &mut Transaction,
    route: &Route<'_>,
    incoming: &mut Option<Received>,
    body: &mut Option<Rc<Source>>,
) -> Result<Option<Rc<Source>>, Cut> {
    if let Some(incoming) = incoming.take() {
        *body = Some(source(transaction, route, incoming));
    }
    let Some(source) = body else { return Ok(None) };
    if source.is_whole() {
        hold(transaction, route, source).await?;
        return Ok(Some(Rc::clone(source)));
    }
    if transaction.acts_as_get() {
        // A page is asked for, about which the body says nothing.
        transaction.give_up_body();
        return Ok(None);
    }
    Err(Cut::Lost)
}

/// Takes the body of a request that has one.
pub(super) fn source(transaction: &Transaction, route: &Route<'_>, incoming: Received) -> Rc<Source> {
    let limit = route.settings.client.max_body_size;
    let shown = transaction.generation.site.router.needs().body;
    let keeping = if shown { Keeping::Remembered } else { Keeping::UntilAnswered };
    Source::new(incoming, Rc::clone(&transaction.session), limit, keeping)
}

/// What comes of a request whose body was not read whole.
///
/// # Errors
/// Nobody is there to be answered.
pub(super) fn cut_short(transaction: &mut Transaction, server: &Server, cut: Cut) -> Result<Step, Cut> {
    let (serial, context) = (transaction.connection.serial, transaction.context(server));
    if cut == Cut::Gone {
        debug!("*{serial} {cut}{context}");
        return Err(transaction.abandon());
    }
    error!("*{serial} {cut}{context}");
    Ok(Step::status(cut.status()))
}

/// Reads a body before a server is asked, if the location says so.
async fn hold(transaction: &mut Transaction, route: &Route<'_>, body: &Source) -> Result<(), Cut> {
    if route.proxy().buffering == RequestBuffering::Off || body.is_in_file() {
        return Ok(());
    }
    let needs = transaction.generation.site.router.needs();
    let store = &route.settings.client.body;
    if store.in_file.is_none() && !needs.body_file {
        body.hold(HOLD_MAX).await?;
        if may_lead_on(route) && body.size_held().is_none() {
            // In a place of its own: few requests need room for it.
            Box::pin(spool(transaction, store, body)).await?;
        }
    } else if transaction.findings.body_file.is_none() {
        let most = usize::try_from(store.buffer_size).unwrap_or(usize::MAX).saturating_add(1);
        body.hold(most).await?;
        let fits = body.size_held().is_some_and(|size| size < most);
        if store.in_file.is_some() || !fits {
            // As above.
            Box::pin(spool(transaction, store, body)).await?;
        }
    }
    let shown = body.shown();
    transaction.findings.body = shown.filter(|body| body.len() as u64 <= store.buffer_size);
    Ok(())
}

/// Whether the answer of a server may lead to another place, where the body is wanted once more.
fn may_lead_on(route: &Route<'_>) -> bool {
    route.proxy().relay.errors == Errors::Intercepted && !route.settings.error_pages.is_empty()
}

/// Reads a body whole, into a file.
pub(super) async fn spool(
    transaction: &mut Transaction,
    store: &BodyStore,
    body: &Source,
) -> Result<(), Cut> {
    let afterwards = store.in_file.unwrap_or(Afterwards::Removed);
    let file = Spool::create(&store.folder, afterwards).map_err(|error| {
        let folder = store.folder.display();
        error!("a file for a request's body cannot be made in \"{folder}\" ({})", Errno(&error));
        Cut::Store
    })?;
    transaction.findings.body_file = Some(body.spool(file).await?);
    Ok(())
}

/// The most of a request's body that is read before a server is asked; the rest is sent on as it
/// comes. nginx has a file for it, and a limit of 1 MB unless told otherwise.
pub(super) const HOLD_MAX: usize = 1 << 20;
