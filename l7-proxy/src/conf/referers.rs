//! `valid_referers`.

use std::sync::Arc;

use crate::map::Rows;
use crate::model::{Pages, Pattern, Referers, ServerName, Settings};

use super::rules::{self, ANY, Context, Fault, Rule};
use super::server::pattern_fault;
use super::tree::Directive;
use super::{Error, Scope};

/// What one block says of referers.
#[derive(Default)]
pub(super) struct Draft {
    referers: Referers,
    /// Whether the names of the server around are among them; they come last, and once.
    server_names: bool,
}

/// What fills in a [`Draft`].
pub(super) const RULES: &[Rule<Draft>] =
    &[Rule::new("valid_referers", Context::SERVER.or(Context::LOCATION), 1..=ANY, read).many(|_| {})];

/// Takes what a block says of referers, if it says something; of what holds around it expressions stay
/// unless it has some of its own, as in nginx.
pub(super) fn apply(
    scope: &mut Scope,
    inside: Context,
    block: &[Directive],
    settings: &mut Settings,
) -> Result<(), Error> {
    let Some(first) = block.iter().find(|directive| directive.name == "valid_referers") else {
        return Ok(());
    };
    let outer = settings.referers.take();
    let mut draft = Draft::default();
    rules::apply(scope, RULES, inside, block, &mut draft)?;
    let Draft { referers: mut own, server_names } = draft;
    if server_names {
        add_server_names(scope, &mut own).map_err(|fault| fault.at(first))?;
    }
    if (own.none || own.blocked) && own.hosts.is_empty() {
        return Err(Error::general(
            "the \"none\" or \"blocked\" referers are specified in the \"valid_referers\" directive without any \
             valid referer",
        ));
    }
    if let Some(outer) = outer {
        if own.patterns.is_empty() {
            own.patterns.clone_from(&outer.patterns);
        }
        if own.names.is_empty() {
            own.names.clone_from(&outer.names);
        }
    }
    settings.referers = Some(Arc::new(own));
    Ok(())
}

fn read(_: &mut Scope, draft: &mut Draft, directive: &Directive) -> Result<(), Fault> {
    let Draft { referers, server_names } = draft;
    for word in &directive.args {
        match &**word {
            "" => return Err(Fault::new("invalid referer \"\"")),
            "none" => referers.none = true,
            "blocked" => referers.blocked = true,
            "server_names" => *server_names = true,
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
    Ok(())
}

/// Adds the names of the server around; one without a name has the empty one.
fn add_server_names(scope: &Scope, referers: &mut Referers) -> Result<(), Fault> {
    if scope.server_names.is_empty() {
        return add(&mut referers.hosts, "");
    }
    for name in &scope.server_names {
        match name {
            ServerName::Regex(pattern) => referers.names.push(pattern.clone()),
            name => add(&mut referers.hosts, &name.to_string())?,
        }
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
