//! `stream {}`: servers that relay whole connections.

use std::time::Duration;

use crate::model::{Stream, StreamListen, StreamServer, UpstreamId};

use super::rules::{self, ANY, Context, Fault, Rule};
use super::tree::Directive;
use super::upstream::Upstreams;
use super::value::{flag, time};
use super::{Error, Scope, address, server};

/// What `stream {}` and its servers may both set.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    connect_timeout: Duration,
    timeout: Duration,
    tcp_nodelay: bool,
}

/// What fills in [`Settings`].
pub(super) const SETTINGS: &[Rule<Settings>] = &[
    Rule::new("proxy_connect_timeout", Context::STREAM_SETTINGS, 1..=1, |_, settings, directive| {
        settings.connect_timeout = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("proxy_timeout", Context::STREAM_SETTINGS, 1..=1, |_, settings, directive| {
        settings.timeout = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("tcp_nodelay", Context::STREAM_SETTINGS, 1..=1, |_, settings, directive| {
        settings.tcp_nodelay = flag(directive)?;
        Ok(())
    }),
];

/// A `server {}` while it is read.
#[derive(Debug, Default)]
pub(super) struct Draft {
    listen: Vec<StreamListen>,
    proxy_pass: Option<UpstreamId>,
}

/// What fills in a [`Draft`].
pub(super) const RULES: &[Rule<Draft>] = &[
    Rule::new("listen", Context::STREAM_SERVER, 1..=ANY, listen).many(|_| {}),
    Rule::new("proxy_pass", Context::STREAM_SERVER, 1..=1, |scope, draft, directive| {
        if directive.arg(0).contains('$') {
            return Err(Fault::new("\"proxy_pass\" to a variable is not supported by l7-proxy"));
        }
        draft.proxy_pass = Some(scope.upstreams.refer(directive.arg(0), None)?.id);
        Ok(())
    }),
];

/// Reads a `stream {}`.
pub(super) fn read(scope: &mut Scope, directive: &Directive) -> Result<Stream, Error> {
    let block = &directive.block;
    let mut settings = Settings {
        connect_timeout: Duration::from_secs(60),
        timeout: Duration::from_secs(600),
        tcp_nodelay: true,
    };
    scope.upstream_port = None;
    rules::apply(scope, SETTINGS, Context::STREAM, block, &mut settings)?;
    scope.upstreams = Upstreams::read(scope, Context::STREAM_UPSTREAM, block)?;
    let mut servers = Vec::new();
    for directive in block.iter().filter(|directive| directive.name == "server") {
        servers.push(read_server(scope, directive, settings.clone())?);
    }
    Ok(Stream { upstreams: std::mem::take(&mut scope.upstreams).into_list(), servers })
}

fn read_server(
    scope: &mut Scope,
    directive: &Directive,
    mut settings: Settings,
) -> Result<StreamServer, Error> {
    let (inside, block) = (Context::STREAM_SERVER, &directive.block);
    rules::apply(scope, SETTINGS, inside, block, &mut settings)?;
    let mut draft = Draft::default();
    rules::apply(scope, RULES, inside, block, &mut draft)?;
    if draft.listen.is_empty() {
        return Err(Error::at(&directive.place, "no \"listen\" is defined for server"));
    }
    let Some(proxy_pass) = draft.proxy_pass else {
        return Err(Error::at(&directive.place, "no handler for server"));
    };
    Ok(StreamServer {
        listen: draft.listen,
        proxy_pass,
        connect_timeout: settings.connect_timeout,
        timeout: settings.timeout,
        tcp_nodelay: settings.tcp_nodelay,
    })
}

fn listen(scope: &mut Scope, draft: &mut Draft, directive: &Directive) -> Result<(), Fault> {
    let text = directive.arg(0);
    let addrs = address::listen(text, None)
        .map_err(|reason| Fault::new(format!("{reason} in \"{text}\" of the \"listen\" directive")))?;
    let mut words = Vec::new();
    for word in &directive.args[1..] {
        match &**word {
            "udp" | "ssl" | "proxy_protocol" | "default_server" => {
                return Err(Fault::unsupported(word, directive));
            }
            _ => words.push(word),
        }
    }
    let socket = server::socket_options(scope, directive, &words)?.unwrap_or_default();
    for addr in addrs {
        // Connections have no name to choose by: one server per address.
        if !scope.stream_addresses.insert(addr) {
            return Err(Fault::new(format!("duplicate \"{text}\" address and port pair")));
        }
        draft.listen.push(StreamListen { addr, socket: socket.clone() });
    }
    Ok(())
}
