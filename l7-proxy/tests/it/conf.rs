//! nginx.conf: what is taken, and what it means.

mod faults;
mod rare;
mod values;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use l7_proxy::conf::{self, Loaded};
use l7_proxy::model::{
    AccessLogTarget, Config, ErrorPageStatus, Escape, Handler, HttpVersion, LogTarget, Matcher, PassUri,
    ReturnBody, Role, Root, ServerName, Settings, StreamContent, StreamServer, StreamTarget, UpstreamId,
    When, Workers,
};
use l7_proxy::variable::{Value, Variable};

use crate::support::{load_file, load_in};

fn load(text: &str) -> Result<Loaded, conf::Error> {
    load_in(tempfile::tempdir().unwrap().path(), text)
}

#[track_caller]
fn config(text: &str) -> Config {
    load(text).map_err(|error| error.to_string()).unwrap().config
}

/// The settings of the only location of the only server.
#[track_caller]
fn location(http: &str, server: &str, location: &str) -> Settings {
    let text = format!("events {{}} http {{ {http} server {{ {server} location / {{ {location} }} }} }}");
    let server = config(&text).http.unwrap().servers.remove(0);
    server.locations.into_iter().next().unwrap().settings
}

/// Checks the message for a file, the folder's name left out.
#[track_caller]
fn refused(text: &str, expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let error = load_in(folder.path(), text).unwrap_err().to_string();
    let folder = format!("{}/", folder.path().display());
    assert_eq!(error.replace(&folder, ""), expected, "{text}");
}

/// Checks the message for directives inside `http { server { location / {} } }`, one per line.
#[track_caller]
fn refused_in_location(text: &str, message: &str) {
    refused(
        &format!("events {{}}\nhttp {{ server {{ location / {{\n{text}\n}}}}}}"),
        &format!("{message} in nginx.conf:3"),
    );
}

#[track_caller]
fn refused_in_server(text: &str, message: &str) {
    refused(&format!("events {{}}\nhttp {{ server {{\n{text}\n}}}}"), &format!("{message} in nginx.conf:3"));
}

