//! Fields of which an answer has one: of several the first holds, as in nginx. Which of them a client would go
//! by nobody knows.

use http::header::{CONTENT_TYPE, DATE, ETAG, EXPIRES, LAST_MODIFIED, LOCATION, REFRESH, SERVER};
use http::{HeaderMap, HeaderName};

use crate::upstream::Malformed;

/// Takes away what stands beside the first one; returns each as the log tells it.
pub(super) fn keep_first(headers: &mut HeaderMap) -> Vec<Malformed> {
    let mut taken = Vec::new();
    // Most answers have no name twice, or only that of cookies.
    if headers.len() == headers.keys_len() || !repeats_a_single_one(headers) {
        return taken;
    }
    for name in &SINGLE {
        let mut values = headers.get_all(name).iter();
        let Some(first) = values.next().cloned() else { continue };
        let before = taken.len();
        taken.extend(values.map(|value| Malformed::twice(name, value.as_bytes(), first.as_bytes())));
        if taken.len() > before {
            headers.insert(name, first);
        }
    }
    taken
}

/// Whether a field is there twice that may be there once: values of one name follow each other.
fn repeats_a_single_one(headers: &HeaderMap) -> bool {
    let mut names = headers.iter().map(|(name, _)| name);
    let Some(mut last) = names.next() else { return false };
    names.any(|name| name == std::mem::replace(&mut last, name) && SINGLE.contains(name))
}

static SINGLE: [HeaderName; 10] = [
    CONTENT_TYPE,
    DATE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    LOCATION,
    REFRESH,
    SERVER,
    HeaderName::from_static("x-accel-expires"),
    HeaderName::from_static("x-accel-redirect"),
];

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn first_of_several_holds_where_there_can_be_one() {
        let fields = [
            ("location", "/a"),
            ("set-cookie", "a"),
            ("location", "/b"),
            ("set-cookie", "b"),
            ("location", "/c"),
            ("vary", "a"),
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let told: Vec<_> = keep_first(&mut headers).iter().map(Malformed::to_string).collect();
        let line = |value| {
            format!(
                "upstream sent duplicate header line: \"location: {value}\", previous value: \"location: /a\""
            )
        };
        assert_eq!(told, [line("/b"), line("/c")]);
        let left: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(
            left,
            [
                ("location", &b"/a"[..]),
                ("set-cookie", &b"a"[..]),
                ("set-cookie", &b"b"[..]),
                ("vary", &b"a"[..])
            ]
        );
    }
}
