//! The upstreams under `lvsadm`: listed, drained, weighed and explained while requests go on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::peer::{Origin, Proxy, configuration, eventually};

/// A configuration with a control socket and these servers in one upstream.
fn controlled(servers: &str, more: &str) -> String {
    format!(
        "lvs_control unix:control {more}; events {{}} http {{ access_log off;
         upstream app {{ {servers} }}
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://app; }} }} }}"
    )
}

/// Runs `lvsadm` on the proxy's socket; returns its exit code and what it prints.
fn lvsadm(proxy: &Proxy, line: &str) -> (u8, String) {
    let socket = proxy.folder.path().join("control").display().to_string();
    let args = line.split_whitespace().map(str::to_owned).collect();
    let output = lvsadm::client::run("lvsadm", args, Some(socket), std::io::empty());
    (output.code, output.stdout + &output.stderr)
}

fn pair() -> (Origin, Origin, String) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let servers = format!("server {} weight=3; server {};", a.addr, b.addr);
    (a, b, servers)
}

#[test]
fn upstreams_are_listed_with_what_they_carry() {
    let (a, b, servers) = pair();
    let proxy = Proxy::start(&controlled(&servers, ""));
    (0..4).for_each(|_| drop(proxy.get("/")));
    let (code, listing) = lvsadm(&proxy, "-Ln --stats");
    assert_eq!(code, 0, "{listing}");
    let row = |origin: &Origin| {
        let addr = origin.addr.to_string();
        let line = listing.lines().find(|line| line.contains(&addr)).unwrap_or_else(|| panic!("{listing}"));
        line.split_whitespace().nth(2).unwrap().to_owned()
    };
    assert!(listing.contains("app"), "{listing}");
    assert_eq!((row(&a), row(&b)), ("3".to_owned(), "1".to_owned()), "{listing}");
}

#[test]
fn drained_server_gets_no_further_request_and_stays_so_through_a_reload() {
    let (a, b, servers) = pair();
    let proxy = Proxy::start(&controlled(&servers, ""));
    let (code, said) = lvsadm(&proxy, &format!("--drain {} --pool app", a.addr));
    assert_eq!(code, 0, "{said}");
    let asked = a.requests().len();
    (0..4).for_each(|_| assert_eq!(proxy.get("/").text(), "b /"));
    proxy.daemon.reload(configuration(proxy.folder.path(), &controlled(&servers, ""))).unwrap();
    (0..4).for_each(|_| assert_eq!(proxy.get("/").text(), "b /"));
    assert_eq!(a.requests().len(), asked);
    // What the file says anew is meant.
    let turned = format!("server {}; server {} down;", a.addr, b.addr);
    proxy.daemon.reload(configuration(proxy.folder.path(), &controlled(&turned, ""))).unwrap();
    (0..4).for_each(|_| assert_eq!(proxy.get("/").text(), "a /"));
}

#[test]
fn weight_set_by_hand_holds_at_once() {
    let (a, b, servers) = pair();
    let proxy = Proxy::start(&controlled(&servers, ""));
    assert_eq!(lvsadm(&proxy, &format!("-e --pool app -r {} -w 1", a.addr)).0, 0);
    (0..10).for_each(|_| drop(proxy.get("/")));
    assert_eq!((a.requests().len(), b.requests().len()), (5, 5));
}

#[test]
fn server_added_by_hand_takes_its_share() {
    let (_a, _b, servers) = pair();
    let (added, proxy) = (Origin::named("c"), Proxy::start(&controlled(&servers, "")));
    assert_eq!(lvsadm(&proxy, &format!("-a --pool app -r {} -w 4", added.addr)).0, 0);
    (0..8).for_each(|_| assert_eq!(proxy.get("/").status, 200));
    assert_eq!(added.requests().len(), 4);
}

#[test]
fn explanation_names_the_server_and_what_stands_against_the_others() {
    let (a, b, servers) = pair();
    let proxy = Proxy::start(&controlled(&servers, ""));
    assert_eq!(lvsadm(&proxy, &format!("-e --pool app -r {} -w 0", a.addr)).0, 0);
    let (code, text) = lvsadm(&proxy, "--explain app 192.0.2.9");
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(&format!("{} weight 1 active 0 inactive 0: chosen", b.addr)), "{text}");
    assert!(text.contains("quiesced: weight 0"), "{text}");
}

#[test]
fn upstreams_come_and_go_with_the_file_only() {
    let (_a, _b, servers) = pair();
    let proxy = Proxy::start(&controlled(&servers, ""));
    for line in ["-A -t 192.0.2.1:80", "-D --pool app", "-C", "-E --pool app -s hash", "--set 1 1 1"] {
        let (code, said) = lvsadm(&proxy, line);
        assert!(code != 0 && !said.is_empty(), "{line}: {said}");
    }
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn socket_is_the_owners_unless_the_file_says_otherwise_and_goes_with_the_directive() {
    let (_a, _b, servers) = pair();
    let proxy = Proxy::start(&controlled(&servers, ""));
    let path = proxy.folder.path().join("control");
    let mode = || fs::symlink_metadata(&path).map(|file| file.permissions().mode() & 0o777).ok();
    assert_eq!(mode(), Some(0o600));
    proxy.daemon.reload(configuration(proxy.folder.path(), &controlled(&servers, "mode=0660"))).unwrap();
    assert_eq!(mode(), Some(0o660));
    let without = controlled(&servers, "").replace("lvs_control unix:control ;", "");
    proxy.daemon.reload(configuration(proxy.folder.path(), &without)).unwrap();
    assert_eq!(mode(), None);
}

#[test]
fn server_that_drains_is_told_to_be_empty_when_its_last_request_has_ended() {
    let waiting = Origin::start(|visit| {
        visit.request()?;
        std::thread::sleep(Duration::from_millis(100));
        visit.reply("", "done")
    });
    let proxy = Proxy::start(&controlled(&format!("server {};", waiting.addr), ""));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is there", || waiting.requests().len() == 1);
    let (code, said) = lvsadm(&proxy, &format!("--drain {}", waiting.addr));
    assert!(code == 0 && said.contains("1 connection"), "{said}");
    assert_eq!(client.response().text(), "done");
    eventually("it is empty", || {
        proxy.daemon.director().draining().iter().all(|left| left.load.total() == 0)
    });
    assert_eq!(proxy.get("/").status, 502);
}
