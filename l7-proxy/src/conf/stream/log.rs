//! `log_format` and `access_log` of `stream {}`.

use std::sync::Arc;

use crate::conf::Scope;
use crate::conf::log::{Parameters, SYSLOG, format_text, target};
use crate::conf::rules::{ANY, Context, Fault, Rule};
use crate::conf::tree::Directive;
use crate::model::{StreamFormat, StreamLog, StreamLogTarget, StreamSettings};
use crate::stream::text::Text;

/// Formats go into the scope, where `access_log` finds them.
pub(crate) const FORMATS: &[Rule<()>] =
    &[Rule::new("log_format", Context::STREAM, 2..=ANY, log_format).many(|()| {})];

fn log_format(scope: &mut Scope, (): &mut (), directive: &Directive) -> Result<(), Fault> {
    let name = directive.arg(0);
    if scope.stream.formats.contains_key(name) {
        return Err(Fault::new(format!("duplicate \"log_format\" name \"{name}\"")));
    }
    let (escape, texts) = format_text(directive)?;
    let line = Text::parse(&texts, &scope.stream.names)?;
    scope.stream.formats.insert(name.to_owned(), Arc::new(StreamFormat { line, escape }));
    Ok(())
}

pub(super) fn access_log(
    scope: &mut Scope,
    settings: &mut StreamSettings,
    directive: &Directive,
) -> Result<(), Fault> {
    let word = directive.arg(0);
    if word == "off" {
        if directive.args.len() > 1 {
            return Err(Fault::parameter(directive.arg(1)));
        }
        settings.access_log.clear();
        return Ok(());
    }
    if directive.args.len() == 1 {
        return Err(Fault::new("log format is not specified"));
    }
    let is_file = !word.starts_with(SYSLOG);
    let target = match is_file && word.contains('$') {
        true => {
            // Under the prefix, whatever the variables are: a client may choose what they say.
            let path = scope.path(word).to_string_lossy().into_owned();
            StreamLogTarget::Computed(Text::parse(&path, &scope.stream.names)?)
        }
        false => StreamLogTarget::Fixed(target(scope, directive)?),
    };
    let name = directive.arg(1);
    let Some(format) = scope.stream.formats.get(name).cloned() else {
        return Err(Fault::new(format!("unknown log format \"{name}\"")));
    };
    let mut condition = None;
    let mut parameters = Parameters::default();
    for parameter in directive.args.iter().skip(2) {
        match parameter.strip_prefix("if=") {
            Some(text) => condition = Some(Text::parse(text, &scope.stream.names)?),
            None => parameters.read(parameter)?,
        }
    }
    let place = match &target {
        StreamLogTarget::Fixed(target) => Some(target),
        StreamLogTarget::Computed(_) => None,
    };
    let gathering = parameters.finish(scope, directive, place)?;
    settings.access_log.push(StreamLog { target, format, condition, gathering });
    Ok(())
}
