//! Directives that say what becomes of an answer: fields added, hidden and rewritten, and how long
//! it is good for.

use std::time::Duration;

use crate::model::{
    AddHeader, CookieFlags, Errors, Expires, ExpiresFrom, ExpiryTime, Inheritance, Pattern, RedirectRule,
    RedirectRules, Replace, ServerRanges, Settings, Subject, Trailers, When,
};
use crate::variable::Value;

use super::proxy::proxy;
use super::rules::{ANY, Context, Fault, Rule};
use super::server::pattern_fault;
use super::settings::field_name;
use super::tree::Directive;
use super::value::{flag, parse_seconds};
use super::{Error, Scope};

/// What fills in the answers' part of [`Settings`].
pub(super) const RULES: &[Rule<Settings>] = &[
    Rule::new("add_header", Context::SETTINGS_IF, 2..=3, |scope, settings: &mut Settings, directive| {
        let field = added(scope, directive)?;
        settings.add_headers.push(field);
        Ok(())
    })
    .many(|_| {}),
    Rule::new("add_trailer", Context::SETTINGS_IF, 2..=3, |scope, settings: &mut Settings, directive| {
        let field = added(scope, directive)?;
        settings.add_trailers.push(field);
        Ok(())
    })
    .many(|_| {}),
    Rule::new("expires", Context::SETTINGS_IF, 1..=2, expires),
    Rule::new("early_hints", Context::SETTINGS, 1..=ANY, early_hints),
    Rule::new("proxy_hide_header", Context::SETTINGS, 1..=1, |_, settings, directive| {
        let name = field_name(directive.arg(0))?;
        proxy(settings).relay.hide.push(name);
        Ok(())
    })
    .many(|settings| proxy(settings).relay.hide.clear()),
    Rule::new("proxy_pass_header", Context::SETTINGS, 1..=1, |_, settings, directive| {
        let name = field_name(directive.arg(0))?;
        proxy(settings).relay.pass.push(name);
        Ok(())
    })
    .many(|settings| proxy(settings).relay.pass.clear()),
    Rule::new("proxy_ignore_headers", Context::SETTINGS, 1..=ANY, |scope, settings, directive| {
        scope.note_repeated(directive);
        proxy(settings).relay.ignore =
            directive.args.iter().map(|word| ignored(word)).collect::<Result<_, _>>()?;
        Ok(())
    }),
    Rule::new("proxy_intercept_errors", Context::SETTINGS, 1..=1, |_, settings, directive| {
        proxy(settings).relay.errors = if flag(directive)? { Errors::Intercepted } else { Errors::Passed };
        Ok(())
    }),
    Rule::new("proxy_pass_trailers", Context::SETTINGS, 1..=1, |_, settings, directive| {
        let passed = flag(directive)?;
        proxy(settings).relay.trailers = if passed { Trailers::Passed } else { Trailers::Dropped };
        Ok(())
    }),
    Rule::new("proxy_force_ranges", Context::SETTINGS, 1..=1, |_, settings, directive| {
        let forced = flag(directive)?;
        proxy(settings).relay.ranges = if forced { ServerRanges::Forced } else { ServerRanges::AsSent };
        Ok(())
    }),
    Rule::new("proxy_redirect", Context::SETTINGS, 1..=2, redirect)
        .many(|settings| proxy(settings).relay.redirect = RedirectRules::Rules(Vec::new())),
    Rule::new("proxy_cookie_domain", Context::SETTINGS, 1..=2, |scope, settings, directive| {
        if let Some(rule) = replace(scope, directive)? {
            proxy(settings).relay.cookie_domain.push(rule);
        }
        Ok(())
    })
    .many(|settings| proxy(settings).relay.cookie_domain.clear()),
    Rule::new("proxy_cookie_path", Context::SETTINGS, 1..=2, |scope, settings, directive| {
        if let Some(rule) = replace(scope, directive)? {
            proxy(settings).relay.cookie_path.push(rule);
        }
        Ok(())
    })
    .many(|settings| proxy(settings).relay.cookie_path.clear()),
    Rule::new("proxy_cookie_flags", Context::SETTINGS, 1..=4, cookie_flags)
        .many(|settings| proxy(settings).relay.cookie_flags.clear()),
];

