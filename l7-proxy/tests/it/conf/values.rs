//! nginx.conf: which values each kind of parameter takes, and what a refusal is called.
//!
//! The verdicts and the words are those of nginx 1.22, with which they were compared value by value;
//! where a newer nginx takes more, the test's name says so.

use std::fs;

use super::{load, load_in, refused_in_http, refused_in_location, refused_in_server};

/// Returns the message for a directive in `location / {}`; nothing if it is taken.
fn in_location(text: &str) -> String {
    let text = format!("events {{}} http {{ server {{ listen 127.0.0.1:1; location / {{ {text} }} }} }}");
    load(&text).err().map_or_else(String::new, |error| error.message().to_owned())
}

/// Returns what is noted of a file's `http {}`, each without its place.
fn notes(http: &str) -> Vec<String> {
    let loaded = load(&format!("events {{}} http {{ access_log off; {http} }}")).unwrap();
    loaded.notes.into_iter().map(|note| note.message).collect()
}

#[test]
fn sizes_are_bytes_kilobytes_or_megabytes_and_only_bodies_and_files_have_gigabytes() {
    for directive in ["client_body_buffer_size", "grpc_buffer_size", "limit_rate", "gzip_min_length"] {
        for word in ["0", "7", "1k", "1K", "1m", "1M"] {
            assert_eq!(in_location(&format!("{directive} {word};")), "", "{directive} {word}");
        }
        for word in ["1g", "-1", "k", "1kb", "1.5k", "\"\"", "\"1 k\"", "9007199254740992k", "on"] {
            let expected = format!("\"{directive}\" directive invalid value");
            assert_eq!(in_location(&format!("{directive} {word};")), expected, "{directive} {word}");
        }
    }
    for directive in ["client_max_body_size", "directio", "directio_alignment"] {
        assert_eq!(in_location(&format!("{directive} 1g;")), "", "{directive}");
    }
}

#[test]
fn times_in_milliseconds_are_no_years_and_times_in_seconds_no_milliseconds() {
    let invalid = |directive: &str| format!("\"{directive}\" directive invalid value");
    for word in ["0", "1", "500ms", "1m30", "1h30m", "\"1h 30m\"", "1s1", "\"1s \"", "106751991167d"] {
        assert_eq!(in_location(&format!("proxy_read_timeout {word};")), "", "{word}");
    }
    for word in ["1y", "1M", "-1", "s", "30m1h", "1m1m", "1ms1s", "\" 1s\"", "1S", "106751991168d"] {
        let expected = invalid("proxy_read_timeout");
        assert_eq!(in_location(&format!("proxy_read_timeout {word};")), expected, "{word}");
    }
    for directive in ["open_file_cache_valid", "expires"] {
        assert_eq!(in_location(&format!("{directive} 1y2M;")), "", "{directive}");
        assert_eq!(in_location(&format!("{directive} 1ms;")), invalid(directive));
    }
}

#[test]
fn numbers_fit_into_63_bits_and_what_is_larger_than_it_can_count_is_the_largest() {
    for directive in ["max_ranges", "keepalive_requests", "proxy_next_upstream_tries", "types_hash_max_size"]
    {
        assert_eq!(in_location(&format!("{directive} 9223372036854775807;")), "", "{directive}");
        for word in ["9223372036854775808", "-1", "+1", "1k", "\"\"", "0x10"] {
            let expected = format!("\"{directive}\" directive invalid number");
            assert_eq!(in_location(&format!("{directive} {word};")), expected, "{directive} {word}");
        }
    }
    assert_eq!(in_location("gzip_comp_level 4294967296;"), "value must be between 1 and 9");
    assert_eq!(in_location("limit_req_status 70000;"), "value must be between 400 and 599");
    assert_eq!(in_location("limit_req_status 4x0;"), "\"limit_req_status\" directive invalid number");
}

#[test]
fn words_to_choose_from_have_no_case() {
    for text in [
        "client_body_in_file_only Clean;",
        "gzip_static ALWAYS;",
        "if_modified_since Exact;",
        "server_tokens OFF;",
        "satisfy Any;",
        "gzip_proxied Any;",
        "proxy_next_upstream Error HTTP_502;",
        "limit_req_log_level INFO;",
        "etag ON;",
    ] {
        assert_eq!(in_location(text), "", "{text}");
    }
    refused_in_location("gzip_static Some;", "invalid value \"Some\"");
    refused_in_server("ssl_verify_client MAYBE;", "invalid value \"MAYBE\"");
}

