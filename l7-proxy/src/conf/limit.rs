//! `limit_conn` and `limit_req` with their zones.

use std::sync::Arc;

use crate::model::{
    ConnectionsLimit, Enforcement, Excess, Limits, RequestsLimit, Settings, Zone, ZoneId, ZoneKind,
};
use crate::variable::Value;

use super::Scope;
use super::core::level;
use super::rules::{Context, Fault, Rule};
use super::tree::Directive;
use super::value::{choice, flag, parse_number, parse_size};

/// Zones go into the scope, where limits find them.
pub(super) const ZONES: &[Rule<()>] = &[
    Rule::new("limit_conn_zone", Context::HTTP, 2..=2, |scope, (), directive| {
        let (name, size) = zone(directive, 1)?;
        define(
            scope,
            directive,
            Zone { name, size, key: key(scope, directive)?, kind: ZoneKind::Connections },
        )
    })
    .many(|()| {}),
    Rule::new("limit_req_zone", Context::HTTP, 3..=4, requests_zone).many(|()| {}),
];

/// What fills in the [`Limits`] of [`Settings`].
pub(super) const RULES: &[Rule<Settings>] = &[
    Rule::new("limit_conn", Context::SETTINGS, 2..=2, connections)
        .many(|settings| limits(settings).connections.clear()),
    Rule::new("limit_conn_status", Context::SETTINGS, 1..=1, |_, settings, directive| {
        limits(settings).on_connections.status = status(directive)?;
        Ok(())
    }),
    Rule::new("limit_conn_log_level", Context::SETTINGS, 1..=1, |_, settings, directive| {
        log_level(&mut limits(settings).on_connections, directive)
    }),
    Rule::new("limit_conn_dry_run", Context::SETTINGS, 1..=1, |_, settings, directive| {
        limits(settings).on_connections.enforcement = enforcement(directive)?;
        Ok(())
    }),
    Rule::new("limit_req", Context::SETTINGS, 1..=3, requests)
        .many(|settings| limits(settings).requests.clear()),
    Rule::new("limit_req_status", Context::SETTINGS, 1..=1, |_, settings, directive| {
        limits(settings).on_requests.status = status(directive)?;
        Ok(())
    }),
    Rule::new("limit_req_log_level", Context::SETTINGS, 1..=1, |_, settings, directive| {
        log_level(&mut limits(settings).on_requests, directive)
    }),
    Rule::new("limit_req_dry_run", Context::SETTINGS, 1..=1, |_, settings, directive| {
        limits(settings).on_requests.enforcement = enforcement(directive)?;
        Ok(())
    }),
];

fn limits(settings: &mut Settings) -> &mut Limits {
    Arc::make_mut(&mut settings.limits)
}

fn key(scope: &Scope, directive: &Directive) -> Result<Value, Fault> {
    Ok(Value::parse(directive.arg(0), &scope.names)?)
}

/// Reads `zone=NAME:SIZE` as argument `place`.
pub(super) fn zone(directive: &Directive, place: usize) -> Result<(String, u64), Fault> {
    let word = directive.arg(place);
    let Some(zone) = word.strip_prefix("zone=") else { return Err(Fault::parameter(word)) };
    let invalid = || Fault::new(format!("invalid zone size \"{word}\""));
    let (name, size) = zone.split_once(':').ok_or_else(invalid)?;
    let size = parse_size(size).ok_or_else(invalid)?;
    if size < ZONE_MIN {
        return Err(Fault::new(format!("zone \"{word}\" is too small")));
    }
    if name.is_empty() {
        return Err(must_have(directive, "zone"));
    }
    Ok((name.to_owned(), size))
}

/// Returns that a parameter is missing.
pub(super) fn must_have(directive: &Directive, parameter: &str) -> Fault {
    Fault::new(format!("\"{}\" must have \"{parameter}\" parameter", directive.name))
}

/// Eight pages, as in nginx.
pub(super) const ZONE_MIN: u64 = 8 * 4096;

fn requests_zone(scope: &mut Scope, (): &mut (), directive: &Directive) -> Result<(), Fault> {
    let mut rate = DEFAULT_RATE;
    let mut found = None;
    for (place, word) in directive.args.iter().enumerate().skip(1) {
        match word.split_once('=') {
            Some(("zone", _)) => found = Some(zone(directive, place)?),
            Some(("rate", text)) => {
                rate = parse_rate(text).ok_or_else(|| Fault::new(format!("invalid rate \"{word}\"")))?;
            }
            // It is for several machines that share a zone.
            None if word == "sync" => return Err(Fault::unsupported(word, directive)),
            _ => return Err(Fault::parameter(word)),
        }
    }
    let (name, size) = found.ok_or_else(|| must_have(directive, "zone"))?;
    let key = key(scope, directive)?;
    define(scope, directive, Zone { name, size, key, kind: ZoneKind::Requests { rate } })
}

/// One request per second, in thousandths.
const DEFAULT_RATE: u64 = 1000;

