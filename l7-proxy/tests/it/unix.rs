//! Unix sockets: listened at and connected to.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::peer::{Proxy, http};

/// What comes from a socket's path when something is said and nothing more.
fn talk(path: &Path, words: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(words.as_bytes()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn request_comes_in_and_goes_on_by_paths() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (front, back) = (path("front"), path("back"));
    let (shown_front, shown_back) = (front.display(), back.display());
    let text = http(&format!(
        "upstream named {{ server unix:{shown_back}; }}
         server {{ listen unix:{shown_back}; set_real_ip_from unix:; real_ip_header X-Real-IP;
           location / {{ return 200 \"$http_host $uri <$remote_addr|$realip_remote_addr|$server_addr|$server_port>\"; }}
           location /closed {{ deny unix:; root html; }} }}
         server {{ listen unix:{shown_front}; listen 127.0.0.1:1; add_header X-From \"$remote_addr $upstream_addr\";
           proxy_set_header X-Real-IP 192.0.2.9;
           location /named {{ proxy_pass http://named; }}
           location /direct/ {{ proxy_pass http://unix:{shown_back}:/uri/; }}
           location /closed {{ proxy_pass http://unix:{shown_back}; proxy_set_header X-Real-IP ''; }} }}"
    ));
    let proxy = Proxy::start(&text);
    let about = format!("<192.0.2.9|unix:|unix:{shown_back}|>");
    let answer = talk(&front, "GET /named HTTP/1.0\r\nHost: a\r\n\r\n");
    assert!(answer.ends_with(&format!("named /named {about}")), "{answer}");
    assert!(answer.contains(&format!("X-From: unix: unix:{shown_back}\r\n")), "{answer}");
    assert_eq!(proxy.get("/direct/a").text(), format!("localhost /uri/a {about}"));
    assert_eq!(proxy.get("/closed").status, 403);
    // A path goes with its socket.
    assert!(proxy.shut_down(std::time::Duration::from_secs(5)));
    drop(proxy);
    assert!(!front.exists() && !back.exists());
}

#[test]
fn connection_comes_in_and_goes_on_by_paths() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (front, back) = (path("front"), path("back"));
    let text = format!(
        "events {{}} stream {{
           log_format line '$upstream_addr $remote_addr'; access_log {log} line;
           server {{ listen unix:{front}; allow unix:; deny all; proxy_pass unix:{back}; proxy_protocol on; }}
           server {{ listen unix:{back}; access_log off; proxy_timeout 1s;
             return \"<$remote_addr|$remote_port|$server_addr|$server_port>\"; }} }}",
        log = path("log").display(),
        front = front.display(),
        back = back.display(),
    );
    let _proxy = Proxy::start(&text);
    assert_eq!(talk(&back, ""), format!("<unix:||unix:{}|>", back.display()));
    assert_eq!(talk(&front, ""), format!("<unix:||unix:{}|>", back.display()));
    let log = path("log");
    let line = format!("unix:{} unix:\n", back.display());
    crate::peer::eventually("the line is written", || {
        std::fs::read_to_string(&log).is_ok_and(|log| log == line)
    });
}
