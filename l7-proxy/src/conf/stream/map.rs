//! `map` of `stream {}`.

use crate::conf::rules::Fault;
use crate::conf::tree::Directive;
use crate::conf::{Error, Scope, map};
use crate::map::Map as Rows;
use crate::stream::map::Map;
use crate::stream::text::Text;

/// Reads a `map`.
pub(super) fn read(scope: &mut Scope, directive: &Directive) -> Result<Map, Error> {
    let names = &scope.stream.names;
    let source = Text::parse(directive.arg(0), names).map_err(|error| Fault::from(error).at(directive))?;
    let name = directive.arg(1).strip_prefix('$').filter(|name| !name.is_empty());
    let Some(variable) = name.and_then(|name| names.number(name)) else {
        let message = format!("invalid variable name \"{}\"", directive.arg(1));
        return Err(Error::at(&directive.place, message));
    };
    let mut rows = Rows::new(source, Text::literal(""));
    map::fill(&mut rows, directive, |text| Text::parse(text, names))?;
    Ok(Map { variable, rows })
}
