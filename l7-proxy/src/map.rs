//! `map {}` of `http {}` and of `stream {}`: a value for each value of something else.
//!
//! Both sides have variables of their own, so that what is looked up and what is found are of a type
//! that each of them has.

use std::collections::HashMap;

use crate::model::Pattern;
use crate::variable::Captures;

/// A `map {}`: a value for each value of something else.
#[derive(Debug, Clone)]
pub struct Map<T> {
    /// What is looked up.
    pub source: T,
    /// How it is read.
    pub keys: Keys,
    /// What each text yields.
    pub rows: Rows<T>,
}

impl<T> Map<T> {
    /// Returns the values of all rows.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.rows.values()
    }

    /// Returns the value of the row for what the source says, as [`Rows::look_up`] does.
    pub fn look_up(&self, said: &[u8], captures: &Captures) -> &T {
        let name = said.strip_suffix(b".").filter(|_| self.keys == Keys::Names);
        self.rows.look_up(name.unwrap_or(said), captures)
    }
}

/// What the rows of a map stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Texts.
    Texts,
    /// Names of hosts (`hostnames`), some with a wildcard; a dot at the end of what is looked up is none of it.
    Names,
}

/// A value for each text.
///
/// The order in which rows are asked is nginx's, not that of the file: the exact text, then with
/// `hostnames` the longest wildcard, then the expressions in the order of the file, then the default.
#[derive(Debug, Clone)]
pub struct Rows<T> {
    /// Rows with a plain text, lower case.
    exact: HashMap<Box<[u8]>, T, foldhash::fast::RandomState>,
    /// `.example.org` and `*.example.org` as `example.org`.
    endings: HashMap<Box<[u8]>, T, foldhash::fast::RandomState>,
    /// `www.example.*` as `www.example`.
    beginnings: HashMap<Box<[u8]>, T, foldhash::fast::RandomState>,
    /// Rows with an expression.
    patterns: Vec<(Pattern, T)>,
    /// What holds where no row does.
    pub default: T,
}

impl<T> Rows<T> {
    /// Returns no rows at all, which yield `default`.
    pub fn new(default: T) -> Self {
        Self {
            exact: HashMap::default(),
            endings: HashMap::default(),
            beginnings: HashMap::default(),
            patterns: Vec::new(),
            default,
        }
    }

    /// Returns whether there is no row but those with an expression.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.endings.is_empty() && self.beginnings.is_empty()
    }

    /// Adds a row for a text, in which case does not count; returns whether there was none.
    pub fn insert(&mut self, text: &str, value: T) -> bool {
        self.exact.insert(text.to_ascii_lowercase().into_bytes().into(), value).is_none()
    }

    /// Adds a row for a host name, or for those that `*.example.org`, `.example.org` or `www.example.*` stand
    /// for; returns whether there was none.
    pub fn insert_name(&mut self, name: &str, value: T) -> bool
    where
        T: Clone,
    {
        if let Some(ending) = name.strip_prefix("*.") {
            self.insert_ending(ending, value)
        } else if let Some(beginning) = name.strip_suffix(".*") {
            self.insert_beginning(beginning, value)
        } else if let Some(domain) = name.strip_prefix('.') {
            self.insert(domain, value.clone()) && self.insert_ending(domain, value)
        } else {
            self.insert(name, value)
        }
    }

    /// Adds a row for host names that end in `.ending`.
    pub fn insert_ending(&mut self, ending: &str, value: T) -> bool {
        self.endings.insert(ending.to_ascii_lowercase().into_bytes().into(), value).is_none()
    }

    /// Adds a row for host names that begin with `beginning.`.
    pub fn insert_beginning(&mut self, beginning: &str, value: T) -> bool {
        self.beginnings.insert(beginning.to_ascii_lowercase().into_bytes().into(), value).is_none()
    }

    /// Adds a row for what an expression matches.
    pub fn push_pattern(&mut self, pattern: Pattern, value: T) {
        self.patterns.push((pattern, value));
    }

    /// Returns the values of all rows.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        let plain = self.exact.values().chain(self.endings.values()).chain(self.beginnings.values());
        plain.chain(self.patterns.iter().map(|(_, value)| value)).chain([&self.default])
    }

    /// Returns the value of the row for `text`; groups of an expression that matched are put into
    /// `captures`, where they stay, as in nginx.
    pub fn look_up(&self, text: &[u8], captures: &Captures) -> &T {
        let lower = text.to_ascii_lowercase();
        let found = self.exact.get(&*lower).or_else(|| self.by_wildcard(&lower));
        if let Some(value) = found {
            return value;
        }
        // nginx asks no expression about nothing.
        if text.is_empty() {
            return &self.default;
        }
        let mut patterns = self.patterns.iter();
        patterns
            .find(|(pattern, _)| captures.matches_at_a_look(pattern, text))
            .map_or(&self.default, |(_, value)| value)
    }

    fn by_wildcard(&self, name: &[u8]) -> Option<&T> {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> Rows<&'static str> {
        Rows::new("default")
    }

    #[track_caller]
    fn check(map: &Rows<&str>, text: &str, expected: &str) {
        let value = map.look_up(text.as_bytes(), &Captures::default());
        assert_eq!(*value, expected, "{text}");
    }

    #[test]
    fn exact_text_comes_before_an_expression_in_any_order() {
        let mut map = map();
        map.push_pattern(Pattern::new("^a").unwrap(), "pattern");
        map.insert("ABC", "exact");
        check(&map, "abc", "exact");
        check(&map, "abd", "pattern");
        check(&map, "b", "default");
    }

    #[test]
    fn longest_wildcard_of_a_host_name_wins() {
        let mut map = map();
        map.insert_ending("org", "short");
        map.insert_ending("example.org", "long");
        map.insert_beginning("www", "beginning");
        check(&map, "a.b.example.org", "long");
        check(&map, "x.ORG", "short");
        check(&map, "www.example.com", "beginning");
        check(&map, "org", "default");
    }
}
