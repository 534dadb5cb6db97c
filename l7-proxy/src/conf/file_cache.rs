//! `open_file_cache` and what goes with it.

use crate::model::{CacheErrors, FileCache, Settings};

use super::rules::{Context, Fault, Rule};
use super::tree::Directive;
use super::value::{flag, number, parse_number, parse_seconds, seconds};

/// What fills in the [`FileCache`] of [`Settings`].
pub(super) const RULES: &[Rule<Settings>] = &[
    Rule::new("open_file_cache", Context::SETTINGS, 1..=2, cache),
    Rule::new("open_file_cache_valid", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.files.cache.valid = seconds(directive, 0)?;
        Ok(())
    }),
    Rule::new("open_file_cache_min_uses", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.files.cache.min_uses = number(directive)?;
        Ok(())
    }),
    Rule::new("open_file_cache_errors", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.files.cache.errors =
            if flag(directive)? { CacheErrors::Kept } else { CacheErrors::Forgotten };
        Ok(())
    }),
];

fn cache(_: &mut super::Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    let mut max = None;
    let mut inactive = FileCache::default().inactive;
    for word in &directive.args {
        match word.split_once('=') {
            Some(("max", number)) => {
                let number = parse_number(number).filter(|&number: &usize| number > 0);
                max = Some(number.ok_or_else(|| fault(word))?);
            }
            Some(("inactive", time)) => inactive = parse_seconds(time).ok_or_else(|| fault(word))?,
            None if word == "off" => {
                settings.files.cache.max = 0;
                return Ok(());
            }
            _ => return Err(fault(word)),
        }
    }
    let rules = &mut settings.files.cache;
    rules.max = max.ok_or_else(|| Fault::new("\"open_file_cache\" must have the \"max\" parameter"))?;
    rules.inactive = inactive;
    Ok(())
}

fn fault(word: &str) -> Fault {
    Fault::new(format!("invalid \"open_file_cache\" parameter \"{word}\""))
}
