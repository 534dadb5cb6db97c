//! `charset` and what goes with it: a name added to `Content-Type`. Texts are not converted.

use std::sync::Arc;

use crate::model::{Charset, MediaTypes, Settings};
use crate::variable::Value;

use super::compress::media_types;
use super::rules::{ANY, Context, Rule};
use super::value::flag;

/// What fills in the [`Charset`] of [`Settings`].
pub(super) const RULES: &[Rule<Settings>] = &[
    Rule::new("charset", Context::SETTINGS_IF, 1..=1, |scope, settings, directive| {
        charset(settings).name = match directive.arg(0) {
            "off" => None,
            word => Some(Value::parse(word, &scope.names)?),
        };
        Ok(())
    }),
    Rule::new("charset_types", Context::SETTINGS, 1..=ANY, |scope, settings: &mut Settings, directive| {
        media_types(scope, directive, &mut charset(settings).types);
        Ok(())
    })
    .many(|settings| charset(settings).types = MediaTypes::of(&[])),
    Rule::new("override_charset", Context::SETTINGS_IF, 1..=1, |_, settings, directive| {
        charset(settings).overrides = flag(directive)?;
        Ok(())
    }),
];

fn charset(settings: &mut Settings) -> &mut Charset {
    Arc::make_mut(&mut settings.charset)
}
