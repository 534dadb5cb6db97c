//! `add_before_body`, `add_after_body` and `addition_types`.

use std::sync::Arc;

use crate::model::{Addition, MediaTypes, Settings};

use super::compress::media_types;
use super::rules::{ANY, Context, Rule};

/// What fills in the [`Addition`] of [`Settings`].
pub(super) const RULES: &[Rule<Settings>] = &[
    Rule::new("add_before_body", Context::SETTINGS, 1..=1, |_, settings, directive| {
        addition(settings).before = path(directive.arg(0));
        Ok(())
    }),
    Rule::new("add_after_body", Context::SETTINGS, 1..=1, |_, settings, directive| {
        addition(settings).after = path(directive.arg(0));
        Ok(())
    }),
    Rule::new("addition_types", Context::SETTINGS, 1..=ANY, |scope, settings: &mut Settings, directive| {
        media_types(scope, directive, &mut addition(settings).types);
        Ok(())
    })
    .many(|settings| addition(settings).types = MediaTypes::of(&[])),
];

/// An empty word takes back what outer blocks say.
fn path(word: &str) -> Option<String> {
    Some(word.to_owned()).filter(|word| !word.is_empty())
}

fn addition(settings: &mut Settings) -> &mut Addition {
    Arc::make_mut(&mut settings.addition)
}
