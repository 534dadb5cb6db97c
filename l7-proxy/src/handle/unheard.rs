//! Requests that never came whole: their line in the access log, as nginx has it.
//!
//! Nobody is there for an answer, or nobody waits for the rest any more. What has come of the head is
//! shown as it came.

use std::rc::Rc;

use bytes::Bytes;
use http::request::Parts;
use tracing::debug;

use crate::error_log;
use crate::moment::Moment;
use crate::server::Session;
use crate::transaction::Transaction;

/// Why the rest of a head did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unheard {
    TimedOut,
    Gone,
}

/// Takes down in the logs that a head has not come whole: what of it has come, and what can be told of it.
pub(crate) fn tell_unheard(session: &Rc<Session>, why: Unheard, parts: Parts, head: Bytes) {
    let (status, what) = match why {
        Unheard::TimedOut => (408, "client timed out (110: Connection timed out)"),
        Unheard::Gone => (400, "client prematurely closed connection"),
    };
    let reading = match memchr::memchr(b'\n', &head) {
        Some(_) => "headers",
        None => "line",
    };
    let waited = Moment::now().since(session.since());
    session.begin_request(Moment::now());
    session.note_head(head, false);
    let (generation, entry) = session.generation();
    let mut transaction = Transaction::new(Rc::clone(session), generation, Box::new(parts));
    transaction.began = transaction.began.checked_sub(waited).unwrap_or(transaction.began);
    let site = Rc::clone(&transaction.generation);
    let server = site.site.router.default_server(entry);
    transaction.place = Some(server.fallback().place);
    transaction.is_unheard(status);
    session.log_to(server.settings());
    let _within = error_log::within(session.places());
    let (serial, context) = (transaction.connection.serial, transaction.context(server));
    debug!("*{serial} {what} while reading client request {reading}{context}");
}
