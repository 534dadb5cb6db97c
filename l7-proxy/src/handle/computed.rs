//! A `proxy_pass` whose host is known only with the request.
//!
//! It may be the name of an `upstream {}` or an address. There is no resolver for other names: they are
//! answered 502, as nginx answers them where none is configured.

use std::net::SocketAddr;

use tracing::error;

use super::exchange;
use crate::model::{PassModule, PassUri, ProxyPass, UpstreamId};
use crate::route::{Route, Server};
use crate::transaction::Transaction;
use crate::uri::Target;
use crate::variable::Value;

/// Returns where a request goes, or the status that says why it goes nowhere.
pub(super) fn pass(
    transaction: &Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
    url: &Value,
) -> Result<ProxyPass, u16> {
    let mut text = Vec::new();
    url.write(&exchange(transaction, server, route, target), &mut text);
    let complain = |reason: &str| {
        let (serial, context) = (transaction.connection.serial, transaction.context(server));
        error!("*{serial} {reason}{context}");
    };
    let Ok(url) = String::from_utf8(text) else {
        complain("the URL of \"proxy_pass\" is no text");
        return Err(500);
    };
    let Some((rest, port, tls)) = split_scheme(&url) else {
        complain(&format!("invalid URL prefix in \"{url}\""));
        return Err(500);
    };
    let (host, uri) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if host.is_empty() {
        complain(&format!("no host in upstream \"{rest}\""));
        return Err(500);
    }
    let Some((upstream, port)) = find(transaction, host, port) else {
        complain(&format!("no resolver defined to resolve {host}"));
        return Err(502);
    };
    let uri = match uri {
        "" => None,
        uri if uri.starts_with('?') => Some(format!("/{uri}")),
        uri => Some(uri.to_owned()),
    };
    let uri = uri.map(|uri| PassUri::Whole(Value::literal(uri)));
    let host = host.to_owned();
    Ok(ProxyPass { upstream, tls, module: PassModule::Proxy, host, url, port, uri })
}

fn split_scheme(url: &str) -> Option<(&str, u16, bool)> {
    let strip = |scheme: &str| {
        let start = url.get(..scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then(|| &url[scheme.len()..])
    };
    let plain = strip("http://").map(|rest| (rest, 80, false));
    plain.or_else(|| strip("https://").map(|rest| (rest, 443, true)))
}

/// Returns the servers that a host stands for, and its port.
fn find(transaction: &Transaction, host: &str, default_port: u16) -> Option<(UpstreamId, u16)> {
    let generation = &transaction.generation;
    let named = |name: &str| {
        let mut upstreams = generation.site.router.upstreams().iter();
        upstreams.position(|upstream| upstream.name.eq_ignore_ascii_case(name)).map(UpstreamId)
    };
    if let Some(group) = named(host).filter(|_| !host.contains(':')) {
        return Some((group, default_port));
    }
    let addr = match host.parse::<SocketAddr>() {
        Ok(addr) => addr,
        Err(_) => {
            let ip = host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
            SocketAddr::new(ip, default_port)
        }
    };
    let upstream = named(&addr.to_string());
    let upstream = upstream.or_else(|| generation.reach(addr, &transaction.session.worker))?;
    Some((upstream, addr.port()))
}
