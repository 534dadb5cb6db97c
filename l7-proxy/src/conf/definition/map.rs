//! `map {}`: a variable whose value depends on another.

use crate::conf::rules::Fault;
use crate::conf::server::pattern_fault;
use crate::conf::tree::Directive;
use crate::conf::{Error, Scope};
use crate::definition::{Definition, Rule};
use crate::map::{Map, Rows};
use crate::model::Pattern;

use super::Side;

pub(super) fn read<S: Side>(scope: &Scope, directive: &Directive) -> Result<Definition<S::Text>, Error> {
    let parse = |text| S::parse(scope, text).map_err(Fault::from);
    let at_head = |fault: Fault| fault.at(directive);
    let source = parse(directive.arg(0)).map_err(at_head)?;
    let mut rows = Rows::new(parse("").map_err(at_head)?);
    // nginx looks names with a dot at their end up without it, and wildcards only if it was told.
    let hostnames = directive.block.iter().any(|row| row.name == "hostnames" && row.args.is_empty());
    let wildcards = if hostnames { Wildcards::Names } else { Wildcards::None };
    let mut default = None;
    for row in &directive.block {
        let at = |fault: Fault| fault.at(row);
        if row.args.is_empty() && matches!(&*row.name, "hostnames" | "volatile") {
            continue;
        }
        let [value] = &*row.args else { return Err(at(Fault::new("invalid number of the map parameters"))) };
        let value = parse(value).map_err(at)?;
        if row.name != "default" {
            add(&mut rows, &row.name, value, wildcards).map_err(at)?;
        } else if default.replace(value).is_some() {
            return Err(at(Fault::new("duplicate default map parameter")));
        }
    }
    if let Some(default) = default {
        rows.default = default;
    }
    Ok(super::definition(Rule::Map(Map { source, rows }), directive))
}

/// Whether a row may be a name with a wildcard.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wildcards {
    Names,
    None,
}

fn add<T: Clone>(map: &mut Rows<T>, key: &str, value: T, wildcards: Wildcards) -> Result<(), Fault> {
    if let Some(source) = key.strip_prefix('~') {
        let pattern = match source.strip_prefix('*') {
            Some(source) => Pattern::new_ignoring_case(source),
            None => Pattern::new(source),
        };
        let pattern = pattern.map_err(|error| pattern_fault(source, &error))?;
        Scope::check_names(&pattern)?;
        map.push_pattern(pattern, value);
        return Ok(());
    }
    // A backslash keeps a key from being a word of ours.
    let key = key.strip_prefix('\\').unwrap_or(key);
    if wildcards == Wildcards::Names && !is_name(key) {
        return Err(Fault::new(format!("invalid hostname or wildcard \"{key}\"")));
    }
    let free = match wildcards {
        Wildcards::None => map.insert(key, value),
        Wildcards::Names => map.insert_name(key, value),
    };
    if free { Ok(()) } else { Err(Fault::new(format!("conflicting parameter \"{key}\""))) }
}

/// Whether a name has a wildcard at one of its ends at most.
fn is_name(key: &str) -> bool {
    let inner = key.strip_prefix("*.").or_else(|| key.strip_suffix(".*")).unwrap_or(key);
    !inner.is_empty() && !inner.contains('*') && !key.contains("..")
}
