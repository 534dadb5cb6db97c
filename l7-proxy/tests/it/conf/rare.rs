//! Directives that few files have.

use std::num::NonZeroU64;

use l7_proxy::model::{Browser, CacheId, CacheUse, Storing};

use l7_proxy::variable::Variable;

use super::{config, location, refused, refused_in_http, refused_in_location};

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

#[test]
fn store_is_a_place_and_excludes_a_cache() {
    let zone = "proxy_cache_path cache keys_zone=zone:1m;";
    let inner = location(zone, "proxy_cache zone;", "proxy_store on;").proxy;
    assert_eq!((&inner.store, &inner.cache), (&Storing::Root, &CacheUse::Off));
    let inner = location(zone, "proxy_store /a$uri;", "proxy_cache zone;").proxy;
    assert_eq!((&inner.store, &inner.cache), (&Storing::Off, &CacheUse::Zone(CacheId(0))));
    let inner = location(zone, "proxy_store /a$uri;", "").proxy;
    assert!(matches!(inner.store, Storing::At(_)));
    for (access, expected) in [
        ("user:rw group:rw all:r", 0o664),
        ("group:rw", 0o660),
        ("user:r", 0o400),
        ("all:r", 0o604),
        ("user:rw", 0o600),
    ] {
        let inner = location("", "", &format!("proxy_store_access {access};")).proxy;
        assert_eq!(inner.store_access, expected, "{access}");
    }
    refused_in_location("proxy_store_access user:w;", "invalid value \"user:w\"");
    refused_in_location("proxy_store_access rw;", "invalid value \"rw\"");
    refused_in_location("proxy_store '';", "empty path");
    refused_in_location(
        "proxy_cache $uri;proxy_store on;",
        "\"proxy_store\" directive is incompatible with \"proxy_cache\"",
    );
    refused_in_location(
        "proxy_store on;proxy_cache $uri;",
        "\"proxy_cache\" directive is incompatible with \"proxy_store\"",
    );
    location("", "", "proxy_store off; proxy_cache $uri;");
}

#[test]
fn character_sets_have_one_map_between_them() {
    location(
        "charset_map a b { 80 90; } charset_map a UTF-8 { 80 D0B0; ff E282AC; }",
        "",
        "charset b; source_charset A;",
    );
    for (row, message) in [
        ("80;", "invalid parameters number"),
        ("80 90 A0;", "invalid parameters number"),
        ("100 90;", "invalid value \"100\""),
        ("8x 90;", "invalid value \"8x\""),
        ("80 100;", "invalid value \"100\""),
    ] {
        refused_in_http(&format!("charset_map a b {{ {row} }}"), message);
    }
    for row in ["D0", "20", "D0B", "D0B0D0B0", "FFFF", "x", "D0x0"] {
        refused_in_http(&format!("charset_map a utf-8 {{ 80 {row}; }}"), &format!("invalid value \"{row}\""));
    }
    refused_in_http("charset_map a A { }", "\"charset_map\" between the same charsets \"a\" and \"A\"");
    refused_in_http(
        "charset_map Utf-8 a { }",
        "\"charset_map\" with \"utf-8\" charset should be given in the second column",
    );
    refused_in_http(
        "charset_map a b { } charset_map B a { }",
        "duplicate \"charset_map\" between \"B\" and \"a\"",
    );
    let without = "events {}\nhttp { server { charset b; location / { source_charset a; } } }";
    refused(without, "no \"charset_map\" between the charsets \"a\" and \"b\"");
    location("charset utf-8; source_charset utf-8;", "charset $uri;", "");
}

#[test]
fn buffers_that_contradict_each_other_are_refused() {
    for text in [
        "proxy_buffers 4 8k;",
        "proxy_buffer_size 8k; proxy_buffers 8 16k;",
        "proxy_buffer_size 128k; proxy_buffers 4 256k; proxy_busy_buffers_size 256k;",
        "proxy_max_temp_file_size 0;",
        "proxy_busy_buffers_size 28k; proxy_temp_file_write_size 4k;",
    ] {
        location("", "", text);
    }
    // What one block says alone may be whole with another.
    location("proxy_buffer_size 64k;", "proxy_buffers 8 64k;", "");
    let largest = "the maximum of the value of \"proxy_buffer_size\" and one of the \"proxy_buffers\"";
    let minus =
        "\"proxy_busy_buffers_size\" must be less than the size of all \"proxy_buffers\" minus one buffer";
    for (text, message) in [
        ("proxy_buffers 1 4k;", "there must be at least 2 \"proxy_buffers\""),
        ("proxy_buffer_size 16k;", minus),
        ("proxy_busy_buffers_size 29k;", minus),
        (
            "proxy_busy_buffers_size 1k;",
            &format!("\"proxy_busy_buffers_size\" must be equal to or greater than {largest}"),
        ),
        (
            "proxy_temp_file_write_size 1k;",
            &format!("\"proxy_temp_file_write_size\" must be equal to or greater than {largest}"),
        ),
        (
            "proxy_max_temp_file_size 1k;",
            &format!(
                "\"proxy_max_temp_file_size\" must be equal to zero to disable temporary files usage or must be \
                 equal to or greater than {largest}"
            ),
        ),
    ] {
        refused_in_location(text, message);
    }
    let outer = "events {}\nhttp {\nproxy_buffer_size 64k;\nserver { location / { } } }";
    refused(outer, &format!("{minus} in nginx.conf:3"));
}

#[test]
fn what_is_set_by_the_number_of_a_group_is_none_of_it() {
    let inner = location("", "", "set $1 a; add_header X $1${1};");
    let variables: Vec<_> = inner.add_headers[0].value.variables().collect();
    assert_eq!(variables, [&Variable::Capture(1), &Variable::Defined(0)]);
    assert!(matches!(
        location("", "", "add_header X ${2};").add_headers[0].value.variables().next(),
        Some(Variable::Capture(2))
    ));
}

#[test]
fn browsers_are_known_by_their_names_and_versions() {
    let inner =
        location("modern_browser unlisted; ancient_browser a;", "", "modern_browser msie 5.5;").browsers;
    assert_eq!(
        (inner.unlisted, inner.ancient.len(), &*inner.modern),
        (false, 1, &[(Browser::Msie, 5_050_000)][..])
    );
    refused_in_location("modern_browser lynx 1;", "unknown browser name \"lynx\"");
    refused_in_location("modern_browser msie 5b;", "invalid browser version \"5b\"");
    refused_in_location("modern_browser msie;", "invalid parameter \"msie\"");
}

#[test]
fn multipath_is_for_connections_only() {
    let http = config("events {} http { server { listen 80 multipath; } }").http.unwrap();
    assert!(http.servers[0].listen[0].socket.as_ref().is_some_and(|socket| socket.multipath));
    refused(
        "events {}\nstream { server { listen 80 udp multipath; return x; } }",
        "\"listen\" directive \"multipath\" parameter is incompatible with \"udp\" in nginx.conf:2",
    );
}
