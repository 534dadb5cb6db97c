//! The binary: its command line, its messages, its signals.

use std::fs;
use std::net::{TcpListener, TcpStream};

use rustix::process::Signal;

use crate::peer::{Origin, eventually};
use crate::program::Site;

#[test]
fn good_configuration_is_called_good() {
    let site = Site::new("return 200;");
    let good = "l7-proxy: the configuration file nginx.conf syntax is ok\n\
                l7-proxy: configuration file nginx.conf test is successful\n";
    assert_eq!(site.say(&["-t"]), (0, good.to_owned()));
    assert_eq!(site.say(&["-t", "-q"]), (0, String::new()));
    let dump = site.run(&["-T"]);
    let text = String::from_utf8(dump.stdout).unwrap();
    assert!(text.starts_with("# configuration file "), "{text}");
    assert!(text.contains("return 200;"), "{text}");
}

#[test]
fn fault_is_named_with_file_line_and_word() {
    let site = Site::new("");
    let check = |text: &str, message: &str| {
        site.write_whole(text);
        let expected =
            format!("l7-proxy: [emerg] {message}\nl7-proxy: configuration file nginx.conf test failed\n");
        assert_eq!(site.say(&["-t"]), (1, expected));
        assert_eq!(site.say(&[]).0, 1);
    };
    check("events {}\nhttp {\n  lsten 80;\n}", "unknown directive \"lsten\" in nginx.conf:3");
    check("events {}\nhttp {\n  server { listen 80\n }\n}", "unexpected \"}\" in nginx.conf:4");
    check(
        "events {} http { server { listen 127.0.0.1:1 default_server; } server { listen 127.0.0.1:1 default_server; } }",
        "a duplicate default server for 127.0.0.1:1 in nginx.conf:1",
    );
}

#[test]
fn options_that_are_not_known_are_refused() {
    let site = Site::new("");
    assert_eq!(site.say(&["-x"]), (1, "l7-proxy: invalid option: \"x\"\n".to_owned()));
    let (code, text) = site.say(&["-v"]);
    assert_eq!((code, &*text), (0, concat!("l7-proxy version: l7-proxy/", env!("CARGO_PKG_VERSION"), "\n")));
    assert!(site.say(&["-h"]).1.contains("-s signal"));
}

/// Parts that nginx is built with unless told otherwise, each by one of its directives.
const PARTS: [(&str, &str); 24] = [
    ("access", "deny all"),
    ("auth_basic", "auth_basic off"),
    ("autoindex", "autoindex on"),
    ("browser", "ancient_browser Lynx"),
    ("cache", "proxy_cache_valid 1m"),
    ("charset", "charset utf-8"),
    ("empty_gif", "empty_gif"),
    ("fastcgi", "fastcgi_pass 127.0.0.1:9000"),
    ("geo", "geo $country {}"),
    ("grpc", "grpc_connect_timeout 1s"),
    ("gzip", "gzip on"),
    ("limit_conn", "limit_conn_status 503"),
    ("limit_req", "limit_req_status 503"),
    ("memcached", "memcached_pass 127.0.0.1:11211"),
    ("mirror", "mirror /mirror"),
    ("proxy", "proxy_connect_timeout 1s"),
    ("referer", "valid_referers example.org"),
    ("rewrite", "return 204"),
    ("scgi", "scgi_pass 127.0.0.1:9000"),
    ("split_clients", "split_clients $remote_addr $variant {}"),
    ("ssi", "ssi on"),
    ("tunnel", "tunnel_pass"),
    ("userid", "userid on"),
    ("uwsgi", "uwsgi_pass 127.0.0.1:9000"),
];

/// Parts that it is built with on request.
const EXTRAS: [(&str, &str); 17] = [
    ("addition", "add_before_body /before"),
    ("auth_request", "auth_request off"),
    ("dav", "dav_methods PUT"),
    ("flv", "flv"),
    ("gunzip", "gunzip on"),
    ("gzip_static", "gzip_static on"),
    ("image_filter", "image_filter size"),
    ("mp4", "mp4"),
    ("random_index", "random_index on"),
    ("realip", "real_ip_header X-Real-IP"),
    ("secure_link", "secure_link $arg_s"),
    ("slice", "slice 1m"),
    ("ssl", "proxy_ssl_name a"),
    ("stub_status", "stub_status"),
    ("sub", "sub_filter a b"),
    ("v2", "http2_chunk_size 8k"),
    ("xslt", "xml_entities a"),
];

#[test]
fn version_names_the_parts_whose_directives_are_taken() {
    let features = Site::new("").say(&["-V"]).1;
    assert!(features.contains("--with-stream "), "{features}");
    let is_taken = |directive: &str| {
        let text = match directive.ends_with('}') {
            true => format!("http {{ {directive} }}"),
            false => format!("http {{ server {{ location / {{ {directive}; }} }} }}"),
        };
        l7_proxy::conf::parse(&text, "/".as_ref()).is_ok()
    };
    let has = |option: &str| features.split_whitespace().any(|word| word == option);
    for (part, directive) in PARTS {
        let option = match part {
            "cache" => "--without-http-cache".to_owned(),
            part => format!("--without-http_{part}_module"),
        };
        assert_eq!(has(&option), !is_taken(directive), "{directive}");
    }
    for (part, directive) in EXTRAS {
        assert_eq!(has(&format!("--with-http_{part}_module")), is_taken(directive), "{directive}");
    }
}

