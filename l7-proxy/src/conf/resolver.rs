//! `resolver` and `resolver_timeout`.

use crate::model::{Families, Resolver, Resolving, Settings, StreamSettings};

use super::address;
use super::rules::{ANY, Context, Fault, Rule};
use super::tree::Directive;
use super::value::{parse_seconds, parse_time, time};

/// What fills in the name servers of [`Settings`].
pub(super) const RULES: &[Rule<Settings>] = &[
    Rule::new("resolver", Context::SETTINGS, 1..=ANY, |_, settings: &mut Settings, directive| {
        set(&mut settings.resolving, directive)
    }),
    Rule::new("resolver_timeout", Context::SETTINGS, 1..=1, |_, settings: &mut Settings, directive| {
        settings.resolving.within(time(directive, 0)?);
        Ok(())
    }),
];

/// What fills in the name servers of [`StreamSettings`].
pub(super) const STREAM: &[Rule<StreamSettings>] = &[
    Rule::new(
        "resolver",
        Context::STREAM_SETTINGS,
        1..=ANY,
        |_, settings: &mut StreamSettings, directive| set(&mut settings.resolving, directive),
    ),
    Rule::new("resolver_timeout", Context::STREAM_SETTINGS, 1..=1, |_, settings, directive| {
        settings.resolving.within(time(directive, 0)?);
        Ok(())
    }),
];

/// Reads a `resolver`.
pub(super) fn set(resolving: &mut Resolving, directive: &Directive) -> Result<(), Fault> {
    let mut resolver = Resolver::new(Vec::new());
    let (mut v4, mut v6) = (true, true);
    for word in &directive.args {
        let invalid = || Fault::new(format!("invalid parameter: {word}"));
        match word.split_once('=') {
            // nginx counts it in seconds; less than one is of use here.
            Some(("valid", value)) => {
                let valid = parse_seconds(value).or_else(|| parse_time(value));
                resolver.valid = Some(valid.ok_or_else(invalid)?);
            }
            Some(("ipv4", value @ ("on" | "off"))) => v4 = value == "on",
            Some(("ipv6", value @ ("on" | "off"))) => v6 = value == "on",
            // Counts of the resolver; there is no page that would show them.
            Some(("status_zone", _)) => {}
            Some(_) => return Err(invalid()),
            None => {
                let servers = address::resolve(word, Some(53));
                let fault = |reason| Fault::new(format!("{reason} in resolver \"{word}\""));
                resolver.servers.extend(servers.map_err(fault)?);
            }
        }
    }
    resolver.families = match (v4, v6) {
        (true, true) => Families::Both,
        (true, false) => Families::V4,
        (false, true) => Families::V6,
        (false, false) => return Err(Fault::new("\"ipv4\" and \"ipv6\" cannot both be \"off\"")),
    };
    if resolver.servers.is_empty() {
        return Err(Fault::new("no name servers defined"));
    }
    resolving.ask(resolver);
    Ok(())
}
