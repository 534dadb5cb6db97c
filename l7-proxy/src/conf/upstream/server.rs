//! `server` of an `upstream {}`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};

use crate::conf::rules::{Context, Fault};
use crate::conf::tree::Directive;
use crate::conf::value::{parse_number, parse_seconds, parse_time};
use crate::conf::{Scope, address};
use crate::model::{NamedServer, Role, Server};

use super::{Draft, Side};

/// When the address of a server is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lookup {
    /// While the file is read.
    Once,
    /// Again and again, while the proxy runs (`resolve`).
    Followed,
}

/// The longest name of a server that nginx takes.
const ROUTE_MAX: usize = 32;

/// Stands for an address that is not known yet.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Adds a server, or one at each address of its name.
pub(super) fn read<S: Side>(_: &mut Scope, draft: &mut Draft<S>, directive: &Directive) -> Result<(), Fault> {
    let text = directive.arg(0);
    let is_http = S::INSIDE == Context::UPSTREAM;
    let (mut lookup, mut service) = (Lookup::Once, None);
    let mut server = Server { name: text.to_owned(), ..Server::new(NOWHERE) };
    for word in &directive.args[1..] {
        let invalid = || Fault::parameter(word);
        let (key, value) = word.split_once('=').map_or((&**word, None), |(key, value)| (key, Some(value)));
        match (key, value) {
            ("weight", Some(value)) => {
                server.weight = parse_number(value).and_then(NonZeroU16::new).ok_or_else(invalid)?;
            }
            ("max_fails", Some(value)) => server.max_fails = parse_number(value).ok_or_else(invalid)?,
            ("fail_timeout", Some(value)) => {
                server.fail_timeout = parse_seconds(value).ok_or_else(invalid)?
            }
            ("max_conns", Some(value)) => {
                server.max_conns = NonZeroU32::new(parse_number(value).ok_or_else(invalid)?);
            }
            ("backup", None) => {
                draft.check_supports(word)?;
                server.role = Role::Backup;
            }
            ("down", None) => server.down = true,
            ("drain", None) if is_http => server.drain = true,
            ("slow_start", Some(value)) => {
                draft.check_supports(word)?;
                server.slow_start = parse_time(value).ok_or_else(invalid)?;
            }
            ("resolve", None) => lookup = Lookup::Followed,
            ("service", Some("")) => return Err(Fault::new("service is empty")),
            ("service", Some(word)) => service = Some(word.to_owned()),
            ("route", Some(_)) if !is_http => return Err(Fault::unsupported(word, directive)),
            ("route", Some("")) => return Err(Fault::new("route is empty")),
            ("route", Some(route)) if route.len() > ROUTE_MAX => {
                return Err(Fault::new(format!("route is longer than {ROUTE_MAX}")));
            }
            ("route", Some(route)) => server.route = Some(route.to_owned()),
            _ => return Err(invalid()),
        }
    }
    let of_service = |why| Fault::new(format!("service upstream \"{text}\" {why}"));
    if service.is_some() && lookup == Lookup::Once {
        return Err(of_service("requires \"resolve\" parameter"));
    }
    let fault = |reason| Fault::new(format!("{reason} in upstream \"{text}\""));
    let (host, port) = address::split(text).map_err(fault)?;
    let is_unix = host.starts_with("unix:");
    let is_name = !is_unix && host.parse::<IpAddr>().is_err() && !host.starts_with('[');
    if service.is_some() && (is_unix || port.is_some()) {
        return Err(of_service("may not have port"));
    }
    if service.is_some() && !is_name {
        return Err(of_service("requires domain name"));
    }
    if lookup == Lookup::Followed && is_name {
        let port = match (port.or(S::PORT), &service) {
            (Some(port), _) => port,
            // The service says it.
            (None, Some(_)) => 0,
            (None, None) => return Err(fault("no port")),
        };
        draft.named.push(NamedServer { host: host.to_owned(), port, service, server });
        return Ok(());
    }
    let addrs = address::resolve(text, S::PORT).map_err(fault)?;
    draft.servers.extend(addrs.into_iter().map(|addr| Server { addr, ..server.clone() }));
    Ok(())
}
