//! What is wrong with a file is told in nginx's words.

use l7_proxy::conf;

/// Expects that a file with this in `http {}` is refused with this message.
#[track_caller]
fn refused(content: &str, message: &str) {
    let text = format!("events {{}} http {{\n{content}\n}}");
    let error = conf::parse(&text, "/srv".as_ref()).unwrap_err();
    assert_eq!(error.message(), message, "{content}");
}

#[test]
fn zones_are_told_what_is_wrong_with_them() {
    for (parameters, message) in [
        ("", "\"proxy_cache_path\" must have \"keys_zone\" parameter"),
        ("keys_zone=a", "invalid keys zone size \"keys_zone=a\""),
        ("keys_zone=a:1x", "invalid keys zone size \"keys_zone=a:1x\""),
        ("keys_zone=a:1k", "keys zone \"keys_zone=a:1k\" is too small"),
        ("keys_zone=a:1m levels=3", "invalid \"levels\" \"levels=3\""),
        ("keys_zone=a:1m levels=1:1:1:1", "invalid \"levels\" \"levels=1:1:1:1\""),
        ("keys_zone=a:1m inactive=x", "invalid inactive value \"inactive=x\""),
        ("keys_zone=a:1m max_size=x", "invalid max_size value \"max_size=x\""),
        ("keys_zone=a:1m loader_files=x", "invalid loader_files value \"loader_files=x\""),
        ("keys_zone=a:1m manager_times=1", "invalid parameter \"manager_times=1\""),
        (
            "keys_zone=a:1m purger=on",
            "\"purger\" parameter of \"proxy_cache_path\" directive is not supported by l7-proxy",
        ),
        (
            "keys_zone=a:1m use_temp_path=no",
            "invalid use_temp_path value \"use_temp_path=no\", it must be \"on\" or \"off\"",
        ),
    ] {
        let parameters = if parameters.is_empty() { "levels=1" } else { parameters };
        refused(&format!("proxy_cache_path /c {parameters};"), message);
    }
    let one = "proxy_cache_path /c keys_zone=a:1m;";
    refused(&format!("{one} proxy_cache_path /d keys_zone=a:1m;"), "duplicate zone \"a\"");
    refused(
        &format!(
            "{one} limit_req_zone $uri zone=a:1m rate=1r/s; limit_conn_zone $uri zone=b:1m; proxy_cache b;"
        ),
        "the shared memory zone \"a\" is already declared for a different use",
    );
}

#[test]
fn words_of_a_location_are_checked() {
    for (directive, message) in [
        ("proxy_cache zone", "\"proxy_cache\" zone \"zone\" is unknown"),
        ("proxy_cache_valid 1x", "invalid time value \"1x\""),
        ("proxy_cache_valid 99 1m", "invalid status \"99\""),
        ("proxy_cache_valid some 1m", "invalid status \"some\""),
        ("proxy_cache_methods PUT", "invalid value \"PUT\""),
        ("proxy_cache_use_stale http_501", "invalid value \"http_501\""),
        ("proxy_cache_min_uses x", "\"proxy_cache_min_uses\" directive invalid number"),
        ("proxy_cache_key $none", "unknown \"none\" variable"),
        ("proxy_cache_purge $a", "\"proxy_cache_purge\" directive is not supported by l7-proxy"),
        ("fastcgi_cache_valid 1m", "\"fastcgi_cache_valid\" directive is not supported by l7-proxy"),
    ] {
        refused(&format!("server {{ location / {{ {directive}; }} }}"), message);
    }
}
