//! `set`, `if`, `rewrite`, `break` and `return`: scripts of servers and locations.

use crate::model::{
    Condition, If, Instruction, Location, PathKind, Pattern, Return, Rewrite, Sense, Settable, Test, Then,
};
use crate::variable::{Value, ValueError};

use super::http::own_variable;
use super::location::{self, read_inside};
use super::rules::{Context, Fault, Syntax};
use super::server::pattern_fault;
use super::tree::Directive;
use super::{Error, Scope};

/// How the directives of a script are written.
pub(super) const SYNTAX: &[Syntax] = &[
    plain("set", 2, 2),
    plain("rewrite", 2, 3),
    plain("break", 0, 0),
    plain("return", 1, 2),
    Syntax { name: "if", contexts: Context::SERVER, args: 1..=usize::MAX, block: Some(Context::SERVER_IF) },
    Syntax {
        name: "if",
        contexts: Context::LOCATION,
        args: 1..=usize::MAX,
        block: Some(Context::LOCATION_IF),
    },
];

const fn plain(name: &'static str, least: usize, most: usize) -> Syntax {
    Syntax { name, contexts: Context::SCRIPT, args: least..=most, block: None }
}

/// Reads the script among the directives of a block, up to a `return`: what follows that is never
/// reached, but must be right as well.
pub(super) fn read(
    scope: &mut Scope,
    block: &[Directive],
    outer: Option<&Location>,
) -> Result<(Vec<Instruction>, Option<Return>), Error> {
    let mut script = Vec::new();
    let mut reply = None;
    for directive in block {
        let at = |fault: Fault| fault.at(directive);
        let instruction = match &*directive.name {
            "set" => set(scope, directive).map_err(at)?,
            "rewrite" => Instruction::Rewrite(rewrite(scope, directive).map_err(at)?),
            "break" => Instruction::Break,
            "if" => Instruction::If(branch(scope, directive, outer)?),
            "return" => {
                let found = location::reply(scope, directive).map_err(at)?;
                reply.get_or_insert(found);
                continue;
            }
            _ => continue,
        };
        if reply.is_none() {
            script.push(instruction);
        }
    }
    Ok((script, reply))
}

fn set(scope: &Scope, directive: &Directive) -> Result<Instruction, Fault> {
    let word = directive.arg(0);
    let variable = match &*word.to_ascii_lowercase() {
        "$args" => Settable::Args,
        "$limit_rate" => Settable::LimitRate,
        _ => Settable::Defined(own_variable(scope, word)?),
    };
    let value = Value::parse(directive.arg(1), &scope.names)?;
    Ok(Instruction::Set { variable, value })
}

fn rewrite(scope: &Scope, directive: &Directive) -> Result<Rewrite, Fault> {
    let (source, written) = (directive.arg(0), directive.arg(1));
    if written.is_empty() {
        return Err(Fault::new("empty replacement"));
    }
    let pattern = Pattern::new(source).map_err(|error| pattern_fault(source, &error))?;
    Scope::check_names(&pattern)?;
    let is_url = ["http://", "https://", "$scheme"].iter().any(|start| written.starts_with(start));
    let then = match directive.args.get(2).map(|word| &**word) {
        Some("redirect") => Then::Redirect(302),
        Some("permanent") => Then::Redirect(301),
        Some("last" | "break") | None if is_url => Then::Redirect(302),
        Some("last") => Then::Last,
        Some("break") => Then::Break,
        None => Then::Continue,
        Some(word) => return Err(Fault::parameter(word)),
    };
    let (text, drops_args) = match written.strip_suffix('?') {
        Some(text) => (text, true),
        None => (written, false),
    };
    // Only a `?` that is written here begins arguments: one in a group is part of a name.
    let (text, args) = text.split_once('?').map_or((text, None), |(text, args)| (text, Some(args)));
    let replacement = Value::parse(text, &scope.names)?;
    let args = args.map(|args| Value::parse(args, &scope.names)).transpose()?;
    Ok(Rewrite { pattern, replacement, args, drops_args, then })
}

