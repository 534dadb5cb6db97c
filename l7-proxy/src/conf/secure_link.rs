//! `secure_link`, `secure_link_md5`, `secure_link_secret`.

use std::sync::Arc;

use crate::model::{SecureLink, Settings};
use crate::variable::Value;

use super::rules::{self, Context, Fault, Rule};
use super::tree::Directive;
use super::{Error, Scope};

/// What one block says of links.
#[derive(Default)]
pub(super) struct Draft {
    word: Option<Box<[u8]>>,
    carried: Option<Value>,
    of: Option<Value>,
}

/// What fills in a [`Draft`].
pub(super) const RULES: &[Rule<Draft>] = &[
    Rule::new("secure_link_secret", Context::SETTINGS, 1..=1, |_, draft, directive| {
        draft.word = Some(directive.arg(0).as_bytes().into());
        Ok(())
    }),
    Rule::new("secure_link", Context::SETTINGS, 1..=1, |scope, draft, directive| {
        draft.carried = Some(Value::parse(directive.arg(0), &scope.names)?);
        Ok(())
    }),
    Rule::new("secure_link_md5", Context::SETTINGS, 1..=1, |scope, draft, directive| {
        draft.of = Some(Value::parse(directive.arg(0), &scope.names)?);
        Ok(())
    }),
];

/// Takes what a block says of links.
///
/// A word takes the place of whatever is around it, and either of the other two the place of a word; of
/// them the one that a block does not have is inherited.
pub(super) fn apply(
    scope: &mut Scope,
    inside: Context,
    block: &[Directive],
    settings: &mut Settings,
) -> Result<(), Error> {
    let mut own = Draft::default();
    rules::apply(scope, RULES, inside, block, &mut own)?;
    let has_digest = own.carried.is_some() || own.of.is_some();
    if let Some(word) = own.word {
        if has_digest
            && let Some(secret) = block.iter().find(|directive| directive.name == "secure_link_secret")
        {
            let message =
                "\"secure_link_secret\" cannot be mixed with \"secure_link\" and \"secure_link_md5\"";
            return Err(Fault::new(message).at(secret));
        }
        settings.secure_link = Some(Arc::new(SecureLink::Word(word)));
    } else if has_digest {
        let (carried, of) = match settings.secure_link.as_deref() {
            Some(SecureLink::Digest { carried, of }) => (carried.clone(), of.clone()),
            Some(SecureLink::Word(_)) | None => (None, None),
        };
        let (carried, of) = (own.carried.or(carried), own.of.or(of));
        settings.secure_link = Some(Arc::new(SecureLink::Digest { carried, of }));
    }
    Ok(())
}
