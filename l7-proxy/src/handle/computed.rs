//! A `proxy_pass` or `grpc_pass` whose host is known only with the request.
//!
//! It may be the name of an `upstream {}`, the path of a Unix socket, an address, or a name that the
//! location's `resolver` is asked for. The first that it can be is what it is, as in nginx.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use tracing::error;

use super::exchange;
use crate::conf::split_address;
use crate::model::{PassModule, PassTo, PassUri, ProxyPass, UpstreamId};
use crate::route::{Route, Server};
use crate::transaction::Transaction;
use crate::unix;
use crate::upstream::Pool;
use crate::uri::Target;
use crate::variable::Value;

/// Returns where a request goes, or the status that says why it goes nowhere.
pub(super) async fn pass(
    transaction: &mut Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
    to: &PassTo,
) -> Result<(Rc<ProxyPass>, Rc<Pool>), u16> {
    let mut text = Vec::new();
    to.url.write(&exchange(transaction, server, route, target), &mut text);
    let text = String::from_utf8(text);
    let parsed = text.map_err(|_| "the URL is no text".to_owned()).and_then(|url| parse(url, to.module));
    let (pass, host) = parsed.map_err(|why| lost(transaction, server, &why, 500))?;
    let pool = servers(transaction, route, &pass, &host).await;
    // What logs show of it stays also where nobody is to be found.
    let pass = transaction.named.insert(Rc::new(pass)).clone();
    let pool = pool.map_err(|Lost { why, status }| lost(transaction, server, &why, status))?;
    Ok((pass, pool))
}

/// Why a request goes nowhere.
struct Lost {
    why: String,
    status: u16,
}

/// Says why a request goes nowhere; returns the status.
fn lost(transaction: &Transaction, server: &Server, why: &str, status: u16) -> u16 {
    let (serial, context) = (transaction.connection.serial, transaction.context(server));
    error!("*{serial} {why}{context}");
    transaction.tell(|| why.to_owned());
    status
}

/// Reads a URL; returns its host beside.
fn parse(url: String, module: PassModule) -> Result<(ProxyPass, Host), String> {
    let scheme = split_scheme(&url, module);
    let Scheme { rest, port: default_port, tls } =
        scheme.ok_or_else(|| format!("invalid URL prefix in \"{url}\""))?;
    let (authority, uri) = split_authority(rest);
    let of_upstream = |reason: &str| format!("{reason} in upstream \"{rest}\"");
    if module == PassModule::Grpc && !uri.is_empty() {
        return Err(of_upstream("invalid host"));
    }
    let (name, port) = split_address(authority).map_err(of_upstream)?;
    let host = Host { name: name.to_owned(), port: port.or(default_port), is_port_written: port.is_some() };
    // As where it is written in the file: a path is no host, and a scheme's port is left out.
    let shown = match port {
        _ if name.starts_with("unix:") => "localhost".to_owned(),
        Some(port) if Some(port) != default_port => format!("{name}:{port}"),
        _ => name.to_owned(),
    };
    let uri = match uri {
        "" => None,
        uri if uri.starts_with('?') => Some(format!("/{uri}")),
        uri => Some(uri.to_owned()),
    };
    let uri = uri.map(|uri| PassUri::Whole(Value::literal(uri)));
    let port = host.port.unwrap_or(0);
    Ok((ProxyPass { upstream: None, tls, module, host: shown, url, port, uri }, host))
}

/// A host as a URL names it.
struct Host {
    name: String,
    port: Option<u16>,
    /// Whether it is not only the scheme's.
    is_port_written: bool,
}

/// Returns those who may answer.
async fn servers(
    transaction: &Transaction,
    route: &Route<'_>,
    pass: &ProxyPass,
    host: &Host,
) -> Result<Rc<Pool>, Lost> {
    let Host { name, port, is_port_written } = host;
    let generation = &transaction.generation;
    let upstreams = generation.site.router.upstreams();
    let named = |name: &str| upstreams.iter().position(|known| known.name.eq_ignore_ascii_case(name));
    // Those with a block have no port, and those that the file implies have one.
    let of_block = if *is_port_written { None } else { named(name) };
    if let Some(upstream) = of_block.or_else(|| named(&format!("{name}:{}", pass.port))) {
        return Ok(generation.pool(UpstreamId(upstream)));
    }
    let reached = &transaction.session.worker.reached;
    let wrong = |reason: &str| Lost { why: format!("{reason} in upstream \"{name}\""), status: 500 };
    if let Some(path) = name.strip_prefix("unix:") {
        let addr = unix::address_for_request(path).ok_or_else(|| wrong("too many paths"))?;
        return reached.at(name, addr).map_err(|_| wrong("no server"));
    }
    let port = port.ok_or_else(|| wrong("no port"))?;
    if let Ok(ip) = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return reached.at(name, SocketAddr::new(ip, port)).map_err(|_| wrong("no server"));
    }
    let unknown = |why| Lost { why, status: 502 };
    let resolver = route.settings.resolving.resolver();
    let resolver = resolver.ok_or_else(|| unknown(format!("no resolver defined to resolve {name}")))?;
    let found = reached.under(name, port, resolver).await;
    found.map_err(|error| unknown(format!("{name} could not be resolved ({error})")))
}

/// What the scheme of a URL says, and what follows it.
struct Scheme<'u> {
    rest: &'u str,
    port: Option<u16>,
    tls: bool,
}

fn split_scheme(url: &str, module: PassModule) -> Option<Scheme<'_>> {
    let strip = |scheme: &str, port, tls| {
        let start = url.get(..scheme.len())?.eq_ignore_ascii_case(scheme);
        start.then(|| Scheme { rest: &url[scheme.len()..], port, tls })
    };
    match module {
        PassModule::Proxy => {
            let found = strip("http://", Some(80), false).or_else(|| strip("https://", Some(443), true));
            found.filter(|found| !found.rest.is_empty())
        }
        // It may do without a scheme, and none has a port, as in nginx.
        PassModule::Grpc => {
            let found = strip("grpc://", None, false).or_else(|| strip("grpcs://", None, true));
            found.or(Some(Scheme { rest: url, port: None, tls: false }))
        }
    }
}

/// Splits what follows a scheme into host and path.
fn split_authority(rest: &str) -> (&str, &str) {
    match rest.strip_prefix("unix:") {
        // A colon ends the path of a socket.
        Some(path) => {
            let (path, uri) = path.split_once(':').unwrap_or((path, ""));
            (&rest[.."unix:".len() + path.len()], uri)
        }
        None => rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())),
    }
}