fn branch(scope: &mut Scope, directive: &Directive, outer: Option<&Location>) -> Result<If, Error> {
    let condition = condition(scope, directive).map_err(|fault| fault.at(directive))?;
    let block = &directive.block;
    let location = match outer {
        Some(outer) => Some(read_inside(scope, Context::LOCATION_IF, block, outer)?),
        None => None,
    };
    let (script, reply) = read(scope, block, location.as_ref())?;
    Ok(If { condition, script, reply, location: location.map(Box::new) })
}

/// Reads what stands between `if` and its brace.
fn condition(scope: &Scope, directive: &Directive) -> Result<Condition, Fault> {
    let words = inside_brackets(&directive.args)?;
    let invalid = |word: &str| Fault::new(format!("invalid condition \"{word}\""));
    let (test, sense) = match &*words {
        [word] if word.starts_with('$') && word.len() > 1 => {
            (Test::Set(variable(scope, word)?), Sense::Plain)
        }
        [word, path] if word.trim_start_matches('!').starts_with('-') => {
            let (word, sense) = match word.strip_prefix('!') {
                Some(word) => (word, Sense::Negated),
                None => (&**word, Sense::Plain),
            };
            let kind = match word {
                "-f" => PathKind::File,
                "-d" => PathKind::Directory,
                "-e" => PathKind::Any,
                "-x" => PathKind::Executable,
                word => return Err(invalid(word)),
            };
            (Test::Path(kind, Value::parse(path, &scope.names)?), sense)
        }
        [word, operator, text] if word.starts_with('$') && word.len() > 1 => {
            let value = variable(scope, word)?;
            let pattern = |pattern: Result<Pattern, _>| {
                let pattern = pattern.map_err(|error| pattern_fault(text, &error))?;
                Scope::check_names(&pattern)?;
                Ok::<_, Fault>(pattern)
            };
            match &**operator {
                "=" => (Test::Equal(value, Value::parse(text, &scope.names)?), Sense::Plain),
                "!=" => (Test::Equal(value, Value::parse(text, &scope.names)?), Sense::Negated),
                "~" => (Test::Matches(value, pattern(Pattern::new(text))?), Sense::Plain),
                "!~" => (Test::Matches(value, pattern(Pattern::new(text))?), Sense::Negated),
                "~*" => (Test::Matches(value, pattern(Pattern::new_ignoring_case(text))?), Sense::Plain),
                "!~*" => (Test::Matches(value, pattern(Pattern::new_ignoring_case(text))?), Sense::Negated),
                operator => {
                    return Err(Fault::new(format!("unexpected \"{operator}\" in condition")));
                }
            }
        }
        words => return Err(invalid(words.first().map_or("", |word| word))),
    };
    Ok(Condition { test, sense })
}

/// Reads the variable that a condition asks: all of the word is its name.
fn variable(scope: &Scope, word: &str) -> Result<Value, Fault> {
    let name = &word[1..];
    match name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        true => Ok(Value::parse(word, &scope.names)?),
        false => Err(ValueError::Unknown(name.to_owned()).into()),
    }
}

/// Returns the words of a condition without the brackets around them.
fn inside_brackets(args: &[String]) -> Result<Vec<String>, Fault> {
    let mut words = args.to_vec();
    let invalid = |word: &String| Fault::new(format!("invalid condition \"{word}\""));
    if let Some(first) = words.first_mut() {
        *first = first.strip_prefix('(').ok_or_else(|| invalid(first))?.to_owned();
    }
    if let Some(last) = words.last_mut() {
        *last = last.strip_suffix(')').ok_or_else(|| invalid(last))?.to_owned();
    }
    if words.first().is_some_and(String::is_empty) {
        words.remove(0);
    }
    // The text to compare with may be empty; a bracket that stands alone leaves nothing behind.
    if args.last().is_some_and(|word| word == ")") {
        words.pop();
    }
    Ok(words)
}
