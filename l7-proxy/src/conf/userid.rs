//! `userid` and what goes with it.

use std::sync::Arc;

use ::http::HeaderValue;

use crate::model::{Settings, UserId, UserIdExpires, UserIdMode};
use crate::variable::Value;

use super::Scope;
use super::rules::{ANY, Context, Fault, Rule};
use super::tree::Directive;
use super::value::{choice, parse_number, parse_seconds};

/// What fills in the [`UserId`] of [`Settings`].
pub(super) const RULES: &[Rule<Settings>] = &[
    Rule::new("userid", Context::SETTINGS, 1..=1, |scope, settings: &mut Settings, directive| {
        if scope.names.number("uid_reset").is_some() {
            userid(settings).reset = Some(Value::parse("$uid_reset", &scope.names)?);
        }
        userid(settings).mode = match &*choice(directive) {
            "off" => UserIdMode::Off,
            "log" => UserIdMode::Log,
            "v1" => UserIdMode::First,
            "on" => UserIdMode::Second,
            _ => return Err(Fault::value(directive.arg(0))),
        };
        Ok(())
    }),
    Rule::new("userid_name", Context::SETTINGS, 1..=1, |_, settings, directive| {
        userid(settings).name = directive.arg(0).to_owned();
        Ok(())
    }),
    Rule::new("userid_domain", Context::SETTINGS, 1..=1, |_, settings, directive| {
        userid(settings).domain = Some(directive.arg(0).to_owned()).filter(|domain| domain != "none");
        Ok(())
    }),
    Rule::new("userid_path", Context::SETTINGS, 1..=1, |_, settings, directive| {
        userid(settings).path = directive.arg(0).to_owned();
        Ok(())
    }),
    Rule::new("userid_expires", Context::SETTINGS, 1..=1, |_, settings, directive| {
        userid(settings).expires = match directive.arg(0) {
            "max" => UserIdExpires::Never,
            "off" => UserIdExpires::Session,
            word => {
                let time = parse_seconds(word).ok_or_else(|| Fault::directive("invalid value"))?;
                if time.is_zero() { UserIdExpires::Session } else { UserIdExpires::After(time) }
            }
        };
        Ok(())
    }),
    Rule::new("userid_flags", Context::SETTINGS, 1..=ANY, flags),
    Rule::new("userid_p3p", Context::SETTINGS, 1..=1, |_, settings, directive| {
        let word = Some(directive.arg(0)).filter(|word| !word.is_empty() && *word != "none");
        let value = word.map(|word| HeaderValue::from_str(word).map_err(|_| Fault::value(word)));
        userid(settings).p3p = value.transpose()?;
        Ok(())
    }),
    Rule::new("userid_mark", Context::SETTINGS, 1..=1, |_, settings, directive| {
        userid(settings).mark = match directive.arg(0) {
            "off" => None,
            word => match word.as_bytes() {
                &[mark] if mark.is_ascii_alphanumeric() || mark == b'=' => Some(mark),
                _ => return Err(Fault::new("value must be \"off\" or a single letter, digit or \"=\"")),
            },
        };
        Ok(())
    }),
    Rule::new("userid_service", Context::SETTINGS, 1..=1, |_, settings, directive| {
        let number = parse_number(directive.arg(0));
        userid(settings).service = Some(number.ok_or_else(|| Fault::directive("invalid number"))?);
        Ok(())
    }),
];

fn userid(settings: &mut Settings) -> &mut UserId {
    Arc::make_mut(&mut settings.userid)
}

fn flags(_: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    let mut flags = Vec::new();
    if directive.arg(0) != "off" || directive.args.len() > 1 {
        for word in &directive.args {
            match &*word.to_ascii_lowercase() {
                known @ ("secure" | "httponly" | "samesite=strict" | "samesite=lax" | "samesite=none") => {
                    flags.push(known.to_owned());
                }
                _ => return Err(Fault::parameter(word)),
            }
        }
    }
    userid(settings).flags = flags;
    Ok(())
}
