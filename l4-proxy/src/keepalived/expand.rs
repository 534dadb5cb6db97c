//! Definitions put into lines: `$NAME`, `${NAME}`, and the loops `~SEQ` and `~LST`.
//!
//! All of it is text in, text out. A definition is looked up when it is used, so what it mentions
//! may be defined after it.

use std::collections::HashMap;
use std::path::Path;

/// What has been defined so far.
#[derive(Debug)]
pub(crate) struct Definitions {
    /// By name; a body of several lines has several.
    bodies: HashMap<String, Vec<String>>,
    /// What `${_INSTANCE}` and conditions go by.
    pub(crate) id: String,
    /// What `${_RANDOM}` draws from; drawn numbers differ from use to use.
    seed: u64,
}

/// A line after its first definition was put in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Expanded {
    /// It uses none.
    Same,
    /// It stays one line.
    Line(String),
    /// It becomes several.
    Lines(Vec<String>),
}

/// A loop at the beginning of a line: what its variables are in each round, and the rest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Loop<'a> {
    pub(crate) rounds: Vec<Vec<(String, String)>>,
    pub(crate) rest: &'a str,
}

/// Splits `$NAME=value`.
pub(crate) fn definition(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.strip_prefix('$')?.split_once('=')?;
    is_name(name).then_some((name, value))
}

fn is_name(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(word) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

impl Definitions {
    pub(crate) fn new(id: &str, seed: u64) -> Definitions {
        Definitions { bodies: HashMap::new(), id: id.to_owned(), seed }
    }

    pub(crate) fn define(&mut self, name: &str, body: Vec<String>) {
        self.bodies.insert(name.to_owned(), body);
    }

    /// Puts in the first definition that the text uses. `directory` is that of its file.
    pub(crate) fn expand(&mut self, text: &str, directory: &Path) -> Expanded {
        for (begin, _) in text.match_indices('$') {
            let after = &text[begin + 1..];
            let (name, end) = match after.strip_prefix('{') {
                Some(braced) => match braced.find('}') {
                    Some(close) => (&braced[..close], begin + close + 3),
                    None => continue,
                },
                None => {
                    let length = after.find(char::is_whitespace).unwrap_or(after.len());
                    (&after[..length], begin + 1 + length)
                }
            };
            let Some(body) = self.body(name, directory) else { continue };
            let (before, after) = (&text[..begin], &text[end..]);
            return match body.as_slice() {
                [] => Expanded::Line(format!("{before}{after}")),
                [one] => Expanded::Line(format!("{before}{one}{after}")),
                [first, between @ .., last] => {
                    let mut lines = vec![format!("{before}{first}")];
                    lines.extend_from_slice(between);
                    lines.push(format!("{last}{after}"));
                    Expanded::Lines(lines)
                }
            };
        }
        Expanded::Same
    }

    fn body(&mut self, name: &str, directory: &Path) -> Option<Vec<String>> {
        if let Some(body) = self.bodies.get(name) {
            return Some(body.clone());
        }
        let mut words = name.split_whitespace();
        let value = match words.next()? {
            "_PWD" => directory.display().to_string(),
            "_INSTANCE" => self.id.clone(),
            "_HASH" => "#".to_owned(),
            "_BANG" => "!".to_owned(),
            "_ENV" => std::env::var(words.next()?).unwrap_or_default(),
            "_RANDOM" => {
                let mut bound = |default: u64| words.next().map_or(Some(default), |word| word.parse().ok());
                let (least, most) = (bound(0)?, bound(32_767)?);
                self.draw(least, most).to_string()
            }
            _ => return None,
        };
        Some(vec![value])
    }

    fn draw(&mut self, least: u64, most: u64) -> u64 {
        // One step of splitmix64.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        match most.checked_sub(least).and_then(|width| width.checked_add(1)) {
            Some(choices) => least + (mixed ^ (mixed >> 31)) % choices,
            None => least,
        }
    }
}

/// The loop that a line begins with, if it does.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn loop_of(text: &str) -> Option<Result<Loop<'_>, String>> {
    let (arguments, kind) = [("~SEQ(", Kind::Decimal), ("~SEQx(", Kind::Hexadecimal), ("~LST(", Kind::List)]
        .into_iter()
        .find_map(|(begin, kind)| text.strip_prefix(begin).map(|rest| (rest, kind)))?;
    let Some(close) = arguments.find(')') else {
        return Some(Err("the loop has no ')'".to_owned()));
    };
    let (arguments, rest) = (&arguments[..close], arguments[close + 1..].trim_start());
    let rounds = match kind {
        Kind::List => list(arguments),
        Kind::Decimal => sequence(arguments, |number| number.to_string()),
        Kind::Hexadecimal => sequence(arguments, |number| match u64::try_from(number) {
            Ok(number) => format!("{number:x}"),
            Err(_) => format!("-{:x}", number.unsigned_abs()),
        }),
    };
    Some(rounds.map(|rounds| Loop { rounds, rest }))
}

#[derive(Clone, Copy)]
enum Kind {
    Decimal,
    Hexadecimal,
    List,
}

type Rounds = Vec<Vec<(String, String)>>;

