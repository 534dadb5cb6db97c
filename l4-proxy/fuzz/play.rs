//! What arbitrary bytes must not break: as a `keepalived.conf`, and at the beginning of a stream.

#![allow(dead_code, reason = "a target plays one of them")]

use std::path::Path;

use l4_proxy::daemon;
use l4_proxy::keepalived::{self, Dialect};
use l4_proxy::proxy_protocol::{LENGTH_MAX, Parsed, Version, parse};
use lvs_core::Config;

/// Reads them as a configuration: every complaint has a place and words, and what is taken can be served.
pub(crate) fn keepalived(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // Nothing is there to be included.
    let mut loaded = keepalived::read(Path::new("/nonexistent/lb.conf"), &text, "main");
    loaded.fit(|edit| daemon::accepts(&[], edit));
    for complaint in &loaded.complaints {
        assert!(complaint.line() >= 1 && !complaint.to_string().is_empty(), "{text}");
    }
    for dialect in [Dialect::Strict, Dialect::Lenient] {
        if let Ok((model, _)) = loaded.clone().accept(dialect) {
            let config = Config { services: keepalived::services(&model) };
            assert_eq!(config.check(), Ok(()), "{text}");
        }
    }
}

/// Reads them as a PROXY header: it takes no more than is there, no beginning of it is taken for the whole,
/// and what is passed on says the same.
pub(crate) fn proxy_protocol(bytes: &[u8]) {
    let Ok(Parsed::Whole(header, length)) = parse(bytes) else { return };
    assert!(length <= bytes.len() && length <= LENGTH_MAX);
    for end in 0..length {
        assert_eq!(parse(&bytes[..end]), Ok(Parsed::Partial), "{end} of {length}");
    }
    for version in [Version::V1, Version::V2] {
        // Once it has been passed on, nothing about it changes any more.
        let passed_on = |header: &_| match parse(&l4_proxy::proxy_protocol::Header::encode(header, version)) {
            Ok(Parsed::Whole(header, _)) => header,
            other => panic!("{other:?} of {header:?}"),
        };
        let once = passed_on(&header);
        assert_eq!(passed_on(&once), once);
    }
}
