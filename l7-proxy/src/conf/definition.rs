//! Blocks that define a variable: `map`, `geo`, `split_clients`, of `http {}` and of `stream {}` alike.

mod geo;
mod map;
mod split;

use std::collections::HashMap;

use crate::definition::{Definition, Keeping, Rule};
use crate::variable::ValueError;

use super::rules::{Context, Fault, Syntax};
use super::tree::Directive;
use super::{Error, Scope};

/// How the blocks are written.
pub(super) const SYNTAX: &[Syntax] = &[block("map", 2, 2), block("geo", 1, 2), block("split_clients", 2, 2)];

const fn block(name: &'static str, least: usize, most: usize) -> Syntax {
    Syntax {
        name,
        contexts: Context::HTTP.or(Context::STREAM),
        args: least..=most,
        block: Some(Context::DATA),
    }
}

/// What tells the variables of `http {}` from those of `stream {}`.
pub(super) trait Side {
    /// A text with variables in it.
    type Text: Clone;
    /// Whether a peer may say in a field whom a request is from.
    const FORWARDED: bool;

    fn parse(scope: &Scope, text: &str) -> Result<Self::Text, ValueError>;
    /// The number of the variable that a word defines.
    fn number(scope: &Scope, word: &str) -> Result<usize, Fault>;
    /// The numbers of the variables that a text asks and that the configuration defines.
    fn asked(text: &Self::Text) -> Vec<usize>;
}

/// Reads the blocks among the directives of one; the names of all variables are known by now.
pub(super) fn read_all<S: Side>(
    scope: &mut Scope,
    directives: &[Directive],
) -> Result<HashMap<usize, Definition<S::Text>>, Error> {
    let mut found = HashMap::new();
    let mut places = Vec::new();
    for directive in directives {
        let Some(word) = name(directive) else { continue };
        let definition = match &*directive.name {
            "map" => map::read::<S>(scope, directive)?,
            "geo" => geo::read::<S>(scope, directive)?,
            _ => split::read::<S>(scope, directive)?,
        };
        let number = S::number(scope, word).map_err(|fault| fault.at(directive))?;
        found.insert(number, definition);
        places.push((number, directive));
    }
    for (number, directive) in places {
        if asks_itself::<S>(&found, number) {
            let message = format!("cycle while evaluating a variable of \"{}\"", directive.name);
            return Err(Error::at(&directive.place, message));
        }
    }
    Ok(found)
}

/// Returns the word that names the variable which a directive defines, if it is such a block.
pub(super) fn name(directive: &Directive) -> Option<&str> {
    let last = match &*directive.name {
        "map" | "split_clients" => 1,
        "geo" => directive.args.len().saturating_sub(1),
        _ => return None,
    };
    Some(directive.arg(last))
}

/// Whether the value of a variable depends on itself: the first look would never end.
fn asks_itself<S: Side>(definitions: &HashMap<usize, Definition<S::Text>>, number: usize) -> bool {
    let mut asked = vec![number];
    let mut seen = Vec::new();
    while let Some(definition) = asked.pop().and_then(|number| definitions.get(&number)) {
        for next in definition.texts().into_iter().flat_map(S::asked) {
            if next == number {
                return true;
            }
            if !seen.contains(&next) && definitions.contains_key(&next) {
                seen.push(next);
                asked.push(next);
            }
        }
    }
    false
}

/// Returns a definition, which is volatile if one of its lines says so.
fn definition<T>(rule: Rule<T>, directive: &Directive) -> Definition<T> {
    let volatile = directive.block.iter().any(|line| line.args.is_empty() && line.name == "volatile");
    Definition { rule, keeping: if volatile { Keeping::Volatile } else { Keeping::Once } }
}
