//! `sticky cookie`, `sticky route` and `sticky learn`.

use std::time::Duration;

use crate::model::{Learn, Sticky, StickyCookie};
use crate::variable::Value;

use super::Scope;
use super::rules::Fault;
use super::tree::Directive;
use super::value::{parse_seconds, parse_size, parse_time};

/// Reads a `sticky`.
pub(super) fn read(scope: &Scope, directive: &Directive) -> Result<Sticky, Fault> {
    let words = &directive.args[1..];
    match directive.arg(0) {
        "cookie" => cookie(words).map(Sticky::Cookie),
        "route" if !words.is_empty() => {
            let values = words.iter().map(|word| variable(scope, word)).collect::<Result<_, _>>()?;
            Ok(Sticky::Route(values))
        }
        "learn" => learn(scope, words).map(Sticky::Learn),
        word => Err(Fault::parameter(word)),
    }
}

fn cookie(words: &[String]) -> Result<StickyCookie, Fault> {
    let Some((name, words)) = words.split_first() else {
        return Err(Fault::directive("has no name of a cookie"));
    };
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b";,=\"".contains(&byte))
    };
    let mut cookie = StickyCookie { name: name.clone(), expires: None, attributes: String::new() };
    if !is_token(name) {
        return Err(Fault::parameter(name));
    }
    for word in words {
        let invalid = || Fault::parameter(word);
        match (&**word, word.split_once('=')) {
            ("httponly" | "secure", _) => cookie.attributes.push_str(&format!("; {word}")),
            (_, Some(("expires", "max"))) => cookie.expires = Some(FOR_EVER),
            (_, Some(("expires", time))) => cookie.expires = Some(parse_seconds(time).ok_or_else(invalid)?),
            (_, Some((key @ ("domain" | "path"), value))) if is_token(value) => {
                cookie.attributes.push_str(&format!("; {key}={value}"));
            }
            (_, Some(("samesite", value))) => {
                let value = ["strict", "lax", "none"].into_iter().find(|known| *known == value);
                cookie.attributes.push_str(&format!("; samesite={}", value.ok_or_else(invalid)?));
            }
            _ => return Err(invalid()),
        }
    }
    Ok(cookie)
}

fn learn(scope: &Scope, words: &[String]) -> Result<Learn, Fault> {
    let mut learn = Learn {
        create: Vec::new(),
        lookup: Vec::new(),
        zone: String::new(),
        sessions_max: 0,
        timeout: Duration::from_secs(600),
    };
    for word in words {
        let invalid = || Fault::parameter(word);
        match (&**word, word.split_once('=')) {
            (_, Some(("create", value))) => learn.create.push(variable(scope, value)?),
            (_, Some(("lookup", value))) => learn.lookup.push(variable(scope, value)?),
            (_, Some(("timeout", value))) => learn.timeout = parse_time(value).ok_or_else(invalid)?,
            (_, Some(("zone", value))) => {
                let (name, size) = value.split_once(':').ok_or_else(invalid)?;
                let sessions = parse_size(size).map(|size| size / SESSION_SIZE).ok_or_else(invalid)?;
                learn.zone = Some(name.to_owned()).filter(|name| !name.is_empty()).ok_or_else(invalid)?;
                learn.sessions_max =
                    usize::try_from(sessions).ok().filter(|&most| most > 0).ok_or_else(invalid)?;
            }
            // A session is learned from the head of an answer in any case.
            ("header", _) => {}
            _ => return Err(invalid()),
        }
    }
    for (missing, name) in [
        (learn.create.is_empty(), "create"),
        (learn.lookup.is_empty(), "lookup"),
        (learn.zone.is_empty(), "zone"),
    ] {
        if missing {
            return Err(Fault::directive(format!("must have \"{name}\"")));
        }
    }
    Ok(learn)
}

fn variable(scope: &Scope, word: &str) -> Result<Value, Fault> {
    if !word.starts_with('$') {
        return Err(Fault::parameter(word));
    }
    Ok(Value::parse(word, &scope.names)?)
}

/// What a session takes of a zone.
const SESSION_SIZE: u64 = 256;

/// nginx's `max`: into the year 2037, give or take.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