/// `var, end`, `var, start, end` or `var, start, step, end`.
fn sequence(arguments: &str, format: impl Fn(i64) -> String) -> Result<Rounds, String> {
    let words: Vec<&str> = arguments.split(',').map(str::trim).collect();
    let (name, numbers) = match words.split_first() {
        Some((name, numbers)) if is_name(name) => (*name, numbers),
        _ => return Err("the loop has no name for its variable".to_owned()),
    };
    let numbers: Vec<i64> = numbers.iter().map(|word| integer(word)).collect::<Result<_, _>>()?;
    let (start, step, end) = match numbers[..] {
        [end] => (if end < 0 { -1 } else { 1 }, None, end),
        [start, end] => (start, None, end),
        [start, step, end] => (start, Some(step), end),
        _ => return Err("a loop takes a variable and one to three numbers".to_owned()),
    };
    let step = step.unwrap_or(if end < start { -1 } else { 1 });
    if step == 0 {
        return Err("the loop has a step of 0".to_owned());
    }
    let mut rounds = Vec::new();
    let mut value = start;
    while (step > 0 && value <= end) || (step < 0 && value >= end) {
        if rounds.len() == ROUNDS_MAX {
            return Err(format!("the loop has more than {ROUNDS_MAX} rounds"));
        }
        rounds.push(vec![(name.to_owned(), format(value))]);
        let Some(next) = value.checked_add(step) else { break };
        value = next;
    }
    Ok(rounds)
}

fn integer(word: &str) -> Result<i64, String> {
    let (sign, digits) = word.strip_prefix('-').map_or((1, word), |digits| (-1, digits));
    let number = match digits.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    number.map(|number: i64| number.wrapping_mul(sign)).map_err(|_| format!("\"{word}\" is no number"))
}

/// `var, a, b` or `{var, other}, {a, b}, {c, d}`.
fn list(arguments: &str) -> Result<Rounds, String> {
    let mut groups = groups(arguments).into_iter();
    let names = groups.next().unwrap_or_default();
    if names.is_empty() || !names.iter().all(|name| is_name(name)) {
        return Err("the loop has no name for its variable".to_owned());
    }
    let rounds = groups.map(|values| {
        if values.len() != names.len() {
            return Err(format!("the loop has {} variables and {} values", names.len(), values.len()));
        }
        Ok(names.iter().cloned().zip(values).collect())
    });
    let rounds: Rounds = rounds.collect::<Result<_, _>>()?;
    if rounds.is_empty() { Err("the loop has no values".to_owned()) } else { Ok(rounds) }
}

/// Splits at commas that are not within braces, then each group at its own.
fn groups(arguments: &str) -> Vec<Vec<String>> {
    let mut groups = Vec::new();
    let mut rest = arguments.trim();
    while !rest.is_empty() {
        let (group, after) = match rest.strip_prefix('{') {
            Some(inner) => inner.split_once('}').unwrap_or((inner, "")),
            None => rest.split_once(',').map_or((rest, ""), |(group, _)| (group, &rest[group.len()..])),
        };
        let values = if rest.starts_with('{') { group.split(',').collect() } else { vec![group] };
        groups.push(values.into_iter().map(|value| value.trim().to_owned()).collect());
        let after = after.trim_start();
        rest = after.strip_prefix(',').unwrap_or(after).trim_start();
    }
    groups
}

/// More rounds of one loop than any site has servers.
const ROUNDS_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let rounds = loop_of(text).expect("a loop").map(|found| {
            let round = |round: &Vec<(String, String)>| {
                round.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
            };
            found.rounds.iter().map(round).collect::<Vec<_>>()
        });
        match rounds {
            Ok(rounds) => assert_eq!(rounds, expected, "{text}"),
            Err(error) => assert_eq!([error.as_str()], expected, "{text}"),
        }
    }

    #[test]
    fn loops_count_and_list_as_keepalived_documents_them() {
        check("~SEQ(N, 0, 3) x", &["N=0", "N=1", "N=2", "N=3"]);
        check("~SEQ(N, 2) x", &["N=1", "N=2"]);
        check("~SEQ(N, -2) x", &["N=-1", "N=-2"]);
        check("~SEQ(N,168,2,172) x", &["N=168", "N=170", "N=172"]);
        check("~SEQx(N, 0x90, 0x10, 0xb0) x", &["N=90", "N=a0", "N=b0"]);
        check("~SEQ(N, 3, 1) x", &["N=3", "N=2", "N=1"]);
        check("~LST(IP, 1, 2) x", &["IP=1", "IP=2"]);
        check("~LST({IP, IP1}, {10,1},{20,4}) x", &["IP=10 IP1=1", "IP=20 IP1=4"]);
        check("~SEQ(N, 1, 0, 3) x", &["the loop has a step of 0"]);
        check("~SEQ(N, a) x", &["\"a\" is no number"]);
        check("~SEQ(N, 1, 99999999) x", &["the loop has more than 65536 rounds"]);
        check("~LST(IP) x", &["the loop has no values"]);
        check("~LST({A,B},{1}) x", &["the loop has 2 variables and 1 values"]);
        check("~SEQ(N, 1", &["the loop has no ')'"]);
    }

    #[test]
    fn definitions_are_put_in_where_keepalived_puts_them() {
        let mut definitions = Definitions::new("main", 0);
        definitions.define("A", vec!["1".to_owned()]);
        definitions.define("EMPTY", vec![]);
        definitions.define("TWO", vec!["x {".to_owned(), "}".to_owned()]);
        let mut expand = |text: &str| definitions.expand(text, Path::new("/etc/lb"));
        let line = |text: &str| Expanded::Line(text.to_owned());
        assert_eq!(expand("w $A"), line("w 1"));
        assert_eq!(expand("w $A.2"), Expanded::Same);
        assert_eq!(expand("w ${A}.2"), line("w 1.2"));
        assert_eq!(expand("w ${B}$ $"), Expanded::Same);
        assert_eq!(expand("w${EMPTY}"), line("w"));
        assert_eq!(expand("${_PWD}/x ${_INSTANCE}"), line("/etc/lb/x ${_INSTANCE}"));
        assert_eq!(expand("${_RANDOM 7 7}"), line("7"));
        assert_eq!(expand("$TWO"), Expanded::Lines(vec!["x {".to_owned(), "}".to_owned()]));
    }
}
