//! `server {}` of `http`: where it listens and what it is called.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::hostname::hostname;
use crate::model::{
    Handler, KeepaliveProbes, Listen, Location, Matcher, Pattern, ServerName, Settings, SocketOptions,
    StatusPage, VirtualServer,
};

use super::rules::{self, ANY, Context, Fault, Rule};
use super::tree::Directive;
use super::value::{parse_number, parse_seconds, parse_size};
use super::{Error, Scope, address, location, rewrite};

/// What fills in a [`VirtualServer`], apart from its settings.
pub(super) const RULES: &[Rule<VirtualServer>] = &[
    Rule::new("listen", Context::SERVER, 1..=ANY, listen).many(|_| {}),
    Rule::new("server_name", Context::SERVER, 1..=ANY, |scope, server: &mut VirtualServer, directive| {
        names(scope, &mut server.names, directive)
    })
    .many(|_| {}),
    Rule::new("stub_status", Context::SERVER, 0..=1, |_, _, _| Ok(())).many(|_| {}),
    Rule::new("try_files", Context::SERVER, 2..=ANY, |scope, server, directive| {
        server.try_files = Some(location::try_files(scope, directive)?);
        Ok(())
    }),
];

/// Reads a `server {}`.
pub(super) fn read(
    scope: &mut Scope,
    directive: &Directive,
    http: &Settings,
) -> Result<VirtualServer, Error> {
    let mut server = VirtualServer {
        settings: http.clone(),
        place: Some(directive.place.clone()),
        ..VirtualServer::default()
    };
    rules::apply(scope, RULES, Context::SERVER, &directive.block, &mut server)?;
    scope.server_names.clone_from(&server.names);
    super::settings_of(scope, Context::SERVER, &directive.block, &mut server.settings)?;
    if server.listen.is_empty() {
        // As in nginx: the port of HTTP for who may have it.
        let port = if rustix::process::geteuid().is_root() { 80 } else { 8000 };
        server.listen.push(Listen::new(SocketAddr::from(([0, 0, 0, 0], port))));
    }
    for listen in &server.listen {
        let mut claimed = claims(&server.names);
        claimed.retain(|name| !scope.claim(listen.addr, name));
        for name in claimed {
            scope.note(directive, &format!("conflicting server name \"{name}\" on {}, ignored", listen.addr));
        }
    }
    (server.script, server.reply) = rewrite::read(scope, &directive.block, None)?;
    server.locations = location::read_all(scope, &directive.block, &server.settings, None)?;
    if let Some(directive) = directive.block.iter().find(|inside| inside.name == "stub_status") {
        // For what no location takes: as one that takes everything, and loses to any other.
        let mut rest = Location::new(Matcher::Prefix(b"/".into()), server.settings.clone());
        rest.place = Some(directive.place.clone());
        rest.handler = Handler::Status(StatusPage::Stub);
        if !server.locations.iter().any(|location| location.takes_everything()) {
            server.locations.push(rest);
        }
    }
    Ok(server)
}

/// Returns what a server takes for itself where it listens, each once: the first of two takes it all.
fn claims(names: &[ServerName]) -> BTreeSet<String> {
    let mut claimed = BTreeSet::new();
    for name in names {
        match name {
            // Two expressions may be about different names.
            ServerName::Regex(_) => {}
            ServerName::NameAndSubdomains(name) => {
                claimed.extend([name.clone(), format!("*.{name}")]);
            }
            name => _ = claimed.insert(name.to_string()),
        }
    }
    if names.is_empty() {
        claimed.insert(String::new());
    }
    claimed
}

