//! Comparisons of short texts that have been written a moment ago.
//!
//! Those of the C library read short texts through a mask, and what is read so cannot be had from a store
//! that is still on its way to the cache: each waits until all before it have arrived, which costs more
//! than to look at one byte after the other.

use std::cmp::Ordering;

/// Whether two texts are the same.
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && begins_with(one, other)
}

/// Whether a text begins with another.
pub(crate) fn begins_with(text: &[u8], beginning: &[u8]) -> bool {
    text.len() >= beginning.len() && text.iter().zip(beginning).all(|(one, other)| one == other)
}

/// The order of two texts, byte by byte.
pub(crate) fn compare(one: &[u8], other: &[u8]) -> Ordering {
    one.iter().cmp(other)
}
