//! `stream {}`: servers that answer or relay whole connections, and datagrams.

mod check;
mod log;
mod settings;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::model::{
    ConnectionZone, PassTarget, ServerName, Stream, StreamCheck, StreamContent, StreamFormat, StreamListen,
    StreamServer, StreamSettings, StreamTarget, StreamTimed, Talk, Transport, UpstreamId,
};
use crate::stream::defined::Definition;
use crate::stream::text::{Names, Text, Variable};
use crate::unix;
use crate::variable::ValueError;

use super::rules::{self, ANY, Context, Fault, Rule};
use super::tree::Directive;
use super::upstream::{self, Upstreams};
use super::{Error, Scope, address, definition, resolver, server, tls};

pub(super) use self::log::FORMATS;
pub(super) use self::settings::{RULES as SETTINGS, ZONES};

/// What directives of `stream {}` share while it is read.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) names: Names,
    upstreams: Upstreams<Text, StreamTimed>,
    pub(super) formats: HashMap<String, Arc<StreamFormat>>,
    /// Upstreams whose servers are checked.
    checked: HashSet<UpstreamId>,
    /// What servers are checked against, by name.
    matches: HashMap<String, Arc<Talk>>,
    /// What `limit_conn_zone` counts by.
    pub(super) zones: HashMap<String, (Arc<ConnectionZone>, Text)>,
}

/// A `server {}` while it is read.
#[derive(Debug, Default)]
pub(super) struct Draft {
    listen: Vec<StreamListen>,
    names: Vec<ServerName>,
    content: Option<StreamContent>,
    health_check: Option<StreamCheck>,
}

/// What fills in a [`Draft`].
pub(super) const RULES: &[Rule<Draft>] = &[
    Rule::new("listen", Context::STREAM_SERVER, 1..=ANY, listen).many(|_| {}),
    Rule::new("server_name", Context::STREAM_SERVER, 1..=ANY, |scope, draft: &mut Draft, directive| {
        server::names(scope, &mut draft.names, directive)
    })
    .many(|_| {}),
    Rule::new("proxy_pass", Context::STREAM_SERVER, 1..=1, |scope, draft, directive| {
        let text = directive.arg(0);
        let target = match text.contains('$') {
            true => StreamTarget::Computed(Text::parse(text, &scope.stream.names)?),
            false => StreamTarget::Upstream(scope.stream.upstreams.refer(text, None, text)?.id),
        };
        draft.content.get_or_insert(StreamContent::Proxy(target));
        Ok(())
    }),
    Rule::new("health_check", Context::STREAM_SERVER, 0..=ANY, check::health_check),
    Rule::new("pass", Context::STREAM_SERVER, 1..=1, |scope, draft, directive| {
        let text = directive.arg(0);
        let target = match text.contains('$') {
            true => PassTarget::Computed(Text::parse(text, &scope.stream.names)?),
            false => {
                let fault = |reason| Fault::new(format!("{reason} in pass \"{text}\""));
                let found = address::resolve(text, None).map_err(fault)?;
                // As nginx: one address is who listens at one socket.
                PassTarget::Address(*found.first().ok_or_else(|| fault("host not found"))?)
            }
        };
        draft.content.get_or_insert(StreamContent::Pass(target));
        Ok(())
    }),
    Rule::new("return", Context::STREAM_SERVER, 1..=1, |scope, draft, directive| {
        let text = Text::parse(directive.arg(0), &scope.stream.names)?;
        draft.content.get_or_insert(StreamContent::Return(text));
        Ok(())
    }),
];

