//! The virtual server of a name, among those of one address.

use std::collections::HashMap;

use crate::model::{Pattern, ServerName};
use crate::variable::Captures;

type Map = HashMap<Box<str>, usize, foldhash::fast::RandomState>;

/// The names of the servers of one address.
#[derive(Debug)]
pub(crate) struct NameTable {
    /// The server for names that no other has.
    pub(super) default: usize,
    exact: Map,
    /// Endings, without the dot before them.
    leading: Map,
    /// Beginnings, without the dot after them.
    trailing: Map,
    regexes: Vec<(Pattern, usize)>,
    /// The default is the only server, and no expression has groups to remember.
    single: bool,
}

impl NameTable {
    pub(crate) fn new<'a>(default: usize, servers: impl Iterator<Item = (usize, &'a [ServerName])>) -> Self {
        let mut table = Self {
            default,
            exact: Map::default(),
            leading: Map::default(),
            trailing: Map::default(),
            regexes: Vec::new(),
            single: true,
        };
        for (server, names) in servers {
            table.single &= server == default;
            for name in names {
                table.add(server, name);
            }
        }
        table.single &= table.regexes.is_empty();
        table
    }

    /// Adds a name; of two servers with the same name the first keeps it, as in nginx.
    fn add(&mut self, server: usize, name: &ServerName) {
        match name {
            ServerName::Exact(name) => _ = self.exact.entry((**name).into()).or_insert(server),
            ServerName::LeadingWildcard(end) => {
                _ = self.leading.entry((**end).into()).or_insert(server);
            }
            ServerName::NameAndSubdomains(name) => {
                self.exact.entry((**name).into()).or_insert(server);
                self.leading.entry((**name).into()).or_insert(server);
            }
            ServerName::TrailingWildcard(start) => {
                _ = self.trailing.entry((**start).into()).or_insert(server);
            }
            ServerName::Regex(pattern) => self.regexes.push((pattern.clone(), server)),
        }
    }

    /// The server for names that no other has.
    pub(crate) fn default(&self) -> usize {
        self.default
    }

    pub(crate) fn find(&self, host: &str, captures: &mut Captures) -> usize {
        if self.single {
            return self.default;
        }
        if let Some(&server) = self.exact.get(host) {
            return server;
        }
        if host.is_empty() {
            return self.default;
        }
        if !self.leading.is_empty() {
            let mut end = host;
            while let Some((_, rest)) = end.split_once('.') {
                if let Some(&server) = self.leading.get(rest) {
                    return server;
                }
                end = rest;
            }
        }
        if !self.trailing.is_empty() {
            let mut start = host;
            while let Some((rest, _)) = start.rsplit_once('.') {
                if let Some(&server) = self.trailing.get(rest) {
                    return server;
                }
                start = rest;
            }
        }
        let mut regexes = self.regexes.iter();
        let found = regexes.find(|(pattern, _)| captures.matches(pattern, host.as_bytes()));
        found.map_or(self.default, |&(_, server)| server)
    }
}
