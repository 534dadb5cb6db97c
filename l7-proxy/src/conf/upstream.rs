//! `upstream {}` of `http` and of `stream`, and the upstreams that an address in `proxy_pass` implies.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use lvs_core::Algorithm;

use crate::model::{
    Balance, Keepalive, NamedServer, Queue, Resolving, Role, Server, Sticky, Timed, Upstream, UpstreamId,
};
use crate::variable::Value;

use super::rules::{self, Context, Fault, Rule};
use super::tree::Directive;
use super::value::{number, parse_number, parse_seconds, parse_time, time};
use super::{Error, Scope, address, resolver, sticky};

/// An `upstream {}` while it is read.
#[derive(Debug)]
pub(super) struct Draft {
    servers: Vec<Server>,
    keepalive: Keepalive,
    balance: Balance,
    queue: Option<Queue>,
    named: Vec<NamedServer>,
    resolving: Resolving,
    sticky: Option<Sticky>,
}

impl Draft {
    /// Takes a way to choose; one more is taken in its place.
    fn choose(&mut self, scope: &mut Scope, directive: &Directive, algorithm: Algorithm) {
        if self.balance.algorithm != Balance::default().algorithm {
            scope.note(directive, "load balancing method redefined");
        }
        self.balance.algorithm = algorithm;
    }
}

