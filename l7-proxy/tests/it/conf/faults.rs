//! nginx.conf: what each fault is called, and what is noted.

use std::fs;

use l7_proxy::conf::{self, Place, Source};
use proptest::prelude::*;

use super::{load, load_file, load_in, refused, refused_in_http, refused_in_location, refused_in_server};

#[test]
fn fault_is_named_as_nginx_names_it() {
    for (text, expected) in [
        ("events {}\nhttp {\n  server { lissten 80; }\n}", "unknown directive \"lissten\" in nginx.conf:3"),
        ("events {}\nhttp {\n", "unexpected end of file, expecting \"}\" in nginx.conf:3"),
        ("events {}\n}", "unexpected \"}\" in nginx.conf:2"),
        ("events {}\npid x", "unexpected end of file, expecting \";\" or \"}\" in nginx.conf:2"),
        ("events {}\npid x {}", "directive \"pid\" is not terminated by \";\" in nginx.conf:2"),
        ("events;", "directive \"events\" has no opening \"{\" in nginx.conf:1"),
        ("events {}\n\nlisten 80;", "\"listen\" directive is not allowed here in nginx.conf:3"),
        ("events {}\npid a b;", "invalid number of arguments in \"pid\" directive in nginx.conf:2"),
        ("events {}\npid a; pid b;", "\"pid\" directive is duplicate in nginx.conf:2"),
        ("events {}\nevents {}", "\"events\" directive is duplicate in nginx.conf:2"),
        ("http {}", "no \"events\" section in configuration"),
        ("events {}\nssl_engine x;", "\"ssl_engine\" directive is not supported by l7-proxy in nginx.conf:2"),
        ("events {}\nmail {}", "\"mail\" directive is not supported by l7-proxy in nginx.conf:2"),
        ("events {}\nworker_processes 0;", "\"worker_processes\" directive invalid value in nginx.conf:2"),
        ("events { worker_connections x; }", "invalid number \"x\" in nginx.conf:1"),
        ("events { use kqueue; }", "invalid event type \"kqueue\" in nginx.conf:1"),
        ("events {}\nerror_log x loud;", "invalid log level \"loud\" in nginx.conf:2"),
        (
            "daemon maybe;",
            "invalid value \"maybe\" in \"daemon\" directive, it must be \"on\" or \"off\" in nginx.conf:1",
        ),
        ("events {}\nhttp { types {\n a { b; }\n} }", "unexpected \"{\" in nginx.conf:3"),
        ("events {}\nhttp { }\nhttp { }", "\"http\" directive is duplicate in nginx.conf:3"),
    ] {
        refused(text, expected);
    }
}

#[test]
fn fault_in_an_included_file_is_found_there() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("site.conf"), "server {\n\n wrong;\n}").unwrap();
    let message = |text: &str| {
        let error = load_in(folder.path(), text).unwrap_err().to_string();
        error.replace(&format!("{}/", folder.path().display()), "")
    };
    assert_eq!(
        message("events {}\nhttp {\n include site.conf;\n}"),
        "unknown directive \"wrong\" in site.conf:3"
    );
    assert_eq!(
        message("events {}\nhttp {\n include other.conf;\n}"),
        "open() \"other.conf\" failed (2: No such file or directory) in nginx.conf:3"
    );
    fs::write(folder.path().join("half.conf"), "server {").unwrap();
    assert_eq!(
        message("events {}\nhttp {\n include half.conf; }\n}"),
        "unexpected end of file, expecting \"}\" in half.conf:1"
    );
    fs::write(folder.path().join("round.conf"), "include round.conf;").unwrap();
    assert_eq!(message("include round.conf;"), "blocks and includes are nested too deeply in round.conf:1");
}

#[test]
fn missing_file_is_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let error = load_file(folder.path(), "no.conf").unwrap_err();
    let path = folder.path().join("no.conf");
    let expected = format!("open() \"{}\" failed (2: No such file or directory)", path.display());
    assert_eq!(error.to_string(), expected);
}

