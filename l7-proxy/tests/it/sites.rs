//! Files as people have them, begun unchanged and answered as nginx answers them.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::nginx::Nginx;
use crate::peer::{Client, Origin, Proxy, Response, http};
use crate::support::load_file;

/// A request: its line without the version, its fields, and the status of its answer.
type Asked<'a> = (&'a str, &'a str, u16);

/// Serves a site with both proxies and compares what they answer.
#[track_caller]
fn check(site: &str, fields: &[&str], asked: &[Asked<'_>]) {
    let app = Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            let line = head.lines().next().unwrap_or_default().to_owned();
            let line = line.rsplit_once(' ').map_or(&*line, |(line, _version)| line);
            let told = ["Host", "Upgrade", "X-Forwarded-For", "X-Forwarded-Proto"];
            let shown = told.map(|name| format!("{name}={:?}", crate::peer::field(&head, name)));
            visit.reply(
                "X-Powered-By: PHP\r\nSet-Cookie: a=b; Path=/app/\r\n",
                &format!("{line} {}", shown.join(" ")),
            )?;
        }
    });
    let text = |listen: &str| site.replace("LISTEN", listen).replace("APP", &app.addr.to_string());
    let ours = Proxy::start(&http(&text("127.0.0.1:1")));
    let nginx = Nginx::start(|addr| text(&addr.to_string()));
    let folders = [Some(ours.folder.path()), nginx.as_ref().map(|nginx| nginx.folder.path())];
    for folder in folders.into_iter().flatten() {
        for name in
            ["index.html", "style.css", "files/a.txt", "uploads/x.php", ".well-known/acme-challenge/t"]
        {
            let path = folder.join("html").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
    }
    for (line, rest, status) in asked {
        let ask = |addr| {
            let mut client = Client::connect(addr);
            client.send(format!("{line} HTTP/1.1\r\n{rest}\r\nConnection: close\r\n\r\n"));
            client.response()
        };
        let answer = ask(ours.addr());
        assert_eq!(answer.status, *status, "{line} {}", answer.text());
        let Some(nginx) = &nginx else { continue };
        let shown = |answer: &Response, port: u16| {
            let plain = |text: &str| text.replace(&format!(":{port}"), ":PORT");
            let fields: Vec<_> = fields.iter().map(|name| answer.header(name).map(plain)).collect();
            let body = answer.text().split("<hr>").next().map(plain);
            (answer.status, fields, body)
        };
        let theirs = shown(&ask(nginx.addr), nginx.addr.port());
        assert_eq!(shown(&answer, ours.addr().port()), theirs, "{line} {rest}");
    }
}

const CLOUD: &str = "Host: cloud.example.com";

#[test]
fn application_with_websockets() {
    let site = include_str!("sites/node.conf");
    check(
        site,
        &["Content-Type"],
        &[("GET /a?b=c", "Host: app.example.com\r\nX-Forwarded-For: 192.0.2.1", 200)],
    );
}

#[test]
fn blog_behind_apache() {
    let blog = "Host: blog.example.com";
    let asked = [
        ("GET /", blog, 200),
        ("GET /a/post", blog, 200),
        ("GET /a/post", "Host: blog.example.com\r\nCookie: wordpress_logged_in=1", 200),
        ("GET /a?x=y", "Host: www.blog.example.com", 301),
        ("DELETE /a", blog, 405),
        ("GET /.git/config", blog, 403),
        ("GET /.well-known/acme-challenge/t", blog, 200),
        ("GET /uploads/x.php", blog, 403),
        ("GET /index.php?p=1", blog, 200),
        ("GET /wp-login.php", blog, 200),
        ("GET /xmlrpc.php", blog, 403),
        ("GET /style.css", blog, 200),
        ("GET /none.css", blog, 404),
        ("GET /robots.txt", blog, 404),
    ];
    check(
        include_str!("sites/wordpress.conf"),
        &["X-Personal", "Location", "Expires", "Cache-Control", "X-Powered-By", "Set-Cookie"],
        &asked,
    );
}

