//! `map {}`: a variable whose value depends on another.

use crate::conf::rules::Fault;
use crate::conf::server::pattern_fault;
use crate::conf::tree::Directive;
use crate::conf::{Error, Scope};
use crate::definition::{Definition, Rule};
use crate::map::{Keys, Map, Rows};
use crate::model::Pattern;

use super::Side;

pub(super) fn read<S: Side>(scope: &Scope, directive: &Directive) -> Result<Definition<S::Text>, Error> {
    let parse = |text| S::parse(scope, text).map_err(Fault::from);
    let at_head = |fault: Fault| fault.at(directive);
    let source = parse(directive.arg(0)).map_err(at_head)?;
    let mut rows = Rows::new(parse("").map_err(at_head)?);
    let mut keys = Keys::Texts;
    let mut default = None;
    for row in &directive.block {
        let at = |fault: Fault| fault.at(row);
        match (&*row.name, &*row.args) {
            // Rows before it are texts, as in nginx.
            ("hostnames", []) => {
                keys = Keys::Names;
                continue;
            }
            ("volatile", []) => continue,
            _ => {}
        }
        let [value] = &*row.args else { return Err(at(Fault::new("invalid number of the map parameters"))) };
        let value = parse(value).map_err(at)?;
        if row.name != "default" {
            add(&mut rows, &row.name, value, keys).map_err(at)?;
        } else if default.replace(value).is_some() {
            return Err(at(Fault::new("duplicate default map parameter")));
        }
    }
    if let Some(default) = default {
        rows.default = default;
    }
    Ok(super::definition(Rule::Map(Map { source, keys, rows }), directive))
}

fn add<T: Clone>(map: &mut Rows<T>, key: &str, value: T, keys: Keys) -> Result<(), Fault> {
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
    if keys == Keys::Names && !is_name(key) {
        return Err(Fault::new(format!("invalid hostname or wildcard \"{key}\"")));
    }
    let free = match keys {
        Keys::Texts => map.insert(key, value),
        Keys::Names => map.insert_name(key, value),
    };
    if free { Ok(()) } else { Err(Fault::new(format!("conflicting parameter \"{key}\""))) }
}

/// Whether a name has a wildcard at one of its ends at most. None at all is one: that of a request without.
fn is_name(key: &str) -> bool {
    let inner = key.strip_prefix("*.").or_else(|| key.strip_suffix(".*")).unwrap_or(key);
    (key.is_empty() || !inner.is_empty()) && !inner.contains('*') && !key.contains("..")
}
