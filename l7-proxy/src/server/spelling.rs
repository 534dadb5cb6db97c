//! Names of fields spelled as people expect them: `Content-Length`, `ETag`, and as `add_header` says.
//!
//! Names have no case, yet scripts look for the `X-URI` that they were promised. Within the proxy
//! they are in lower case; they are written in title case, and `ETag`, unless something else was noted.

use std::cell::RefCell;

use http::{HeaderName, header};

/// How the head of the next response is spelled.
#[derive(Debug, Default)]
pub(crate) struct Spelling {
    /// Names that are not as they would be written.
    names: RefCell<Vec<Box<str>>>,
}

impl Spelling {
    /// Spells `name` like this in the next head.
    pub(crate) fn note(&self, name: &str) {
        if !is_usual(name) && (!is_title_case(name) || name == "Etag") {
            self.names.borrow_mut().push(name.into());
        }
    }

    /// Takes what was noted, while something else is asked.
    pub(crate) fn take(&self) -> Vec<Box<str>> {
        self.names.take()
    }

    /// Has noted this and nothing else.
    pub(crate) fn put_back(&self, names: Vec<Box<str>>) {
        self.names.replace(names);
    }

    /// The head is out.
    pub(crate) fn forget(&self) {
        self.names.borrow_mut().clear();
    }

    /// Writes a name, which is in lower case.
    pub(crate) fn write(&self, name: &str, out: &mut Vec<u8>) {
        let names = self.names.borrow();
        // The latest word counts.
        if let Some(noted) = names.iter().rev().find(|noted| noted.eq_ignore_ascii_case(name)) {
            out.extend_from_slice(noted.as_bytes());
            return;
        }
        if let Some(usual) = usual(name) {
            out.extend_from_slice(usual.as_bytes());
            return;
        }
        let start = out.len();
        out.extend_from_slice(name.as_bytes());
        let mut before = b'-';
        for byte in &mut out[start..] {
            if before == b'-' {
                byte.make_ascii_uppercase();
            }
            before = *byte;
        }
    }
}

/// Names that most messages have, in lower case and as they are written: a look here is cheaper than one at
/// each letter. Those of the second list are of requests only.
macro_rules! usual {
    ($($lower:literal $title:literal $name:expr,)* + $($asked:literal $asked_title:literal $asked_name:expr,)*) => {
        /// The name of a field that nearly everybody has and spells like this: it is looked up at
        /// once, where any other is read letter by letter.
        pub(crate) fn usual_name(name: &str) -> Option<HeaderName> {
            match name {
                $($title | $lower => Some($name),)*
                $($asked_title | $asked => Some($asked_name),)*
                _ => None,
            }
        }

        fn usual(name: &str) -> Option<&'static str> {
            match name {
                $($lower => Some($title),)*
                _ => None,
            }
        }

        fn is_usual(name: &str) -> bool {
            matches!(name, $($title)|*)
        }
    };
}

usual! {
    "age" "Age" header::AGE,
    "etag" "ETag" header::ETAG,
    "date" "Date" header::DATE,
    "host" "Host" header::HOST,
    "vary" "Vary" header::VARY,
    "accept" "Accept" header::ACCEPT,
    "cookie" "Cookie" header::COOKIE,
    "server" "Server" header::SERVER,
    "expires" "Expires" header::EXPIRES,
    "location" "Location" header::LOCATION,
    "connection" "Connection" header::CONNECTION,
    "set-cookie" "Set-Cookie" header::SET_COOKIE,
    "user-agent" "User-Agent" header::USER_AGENT,
    "content-type" "Content-Type" header::CONTENT_TYPE,
    "x-request-id" "X-Request-Id" X_REQUEST_ID.clone(),
    "accept-ranges" "Accept-Ranges" header::ACCEPT_RANGES,
    "cache-control" "Cache-Control" header::CACHE_CONTROL,
    "last-modified" "Last-Modified" header::LAST_MODIFIED,
    "x-frame-options" "X-Frame-Options" header::X_FRAME_OPTIONS,
    "referrer-policy" "Referrer-Policy" header::REFERRER_POLICY,
    "content-length" "Content-Length" header::CONTENT_LENGTH,
    "accept-encoding" "Accept-Encoding" header::ACCEPT_ENCODING,
    "accept-language" "Accept-Language" header::ACCEPT_LANGUAGE,
    "content-encoding" "Content-Encoding" header::CONTENT_ENCODING,
    "transfer-encoding" "Transfer-Encoding" header::TRANSFER_ENCODING,
    "x-content-type-options" "X-Content-Type-Options" header::X_CONTENT_TYPE_OPTIONS,
    "content-security-policy" "Content-Security-Policy" header::CONTENT_SECURITY_POLICY,
    "strict-transport-security" "Strict-Transport-Security" header::STRICT_TRANSPORT_SECURITY,
    "access-control-allow-origin" "Access-Control-Allow-Origin" header::ACCESS_CONTROL_ALLOW_ORIGIN,
    +
    "origin" "Origin" header::ORIGIN,
    "pragma" "Pragma" header::PRAGMA,
    "referer" "Referer" header::REFERER,
    "priority" "Priority" PRIORITY.clone(),
    "sec-ch-ua" "Sec-Ch-Ua" SEC_CH_UA.clone(),
    "x-real-ip" "X-Real-IP" X_REAL_IP.clone(),
    "authorization" "Authorization" header::AUTHORIZATION,
    "if-none-match" "If-None-Match" header::IF_NONE_MATCH,
    "sec-fetch-dest" "Sec-Fetch-Dest" SEC_FETCH_DEST.clone(),
    "sec-fetch-mode" "Sec-Fetch-Mode" SEC_FETCH_MODE.clone(),
    "sec-fetch-site" "Sec-Fetch-Site" SEC_FETCH_SITE.clone(),
    "sec-fetch-user" "Sec-Fetch-User" SEC_FETCH_USER.clone(),
    "x-forwarded-for" "X-Forwarded-For" X_FORWARDED_FOR.clone(),
    "sec-ch-ua-mobile" "Sec-Ch-Ua-Mobile" SEC_CH_UA_MOBILE.clone(),
    "x-requested-with" "X-Requested-With" X_REQUESTED_WITH.clone(),
    "if-modified-since" "If-Modified-Since" header::IF_MODIFIED_SINCE,
    "x-forwarded-proto" "X-Forwarded-Proto" X_FORWARDED_PROTO.clone(),
    "sec-ch-ua-platform" "Sec-Ch-Ua-Platform" SEC_CH_UA_PLATFORM.clone(),
    "upgrade-insecure-requests" "Upgrade-Insecure-Requests" header::UPGRADE_INSECURE_REQUESTS,
}

