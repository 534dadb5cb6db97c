//! Variables that blocks of `stream {}` define: `map`, `geo`, `split_clients`.

use std::net::IpAddr;

use crate::definition::{self, Keeping, Rule};

use super::facts::Facts;
use super::text::Text;

/// A variable, and what it stands for.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The number of the variable.
    pub variable: usize,
    /// What it stands for.
    pub meaning: definition::Definition<Text>,
}

impl Definition {
    /// Returns what the variable is for a connection.
    pub(super) fn value(&self, facts: &Facts) -> Vec<u8> {
        if self.meaning.keeping == Keeping::Volatile {
            return value(&self.meaning.rule, facts);
        }
        let known = facts.looked_up.borrow().get(&self.variable).cloned();
        known.unwrap_or_else(|| {
            let value = value(&self.meaning.rule, facts);
            facts.looked_up.borrow_mut().insert(self.variable, value.clone());
            value
        })
    }
}

fn value(rule: &Rule<Text>, facts: &Facts) -> Vec<u8> {
    match rule {
        Rule::Map(map) => map.look_up(&map.source.bytes(facts), &facts.captures).bytes(facts),
        Rule::Geo { source, geo } => {
            let address = match source {
                None => Some(facts.remote.ip()),
                Some(source) => parse(&source.bytes(facts)),
            };
            geo.look_up(address).to_vec()
        }
        Rule::Split { source, split } => split.choose(&source.bytes(facts)).to_vec(),
    }
}

fn parse(address: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(address).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{Keys, Map, Rows};
    use crate::model::Pattern;
    use crate::stream::text::Names;

    fn definition(keeping: Keeping) -> Definition {
        let text = |text| Text::parse(text, &Names::default()).unwrap();
        let mut rows = Rows::new(text("default"));
        rows.push_pattern(Pattern::new("^8(.)").unwrap(), text("<$1>"));
        let map = Map { source: text("$server_port"), keys: Keys::Texts, rows };
        Definition { variable: 0, meaning: definition::Definition { rule: Rule::Map(map), keeping } }
    }

    #[test]
    fn groups_of_the_row_that_matched_are_variables_of_its_value_and_stay() {
        for (port, expected, group) in [(81, "<1>", Some(&b"1"[..])), (90, "default", None)] {
            let facts = Facts::new(([192, 0, 2, 1], 1000).into(), ([192, 0, 2, 2], port).into(), 1);
            assert_eq!(definition(Keeping::Once).value(&facts), expected.as_bytes(), "{port}");
            assert_eq!(facts.captures.group(1).as_deref(), group, "{port}");
        }
    }

    #[test]
    fn value_holds_for_the_connection_unless_it_is_volatile() {
        for (keeping, expected) in [(Keeping::Once, "<1>"), (Keeping::Volatile, "default")] {
            let mut facts = Facts::new(([192, 0, 2, 1], 1000).into(), ([192, 0, 2, 2], 81).into(), 1);
            let definition = definition(keeping);
            assert_eq!(definition.value(&facts), b"<1>");
            facts.local.set_port(90);
            assert_eq!(definition.value(&facts), expected.as_bytes());
        }
    }
}
