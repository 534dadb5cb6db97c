//! `http {}` as a whole.

use std::path::Path;
use std::sync::Arc;

use crate::model::{AccessLog, AccessLogTarget, Http, LogTarget, Packing, Settings};

use super::rules::{self, Context};
use super::tree::Directive;
use super::upstream::Upstreams;
use super::{Error, Scope, check, client_addr, limit, log, map, server};

/// Reads an `http {}`.
///
/// What a block sets holds inside it wherever it stands there, so that a block's own directives
/// are read before the blocks in it.
pub(super) fn read(scope: &mut Scope, directive: &Directive) -> Result<Http, Error> {
    let block = &directive.block;
    scope.collect_names(block);
    scope.upstream_port = Some(80);
    rules::apply(scope, log::FORMATS, Context::HTTP, block, &mut ())?;
    rules::apply(scope, limit::ZONES, Context::HTTP, block, &mut ())?;
    let mut settings = Settings { access_log: default_log(scope, directive)?, ..Settings::default() };
    settings.client.body.folder = scope.path("client_body_temp").into();
    super::settings_of(scope, Context::HTTP, block, &mut settings)?;
    let mut explain_from = Vec::new();
    rules::apply(scope, client_addr::EXPLAIN, Context::HTTP, block, &mut explain_from)?;
    let definitions = map::read_all(scope, block)?;
    scope.resolving = settings.resolving.clone();
    scope.upstreams = Upstreams::read(scope, Context::UPSTREAM, block)?;
    check::read_all(scope, block)?;
    let mut servers = Vec::new();
    for directive in block.iter().filter(|directive| directive.name == "server") {
        servers.push(server::read(scope, directive, &settings)?);
    }
    Ok(Http {
        upstreams: std::mem::take(&mut scope.upstreams).into_list(),
        servers,
        definitions,
        zones: std::mem::take(&mut scope.zones),
        explain_from,
    })
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
    Ok(vec![AccessLog { target, format: Arc::new(format), condition: None, packing: Packing::Plain }])
}
