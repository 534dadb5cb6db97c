//! `valid_referers`.

use std::sync::Arc;

use crate::map::Rows;
use crate::model::{Pages, Pattern, Referers, ServerName, Settings};

use super::Scope;
use super::rules::{ANY, Context, Fault, Rule};
use super::server::pattern_fault;
use super::tree::Directive;

/// What fills in the pages that requests may come from.
pub(super) const RULES: &[Rule<Settings>] =
    &[Rule::new("valid_referers", Context::SERVER.or(Context::LOCATION), 1..=ANY, read).many(|_| {})];

/// Forgets what outer blocks say of referers, if a block says something itself; expressions stay unless
/// it has some of its own, as in nginx.
pub(super) fn disinherit(settings: &mut Settings, block: &[Directive]) {
    let own = || block.iter().filter(|directive| directive.name == "valid_referers");
    if own().next().is_none() {
        return;
    }
    let mut referers = Referers::default();
    if let Some(outer) = settings.referers.take() {
        if !own().flat_map(|directive| &directive.args).any(|word| word.starts_with('~')) {
            referers.patterns.clone_from(&outer.patterns);
        }
        referers.names.clone_from(&outer.names);
    }
    settings.referers = Some(Arc::new(referers));
}

fn read(scope: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    let referers = Arc::make_mut(settings.referers.get_or_insert_default());
    let mut names = Vec::new();
    for word in &directive.args {
        match &**word {
            "" => return Err(Fault::new("invalid referer \"\"")),
            "none" => referers.none = true,
            "blocked" => referers.blocked = true,
            "server_names" => names.clone_from(&scope.server_names),
            word => match word.strip_prefix('~') {
                Some("") => return Err(Fault::new(format!("empty regex in \"{word}\""))),
                Some(source) => {
                    let pattern = Pattern::new_ignoring_case(source);
                    referers.patterns.push(pattern.map_err(|error| pattern_fault(source, &error))?);
                }
                None => add(&mut referers.hosts, word)?,
            },
        }
    }
    for name in names {
        match name {
            ServerName::Regex(pattern)
                if referers.names.iter().any(|known| known.source() == pattern.source()) => {}
            ServerName::Regex(pattern) => referers.names.push(pattern),
            name => add(&mut referers.hosts, &name.to_string())?,
        }
    }
    if (referers.none || referers.blocked) && referers.hosts.is_empty() {
        return Err(Fault::new(
            "the \"none\" or \"blocked\" referers are specified in the \"valid_referers\" directive without any \
             valid referer",
        ));
    }
    Ok(())
}

/// Adds a host and how the paths of its pages begin.
fn add(hosts: &mut Rows<Pages>, word: &str) -> Result<(), Fault> {
    let (host, path) = word.split_at(word.find('/').unwrap_or(word.len()));
    let bare = host.trim_start_matches("*.").trim_end_matches(".*");
    if bare.contains('*') || bare.is_empty() && !host.is_empty() {
        return Err(Fault::new(format!("invalid hostname or wildcard \"{host}\"")));
    }
    match hosts.insert_name(host, Pages::Below(path.as_bytes().into())) {
        true => Ok(()),
        false => Err(Fault::new(format!("conflicting parameter \"{host}\""))),
    }
}
