//! Looks into header maps, and at the names in them.

use http::header::CONNECTION;
use http::{HeaderMap, HeaderName};

/// Whether there is a field of that name. In a small map a look at each name costs less than a search.
pub(crate) fn has(headers: &HeaderMap, name: &HeaderName) -> bool {
    if headers.len() <= FEW { headers.keys().any(|other| other == name) } else { headers.contains_key(name) }
}

/// As many fields as are looked at one by one.
const FEW: usize = 16;

/// Whether `Connection` says a word.
pub(crate) fn connection_says(headers: &HeaderMap, word: &str) -> bool {
    let is_said = |said: &[u8]| said.eq_ignore_ascii_case(word.as_bytes());
    has(headers, &CONNECTION)
        && headers.get_all(CONNECTION).iter().any(|value| {
            // Nearly always it is the only one.
            is_said(value.as_bytes()) || words(value.as_bytes()).any(is_said)
        })
}

/// What is said between commas.
pub(crate) fn words(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|word| !word.is_empty())
}

/// Says of most names at one look that they are not among a few.
///
/// Names share 64 places by their length and first letter, so that it may let others through: what it
/// lets through is to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NameFilter(u64);

impl NameFilter {
    /// Lets everything through.
    pub(crate) const ALL: NameFilter = NameFilter(u64::MAX);

    /// Lets these names through, which are in lower case.
    pub(crate) const fn of(names: &[&str]) -> NameFilter {
        let (mut places, mut next) = (0, 0);
        while next < names.len() {
            places |= NameFilter::place(names[next]);
            next += 1;
        }
        NameFilter(places)
    }

    /// Lets this name through, too.
    pub(crate) fn with(self, name: &HeaderName) -> NameFilter {
        NameFilter(self.0 | NameFilter::place(name.as_str()))
    }

    /// Whether a name may be one of them.
    pub(crate) fn lets(self, name: &HeaderName) -> bool {
        self.0 & NameFilter::place(name.as_str()) != 0
    }

    const fn place(name: &str) -> u64 {
        match name.as_bytes() {
            // With these weights usual names do not share the places of those that are looked for.
            [first, ..] => 1 << ((name.len() + 2 * *first as usize) % 64),
            [] => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn filter_lets_through_what_it_was_told_of_and_little_else() {
        let filter = NameFilter::of(&["connection", "te"]).with(&HeaderName::from_static("x-real-ip"));
        for name in ["connection", "te", "x-real-ip"] {
            assert!(filter.lets(&HeaderName::from_static(name)), "{name}");
        }
        for name in ["user-agent", "accept", "cookie", "x-real-ip-2", "t"] {
            assert!(!filter.lets(&HeaderName::from_static(name)), "{name}");
        }
        assert!(NameFilter::ALL.lets(&HeaderName::from_static("cookie")));
    }

    #[test]
    fn connection_says_its_words_line_by_line() {
        let mut headers = HeaderMap::new();
        headers.append("x", HeaderValue::from_static("close"));
        assert!(!connection_says(&headers, "close"));
        headers.append(CONNECTION, HeaderValue::from_static(" Close ,, X-A"));
        headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
        for (word, said) in [("close", true), ("x-a", true), ("upgrade", true), ("x", false), ("", false)] {
            assert_eq!(connection_says(&headers, word), said, "{word}");
        }
    }
}
