//! Variables that a configuration defines itself: by `set`, and by `map`.
//!
//! Each has a number, which is its place in the [`Definitions`]. What `set` assigned belongs to one
//! request ([`Assigned`]); what a `map` yields is looked up whenever it is asked for, so that a map
//! that nobody asks costs nothing.

use crate::map;

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

/// A `map {}` of `http {}`.
pub type Map = map::Map<Value>;

impl Map {
    /// Appends what the map yields for a request.
    pub(super) fn write(&self, exchange: &Exchange<'_>, out: &mut Vec<u8>) {
        let mut text = Vec::new();
        self.source.write(exchange, &mut text);
        if !self.has_patterns() {
            return self.look_up(&text, &mut Captures::default()).write(exchange, out);
        }
        let mut captures = exchange.captures.clone();
        let value = self.look_up(&text, &mut captures);
        value.write(&Exchange { captures: &captures, ..*exchange }, out);
    }
}
