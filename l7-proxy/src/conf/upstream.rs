//! `upstream {}` of `http` and of `stream`, and the upstreams that an address in `proxy_pass` implies.

mod server;

use std::net::IpAddr;
use std::time::Duration;

use lvs_core::Algorithm;

use crate::model::{
    Balance, Keepalive, NamedServer, Queue, Resolving, Role, Server, Sticky, Timed, Upstream, UpstreamId,
};
use crate::variable::Value;

use super::rules::{self, Context, Fault, Rule};
use super::tree::Directive;
use super::value::{number, parse_number, parse_time, time};
use super::{Error, Scope, address, definition, resolver, sticky};

/// What tells the upstreams of `http {}` from those of `stream {}`.
pub(super) trait Side: definition::Side + Sized + 'static {
    /// Up to where a server is timed.
    type Timed;
    /// The kind of block that `upstream {}` opens there.
    const INSIDE: Context;
    /// The port of a server that is written without one.
    const PORT: Option<u16>;

    /// Reads up to where a server is timed.
    fn timed(word: &str) -> Option<Self::Timed>;
}

/// An `upstream {}` while it is read.
pub(super) struct Draft<S: Side> {
    servers: Vec<Server>,
    keepalive: Keepalive,
    balance: Balance<S::Text, S::Timed>,
    queue: Option<Queue>,
    named: Vec<NamedServer>,
    resolving: Resolving,
    sticky: Option<Sticky>,
}