/// What fills in a [`Draft`].
pub(super) const RULES: &[Rule<Draft>] = &[
    Rule::new("server", BOTH, 1..=rules::ANY, server).many(|_| {}),
    Rule::new("sticky", Context::UPSTREAM, 1..=rules::ANY, |scope, draft, directive| {
        draft.sticky = Some(sticky::read(scope, directive)?);
        Ok(())
    }),
    Rule::new("resolver", BOTH, 1..=rules::ANY, |_, draft, directive| {
        resolver::set(&mut draft.resolving, directive)
    }),
    Rule::new("resolver_timeout", BOTH, 1..=1, |_, draft, directive| {
        draft.resolving.within(time(directive, 0)?);
        Ok(())
    }),
    Rule::new("keepalive", Context::UPSTREAM, 1..=2, |_, draft, directive| {
        let word = directive.arg(0);
        let invalid = || Fault::new(format!("invalid value \"{word}\" in \"keepalive\" directive"));
        draft.keepalive.idle_max = parse_number(word).ok_or_else(invalid)?;
        match directive.args.get(1).map(|word| &**word) {
            // Idle connections belong to the upstream as a whole; "local" would only divide them.
            None | Some("local") => Ok(()),
            Some(word) => Err(Fault::parameter(word)),
        }
    }),
    Rule::new("keepalive_requests", Context::UPSTREAM, 1..=1, |_, draft, directive| {
        draft.keepalive.requests = number(directive)?;
        Ok(())
    }),
    Rule::new("keepalive_timeout", Context::UPSTREAM, 1..=1, |_, draft, directive| {
        draft.keepalive.timeout = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("keepalive_time", Context::UPSTREAM, 1..=1, |_, draft, directive| {
        draft.keepalive.time = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("least_conn", Context::UPSTREAM, 0..=0, |scope, draft: &mut Draft, directive| {
        draft.choose(scope, directive, Algorithm::LeastConn);
        Ok(())
    })
    .many(|_| {}),
    Rule::new("ip_hash", Context::UPSTREAM, 0..=0, |scope, draft: &mut Draft, directive| {
        draft.choose(scope, directive, Algorithm::IpHash);
        Ok(())
    })
    .many(|_| {}),
    Rule::new("hash", Context::UPSTREAM, 1..=2, |scope, draft: &mut Draft, directive| {
        draft.balance.key = Some(Value::parse(directive.arg(0), &scope.names)?);
        let algorithm = match directive.args.get(1).map(|word| &**word) {
            None => Algorithm::Hash,
            Some("consistent") => Algorithm::HashConsistent,
            Some(word) => return Err(Fault::parameter(word)),
        };
        draft.choose(scope, directive, algorithm);
        Ok(())
    })
    .many(|_| {}),
    Rule::new("random", Context::UPSTREAM, 0..=2, |scope, draft: &mut Draft, directive| {
        let words: Vec<&str> = directive.args.iter().map(|word| &**word).collect();
        let algorithm = match *words {
            [] => Algorithm::Random,
            ["two"] | ["two", "least_conn"] => Algorithm::RandomTwo,
            // Of two drawn by weight, the one that answers sooner for its load.
            ["two", word] if let Some(word) = word.strip_prefix("least_time=") => {
                draft.balance.timed = Some(timed(word)?);
                Algorithm::Ewma
            }
            ["two", word] | [word, ..] => return Err(Fault::parameter(word)),
        };
        draft.choose(scope, directive, algorithm);
        Ok(())
    })
    .many(|_| {}),
    Rule::new("least_time", Context::UPSTREAM, 1..=2, |scope, draft: &mut Draft, directive| {
        draft.choose(scope, directive, Algorithm::LeastTime);
        draft.balance.timed = Some(timed(directive.arg(0))?);
        match directive.args.get(1).map(|word| &**word) {
            // Requests under way count in any case: a server's time is multiplied by them.
            None | Some("inflight") => Ok(()),
            Some(word) => Err(Fault::parameter(word)),
        }
    })
    .many(|_| {}),
    Rule::new("queue", Context::UPSTREAM, 1..=2, |_, draft, directive| {
        let word = directive.arg(0);
        let invalid = || Fault::new(format!("invalid value \"{word}\" in \"queue\" directive"));
        let length = parse_number(word).filter(|&length| length > 0).ok_or_else(invalid)?;
        let timeout = match directive.args.get(1) {
            None => Duration::from_secs(60),
            Some(word) => {
                let time = word.strip_prefix("timeout=").and_then(parse_time);
                time.ok_or_else(|| Fault::parameter(word))?
            }
        };
        draft.queue = Some(Queue { length, timeout });
        Ok(())
    }),
];

const BOTH: Context = Context::UPSTREAM.or(Context::STREAM_UPSTREAM);

/// Idle connections that are kept unless the block says otherwise, as in nginx since 1.29.7.
const KEEPALIVE: usize = 32;

/// The upstreams of one protocol: those with a block first, then the implied ones.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    list: Vec<Upstream>,
    /// How many have a block; their names take no port.
    explicit: usize,
}

/// An upstream that `proxy_pass` refers to.
pub(super) struct Referred {
    pub(super) id: UpstreamId,
    /// The name as written, without a port that need not be written.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Upstreams {
    /// Reads the `upstream {}` blocks among the directives of `http` or `stream`.
    pub(super) fn read(scope: &mut Scope, inside: Context, block: &[Directive]) -> Result<Self, Error> {
        let mut upstreams = Self::default();
        for directive in block.iter().filter(|directive| directive.name == "upstream") {
            let name = directive.arg(0).to_owned();
            if upstreams.list.iter().any(|known| known.name.eq_ignore_ascii_case(&name)) {
                return Err(Error::at(&directive.place, format!("duplicate upstream \"{name}\"")));
            }
            let mut draft = Draft {
                servers: Vec::new(),
                keepalive: Keepalive::new(KEEPALIVE),
                balance: Balance::default(),
                queue: None,
                named: Vec::new(),
                resolving: scope.resolving.clone(),
                sticky: None,
            };
            rules::apply(scope, RULES, inside, &directive.block, &mut draft)?;
            let Draft { servers, keepalive, balance, queue, named, resolving, sticky } = draft;
            let resolver = resolving.resolver().filter(|_| !named.is_empty()).cloned();
            if resolver.is_none() && !named.is_empty() {
                let message =
                    format!("no resolver defined to resolve names at run time in upstream \"{name}\"");
                return Err(Error::at(&directive.place, message));
            }
            if servers.is_empty() && named.is_empty() {
                return Err(Error::at(&directive.place, "no servers are inside upstream"));
            }
            let mut all = servers.iter().chain(named.iter().map(|named| &named.server));
            if all.all(|server| server.role == Role::Backup) {
                return Err(Error::at(&directive.place, format!("no servers in upstream \"{name}\"")));
            }
            let keepalive = Some(keepalive).filter(|keepalive| keepalive.idle_max > 0);
            let keepalive = if inside == Context::UPSTREAM { keepalive } else { None };
            upstreams.list.push(Upstream {
                name,
                servers,
                keepalive,
                balance,
                named,
                resolver,
                sticky,
                queue,
            });
        }
        upstreams.explicit = upstreams.list.len();
        Ok(upstreams)
    }

    /// Returns the upstream of that name, or the one that the address implies; messages show it as `shown`.
    pub(super) fn refer(
        &mut self,
        text: &str,
        default_port: Option<u16>,
        shown: &str,
    ) -> Result<Referred, Fault> {
        let fault = |reason| Fault::new(format!("{reason} in upstream \"{shown}\""));
        let (host, port) = address::split(text).map_err(fault)?;
        let explicit = self.list[..self.explicit].iter();
        if let Some(place) = explicit.clone().position(|known| known.name.eq_ignore_ascii_case(host)) {
            return match port {
                None => Ok(Referred {
                    id: UpstreamId(place),
                    host: host.to_owned(),
                    port: default_port.unwrap_or(0),
                }),
                Some(port) => Err(Fault::new(format!("upstream \"{host}\" may not have port {port}"))),
            };
        }
        let written = match port {
            Some(port) if Some(port) != default_port => format!("{host}:{port}"),
            _ => host.to_owned(),
        };
        let is_unix = host.starts_with("unix:");
        let port = port.or(default_port).or(is_unix.then_some(0)).ok_or_else(|| fault("no port"))?;
        let name = if is_unix { host.to_owned() } else { format!("{host}:{port}") };
        let implied = self.list[self.explicit..].iter().position(|known| known.name == name);
        let place = match implied {
            Some(place) => self.explicit + place,
            None => {
                let addrs = address::resolve(text, default_port).map_err(fault)?;
                let servers =
                    addrs.into_iter().map(|addr| Server { name: name.clone(), ..Server::new(addr) });
                let servers = servers.collect();
                self.list.push(Upstream::new(name, servers));
                self.list.len() - 1
            }
        };
        // As in nginx, since a path is no host.
        let host = if is_unix { "localhost".to_owned() } else { written };
        Ok(Referred { id: UpstreamId(place), host, port })
    }

    pub(super) fn into_list(self) -> Vec<Upstream> {
        self.list
    }
}

/// Reads up to where answers are timed.
fn timed(word: &str) -> Result<Timed, Fault> {
    match word {
        "header" => Ok(Timed::Head),
        "last_byte" => Ok(Timed::LastByte),
        word => Err(Fault::parameter(word)),
    }
}

/// Whether the servers of an algorithm may have backups, which nginx says only if it is named
/// before them.
fn takes_backups(algorithm: &Algorithm) -> bool {
    !matches!(
        algorithm,
        Algorithm::IpHash
            | Algorithm::Hash
            | Algorithm::HashConsistent
            | Algorithm::Random
            | Algorithm::RandomTwo
    )
}

/// What a `server` says of a name whose addresses are asked for while the proxy runs.
#[derive(Default)]
struct Name {
    is_followed: bool,
    service: Option<String>,
}

/// The longest name of a server that nginx takes.
const ROUTE_MAX: usize = 32;

/// Stands for an address that is not known yet.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

fn server(scope: &mut Scope, draft: &mut Draft, directive: &Directive) -> Result<(), Fault> {
    let text = directive.arg(0);
    let mut name = Name::default();
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
            ("backup", None) if takes_backups(&draft.balance.algorithm) => server.role = Role::Backup,
            ("backup", None) => {
                return Err(Fault::new("balancing method does not support parameter \"backup\""));
            }
            ("down", None) => server.down = true,
            ("drain", None) if scope.upstream_port.is_some() => server.drain = true,
            ("slow_start", Some(value)) if takes_backups(&draft.balance.algorithm) => {
                server.slow_start = parse_time(value).ok_or_else(invalid)?;
            }
            ("slow_start", Some(_)) => {
                return Err(Fault::new("balancing method does not support parameter \"slow_start\""));
            }
            ("resolve", None) => name.is_followed = true,
            ("service", Some(service)) if !service.is_empty() => {
                name.service = Some(service.to_owned());
            }
            ("route", Some(route)) if scope.upstream_port.is_some() && route.len() <= ROUTE_MAX => {
                server.route = Some(route.to_owned());
            }
            ("route", Some(_)) => return Err(Fault::unsupported(word, directive)),
            _ => return Err(invalid()),
        }
    }
    let fault = |reason| Fault::new(format!("{reason} in upstream \"{text}\""));
    let (host, port) = address::split(text).map_err(fault)?;
    if name.service.is_some() && (!name.is_followed || port.is_some()) {
        let why = if name.is_followed { "may not have a port" } else { "requires \"resolve\" parameter" };
        return Err(Fault::new(format!("service upstream \"{host}\" {why}")));
    }
    let is_name = host.parse::<IpAddr>().is_err() && !host.starts_with('[');
    if name.is_followed && is_name {
        let port = match (port.or(scope.upstream_port), &name.service) {
            (Some(port), _) => port,
            // The service says it.
            (None, Some(_)) => 0,
            (None, None) => return Err(fault("no port")),
        };
        draft.named.push(NamedServer { host: host.to_owned(), port, service: name.service, server });
        return Ok(());
    }
    let addrs = address::resolve(text, scope.upstream_port).map_err(fault)?;
    draft.servers.extend(addrs.into_iter().map(|addr| Server { addr, ..server.clone() }));
    Ok(())
}