/// Reads `10r/s` or `30r/m`, or a number alone, which is per second; in thousandths of a request per second.
fn parse_rate(text: &str) -> Option<u64> {
    let (count, seconds) = match text.strip_suffix("r/s") {
        Some(count) => (count, 1),
        None => text.strip_suffix("r/m").map_or((text, 1), |count| (count, 60)),
    };
    let rate = parse_number::<u64>(count).filter(|&count| count > 0)?;
    Some(rate.saturating_mul(1000) / seconds)
}

fn define(scope: &mut Scope, directive: &Directive, zone: Zone) -> Result<(), Fault> {
    if scope.caches.iter().any(|cache| cache.name == zone.name) {
        return Err(other_use(&zone.name));
    }
    if let Some(known) = scope.zones.iter().find(|known| known.name == zone.name) {
        let (Directive { name, .. }, key) = (directive, directive.arg(0));
        return Err(match std::mem::discriminant(&known.kind) == std::mem::discriminant(&zone.kind) {
            true => Fault::new(format!("{name} \"{}\" is already bound to key \"{key}\"", zone.name)),
            false => other_use(&zone.name),
        });
    }
    scope.zones.push(zone);
    Ok(())
}

/// Returns the zone that a limit names, if it counts what the limit is about.
fn named(scope: &Scope, name: &str, counts: fn(&ZoneKind) -> bool) -> Result<ZoneId, Fault> {
    let place = scope.zones.iter().position(|zone| zone.name == name);
    let Some(place) = place else {
        return Err(Fault::new(format!("zero size shared memory zone \"{name}\"")));
    };
    match counts(&scope.zones[place].kind) {
        true => Ok(ZoneId(place)),
        false => Err(other_use(name)),
    }
}

pub(super) fn other_use(zone: &str) -> Fault {
    Fault::new(format!("the shared memory zone \"{zone}\" is already declared for a different use"))
}

fn connections(scope: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    let most = most(directive)?;
    let zone = named(scope, directive.arg(0), |kind| matches!(kind, ZoneKind::Connections))?;
    let limits = limits(settings);
    if limits.connections.iter().any(|limit| limit.zone == zone) {
        return Err(Fault::directive("is duplicate"));
    }
    limits.connections.push(ConnectionsLimit { zone, most });
    Ok(())
}

/// Reads how many connections argument 1 lets in.
pub(super) fn most(directive: &Directive) -> Result<u32, Fault> {
    let word = directive.arg(1);
    let most: Option<u64> = parse_number(word).filter(|&most| most > 0);
    let most = most.ok_or_else(|| Fault::new(format!("invalid number of connections \"{word}\"")))?;
    let most = u32::try_from(most).ok().filter(|&most| most <= 65_535);
    most.ok_or_else(|| Fault::new("connection limit must be less 65536"))
}

fn requests(scope: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    let (mut zone, mut burst, mut undelayed) = (None, 0, Some(0));
    for word in &directive.args {
        match (&**word, word.split_once('=')) {
            (_, Some(("zone", name))) => {
                zone = Some(named(scope, name, |kind| matches!(kind, ZoneKind::Requests { .. }))?);
            }
            (_, Some(("burst", number))) => {
                let number = parse_number(number).filter(|&number| number > 0);
                burst = number.ok_or_else(|| Fault::new(format!("invalid burst value \"{word}\"")))?;
            }
            (_, Some(("delay", number))) => {
                let number = parse_number(number).filter(|&number: &u32| number > 0);
                undelayed =
                    Some(number.ok_or_else(|| Fault::new(format!("invalid delay value \"{word}\"")))?);
            }
            ("nodelay", None) => undelayed = None,
            _ => return Err(Fault::parameter(word)),
        }
    }
    let zone = zone.ok_or_else(|| must_have(directive, "zone"))?;
    let limits = limits(settings);
    if limits.requests.iter().any(|limit| limit.zone == zone) {
        return Err(Fault::directive("is duplicate"));
    }
    limits.requests.push(RequestsLimit { zone, burst, undelayed });
    Ok(())
}

fn status(directive: &Directive) -> Result<u16, Fault> {
    let word = directive.arg(0);
    let status: u64 = parse_number(word).ok_or_else(|| Fault::directive("invalid number"))?;
    let status = u16::try_from(status).ok().filter(|status| (400..=599).contains(status));
    status.ok_or_else(|| Fault::new("value must be between 400 and 599"))
}

/// Reads the level of the lines about what is beyond a limit.
pub(super) fn log_level(excess: &mut Excess, directive: &Directive) -> Result<(), Fault> {
    let word = choice(directive);
    let known = ["info", "notice", "warn", "error"].contains(&&*word);
    let level = level(&word).filter(|_| known);
    excess.level = level.ok_or_else(|| Fault::value(directive.arg(0)))?;
    Ok(())
}

/// Reads whether a limit is only tried.
pub(super) fn enforcement(directive: &Directive) -> Result<Enforcement, Fault> {
    Ok(if flag(directive)? { Enforcement::DryRun } else { Enforcement::On })
}