#[test]
fn directive_without_effect_is_checked_like_any_other() {
    for (text, message) in [
        ("aio maybe;", "\"aio\" directive invalid value"),
        ("gzip_window 3k;", "\"gzip_window\" directive must be 512, 1k, 2k, 4k, 8k, 16k, or 32k"),
        ("gzip_window 64k;", "\"gzip_window\" directive must be 512, 1k, 2k, 4k, 8k, 16k, or 32k"),
        ("gzip_hash 256;", "\"gzip_hash\" directive must be 512, 1k, 2k, 4k, 8k, 16k, 32k, 64k, or 128k"),
        ("lingering_close 1;", "invalid value \"1\""),
        ("output_buffers 0 8k;", "\"output_buffers\" directive invalid value"),
        ("proxy_buffers 4 8x;", "\"proxy_buffers\" directive invalid value"),
        ("directio sometimes;", "\"directio\" directive invalid value"),
        ("aio_write on; aio_write on;", "\"aio_write\" directive is duplicate"),
        ("gzip_buffers 4 8k; gzip_buffers 4 8k;", "\"gzip_buffers\" directive is duplicate"),
    ] {
        refused_in_location(text, message);
    }
    for (text, message) in [
        ("connection_pool_size 100;", "the pool size must be no less than 112"),
        ("request_pool_size 4097;", "the pool size must be a multiple of 16"),
    ] {
        refused_in_server(text, message);
    }
    for text in ["gzip_window 32k; gzip_hash 128k;", "gzip_window 512; gzip_hash 1k;"] {
        assert_eq!(in_location(text), "", "{text}");
    }
    for (text, message) in [
        ("upstream u { zone \"\" 64k; server 127.0.0.1; }", "invalid zone name \"\""),
        ("upstream u { zone z 64; server 127.0.0.1; }", "zone \"z\" is too small"),
        ("upstream u { zone z many; server 127.0.0.1; }", "invalid zone size \"many\""),
    ] {
        refused_in_http(text, message);
    }
    for (text, message) in [
        ("debug_points continue;", "invalid value \"continue\""),
        ("worker_priority high;", "\"worker_priority\" directive invalid number"),
        ("worker_cpu_affinity 0102;", "invalid character \"2\" in \"worker_cpu_affinity\""),
        ("thread_pool p max_queue=1;", "\"thread_pool\" must have \"threads\" parameter"),
        ("thread_pool p threads=0;", "invalid threads value \"threads=0\""),
    ] {
        assert_eq!(load(&format!("{text} events {{}}")).unwrap_err().message(), message, "{text}");
    }
    for text in
        ["worker_priority -5;", "worker_cpu_affinity auto 01;", "env A; env B;", "worker_rlimit_core 1g;"]
    {
        load(&format!("{text} events {{}}")).unwrap();
    }
}

#[test]
fn addresses_are_refused_for_the_first_thing_that_is_wrong_with_them() {
    for (text, message) in [
        ("listen 127.0.0.1/8;", "invalid host in \"127.0.0.1/8\" of the \"listen\" directive"),
        ("listen http://127.0.0.1;", "invalid host in \"http://127.0.0.1\" of the \"listen\" directive"),
        ("listen 1k;", "host not found in \"1k\" of the \"listen\" directive"),
        ("listen 82-80;", "invalid port range in \"82-80\" of the \"listen\" directive"),
        ("listen 81 so_keepalive=maybe;", "invalid so_keepalive value: \"maybe\""),
        ("listen 81 so_keepalive=::;", "invalid so_keepalive value: \"::\""),
        ("listen 81 so_keepalive=1m:1:x;", "invalid so_keepalive value: \"1m:1:x\""),
        ("listen 81 fastopen=x;", "invalid fastopen \"fastopen=x\""),
        ("resolver /x;", "invalid host in resolver \"/x\""),
        ("resolver 127.0.0.1 valid=x;", "invalid parameter: valid=x"),
        ("set_real_ip_from 10.0.0.0/33;", "host not found in set_real_ip_from \"10.0.0.0/33\""),
        ("allow 10.0.0.0/33;", "invalid parameter \"10.0.0.0/33\""),
    ] {
        refused_in_server(text, message);
    }
    for (text, message) in [
        ("proxy_pass http://127.0.0.1:x/;", "invalid port in upstream \"127.0.0.1:x/\""),
        ("proxy_pass http:///x;", "no host in upstream \"/x\""),
        ("grpc_pass 127.0.0.1;", "no port in upstream \"127.0.0.1\""),
    ] {
        refused_in_location(text, message);
    }
    refused_in_http("upstream u { server 10.0.0.1/8; }", "invalid host in upstream \"10.0.0.1/8\"");
}

