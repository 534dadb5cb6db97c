//! `autoindex` and what goes with it, `random_index`.

use crate::model::{ListingForm, Settings, Sizes};

use super::rules::{Context, Fault, Rule};
use super::value::{choice, flag};

/// What fills in how [`Settings`] show directories.
pub(super) const RULES: &[Rule<Settings>] = &[
    Rule::new("autoindex", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.files.listing.on = flag(directive)?;
        Ok(())
    }),
    Rule::new("autoindex_format", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.files.listing.form = match &*choice(directive) {
            "html" => ListingForm::Html,
            "json" => ListingForm::Json,
            "jsonp" => ListingForm::Jsonp,
            "xml" => ListingForm::Xml,
            _ => return Err(Fault::value(directive.arg(0))),
        };
        Ok(())
    }),
    Rule::new("autoindex_exact_size", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.files.listing.sizes = if flag(directive)? { Sizes::Exact } else { Sizes::Rounded };
        Ok(())
    }),
    Rule::new("autoindex_localtime", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.files.listing.local_time = flag(directive)?;
        Ok(())
    }),
    Rule::new("random_index", Context::LOCATION, 1..=1, |_, settings, directive| {
        settings.files.random_index = flag(directive)?;
        Ok(())
    }),
];
