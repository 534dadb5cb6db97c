//! `mirror`: copies of a request go to other locations, and nobody waits for what they answer.
//!
//! A copy is a request of its own, on a connection that is none: what it does to timeouts and logs must
//! not touch the request that it is a copy of, which goes on at once. It is counted as a connection is, so
//! slow mirrors are bounded by `worker_connections`; where there is no room left, none is sent.

use std::pin::Pin;
use std::rc::Rc;

use tracing::error;

use super::logged::Logged;
use super::search::Search;
use super::upload::{HOLD_MAX, source, spool};
use super::{Arrived, Ending, Purpose, walk};
use crate::body::{Cut, Duplicate, Received, Source};
use crate::model::{Mirror, MirrorBody};
use crate::route::{Route, Server};
use crate::server::Beside;
use crate::transaction::Transaction;
use crate::uri::Target;

/// Sends copies of a request to the paths of a mirror. Its body, if that goes along, is read whole before,
/// as in nginx; it is returned, since it can only be read once.
pub(super) async fn send(
    transaction: &mut Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
    incoming: &mut Option<Received>,
    body: &mut Option<Rc<Source>>,
) -> Result<(), Cut> {
    let mirror = &*route.settings.mirror;
    let mut copy = None;
    if mirror.body == MirrorBody::Copied {
        if let Some(incoming) = incoming.take() {
            *body = Some(source(transaction, route, incoming));
        }
        if let Some(body) = body {
            if !body.is_whole() {
                let (serial, context) = (transaction.connection.serial, transaction.context(server));
                error!("*{serial} not mirrored: part of the request's body was sent and not kept{context}");
                return Ok(());
            }
            copy = Some(read(transaction, route, body).await?);
        }
    }
    copies(transaction, server, target, mirror, copy.as_ref());
    Ok(())
}

/// Reads a body whole: into memory, or into a file if it is large.
async fn read(transaction: &mut Transaction, route: &Route<'_>, body: &Source) -> Result<Duplicate, Cut> {
    if body.copy().is_none() {
        body.hold(HOLD_MAX).await?;
    }
    if body.copy().is_none() {
        spool(transaction, &route.settings.client.body, body).await?;
    }
    body.copy().ok_or(Cut::Store)
}

fn copies(
    transaction: &Transaction,
    server: &Server,
    target: &Target<'_>,
    mirror: &Mirror,
    copy: Option<&Duplicate>,
) {
    for path in &mirror.paths {
        let serial = transaction.connection.serial;
        let Ok(mut copied) = Target::internal(path.as_bytes(), target.args()) else {
            error!(
                "*{serial} the path \"{path}\" of \"mirror\" cannot be used{}",
                transaction.context(server)
            );
            continue;
        };
        let Some(beside) = Beside::of(&transaction.session) else {
            let context = transaction.context(server);
            error!("*{serial} worker_connections are not enough to mirror to \"{path}\"{context}");
            continue;
        };
        let session = Rc::clone(beside.session());
        let (_, entry) = session.generation();
        let mirrored = transaction.mirrored(Rc::clone(&session), path);
        let body = copy.map(|copy| Source::of_copy(copy.clone(), Rc::clone(&session)));
        // Its type is not named here, since it may have this one in it.
        let walking: Pin<Box<dyn Future<Output = Result<Ending, Cut>>>> = Box::pin(async move {
            let mut arrived = Arrived { incoming: None, body, refused: None };
            let mut search = Search::internal(entry);
            walk(mirrored, &mut search, &mut copied, &mut arrived, Purpose::Mirror).await
        });
        tokio::task::spawn_local(async move {
            tokio::select! {
                biased;
                () = beside.aborted() => {}
                // Whatever goes wrong has been logged.
                _ = Logged::new(session, walking) => {}
            }
        });
    }
}
