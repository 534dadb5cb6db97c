//! `add_before_body` and `add_after_body`: what other locations answer comes before and behind an answer.
//!
//! They are asked as `auth_request` asks, with the client's fields and without a body, whatever they are. As
//! in nginx an error has its page there, too.

use std::pin::Pin;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tracing::error;

use super::finish::weaken;
use super::search::Search;
use super::{Answer, Arrived, Ending, Purpose, walk};
use crate::body::{Cut, Joined, Kind};
use crate::model::Addition;
use crate::route::{Route, Server};
use crate::transaction::Transaction;
use crate::uri::Target;

/// Puts around an answer what the location wants to be there.
///
/// # Errors
/// A location closes the connection.
pub(super) async fn surround(
    transaction: &mut Transaction,
    server: &Server,
    route: &Route<'_>,
    addition: &Addition,
    answer: &mut Answer,
) -> Result<(), Cut> {
    let headers = &mut answer.headers;
    // Text in front of what was compressed would spoil it.
    let suits = answer.status == StatusCode::OK
        && answer.tunnel.is_none()
        && !headers.contains_key(CONTENT_ENCODING)
        && addition.types.contain(headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes));
    if !suits {
        return Ok(());
    }
    headers.remove(CONTENT_LENGTH);
    headers.remove(ACCEPT_RANGES);
    weaken(headers);
    if transaction.parts.method == Method::HEAD {
        return Ok(());
    }
    // How the fields of the answer are spelled is known by now, and not theirs to say.
    let spelled = transaction.session.spelling.take();
    let before = include(transaction, server, addition.before.as_deref()).await;
    let after = match &before {
        Ok(_) => include(transaction, server, addition.after.as_deref()).await,
        Err(cut) => Err(*cut),
    };
    transaction.session.adopt(route.settings);
    transaction.session.spelling.put_back(spelled);
    let inner = std::mem::replace(&mut answer.kind, Kind::Whole(Bytes::new()));
    answer.kind = Kind::Joined(Box::new(Joined::new(before?, inner, after?)));
    Ok(())
}

/// What a request says of when, of which part, and how it wants an answer: compressed texts cannot be joined.
const TERMS: [HeaderName; 7] =
    [ACCEPT_ENCODING, RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];

/// Returns what the location of a path answers.
async fn include(
    transaction: &Transaction,
    server: &Server,
    path: Option<&str>,
) -> Result<Option<Kind>, Cut> {
    let Some(path) = path else { return Ok(None) };
    let (path, args) = path.split_once('?').map_or((path, None), |(path, args)| (path, Some(args)));
    let Ok(mut target) = Target::internal(path.as_bytes(), args) else {
        let (serial, context) = (transaction.connection.serial, transaction.context(server));
        error!("*{serial} the path \"{path}\" of what is added to an answer cannot be used{context}");
        return Ok(None);
    };
    let (_, entry) = transaction.session.generation();
    let mut search = Search::internal(entry);
    let mut arrived = Arrived { incoming: None, body: None, refused: None };
    let mut question = transaction.question(path);
    // What the client says of its answer, and of what it has already, is not about this.
    TERMS.iter().for_each(|name| _ = question.parts.headers.remove(name));
    // Its type is not named here, since it may have this one in it.
    let walking: Pin<Box<dyn Future<Output = Result<Ending, Cut>> + '_>> =
        Box::pin(walk(question, &mut search, &mut target, &mut arrived, Purpose::Include));
    match walking.await? {
        Ending::Part(kind) => Ok(Some(kind)),
        Ending::Response(_) | Ending::Word(_) | Ending::Nothing => Ok(None),
    }
}
