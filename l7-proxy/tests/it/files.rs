//! Files beside nginx: both have the same folder and the same directives, and are asked the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{FileTypeExt, lchown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::nginx::Nginx;
use crate::peer::{PATIENCE, Proxy, http};

/// 0x6780 0000 seconds after the epoch.
const MODIFIED: &str = "Thu, 09 Jan 2025 16:57:36 GMT";
const EARLIER: &str = "Wed, 08 Jan 2025 16:57:36 GMT";
const LATER: &str = "Fri, 10 Jan 2025 16:57:36 GMT";
const ETAG: &str = "\"67800000-a\"";

/// What both serve.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (name, content) in [
        ("ten.txt", &b"0123456789"[..]),
        ("empty.txt", b""),
        ("large.bin", &[b'x'; 100_000]),
        ("dir/index.html", b"index"),
        ("bare/x.html", b"x"),
        ("page.html", b"a page"),
        ("page.html.gz", b"a packed page"),
        ("only.html.gz", b"packed only"),
        ("both.html", b"both"),
        ("a b%.txt", b"odd name"),
        ("..dots", b"dots"),
        ("UPPER.HTML", b"upper"),
        ("noext", b"no extension"),
        ("outside/secret.txt", b"secret"),
    ] {
        let file = path.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(0x6780_0000);
        fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    }
    fs::create_dir(path.join("both.html.gz")).unwrap();
    for (target, name) in [
        ("ten.txt", "link.txt"),
        ("nowhere", "dangling"),
        ("loop", "loop"),
        ("dir", "linked"),
        ("..", "bare/up"),
        ("../ten.txt", "bare/ten.txt"),
        ("../page.html.gz", "bare/x.html.gz"),
        ("../bare/x.html", "dir/linked.html"),
        ("ten.txt", "foreign.txt"),
        ("dir", "foreign"),
    ] {
        symlink(target, path.join(name)).unwrap();
    }
    if rustix::process::geteuid().is_root() {
        for name in ["foreign.txt", "foreign"] {
            lchown(path.join(name), Some(1), None).unwrap();
        }
    }
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, path.join("fifo"), fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    assert!(fs::metadata(path.join("fifo")).unwrap().file_type().is_fifo());
    folder
}

/// An answer, without what differs between two servers or two moments.
fn answer(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap_or_else(|error| panic!("{error}: {request}"));
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = end else { return format!("no head: {}", bytes.escape_ascii()) };
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut body = bytes[end + 4..].escape_ascii().to_string();
    let (line, fields) = head.split_once("\r\n").unwrap();
    let status: u16 = line[9..12].parse().unwrap();
    let mut sorted = BTreeMap::<String, Vec<String>>::new();
    for field in fields.split("\r\n") {
        let (name, value) = field.split_once(": ").unwrap_or((field, ""));
        let mut value = value.replace(&addr.port().to_string(), "PORT");
        if let Some((_, boundary)) = value.split_once("boundary=") {
            body = body.replace(boundary, "BOUNDARY");
            value = value.replace(&boundary.to_owned(), "BOUNDARY");
        }
        match name {
            "Server" | "Date" => continue,
            // They name the server.
            "Content-Length" if status >= 300 => continue,
            // They are of this moment.
            "Expires" if value.ends_with("GMT") && !value.contains("1970") => "a date".clone_into(&mut value),
            _ => {}
        }
        sorted.entry(name.to_owned()).or_default().push(value);
    }
    let mut text = format!("{status}\n");
    for (name, values) in sorted {
        writeln!(text, "{name}: {values:?}").unwrap();
    }
    if status < 300 {
        if body.len() > 4000 {
            // A digest would do; its length and its ends are easier to read.
            body = format!("{}...{} ({} bytes)", &body[..300], &body[body.len() - 300..], body.len());
        }
        text.push_str(&body);
    }
    text
}

/// Asks both the same, under the same directives in their server block; `ROOT` stands for the folder.
fn check(directives: &str, requests: &[(&str, &str)]) {
    check_with(directives, requests, |_| {});
}