#[track_caller]
fn refused_in_http(text: &str, message: &str) {
    refused(&format!("events {{}}\nhttp {{\n{text}\n}}"), &format!("{message} in nginx.conf:3"));
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn files_of_the_benchmark_are_taken_as_they_are() {
    let l7 = config(
        r#"
daemon off; worker_processes 1; error_log /dev/null crit; pid /tmp/n7.pid;
events { worker_connections 9000; multi_accept on; }
http { access_log off; keepalive_requests 100000000; keepalive_timeout 300s;
 upstream u { server 127.0.0.1:9000; keepalive 256; keepalive_requests 100000000; }
 server { listen 127.0.0.1:8000 backlog=65535;
  location / { proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; } } }
"#,
    );
    assert!(!l7.process.daemon);
    assert_eq!(l7.events.worker_connections, 9000);
    let http = l7.http.unwrap();
    let upstream = &http.upstreams[0];
    assert_eq!(upstream.servers[0].addr, addr("127.0.0.1:9000"));
    let keepalive = upstream.keepalive.as_ref().unwrap();
    assert_eq!((keepalive.idle_max, keepalive.requests), (256, 100_000_000));
    let server = &http.servers[0];
    assert_eq!(server.listen[0].socket.as_ref().unwrap().backlog, Some(65_535));
    let settings = &server.locations[0].settings;
    assert_eq!(settings.connection.keepalive_timeout, Some(Duration::from_secs(300)));
    let fields: Vec<_> = settings.proxy.set_headers.iter().map(|field| &*field.written).collect();
    assert_eq!(fields, ["Connection", "Host", "X-Real-IP", "X-Forwarded-For"]);
    assert!(settings.proxy.set_headers[0].value.is_empty());
    assert!(settings.access_log.is_empty());

    let l4 = config(
        r#"
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off; worker_processes 1; error_log /dev/null crit; pid /tmp/n4.pid;
events { worker_connections 9000; multi_accept on; }
stream { upstream u { server 127.0.0.1:9000; } server { listen 127.0.0.1:8000 backlog=65535; proxy_pass u; proxy_buffer_size 16k; } }
"#,
    );
    let stream = l4.stream.unwrap();
    let server = &stream.servers[0];
    assert_eq!(server.listen[0].addr, addr("127.0.0.1:8000"));
    assert_eq!(server.listen[0].socket.as_ref().unwrap().backlog, Some(65_535));
    assert_eq!(stream.upstream(upstream_of(server)).servers[0].addr, addr("127.0.0.1:9000"));
    let settings = &server.settings;
    assert_eq!(
        (settings.connect_timeout, settings.timeout),
        (Duration::from_secs(60), Duration::from_secs(600))
    );
}

fn upstream_of(server: &StreamServer) -> UpstreamId {
    match server.content {
        StreamContent::Proxy(StreamTarget::Upstream(id)) => id,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn file_of_a_distribution_is_taken_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("conf.d")).unwrap();
    fs::write(
        folder.path().join("mime.types"),
        "types {\n text/html html htm;\n image/svg+xml svg svgz;\n}\n",
    )
    .unwrap();
    fs::write(folder.path().join("conf.d/site.conf"), "server { listen 80 default_server; server_name _; }")
        .unwrap();
    fs::write(folder.path().join("conf.d/site.conf.bak"), "broken").unwrap();
    let text = r"
user www-data;
worker_processes auto;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log;
include modules-enabled/*.conf;
events {
	worker_connections 768;
	# multi_accept on;
}
http {
	sendfile on;
	tcp_nopush on;
	types_hash_max_size 2048;
	include mime.types;
	default_type application/octet-stream;
	TLS
	access_log /var/log/nginx/access.log;
	gzip on;
	include conf.d/*.conf;
}
";
    let loaded = load_in(folder.path(), &text.replace("TLS", "")).unwrap();
    let process = &loaded.config.process;
    assert_eq!(process.workers, Workers::Auto);
    assert_eq!(process.pid, Path::new("/run/nginx.pid"));
    let notes = loaded.notes.iter().map(|note| note.message.split('"').nth(1).unwrap());
    let (user, others): (Vec<_>, Vec<_>) = notes.partition(|name| *name == "user");
    assert_eq!(others, ["sendfile", "tcp_nopush", "types_hash_max_size"]);
    // Only root can become somebody else; whoever else starts it is told.
    assert_eq!(process.user.is_some(), user.is_empty());
    let server = &loaded.config.http.unwrap().servers[0];
    assert!(server.listen[0].default_server);
    let files = &server.settings.files;
    assert_eq!(files.types.of(b"/a/logo.SVG").unwrap(), "image/svg+xml");
    assert_eq!(files.types.of(b"/a/photo.jpg"), None);
    assert_eq!(files.default_type.as_ref().unwrap(), "application/octet-stream");

    let tls = "ssl_protocols TLSv1 TLSv1.3; ssl_prefer_server_ciphers on;";
    let loaded = load_in(folder.path(), &text.replace("TLS", tls)).unwrap();
    let versions = loaded.config.http.unwrap().servers[0].settings.tls.versions;
    assert!(versions.tls13 && !versions.tls12);
    assert!(loaded.notes.iter().any(|note| note.message == "\"TLSv1\" is not spoken by l7-proxy"));
}

#[test]
fn file_of_the_experiment_is_taken_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("conf")).unwrap();
    fs::write(folder.path().join("conf/mime.types"), "types { text/html html htm shtml; }").unwrap();
    let text = r"
#user  nobody;
worker_processes  1;
events {
    worker_connections  1024;
}
http {
    include       mime.types;
    default_type  application/octet-stream;
    sendfile        on;
    keepalive_timeout  65;
    upstream tomcat {
        server 192.168.233.40:8080 weight=1;
        server 192.168.233.50:8080 weight=1;
    }
    server {
        listen       80;
        server_name  localhost;
        location ~ .*.jsp$ {
            proxy_pass http://tomcat;
            proxy_set_header HOST $host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }
        location / {
            root   html;
            index  index.html index.htm;
        }
        error_page   500 502 503 504  /50x.html;
        location = /50x.html {
            root   html;
        }
    }
}
stream {
    upstream nginx {
        server 192.168.233.20:80 weight=1;
        server 192.168.233.30:80 weight=1;
    }
    server {
        listen 82;
        proxy_pass nginx;
    }
}
";
    fs::write(folder.path().join("conf/nginx.conf"), text).unwrap();
    let config = load_file(folder.path(), "conf/nginx.conf").unwrap().config;
    let http = config.http.unwrap();
    let jsp = &http.servers[0].locations[0];
    let Handler::Proxy(proxy) = &jsp.handler else { panic!("no proxy_pass") };
    assert_eq!(http.upstream(proxy.upstream.unwrap()).servers.len(), 2);
    // The default of `Host` is gone, however the name is spelled.
    let fields: Vec<_> = jsp.settings.proxy.set_headers.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(fields, ["host", "x-real-ip", "x-forwarded-for"]);
    let stream = config.stream.unwrap();
    assert_eq!(stream.upstream(upstream_of(&stream.servers[0])).name, "nginx");
}

#[test]
fn inner_level_wins_and_lists_are_inherited_whole_or_not_at_all() {
    let outer =
        "root /a; index a b; add_header A 1; proxy_set_header X 1; proxy_read_timeout 5s; error_page 404 /x;";
    let inherited = location(outer, "", "");
    assert_eq!(inherited.add_headers.len(), 1);
    assert_eq!(inherited.files.index.len(), 2);
    assert_eq!(inherited.proxy.read_timeout, Duration::from_secs(5));
    let fields = |settings: &Settings| -> Vec<String> {
        settings.proxy.set_headers.iter().map(|field| field.written.clone()).collect()
    };
    assert_eq!(fields(&inherited), ["Host", "X"]);

    let inner = location(
        outer,
        "root /b;",
        "index c; add_header B 2 always; proxy_set_header Host $host; proxy_set_header Y 2;",
    );
    assert!(matches!(&inner.files.root, Root::Root(root) if *root == Value::literal("/b")));
    assert_eq!(inner.files.index, [Value::literal("c")]);
    assert_eq!(inner.add_headers.len(), 1);
    assert_eq!(inner.add_headers[0].when, When::Always);
    assert_eq!(fields(&inner), ["Host", "Y"]);
    assert_eq!(inner.proxy.set_headers[0].value, Value::variable(Variable::Host));
    assert_eq!(inner.proxy.read_timeout, Duration::from_secs(5));

    // What comes after a block holds inside it as well.
    let server = "location /b { } root /late;";
    assert!(
        matches!(location("", server, "").files.root, Root::Root(root) if root == Value::literal("/late"))
    );
}

#[test]
fn paths_are_relative_to_the_prefix_and_includes_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("conf/sub")).unwrap();
    fs::write(folder.path().join("conf/sub/inner.conf"), "include sub/innermost.conf;").unwrap();
    fs::write(folder.path().join("conf/sub/innermost.conf"), "root html/;").unwrap();
    let text = "events {} http { access_log logs/a.log; server { include sub/*ner.conf; } }";
    fs::write(folder.path().join("conf/nginx.conf"), text).unwrap();
    let loaded = load_file(folder.path(), "conf/nginx.conf").unwrap();
    let read: Vec<_> = loaded.files.iter().map(|file| file.path.file_name().unwrap()).collect();
    assert_eq!(read, ["nginx.conf", "inner.conf", "innermost.conf"]);
    assert_eq!(loaded.files[2].text, b"root html/;");
    let server = &loaded.config.http.unwrap().servers[0];
    let path = |name: &str| folder.path().join(name);
    assert_eq!(
        server.settings.access_log[0].target,
        AccessLogTarget::Fixed(LogTarget::File(path("logs/a.log")))
    );
    let root = Value::literal(path("html").to_str().unwrap());
    assert!(matches!(&server.settings.files.root, Root::Root(found) if *found == root));
}

#[test]
fn access_log_is_written_by_default_where_nginx_has_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let logs = |folder: &Path| {
        let config = load_in(folder, "events {} http { server { } }").unwrap().config;
        config.http.unwrap().servers.remove(0).settings.access_log
    };
    assert!(logs(folder.path()).is_empty());
    fs::create_dir(folder.path().join("logs")).unwrap();
    let found = logs(folder.path());
    assert_eq!(
        found[0].target,
        AccessLogTarget::Fixed(LogTarget::File(folder.path().join("logs/access.log")))
    );
    assert_eq!(found[0].format.name, "combined");
}

#[test]
fn log_format_is_one_line_of_all_its_pieces() {
    let http =
        "log_format json escape=json '{\"a\":' '\"$uri\"}'; access_log /tmp/a json buffer=32k flush=5s;";
    let settings = location(http, "", "");
    let format = &settings.access_log[0].format;
    assert_eq!(format.escape, Escape::Json);
    assert_eq!(format.line, Value::parse("{\"a\":\"$uri\"}", &Default::default()).unwrap());
}

#[test]
fn locations_are_read_with_every_modifier_in_either_spelling() {
    let text = r"events {} http { server {
        location = /a { } location ^~ /b { } location ~ c(?<x>.) { return 200 $x; } location ~* d { } location @e { }
        location =/f { } location ~\.g$ { } location /h { location /h/i { internal; } location ~ j { } } } }";
    let server = config(text).http.unwrap().servers.remove(0);
    let kinds: Vec<String> = server
        .locations
        .iter()
        .map(|location| match &location.matcher {
            Matcher::Exact(path) => format!("= {}", String::from_utf8_lossy(path)),
            Matcher::Prefix(path) => format!("  {}", String::from_utf8_lossy(path)),
            Matcher::FinalPrefix(path) => format!("^ {}", String::from_utf8_lossy(path)),
            Matcher::Regex(pattern) => format!("~ {}", pattern.source()),
            Matcher::Named(name) => format!("@ {name}"),
        })
        .collect();
    assert_eq!(kinds, ["= /a", "^ /b", "~ c(?<x>.)", "~ d", "@ e", "= /f", r"~ \.g$", "  /h"]);
    assert!(server.locations[7].locations[0].internal);
}

#[test]
fn return_is_a_page_a_text_or_a_redirect() {
    let reply = |text: &str| {
        let text = format!("events {{}} http {{ server {{ return {text}; }} }}");
        let reply = config(&text).http.unwrap().servers.remove(0).reply.unwrap();
        let body = match reply.body {
            ReturnBody::Page => "page".to_owned(),
            ReturnBody::Text(text) => format!("text {text:?}"),
            ReturnBody::Location(place) => format!("to {place:?}"),
        };
        format!("{} {body}", reply.status).replace(['[', ']'], "")
    };
    assert_eq!(reply("404"), "404 page");
    assert_eq!(
        reply("301 https://$host"),
        "301 to Literal(104, 116, 116, 112, 115, 58, 47, 47), Variable(Host)"
    );
    assert!(reply("http://a").starts_with("302 to"));
    assert!(reply("$scheme://a").starts_with("302 to Variable(Scheme)"));
    assert!(reply("200 ok").starts_with("200 text"));
}

#[test]
fn server_names_are_told_apart() {
    let text = "events {} http { server { server_name A.example *.b .c www.d.* ~^e\\d+$ _ \"\"; } }";
    let names = config(text).http.unwrap().servers.remove(0).names;
    let shown: Vec<String> = names.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["a.example", "*.b", ".c", "www.d.*", "~^e\\d+$", "_", ""]);
    assert!(matches!(&names[0], ServerName::Exact(_)));
    assert!(matches!(&names[2], ServerName::NameAndSubdomains(name) if name == "c"));
}

#[test]
fn name_that_two_servers_have_is_noted_and_the_first_keeps_it() {
    let text =
        "events {} http { server { listen 81; server_name a; } server { listen 81; server_name a b; } }";
    let notes: Vec<_> = load(text).unwrap().notes.into_iter().map(|note| note.message).collect();
    assert_eq!(notes, ["conflicting server name \"a\" on 0.0.0.0:81, ignored"]);
}

#[test]
fn servers_of_an_upstream_have_their_parameters() {
    let text =
        "events {} http { upstream u { server 127.0.0.1 weight=3 max_fails=2 fail_timeout=1m max_conns=7;
        server 127.0.0.1:81 backup; server [::1]:82 down; keepalive 0; zone z 64k; } }";
    let loaded = load(text).unwrap();
    let http = loaded.config.http.unwrap();
    let upstream = &http.upstreams[0];
    assert_eq!(upstream.keepalive, None);
    let [one, two, three] = &*upstream.servers else { panic!("{:?}", upstream.servers) };
    assert_eq!(one.addr, addr("127.0.0.1:80"));
    assert_eq!((one.weight.get(), one.max_fails, one.fail_timeout), (3, 2, Duration::from_secs(60)));
    assert_eq!(one.max_conns.unwrap().get(), 7);
    assert_eq!((two.role, two.down, two.max_fails), (Role::Backup, false, 1));
    assert_eq!((three.addr, three.down), (addr("[::1]:82"), true));
    assert_eq!(loaded.notes.len(), 1);
}

#[test]
fn proxy_pass_names_an_upstream_or_implies_one() {
    let text = "events {} http { server { location /a { proxy_pass http://u; } location /b/ { proxy_pass http://U/x/; }
        location /c { proxy_pass http://127.0.0.1:8080; } location /d { proxy_pass http://127.0.0.1:8080/y?z; }
        location /e { proxy_pass http://127.0.0.1; } location /f { proxy_pass http://u$request_uri; } }
        upstream u { server 127.0.0.1; } }";
    let http = config(text).http.unwrap();
    let names: Vec<_> = http.upstreams.iter().map(|upstream| &*upstream.name).collect();
    assert_eq!(names, ["u", "127.0.0.1:8080", "127.0.0.1:80"]);
    assert!(http.upstreams[0].keepalive.is_some());
    assert!(http.upstreams[1].keepalive.is_none());
    let passes: Vec<_> = http.servers[0]
        .locations
        .iter()
        .map(|location| match &location.handler {
            Handler::Proxy(proxy) => (proxy.upstream.unwrap().0, &*proxy.host, proxy.port, proxy.uri.clone()),
            Handler::Files | Handler::Status(_) | Handler::EmptyGif | Handler::ProxyTo(_) => {
                panic!("{:?}", location.matcher)
            }
        })
        .collect();
    let literal = |text: &str| Some(PassUri::Prefix(text.to_owned()));
    let request_uri = Some(PassUri::Whole(Value::variable(Variable::RequestUri)));
    let expected = [
        (0, "u", 80, None),
        (0, "U", 80, literal("/x/")),
        (1, "127.0.0.1:8080", 8080, None),
        (1, "127.0.0.1:8080", 8080, literal("/y?z")),
        (2, "127.0.0.1", 80, None),
        (0, "u", 80, request_uri),
    ];
    assert_eq!(passes, expected);
}

#[test]
fn other_directives_arrive_in_the_model() {
    let settings = location(
        "server_tokens off; client_max_body_size 0; keepalive_timeout 0; keepalive_requests 7; tcp_nodelay off;",
        "proxy_http_version 1.0; proxy_connect_timeout 1s; proxy_send_timeout 2s; proxy_next_upstream off; etag off;",
        "proxy_next_upstream error http_502 non_idempotent; proxy_next_upstream_tries 2; proxy_next_upstream_timeout 3s;
         error_page 500 502 =200 /e.html; default_type ''; max_ranges 1; absolute_redirect off;",
    );
    assert_eq!(settings.client.max_body_size, None);
    assert_eq!(settings.connection.keepalive_timeout, None);
    assert_eq!(settings.connection.keepalive_requests, 7);
    assert!(!settings.connection.tcp_nodelay);
    assert_eq!(settings.proxy.http_version, HttpVersion::Http10);
    assert_eq!(settings.proxy.connect_timeout, Duration::from_secs(1));
    assert_eq!(settings.proxy.send_timeout, Duration::from_secs(2));
    let next = &settings.proxy.next_upstream;
    assert!(next.on.error && next.on.non_idempotent && !next.on.timeout);
    assert_eq!(
        (&*next.on.statuses, next.tries, next.timeout),
        (&[502][..], Some(2), Some(Duration::from_secs(3)))
    );
    assert_eq!(settings.error_pages[0].statuses, [500, 502]);
    assert_eq!(settings.error_pages[0].status, ErrorPageStatus::Set(200));
    assert_eq!((settings.files.default_type, settings.files.max_ranges), (None, Some(1)));
    assert!(!settings.files.etag && !settings.redirects.absolute);
}

#[test]
fn inherited_alias_replaces_the_prefix_of_the_location_that_has_it() {
    let text = "events {} http { server { location /a/ { alias /srv/; location /a/b/ { } } location ~ ^/c(.*) { alias /d$1; } } }";
    let server = config(text).http.unwrap().servers.remove(0);
    let replaced = |settings: &Settings| match &settings.files.root {
        Root::Alias { replaces, .. } => *replaces,
        Root::Root(_) => panic!("no alias"),
    };
    assert_eq!(replaced(&server.locations[0].locations[0].settings), Some(3));
    assert_eq!(replaced(&server.locations[1].settings), None);
}

#[test]
fn stream_server_needs_an_address_and_a_place_to_go() {
    let refused_in_stream = |text: &str, message: &str| {
        refused(&format!("events {{}}\nstream {{\n{text}\n}}"), &format!("{message} in nginx.conf:3"));
    };
    refused_in_stream("server { proxy_pass 127.0.0.1:1; }", "no \"listen\" is defined for server");
    refused_in_stream("server { listen 1; }", "no handler for server");
    refused_in_stream("server { listen 1; proxy_pass 127.0.0.1; }", "no port in upstream \"127.0.0.1\"");
    refused_in_stream("server { listen 127.0.0.1; }", "no port in \"127.0.0.1\" of the \"listen\" directive");
    refused_in_stream("server { listen 1 udp; }", "no handler for server");
    refused_in_stream("upstream u { server 127.0.0.1; }", "no port in upstream \"127.0.0.1\"");
    refused_in_stream("server { return x; }", "no \"listen\" is defined for server");
    refused_in_stream("server { listen 1; return $uri; }", "unknown \"uri\" variable");
    refused_in_stream(
        "server { listen 1; return a; } server { listen 1; return b; }",
        "duplicate \"0.0.0.0:1\" address and port pair",
    );
    refused_in_stream("map $status x { }", "invalid variable name \"x\"");
    refused_in_stream("map $status $x { a b; A c; }", "conflicting parameter \"A\"");
    refused_in_stream("server { set $status x; }", "the duplicate \"status\" variable");
    refused_in_stream("server { deny 192.0.2.0/33; }", "invalid parameter \"192.0.2.0/33\"");
    refused_in_stream("limit_conn zone 1;", "zero size shared memory zone \"zone\"");
    refused_in_stream("access_log x;", "log format is not specified");
    refused_in_stream("server { location / { } }", "\"location\" directive is not allowed here");
    refused_in_stream(
        "server { listen 1; proxy_pass 127.0.0.1:1; } server { listen 1; proxy_pass 127.0.0.1:1; }",
        "duplicate \"0.0.0.0:1\" address and port pair",
    );
}
