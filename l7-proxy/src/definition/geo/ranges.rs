//! Ranges of `geo`: a later one may stand inside an earlier one, and takes that much of it.
//!
//! As in nginx a range is cut into pieces of 65,536 addresses when it is read. That shows in what is
//! taken for an overlap, and in nothing else: a range around an earlier one is refused, unless the
//! earlier one is all of a piece.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::{Geo, Interned, NOTHING, Stretches, Value};

/// Ranges and their values, while they are read.
#[derive(Debug, Default)]
pub struct Ranges {
    values: Interned,
    /// By first address: the last one, and the value. None touches two pieces.
    pieces: BTreeMap<u32, (u32, Value)>,
    default: Option<Value>,
}

/// Addresses that have a value already by a range which is not all around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap(pub Ipv4Addr, pub Ipv4Addr);

impl Ranges {
    /// Gives a range of addresses a value; returns the one that exactly this range had, if it had one.
    ///
    /// # Errors
    /// It stands neither inside an earlier range nor beside it.
    pub fn insert(&mut self, first: u32, last: u32, value: &str) -> Result<Option<String>, Overlap> {
        let place = self.values.place(value);
        let mut before = None;
        for (first, last) in pieces(first, last) {
            if let Some(old) = self.insert_piece(first, last, place)? {
                before.get_or_insert(old);
            }
        }
        Ok(before.map(|before| self.values.shown(before)))
    }

    fn insert_piece(&mut self, first: u32, last: u32, value: Value) -> Result<Option<Value>, Overlap> {
        // Of all that begin before its end only the last can have to do with it: they do not overlap.
        let touched = self.pieces.range(..=last).next_back().map(|(&start, &(end, old))| (start, end, old));
        let Some((start, end, old)) = touched.filter(|&(_, end, _)| end >= first) else {
            self.pieces.insert(first, (last, value));
            return Ok(None);
        };
        if first < start || end < last {
            return Err(Overlap(start.into(), end.into()));
        }
        if start < first {
            self.pieces.insert(start, (first - 1, old));
        }
        if last < end {
            self.pieces.insert(last + 1, (end, old));
        }
        self.pieces.insert(first, (last, value));
        Ok((start == first && end == last).then_some(old))
    }

    /// Takes a range away; returns whether all of it was one.
    pub fn delete(&mut self, first: u32, last: u32) -> bool {
        let mut found = true;
        for (first, last) in pieces(first, last) {
            match self.pieces.get(&first) {
                Some(&(end, _)) if end == last => _ = self.pieces.remove(&first),
                _ => found = false,
            }
        }
        found
    }

    /// Says what holds for all other addresses; returns what was said before.
    pub fn set_default(&mut self, value: &str) -> Option<String> {
        let place = self.values.place(value);
        self.default.replace(place).map(|before| self.values.shown(before))
    }

    /// Returns what has been read in the form that is looked up in.
    pub fn finish(self) -> Geo {
        let default = self.default.unwrap_or(NOTHING);
        let mut stretches = Stretches::new(0, default);
        for (&first, &(last, value)) in &self.pieces {
            stretches.push(first, value);
            if let Some(next) = last.checked_add(1) {
                stretches.push(next, default);
            }
        }
        Geo { values: self.values.values, v4: stretches, v6: None, forwarded: None }
    }
}

/// Cuts a range where the first sixteen bits change.
fn pieces(first: u32, last: u32) -> impl Iterator<Item = (u32, u32)> {
    (first >> 16..=last >> 16).map(move |high| (first.max(high << 16), last.min(high << 16 | 0xffff)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> (u32, u32) {
        let (first, last) = text.split_once('-').unwrap();
        let number = |text: &str| u32::from(text.parse::<Ipv4Addr>().unwrap());
        (number(first), number(last))
    }

    fn ranges(rows: &[&str]) -> Result<Ranges, Overlap> {
        let mut ranges = Ranges::default();
        for row in rows {
            let (first, last) = range(row);
            ranges.insert(first, last, row)?;
        }
        Ok(ranges)
    }

    #[track_caller]
    fn check(ranges: Ranges, expected: &[(&str, &str)]) {
        let geo = ranges.finish();
        for &(address, value) in expected {
            let found = geo.look_up(Some(address.parse().unwrap()));
            assert_eq!(std::str::from_utf8(found).unwrap(), value, "{address}");
        }
    }

    #[test]
    fn later_range_takes_its_part_of_an_earlier_one() {
        let rows =
            ["10.0.0.0-10.5.0.0", "10.1.0.10-10.1.0.19", "10.1.0.12-10.1.0.12", "10.4.0.0-10.4.255.255"];
        let mut ranges = ranges(&rows).unwrap();
        assert_eq!(ranges.set_default("none"), None);
        check(
            ranges,
            &[
                ("9.255.255.255", "none"),
                ("10.0.0.0", rows[0]),
                ("10.1.0.9", rows[0]),
                ("10.1.0.11", rows[1]),
                ("10.1.0.12", rows[2]),
                ("10.1.0.13", rows[1]),
                ("10.1.0.20", rows[0]),
                ("10.4.3.2", rows[3]),
                ("10.5.0.0", rows[0]),
                ("10.5.0.1", "none"),
                ("::1", "none"),
            ],
        );
    }

    #[test]
    fn range_around_an_earlier_one_is_refused_unless_that_is_a_whole_piece() {
        let overlap =
            |rows: &[&str]| ranges(rows).err().map(|Overlap(first, last)| format!("{first}-{last}"));
        assert_eq!(
            overlap(&["10.1.255.0-10.2.0.0", "10.1.0.0-10.2.0.0"]),
            Some("10.1.255.0-10.1.255.255".into())
        );
        assert_eq!(overlap(&["10.3.1.0-10.3.2.0", "10.3.1.128-10.3.3.0"]), Some("10.3.1.0-10.3.2.0".into()));
        assert_eq!(overlap(&["10.1.0.0-10.1.255.255", "10.0.0.0-10.2.0.0"]), None);
        assert_eq!(overlap(&["10.1.0.0-10.1.0.5", "10.1.0.6-10.1.0.9", "10.1.0.4-10.1.0.5"]), None);
    }

    #[test]
    fn range_that_comes_again_tells_its_old_value_and_can_be_deleted() {
        let mut ranges = ranges(&["10.1.0.0-10.2.0.0"]).unwrap();
        let (first, last) = range("10.1.0.0-10.2.0.0");
        assert_eq!(ranges.insert(first, last, "new"), Ok(Some("10.1.0.0-10.2.0.0".to_owned())));
        assert!(ranges.delete(first, last - 1));
        assert!(!ranges.delete(first, last));
        check(ranges, &[("10.1.0.0", ""), ("10.2.0.0", "")]);
    }
}
