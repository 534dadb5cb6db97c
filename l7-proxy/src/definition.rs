//! Variables that a configuration defines by a block of rows: `map`, `geo`, `split_clients`.
//!
//! `http {}` and `stream {}` have variables of their own, so that what is looked up and what a map
//! finds are of a type (`T`) that each of them has.

pub mod geo;
pub mod split;

use crate::map::Map;

use self::geo::Geo;
use self::split::Split;

/// What a variable stands for.
#[derive(Debug, Clone)]
pub struct Definition<T> {
    /// How its value is found.
    pub rule: Rule<T>,
    /// How long the value holds.
    pub keeping: Keeping,
}

/// How the value of a variable is found.
#[derive(Debug, Clone)]
pub enum Rule<T> {
    /// By the text of something else (`map`).
    Map(Map<T>),
    /// By an address (`geo`); without a source it is the client's.
    Geo {
        /// What the address is read from.
        source: Option<T>,
        /// What each address yields.
        geo: Geo,
    },
    /// By a share of all texts (`split_clients`).
    Split {
        /// The text that is hashed.
        source: T,
        /// What each share yields.
        split: Split,
    },
}

/// How long the value of a variable holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keeping {
    /// From the first look to the end of the request or the connection, whatever changes meanwhile.
    #[default]
    Once,
    /// Until the next look (`volatile`).
    Volatile,
}

impl<T> Definition<T> {
    /// Returns every text that may be asked for the value.
    pub fn texts(&self) -> Vec<&T> {
        match &self.rule {
            Rule::Map(map) => map.values().chain([&map.source]).collect(),
            Rule::Geo { source, .. } => source.iter().collect(),
            Rule::Split { source, .. } => vec![source],
        }
    }
}
