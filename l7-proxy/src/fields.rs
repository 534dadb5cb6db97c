//! Looks into header maps.

use http::{HeaderMap, HeaderName};

/// Whether there is a field of that name. In a small map a look at each name costs less than a search.
pub(crate) fn has(headers: &HeaderMap, name: &HeaderName) -> bool {
    if headers.len() <= FEW { headers.keys().any(|other| other == name) } else { headers.contains_key(name) }
}

/// As many fields as are looked at one by one.
const FEW: usize = 16;
