//! `mirror` and `mirror_request_body`.

use std::sync::Arc;

use crate::model::{MirrorBody, Settings};

use super::rules::{Context, Fault, Rule};
use super::value::flag;

/// What fills in the [`Mirror`](crate::model::Mirror) of [`Settings`].
pub(super) const RULES: &[Rule<Settings>] = &[
    Rule::new("mirror", Context::SETTINGS, 1..=1, |_, settings: &mut Settings, directive| {
        let paths = &mut Arc::make_mut(&mut settings.mirror).paths;
        let word = directive.arg(0);
        if paths.iter().any(String::is_empty) || word == "off" && !paths.is_empty() {
            return Err(Fault::directive("is duplicate"));
        }
        // The one that is none keeps others from being added.
        paths.push(if word == "off" { String::new() } else { word.to_owned() });
        Ok(())
    })
    .many(|settings| Arc::make_mut(&mut settings.mirror).paths.clear()),
    Rule::new("mirror_request_body", Context::SETTINGS, 1..=1, |_, settings, directive| {
        let body = if flag(directive)? { MirrorBody::Copied } else { MirrorBody::Left };
        Arc::make_mut(&mut settings.mirror).body = body;
        Ok(())
    }),
];
