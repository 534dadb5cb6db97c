//! What the file says of upstreams beyond nginx's free edition: what is taken, and what is refused how.

use crate::support::load_in;

/// The error that a configuration with this at its top and in its `http {}` is refused with.
pub(crate) fn error(top: &str, http: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let read = load_in(folder.path(), &format!("{top} events {{}} http {{ {http} }}"));
    let message = read.map(drop).map_err(|error| error.message().to_owned());
    message.err().unwrap_or_default().replace(&*folder.path().join("nginx.conf").to_string_lossy(), "FILE")
}

#[test]
fn wrong_words_are_named() {
    let app = "upstream app { server 127.0.0.1:1; }";
    let check = |words: &str| format!("{app} server {{ location / {{ proxy_pass http://app; {words} }} }}");
    for (top, http, expected) in [
        ("lvs_control /run/x;", String::new(), "invalid parameter \"/run/x\""),
        ("lvs_control unix:x mode=8;", String::new(), "invalid parameter \"mode=8\""),
        ("", "lvs_explain_from here;".into(), "invalid parameter \"here\""),
        ("", check("health_check interval=0;"), "invalid parameter \"interval=0\""),
        ("", check("health_check uri=x;"), "invalid parameter \"uri=x\""),
        ("", check("health_check match=none;"), "match \"none\" not found"),
        ("", check("health_check type=grpc;"), "\"type=grpc\" needs a \"grpc_pass\" in its location"),
        ("", check("health_check grpc_status=12;"), "\"grpc_status\" must follow \"type=grpc\""),
        (
            "",
            check("health_check uri=/a type=grpc;"),
            "\"uri\" and \"match\" have no meaning with \"type=grpc\"",
        ),
        ("", check("health_check persistent;"), "invalid parameter \"persistent\""),
        (
            "",
            format!("{app} server {{ location / {{ health_check; }} }}"),
            "\"health_check\" directive needs a \"proxy_pass\" in its location",
        ),
        (
            "",
            check("health_check; location /a/ { proxy_pass http://app; health_check; }"),
            "the servers of \"http://app\" are checked by another \"health_check\"",
        ),
        (
            "",
            "upstream u { server 127.0.0.1:1; keepalive 4 per_server=0; }".into(),
            "invalid parameter \"per_server=0\"",
        ),
        ("", "upstream u { server 127.0.0.1:1; keepalive 4 each=1; }".into(), "invalid parameter \"each=1\""),
        ("", "match a { status 99x; }".into(), "invalid value \"99x\""),
        ("", "match a { header; }".into(), "\"header\" directive has invalid parameters"),
        ("", "match a { require; }".into(), "\"require\" directive has invalid parameters"),
        ("", "match a { require $nothing; }".into(), "unknown \"nothing\" variable"),
        ("", "match a { require $status x; }".into(), "invalid variable name \"x\""),
        ("", "match a { require $status$uri; }".into(), "invalid variable name \"$status$uri\""),
        ("", check("post_action done;"), "invalid value \"done\""),
        ("", "match a { } match a { }".into(), "duplicate match \"a\""),
        (
            "",
            "upstream u { zone u 64k; server a.test:1 resolve; }".into(),
            "no resolver defined to resolve names at run time in upstream \"u\"",
        ),
        (
            "",
            "upstream u { resolver 127.0.0.1; server a.test service=http; }".into(),
            "service upstream \"a.test\" requires \"resolve\" parameter",
        ),
        (
            "",
            "upstream u { resolver 127.0.0.1; server a.test:1 service=http resolve; }".into(),
            "service upstream \"a.test:1\" may not have port",
        ),
        ("", "resolver 127.0.0.1 ipv4=off ipv6=off;".into(), "\"ipv4\" and \"ipv6\" cannot both be \"off\""),
        ("", "resolver 127.0.0.1 valid=x;".into(), "invalid parameter: valid=x"),
        (
            "",
            "upstream u { ip_hash; server 127.0.0.1 slow_start=1s; }".into(),
            "balancing method does not support parameter \"slow_start=1s\"",
        ),
        (
            "",
            "upstream u { random two least_time=header; server 127.0.0.1 backup; }".into(),
            "balancing method does not support parameter \"backup\"",
        ),
        (
            "",
            "upstream u { resolver 127.0.0.1; server a.test resolve; }".into(),
            "resolving names at run time requires upstream \"u\" in FILE:1 to be in shared memory",
        ),
        (
            "",
            "upstream u { server 127.0.0.1 service=http resolve; }".into(),
            "service upstream \"127.0.0.1\" requires domain name",
        ),
        (
            "",
            "upstream u { server unix:/x service=http resolve; }".into(),
            "service upstream \"unix:/x\" may not have port",
        ),
        ("", "upstream u { server 127.0.0.1 service= resolve; }".into(), "service is empty"),
        ("", "upstream u { server 127.0.0.1 route=; }".into(), "route is empty"),
        (
            "",
            format!("upstream u {{ server 127.0.0.1 route={}; }}", "a".repeat(33)),
            "route is longer than 32",
        ),
    ] {
        assert_eq!(error(top, &http), expected, "{top} {http}");
    }
    for (stream, expected) in [
        (
            "upstream u { zone u 64k; server a.test:1 resolve; }",
            "no resolver defined to resolve names at run time in upstream \"u\"",
        ),
        ("resolver 127.0.0.1; upstream u { server a.test resolve; }", "no port in upstream \"a.test\""),
        ("upstream u { resolver 127.0.0.1; server a.test:1 route=a; }", "\"route=a\" parameter"),
        (
            "upstream u { hash $remote_addr; server 127.0.0.1:1; server 127.0.0.1:2 backup; }",
            "balancing method does not support parameter \"backup\"",
        ),
        (
            "upstream u { random; server 127.0.0.1:1; server 127.0.0.1:2 backup; }",
            "balancing method does not support parameter \"backup\"",
        ),
        (
            "resolver 127.0.0.1; upstream u { server a.test:1 resolve; }",
            "resolving names at run time requires upstream \"u\" in FILE:1 to be in shared memory",
        ),
    ] {
        let found = error(&format!("stream {{ {stream} }}"), "");
        assert!(found.contains(expected), "{stream}: {found}");
    }
}

#[test]
fn right_words_are_taken() {
    for (top, http) in [
        ("lvs_control unix:x mode=660;", ""),
        ("lvs_control off;", "lvs_explain_from 127.0.0.1 ::1 10.0.0.0/8;"),
        ("", "resolver 127.0.0.1:53 [::1] valid=30s ipv6=off status_zone=x; resolver_timeout 5s;"),
        ("", "upstream u { zone u 64k; resolver 127.0.0.1; server a.test resolve; server 127.0.0.1 drain; }"),
        // What is no name is not asked for, and needs nobody to ask.
        ("", "upstream u { server unix:/x resolve; server 127.0.0.1 resolve; server [::1]:1 resolve; }"),
        ("stream { upstream u { server 127.0.0.1:2; server 127.0.0.1:1 backup; hash $remote_addr; } }", ""),
        (
            "stream { resolver 127.0.0.1:53 valid=30s; resolver_timeout 5s;
                 upstream u { zone u 64k; server a.test:1 resolve; server b.test service=s resolve; } }",
            "",
        ),
        ("", "match m { status ! 500 502-504; header A; header ! B; header C ~ x; body !~ \"y z\"; }"),
    ] {
        assert_eq!(error(top, http), "", "{top} {http}");
    }
}
