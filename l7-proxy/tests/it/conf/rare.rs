//! Directives that few files have.

use std::num::NonZeroU64;

use super::{location, refused, refused_in_http, refused_in_location};

#[test]
fn slice_is_a_size() {
    assert_eq!(location("slice 1m;", "", "").files.slice, NonZeroU64::new(1 << 20));
    assert_eq!(location("slice 1m;", "", "slice 0;").files.slice, None);
    refused_in_location("slice x;", "\"slice\" directive invalid value");
    refused_in_location("slice 1;slice 2;", "\"slice\" directive is duplicate");
    refused("slice 1m;", "\"slice\" directive is not allowed here in nginx.conf:1");
    refused_in_http(
        "proxy_force_ranges yes;",
        "invalid value \"yes\" in \"proxy_force_ranges\" directive, it must be \"on\" or \"off\"",
    );
}
