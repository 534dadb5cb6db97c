//! `split_clients`: a fixed share of all texts for each value.
//!
//! A text is hashed by MurmurHash2, so that it yields the same value always, and the same as in nginx.

/// A value for each share of all texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    /// Up to which hash a value holds; the last one may hold for all that are left (`None`).
    parts: Vec<(Option<u32>, Box<[u8]>)>,
    /// Hundredths of a percent that are given away.
    taken: u32,
}

/// What is shared out: hundredths of a percent.
const WHOLE: u32 = 10_000;

/// More than everything was shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMuch;

impl Split {
    /// Gives a value to the next `share` hundredths of a percent of all texts.
    ///
    /// # Errors
    /// More than everything would be shared out.
    pub fn push(&mut self, share: u32, value: &str) -> Result<(), TooMuch> {
        self.taken = self.taken.saturating_add(share);
        if self.taken > WHOLE {
            return Err(TooMuch);
        }
        let before = self.parts.last().and_then(|&(end, _)| end).unwrap_or(0);
        // As nginx rounds it: each share by itself. It is below 2^32, since shares sum up to one.
        let width = u64::from(share) * u64::from(u32::MAX) / u64::from(WHOLE);
        let end = before.saturating_add(u32::try_from(width).unwrap_or(u32::MAX));
        self.parts.push((Some(end), value.as_bytes().into()));
        Ok(())
    }

    /// Gives a value to all texts that have none yet.
    pub fn push_rest(&mut self, value: &str) {
        self.taken = WHOLE;
        self.parts.push((None, value.as_bytes().into()));
    }

    /// Returns the value of a text; nothing if it is of no share.
    pub fn choose(&self, text: &[u8]) -> &[u8] {
        let hash = murmur2(text);
        let mut parts = self.parts.iter();
        parts.find(|(end, _)| end.is_none_or(|end| hash < end)).map_or(b"", |(_, value)| value)
    }
}

/// Austin Appleby's MurmurHash2 with a seed of 0.
fn murmur2(text: &[u8]) -> u32 {
    const FACTOR: u32 = 0x5bd1_e995;
    // nginx takes the length modulo 2^32, too.
    let mut hash = text.len() as u32;
    let (words, rest) = text.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(FACTOR);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(FACTOR) ^ mixed.wrapping_mul(FACTOR);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, &byte| tail << 8 | u32::from(byte));
        hash = (hash ^ tail).wrapping_mul(FACTOR);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(FACTOR);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of the reference implementation.
    #[test]
    fn hash_is_murmurs() {
        for (text, expected) in [
            ("", 0x0000_0000),
            ("a", 0x9268_5f5e),
            ("ab", 0x1aa1_4063),
            ("abc", 0x1357_7c9b),
            ("abcd", 0x2687_3021),
            ("abcdefg", 0xf9a1_cef3),
        ] {
            assert_eq!(murmur2(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn shares_are_as_large_as_they_say() {
        let mut split = Split::default();
        split.push(1_000, "a").unwrap();
        split.push(2_500, "b").unwrap();
        let count = |value: &str| {
            (0..20_000).filter(|n: &u32| split.choose(&n.to_le_bytes()) == value.as_bytes()).count()
        };
        let (a, b, none) = (count("a"), count("b"), count(""));
        assert!(
            a.abs_diff(2_000) < 150 && b.abs_diff(5_000) < 200 && none.abs_diff(13_000) < 250,
            "{a} {b} {none}"
        );
    }

    #[test]
    fn no_more_than_everything_is_shared_out() {
        let mut split = Split::default();
        split.push(5_000, "a").unwrap();
        split.push_rest("b");
        split.push_rest("c");
        assert_eq!(split.push(1, "d"), Err(TooMuch));
    }
}