#[test]
fn file_share() {
    let asked = [
        ("GET /", "Host: cloud.example.com\r\nUser-Agent: DavClnt", 302),
        ("GET /.well-known/carddav", CLOUD, 301),
        ("GET /.well-known/acme-challenge/t", CLOUD, 200),
        ("GET /.well-known/other", CLOUD, 301),
        ("GET /data/secret", CLOUD, 404),
        ("GET /.htaccess", CLOUD, 404),
        ("GET /apps/files/ajax.php?a=b", CLOUD, 200),
        ("GET /index.php/apps", CLOUD, 200),
        ("GET /remote.php/dav", CLOUD, 200),
        ("GET /ocs/v2.php", CLOUD, 200),
        ("GET /remote/x", CLOUD, 301),
        ("GET /style.css", CLOUD, 200),
        ("GET /style.css?v=1", CLOUD, 200),
        ("GET /none.css?v=1", CLOUD, 200),
        ("GET /apps/none", CLOUD, 200),
    ];
    check(include_str!("sites/cloud.conf"), &["Location", "Cache-Control", "Referrer-Policy"], &asked);
}

#[test]
fn pool_of_tomcats() {
    let host = "Host: www.example.com";
    let asked = [
        ("GET /", host, 302),
        ("GET /app/", host, 200),
        ("GET /style.css", host, 200),
        ("GET /none.css", host, 200),
        ("GET /index.html", host, 200),
        ("GET /50x.html", host, 404),
        ("GET /.htpasswd", host, 403),
    ];
    check(
        include_str!("sites/tomcat.conf"),
        &["Location", "Cache-Control", "Set-Cookie", "Content-Type"],
        &asked,
    );
}

#[test]
fn page_with_an_interface() {
    let host = "Host: a";
    let asked = [
        ("GET /", host, 200),
        ("GET /deep/link", host, 200),
        ("GET /api/x?y=z", host, 200),
        ("OPTIONS /api/x", host, 204),
        ("GET /v2/x", "Host: a\r\nUser-Agent: docker/1.4.0", 404),
        ("GET /v2/x", "Host: a\r\nUser-Agent: docker/1.5.0-dev", 200),
        ("GET /user/a-b.c/x", host, 200),
        ("GET /user/a-b.c/admin", host, 200),
        ("GET /nginx_status", host, 403),
        ("GET /static/a.txt", host, 200),
    ];
    check(
        include_str!("sites/spa.conf"),
        &["X-Frame-Options", "Content-Security-Policy", "Access-Control-Allow-Origin", "Content-Type"],
        &asked,
    );
}

/// But for the folder that it includes from, in which nothing of what is enabled on this machine is.
#[test]
fn file_of_debians_package_is_taken_unchanged() {
    if !crate::secure::has("nginx") || !crate::secure::has("dpkg") || !is_as_packaged() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (from, to) in [
        ("nginx.conf", "nginx.conf"),
        ("mime.types", "mime.types"),
        ("sites-available/default", "sites-enabled/default"),
    ] {
        let text = fs::read_to_string(Path::new(ETC).join(from)).unwrap();
        fs::create_dir_all(path(to).parent().unwrap()).unwrap();
        fs::write(path(to), text.replace(ETC, folder.path().to_str().unwrap())).unwrap();
    }
    let loaded = load_file(folder.path(), "nginx.conf").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(loaded.config.http.unwrap().servers.len(), 1);
}

const ETC: &str = "/etc/nginx";

/// Whether nobody has changed what Debian's package has put on this machine.
fn is_as_packaged() -> bool {
    let output = Command::new("dpkg").args(["--verify", "nginx-common"]).output().unwrap();
    let is_as_packaged = output.status.success() && output.stdout.is_empty();
    #[allow(clippy::print_stderr)] // Whoever reads the test's output must see it.
    if !is_as_packaged {
        eprintln!("{ETC} is not as nginx-common has it: not tested");
    }
    is_as_packaged
}