#[test]
fn fault_in_a_value_names_the_value() {
    for (text, message) in [
        ("proxy_pass ftp://a;", "invalid URL prefix"),
        ("proxy_pass http://127.0.0.1:99999;", "invalid port in upstream \"127.0.0.1:99999\""),
        ("proxy_pass http://no.such.host.invalid;", "host not found in upstream \"no.such.host.invalid\""),
        ("proxy_set_header X $hots;", "unknown \"hots\" variable"),
        ("proxy_set_header X $;", "invalid variable name"),
        ("proxy_set_header X ${host;", "the closing bracket in \"host\" variable is missing"),
        ("proxy_set_header \"a b\" c;", "invalid header name \"a b\""),
        ("proxy_read_timeout 1x;", "\"proxy_read_timeout\" directive invalid value"),
        ("client_max_body_size 1kb;", "\"client_max_body_size\" directive invalid value"),
        ("keepalive_requests many;", "\"keepalive_requests\" directive invalid number"),
        ("proxy_next_upstream http_418;", "invalid value \"http_418\""),
        ("proxy_http_version 3;", "invalid value \"3\""),
        ("return 1000;", "invalid return code \"1000\""),
        ("return ok;", "invalid return code \"ok\""),
        ("return 200 a b;", "invalid number of arguments in \"return\" directive"),
        ("error_page 200 /x;", "value \"200\" must be between 300 and 599"),
        ("error_page 499 /x;", "invalid value \"499\""),
        ("error_page 404 =x /x;", "invalid value \"=x\""),
        ("access_log /tmp/x none;", "unknown log format \"none\""),
        ("access_log /tmp/x combined fast;", "invalid parameter \"fast\""),
        (
            "access_log memory:32k;",
            "\"memory:\" parameter of \"access_log\" directive is not supported by l7-proxy",
        ),
        ("add_header A b sometimes;", "invalid parameter \"sometimes\""),
        ("root /a; alias /b;", "\"alias\" directive is duplicate, \"root\" directive was specified earlier"),
        ("root /a; root /b;", "\"root\" directive is duplicate"),
        ("root /a$document_root;", "the $document_root variable cannot be used in the \"root\" directive"),
        (
            "proxy_pass http://127.0.0.1:1; proxy_pass http://127.0.0.1:2;",
            "\"proxy_pass\" directive is duplicate",
        ),
        ("ssi on;", "\"on\" parameter of \"ssi\" directive is not supported by l7-proxy"),
        ("memcached_pass a;", "\"memcached_pass\" directive is not supported by l7-proxy"),
        (
            "location ~ ^/a { proxy_pass http://127.0.0.1/b; }",
            "\"proxy_pass\" cannot have URI part in location given by regular expression, or inside named location, or inside \"if\" statement, or inside \"limit_except\" block",
        ),
        (
            "secure_link $arg_a; secure_link_secret word;",
            "\"secure_link_secret\" cannot be mixed with \"secure_link\" and \"secure_link_md5\"",
        ),
        ("location ^^ /a { }", "invalid location modifier \"^^\""),
        ("location @a { }", "named location \"@a\" can be on the server level only"),
        ("location /a { location /b { } }", "location \"/b\" is outside location \"/a\""),
        ("location = /a { location /a { } }", "location \"/a\" cannot be inside the exact location \"/a\""),
        ("location /a { } location ^~ /a { }", "duplicate location \"/a\""),
    ] {
        refused_in_location(text, message);
    }
    for (text, message) in [
        ("listen 127.0.0.1:99999;", "invalid port in \"127.0.0.1:99999\" of the \"listen\" directive"),
        ("listen 80 fast;", "invalid parameter \"fast\""),
        ("listen 80 backlog=x;", "invalid backlog \"backlog=x\""),
        ("listen 443 quic;", "\"quic\" parameter of \"listen\" directive is not supported by l7-proxy"),
        ("listen 80; listen *:80;", "a duplicate listen 0.0.0.0:80"),
        (
            "listen 80 default_server; } server { listen 80 default_server;",
            "a duplicate default server for 0.0.0.0:80",
        ),
        ("listen 80 backlog=1; } server { listen 80 backlog=2;", "duplicate listen options for 0.0.0.0:80"),
        ("server_name www.*.org;", "server name \"www.*.org\" is invalid"),
        ("server_name ~;", "empty regex in server name \"~\""),
        ("location @a { } location @a { }", "duplicate location \"@a\""),
        ("ssl_ocsp on;", "\"ssl_ocsp\" directive is not supported by l7-proxy"),
        ("ssl_protocols TLSv2;", "invalid value \"TLSv2\""),
        ("ssl_session_cache shared::1m;", "invalid session cache \"shared::1m\""),
    ] {
        refused_in_server(text, message);
    }
    for (text, message) in [
        ("upstream u { }", "no servers are inside upstream"),
        ("upstream u { server 127.0.0.1; } upstream u { server 127.0.0.1; }", "duplicate upstream \"u\""),
        ("upstream u { server 127.0.0.1 weight=0; }", "invalid parameter \"weight=0\""),
        ("upstream u { server 127.0.0.1 wieght=1; }", "invalid parameter \"wieght=1\""),
        (
            "upstream u { server no.such.host.invalid:81; }",
            "host not found in upstream \"no.such.host.invalid:81\"",
        ),
        ("upstream u { ntlm; }", "\"ntlm\" directive is not supported by l7-proxy"),
        (
            "upstream u { server 127.0.0.1; } server { location / { proxy_pass http://u:81; } }",
            "upstream \"u\" may not have port 81",
        ),
        ("log_format combined x;", "duplicate \"log_format\" name \"combined\""),
        ("log_format x escape=no y;", "unknown log format escaping \"no\""),
    ] {
        refused_in_http(text, message);
    }
}

