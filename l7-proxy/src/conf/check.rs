//! `health_check` and the `match {}` that it goes by.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::model::{
    Cadence, Expected, Field, FieldTest, GrpcCheck, Handler, HealthCheck, Holds, Location, PassModule,
    Pattern, ProxyPass, Statuses, Unchecked,
};
use crate::variable::Value;

use super::rules::{ANY, Context, Fault, Rule, Syntax};
use super::server::pattern_fault;
use super::settings::field_name;
use super::tree::Directive;
use super::value::{parse_number, parse_time};
use super::{Error, Scope};

/// How a `match` is written.
pub(super) const SYNTAX: &[Syntax] = &[Syntax {
    name: "match",
    contexts: Context::HTTP.or(Context::STREAM),
    args: 1..=1,
    block: Some(Context::DATA),
}];

/// What fills in a location's check.
pub(super) const RULES: &[Rule<Location>] =
    &[Rule::new("health_check", Context::LOCATION, 0..=ANY, health_check)];

/// Reads the `match {}` blocks, which checks name.
pub(super) fn read_all(scope: &mut Scope, block: &[Directive]) -> Result<(), Error> {
    for directive in block.iter().filter(|directive| directive.name == "match") {
        let name = directive.arg(0).to_owned();
        let mut expected = Expected { name: name.clone(), ..Expected::default() };
        for line in &directive.block {
            add(scope, &mut expected, line).map_err(|fault| fault.at(line))?;
        }
        if scope.matches.insert(name.clone(), Arc::new(expected)).is_some() {
            return Err(Error::at(&directive.place, format!("duplicate match \"{name}\"")));
        }
    }
    Ok(())
}

fn add(scope: &Scope, expected: &mut Expected, line: &Directive) -> Result<(), Fault> {
    let words: Vec<&str> = line.args.iter().map(|word| &**word).collect();
    match (&*line.name, &*words) {
        ("status", [..]) if !words.is_empty() && expected.status.is_none() => {
            let (holds, words) = match words.split_first() {
                Some((&"!", rest)) if !rest.is_empty() => (Holds::No, rest),
                _ => (Holds::Yes, &*words),
            };
            let ranges = words.iter().map(|word| statuses(word)).collect::<Result<_, _>>()?;
            expected.status = Some(Statuses { holds, ranges });
            Ok(())
        }
        ("status", _) if expected.status.is_some() => Err(Fault::directive("is duplicate")),
        ("header", [..]) => {
            expected.fields.push(field(&words)?);
            Ok(())
        }
        ("body", _) if expected.body.is_some() => Err(Fault::directive("is duplicate")),
        ("body", [sign @ ("~" | "!~"), text]) => {
            let holds = if *sign == "~" { Holds::Yes } else { Holds::No };
            expected.body = Some((holds, pattern(text)?));
            Ok(())
        }
        ("require", [_, ..]) => {
            for word in words {
                expected.required.push((word.to_owned(), variable(scope, word)?));
            }
            Ok(())
        }
        ("status" | "body" | "require", _) => Err(Fault::directive("has invalid parameters")),
        (name, _) => Err(Fault::new(format!("unknown directive \"{name}\""))),
    }
}

/// Reads `$NAME`.
fn variable(scope: &Scope, word: &str) -> Result<Value, Fault> {
    let value = Value::parse(word, &scope.names)?;
    let alone = value.variables().next().cloned().map(Value::variable);
    match alone.is_some_and(|alone| alone == value) {
        true => Ok(value),
        false => Err(Fault::new(format!("invalid variable name \"{word}\""))),
    }
}

/// Reads `200` or `200-399`.
fn statuses(word: &str) -> Result<RangeInclusive<u16>, Fault> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let range = parse_number(first).zip(parse_number(last)).map(|(first, last): (u16, u16)| first..=last);
    range.filter(|range| !range.is_empty() && range.contains(range.end())).ok_or_else(|| Fault::value(word))
}

/// Reads `NAME`, `! NAME`, `NAME = VALUE`, `NAME != VALUE`, `NAME ~ EXPRESSION` or `NAME !~ EXPRESSION`.
fn field(words: &[&str]) -> Result<Field, Fault> {
    let (holds, name, test) = match *words {
        [name] => (Holds::Yes, name, FieldTest::IsThere),
        ["!", name] => (Holds::No, name, FieldTest::IsThere),
        [name, "=", value] => (Holds::Yes, name, FieldTest::Is(value.to_owned())),
        [name, "!=", value] => (Holds::No, name, FieldTest::Is(value.to_owned())),
        [name, "~", text] => (Holds::Yes, name, FieldTest::Matches(pattern(text)?)),
        [name, "!~", text] => (Holds::No, name, FieldTest::Matches(pattern(text)?)),
        _ => return Err(Fault::directive("has invalid parameters")),
    };
    Ok(Field { holds, name: field_name(name)?, test })
}