fn check_with(directives: &str, requests: &[(&str, &str)], prepare: impl FnOnce(&Path)) {
    let folder = folder();
    prepare(folder.path());
    let root = folder.path().to_str().unwrap();
    let content = |addr: &str| {
        format!(
            "default_type text/plain; types {{ text/html html; }}
             server {{ listen {addr}; root {root}; {} }}",
            directives.replace("ROOT", root)
        )
    };
    let proxy = Proxy::start(&http(&content("127.0.0.1:1")));
    let Some(nginx) = Nginx::start(|addr| content(&addr.to_string())) else { return };
    let mut differences = String::new();
    for (line, fields) in requests {
        let fields: String = fields
            .split('|')
            .filter(|field| !field.is_empty())
            .fold(String::new(), |fields, field| fields + field + "\r\n");
        let request = format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n");
        let (ours, theirs) = (answer(proxy.addr(), &request), answer(nginx.addr, &request));
        if ours != theirs {
            writeln!(differences, "== {request}-- nginx\n{theirs}\n-- ours\n{ours}").unwrap();
        }
    }
    assert!(differences.is_empty(), "{directives}\n{differences}");
}

/// Several requests with the same fields, for `/ten.txt`.
fn ten<'f>(fields: &[&'f str]) -> Vec<(&'static str, &'f str)> {
    fields.iter().map(|fields| ("GET /ten.txt", *fields)).collect()
}

#[test]
fn path_leads_to_the_same_answer() {
    let paths = [
        "/ten.txt",
        "/empty.txt",
        "/large.bin",
        "/dir",
        "/dir/",
        "/bare",
        "/bare/",
        "/bare/x.html",
        "/none",
        "/none/",
        "/none/x",
        "/ten.txt/",
        "/ten.txt/x",
        "/fifo",
        "/fifo/",
        "/link.txt",
        "/dangling",
        "/loop",
        "/linked",
        "/linked/",
        "/linked/index.html",
        "/bare/up/ten.txt",
        "/a%20b%25.txt",
        "/..dots",
        "/UPPER.HTML",
        "/noext",
        "/dir/../ten.txt",
        "/dir/%2e%2e/ten.txt",
        "/dir/%2e%2e%2ften.txt",
        "/../ten.txt",
        "/%2e%2e/ten.txt",
        "/dir/../../ten.txt",
        "//ten.txt",
        "/dir//index.html",
        "/./ten.txt",
        "/dir/./",
        "/dir/.",
        "/dir/..",
        "/ten.txt%00",
        "/%00",
        "/ten.txt%",
        "/ten.txt%4",
        "/ten.txt%zz",
        "/ten%2etxt",
        "/ten.txt?x=/../y",
        "/dir?x=1",
        "/dir?x=%20y",
        "/ten.txt%20",
        "/ten.txt.",
        "/TEN.TXT",
        "/large.bin/",
        "/",
    ];
    let gets: Vec<String> = paths.iter().map(|path| format!("GET {path}")).collect();
    let heads: Vec<String> = paths.iter().map(|path| format!("HEAD {path}")).collect();
    let requests: Vec<(&str, &str)> = gets.iter().chain(&heads).map(|line| (&**line, "")).collect();
    check("", &requests);
    check("open_file_cache max=100; open_file_cache_errors on; open_file_cache_min_uses 1;", &requests);
    check("location / { alias ROOT/dir/; } location /x { alias ROOT/ten.txt; }", &requests);
}

#[test]
fn method_leads_to_the_same_answer() {
    let mut requests = Vec::new();
    let lines: Vec<String> = ["POST", "PUT", "DELETE", "OPTIONS", "PROPFIND", "PATCH"]
        .iter()
        .flat_map(|method| {
            ["/ten.txt", "/none", "/dir", "/dir/", "/bare/", "/fifo"].map(|path| format!("{method} {path}"))
        })
        .collect();
    lines.iter().for_each(|line| requests.push((&**line, "Content-Length: 0")));
    check("", &requests);
}

