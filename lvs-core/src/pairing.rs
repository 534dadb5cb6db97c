//! Which servers of two lists are the same ones.
//!
//! Servers are known by address. A list nearly always differs from the one before it in one place,
//! so what both begin and end with is paired as it stands, and only the rest is looked up.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::config::ServerConfig;
use crate::scheduler::Seat;

/// What has the address of a server, which no other of its list has.
pub(crate) trait Addressed {
    fn address(&self) -> SocketAddr;
}

/// For each server of `list`, its place in `other`, if it is there.
pub(crate) fn places_in<A: Addressed, B: Addressed>(other: &[B], list: &[A]) -> Vec<Option<usize>> {
    let same = |(one, other): &(&A, &B)| one.address() == other.address();
    let head = list.iter().zip(other).take_while(same).count();
    let tail = list[head..].iter().rev().zip(other[head..].iter().rev()).take_while(same).count();
    let (ends, others_end) = (list.len() - tail, other.len() - tail);
    let between = other[head..others_end].iter().enumerate();
    let known: HashMap<SocketAddr, usize, foldhash::fast::RandomState> =
        between.map(|(place, server)| (server.address(), head + place)).collect();
    let mut places = Vec::with_capacity(list.len());
    places.extend((0..head).map(Some));
    places.extend(list[head..ends].iter().map(|server| known.get(&server.address()).copied()));
    places.extend((others_end..other.len()).map(Some));
    places
}

impl Addressed for ServerConfig {
    fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Addressed for Seat {
    fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(other: &str, list: &str, places: &[Option<usize>]) {
        let servers = |names: &str| -> Vec<ServerConfig> {
            let addresses = names.bytes().map(|name| SocketAddr::from(([10, 0, 0, name], 80)));
            addresses.map(ServerConfig::new).collect()
        };
        assert_eq!(places_in(&servers(other), &servers(list)), places, "{list} in {other}");
    }

    #[test]
    fn server_is_found_wherever_it_stands() {
        check("abc", "abc", &[Some(0), Some(1), Some(2)]);
        check("abcd", "acd", &[Some(0), Some(2), Some(3)]);
        check("acd", "abcd", &[Some(0), None, Some(1), Some(2)]);
        check("abc", "cab", &[Some(2), Some(0), Some(1)]);
        check("abcde", "adxbe", &[Some(0), Some(3), None, Some(1), Some(4)]);
        check("", "a", &[None]);
        check("a", "", &[]);
    }
}
