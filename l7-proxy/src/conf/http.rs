//! `http {}` as a whole.

use std::path::Path;
use std::sync::Arc;

use crate::model::{AccessLog, AccessLogTarget, Http, LogTarget, Settings, Timed};
use crate::variable::{Definitions, Value, ValueError, Variable};

use super::rules::{self, Context, Fault};
use super::tree::Directive;
use super::upstream::{self, Upstreams};
use super::{Error, Scope, cache, charset, check, client_addr, definition, limit, log, server};

/// Reads an `http {}`.
///
/// What a block sets holds inside it wherever it stands there, so that a block's own directives
/// are read before the blocks in it.
pub(super) fn read(scope: &mut Scope, directive: &Directive) -> Result<Http, Error> {
    let block = &directive.block;
    scope.collect_names(block);
    rules::apply(scope, log::FORMATS, Context::HTTP, block, &mut ())?;
    rules::apply(scope, limit::ZONES, Context::HTTP, block, &mut ())?;
    rules::apply(scope, cache::ZONES, Context::HTTP, block, &mut ())?;
    rules::apply(scope, charset::MAPS, Context::HTTP, block, &mut ())?;
    let mut settings = Settings { access_log: default_log(scope, directive)?, ..Settings::default() };
    settings.client.body.folder = scope.path("client_body_temp").into();
    cache::rules(&mut settings).temporary = scope.path("proxy_temp").into();
    super::settings_of(scope, Context::HTTP, block, &mut settings)?;
    let mut explain_from = Vec::new();
    rules::apply(scope, client_addr::EXPLAIN, Context::HTTP, block, &mut explain_from)?;
    let definitions = definitions(scope, block)?;
    scope.resolving = settings.resolving.clone();
    scope.upstreams = Upstreams::read::<OfRequests>(scope, block)?;
    check::read_all(scope, block)?;
    let mut servers = Vec::new();
    for directive in block.iter().filter(|directive| directive.name == "server") {
        servers.push(server::read(scope, directive, &settings)?);
    }
    scope.charsets.check()?;
    let charsets = std::mem::take(&mut scope.charsets).known;
    let upstreams = std::mem::take(&mut scope.upstreams).into_list();
    let (zones, caches) = (std::mem::take(&mut scope.zones), std::mem::take(&mut scope.caches));
    let log_memory = scope.log_memory.clone();
    Ok(Http { upstreams, servers, definitions, zones, caches, charsets, explain_from, log_memory })
}

/// Returns the log that is written unless the file says otherwise: nginx's `logs/access.log`, if
/// the prefix has a folder for it.
fn default_log(scope: &Scope, directive: &Directive) -> Result<Vec<AccessLog>, Error> {
    let path = scope.path("logs/access.log");
    if !path.parent().is_some_and(Path::is_dir) {
        return Ok(Vec::new());
    }
    let format = log::combined(scope).map_err(|fault| fault.at(directive))?;
    let target = AccessLogTarget::Fixed(LogTarget::File(path));
    Ok(vec![AccessLog { target, format: Arc::new(format), condition: None, gathering: None }])
}

/// `http {}`, for directives that `stream {}` has as well.
pub(super) struct OfRequests;

impl definition::Side for OfRequests {
    type Text = Value;
    const FORWARDED: bool = true;

    fn parse(scope: &Scope, text: &str) -> Result<Value, ValueError> {
        Value::parse(text, &scope.names)
    }

    fn number(scope: &Scope, word: &str) -> Result<usize, Fault> {
        own_variable(scope, word).map(usize::from)
    }

    fn asked(text: &Value) -> Vec<usize> {
        let defined = text.variables().filter_map(|variable| match variable {
            Variable::Defined(number) => Some(usize::from(*number)),
            _ => None,
        });
        defined.collect()
    }
}

impl upstream::Side for OfRequests {
    type Timed = Timed;
    const INSIDE: Context = Context::UPSTREAM;
    const PORT: Option<u16> = Some(80);

    fn timed(word: &str) -> Option<Timed> {
        match word {
            "header" => Some(Timed::Head),
            "last_byte" => Some(Timed::LastByte),
            _ => None,
        }
    }
}

/// Reads the blocks that define variables.
fn definitions(scope: &mut Scope, block: &[Directive]) -> Result<Definitions, Error> {
    let mut definitions = Definitions::default();
    for (number, definition) in definition::read_all::<OfRequests>(scope, block)? {
        // Their numbers are those of names, of which there are no more.
        if let Ok(number) = u16::try_from(number) {
            definitions.define(number, definition);
        }
    }
    Ok(definitions)
}

/// Returns the number of a variable that a directive defines.
pub(super) fn own_variable(scope: &Scope, word: &str) -> Result<u16, Fault> {
    let invalid = || Fault::new(format!("invalid variable name \"{word}\""));
    let name = word.strip_prefix('$').filter(|name| !name.is_empty()).ok_or_else(invalid)?;
    match scope.names.number(name) {
        Some(number) => Ok(number),
        None if Variable::named(name).is_some() => {
            Err(Fault::new(format!("the duplicate \"{name}\" variable")))
        }
        None => Err(invalid()),
    }
}