#[test]
fn ranges_lead_to_the_same_answer() {
    let ranges = [
        "bytes=0-3",
        "bytes=7-",
        "bytes=-2",
        "bytes=-20",
        "bytes=9-99",
        "bytes=0-0",
        "bytes=9-9",
        "bytes=10-",
        "bytes=20-30",
        "bytes=-0",
        "bytes=5-3",
        "bytes=-",
        "bytes=x-",
        "bytes=1",
        "bytes=1-2x",
        "Bytes=1-2",
        "bytes= 1 - 2 ",
        "bytes=4-4,20-30",
        "bytes=0-0,2-2",
        "bytes=0-0, 2-2 ,4-",
        "bytes=-1,0-0",
        "bytes=0-9",
        "bytes=0-9,0-0",
        "bytes=0-,0-,0-",
        "bytes=0-4,5-9",
        "bytes=5-9,0-4",
        "bytes=0-5,4-9",
        "bytes=",
        "bytes",
        "lines=1-2",
        "",
        "bytes=,",
        "bytes=0-1,",
        "bytes=,0-1",
        "bytes=0-1,x",
        "bytes=1-2;3",
        "bytes=1-2-3",
        "bytes=99999999999999999999-",
        "bytes=0-99999999999999999999",
        "bytes=-99999999999999999999",
        "bytes=9223372036854775807-",
        "bytes=0-9223372036854775807",
        "bytes=-9223372036854775807",
        "bytes=0-18446744073709551615",
        "bytes=--1",
        "bytes=+1-2",
        "bytes=0x1-2",
        "bytes=1-2,,3-4",
        "bytes=\t1-2",
    ];
    let mut fields: Vec<String> = ranges.iter().map(|range| format!("Range: {range}")).collect();
    for validator in [ETAG, "\"x\"", "W/\"67800000-a\"", MODIFIED, EARLIER, LATER, "yesterday", "*", ""] {
        fields.push(format!("Range: bytes=0-3|If-Range: {validator}"));
    }
    fields.push(format!("Range: bytes=0-3|If-None-Match: {ETAG}"));
    fields.push(format!("Range: bytes=0-3|If-Modified-Since: {MODIFIED}"));
    fields.push("Range: bytes=0-3|Range: bytes=4-5".to_owned());
    let mut requests = Vec::new();
    for line in
        ["GET /ten.txt", "HEAD /ten.txt", "GET /empty.txt", "GET /large.bin", "GET /dir/", "GET /none"]
    {
        requests.extend(fields.iter().map(|fields| (line, &**fields)));
    }
    for directives in ["", "max_ranges 0;", "max_ranges 1;", "max_ranges 2;", "etag off;"] {
        check(directives, &requests);
    }
    check(
        "gzip_static always;",
        &[("GET /page.html", "Range: bytes=2-4"), ("GET /page.html", "Range: bytes=0-0,3-3")],
    );
}

#[test]
fn conditions_lead_to_the_same_answer() {
    let tags = [
        ETAG,
        "W/\"67800000-a\"",
        "\"x\"",
        "*",
        "\"a,b\", \"67800000-a\"",
        "\"x\" , W/\"67800000-a\" ,\"y\"",
        "67800000-a",
        "\"67800000-a",
        "",
        ",",
        "\"x\" \"67800000-a\"",
        "*, \"x\"",
        "\"x\",*",
    ];
    let dates = [
        MODIFIED,
        EARLIER,
        LATER,
        "yesterday",
        "",
        "Thursday, 09-Jan-25 16:57:36 GMT",
        "Thu Jan  9 16:57:36 2025",
    ];
    let mut fields = Vec::new();
    for name in ["If-Match", "If-None-Match"] {
        fields.extend(tags.map(|tag| format!("{name}: {tag}")));
    }
    for name in ["If-Modified-Since", "If-Unmodified-Since"] {
        fields.extend(dates.map(|date| format!("{name}: {date}")));
    }
    let pairs = [
        ("If-None-Match", "If-Modified-Since"),
        ("If-Match", "If-Unmodified-Since"),
        ("If-Match", "If-Modified-Since"),
        ("If-None-Match", "If-Unmodified-Since"),
    ];
    for (by_tag, by_date) in pairs {
        for tag in [ETAG, "\"x\""] {
            fields
                .extend([MODIFIED, EARLIER, LATER].map(|date| format!("{by_tag}: {tag}|{by_date}: {date}")));
        }
    }
    fields.extend([ETAG, "\"x\""].map(|tag| format!("If-Match: {ETAG}|If-None-Match: {tag}")));
    let fields: Vec<&str> = fields.iter().map(|fields| &**fields).collect();
    let mut requests = ten(&fields);
    requests.extend(fields.iter().map(|fields| ("HEAD /ten.txt", *fields)));
    requests.extend(fields.iter().map(|fields| ("GET /none", *fields)));
    for directives in ["", "if_modified_since before;", "if_modified_since off;", "etag off;"] {
        check(directives, &requests);
    }
}

