//! `geo`: a value for each address.
//!
//! Networks (the smallest that holds an address counts) or ranges (a later one may stand inside an
//! earlier one) become one sorted list of where each value begins, so that a look is a binary search
//! however many rows there are.

mod networks;
mod ranges;

use std::net::{IpAddr, Ipv4Addr};

use http::HeaderMap;

use crate::model::RealIp;
use crate::unix;

pub use self::networks::Networks;
pub use self::ranges::{Overlap, Ranges};

/// A value for each address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geo {
    values: Values,
    v4: Stretches<u32>,
    /// `None` where rows are of IPv4 only, and an address of IPv6 is as good as none.
    v6: Option<Stretches<u128>>,
    /// Whose word is taken on whom a request is from (`proxy`).
    forwarded: Option<RealIp>,
}

impl Geo {
    /// Takes the word of some peers on whom a request is from.
    pub fn believe(&mut self, forwarded: RealIp) {
        self.forwarded = Some(forwarded);
    }

    /// Returns whom a request of this address is from, by the word of a peer; `None` if it has no say.
    pub fn client(&self, address: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        let client = self.forwarded.as_ref()?.client((address, 0).into(), headers, None)?;
        Some(client.ip())
    }

    /// Returns the value of an address; of none, which is that of 255.255.255.255 as in nginx.
    pub fn look_up(&self, address: Option<IpAddr>) -> &[u8] {
        let address =
            address.filter(|address| !unix::is_unix(*address)).map(|address| address.to_canonical());
        let value = match (address, &self.v6) {
            (Some(IpAddr::V4(v4)), _) => self.v4.at(v4.into()),
            (Some(IpAddr::V6(v6)), Some(stretches)) => stretches.at(v6.into()),
            (Some(IpAddr::V6(_)) | None, _) => self.v4.at(Ipv4Addr::BROADCAST.into()),
        };
        self.values.get(value)
    }
}

/// The values of rows, each once: bases of addresses have many rows and few values.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Values(Vec<Box<[u8]>>);

/// A value by its place.
type Value = u32;

/// The value where no row says anything: nothing.
const NOTHING: Value = 0;

impl Values {
    fn new() -> Self {
        Self(vec![Box::default()])
    }

    fn get(&self, value: Value) -> &[u8] {
        self.0.get(value as usize).map_or(b"", |value| value)
    }
}

/// The values of rows while they are read.
#[derive(Debug)]
struct Interned {
    values: Values,
    places: std::collections::HashMap<Box<[u8]>, Value>,
}

impl Default for Interned {
    fn default() -> Self {
        Self { values: Values::new(), places: [(Box::default(), NOTHING)].into() }
    }
}

impl Interned {
    fn place(&mut self, text: &str) -> Value {
        if let Some(&known) = self.places.get(text.as_bytes()) {
            return known;
        }
        // A file with more values than that does not fit into memory.
        let place = Value::try_from(self.values.0.len()).unwrap_or(NOTHING);
        self.values.0.push(text.as_bytes().into());
        self.places.insert(text.as_bytes().into(), place);
        place
    }

    /// Returns a value as messages show it.
    fn shown(&self, value: Value) -> String {
        String::from_utf8_lossy(self.values.get(value)).into_owned()
    }
}

/// Where each value begins; it holds up to the next beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stretches<N> {
    begin: Vec<(N, Value)>,
}

impl<N: Ord + Copy> Stretches<N> {
    /// All addresses from the `first` on have this value.
    fn new(first: N, value: Value) -> Self {
        Self { begin: vec![(first, value)] }
    }

    /// From here on it is this value; beginnings come in order.
    fn push(&mut self, from: N, value: Value) {
        match self.begin.last_mut() {
            Some(last) if last.0 == from => last.1 = value,
            Some(last) if last.1 == value => {}
            _ => self.begin.push((from, value)),
        }
    }

    fn at(&self, address: N) -> Value {
        let after = self.begin.partition_point(|&(from, _)| from <= address);
        after.checked_sub(1).and_then(|place| self.begin.get(place)).map_or(NOTHING, |&(_, value)| value)
    }
}