/// Reads a `stream {}`.
pub(super) fn read(scope: &mut Scope, directive: &Directive) -> Result<Stream, Error> {
    let block = &directive.block;
    scope.stream = Shared::default();
    collect_names(&mut scope.stream.names, block);
    rules::apply(scope, FORMATS, Context::STREAM, block, &mut ())?;
    rules::apply(scope, ZONES, Context::STREAM, block, &mut ())?;
    let definitions = definition::read_all::<OfConnections>(scope, block)?;
    let definitions = definitions.into_iter().map(|(variable, meaning)| Definition { variable, meaning });
    let mut settings = StreamSettings::default();
    apply_settings(scope, Context::STREAM, block, &mut settings)?;
    scope.resolving = settings.resolving.clone();
    scope.stream.upstreams = Upstreams::read::<OfConnections>(scope, block)?;
    scope.stream.matches = check::read_all(block)?;
    let mut servers = Vec::new();
    for directive in block.iter().filter(|directive| directive.name == "server") {
        servers.push(read_server(scope, directive, settings.clone())?);
    }
    Ok(Stream {
        upstreams: std::mem::take(&mut scope.stream.upstreams).into_list(),
        servers,
        access_log: settings.access_log,
        definitions: definitions.collect(),
    })
}

fn apply_settings(
    scope: &mut Scope,
    context: Context,
    block: &[Directive],
    settings: &mut StreamSettings,
) -> Result<(), Error> {
    // A block's own rules take the place of those around it.
    if block.iter().any(|inside| matches!(&*inside.name, "allow" | "deny")) {
        settings.access.clear();
    }
    rules::apply(scope, SETTINGS, context, block, settings)?;
    rules::apply(scope, resolver::STREAM, context, block, settings)?;
    rules::apply(scope, tls::STREAM, context, block, settings)?;
    rules::apply(scope, tls::STREAM_PROXY, context, block, settings)
}

fn read_server(
    scope: &mut Scope,
    directive: &Directive,
    mut settings: StreamSettings,
) -> Result<StreamServer, Error> {
    let (inside, block) = (Context::STREAM_SERVER, &directive.block);
    apply_settings(scope, inside, block, &mut settings)?;
    let mut draft = Draft::default();
    rules::apply(scope, RULES, inside, block, &mut draft)?;
    if draft.listen.is_empty() {
        return Err(Error::at(&directive.place, "no \"listen\" is defined for server"));
    }
    let Some(content) = draft.content else {
        return Err(Error::at(&directive.place, "no handler for server"));
    };
    for listen in &draft.listen {
        // A connection without a name goes to one server only.
        if draft.names.is_empty() && !scope.stream_addresses.insert((listen.transport, listen.addr)) {
            let message = format!("duplicate \"{}\" address and port pair", listen.addr);
            return Err(Error::at(&directive.place, message));
        }
    }
    if let Some(check) = &draft.health_check {
        let told = |message: String| Error::at(&directive.place, message);
        let StreamContent::Proxy(StreamTarget::Upstream(upstream)) = &content else {
            return Err(told(
                "\"health_check\" needs a \"proxy_pass\" to an upstream in its server".to_owned(),
            ));
        };
        if !scope.stream.checked.insert(*upstream) {
            let message = "the servers of this upstream are checked by another \"health_check\"";
            return Err(told(message.to_owned()));
        }
        let servers = &scope.stream.upstreams.get(*upstream).servers;
        if check.transport == Transport::Udp
            && let Some(server) = servers.iter().find(|server| unix::is_unix(server.addr.ip()))
        {
            return Err(told(format!("\"health_check udp\" cannot ask \"{}\"", unix::shown(server.addr))));
        }
    }
    let Draft { listen, names, health_check, .. } = draft;
    Ok(StreamServer { listen, names, content, health_check, settings })
}

/// `stream {}`, for directives that `http {}` has as well.
struct OfConnections;

impl definition::Side for OfConnections {
    type Text = Text;
    const FORWARDED: bool = false;

    fn parse(scope: &Scope, text: &str) -> Result<Text, ValueError> {
        Text::parse(text, &scope.stream.names)
    }

