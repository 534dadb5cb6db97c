//! `map` of `stream {}`.

use crate::conf::rules::Fault;
use crate::conf::server::pattern_fault;
use crate::conf::tree::Directive;
use crate::conf::{Error, Scope};
use crate::model::Pattern;
use crate::stream::map::{Map, Row};
use crate::stream::text::Text;

/// Reads a `map`.
pub(super) fn read(scope: &mut Scope, directive: &Directive) -> Result<Map, Error> {
    let names = &scope.stream.names;
    let source = Text::parse(directive.arg(0), names).map_err(|error| Fault::from(error).at(directive))?;
    let variable = directive.arg(1).strip_prefix('$').filter(|name| !name.is_empty());
    let Some(number) = variable.and_then(|name| names.number(name)) else {
        let message = format!("invalid variable name \"{}\"", directive.arg(1));
        return Err(Error::at(&directive.place, message));
    };
    let mut map = Map::new(number, source);
    // The word may stand anywhere in the block.
    let wildcards = match directive.block.iter().any(|row| row.name == "hostnames" && row.args.is_empty()) {
        true => Wildcards::Names,
        false => Wildcards::None,
    };
    for row in &directive.block {
        add(scope, &mut map, wildcards, row).map_err(|fault| fault.at(row))?;
    }
    Ok(map)
}

/// Whether a row may be a name with a wildcard.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wildcards {
    Names,
    None,
}

fn add(scope: &mut Scope, map: &mut Map, wildcards: Wildcards, row: &Directive) -> Result<(), Fault> {
    match (&*row.name, row.args.len()) {
        ("hostnames" | "volatile", 0) => return Ok(()),
        (_, 1) => {}
        _ => return Err(Fault::new("invalid number of the map parameters")),
    }
    let value = Text::parse(row.arg(0), &scope.stream.names)?;
    let word = &*row.name;
    let found = match word {
        "default" => vec![Row::Default],
        _ if word.starts_with('~') => {
            let source = &word[1..];
            let pattern = match source.strip_prefix('*') {
                Some(source) => Pattern::new_ignoring_case(source),
                None => Pattern::new(source),
            };
            vec![Row::Pattern(pattern.map_err(|error| pattern_fault(source, &error))?)]
        }
        _ if wildcards == Wildcards::None => vec![Row::Exact(unescaped(word))],
        _ => match (word.strip_prefix("*."), word.strip_prefix('.'), word.strip_suffix(".*")) {
            (Some(ending), ..) => vec![Row::Ending(ending.to_owned())],
            (_, Some(name), _) => vec![Row::Exact(name.to_owned()), Row::Ending(name.to_owned())],
            (.., Some(beginning)) => vec![Row::Beginning(beginning.to_owned())],
            _ => vec![Row::Exact(unescaped(word))],
        },
    };
    for row in found {
        if !map.insert(row, value.clone()) {
            return Err(Fault::new(format!("conflicting parameter \"{word}\"")));
        }
    }
    Ok(())
}

/// A backslash before a word that would mean something else.
fn unescaped(word: &str) -> String {
    word.strip_prefix('\\').unwrap_or(word).to_owned()
}
