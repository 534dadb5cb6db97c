//! `map {}` of `stream {}`: a variable whose value depends on another.

use crate::map;

use super::facts::Facts;
use super::text::Text;

/// A variable that a `map {}` defines.
#[derive(Debug, Clone)]
pub struct Map {
    /// The number of the variable.
    pub variable: usize,
    /// What it stands for.
    pub rows: map::Map<Text>,
}

impl Map {
    /// Returns what the map yields for a connection.
    pub(super) fn value(&self, facts: &Facts) -> Vec<u8> {
        let asked = self.rows.source.bytes(facts);
        if !self.rows.has_patterns() {
            return self.rows.look_up(&asked, &mut facts.captures.clone()).bytes(facts);
        }
        let mut captures = facts.captures.clone();
        let found = self.rows.look_up(&asked, &mut captures);
        found.bytes_with(facts, &captures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Pattern;
    use crate::stream::text::Names;

    #[test]
    fn groups_of_the_row_that_matched_are_variables_of_its_value() {
        let text = |text| Text::parse(text, &Names::default()).unwrap();
        let mut rows = map::Map::new(text("$server_port"), text("default"));
        rows.push_pattern(Pattern::new("^8(.)").unwrap(), text("<$1>"));
        let map = Map { variable: 0, rows };
        for (port, expected) in [(81, "<1>"), (90, "default")] {
            let facts = Facts::new(([192, 0, 2, 1], 1000).into(), ([192, 0, 2, 2], port).into(), 1);
            assert_eq!(map.value(&facts), expected.as_bytes(), "{port}");
        }
    }
}
