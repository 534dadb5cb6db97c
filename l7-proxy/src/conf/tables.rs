//! Every directive that nginx knows, and how it stands here.

use super::effectless::Effectless;
use super::http::OfRequests;
use super::rules::{Context, Rule, Syntax};
use super::{
    addition, answer, auth, body, browsers, cache, charset, check, client_addr, compress, core, definition,
    effectless, file_cache, grpc, limit, listing, location, log, mirror, proxy, referers, resolver, rewrite,
    secure_link, server, settings, stream, substitution, symlinks, tls, unsupported, upstream, userid,
};

/// How a name stands in one kind of block.
#[derive(Debug)]
pub(super) enum Standing {
    /// It may stand here, written like this.
    Here(&'static Syntax),
    /// It may stand in another kind of block.
    Elsewhere,
    /// nginx takes it here, this program does not.
    Unsupported,
    /// It is no directive: likely a slip of the pen.
    Unknown,
}

/// Returns how a directive called `name` stands in a block of kind `context`.
pub(super) fn look_up(name: &str, context: Context) -> Standing {
    let mut elsewhere = false;
    for syntax in all().filter(|syntax| syntax.name == name) {
        if syntax.contexts.meets(context) {
            return Standing::Here(syntax);
        }
        elsewhere = true;
    }
    if unsupported::knows(name, context) {
        Standing::Unsupported
    } else if elsewhere {
        Standing::Elsewhere
    } else if unsupported::knows_anywhere(name) {
        Standing::Unsupported
    } else {
        Standing::Unknown
    }
}

/// Returns the entry of a directive that is accepted without effect where it stands.
pub(super) fn effectless(name: &str, context: Context) -> Option<&'static Effectless> {
    let mut entries = effectless::DIRECTIVES.iter();
    entries.find(|entry| entry.syntax.name == name && entry.syntax.contexts.meets(context))
}

/// Returns every directive that may stand somewhere.
pub(super) fn all() -> impl Iterator<Item = &'static Syntax> {
    BLOCKS
        .iter()
        .chain(syntaxes(core::PROCESS))
        .chain(syntaxes(core::EVENTS))
        .chain(syntaxes(settings::RULES))
        .chain(syntaxes(answer::INHERITANCE))
        .chain(syntaxes(answer::RULES))
        .chain(syntaxes(client_addr::RULES))
        .chain(syntaxes(resolver::RULES))
        .chain(syntaxes(resolver::STREAM))
        .chain(syntaxes(client_addr::EXPLAIN))
        .chain(syntaxes(file_cache::RULES))
        .chain(syntaxes(symlinks::RULES))
        .chain(syntaxes(listing::RULES))
        .chain(syntaxes(compress::RULES))
        .chain(syntaxes(addition::RULES))
        .chain(syntaxes(substitution::RULES))
        .chain(syntaxes(limit::ZONES))
        .chain(syntaxes(limit::RULES))
        .chain(syntaxes(auth::RULES))
        .chain(syntaxes(referers::RULES))
        .chain(syntaxes(secure_link::RULES))
        .chain(syntaxes(mirror::RULES))
        .chain(syntaxes(userid::RULES))
        .chain(syntaxes(browsers::RULES))
        .chain(syntaxes(charset::MAPS))
        .chain(syntaxes(charset::RULES))
        .chain(syntaxes(body::RULES))
        .chain(syntaxes(proxy::RULES))
        .chain(syntaxes(cache::ZONES))
        .chain(syntaxes(cache::RULES))
        .chain(syntaxes(grpc::RULES))
        .chain(syntaxes(log::FORMATS))
        .chain(syntaxes(log::RULES))
        .chain(syntaxes(server::RULES))
        .chain(syntaxes(location::RULES))
        .chain(rewrite::SYNTAX)
        .chain(definition::SYNTAX)
        .chain(check::SYNTAX)
        .chain(syntaxes(check::RULES))
        .chain(syntaxes(upstream::Draft::<OfRequests>::RULES))
        .chain(syntaxes(stream::SETTINGS))
        .chain(syntaxes(stream::RULES))
        .chain(syntaxes(stream::FORMATS))
        .chain(syntaxes(stream::ZONES))
        .chain(syntaxes(tls::HTTP))
        .chain(syntaxes(tls::HTTP_ONLY))
        .chain(syntaxes(tls::HTTP_PROXY))
        .chain(syntaxes(tls::HTTP_PROXY_NAME))
        .chain(syntaxes(tls::STREAM))
        .chain(syntaxes(tls::STREAM_PROXY))
        .chain(effectless::DIRECTIVES.iter().map(|directive| &directive.syntax))
}

fn syntaxes<T>(rules: &'static [Rule<T>]) -> impl Iterator<Item = &'static Syntax> {
    rules.iter().map(|rule| &rule.syntax)
}

/// Blocks that are objects of their own; each is read by the module of its name.
const BLOCKS: &[Syntax] = &[
    block("events", Context::MAIN, 0, 0, Context::EVENTS),
    block("http", Context::MAIN, 0, 0, Context::HTTP),
    block("stream", Context::MAIN, 0, 0, Context::STREAM),
    block("server", Context::HTTP, 0, 0, Context::SERVER),
    block("upstream", Context::HTTP, 1, 1, Context::UPSTREAM),
    block("location", Context::SERVER.or(Context::LOCATION), 1, 2, Context::LOCATION),
    block("limit_except", Context::LOCATION, 1, usize::MAX, Context::LIMIT_EXCEPT),
    block("server", Context::STREAM, 0, 0, Context::STREAM_SERVER),
    block("upstream", Context::STREAM, 1, 1, Context::STREAM_UPSTREAM),
];

const fn block(name: &'static str, contexts: Context, least: usize, most: usize, inside: Context) -> Syntax {
    Syntax { name, contexts, args: least..=most, block: Some(inside) }
}

#[cfg(test)]
mod tests {
    use super::{all, unsupported};

    #[test]
    fn no_directive_stands_twice_in_one_place() {
        let mut seen: Vec<&super::Syntax> = Vec::new();
        for syntax in all() {
            let twice =
                seen.iter().any(|other| other.name == syntax.name && other.contexts.meets(syntax.contexts));
            assert!(!twice, "{}", syntax.name);
            seen.push(syntax);
        }
    }

    #[test]
    fn what_is_supported_is_not_called_unsupported() {
        for syntax in all() {
            assert!(!unsupported::knows(syntax.name, syntax.contexts), "{}", syntax.name);
        }
    }
}
