//! What a location puts in place of the client's target, method and body.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http::Method;
use http::uri::PathAndQuery;
use tracing::error;

use crate::body::Source;
use crate::conf::own_address;
use crate::handle::exchange;
use crate::model::{PassUri, ProxyPass, ProxySettings};
use crate::route::{Route, Server};
use crate::server::Session;
use crate::transaction::{PathOrigin, Transaction};
use crate::uri::Target;
use crate::variable::Exchange;

/// Returns the method that servers are asked with; `None` for the client's.
pub(super) fn method(settings: &ProxySettings, exchange: &Exchange<'_>) -> Option<Method> {
    if let Some(cached) = &exchange.findings.cached
        && let Some(method) = cached.method(exchange.method)
    {
        return Some(method);
    }
    let mut text = Vec::new();
    let text = settings.method.as_ref()?.bytes(exchange, &mut text);
    Method::from_bytes(text).ok()
}

/// Returns the address that connections come from; `None` for the system's choice, also where a
/// variable yields no address.
pub(super) fn origin(settings: &ProxySettings, exchange: &Exchange<'_>) -> Option<SocketAddr> {
    let mut text = Vec::new();
    let text = settings.bind.as_ref()?.bytes(exchange, &mut text);
    let origin = std::str::from_utf8(text).ok().and_then(own_address);
    if origin.is_none() && !text.is_empty() {
        error!("*{} invalid local address \"{}\"", exchange.connection.serial, text.escape_ascii());
    }
    origin
}

/// Returns the body that servers get.
pub(super) fn body(
    settings: &ProxySettings,
    exchange: &Exchange<'_>,
    session: &Rc<Session>,
    received: Option<Rc<Source>>,
) -> Option<Rc<Source>> {
    if let Some(set) = &settings.set_body {
        let mut text = Vec::new();
        set.write(exchange, &mut text);
        return Some(Source::held(Bytes::from(text), Rc::clone(session)));
    }
    received.filter(|_| settings.pass.body)
}

/// Path and query of a request, as a server gets them.
pub(crate) enum Forwarded {
    /// As the client sent them.
    AsSent,
    Written(PathAndQuery),
}

impl Forwarded {
    pub(super) fn path<'a>(&'a self, transaction: &'a Transaction) -> Option<&'a PathAndQuery> {
        match self {
            Forwarded::AsSent => transaction.parts.uri.path_and_query(),
            Forwarded::Written(path) => Some(path),
        }
    }

    pub(crate) fn as_str<'a>(&'a self, transaction: &'a Transaction) -> &'a str {
        self.path(transaction).map_or("", PathAndQuery::as_str)
    }
}

/// Returns the target of the forwarded request; `None` if it cannot be written.
pub(crate) fn request_target(
    transaction: &Transaction,
    server: &Server,
    route: &Route<'_>,
    pass: &ProxyPass,
    target: &Target<'_>,
) -> Option<Forwarded> {
    // A path that the location has rewritten is the whole of it, as in nginx.
    let replaced = pass.uri.as_ref().filter(|_| transaction.path == PathOrigin::Located);
    let mut path = match replaced {
        None => {
            let forwarded = target.forwarded();
            if let Cow::Borrowed(_) = forwarded
                && transaction.redirected.is_none()
            {
                return transaction.parts.uri.path_and_query().map(|_| Forwarded::AsSent);
            }
            forwarded.into_owned()
        }
        Some(PassUri::Prefix(prefix)) => {
            let mut path = prefix.clone();
            path.push_str(&target.forwarded_after(route.prefix_len));
            path
        }
        Some(PassUri::Whole(uri)) => {
            let exchange = exchange(transaction, server, route, target);
            let mut whole = Vec::new();
            uri.write(&exchange, &mut whole);
            return PathAndQuery::try_from(whole).ok().map(Forwarded::Written);
        }
    };
    if let Some(args) = target.args() {
        path.push('?');
        path.push_str(args);
    }
    PathAndQuery::try_from(path).ok().map(Forwarded::Written)
}
