//! Variables that a configuration defines itself: by `set`, and by `map`, `geo` and `split_clients`.
//!
//! Each has a number, which is its place in the [`Definitions`]. What `set` assigned belongs to one
//! request ([`Assigned`]); what a block yields is looked up when it is asked for, so that one that
//! nobody asks costs nothing, and then holds for the request, as in nginx.

use std::net::IpAddr;

use crate::definition::{self, Definition, Keeping, Rule};

use super::{Exchange, Value};

/// The variables that a configuration defines, by their numbers.
#[derive(Debug, Clone, Default)]
pub struct Definitions {
    blocks: Vec<Option<Definition<Value>>>,
}

impl Definitions {
    /// Returns definitions of no variable at all.
    pub const fn none() -> Self {
        Self { blocks: Vec::new() }
    }

    /// Gives the variable with this number a meaning.
    pub fn define(&mut self, number: u16, definition: Definition<Value>) {
        let place = usize::from(number);
        if self.blocks.len() <= place {
            self.blocks.resize_with(place + 1, || None);
        }
        self.blocks[place] = Some(definition);
    }

    /// Returns what the variable with this number stands for.
    pub fn get(&self, number: u16) -> Option<&Definition<Value>> {
        self.blocks.get(usize::from(number))?.as_ref()
    }

    /// Returns the definitions with their numbers.
    pub fn all(&self) -> impl Iterator<Item = (u16, &Definition<Value>)> {
        (0..).zip(&self.blocks).filter_map(|(number, block)| Some((number, block.as_ref()?)))
    }

    /// Appends what the variable with this number is for a request; nothing if no block defines it.
    pub(super) fn write(&self, number: u16, exchange: &Exchange<'_>, out: &mut Vec<u8>) {
        let Some(definition) = self.get(number) else { return };
        if definition.keeping == Keeping::Volatile {
            return write(&definition.rule, exchange, out);
        }
        let found = &exchange.findings.looked_up;
        if let Some(value) = found.borrow().get(number) {
            out.extend_from_slice(value);
            return;
        }
        let begin = out.len();
        write(&definition.rule, exchange, out);
        found.borrow_mut().set(number, &out[begin..]);
    }
}

fn write(rule: &definition::Rule<Value>, exchange: &Exchange<'_>, out: &mut Vec<u8>) {
    let mut text = Vec::new();
    match rule {
        Rule::Map(map) => {
            map.look_up(map.source.bytes(exchange, &mut text), exchange.captures).write(exchange, out)
        }
        Rule::Geo { source, geo } => {
            let address = match source {
                None => Some(exchange.connection.remote.ip()),
                Some(source) => parse(source.bytes(exchange, &mut text)),
            };
            let told = address.and_then(|address| geo.client(address, exchange.headers));
            out.extend_from_slice(geo.look_up(told.or(address)));
        }
        Rule::Split { source, split } => {
            out.extend_from_slice(split.choose(source.bytes(exchange, &mut text)));
        }
    }
}

fn parse(address: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(address).ok()?.parse().ok()
}

/// Values of one request's variables, by their numbers.
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