#[test]
fn packed_file_leads_to_the_same_answer() {
    let gzip = "Accept-Encoding: gzip";
    let mut requests = Vec::new();
    for path in ["GET /page.html", "HEAD /page.html", "GET /only.html", "GET /ten.txt", "GET /dir/"] {
        for fields in [
            "",
            gzip,
            "Accept-Encoding: gzip;q=0",
            "Accept-Encoding: br, gzip;q=0.1",
            "Accept-Encoding: *",
            "Accept-Encoding: gzip|Via: x",
            "Accept-Encoding: gzip|If-None-Match: \"67800000-d\"",
            "Accept-Encoding: gzip|Range: bytes=0-2",
        ] {
            requests.push((path, fields));
        }
    }
    for directives in [
        "gzip_static on;",
        "gzip_static always;",
        "gzip_static off;",
        "gzip_static on; gzip_vary on;",
        "gzip_static always; gzip_vary on;",
        "gzip_static on; gzip_proxied any; gzip_http_version 1.0;",
        "gzip_static on; open_file_cache max=10; open_file_cache_errors on;",
    ] {
        check(directives, &requests);
    }
    // A folder of such a name is no packed file. nginx says that the answer varies all the same.
    check("gzip_static on;", &[("GET /both.html", gzip)]);
    check("gzip_static always;", &[("GET /both.html", gzip)]);
}

#[test]
fn symbolic_link_leads_to_the_same_answer() {
    let paths = [
        "/ten.txt",
        "/link.txt",
        "/foreign.txt",
        "/linked",
        "/linked/",
        "/linked/index.html",
        "/foreign/index.html",
        "/foreign",
        "/foreign/",
        "/bare/up/ten.txt",
        "/bare/ten.txt",
        "/bare/x.html",
        "/dangling",
        "/loop",
        "/dir",
        "/dir/",
        "/dir/linked.html",
        "/bare/",
        "/ten.txt/x",
        "/none",
        "/none/x",
        "/fifo",
    ];
    let gets: Vec<String> = paths.iter().map(|path| format!("GET {path}")).collect();
    let requests: Vec<(&str, &str)> = gets.iter().map(|line| (&**line, "Accept-Encoding: gzip")).collect();
    // Twice, so that what is kept is asked for, too.
    let requests = [&*requests, &*requests].concat();
    for directives in [
        "disable_symlinks off;",
        "disable_symlinks on;",
        "disable_symlinks if_not_owner;",
        "disable_symlinks on from=$document_root;",
        "disable_symlinks on from=ROOT/;",
        "disable_symlinks if_not_owner from=ROOT;",
        "disable_symlinks on from=ROOT/li;",
        "disable_symlinks on from=ROOT/linked;",
        "disable_symlinks on from=ROOT/link.txt;",
        "disable_symlinks on from=/nowhere;",
        "disable_symlinks on; open_file_cache max=100; open_file_cache_errors on;",
        "disable_symlinks if_not_owner; open_file_cache max=100;",
        "disable_symlinks on; gzip_static on;",
        "disable_symlinks on; index linked.html index.html;",
        "disable_symlinks on; location / { try_files $uri $uri/ =410; }",
        "disable_symlinks on; if (-f $request_filename) { return 410; } if (-d $request_filename) { return 411; }",
        "open_file_cache max=100; location /l { disable_symlinks on; } location = /link.txt { try_files /link.txt =404; }",
    ] {
        check(directives, &requests);
    }
}