/// What a block has of the fields that outer blocks add.
pub(super) const INHERITANCE: &[Rule<Settings>] = &[
    Rule::new("add_header_inherit", Context::SETTINGS_IF, 1..=1, |_, settings, directive| {
        settings.inherit.headers = inheritance(directive)?;
        Ok(())
    }),
    Rule::new("add_trailer_inherit", Context::SETTINGS_IF, 1..=1, |_, settings, directive| {
        settings.inherit.trailers = inheritance(directive)?;
        Ok(())
    }),
];

fn inheritance(directive: &Directive) -> Result<Inheritance, Fault> {
    match directive.arg(0) {
        "on" => Ok(Inheritance::On),
        "off" => Ok(Inheritance::Off),
        "merge" => Ok(Inheritance::Merge),
        word => Err(Fault::value(word)),
    }
}

/// Takes back those fields of outer blocks that do not hold in this one.
pub(super) fn disinherit(settings: &mut Settings, block: &[Directive]) {
    let adds = |name: &str| block.iter().any(|directive| directive.name == name);
    let goes = |inheritance: Inheritance, name: &str| match inheritance {
        Inheritance::On => adds(name),
        Inheritance::Off => true,
        Inheritance::Merge => false,
    };
    if goes(settings.inherit.headers, "add_header") {
        settings.add_headers.clear();
    }
    if goes(settings.inherit.trailers, "add_trailer") {
        settings.add_trailers.clear();
    }
}

fn added(scope: &Scope, directive: &Directive) -> Result<AddHeader, Fault> {
    let written = directive.arg(0).to_owned();
    let name = field_name(&written)?;
    let value = Value::parse(directive.arg(1), &scope.names)?;
    let when = match directive.args.get(2).map(|word| &**word) {
        None => When::Good,
        Some("always") => When::Always,
        Some(word) => return Err(Fault::parameter(word)),
    };
    Ok(AddHeader { name, written, value, when })
}

fn expires(scope: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    let (from, word) = match &*directive.args {
        [word] => (ExpiresFrom::Access, word),
        [modified, word] if modified == "modified" => (ExpiresFrom::Modified, word),
        _ => return Err(Fault::directive("invalid value")),
    };
    settings.expires = if word.contains('$') {
        Expires::Value { from, text: Value::parse(word, &scope.names)? }
    } else {
        let invalid = || match word.strip_prefix('@').and_then(parse_seconds) {
            Some(_) if from == ExpiresFrom::Modified => {
                Fault::directive("daily time cannot be used with \"modified\" parameter")
            }
            Some(_) => Fault::directive("daily time value must be less than 24 hours"),
            None => Fault::directive("invalid value"),
        };
        let time = parse_expires(word, from).ok_or_else(invalid)?;
        Expires::Known(time)
    };
    Ok(())
}

/// `early_hints CONDITION…`
fn early_hints(scope: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    let values = directive.args.iter().map(|word| Value::parse(word, &scope.names));
    settings.early_hints = values.collect::<Result<_, _>>()?;
    Ok(())
}

/// Reads an argument of `expires`.
pub(crate) fn parse_expires(word: &str, from: ExpiresFrom) -> Option<ExpiryTime> {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    if from == ExpiresFrom::Access {
        match word {
            "epoch" => return Some(ExpiryTime::Epoch),
            "max" => return Some(ExpiryTime::Max),
            "off" => return Some(ExpiryTime::Off),
            _ => {}
        }
        if let Some(time) = word.strip_prefix('@') {
            return parse_seconds(time).filter(|time| *time < DAY).map(ExpiryTime::Daily);
        }
    }
    match word.strip_prefix('-') {
        Some(time) => Some(ExpiryTime::Before(from, parse_seconds(time)?)),
        None => Some(ExpiryTime::After(from, parse_seconds(word.strip_prefix('+').unwrap_or(word))?)),
    }
}

fn ignored(word: &str) -> Result<http::HeaderName, Fault> {
    const KNOWN: [&str; 9] = [
        "X-Accel-Redirect",
        "X-Accel-Expires",
        "X-Accel-Limit-Rate",
        "X-Accel-Buffering",
        "X-Accel-Charset",
        "Expires",
        "Cache-Control",
        "Set-Cookie",
        "Vary",
    ];
    if !KNOWN.iter().any(|known| known.eq_ignore_ascii_case(word)) {
        return Err(Fault::value(word));
    }
    field_name(word)
}

