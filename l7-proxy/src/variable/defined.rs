//! Variables that a configuration defines itself: by `set`, and by `map`.
//!
//! Each has a number, which is its place in the [`Definitions`]. What `set` assigned belongs to one
//! request ([`Assigned`]); what a `map` yields is looked up whenever it is asked for, so that a map
//! that nobody asks costs nothing.

use std::collections::HashMap;

use crate::model::Pattern;

use super::{Captures, Exchange, Value};

/// The variables that a configuration defines, by their numbers.
#[derive(Debug, Clone, Default)]
pub struct Definitions {
    maps: Vec<Option<Map>>,
}

impl Definitions {
    /// Returns definitions of no variable at all.
    pub const fn none() -> Self {
        Self { maps: Vec::new() }
    }

    /// Gives the variable with this number the meaning of a map.
    pub fn define(&mut self, number: u16, map: Map) {
        let place = usize::from(number);
        if self.maps.len() <= place {
            self.maps.resize_with(place + 1, || None);
        }
        self.maps[place] = Some(map);
    }

    /// Returns the map that the variable with this number stands for.
    pub fn map(&self, number: u16) -> Option<&Map> {
        self.maps.get(usize::from(number))?.as_ref()
    }

    /// Returns the maps with their numbers.
    pub fn maps(&self) -> impl Iterator<Item = (u16, &Map)> {
        (0..).zip(&self.maps).filter_map(|(number, map)| Some((number, map.as_ref()?)))
    }
}

/// What `set` has given to one request's variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assigned {
    values: Vec<Option<Box<[u8]>>>,
}

impl Assigned {
    /// Gives the variable with this number a value.
    pub fn set(&mut self, number: u16, value: &[u8]) {
        let place = usize::from(number);
        if self.values.len() <= place {
            self.values.resize_with(place + 1, || None);
        }
        self.values[place] = Some(value.into());
    }

    /// Returns the value of the variable with this number, if it was given one.
    pub fn get(&self, number: u16) -> Option<&[u8]> {
        self.values.get(usize::from(number))?.as_deref()
    }
}

/// A `map {}`: a value for each value of something else.
///
/// The order in which rows are asked is nginx's, not that of the file: the exact text, then with
/// `hostnames` the longest wildcard, then the expressions in the order of the file, then the default.
#[derive(Debug, Clone)]
pub struct Map {
    /// What is looked up.
    pub source: Value,
    /// Rows with a plain text, lower case.
    exact: HashMap<Box<[u8]>, Value, foldhash::fast::RandomState>,
    /// `.example.org` and `*.example.org` as `example.org`.
    endings: HashMap<Box<[u8]>, Value, foldhash::fast::RandomState>,
    /// `www.example.*` as `www.example`.
    beginnings: HashMap<Box<[u8]>, Value, foldhash::fast::RandomState>,
    /// Rows with an expression.
    patterns: Vec<(Pattern, Value)>,
    /// What holds where no row does.
    pub default: Value,
}

impl Map {
    /// Returns a map without rows, which yields nothing.
    pub fn new(source: Value) -> Self {
        Self {
            source,
            exact: HashMap::default(),
            endings: HashMap::default(),
            beginnings: HashMap::default(),
            patterns: Vec::new(),
            default: Value::literal(""),
        }
    }

    /// Adds a row for a text, in which case does not count; returns whether there was none.
    pub fn insert(&mut self, text: &str, value: Value) -> bool {
        self.exact.insert(text.to_ascii_lowercase().into_bytes().into(), value).is_none()
    }

    /// Adds a row for host names that end in `.ending`.
    pub fn insert_ending(&mut self, ending: &str, value: Value) -> bool {
        self.endings.insert(ending.to_ascii_lowercase().into_bytes().into(), value).is_none()
    }

    /// Adds a row for host names that begin with `beginning.`.
    pub fn insert_beginning(&mut self, beginning: &str, value: Value) -> bool {
        self.beginnings.insert(beginning.to_ascii_lowercase().into_bytes().into(), value).is_none()
    }

    /// Adds a row for what an expression matches.
    pub fn push_pattern(&mut self, pattern: Pattern, value: Value) {
        self.patterns.push((pattern, value));
    }

    /// Returns the values of all rows.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        let plain = self.exact.values().chain(self.endings.values()).chain(self.beginnings.values());
        plain.chain(self.patterns.iter().map(|(_, value)| value)).chain([&self.default])
    }

    /// Returns the value of the row for `text`; groups of an expression that matched are put into
    /// `captures`.
    pub fn look_up(&self, text: &[u8], captures: &mut Captures) -> &Value {
        let lower = text.to_ascii_lowercase();
        let found = self.exact.get(&*lower).or_else(|| self.by_wildcard(&lower));
        if let Some(value) = found {
            return value;
        }
        let mut patterns = self.patterns.iter();
        patterns
            .find(|(pattern, _)| captures.matches(pattern.regex(), text))
            .map_or(&self.default, |(_, value)| value)
    }

    fn by_wildcard(&self, name: &[u8]) -> Option<&Value> {
        if self.endings.is_empty() && self.beginnings.is_empty() {
            return None;
        }
        let mut dots = memchr::memchr_iter(b'.', name);
        let ending = dots.find_map(|dot| self.endings.get(&name[dot + 1..]));
        ending.or_else(|| {
            let mut dots = memchr::memrchr_iter(b'.', name);
            dots.find_map(|dot| self.beginnings.get(&name[..dot]))
        })
    }

    /// Appends what the map yields for a request.
    pub(super) fn write(&self, exchange: &Exchange<'_>, out: &mut Vec<u8>) {
        let mut text = Vec::new();
        self.source.write(exchange, &mut text);
        if self.patterns.is_empty() {
            return self.look_up(&text, &mut Captures::default()).write(exchange, out);
        }
        let mut captures = exchange.captures.clone();
        let value = self.look_up(&text, &mut captures);
        value.write(&Exchange { captures: &captures, ..*exchange }, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> Map {
        let mut map = Map::new(Value::literal(""));
        map.default = Value::literal("default");
        map
    }

    #[track_caller]
    fn check(map: &Map, text: &str, expected: &str) {
        let value = map.look_up(text.as_bytes(), &mut Captures::default());
        assert_eq!(value.as_literal(), Some(expected.as_bytes()), "{text}");
    }

    #[test]
    fn exact_text_comes_before_an_expression_in_any_order() {
        let mut map = map();
        map.push_pattern(Pattern::new("^a").unwrap(), Value::literal("pattern"));
        map.insert("ABC", Value::literal("exact"));
        check(&map, "abc", "exact");
        check(&map, "abd", "pattern");
        check(&map, "b", "default");
    }

    #[test]
    fn longest_wildcard_of_a_host_name_wins() {
        let mut map = map();
        map.insert_ending("org", Value::literal("short"));
        map.insert_ending("example.org", Value::literal("long"));
        map.insert_beginning("www", Value::literal("beginning"));
        check(&map, "a.b.example.org", "long");
        check(&map, "x.ORG", "short");
        check(&map, "www.example.com", "beginning");
        check(&map, "org", "default");
    }
}