#[test]
fn address_that_is_taken_is_named() {
    let site = Site::new("return 200;");
    let _taken = TcpListener::bind(site.addr).unwrap();
    let (code, text) = site.say(&[]);
    assert_eq!(code, 1);
    let expected = format!("bind() to {} failed (98: Address already in use)", site.addr);
    let log = site.read("error.log");
    assert!(log.contains("[emerg]") && log.contains(&expected), "{log}");
    assert!(text.contains(&format!("l7-proxy: [emerg] {expected}")), "{text}");
    assert!(!site.path("l7.pid").exists());
}

#[test]
fn it_serves_as_soon_as_the_pid_file_is_there_and_takes_it_away() {
    let site = Site::new("return 200 hello;");
    for (signal, name) in [(Signal::TERM, "stop"), (Signal::INT, ""), (Signal::QUIT, "quit")] {
        let mut running = site.start();
        assert_eq!(site.get(), "hello");
        match name {
            "" => running.signal(signal),
            name => assert_eq!(site.say(&["-s", name]), (0, String::new())),
        }
        assert_eq!(running.end(), 0);
        assert!(!site.path("l7.pid").exists());
        assert!(TcpStream::connect(site.addr).is_err());
    }
    // Requests are in the log to the last one, also after a fast stop.
    assert_eq!(site.read("access.log").lines().count(), 3);
    let log = site.read("error.log");
    assert!(log.contains("[notice]") && log.contains("gracefully shutting down"), "{log}");
    let (code, text) = site.say(&["-s", "stop"]);
    assert_eq!(
        (code, &*text),
        (1, "l7-proxy: [error] open() \"l7.pid\" failed (2: No such file or directory)\n")
    );
}

#[test]
fn broken_file_on_reload_is_logged_and_changes_nothing() {
    let site = Site::new("return 200 old;");
    let running = site.start();
    site.write("\n\nretrun 200 new;");
    running.signal(Signal::HUP);
    let expected = "[emerg]";
    eventually("the fault is logged", || site.read("error.log").contains(expected));
    let log = site.read("error.log");
    assert!(log.contains("unknown directive \"retrun\" in "), "{log}");
    assert!(log.contains("nginx.conf:6\n"), "{log}");
    assert_eq!(site.get(), "old");
    site.write("return 200 new;");
    assert_eq!(site.say(&["-s", "reload"]).0, 0);
    eventually("the new file is served", || site.get() == "new");
}

#[test]
fn logs_are_reopened_on_usr1() {
    let site = Site::new("return 200;");
    let running = site.start();
    site.get();
    for name in ["error.log", "access.log"] {
        fs::rename(site.path(name), site.path(&format!("{name}.1"))).unwrap();
    }
    running.signal(Signal::USR1);
    eventually("the error log is new", || site.path("error.log").exists());
    eventually("the access log is new", || site.path("access.log").exists());
    site.get();
    eventually("the new log has the new line", || site.read("access.log").lines().count() >= 1);
}

#[test]
fn quit_finishes_what_is_at_hand_and_a_second_signal_does_not_wait() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.peer.rest().map(drop)
    });
    let site = Site::new(&format!("location / {{ proxy_pass http://{}; }}", origin.addr));
    let mut running = site.start();
    let mut client = site.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is at the server", || origin.requests().len() == 1);
    running.signal(Signal::QUIT);
    eventually("nobody listens", || TcpStream::connect(site.addr).is_err());
    // It takes as long as it takes, and says what for.
    let awaited =
        "still shutting down, waiting for requests on 1 connections, 0 idle connections, 0 of stream";
    eventually("it says what it waits for", || site.read("error.log").contains(awaited));
    assert!(running.child.try_wait().unwrap().is_none(), "a request is at hand");
    running.signal(Signal::TERM);
    assert_eq!(running.end(), 0);
    assert!(client.is_closed());
}

#[test]
fn quit_cuts_what_takes_too_long() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        visit.peer.rest().map(drop)
    });
    let site = Site::new("");
    site.write_whole(&format!(
        "pid l7.pid; error_log error.log; worker_shutdown_timeout 100ms; events {{}}
         http {{ access_log off; server {{ listen {}; location / {{ proxy_pass http://{}; }} }} }}",
        site.addr, origin.addr
    ));
    let mut running = site.start();
    let mut client = site.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is at the server", || origin.requests().len() == 1);
    running.signal(Signal::QUIT);
    assert_eq!(running.end(), 0);
    assert!(client.is_closed());
}

#[test]
fn location_with_an_error_log_of_its_own_has_its_errors_there() {
    let site = Site::new(
        "root html; location /own/ { error_log own.log; }
         location /off/ { error_log off.log; log_not_found off; }",
    );
    let mut running = site.start();
    for path in ["/", "/own/a", "/off/b", "/c"] {
        site.client().get(path);
    }
    running.signal(Signal::QUIT);
    assert_eq!(running.end(), 0);
    let named = |log: &str| -> Vec<String> {
        let text = site.read(log);
        let lines = text.lines().filter(|line| line.contains("(2: No such file"));
        lines.map(|line| line.split('"').nth(1).unwrap().rsplit('/').next().unwrap().to_owned()).collect()
    };
    assert_eq!(named("own.log"), ["a"]);
    assert_eq!(site.read("off.log"), "");
    assert_eq!(named("error.log"), ["", "c"]);
}
