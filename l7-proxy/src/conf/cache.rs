//! `proxy_cache` and all that belongs to it, and `proxy_store`.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::model::{
    CacheId, CacheRules, CacheUse, CacheValid, CacheZone, Rhythm, Settings, Storing, TemporaryFiles, UseStale,
};
use crate::variable::Value;

use super::limit::{must_have, other_use};
use super::proxy::proxy;
use super::rules::{ANY, Context, Fault, Rule};
use super::tree::Directive;
use super::value::{
    flag, number, offset, parse_number, parse_offset, parse_seconds, parse_size, parse_time, time,
};
use super::{Error, Scope};

/// Zones go into the scope, where locations find them.
pub(super) const ZONES: &[Rule<()>] =
    &[Rule::new("proxy_cache_path", Context::HTTP, 2..=ANY, path).many(|()| {})];

/// What fills in how answers are kept.
pub(super) const RULES: &[Rule<Settings>] = &[
    Rule::new("proxy_cache", Context::SETTINGS, 1..=1, zone),
    Rule::new("proxy_store", Context::SETTINGS, 1..=1, store),
    Rule::new("proxy_store_access", Context::SETTINGS, 1..=3, |_, settings, directive| {
        proxy(settings).store_access = access(directive)?;
        Ok(())
    }),
    Rule::new("proxy_cache_key", Context::SETTINGS, 1..=1, |scope, settings, directive| {
        rules(settings).key = Some(Value::parse(directive.arg(0), &scope.names)?);
        Ok(())
    }),
    Rule::new("proxy_cache_valid", Context::SETTINGS, 1..=ANY, valid)
        .many(|settings| rules(settings).valid.clear()),
    Rule::new("proxy_cache_methods", Context::SETTINGS, 1..=ANY, methods),
    Rule::new("proxy_cache_min_uses", Context::SETTINGS, 1..=1, |_, settings, directive| {
        rules(settings).min_uses = number(directive)?;
        Ok(())
    }),
    Rule::new("proxy_cache_bypass", Context::SETTINGS, 1..=ANY, |scope, settings, directive| {
        conditions(scope, directive, &mut rules(settings).bypass)
    })
    .many(|settings| rules(settings).bypass.clear()),
    Rule::new("proxy_no_cache", Context::SETTINGS, 1..=ANY, |scope, settings, directive| {
        conditions(scope, directive, &mut rules(settings).no_cache)
    })
    .many(|settings| rules(settings).no_cache.clear()),
    Rule::new("proxy_cache_use_stale", Context::SETTINGS, 1..=ANY, use_stale),
    Rule::new("proxy_cache_background_update", Context::SETTINGS, 1..=1, |_, settings, directive| {
        rules(settings).background_update = flag(directive)?;
        Ok(())
    }),
    Rule::new("proxy_cache_lock", Context::SETTINGS, 1..=1, |_, settings, directive| {
        rules(settings).lock = flag(directive)?;
        Ok(())
    }),
    Rule::new("proxy_cache_lock_timeout", Context::SETTINGS, 1..=1, |_, settings, directive| {
        rules(settings).lock_timeout = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("proxy_cache_lock_age", Context::SETTINGS, 1..=1, |_, settings, directive| {
        rules(settings).lock_age = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("proxy_cache_revalidate", Context::SETTINGS, 1..=1, |_, settings, directive| {
        rules(settings).revalidate = flag(directive)?;
        Ok(())
    }),
    Rule::new("proxy_cache_convert_head", Context::SETTINGS, 1..=1, |_, settings, directive| {
        rules(settings).convert_head = flag(directive)?;
        Ok(())
    }),
    Rule::new("proxy_cache_max_range_offset", Context::SETTINGS, 1..=1, |_, settings, directive| {
        rules(settings).max_range_offset = Some(offset(directive)?);
        Ok(())
    }),
    Rule::new("proxy_temp_path", Context::SETTINGS, 1..=4, |scope, settings, directive| {
        // Folders below it would spread files that are here but while they come.
        for level in &directive.args[1..] {
            if !matches!(parse_number::<u8>(level), Some(1..=3)) {
                return Err(Fault::directive("invalid value"));
            }
        }
        rules(settings).temporary = scope.path(directive.arg(0)).into();
        Ok(())
    }),
    Rule::new("proxy_buffering", Context::SETTINGS, 1..=1, |_, settings, directive| {
        rules(settings).buffering = flag(directive)?;
        Ok(())
    }),
];

pub(super) fn rules(settings: &mut Settings) -> &mut CacheRules {
    Arc::make_mut(&mut proxy(settings).cache_rules)
}

fn path(scope: &mut Scope, (): &mut (), directive: &Directive) -> Result<(), Fault> {
    let folder = scope.path(directive.arg(0).trim_end_matches('/'));
    let mut keys = None;
    let mut zone = CacheZone::new("", folder, 0);
    for word in &directive.args[1..] {
        let (name, value) = word.split_once('=').ok_or_else(|| Fault::parameter(word))?;
        let invalid = || Fault::new(format!("invalid {name} value \"{word}\""));
        match name {
            "levels" => zone.levels = levels(word, value)?,
            "use_temp_path" => {
                zone.temporary = match value {
                    "on" => TemporaryFiles::Apart,
                    "off" => TemporaryFiles::Within,
                    _ => {
                        return Err(Fault::new(format!(
                            "invalid use_temp_path value \"{word}\", it must be \"on\" or \"off\""
                        )));
                    }
                }
            }
            "keys_zone" => keys = Some(keys_zone(word, value)?),
            "inactive" => zone.inactive = parse_seconds(value).ok_or_else(invalid)?,
            "max_size" => zone.max_size = Some(parse_offset(value).ok_or_else(invalid)?),
            "min_free" => zone.min_free = parse_offset(value).ok_or_else(invalid)?,
            "purger" | "purger_files" | "purger_sleep" | "purger_threshold" => {
                return Err(Fault::unsupported(name, directive));
            }
            _ => rhythm(&mut zone, name, value).ok_or_else(|| Fault::parameter(word))?.ok_or_else(invalid)?,
        }
    }
    (zone.name, zone.keys_size) = keys.ok_or_else(|| must_have(directive, "keys_zone"))?;
    define(scope, zone)
}

/// Reads `1:2`: folders of names with one digit, and in each some with two.
fn levels(word: &str, value: &str) -> Result<Vec<u8>, Fault> {
    let invalid = || Fault::new(format!("invalid \"levels\" \"{word}\""));
    let level = |level: &str| match level {
        "1" => Some(1),
        "2" => Some(2),
        _ => None,
    };
    let levels: Option<Vec<u8>> = value.split(':').map(level).collect();
    levels.filter(|levels| levels.len() <= 3).ok_or_else(invalid)
}

fn keys_zone(word: &str, value: &str) -> Result<(String, u64), Fault> {
    let invalid = || Fault::new(format!("invalid keys zone size \"{word}\""));
    let (name, size) = value.split_once(':').ok_or_else(invalid)?;
    let size = parse_size(size).ok_or_else(invalid)?;
    if size < KEYS_MIN {
        return Err(Fault::new(format!("keys zone \"{word}\" is too small")));
    }
    if name.is_empty() { Err(invalid()) } else { Ok((name.to_owned(), size)) }
}

/// Two pages, as in nginx.
const KEYS_MIN: u64 = 2 * 4096;

/// Reads how fast the loader or the manager is; `None` if `name` is not about them.
fn rhythm(zone: &mut CacheZone, name: &str, value: &str) -> Option<Option<()>> {
    let (who, what) = name.split_once('_')?;
    let rhythm: &mut Rhythm = match who {
        "loader" => &mut zone.loader,
        "manager" => &mut zone.manager,
        _ => return None,
    };
    match what {
        "files" => Some(parse_number(value).map(|files| rhythm.files = files)),
        "sleep" => Some(parse_time(value).map(|time| rhythm.sleep = time)),
        "threshold" => Some(parse_time(value).map(|time| rhythm.threshold = time)),
        _ => None,
    }
}

fn define(scope: &mut Scope, zone: CacheZone) -> Result<(), Fault> {
    if scope.zones.iter().any(|known| known.name == zone.name) {
        return Err(other_use(&zone.name));
    }
    for known in &scope.caches {
        if known.name == zone.name {
            return Err(Fault::new(format!("duplicate zone \"{}\"", zone.name)));
        }
        // Each would take the other's entries for its own, and remove them.
        if known.path.starts_with(&zone.path) || zone.path.starts_with(&known.path) {
            let (path, other) = (zone.path.display(), known.path.display());
            return Err(Fault::new(format!(
                "the path \"{path}\" and that of zone \"{}\", \"{other}\", are one, or one is in the other",
                known.name
            )));
        }
    }
    scope.caches.push(zone);
    Ok(())
}

fn zone(scope: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    let word = directive.arg(0);
    proxy(settings).cache = if word == "off" {
        CacheUse::Off
    } else if word.contains('$') {
        CacheUse::Named(Value::parse(word, &scope.names)?)
    } else {
        let place = scope.caches.iter().position(|cache| cache.name == word);
        let unknown = || Fault::new(format!("\"proxy_cache\" zone \"{word}\" is unknown"));
        CacheUse::Zone(CacheId(place.ok_or_else(unknown)?))
    };
    if word != "off" {
        // An outer block may say otherwise.
        proxy(settings).store = Storing::Off;
    }
    Ok(())
}

fn store(scope: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    let settings = proxy(settings);
    settings.store = match directive.arg(0) {
        "off" => Storing::Off,
        "" => return Err(Fault::new("empty path")),
        "on" => Storing::Root,
        path => Storing::At(Value::parse(path, &scope.names)?),
    };
    if settings.store != Storing::Off {
        settings.cache = CacheUse::Off;
    }
    Ok(())
}

/// Refuses `proxy_store` beside `proxy_cache`: an answer is the one's or the other's.
pub(super) fn check_store(block: &[Directive]) -> Result<(), Error> {
    let is_on = |inside: &&Directive| {
        matches!(&*inside.name, "proxy_store" | "proxy_cache")
            && inside.args.first().is_none_or(|word| word != "off")
    };
    let mut both = block.iter().filter(is_on);
    if let (Some(first), Some(second)) = (both.next(), both.next())
        && first.name != second.name
    {
        return Err(Fault::directive(format!("is incompatible with \"{}\"", first.name)).at(second));
    }
    Ok(())
}

/// Reads `user:rw group:r`: the permissions of a file.
fn access(directive: &Directive) -> Result<u32, Fault> {
    let mut access = 0;
    let mut own = 0o600;
    for word in &directive.args {
        let invalid = || Fault::value(word);
        let (who, what) = word.split_once(':').ok_or_else(invalid)?;
        let right = match what {
            "rw" => 6,
            "r" => 4,
            _ => return Err(invalid()),
        };
        access |= match who {
            "user" => {
                own = 0;
                right << 6
            }
            "group" => right << 3,
            "all" => right,
            _ => return Err(invalid()),
        };
    }
    Ok(access | own)
}

fn valid(_: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    let Some((word, statuses)) = directive.args.split_last() else {
        return Err(Fault::directive("invalid number of arguments"));
    };
    let time: Duration =
        parse_seconds(word).ok_or_else(|| Fault::new(format!("invalid time value \"{word}\"")))?;
    let valid = &mut rules(settings).valid;
    if statuses.is_empty() {
        valid.extend([200, 301, 302].map(|status| CacheValid { status: Some(status), time }));
    }
    for word in statuses {
        let status = match &**word {
            "any" => None,
            word => {
                let status = parse_number(word).filter(|status: &u16| (100..=599).contains(status));
                Some(status.ok_or_else(|| Fault::new(format!("invalid status \"{word}\"")))?)
            }
        };
        valid.push(CacheValid { status, time });
    }
    Ok(())
}

fn methods(scope: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    scope.note_repeated(directive);
    let method = |word: &String| match &*word.to_ascii_uppercase() {
        "GET" => Ok(Method::GET),
        "HEAD" => Ok(Method::HEAD),
        "POST" => Ok(Method::POST),
        _ => Err(Fault::value(word)),
    };
    rules(settings).methods = directive.args.iter().map(method).collect::<Result<_, _>>()?;
    Ok(())
}

fn conditions(scope: &Scope, directive: &Directive, into: &mut Vec<Value>) -> Result<(), Fault> {
    for word in &directive.args {
        into.push(Value::parse(word, &scope.names)?);
    }
    Ok(())
}

fn use_stale(scope: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    scope.note_repeated(directive);
    let mut stale = UseStale::default();
    let mut off = false;
    for word in &directive.args {
        match &*word.to_ascii_lowercase() {
            "error" => stale.error = true,
            "timeout" => stale.timeout = true,
            "invalid_header" => stale.invalid_header = true,
            "updating" => stale.updating = true,
            "off" => off = true,
            lower => {
                let status = lower.strip_prefix("http_").and_then(parse_number);
                match status {
                    Some(status @ (403 | 404 | 429 | 500 | 502 | 503 | 504)) => stale.statuses.push(status),
                    _ => return Err(Fault::value(word)),
                }
            }
        }
    }
    rules(settings).use_stale = if off { UseStale::default() } else { stale };
    Ok(())
}