fn listen(scope: &mut Scope, server: &mut VirtualServer, directive: &Directive) -> Result<(), Fault> {
    let text = directive.arg(0);
    let addrs = address::listen(text, Some(80))
        .map_err(|reason| Fault::new(format!("{reason} in \"{text}\" of the \"listen\" directive")))?;
    let (mut default_server, mut ssl, mut http2, mut proxy_protocol) = (false, false, false, false);
    let mut words = Vec::new();
    for word in &directive.args[1..] {
        match &**word {
            "default_server" | "default" => default_server = true,
            "ssl" => ssl = true,
            "http2" => http2 = true,
            "proxy_protocol" => proxy_protocol = true,
            "quic" | "spdy" => {
                return Err(Fault::unsupported(word, directive));
            }
            _ => words.push(word),
        }
    }
    let socket = socket_options(scope, directive, &words)?;
    for addr in addrs {
        if server.listen.iter().any(|listen| listen.addr == addr) {
            return Err(Fault::new(format!("a duplicate listen {addr}")));
        }
        if default_server && !scope.default_servers.insert(addr) {
            return Err(Fault::new(format!("a duplicate default server for {addr}")));
        }
        if socket.is_some() && !scope.socket_options.insert(addr) {
            return Err(Fault::new(format!("duplicate listen options for {addr}")));
        }
        server.listen.push(Listen {
            addr,
            default_server,
            socket: socket.clone(),
            ssl,
            http2,
            proxy_protocol,
        });
    }
    Ok(())
}

/// Returns how a socket is set up, if any of the words of a `listen` says it.
pub(super) fn socket_options(
    scope: &mut Scope,
    directive: &Directive,
    words: &[&String],
) -> Result<Option<SocketOptions>, Fault> {
    let mut options = SocketOptions::default();
    for word in words {
        let (key, value) = word.split_once('=').map_or((&***word, None), |(key, value)| (key, Some(value)));
        match (key, value) {
            ("backlog", Some(value)) => {
                let backlog = parse_number(value).filter(|&backlog| backlog > 0);
                let backlog = backlog.ok_or_else(|| Fault::new(format!("invalid backlog \"{word}\"")))?;
                options.backlog = Some(backlog);
            }
            ("sndbuf", Some(value)) => {
                let size = parse_size(value).filter(|&size| size > 0);
                options.sndbuf = Some(size.ok_or_else(|| Fault::new(format!("invalid sndbuf \"{word}\"")))?);
            }
            ("rcvbuf", Some(value)) => {
                let size = parse_size(value).filter(|&size| size > 0);
                options.rcvbuf = Some(size.ok_or_else(|| Fault::new(format!("invalid rcvbuf \"{word}\"")))?);
            }
            ("ipv6only", Some("on")) => options.ipv6only = Some(true),
            ("ipv6only", Some("off")) => options.ipv6only = Some(false),
            ("reuseport", None) => options.reuseport = true,
            ("multipath", None) => options.multipath = true,
            ("bind", None) => {}
            ("so_keepalive", Some("off")) => options.keepalive = None,
            ("so_keepalive", Some(value)) => {
                let probes = keepalive(value);
                let probes =
                    probes.ok_or_else(|| Fault::new(format!("invalid so_keepalive value: \"{value}\"")))?;
                options.keepalive = Some(probes);
            }
            ("fastopen", Some(value)) if parse_number::<u64>(value).is_none() => {
                return Err(Fault::new(format!("invalid fastopen \"{word}\"")));
            }
            ("deferred", None) | ("fastopen", Some(_)) => {
                scope.note(directive, &format!("\"{word}\" has no effect"));
            }
            ("accept_filter" | "setfib", Some(_)) => return Err(Fault::unsupported(word, directive)),
            _ => return Err(Fault::parameter(word)),
        }
    }
    Ok((!words.is_empty()).then_some(options))
}

