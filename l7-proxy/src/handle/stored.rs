//! `proxy_store`: what a server answers becomes a file, for whoever looks for it the next time.
//!
//! It is an answer of status 200 to a request for more than a head, whole; it gets its name when all of it has
//! come. What a file does not tell, such as a server's fields, is lost, but for when it was changed.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use http::header::LAST_MODIFIED;
use http::{Method, StatusCode};
use tracing::error;

use super::{Answer, exchange, fill, relay};
use crate::body::Kind;
use crate::date;
use crate::error_log::Errno;
use crate::model::Storing;
use crate::route::{Route, Server};
use crate::static_file;
use crate::stored::Stored;
use crate::transaction::Transaction;
use crate::uri::Target;

/// Has an answer stored while it is sent, if it is one that is.
pub(super) async fn store(
    transaction: &Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
    answer: &mut Answer,
) {
    let settings = route.proxy();
    let rules = &settings.cache_rules;
    let suits = answer.status == StatusCode::OK
        && matches!(answer.kind, Kind::Relayed(_))
        && *transaction.method() != Method::HEAD
        && rules.buffering
        && !relay::is_sent_elsewhere(&settings.relay, &answer.headers)
        && !relay::is_not_buffered(&settings.relay, &answer.headers);
    let path = match suits {
        true => path(transaction, server, route, target),
        false => None,
    };
    let Some(path) = path else { return };
    let modified = answer.headers.get(LAST_MODIFIED).and_then(date::parse);
    let modified =
        modified.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    match Stored::begin(&rules.temporary, path, settings.store_access, modified) {
        Ok(stored) => fill::begin(transaction, server, route, target, answer, Box::new(stored)).await,
        Err(error) => {
            let (serial, context) = (transaction.connection.serial, transaction.context(server));
            error!("*{serial} an answer cannot be stored ({}){context}", Errno(&error));
        }
    }
}

/// Returns the name of the file that an answer becomes, if there is one.
fn path(
    transaction: &Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
) -> Option<PathBuf> {
    let mut name = Vec::new();
    let exchange = exchange(transaction, server, route, target);
    match &route.proxy().store {
        Storing::Off => return None,
        Storing::Root => static_file::file_name(&exchange, &mut name),
        Storing::At(path) => path.write(&exchange, &mut name),
    }
    let usable = !name.is_empty() && !name.contains(&0);
    usable.then(|| OsString::from_vec(name).into())
}
