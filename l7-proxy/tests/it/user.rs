//! Whom workers act as.

use std::fs::{self, Permissions};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;

use crate::peer::{Client, eventually};
use crate::program::Site;

/// Whether this can be tested; that it cannot is a fault where `REQUIRE_PEERS` is set.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(root || std::env::var_os("REQUIRE_PEERS").is_none(), "only root can become somebody else");
    #[allow(clippy::print_stderr)] // Whoever reads the test's output must see it.
    if !root {
        eprintln!("not run: only root can become somebody else");
    }
    root
}

fn allow(site: &Site, name: &str, mode: u32) {
    fs::set_permissions(site.path(name), Permissions::from_mode(mode)).unwrap();
}

#[test]
fn files_are_read_as_the_user_and_opened_for_it_beforehand_as_root() {
    if !is_root() {
        return;
    }
    let site = Site::new("");
    site.write_whole(&format!(
        "user nobody nogroup; pid l7.pid; error_log error.log notice; events {{}}
         http {{ access_log access.log; server {{ listen {}; root html; }} }}",
        site.addr
    ));
    fs::create_dir(site.path("html")).unwrap();
    for (name, mode) in [("html/open", 0o644), ("html/closed", 0o600)] {
        fs::write(site.path(name), "text").unwrap();
        allow(&site, name, mode);
    }
    allow(&site, "", 0o755);
    let running = site.start();
    assert_eq!(site.client().get("/open").status, 200);
    assert_eq!(site.client().get("/closed").status, 403);
    eventually("both are logged", || site.read("access.log").lines().count() == 2);
    // The one that reads configurations and binds addresses stays who it was.
    let status = |task: &str| fs::read_to_string(format!("/proc/{}/task/{task}/status", running.child.id()));
    let owner = |text: &str| {
        text.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next().map(str::to_owned))
    };
    let tasks = fs::read_dir(format!("/proc/{}/task", running.child.id())).unwrap();
    let mut owners = Vec::new();
    for task in tasks {
        let task = task.unwrap().file_name().into_string().unwrap();
        let text = status(&task).unwrap();
        if text.contains("Name:\tworker-") {
            owners.push(owner(&text).unwrap());
        } else {
            assert_eq!(owner(&text).unwrap(), "0", "{text}");
        }
    }
    assert!(owners.len() >= 2 && owners.iter().all(|owner| owner != "0"), "{owners:?}");
}

#[test]
fn address_that_may_not_be_had_is_named_and_no_server_is_blamed() {
    if !is_root() {
        return;
    }
    let site = Site::new("");
    let [http, stream, datagrams] = [(); 3].map(|()| Site::new("").addr);
    let from = |origin: &str| {
        site.write_whole(&format!(
            "pid l7.pid; error_log error.log error; events {{}}
             http {{ access_log off; server {{ listen {http};
                 location / {{ proxy_pass http://127.0.0.1:1; proxy_bind {origin}; }} }} }}
             stream {{ server {{ listen {stream}; proxy_pass 127.0.0.1:1; proxy_bind {origin}; }}
                 server {{ listen {datagrams} udp; proxy_pass 127.0.0.1:1; proxy_bind {origin}; }} }}"
        ));
        let _ = fs::remove_file(site.path("error.log"));
        let running = site.start_without("-net_raw,-net_admin");
        assert_eq!(Client::connect(http).get("/").status, 500);
        assert!(Client::connect(stream).is_closed());
        let client = UdpSocket::bind((http.ip(), 0)).unwrap();
        client.send_to(b"x", datagrams).unwrap();
        eventually("all three are told of", || site.read("error.log").lines().count() == 3);
        drop(running);
        site.read("error.log")
    };
    for (origin, failed) in [
        ("192.0.2.1", "bind(192.0.2.1) failed (99: Cannot assign requested address) while connecting"),
        (
            "192.0.2.1 transparent",
            "setsockopt(IP_TRANSPARENT) failed (1: Operation not permitted) while connecting",
        ),
    ] {
        let log = from(origin);
        assert!(log.lines().all(|line| line.contains(failed)), "{log}");
    }
}

#[test]
fn user_that_is_not_there_is_told() {
    if !is_root() {
        return;
    }
    let site = Site::new("");
    for (line, message) in [
        ("user nemo-x;", "getpwnam(\"nemo-x\") failed"),
        ("user nobody nemo-x;", "getgrnam(\"nemo-x\") failed"),
    ] {
        site.write_whole(&format!("{line} events {{}}"));
        let (code, said) = site.say(&["-t"]);
        assert!(code == 1 && said.contains(&format!("{message} in nginx.conf:1")), "{said}");
    }
}

#[test]
fn user_that_only_the_name_service_has_is_found() {
    if !is_root() {
        return;
    }
    let site = Site::new("");
    let answers = "case \"$*\" in\n\"passwd of-ldap\") echo of-ldap:*:4242:4243::/:/bin/sh ;;\n\
                   \"group of-ldap\") echo of-ldap:*:4244: ;;\n*) exit 2 ;;\nesac";
    fs::write(site.path("getent"), format!("#!/bin/sh\n{answers}\n")).unwrap();
    allow(&site, "getent", 0o755);
    for (line, is_found) in
        [("user of-ldap;", true), ("user of-ldap nemo-x;", false), ("user nemo-x;", false)]
    {
        site.write_whole(&format!("{line} pid nginx.pid; events {{}}"));
        let path = format!("{}:{}", site.path("").display(), std::env::var("PATH").unwrap());
        let output = site.command(&["-t"]).env("PATH", path).output().unwrap();
        assert_eq!(output.status.success(), is_found, "{line} {output:?}");
    }
}