/// Reads `on`, or `[idle]:[interval]:[count]`, of which one at least is said and not zero.
fn keepalive(value: &str) -> Option<KeepaliveProbes> {
    if value == "on" {
        return Some(KeepaliveProbes::default());
    }
    let mut parts = value.splitn(3, ':').map(Some).chain(std::iter::repeat(None));
    let mut part = || parts.next().flatten().filter(|part| !part.is_empty());
    let (idle, interval, count) = (part(), part(), part());
    let time = |text: Option<&str>| match text.map(parse_seconds) {
        Some(None) => None,
        said => Some(said.flatten().filter(|time| !time.is_zero())),
    };
    let count = match count.map(parse_number::<u32>) {
        Some(None) => return None,
        said => said.flatten().filter(|&count| count > 0),
    };
    let probes = KeepaliveProbes { idle: time(idle)?, interval: time(interval)?, count };
    (probes != KeepaliveProbes::default()).then_some(probes)
}

/// Reads a `server_name`.
pub(super) fn names(
    scope: &mut Scope,
    names: &mut Vec<ServerName>,
    directive: &Directive,
) -> Result<(), Fault> {
    for word in &directive.args {
        if word.contains('/') && !word.starts_with('~') {
            scope.note(directive, &format!("server name \"{word}\" has suspicious symbols"));
        }
        let name = parse_name(word)?;
        if let ServerName::Regex(pattern) = &name {
            Scope::check_names(pattern)?;
        }
        names.push(name);
    }
    Ok(())
}

fn parse_name(word: &str) -> Result<ServerName, Fault> {
    let invalid = || Fault::new(format!("server name \"{word}\" is invalid"));
    if let Some(source) = word.strip_prefix('~') {
        if source.is_empty() {
            return Err(Fault::new(format!("empty regex in server name \"{word}\"")));
        }
        // Names are compared in lower case, so that an expression with capitals means both.
        let pattern = if source.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Pattern::new_ignoring_case(source)
        } else {
            Pattern::new(source)
        };
        return pattern.map(ServerName::Regex).map_err(|error| pattern_fault(source, &error));
    }
    if word == "$hostname" {
        return Ok(ServerName::Exact(hostname().to_owned()));
    }
    let name = word.to_ascii_lowercase();
    let wildcard = match &*name {
        name if name.starts_with("*.") => ServerName::LeadingWildcard(name[2..].to_owned()),
        name if name.ends_with(".*") => ServerName::TrailingWildcard(name[..name.len() - 2].to_owned()),
        name if name.starts_with('.') => ServerName::NameAndSubdomains(name[1..].to_owned()),
        name => ServerName::Exact(name.to_owned()),
    };
    match &wildcard {
        ServerName::Exact(rest) if !rest.contains('*') => Ok(wildcard),
        ServerName::LeadingWildcard(rest)
        | ServerName::TrailingWildcard(rest)
        | ServerName::NameAndSubdomains(rest)
            if !rest.is_empty() && !rest.contains('*') =>
        {
            Ok(wildcard)
        }
        _ => Err(invalid()),
    }
}

/// Returns nginx's message for a regular expression that cannot be used.
pub(super) fn pattern_fault(source: &str, error: &crate::model::PatternError) -> Fault {
    Fault::new(format!("regex \"{source}\" cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn probes_for_silent_clients_are_read_as_by_nginx() {
        let seconds = |idle: Option<u64>, interval: Option<u64>, count| KeepaliveProbes {
            idle: idle.map(Duration::from_secs),
            interval: interval.map(Duration::from_secs),
            count,
        };
        for (value, expected) in [
            ("on", Some(seconds(None, None, None))),
            ("30m::10", Some(seconds(Some(1800), None, Some(10)))),
            (":5:", Some(seconds(None, Some(5), None))),
            ("1:2:3", Some(seconds(Some(1), Some(2), Some(3)))),
            ("0:1:1", Some(seconds(None, Some(1), Some(1)))),
            ("1:2", Some(seconds(Some(1), Some(2), None))),
            ("::", None),
            ("0:0:0", None),
            ("", None),
            ("1:x", None),
            ("1:1:1:1", None),
            ("ON", None),
        ] {
            assert_eq!(keepalive(value), expected, "{value}");
        }
    }
}