#[test]
fn tried_files_lead_to_the_same_answer() {
    let paths = [
        "/ten.txt",
        "/dir",
        "/dir/",
        "/bare",
        "/bare/",
        "/none",
        "/none/",
        "/fifo",
        "/page",
        "/page.html",
        "/",
        "/ten.txt/",
        "/link.txt",
        "/dangling",
        "/dir/index.html",
        "/a%20b%25.txt",
        "/a%20b%25",
        "/none?x=1",
        "/dir?x=1",
        "/dir/?x=1",
        "/dir/../ten.txt",
        "/large.bin",
    ];
    let gets: Vec<String> = paths.iter().map(|path| format!("GET {path}")).collect();
    let mut requests: Vec<(&str, &str)> = gets.iter().map(|line| (&**line, "")).collect();
    requests.extend([
        ("HEAD /none", ""),
        ("POST /ten.txt", "Content-Length: 0"),
        ("GET /page", "Range: bytes=1-2"),
    ]);
    for directives in [
        "try_files $uri $uri/ =404;",
        "try_files $uri /page.html;",
        "try_files $uri $uri/ /none.html;",
        "location / { try_files $uri $uri/ =410; }",
        "location / { try_files $uri $uri.html $uri/index.html /dir/index.html; }",
        "location / { try_files /none$uri /dir/ =410; }",
        "location / { try_files /dir/index.html/ /dir =410; }",
        "location / { try_files $uri @other; } location @other { return 200 other; }",
        "location / { try_files $uri /page.html?$args; }",
        "location / { try_files $uri.html =404; } error_page 404 /dir/index.html;",
        "location /dir/ { alias ROOT/bare/; try_files $uri x.html =410; }",
        "location /dir/ { alias ROOT/bare/; try_files none /dir/x.html =410; }",
        "location ~ ^/dir/(.*)$ { alias ROOT/bare/; try_files $1 x.html =410; default_type text/html; }",
        "location ~ ^/dir/(.*)$ { alias ROOT/ba; try_files $1 re/x.html =410; }",
    ] {
        check(directives, &requests);
    }
}

#[test]
fn directive_leads_to_the_same_answer() {
    let requests = [
        ("GET /ten.txt", ""),
        ("GET /dir/", ""),
        ("GET /none", ""),
        ("GET /none", "If-None-Match: *"),
        ("GET /none", "If-Match: \"x\""),
        ("GET /none", "Range: bytes=1-2"),
        ("GET /noext", ""),
        ("GET /UPPER.HTML", ""),
        ("HEAD /large.bin", ""),
        ("GET /ten.txt", "Range: bytes=1-2"),
        ("GET /ten.txt", "If-None-Match: *"),
    ];
    for directives in [
        "expires 1h;",
        "expires -1;",
        "expires epoch;",
        "expires max;",
        "expires modified +1d;",
        "expires off;",
        "add_header X-A b; add_header ETag \"\";",
        "add_header Last-Modified \"\"; add_header X-A b always;",
        "add_header X-Type $sent_http_content_type; add_header X-Tag $sent_http_etag;",
        "add_header Cache-Control public; expires 1h;",
        "etag off; if_modified_since off;",
        "default_type application/octet-stream;",
        "default_type \"\";",
        "index none.html /ten.txt;",
        "index none.html x.html;",
        "error_page 404 /ten.txt;",
        "error_page 404 =200 /ten.txt;",
        "error_page 403 404 /none;",
        "sendfile on; sendfile_max_chunk 1k; tcp_nopush on; output_buffers 1 512; aio threads;",
        "sendfile off; directio 512; directio_alignment 4k; read_ahead 4k;",
        "limit_rate 1m;",
        "keepalive_timeout 0;",
    ] {
        check(directives, &requests);
    }
}
