//! `client_body_*`: where a request's body is kept while it is read, and how large it may be.

use crate::model::Settings;
use crate::spool::Afterwards;

use super::rules::{Context, Fault, Rule};
use super::value::{choice, offset, parse_number, size, time};

/// What fills in what [`Settings`] say of the bodies of requests.
pub(super) const RULES: &[Rule<Settings>] = &[
    Rule::new("client_max_body_size", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.client.max_body_size = Some(offset(directive)?).filter(|&size| size > 0);
        Ok(())
    }),
    Rule::new("client_body_timeout", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.client.body_timeout = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("client_body_buffer_size", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.client.body.buffer_size = size(directive)?;
        Ok(())
    }),
    Rule::new("client_body_in_file_only", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.client.body.in_file = match &*choice(directive) {
            "off" => None,
            "on" => Some(Afterwards::Kept),
            "clean" => Some(Afterwards::Removed),
            _ => return Err(Fault::value(directive.arg(0))),
        };
        Ok(())
    }),
    Rule::new("client_body_temp_path", Context::SETTINGS, 1..=4, |scope, settings, directive| {
        // Folders below it would spread files that are here but for the time of a request.
        for level in &directive.args[1..] {
            if !matches!(parse_number::<u8>(level), Some(1..=3)) {
                return Err(Fault::directive("invalid value"));
            }
        }
        settings.client.body.folder = scope.path(directive.arg(0)).into();
        Ok(())
    }),
];
