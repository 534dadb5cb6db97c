//! Networks of `geo`: the smallest one that holds an address counts.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::stream::access::Network;

use super::{Geo, Interned, NOTHING, Stretches, Value};

/// Networks and their values, while they are read.
#[derive(Debug, Default)]
pub struct Networks {
    values: Interned,
    /// By first address, and the larger network first: as a walk through all addresses meets them.
    v4: BTreeMap<(u32, u8), Value>,
    v6: BTreeMap<(u128, u8), Value>,
}

impl Networks {
    /// Gives all addresses of a network a value; returns the one that it had.
    pub fn insert(&mut self, network: Network, value: &str) -> Option<String> {
        let (place, bits) = (self.values.place(value), network.bits());
        let before = match network.base() {
            IpAddr::V4(base) => self.v4.insert((base.into(), bits), place),
            IpAddr::V6(base) => self.v6.insert((base.into(), bits), place),
        };
        before.map(|before| self.values.shown(before))
    }

    /// Takes the row of a network away; returns whether there was one.
    pub fn delete(&mut self, network: Network) -> bool {
        match network.base() {
            IpAddr::V4(base) => self.v4.remove(&(base.into(), network.bits())).is_some(),
            IpAddr::V6(base) => self.v6.remove(&(base.into(), network.bits())).is_some(),
        }
    }

    /// Returns whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Returns what has been read in the form that is looked up in.
    pub fn finish(self) -> Geo {
        let v4 = self.v4.iter().map(|(&(base, bits), &value)| (base, base | !mask_v4(bits), value));
        let v6 = self.v6.iter().map(|(&(base, bits), &value)| (base, base | !mask_v6(bits), value));
        let v4 = flatten(v4, 0, |last| last.checked_add(1));
        let v6 = flatten(v6, 0, |last| last.checked_add(1));
        Geo { values: self.values.values, v4, v6: Some(v6), forwarded: None }
    }
}

fn mask_v4(bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0)
}

fn mask_v6(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0)
}

/// Lays networks side by side that stand inside each other: they come by their first address, and the
/// larger one first.
fn flatten<N: Ord + Copy>(
    networks: impl Iterator<Item = (N, N, Value)>,
    zero: N,
    after: impl Fn(N) -> Option<N>,
) -> Stretches<N> {
    let mut found = Stretches::new(zero, NOTHING);
    // Those that hold the present address, the smallest at the end.
    let mut open: Vec<(N, Value)> = Vec::new();
    let close = |open: &mut Vec<(N, Value)>, found: &mut Stretches<N>| {
        let Some((last, _)) = open.pop() else { return };
        let outer = open.last().map_or(NOTHING, |&(_, value)| value);
        if let Some(next) = after(last) {
            found.push(next, outer);
        }
    };
    for (first, last, value) in networks {
        while open.last().is_some_and(|&(end, _)| end < first) {
            close(&mut open, &mut found);
        }
        found.push(first, value);
        open.push((last, value));
    }
    while !open.is_empty() {
        close(&mut open, &mut found);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap()
    }

    /// The smallest network that holds an address, found by looking at each.
    fn naive(rows: &[Network], address: u32) -> Option<usize> {
        let address = IpAddr::V4(address.into());
        (0..rows.len()).filter(|&row| rows[row].contains(address)).max_by_key(|&row| rows[row].bits())
    }

    #[test]
    fn smallest_network_counts() {
        // Linear congruences: small networks in a small space, so that they stand inside each other.
        let mut state = 7_u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        for _ in 0..50 {
            let mut networks = Networks::default();
            let mut rows: Vec<Network> = Vec::new();
            for _ in 0..random(40) {
                let row = network(&format!("0.0.0.{}/{}", random(256), 24 + random(9)));
                if !rows.contains(&row) {
                    networks.insert(row, &rows.len().to_string());
                    rows.push(row);
                }
            }
            let geo = networks.finish();
            for address in 0..300 {
                let expected = naive(&rows, address).map_or(String::new(), |row| row.to_string());
                let found = geo.look_up(Some(IpAddr::V4(address.into())));
                assert_eq!(std::str::from_utf8(found).unwrap(), expected, "{address} in {rows:?}");
            }
        }
    }

    #[test]
    fn address_that_is_none_is_the_last_of_all() {
        let mut networks = Networks::default();
        for (text, value) in [("0.0.0.0/0", "all"), ("::/0", "all of v6"), ("255.255.255.255/32", "none")] {
            assert_eq!(networks.insert(network(text), value), None);
        }
        let geo = networks.finish();
        assert_eq!(geo.look_up(None), b"none");
        assert_eq!(geo.look_up(Some([255, 255, 255, 254].into())), b"all");
        assert_eq!(geo.look_up(Some("2001:db8::1".parse().unwrap())), b"all of v6");
        assert_eq!(geo.look_up(Some("::ffff:1.2.3.4".parse().unwrap())), b"all");
    }

    #[test]
    fn deleted_network_leaves_its_addresses_to_the_one_around_it() {
        let mut networks = Networks::default();
        let (outer, inner) = (network("10.0.0.0/8"), network("10.1.0.0/16"));
        networks.insert(outer, "outer");
        networks.insert(inner, "inner");
        assert_eq!(networks.insert(inner, "other"), Some("inner".to_owned()));
        assert!(networks.delete(inner));
        assert!(!networks.delete(inner));
        assert_eq!(networks.finish().look_up(Some([10, 1, 2, 3].into())), b"outer");
    }
}
