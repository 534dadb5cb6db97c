//! `map {}`: a variable whose value depends on another.

use crate::map;
use crate::model::Pattern;
use crate::variable::{Definitions, Map, Value, ValueError, Variable};

use super::rules::{Context, Fault, Syntax};
use super::server::pattern_fault;
use super::tree::Directive;
use super::{Error, Scope};

/// How the block is written.
pub(super) const SYNTAX: &[Syntax] =
    &[Syntax { name: "map", contexts: Context::HTTP, args: 2..=2, block: Some(Context::DATA) }];

/// Reads the maps among the directives of a block; the names of all variables are known by now.
pub(super) fn read_all(scope: &mut Scope, block: &[Directive]) -> Result<Definitions, Error> {
    let mut definitions = Definitions::default();
    for directive in block.iter().filter(|directive| directive.name == "map") {
        let (number, map) = read(scope, directive)?;
        definitions.define(number, map);
    }
    check_cycles(&definitions, block)?;
    Ok(definitions)
}

fn read(scope: &mut Scope, directive: &Directive) -> Result<(u16, Map), Error> {
    let at = |fault: Fault| fault.at(directive);
    let source = Value::parse(directive.arg(0), &scope.names).map_err(|error| at(error.into()))?;
    let number = own_variable(scope, directive.arg(1)).map_err(at)?;
    let mut map = Map::new(source, Value::literal(""));
    fill(&mut map, directive, |text| Value::parse(text, &scope.names))?;
    Ok((number, map))
}

/// Reads the rows of a map, whose values `parse` makes of their texts.
pub(super) fn fill<T: Clone>(
    map: &mut map::Map<T>,
    directive: &Directive,
    parse: impl Fn(&str) -> Result<T, ValueError>,
) -> Result<(), Error> {
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
        let value = parse(value).map_err(|error| at(error.into()))?;
        if row.name != "default" {
            add(map, &row.name, value, wildcards).map_err(at)?;
        } else if default.replace(value).is_some() {
            return Err(at(Fault::new("duplicate default map parameter")));
        }
    }
    if let Some(default) = default {
        map.default = default;
    }
    Ok(())
}

/// Whether a row may be a name with a wildcard.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wildcards {
    Names,
    None,
}

/// Returns the number of a variable that a directive defines.
pub(super) fn own_variable(scope: &Scope, word: &str) -> Result<u16, Fault> {
    let invalid = || Fault::new(format!("invalid variable name \"{word}\""));
    let name = word.strip_prefix('$').filter(|name| !name.is_empty()).ok_or_else(invalid)?;
    match scope.names.number(name) {
        Some(number) => Ok(number),
        None if Variable::named(name).is_some() => {
            Err(Fault::new(format!("the duplicate \"{name}\" variable")))
        }
        None => Err(invalid()),
    }
}

fn add<T: Clone>(map: &mut map::Map<T>, key: &str, value: T, wildcards: Wildcards) -> Result<(), Fault> {
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
    let free = match key {
        _ if wildcards == Wildcards::None => map.insert(key, value),
        name if name.starts_with("*.") => map.insert_ending(&name[2..], value),
        name if name.ends_with(".*") => map.insert_beginning(&name[..name.len() - 2], value),
        name if name.starts_with('.') => {
            map.insert(&name[1..], value.clone()) && map.insert_ending(&name[1..], value)
        }
        name => map.insert(name, value),
    };
    if free { Ok(()) } else { Err(Fault::new(format!("conflicting parameter \"{key}\""))) }
}

/// Refuses maps that ask each other in a circle: the first request would never end.
fn check_cycles(definitions: &Definitions, block: &[Directive]) -> Result<(), Error> {
    for (number, map) in definitions.maps() {
        let mut asked = vec![map];
        let mut seen = Vec::new();
        while let Some(map) = asked.pop() {
            for variable in map.values().chain([&map.source]).flat_map(Value::variables) {
                let Variable::Defined(next) = *variable else { continue };
                if next == number {
                    let message = "cycle while evaluating a variable of \"map\"";
                    return Err(match block.iter().find(|directive| directive.name == "map") {
                        Some(directive) => Error::at(&directive.place, message),
                        None => Error::general(message),
                    });
                }
                if !seen.contains(&next) {
                    seen.push(next);
                    asked.extend(definitions.map(next));
                }
            }
        }
    }
    Ok(())
}
