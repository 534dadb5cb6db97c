//! `secure_link`, `secure_link_md5`, `secure_link_secret`.

use std::sync::Arc;

use crate::model::{SecureLink, Settings};
use crate::variable::Value;

use super::rules::{Context, Fault, Rule};

/// What fills in the [`SecureLink`] of [`Settings`].
///
/// A location's word takes the place of what is around it, and the other two may each be inherited.
pub(super) const RULES: &[Rule<Settings>] = &[
    Rule::new("secure_link_secret", Context::LOCATION, 1..=1, |_, settings, directive| {
        settings.secure_link = Some(Arc::new(SecureLink::Word(directive.arg(0).as_bytes().into())));
        Ok(())
    }),
    Rule::new("secure_link", Context::SETTINGS, 1..=1, |scope, settings, directive| {
        *digest(settings)?.0 = Some(Value::parse(directive.arg(0), &scope.names)?);
        Ok(())
    }),
    Rule::new("secure_link_md5", Context::SETTINGS, 1..=1, |scope, settings, directive| {
        *digest(settings)?.1 = Some(Value::parse(directive.arg(0), &scope.names)?);
        Ok(())
    }),
];

fn digest(settings: &mut Settings) -> Result<(&mut Option<Value>, &mut Option<Value>), Fault> {
    let none = || Arc::new(SecureLink::Digest { carried: None, of: None });
    match Arc::make_mut(settings.secure_link.get_or_insert_with(none)) {
        SecureLink::Digest { carried, of } => Ok((carried, of)),
        SecureLink::Word(_) => Err(Fault::new(
            "\"secure_link_secret\" cannot be mixed with \"secure_link\" and \"secure_link_md5\"",
        )),
    }
}