#[test]
fn ports_in_a_row_are_listened_at_each() {
    let loaded = load("events {} http { server { listen 127.0.0.1:7001-7003; listen [::1]:7001-7002; } }");
    let listens = loaded.unwrap().config.http.unwrap().servers.remove(0).listen;
    let addrs: Vec<_> = listens.iter().map(|listen| listen.addr.to_string()).collect();
    let expected = ["127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003", "[::1]:7001", "[::1]:7002"];
    assert_eq!(addrs, expected);
}

#[test]
fn trusted_proxies_may_have_names() {
    let loaded = load("events {} http { set_real_ip_from localhost; server { listen 1; } }").unwrap();
    let from = &loaded.config.http.unwrap().servers[0].settings.real_ip.from;
    assert!(from.iter().any(|network| network.contains("127.0.0.1".parse().unwrap())), "{from:?}");
}

#[test]
fn directives_that_exclude_each_other_are_refused_in_either_order() {
    for (text, message) in [
        ("proxy_redirect off; proxy_redirect a b;", "\"proxy_redirect\" directive is duplicate"),
        ("proxy_redirect a b; proxy_redirect off;", "\"proxy_redirect\" directive is duplicate"),
        ("proxy_cookie_path off; proxy_cookie_path off;", "\"proxy_cookie_path\" directive is duplicate"),
        (
            "proxy_cookie_domain a b; proxy_cookie_domain off;",
            "\"proxy_cookie_domain\" directive is duplicate",
        ),
        (
            "proxy_redirect default; proxy_pass http://127.0.0.1:1;",
            "\"proxy_redirect default\" should be placed after the \"proxy_pass\" directive",
        ),
        (
            "proxy_pass http://$host; proxy_redirect default;",
            "\"proxy_redirect default\" cannot be used with \"proxy_pass\" directive with variables",
        ),
        ("rewrite ^ \"\";", "empty replacement"),
        ("try_files a =x;", "invalid code \"=x\""),
        ("expires @25h;", "\"expires\" directive daily time value must be less than 24 hours"),
        (
            "expires modified @1h;",
            "\"expires\" directive daily time cannot be used with \"modified\" parameter",
        ),
        ("expires sometimes 1h;", "\"expires\" directive invalid value"),
        ("set $query_string x;", "the duplicate \"query_string\" variable"),
        ("root $realpath_root;", "the $realpath_root variable cannot be used in the \"root\" directive"),
        ("open_file_cache inactive=1s;", "\"open_file_cache\" must have the \"max\" parameter"),
    ] {
        refused_in_location(text, message);
    }
    refused_in_server("location ~ ^/a { location /b { } }", "location \"/b\" is outside location \"^/a\"");
}

/// What is left of a path to replace is not known there.
#[test]
fn path_in_proxy_pass_is_refused_inside_if_and_limit_except() {
    let message = "\"proxy_pass\" cannot have URI part in location given by regular expression, or inside named \
                   location, or inside \"if\" statement, or inside \"limit_except\" block";
    for outer in ["if ($arg_a)", "limit_except GET"] {
        refused_in_location(&format!("{outer} {{ proxy_pass http://127.0.0.1:1/; }}"), message);
        assert_eq!(in_location(&format!("{outer} {{ proxy_pass http://127.0.0.1:1; }}")), "");
    }
}

/// `if ($host=a)` would hold for every request if it were a text with a variable in it.
#[test]
fn condition_asks_a_variable_by_its_whole_name() {
    for condition in ["($host=a)", "($host$uri)", "($host= a)"] {
        let message = in_location(&format!("if {condition} {{ return 403; }}"));
        assert!(
            message.starts_with("unknown \"host") || message.starts_with("invalid condition"),
            "{message}"
        );
    }
    assert_eq!(in_location("if ($host = a) { return 403; }"), "");
}