impl<S: Side> Draft<S> {
    /// What fills it in, in the order of the file: what a server may say depends on what stands before it.
    pub(super) const RULES: &'static [Rule<Self>] = &[
        Rule::new("server", BOTH, 1..=rules::ANY, server::read::<S>).many(|_| {}),
        Rule::new("resolver", BOTH, 1..=rules::ANY, |_, draft: &mut Self, directive| {
            resolver::set(&mut draft.resolving, directive)
        }),
        Rule::new("resolver_timeout", BOTH, 1..=1, |_, draft: &mut Self, directive| {
            draft.resolving.within(time(directive, 0)?);
            Ok(())
        }),
        Rule::new("least_conn", BOTH, 0..=0, |scope, draft: &mut Self, directive| {
            draft.choose(scope, directive, Algorithm::LeastConn);
            Ok(())
        })
        .many(|_| {}),
        Rule::new("hash", BOTH, 1..=2, |scope, draft: &mut Self, directive| {
            draft.balance.key = Some(S::parse(scope, directive.arg(0))?);
            let algorithm = match directive.args.get(1).map(|word| &**word) {
                None => Algorithm::Hash,
                Some("consistent") => Algorithm::HashConsistent,
                Some(word) => return Err(Fault::parameter(word)),
            };
            draft.choose(scope, directive, algorithm);
            Ok(())
        })
        .many(|_| {}),
        Rule::new("random", BOTH, 0..=2, |scope, draft: &mut Self, directive| {
            let words: Vec<&str> = directive.args.iter().map(|word| &**word).collect();
            let algorithm = match *words {
                [] => Algorithm::Random,
                ["two"] | ["two", "least_conn"] => Algorithm::RandomTwo,
                // Of two drawn by weight, the one that answers sooner for its load.
                ["two", word] if let Some(word) = word.strip_prefix("least_time=") => {
                    draft.time(word)?;
                    Algorithm::Ewma
                }
                ["two", word] | [word, ..] => return Err(Fault::parameter(word)),
            };
            draft.choose(scope, directive, algorithm);
            Ok(())
        })
        .many(|_| {}),
        Rule::new("least_time", BOTH, 1..=2, |scope, draft: &mut Self, directive| {
            draft.choose(scope, directive, Algorithm::LeastTime);
            draft.time(directive.arg(0))?;
            match directive.args.get(1).map(|word| &**word) {
                // What is under way counts in any case: a server's time is multiplied by it.
                None | Some("inflight") => Ok(()),
                Some(word) => Err(Fault::parameter(word)),
            }
        })
        .many(|_| {}),
        Rule::new("sticky", Context::UPSTREAM, 1..=rules::ANY, |scope, draft: &mut Self, directive| {
            draft.sticky = Some(sticky::read(scope, directive)?);
            Ok(())
        }),
        Rule::new("keepalive", Context::UPSTREAM, 1..=3, |_, draft: &mut Self, directive| {
            let word = directive.arg(0);
            let invalid = || Fault::new(format!("invalid value \"{word}\" in \"keepalive\" directive"));
            draft.keepalive.idle_max = parse_number(word).ok_or_else(invalid)?;
            draft.keepalive.idle_max_per_server = None;
            for word in &directive.args[1..] {
                match word.split_once('=') {
                    // Idle connections belong to the upstream as a whole; "local" would only divide them.
                    None if &**word == "local" => {}
                    // nginx knows no such bound.
                    Some(("per_server", most)) => {
                        let most = parse_number(most).filter(|most| *most > 0);
                        draft.keepalive.idle_max_per_server =
                            Some(most.ok_or_else(|| Fault::parameter(word))?);
                    }
                    _ => return Err(Fault::parameter(word)),
                }
            }
            Ok(())
        }),
        Rule::new("keepalive_requests", Context::UPSTREAM, 1..=1, |_, draft: &mut Self, directive| {
            draft.keepalive.requests = number(directive)?;
            Ok(())
        }),
        Rule::new("keepalive_timeout", Context::UPSTREAM, 1..=1, |_, draft: &mut Self, directive| {
            draft.keepalive.timeout = time(directive, 0)?;
            Ok(())
        }),
        Rule::new("keepalive_time", Context::UPSTREAM, 1..=1, |_, draft: &mut Self, directive| {
            draft.keepalive.time = time(directive, 0)?;
            Ok(())
        }),
        Rule::new("ip_hash", Context::UPSTREAM, 0..=0, |scope, draft: &mut Self, directive| {
            draft.choose(scope, directive, Algorithm::IpHash);
            Ok(())
        })
        .many(|_| {}),
        Rule::new("queue", Context::UPSTREAM, 1..=2, |_, draft: &mut Self, directive| {
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

    /// Refuses a block that cannot serve.
    fn check(&self, directive: &Directive) -> Result<(), Error> {
        let (name, place) = (directive.arg(0), &directive.place);
        if self.servers.is_empty() && self.named.is_empty() {
            return Err(Error::at(place, "no servers are inside upstream"));
        }
        // nginx changes addresses in shared memory only; what is taken here shall be taken there.
        let is_shared = directive.block.iter().any(|inside| inside.name == "zone");
        if !self.named.is_empty() && !is_shared {
            return Err(Error::general(format!(
                "resolving names at run time requires upstream \"{name}\" in {place} to be in shared memory"
            )));
        }
        if !self.named.is_empty() && self.resolving.resolver().is_none() {
            let message = format!("no resolver defined to resolve names at run time in upstream \"{name}\"");
            return Err(Error::at(place, message));
        }
        let mut all = self.servers.iter().chain(self.named.iter().map(|named| &named.server));
        if all.all(|server| server.role == Role::Backup) {
            return Err(Error::at(place, format!("no servers in upstream \"{name}\"")));
        }
        Ok(())
    }

    /// Takes a way to choose; one more is taken in its place.
    fn choose(&mut self, scope: &mut Scope, directive: &Directive, algorithm: Algorithm) {
        if self.balance.algorithm != Algorithm::Swrr {
            scope.note(directive, "load balancing method redefined");
        }
        self.balance.algorithm = algorithm;
    }

    /// Takes up to where a server is timed.
    fn time(&mut self, word: &str) -> Result<(), Fault> {
        self.balance.timed = Some(S::timed(word).ok_or_else(|| Fault::parameter(word))?);
        Ok(())
    }

    /// Refuses a parameter of a server that nginx does not have with `hash`, `ip_hash` and `random`,
    /// if they are named before it.
    fn check_supports(&self, word: &str) -> Result<(), Fault> {
        match self.balance.algorithm {
            Algorithm::IpHash
            | Algorithm::Hash
            | Algorithm::HashConsistent
            | Algorithm::Random
            | Algorithm::RandomTwo
            | Algorithm::Ewma => {
                Err(Fault::new(format!("balancing method does not support parameter \"{word}\"")))
            }
            _ => Ok(()),
        }
    }
}

const BOTH: Context = Context::UPSTREAM.or(Context::STREAM_UPSTREAM);

/// Idle connections that are kept unless the block says otherwise, as in nginx since 1.29.7.
const KEEPALIVE: usize = 32;

/// The upstreams of one protocol: those with a block first, then the implied ones.
#[derive(Debug)]
pub(super) struct Upstreams<K = Value, T = Timed> {
    list: Vec<Upstream<K, T>>,
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

impl<K, T> Default for Upstreams<K, T> {
    fn default() -> Self {
        Self { list: Vec::new(), explicit: 0 }
    }
}

impl<K, T> Upstreams<K, T> {
    /// Reads the `upstream {}` blocks among the directives of `http` or `stream`.
    pub(super) fn read<S: Side<Text = K, Timed = T>>(
        scope: &mut Scope,
        block: &[Directive],
    ) -> Result<Self, Error> {
        let mut upstreams = Self::default();
        for directive in block.iter().filter(|directive| directive.name == "upstream") {
            let name = directive.arg(0).to_owned();
            if upstreams.list.iter().any(|known| known.name.eq_ignore_ascii_case(&name)) {
                return Err(Error::at(&directive.place, format!("duplicate upstream \"{name}\"")));
            }
            let mut draft = Draft::<S> {
                servers: Vec::new(),
                keepalive: Keepalive::new(KEEPALIVE),
                balance: Balance::default(),
                queue: None,
                named: Vec::new(),
                resolving: scope.resolving.clone(),
                sticky: None,
            };
            rules::apply(scope, Draft::RULES, S::INSIDE, &directive.block, &mut draft)?;
            draft.check(directive)?;
            let Draft { servers, keepalive, balance, queue, named, resolving, sticky } = draft;
            let resolver = resolving.resolver().filter(|_| !named.is_empty()).cloned();
            let keepalive = Some(keepalive).filter(|keepalive| keepalive.idle_max > 0);
            let keepalive = if S::INSIDE == Context::UPSTREAM { keepalive } else { None };
            let upstream = Upstream { name, servers, keepalive, balance, named, resolver, sticky, queue };
            upstreams.list.push(upstream);
        }
        upstreams.explicit = upstreams.list.len();
        Ok(upstreams)
    }

    /// Returns whether an authority is a name that is no upstream's, so that name servers are to be asked for it.
    pub(super) fn is_free_name(&self, text: &str) -> bool {
        let Ok((host, _)) = address::split(text) else { return false };
        let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let is_known =
            || self.list[..self.explicit].iter().any(|known| known.name.eq_ignore_ascii_case(host));
        !is_address && !host.starts_with("unix:") && !is_known()
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

    /// Returns an upstream that was referred to.
    ///
    /// # Panics
    /// If it is one of other upstreams.
    pub(super) fn get(&self, id: UpstreamId) -> &Upstream<K, T> {
        &self.list[id.0]
    }

    pub(super) fn into_list(self) -> Vec<Upstream<K, T>> {
        self.list
    }
}
