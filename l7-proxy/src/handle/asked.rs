//! `auth_request`: whether a request may go on is for another location to say.
//!
//! That location is asked with the client's fields and without a body, whatever it is: a file, a
//! `return`, or a server. It says yes by a status of 2xx, and no by 401 or 403.

use std::pin::Pin;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, StatusCode};
use tracing::error;

use super::finish::exchange_with;
use super::guard::Opinion;
use super::search::Search;
use super::{Answer, Arrived, Ending, Purpose, Word, walk};
use crate::body::Cut;
use crate::model::{Auth, ErrorPageStatus};
use crate::route::{Route, Server};
use crate::transaction::Transaction;
use crate::uri::Target;

/// Asks the location of a path whether a request may go on.
pub(super) async fn ask(
    transaction: &mut Transaction,
    server: &Server,
    route: &Route<'_>,
    auth: &Auth,
    path: &str,
) -> Opinion {
    let (serial, context) = (transaction.connection.serial, transaction.context(server).to_string());
    let (path, args) = path.split_once('?').map_or((path, None), |(path, args)| (path, Some(args)));
    let Ok(mut target) = Target::internal(path.as_bytes(), args) else {
        error!("*{serial} the path \"{path}\" of \"auth_request\" cannot be used{context}");
        return Opinion::Failed(500);
    };
    let (_, entry) = transaction.session.generation();
    let mut search = Search::internal(entry);
    let mut arrived = Arrived { incoming: None, body: None, refused: None };
    let question = transaction.question(path);
    // Its type is not named here, since it may have this one in it.
    let walking: Pin<Box<dyn Future<Output = Result<Ending, Cut>> + '_>> =
        Box::pin(walk(question, &mut search, &mut target, &mut arrived, Purpose::Ask(auth)));
    let ending = walking.await;
    // What holds of timeouts, logs and names is again what the request's own location says.
    transaction.session.adopt(route.settings);
    transaction.session.spelling.forget();
    let Ok(Ending::Word(Word { status, headers, assigned })) = ending else {
        return Opinion::Failed(500);
    };
    transaction.findings.assigned = assigned;
    match status.as_u16() {
        200..=299 => Opinion::Welcome,
        401 => {
            let values = headers.get_all(WWW_AUTHENTICATE).iter();
            let values = values.map(|value| (WWW_AUTHENTICATE, value.clone()));
            let mut challenges = HeaderMap::new();
            values.for_each(|(name, value)| _ = challenges.append(name, value));
            Opinion::Unwelcome(401, challenges)
        }
        403 => Opinion::Unwelcome(403, HeaderMap::new()),
        status => {
            error!("*{serial} auth request unexpected status: {status}{context}");
            Opinion::Failed(500)
        }
    }
}

/// Returns what an answer says, and gives the variables of `auth_request_set` their values.
pub(super) fn word(
    transaction: &mut Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
    auth: &Auth,
    (answer, status): (&Answer, Option<ErrorPageStatus>),
) -> Word {
    let status = match status {
        Some(ErrorPageStatus::Set(status)) => StatusCode::from_u16(status).unwrap_or(answer.status),
        _ => answer.status,
    };
    let mut assigned = transaction.findings.assigned.clone();
    for (variable, value) in &auth.request_sets {
        let asked = exchange_with(transaction, server, route, target, status, &answer.headers);
        let mut text = Vec::new();
        value.write(&asked, &mut text);
        assigned.set(*variable, &text);
    }
    Word { status, headers: (*answer.headers).clone(), assigned }
}