#[test]
fn directive_without_effect_is_noted_and_still_checked() {
    let notes = |text: &str| {
        let notes = load(&format!("events {{ {text} }}")).unwrap().notes;
        notes.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let note = &notes("\nmulti_accept on;")[0];
    assert!(note.starts_with("\"multi_accept\" directive is accepted and has no effect in "), "{note}");
    assert!(note.ends_with("/nginx.conf:2"), "{note}");
    refused(
        "events { multi_accept 1; }",
        "invalid value \"1\" in \"multi_accept\" directive, it must be \"on\" or \"off\" in nginx.conf:1",
    );
    refused_in_http("types_hash_max_size x;", "\"types_hash_max_size\" directive invalid number");
    refused_in_http("proxy_buffer_size x;", "\"proxy_buffer_size\" directive invalid value");
}

#[test]
fn group_may_not_hide_a_variable() {
    refused_in_server("location ~ ^/(?<host>.) { }", "the duplicate \"host\" variable");
    refused_in_server("server_name ~^(?<uri>.)$;", "the duplicate \"uri\" variable");
}

#[test]
fn location_with_a_semicolon_is_noted() {
    let notes =
        load("events {} http { server { listen 81; location ~ '\\.jsp(;.*)?$' { } location /b { } } }")
            .unwrap()
            .notes;
    let notes: Vec<_> = notes.into_iter().map(|note| note.message).collect();
    assert_eq!(notes, ["paths are matched without their parameters (\";...\")"]);
}

/// Words that bring the reader far, and what separates them.
fn soup() -> impl Strategy<Value = String> {
    let words = [
        "events {}",
        "http {",
        "server {",
        "location / {",
        "location",
        "upstream u {",
        "stream {",
        "types {",
        "}",
        "}",
        "}",
        ";",
        ";",
        "{",
        "\"",
        "'",
        "\\",
        "$",
        "${",
        "~",
        "=",
        "(",
        "#",
        "\n",
        "listen",
        "80",
        "[::]:80",
        "default_server",
        "server_name",
        "*.a",
        "~^(?<n>.)",
        "proxy_pass",
        "http://127.0.0.1",
        "http://u",
        "server 127.0.0.1;",
        "return",
        "301",
        "$host",
        "$n",
        "root",
        "alias",
        "index",
        "error_page",
        "404",
        "=",
        "proxy_set_header",
        "add_header",
        "X",
        "1m",
        "k",
        "log_format",
        "access_log",
        "off",
        "include",
        "nginx.conf",
        "no*such",
        "keepalive",
        "\u{e9}",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..40).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn any_text_is_whole_or_is_refused_for_a_line_that_it_has(text in soup()) {
        let lines = text.matches('\n').count() + 1;
        // Half of what can be right has to be there, or nothing else is ever looked at.
        for text in [text.clone(), format!("events {{}} {text}")] {
            match load(&text) {
                Ok(_) => {
                    // What is right is complete, so that nothing is left open for a bracket to close.
                    let error = load(&format!("{text}\n}}")).unwrap_err();
                    prop_assert_eq!(error.message(), "unexpected \"}\"");
                    prop_assert_eq!(error.place().map(Place::line), Some(lines + 1));
                }
                Err(error) if error.place().is_none() => {
                    prop_assert_eq!(error.message(), "no \"events\" section in configuration");
                }
                Err(error) => {
                    let line = error.place().map_or(0, Place::line);
                    prop_assert!((1..=lines).contains(&line), "{} of {} lines: {}", line, lines, error);
                }
            }
        }
    }
}

#[test]
fn regular_expression_that_cannot_be_used_is_told_with_the_reason() {
    let error = load("events {}\nhttp { server {\nlocation ~ ( { }\n} }").unwrap_err();
    assert!(error.message().starts_with("regex \"(\" cannot be used: unclosed group"), "{error}");
    let error = load("events {}\nhttp { server {\nlocation ~ a(?=b { }\n} }").unwrap_err();
    assert!(error.message().starts_with("regex \"a(?=b\" cannot be used: "), "{error}");
}

#[test]
fn command_line_adds_directives_and_is_named_in_faults() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("nginx.conf"), "events {}").unwrap();
    let load = |globals: &str| {
        let (file, prefix) = ("nginx.conf".into(), folder.path().to_owned());
        conf::load(&Source { file, prefix, globals: globals.into() })
    };
    let process = load("daemon off; pid run/x.pid;").unwrap().config.process;
    assert!(!process.daemon);
    assert_eq!(process.pid, folder.path().join("run/x.pid"));
    let error = load("deamon off;").unwrap_err();
    assert_eq!(error.to_string(), "unknown directive \"deamon\" in command line");
}

