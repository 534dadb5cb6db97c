//! A request's body before it is sent to servers: how much of it is read first, and where to.

use std::rc::Rc;

use tracing::{debug, error};

use super::Step;
use crate::body::{Cut, Keeping, Received, Source};
use crate::error_log::Errno;
use crate::model::{BodyStore, RequestBuffering};
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
        if body.size_held().is_none()
            // Without a file it goes on as it comes, which is better than not at all.
            && let Some(file) = create(store)
        {
            // In a place of its own: few requests need room for it.
            Box::pin(body.spool(file)).await?;
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

/// Reads a body whole, into a file.
pub(super) async fn spool(
    transaction: &mut Transaction,
    store: &BodyStore,
    body: &Source,
) -> Result<(), Cut> {
    let file = create(store).ok_or(Cut::Store)?;
    transaction.findings.body_file = Some(body.spool(file).await?);
    Ok(())
}

/// Makes a file for a body; where that fails, it is logged.
fn create(store: &BodyStore) -> Option<Spool> {
    let created = Spool::create(&store.folder, store.in_file.unwrap_or(Afterwards::Removed));
    let told = |error: &_| {
        let folder = store.folder.display();
        error!("a file for a request's body cannot be made in \"{folder}\" ({})", Errno(error));
    };
    created.inspect_err(told).ok()
}

/// The most of a request's body that is held in memory; a larger one goes to a file. That is what nginx
/// allows at all unless told otherwise.
pub(super) const HOLD_MAX: usize = 1 << 20;
