//! `sub_filter` and what goes with it.

use std::sync::Arc;

use crate::model::{MediaTypes, Settings, Substitution};
use crate::variable::Value;

use super::compress::media_types;
use super::rules::{ANY, Context, Fault, Rule};
use super::value::flag;

/// What fills in the [`Substitution`] of [`Settings`].
pub(super) const RULES: &[Rule<Settings>] = &[
    Rule::new("sub_filter", Context::SETTINGS, 2..=2, |scope, settings, directive| {
        if directive.arg(0).is_empty() {
            return Err(Fault::new("empty search pattern"));
        }
        let text = Value::parse(directive.arg(0), &scope.names)?;
        let replacement = Value::parse(directive.arg(1), &scope.names)?;
        substitution(settings).pairs.push((text, replacement));
        Ok(())
    })
    .many(|settings| substitution(settings).pairs.clear()),
    Rule::new("sub_filter_once", Context::SETTINGS, 1..=1, |_, settings, directive| {
        substitution(settings).once = flag(directive)?;
        Ok(())
    }),
    Rule::new("sub_filter_types", Context::SETTINGS, 1..=ANY, |scope, settings: &mut Settings, directive| {
        media_types(scope, directive, &mut substitution(settings).types);
        Ok(())
    })
    .many(|settings| substitution(settings).types = MediaTypes::of(&[])),
    Rule::new("sub_filter_last_modified", Context::SETTINGS, 1..=1, |_, settings, directive| {
        substitution(settings).keeps_validators = flag(directive)?;
        Ok(())
    }),
];

fn substitution(settings: &mut Settings) -> &mut Substitution {
    Arc::make_mut(&mut settings.substitution)
}