    fn number(scope: &Scope, word: &str) -> Result<usize, Fault> {
        let name = word.strip_prefix('$').filter(|name| !name.is_empty());
        let invalid = || Fault::new(format!("invalid variable name \"{word}\""));
        if let Some(name) = name.filter(|name| Variable::named(&name.to_ascii_lowercase()).is_some()) {
            return Err(Fault::new(format!("the duplicate \"{name}\" variable")));
        }
        name.and_then(|name| scope.stream.names.number(name)).ok_or_else(invalid)
    }

    fn asked(text: &Text) -> Vec<usize> {
        let defined = text.variables().filter_map(|variable| match variable {
            Variable::Defined(number) => Some(*number),
            _ => None,
        });
        defined.collect()
    }
}

impl upstream::Side for OfConnections {
    type Timed = StreamTimed;
    const INSIDE: Context = Context::STREAM_UPSTREAM;
    const PORT: Option<u16> = None;

    fn timed(word: &str) -> Option<StreamTimed> {
        match word {
            "connect" => Some(StreamTimed::Connect),
            "first_byte" => Some(StreamTimed::FirstByte),
            "last_byte" => Some(StreamTimed::LastByte),
            _ => None,
        }
    }
}

/// Makes what blocks, `set` and named groups define known, wherever it stands.
fn collect_names(names: &mut Names, block: &[Directive]) {
    for directive in block {
        match &*directive.name {
            "map" => directive.block.iter().for_each(|row| collect_groups(names, &row.name)),
            "set" => _ = names.define(directive.arg(0).trim_start_matches('$')),
            "server_name" => directive.args.iter().for_each(|word| collect_groups(names, word)),
            "server" => collect_names(names, &directive.block),
            _ => {}
        }
        if let Some(word) = definition::name(directive) {
            names.define(word.trim_start_matches('$'));
        }
    }
}

fn collect_groups(names: &mut Names, word: &str) {
    let Some(source) = word.strip_prefix('~') else { return };
    // An expression that cannot be compiled is told where it is used.
    if let Ok(pattern) = crate::model::Pattern::new(source.trim_start_matches('*')) {
        pattern.names().for_each(|name| names.insert_group(name));
    }
}

fn listen(scope: &mut Scope, draft: &mut Draft, directive: &Directive) -> Result<(), Fault> {
    let text = directive.arg(0);
    let addrs = address::listen(text, None)
        .map_err(|reason| Fault::new(format!("{reason} in \"{text}\" of the \"listen\" directive")))?;
    let (mut ssl, mut default_server, mut proxy_protocol) = (false, false, false);
    let (mut transport, mut words) = (Transport::Tcp, Vec::new());
    for word in &directive.args[1..] {
        match &**word {
            "ssl" => ssl = true,
            "default_server" => default_server = true,
            "proxy_protocol" => proxy_protocol = true,
            "udp" => transport = Transport::Udp,
            _ => words.push(word),
        }
    }
    let socket = server::socket_options(scope, directive, &words)?;
    if transport == Transport::Udp {
        let names = directive.args[1..].iter().map(|word| word.split('=').next().unwrap_or_default());
        let names: Vec<&str> = names.collect();
        if let Some(name) = OF_CONNECTIONS.iter().find(|name| names.contains(name)) {
            return Err(Fault::directive(format!("\"{name}\" parameter is incompatible with \"udp\"")));
        }
        if addrs.iter().any(|addr| unix::is_unix(addr.ip())) {
            return Err(Fault::unsupported("udp", directive));
        }
    }
    for addr in addrs {
        if draft.listen.iter().any(|known| known.addr == addr && known.transport == transport) {
            return Err(Fault::new(format!("duplicate \"{addr}\" address and port pair")));
        }
        draft.listen.push(StreamListen {
            transport,
            addr,
            socket: socket.clone(),
            default_server,
            ssl,
            proxy_protocol,
        });
    }
    Ok(())
}

/// Parameters of `listen` that mean nothing for datagrams, in the order in which nginx looks for them.
const OF_CONNECTIONS: [&str; 7] =
    ["fastopen", "backlog", "deferred", "multipath", "ssl", "so_keepalive", "proxy_protocol"];