pub(super) fn pattern(text: &str) -> Result<Pattern, Fault> {
    Pattern::new(text).map_err(|error| pattern_fault(text, &error))
}

/// Reads a parameter of `health_check` that checks of all kinds have.
pub(super) fn keep_time(cadence: &mut Cadence, word: &str, directive: &Directive) -> Result<(), Fault> {
    let invalid = || Fault::parameter(word);
    let count = |value: &str| parse_number(value).filter(|&count| count > 0).ok_or_else(invalid);
    match parts(word) {
        ("interval", Some(value)) => {
            let interval = parse_time(value).filter(|time| !time.is_zero());
            cadence.interval = interval.ok_or_else(invalid)?;
        }
        ("jitter", Some(value)) => cadence.jitter = parse_time(value).ok_or_else(invalid)?,
        ("fails", Some(value)) => cadence.fails = count(value)?,
        ("passes", Some(value)) => cadence.passes = count(value)?,
        ("port", Some(value)) => {
            cadence.port = Some(parse_number(value).filter(|&port| port > 0).ok_or_else(invalid)?);
        }
        ("mandatory", None) => cadence.unchecked = Unchecked::Down,
        // What a server was found to be outlives a reload in any case.
        ("persistent", None) if directive.args.iter().any(|word| word == "mandatory") => {}
        _ => return Err(invalid()),
    }
    Ok(())
}

/// Splits `KEY=VALUE` or `WORD`.
pub(super) fn parts(word: &str) -> (&str, Option<&str>) {
    word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value)))
}

fn health_check(scope: &mut Scope, location: &mut Location, directive: &Directive) -> Result<(), Fault> {
    let mut check = HealthCheck::default();
    for word in &directive.args {
        let invalid = || Fault::parameter(word);
        let (key, value) = parts(word);
        match (key, value) {
            ("uri", Some(value)) => {
                let is_uri = value.starts_with('/') && value.bytes().all(|byte| byte.is_ascii_graphic());
                check.uri = Some(value.to_owned()).filter(|_| is_uri).ok_or_else(invalid)?;
            }
            ("match", Some(name)) => {
                let found = scope.matches.get(name).cloned();
                check.expected = found.ok_or_else(|| Fault::new(format!("match \"{name}\" not found")))?;
            }
            ("keepalive_time", Some(value)) => {
                check.keepalive_time = parse_time(value).ok_or_else(invalid)?
            }
            ("type", Some("http")) => check.grpc = None,
            ("type", Some("grpc")) => check.grpc = Some(GrpcCheck { service: String::new(), status: None }),
            ("grpc_service" | "grpc_status", Some(value)) => {
                let misplaced = || Fault::new(format!("\"{key}\" must follow \"type=grpc\""));
                let grpc = check.grpc.as_mut().ok_or_else(misplaced)?;
                match key {
                    "grpc_service" if value.len() < 128 => grpc.service = value.to_owned(),
                    "grpc_status" => grpc.status = Some(parse_number(value).ok_or_else(invalid)?),
                    _ => return Err(invalid()),
                }
            }
            _ => keep_time(&mut check.cadence, word, directive)?,
        }
    }
    let names = |key: &str| directive.args.iter().any(|word| word.starts_with(key));
    if check.grpc.is_some() && (names("uri=") || names("match=")) {
        return Err(Fault::new("\"uri\" and \"match\" have no meaning with \"type=grpc\""));
    }
    let Handler::Proxy(ProxyPass { upstream: Some(upstream), module, url, .. }) = &location.handler else {
        return Err(Fault::directive("needs a \"proxy_pass\" in its location"));
    };
    if check.grpc.is_some() && *module != PassModule::Grpc {
        return Err(Fault::new("\"type=grpc\" needs a \"grpc_pass\" in its location"));
    }
    if !scope.checked.insert(*upstream) {
        return Err(Fault::new(format!("the servers of \"{url}\" are checked by another \"health_check\"")));
    }
    location.health_check = Some(check);
    Ok(())
}
