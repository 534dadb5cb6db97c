//! `disable_symlinks`.

use crate::model::{Follow, Settings, Symlinks};
use crate::variable::Value;

use super::rules::{Context, Fault, Rule};
use super::tree::Directive;

/// What fills in the [`Symlinks`] of [`Settings`].
pub(super) const RULES: &[Rule<Settings>] =
    &[Rule::new("disable_symlinks", Context::SETTINGS, 1..=2, symlinks)];

fn symlinks(scope: &mut super::Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    let (mut follow, mut from) = (None, None);
    for word in &directive.args {
        match &**word {
            "off" => follow = Some(Follow::All),
            "if_not_owner" => follow = Some(Follow::OfOwner),
            "on" => follow = Some(Follow::None),
            word => match word.strip_prefix("from=") {
                Some(part) => from = Some(Value::parse(part, &scope.names)?),
                None => return Err(Fault::new(format!("invalid parameter \"{word}\""))),
            },
        }
    }
    let Some(follow) = follow else {
        let message = "\"disable_symlinks\" must have \"off\", \"on\" or \"if_not_owner\" parameter";
        return Err(Fault::new(message));
    };
    if let ([one, other], None) = (&*directive.args, &from) {
        return Err(Fault::new(format!("duplicate parameters \"{one} {other}\"")));
    }
    if from.is_some() && follow == Follow::All {
        return Err(Fault::new("\"from=\" cannot be used with \"off\" parameter"));
    }
    settings.files.symlinks = Symlinks { follow, from };
    Ok(())
}
