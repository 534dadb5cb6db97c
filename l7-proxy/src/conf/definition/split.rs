//! `split_clients {}`: a variable that has each of its values for a share of all texts.

use crate::conf::rules::Fault;
use crate::conf::tree::Directive;
use crate::conf::value::parse_number;
use crate::conf::{Error, Scope};
use crate::definition::split::{Split, TooMuch};
use crate::definition::{Definition, Rule};

use super::Side;

pub(super) fn read<S: Side>(scope: &Scope, directive: &Directive) -> Result<Definition<S::Text>, Error> {
    let source = S::parse(scope, directive.arg(0)).map_err(|error| Fault::from(error).at(directive))?;
    let mut split = Split::default();
    for row in &directive.block {
        let at = |fault: Fault| fault.at(row);
        let [value] = &*row.args else {
            return Err(at(Fault::new("invalid number of the split_clients parameters")));
        };
        if row.name == "*" {
            split.push_rest(value);
            continue;
        }
        let invalid = || at(Fault::new(format!("invalid percent value \"{}\"", row.name)));
        let share = row.name.strip_suffix('%').and_then(hundredths).ok_or_else(invalid)?;
        split
            .push(share, value)
            .map_err(|TooMuch| Fault::new("percent total is greater than 100%").at(directive))?;
    }
    Ok(super::definition(Rule::Split { source, split }, directive))
}

/// Reads a number with up to two decimals; zero is none.
fn hundredths(text: &str) -> Option<u32> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 2 {
        return None;
    }
    let digits = format!("{whole}{decimals:0<2}");
    parse_number(&digits).filter(|&share| share > 0)
}