#[test]
fn zones_are_told_of_in_the_words_of_nginx() {
    for (text, message) in [
        ("limit_conn_zone $host zone=a;", "invalid zone size \"zone=a\""),
        ("limit_conn_zone $host zone=:1m;", "\"limit_conn_zone\" must have \"zone\" parameter"),
        ("limit_conn_zone $host zone=a:31k;", "zone \"zone=a:31k\" is too small"),
        (
            "limit_conn_zone $host zone=a:1m; limit_conn_zone $host zone=a:1m;",
            "limit_conn_zone \"a\" is already bound to key \"$host\"",
        ),
        (
            "limit_req_zone $host zone=a:1m rate=1r/s; limit_conn_zone $host zone=a:1m;",
            "the shared memory zone \"a\" is already declared for a different use",
        ),
        ("limit_req_zone $host rate=1r/s rate=2r/s;", "\"limit_req_zone\" must have \"zone\" parameter"),
        ("limit_req_zone $host zone=a:1m rate=1r/h;", "invalid rate \"rate=1r/h\""),
        ("limit_conn_zone $host zone=a:1m; limit_conn a 65536;", "connection limit must be less 65536"),
    ] {
        refused_in_http(text, message);
    }
    notes("limit_req_zone $host zone=a:1m rate=5;");
    let stream =
        |text: &str| load(&format!("events {{}} stream {{ {text} }}")).unwrap_err().message().to_owned();
    assert_eq!(stream("limit_conn_zone $remote_addr zone=a:1k;"), "zone \"zone=a:1k\" is too small");
    let twice = "limit_conn_zone $remote_addr zone=a:1m; limit_conn_zone $remote_port zone=a:1m;";
    assert_eq!(stream(twice), "limit_conn_zone \"a\" is already bound to key \"$remote_port\"");
}

#[test]
fn odd_things_are_warned_of_as_nginx_does() {
    let server = |text: &str| format!("server {{ listen 127.0.0.1:1; {text} }}");
    for (text, expected) in [
        (server("allow 10.0.0.1/8;"), vec!["low address bits of 10.0.0.1/8 are meaningless"]),
        (
            server("deny ::1/64; set_real_ip_from 10.0.0.0/8;"),
            vec!["low address bits of ::1/64 are meaningless"],
        ),
        (server("gzip_types text/css Text/CSS;"), vec!["duplicate MIME type \"text/css\""]),
        (server("gzip_types text/css; gzip_types text/html;"), vec!["duplicate MIME type \"text/html\""]),
        (server("proxy_next_upstream error timeout error;"), vec!["duplicate value \"error\""]),
        (server("index /a b;"), vec!["only the last index in \"index\" directive should be absolute"]),
        (
            "upstream u { least_conn; random; server 127.0.0.1:1; }".to_owned(),
            vec!["load balancing method redefined"],
        ),
        (
            format!("{}{}", server("server_name .a;"), server("server_name a *.a b;")),
            vec![
                "conflicting server name \"*.a\" on 127.0.0.1:1, ignored",
                "conflicting server name \"a\" on 127.0.0.1:1, ignored",
            ],
        ),
        (format!("{}{}", server("server_name ~a;"), server("server_name ~a;")), vec![]),
        (
            server("http2_max_requests 9;"),
            vec![
                "the \"http2_max_requests\" directive is obsolete, use the \"keepalive_requests\" directive instead",
            ],
        ),
    ] {
        assert_eq!(notes(&text), expected, "{text}");
    }
}

#[test]
fn word_fits_into_a_buffer_of_4096_with_what_ends_it() {
    let file = |word: String| {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("events {{}}\nhttp {{ server {{ listen 127.0.0.1:1;\nreturn 200\n{word};\n}} }}");
        let loaded = load_in(folder.path(), &text);
        loaded.err().map_or_else(String::new, |error| {
            error.to_string().replace(&format!("{}/", folder.path().display()), "")
        })
    };
    let (started, unclosed) = (
        "too long parameter \"xxxxxxxxxx...\" started in nginx.conf:4",
        "too long parameter, probably missing terminating \"\"\" character in nginx.conf:4",
    );
    assert_eq!(file("x".repeat(4095)), "");
    assert_eq!(file("x".repeat(4096)), started);
    assert_eq!(file(format!("\"{}\"", "x".repeat(4094))), "");
    assert_eq!(file(format!("\"{}\"", "x".repeat(4095))), started);
    assert_eq!(file(format!("\"{}\"", "x".repeat(4096))), unclosed);
}

#[test]
fn what_is_said_of_tls_need_not_be_right_where_nobody_speaks_it() {
    let folder = tempfile::tempdir().unwrap();
    let text = "events {} stream { server { listen 127.0.0.1:1; return x; ssl_certificate none; } }";
    fs::write(folder.path().join("nginx.conf"), text).unwrap();
    let stream = load_in(folder.path(), text).unwrap().config.stream.unwrap();
    l7_proxy::stream::check(&stream).unwrap();
    let text = text.replace("127.0.0.1:1;", "127.0.0.1:1 ssl;");
    let stream = load_in(folder.path(), &text).unwrap().config.stream.unwrap();
    let error = l7_proxy::stream::check(&stream).unwrap_err().to_string();
    assert!(error.starts_with("no \"ssl_certificate_key\" is defined for certificate"), "{error}");
}
