//! `map {}`: a value for each value of something else.

use std::collections::HashMap;

use crate::model::Pattern;
use crate::variable::Captures;

use super::facts::Facts;
use super::text::Text;

/// A `map {}` of `stream {}`.
///
/// Rows are asked in nginx's order, not in that of the file: the exact text, then with `hostnames`
/// the longest wildcard, then the expressions in the order of the file, then the default.
#[derive(Debug, Clone)]
pub struct Map {
    /// The number of the variable that it defines.
    pub variable: usize,
    source: Text,
    /// Rows with a plain text, in lower case.
    exact: HashMap<Vec<u8>, Text, foldhash::fast::RandomState>,
    /// `*.example.org` as `example.org`.
    endings: HashMap<Vec<u8>, Text, foldhash::fast::RandomState>,
    /// `www.example.*` as `www.example`.
    beginnings: HashMap<Vec<u8>, Text, foldhash::fast::RandomState>,
    patterns: Vec<(Pattern, Text)>,
    default: Text,
}

/// What a row of a map asks for.
#[derive(Debug)]
pub enum Row {
    /// This text; case does not count.
    Exact(String),
    /// Names that end in a dot and this.
    Ending(String),
    /// Names that begin with this and a dot.
    Beginning(String),
    /// What the expression matches.
    Pattern(Pattern),
    /// Everything else.
    Default,
}

impl Map {
    /// Returns a map without rows, which yields nothing.
    pub fn new(variable: usize, source: Text) -> Self {
        Self {
            variable,
            source,
            exact: HashMap::default(),
            endings: HashMap::default(),
            beginnings: HashMap::default(),
            patterns: Vec::new(),
            default: Text::literal(""),
        }
    }

    /// Adds a row; returns whether there was none for the same.
    pub fn insert(&mut self, row: Row, value: Text) -> bool {
        let key = |text: String| text.to_ascii_lowercase().into_bytes();
        match row {
            Row::Exact(text) => self.exact.insert(key(text), value).is_none(),
            Row::Ending(text) => self.endings.insert(key(text), value).is_none(),
            Row::Beginning(text) => self.beginnings.insert(key(text), value).is_none(),
            Row::Pattern(pattern) => {
                self.patterns.push((pattern, value));
                true
            }
            Row::Default => {
                self.default = value;
                true
            }
        }
    }

    /// Returns what the map yields for a connection.
    pub(super) fn value(&self, facts: &Facts) -> Vec<u8> {
        let asked = self.source.bytes(facts);
        let lower = asked.to_ascii_lowercase();
        if let Some(value) = self.exact.get(&lower).or_else(|| self.by_wildcard(&lower)) {
            return value.bytes(facts);
        }
        let mut captures = Captures::default();
        for (pattern, value) in &self.patterns {
            if captures.matches(pattern.regex(), &asked) {
                return value.bytes_with(facts, &captures);
            }
        }
        self.default.bytes(facts)
    }

    fn by_wildcard(&self, name: &[u8]) -> Option<&Text> {
        let ending = memchr::memchr_iter(b'.', name).find_map(|dot| self.endings.get(&name[dot + 1..]));
        ending.or_else(|| memchr::memrchr_iter(b'.', name).find_map(|dot| self.beginnings.get(&name[..dot])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::text::Names;

    fn facts(port: u16) -> Facts {
        Facts::new(([192, 0, 2, 1], 1000).into(), ([192, 0, 2, 2], port).into(), 1)
    }

    #[test]
    fn exact_row_comes_before_an_expression_and_that_before_the_default() {
        let source = Text::parse("$server_port", &Names::default()).unwrap();
        let mut map = Map::new(0, source);
        let group = Text::parse("<$1>", &Names::default()).unwrap();
        map.insert(Row::Pattern(Pattern::new("^8(.)").unwrap()), group);
        assert!(map.insert(Row::Exact("80".to_owned()), Text::literal("exact")));
        assert!(!map.insert(Row::Exact("80".to_owned()), Text::literal("exact")));
        map.insert(Row::Default, Text::literal("default"));
        for (port, expected) in [(80, "exact"), (81, "<1>"), (90, "default")] {
            assert_eq!(map.value(&facts(port)), expected.as_bytes(), "{port}");
        }
    }

    #[test]
    fn longest_wildcard_of_a_host_name_wins() {
        for (name, expected) in [
            ("a.b.example.org", "long"),
            ("x.ORG", "short"),
            ("www.example.com", "beginning"),
            ("org", "default"),
        ] {
            let mut map = Map::new(0, Text::literal(name));
            map.insert(Row::Ending("org".to_owned()), Text::literal("short"));
            map.insert(Row::Ending("example.org".to_owned()), Text::literal("long"));
            map.insert(Row::Beginning("www".to_owned()), Text::literal("beginning"));
            map.insert(Row::Default, Text::literal("default"));
            assert_eq!(map.value(&facts(1)), expected.as_bytes(), "{name}");
        }
    }
}