/// Names that are usual, and none of HTTP's own.
macro_rules! names {
    ($($constant:ident $name:literal,)*) => {
        $(static $constant: HeaderName = HeaderName::from_static($name);)*
    };
}

names! {
    PRIORITY "priority",
    SEC_CH_UA "sec-ch-ua",
    SEC_CH_UA_MOBILE "sec-ch-ua-mobile",
    SEC_CH_UA_PLATFORM "sec-ch-ua-platform",
    SEC_FETCH_DEST "sec-fetch-dest",
    SEC_FETCH_MODE "sec-fetch-mode",
    SEC_FETCH_SITE "sec-fetch-site",
    SEC_FETCH_USER "sec-fetch-user",
    X_FORWARDED_FOR "x-forwarded-for",
    X_FORWARDED_PROTO "x-forwarded-proto",
    X_REAL_IP "x-real-ip",
    X_REQUEST_ID "x-request-id",
    X_REQUESTED_WITH "x-requested-with",
}

/// Whether a name is in title case: the letter after each hyphen is a capital, all others are
/// small.
fn is_title_case(name: &str) -> bool {
    let mut before = b'-';
    name.bytes().all(|byte| {
        let fits = if before == b'-' { !byte.is_ascii_lowercase() } else { !byte.is_ascii_uppercase() };
        before = byte;
        fits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_title_case_unless_noted() {
        let spelling = Spelling::default();
        ["x-uri", "X-URI", "lower"].iter().for_each(|name| spelling.note(name));
        let check = |name: &str, expected: &str| {
            let mut out = b"-".to_vec();
            spelling.write(name, &mut out);
            assert_eq!(std::str::from_utf8(&out[1..]).unwrap(), expected);
        };
        for (name, expected) in [
            ("last-modified", "Last-Modified"),
            ("etag", "ETag"),
            ("x-uri", "X-URI"),
            ("x-uris", "X-Uris"),
            ("lower", "lower"),
            ("content-length", "Content-Length"),
            ("x-1a-b", "X-1a-B"),
        ] {
            check(name, expected);
        }
        spelling.forget();
        let mut out = Vec::new();
        spelling.write("x-uri", &mut out);
        assert_eq!(out, b"X-Uri");
        // The one that is usual is not in title case.
        spelling.note("Etag");
        out.clear();
        spelling.write("etag", &mut out);
        assert_eq!(out, b"Etag");
    }

    #[test]
    fn usual_name_is_the_one_that_is_written() {
        for name in
            ["Host", "host", "Sec-Fetch-Mode", "sec-ch-ua", "X-Real-IP", "x-real-ip", "Referer", "Priority"]
        {
            let usual = usual_name(name).unwrap_or_else(|| panic!("{name} is not usual"));
            assert_eq!(usual, HeaderName::from_bytes(name.as_bytes()).unwrap());
        }
        for name in ["HOST", "X-Real-Ip", "", "hostx", "Keep-Alive"] {
            assert_eq!(usual_name(name), None, "{name}");
        }
    }

    #[test]
    fn names_in_title_case_need_no_note() {
        let spelling = Spelling::default();
        ["X-Real-Ip", "Server", "X-1-2a", "Content-Type"].iter().for_each(|name| spelling.note(name));
        assert!(spelling.names.borrow().is_empty());
        spelling.note("WWW-Authenticate");
        assert_eq!(spelling.names.borrow().len(), 1);
    }
}
