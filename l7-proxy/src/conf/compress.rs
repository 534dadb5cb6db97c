//! `gzip`, `gzip_static` and what goes with them.

use std::sync::Arc;

use crate::model::{Gzip, GzipProxied, MediaTypes, OldestVersion, Pattern, Prepared, Settings};

use super::rules::{ANY, Context, Fault, Rule};
use super::server::pattern_fault;
use super::tree::Directive;
use super::value::{choice, flag, number, size};

/// What fills in the [`Gzip`] of [`Settings`].
pub(super) const RULES: &[Rule<Settings>] = &[
    Rule::new("gzip", Context::SETTINGS_IF, 1..=1, |_, settings, directive| {
        gzip(settings).on = flag(directive)?;
        Ok(())
    }),
    Rule::new("gunzip", Context::SETTINGS, 1..=1, |_, settings, directive| {
        gzip(settings).unpacks = flag(directive)?;
        Ok(())
    }),
    Rule::new("gzip_static", Context::SETTINGS, 1..=1, |_, settings, directive| {
        gzip(settings).prepared = match &*choice(directive) {
            "off" => Prepared::Off,
            "on" => Prepared::On,
            "always" => Prepared::Always,
            _ => return Err(Fault::value(directive.arg(0))),
        };
        Ok(())
    }),
    Rule::new("gzip_types", Context::SETTINGS, 1..=ANY, |scope, settings: &mut Settings, directive| {
        media_types(scope, directive, &mut gzip(settings).types);
        Ok(())
    })
    .many(|settings| gzip(settings).types = MediaTypes::of(&[])),
    Rule::new("gzip_min_length", Context::SETTINGS, 1..=1, |_, settings, directive| {
        gzip(settings).min_length = size(directive)?;
        Ok(())
    }),
    Rule::new("gzip_comp_level", Context::SETTINGS, 1..=1, |_, settings, directive| {
        let level: u64 = number(directive)?;
        let level = u32::try_from(level).ok().filter(|level| (1..=9).contains(level));
        gzip(settings).level = level.ok_or_else(|| Fault::new("value must be between 1 and 9"))?;
        Ok(())
    }),
    Rule::new("gzip_vary", Context::SETTINGS, 1..=1, |_, settings, directive| {
        gzip(settings).vary = flag(directive)?;
        Ok(())
    }),
    Rule::new("gzip_http_version", Context::SETTINGS, 1..=1, |_, settings, directive| {
        gzip(settings).http_version = match directive.arg(0) {
            "1.0" => OldestVersion::Http10,
            "1.1" => OldestVersion::Http11,
            word => return Err(Fault::value(word)),
        };
        Ok(())
    }),
    Rule::new("gzip_proxied", Context::SETTINGS, 1..=ANY, proxied),
    Rule::new("gzip_disable", Context::SETTINGS, 1..=ANY, disable)
        .many(|settings| gzip(settings).disable.clear()),
];

fn gzip(settings: &mut Settings) -> &mut Gzip {
    Arc::make_mut(&mut settings.gzip)
}

/// Adds the types that a directive names.
pub(super) fn media_types(scope: &mut super::Scope, directive: &Directive, types: &mut MediaTypes) {
    for word in &directive.args {
        if !types.add(word) {
            scope.note(directive, &format!("duplicate MIME type \"{}\"", word.to_ascii_lowercase()));
        }
    }
}

fn proxied(scope: &mut super::Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    scope.note_repeated(directive);
    let mut proxied = GzipProxied::default();
    for word in &directive.args {
        match &*word.to_ascii_lowercase() {
            "off" => proxied = GzipProxied::default(),
            "any" => proxied.any = true,
            "expired" => proxied.expired = true,
            "no-cache" => proxied.no_cache = true,
            "no-store" => proxied.no_store = true,
            "private" => proxied.private = true,
            "no_last_modified" => proxied.no_last_modified = true,
            "no_etag" => proxied.no_etag = true,
            "auth" => proxied.auth = true,
            _ => return Err(Fault::value(word)),
        }
    }
    gzip(settings).proxied = proxied;
    Ok(())
}

fn disable(_: &mut super::Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    for word in &directive.args {
        let source = match &**word {
            "degradation" => return Err(Fault::unsupported(word, directive)),
            // Version 6 with the second service pack takes it.
            "msie6" => r"MSIE [45]\.|MSIE 6\.(?:[^S]|S[^V]|SV[^1])*$",
            word => word,
        };
        let pattern = Pattern::new_ignoring_case(source).map_err(|error| pattern_fault(source, &error))?;
        gzip(settings).disable.push(pattern);
    }
    Ok(())
}
