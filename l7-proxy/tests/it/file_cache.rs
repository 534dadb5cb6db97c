//! Files that change while they are kept, and while they are sent.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::peer::{Proxy, eventually, server};

/// Makes a file look as if it had been there for long, so that it is kept at once. The time of the
/// change itself cannot be set; it takes two seconds to be believed.
fn settle(path: &Path) {
    let changed = || {
        let metadata = fs::metadata(path).unwrap();
        SystemTime::UNIX_EPOCH + Duration::from_secs(std::os::unix::fs::MetadataExt::ctime(&metadata) as u64)
    };
    eventually("the file is old enough", || {
        changed().elapsed().is_ok_and(|age| age > Duration::from_secs(4))
    });
}

#[test]
fn changed_file_is_never_sent_as_it_was() {
    for cache in ["", "open_file_cache max=100 inactive=1h; open_file_cache_valid 1h;"] {
        let proxy = Proxy::start(&server(cache));
        let path = proxy.folder.path().join("html/page");
        fs::write(&path, "one").unwrap();
        settle(&path);
        for _ in 0..3 {
            assert_eq!(proxy.get("/page").text(), "one", "{cache}");
        }
        // In place, and of the same size.
        fs::write(&path, "two").unwrap();
        assert_eq!(proxy.get("/page").text(), "two", "{cache}");
        // By another file with its name and its time.
        let other = proxy.folder.path().join("html/other");
        fs::write(&other, "six").unwrap();
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::File::options().write(true).open(&other).unwrap().set_modified(time).unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(proxy.get("/page").text(), "six", "{cache}");
        fs::remove_file(&path).unwrap();
        assert_eq!(proxy.get("/page").status, 404, "{cache}");
        fs::write(&path, "four").unwrap();
        assert_eq!(proxy.get("/page").text(), "four", "{cache}");
    }
}

#[test]
fn missing_file_is_remembered_only_where_errors_are_kept() {
    let proxy = Proxy::start(&server(
        "open_file_cache max=100; open_file_cache_errors on; open_file_cache_valid 1h;
         location /short { open_file_cache_valid 0; }",
    ));
    for path in ["/page", "/short"] {
        assert_eq!(proxy.get(path).status, 404);
        proxy.file(&format!("html{path}"), "x");
    }
    assert_eq!(proxy.get("/page").status, 404);
    assert_eq!(proxy.get("/short").status, 200);
    let forgetting = Proxy::start(&server("open_file_cache max=100; open_file_cache_valid 1h;"));
    assert_eq!(forgetting.get("/page").status, 404);
    forgetting.file("html/page", "x");
    assert_eq!(forgetting.get("/page").status, 200);
}

#[test]
fn large_file_is_sent_as_it_was_when_it_was_opened() {
    let proxy = Proxy::start(&server("open_file_cache max=2;"));
    let path = proxy.folder.path().join("html/large");
    // More than the buffers of both sockets ever take.
    let size = 32 << 20;
    fs::write(&path, vec![b'a'; size]).unwrap();
    let mut client = proxy.client();
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head().unwrap();
    assert_eq!(client.exactly(1024).unwrap(), [b'a'; 1024]);
    // Another one takes its name; this one goes on to its end.
    let other = path.with_extension("new");
    fs::write(&other, vec![b'b'; size]).unwrap();
    fs::rename(&other, &path).unwrap();
    assert!(client.exactly(size - 1024).unwrap().iter().all(|&byte| byte == b'a'));
    assert!(proxy.get("/large").body.iter().all(|&byte| byte == b'b'));
    // One that grows is sent up to what was promised; one that shrinks is broken off.
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head().unwrap();
    fs::File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap();
    assert_eq!(client.exactly(size).unwrap().len(), size);
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head().unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(1024).unwrap();
    assert!(client.exactly(size + 4).is_err());
}

#[test]
fn cache_of_two_serves_any_number_of_files() {
    let proxy = Proxy::start(&server("open_file_cache max=2 inactive=1s; open_file_cache_min_uses 2;"));
    for number in 0..10 {
        proxy.file(&format!("html/{number}"), number.to_string());
    }
    for _ in 0..3 {
        for number in 0..10 {
            assert_eq!(proxy.get(&format!("/{number}")).text(), number.to_string());
        }
    }
}
