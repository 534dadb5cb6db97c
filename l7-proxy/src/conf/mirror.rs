//! `mirror` and `mirror_request_body`.

use std::sync::Arc;

use crate::model::{MirrorBody, Settings};

use super::rules::{self, Context, Fault, Rule};
use super::tree::Directive;
use super::value::flag;
use super::{Error, Scope};

/// What one block says of copies.
#[derive(Default)]
pub(super) struct Draft {
    paths: Vec<String>,
    /// Whether it wants none, whatever is around it.
    off: bool,
    body: Option<MirrorBody>,
}

/// What fills in a [`Draft`].
pub(super) const RULES: &[Rule<Draft>] = &[
    Rule::new("mirror", Context::SETTINGS, 1..=1, |_, draft: &mut Draft, directive| {
        let word = directive.arg(0);
        if draft.off || word == "off" && !draft.paths.is_empty() {
            return Err(Fault::directive("is duplicate"));
        }
        match word {
            "off" => draft.off = true,
            path => draft.paths.push(path.to_owned()),
        }
        Ok(())
    })
    .many(|_| {}),
    Rule::new("mirror_request_body", Context::SETTINGS, 1..=1, |_, draft, directive| {
        draft.body = Some(if flag(directive)? { MirrorBody::Copied } else { MirrorBody::Left });
        Ok(())
    }),
];

/// Takes what a block says of copies; its paths take the place of those around it.
pub(super) fn apply(
    scope: &mut Scope,
    inside: Context,
    block: &[Directive],
    settings: &mut Settings,
) -> Result<(), Error> {
    let mut own = Draft::default();
    rules::apply(scope, RULES, inside, block, &mut own)?;
    if own.off || !own.paths.is_empty() {
        Arc::make_mut(&mut settings.mirror).paths = own.paths;
    }
    if let Some(body) = own.body {
        Arc::make_mut(&mut settings.mirror).body = body;
    }
    Ok(())
}