/// Refuses what `off` and `default` cannot stand beside.
pub(super) fn check_rewrites(block: &[Directive]) -> Result<(), Error> {
    for (place, directive) in block.iter().enumerate() {
        let name = &*directive.name;
        let is_off = |directive: &Directive| matches!(&*directive.args, [word] if word == "off");
        let before = &block[..place];
        let mut others = before.iter().filter(|other| other.name == name);
        match (name, &*directive.args) {
            ("proxy_redirect" | "proxy_cookie_domain" | "proxy_cookie_path" | "proxy_cookie_flags", _)
                if others.clone().any(is_off) || is_off(directive) && others.next().is_some() =>
            {
                return Err(Fault::directive("is duplicate").at(directive));
            }
            ("proxy_redirect", [word]) if word == "default" => {
                let pass = before.iter().find(|other| other.name == "proxy_pass");
                let fault = match pass {
                    None => "\"proxy_redirect default\" should be placed after the \"proxy_pass\" directive",
                    Some(pass) if pass.arg(0).contains('$') => {
                        "\"proxy_redirect default\" cannot be used with \"proxy_pass\" directive with variables"
                    }
                    Some(_) => continue,
                };
                return Err(Fault::new(fault).at(directive));
            }
            _ => {}
        }
    }
    Ok(())
}

fn redirect(scope: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    let rule = match &*directive.args {
        [word] if word == "off" => {
            proxy(settings).relay.redirect = RedirectRules::Off;
            return Ok(());
        }
        [word] if word == "default" => RedirectRule::Default,
        [word] => return Err(Fault::parameter(word)),
        _ => RedirectRule::Replace(Replace {
            what: subject(scope, directive)?,
            by: Value::parse(directive.arg(1), &scope.names)?,
        }),
    };
    if let RedirectRules::Rules(rules) = &mut proxy(settings).relay.redirect {
        rules.push(rule);
    }
    Ok(())
}

/// Reads what is replaced and by what; `None` for `off`.
fn replace(scope: &Scope, directive: &Directive) -> Result<Option<Replace>, Fault> {
    match &*directive.args {
        [word] if word == "off" => Ok(None),
        [word] => Err(Fault::parameter(word)),
        _ => Ok(Some(Replace {
            what: subject(scope, directive)?,
            by: Value::parse(directive.arg(1), &scope.names)?,
        })),
    }
}

fn subject(scope: &Scope, directive: &Directive) -> Result<Subject, Fault> {
    let word = directive.arg(0);
    let Some(source) = word.strip_prefix('~') else {
        return Ok(Subject::Text(Value::parse(word, &scope.names)?));
    };
    let pattern = match source.strip_prefix('*') {
        Some(source) => Pattern::new_ignoring_case(source),
        // Domains have no case.
        None if directive.name == "proxy_cookie_domain" => Pattern::new_ignoring_case(source),
        None => Pattern::new(source),
    };
    let pattern = pattern.map_err(|error| pattern_fault(source, &error))?;
    Scope::check_names(&pattern)?;
    Ok(Subject::Pattern(pattern))
}

fn cookie_flags(scope: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    let cookie = match (directive.arg(0), directive.args.len()) {
        ("off", 1) => return Ok(()),
        (word, 1) => return Err(Fault::parameter(word)),
        // Names of cookies are compared without regard to case.
        (word, _) => match word.strip_prefix('~') {
            Some(source) => Subject::Pattern(
                Pattern::new_ignoring_case(source).map_err(|error| pattern_fault(source, &error))?,
            ),
            None => Subject::Text(Value::parse(word, &scope.names)?),
        },
    };
    let mut flags = Vec::new();
    for word in &directive.args[1..] {
        if !word.contains('$') && !FLAGS.contains(&&*word.to_ascii_lowercase()) {
            return Err(Fault::new(format!("invalid \"proxy_cookie_flags\" parameter \"{word}\"")));
        }
        flags.push(Value::parse(word, &scope.names)?);
    }
    proxy(settings).relay.cookie_flags.push(CookieFlags { cookie, flags });
    Ok(())
}

/// What cookies can get or lose.
const FLAGS: [&str; 9] = [
    "secure",
    "nosecure",
    "httponly",
    "nohttponly",
    "samesite",
    "samesite=strict",
    "samesite=lax",
    "samesite=none",
    "nosamesite",
];
