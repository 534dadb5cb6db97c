//! Names and passwords, and how they go with other checks: `auth_basic`, `auth_request`, `satisfy`.

use std::sync::Arc;

use crate::model::{Auth, Satisfy, Settings};
use crate::variable::Value;

use super::http::own_variable;
use super::rules::{Context, Fault, Rule};
use super::value::{choice, time};

/// What fills in the [`Auth`] of [`Settings`].
pub(super) const RULES: &[Rule<Settings>] = &[
    Rule::new("auth_basic", ACCESS, 1..=1, |scope, settings, directive| {
        let realm = match directive.arg(0) {
            "off" => None,
            word => Some(Value::parse(word, &scope.names)?),
        };
        auth(settings).realm = realm;
        Ok(())
    }),
    Rule::new("auth_basic_user_file", ACCESS, 1..=1, |scope, settings, directive| {
        let path = scope.path(directive.arg(0)).to_string_lossy().into_owned();
        auth(settings).users = Some(Value::parse(&path, &scope.names)?);
        Ok(())
    }),
    Rule::new("auth_request", Context::SETTINGS, 1..=1, |_, settings, directive| {
        let path = directive.arg(0);
        auth(settings).request = Some(path.to_owned()).filter(|path| path != "off");
        Ok(())
    }),
    Rule::new("auth_request_set", Context::SETTINGS, 2..=2, |scope, settings, directive| {
        let variable = own_variable(scope, directive.arg(0))?;
        let value = Value::parse(directive.arg(1), &scope.names)?;
        auth(settings).request_sets.push((variable, value));
        Ok(())
    })
    .many(|settings| auth(settings).request_sets.clear()),
    Rule::new("auth_delay", Context::SETTINGS, 1..=1, |_, settings, directive| {
        auth(settings).delay = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("satisfy", Context::SETTINGS, 1..=1, |_, settings, directive| {
        auth(settings).satisfy = match &*choice(directive) {
            "all" => Satisfy::All,
            "any" => Satisfy::Any,
            _ => return Err(Fault::value(directive.arg(0))),
        };
        Ok(())
    }),
];

/// Where passwords may be asked for.
const ACCESS: Context = Context::SETTINGS.or(Context::LIMIT_EXCEPT);

fn auth(settings: &mut Settings) -> &mut Auth {
    Arc::make_mut(&mut settings.auth)
}
