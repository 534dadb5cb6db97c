//! Diagnostics of files that cannot be had, in nginx's words: programs that read its logs look for them.

use tracing::error;

use crate::jsp;
use crate::model::LogNotFound;
use crate::route::{Route, Server};
use crate::transaction::Transaction;

/// Takes down that the file of this name was refused.
pub(super) fn tell(transaction: &Transaction, server: &Server, route: &Route<'_>, status: u16, name: &[u8]) {
    let (serial, context) = (transaction.connection.serial, transaction.context(server));
    let name_shown = name.escape_ascii();
    match status {
        404 if route.settings.log_not_found == LogNotFound::Off || name.is_empty() => {}
        404 if jsp::is_source(name) => {
            error!("*{serial} \"{name_shown}\" is the source of a page and is not sent{context}");
        }
        404 if name.ends_with(b"/") => {
            error!("*{serial} \"{name_shown}\" is not found (2: No such file or directory){context}");
        }
        404 => {
            error!("*{serial} open() \"{name_shown}\" failed (2: No such file or directory){context}");
        }
        403 if name.ends_with(b"/") => {
            error!("*{serial} directory index of \"{name_shown}\" is forbidden{context}");
        }
        403 => error!("*{serial} open() \"{name_shown}\" failed (13: Permission denied){context}"),
        _ => {}
    }
}
