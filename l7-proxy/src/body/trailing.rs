//! Fields behind a body: what the server sent there, and what `add_trailer` says.
//!
//! HTTP/2 has a frame for them, HTTP/1.1 a place behind the last chunk.

use http::HeaderMap;

use crate::model::{AddHeader, Trailers};
use crate::server::Session;
use crate::transaction::{Origin, Transaction};
use crate::variable::{Exchange, Response};

/// What comes behind a body.
#[derive(Default)]
pub(crate) enum Trailing {
    /// Nothing, whatever the server sends.
    #[default]
    Nothing,
    /// What the server sends, as it is.
    AsSent,
    /// Something that is put together at the end.
    Composed(Composed),
}

/// What is put together when the body has ended.
pub(crate) struct Composed {
    /// What becomes of the server's fields.
    passing: Trailers,
    /// Whether that is still to be done.
    due: bool,
}

/// Whether something is added to what the server sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    Something,
    Nothing,
}

impl Trailing {
    /// What comes behind a body on a connection that has a place for it.
    pub(crate) fn new(passing: Trailers, added: Added) -> Trailing {
        match (passing, added) {
            (Trailers::Dropped, Added::Nothing) => Trailing::Nothing,
            (Trailers::Passed, Added::Nothing) => Trailing::AsSent,
            (passing, Added::Something) => Trailing::Composed(Composed { passing, due: true }),
        }
    }

    /// Whether the size of the body is none of the message, which goes on behind it.
    pub(super) fn hides_size(&self) -> bool {
        matches!(self, Trailing::Composed(_))
    }

    /// Whether something may come when the body itself has ended.
    pub(super) fn is_due(&self) -> bool {
        matches!(self, Trailing::Composed(Composed { due: true, .. }))
    }

    /// The body has ended, with these fields of the server behind it: returns what is to be sent yet.
    pub(super) fn end(
        &mut self,
        transaction: &mut Option<Box<Transaction>>,
        sent: u64,
        origin: Origin,
        received: Option<HeaderMap>,
    ) -> Option<HeaderMap> {
        if let (Some(transaction), Some(fields)) = (&mut *transaction, &received) {
            transaction.receive_trailers(fields);
        }
        let fields = match self {
            Trailing::Nothing => None,
            Trailing::AsSent => received,
            Trailing::Composed(Composed { due, passing }) => {
                if !std::mem::take(due) {
                    return None;
                }
                let mut fields = received.filter(|_| *passing == Trailers::Passed).unwrap_or_default();
                if let Some(transaction) = &mut *transaction {
                    transaction.count(sent, origin);
                    transaction.look(|route, exchange| {
                        add(&route.settings.add_trailers, exchange, &transaction.session, &mut fields);
                    });
                }
                Some(fields).filter(|fields| !fields.is_empty())
            }
        };
        if let (Some(transaction), Some(fields)) = (transaction, &fields) {
            transaction.trail(fields);
        }
        fields
    }
}

/// Adds what the configuration says; a later field may show an earlier one.
fn add(adding: &[AddHeader], exchange: &Exchange<'_>, session: &Session, fields: &mut HeaderMap) {
    let mut scratch = Vec::new();
    let status = exchange.response.map_or(0, |response| response.status);
    for added in adding.iter().filter(|added| added.when.holds(status)) {
        let response = exchange.response.map(|response| Response { trailers: Some(fields), ..response });
        let value = added.value.header(&Exchange { response, ..*exchange }, &mut scratch);
        if let Some(value) = value {
            fields.append(added.name.clone(), value);
            session.spelling.note(&added.written);
        }
    }
}
