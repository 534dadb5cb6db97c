//! What a location puts in place of the client's method and body.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use bytes::Bytes;
use http::Method;

use crate::body::Source;
use crate::model::ProxySettings;
use crate::server::Session;
use crate::variable::Exchange;

/// Returns the method that servers are asked with; `None` for the client's.
pub(super) fn method(settings: &ProxySettings, exchange: &Exchange<'_>) -> Option<Method> {
    let mut text = Vec::new();
    let text = settings.method.as_ref()?.bytes(exchange, &mut text);
    Method::from_bytes(text).ok()
}

/// Returns the address that connections come from; `None` for the system's choice, also where a
/// variable yields no address.
pub(super) fn origin(settings: &ProxySettings, exchange: &Exchange<'_>) -> Option<SocketAddr> {
    let mut text = Vec::new();
    let text = std::str::from_utf8(settings.bind.as_ref()?.bytes(exchange, &mut text)).ok()?;
    let with_port = text.parse().ok();
    with_port.or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, 0)))
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