#[test]
fn faults_of_blocks_that_define_variables_have_nginxs_words() {
    for (text, message) in [
        ("geo $x { 10.0.0.0/33 a; }", "invalid network \"10.0.0.0/33\""),
        ("geo $x { 10.0.0.0/8 a b; }", "invalid number of the geo parameters"),
        ("geo $x { delete; }", "invalid number of the geo parameters"),
        ("geo x { }", "invalid variable name \"x\""),
        ("geo x $y { }", "invalid variable name \"x\""),
        ("geo $nobody $y { }", "unknown \"nobody\" variable"),
        (
            "geo $x { 10.0.0.0/8 a; ranges; }",
            "the \"ranges\" directive must be the first directive inside \"geo\" block",
        ),
        ("geo $x { ranges; 10.0.0.5-10.0.0.3 a; }", "invalid range \"10.0.0.5-10.0.0.3\""),
        ("geo $x { ranges; 10.0.0.5 a; }", "invalid range \"10.0.0.5\""),
        (
            "geo $x { ranges; 10.0.0.5-10.0.0.9 a; 10.0.0.7-10.0.0.11 a; }",
            "range \"10.0.0.7-10.0.0.11\" overlaps \"10.0.0.5-10.0.0.9\"",
        ),
        ("split_clients $uri $x { 0% a; }", "invalid percent value \"0%\""),
        ("split_clients $uri $x { 1.001% a; }", "invalid percent value \"1.001%\""),
        ("split_clients $uri $x { 50% a; 50.01% b; }", "percent total is greater than 100%"),
        (
            "map $b $a { default $b; } map $a $b { default $a; }",
            "cycle while evaluating a variable of \"map\"",
        ),
    ] {
        refused_in_http(text, message);
    }
    refused(
        "events {}\nstream {\nmap $b $a { default $b; } map $a $b { default $a; }\n}",
        "cycle while evaluating a variable of \"map\" in nginx.conf:3",
    );
    refused(
        "events {}\nstream {\ngeo $x { proxy 10.0.0.1; }\n}",
        "invalid network \"proxy\" in nginx.conf:3",
    );
}

#[test]
fn odd_rows_of_geo_are_noted() {
    let notes = |text: &str| {
        let text = format!("events {{}} http {{ {text} }}");
        let loaded = load(&text).unwrap();
        loaded.notes.into_iter().map(|note| note.message).collect::<Vec<_>>()
    };
    assert_eq!(
        notes("geo $x { 10.1.2.3/16 a; 10.1.0.0/16 b; delete 10.2.0.0/16; default c; default d; }"),
        [
            "low address bits of 10.1.2.3/16 are meaningless",
            "duplicate network \"10.1.0.0/16\", value: \"b\", old value: \"a\"",
            "no network \"10.2.0.0/16\" to delete",
            "duplicate network \"default\", value: \"d\", old value: \"c\"",
        ]
    );
    assert_eq!(
        notes(
            "geo $x { ranges; default a; default b; 10.0.0.0-10.0.0.9 c; 10.0.0.0-10.0.0.9 d; \
             delete 10.9.0.0-10.9.0.1; }"
        ),
        [
            "duplicate default geo range value: \"b\", old value: \"a\"",
            "duplicate range \"10.0.0.0-10.0.0.9\", value: \"d\", old value: \"c\"",
            "no address range \"10.9.0.0-10.9.0.1\" to delete",
        ]
    );
}
