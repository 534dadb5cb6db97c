//! Directories: `autoindex` in its forms, `random_index`.

use std::time::{Duration, UNIX_EPOCH};

use crate::nginx::Beside;
use crate::peer::{Proxy, server};

#[test]
fn directory_is_shown_as_nginx_shows_it() {
    let both = Beside::start(
        "",
        "autoindex on;
         location /rounded/ { autoindex_exact_size off; }
         location /json/ { autoindex_format json; }
         location /jsonp/ { autoindex_format jsonp; }
         location /xml/ { autoindex_format xml; }
         location /utf8/ { charset utf-8; }
         location /off/ { autoindex off; }",
        &["Content-Type"],
    );
    let paths = ["plain", "rounded", "json", "jsonp", "xml", "utf8", "off"];
    for folder in paths {
        let names = ["a.txt", "b c&<>\"'é?#%:;.txt", "tab\t\\", ".hidden", &"l".repeat(60), &"é".repeat(40)];
        for name in names {
            both.file(&format!("{folder}/{name}"), "x".repeat(20_000));
        }
        both.get(&format!("/{folder}/"));
    }
    let page = String::from_utf8_lossy(&both.get("/plain/").body).into_owned();
    assert!(page.contains("<a href=\"a.txt\">a.txt</a>"), "{page}");
    both.get("/jsonp/?callback=shop.show_1");
    assert_eq!(both.get("/jsonp/?callback=alert(1)").status, 400);
    both.send("POST /plain/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    both.get("/nothing/");
    both.get("/");
}

#[test]
fn index_comes_before_the_listing_and_hides_what_is_private() {
    let proxy = Proxy::start(&server("autoindex on;"));
    proxy.file("html/with/index.html", "index");
    proxy.file("html/app/WEB-INF/web.xml", "secret");
    proxy.file("html/app/page.txt", "page");
    assert_eq!(proxy.get("/with/").text(), "index");
    let listing = proxy.get("/app/");
    assert!(listing.text().contains("page.txt") && !listing.text().contains("WEB-INF"), "{}", listing.text());
}

#[test]
fn file_of_another_time_is_listed_with_one_that_can_be_written() {
    let proxy = Proxy::start(&server("autoindex on; autoindex_format json;"));
    proxy.file("html/old/file", "x");
    let file = std::fs::File::open(proxy.folder.path().join("html/old/file")).unwrap();
    file.set_modified(UNIX_EPOCH - Duration::from_secs(1)).unwrap();
    let listing = proxy.get("/old/");
    assert!(listing.text().contains("Thu, 01 Jan 1970 00:00:00 GMT"), "{}", listing.text());
}

#[test]
fn directory_stands_for_one_of_its_files() {
    let proxy = Proxy::start(&server("location /any/ { random_index on; }"));
    proxy.file("html/any/one", "1");
    proxy.file("html/any/two", "2");
    proxy.file("html/any/.hidden", "hidden");
    proxy.file("html/any/folder/three", "3");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        seen.insert(proxy.get("/any/").text().to_owned());
    }
    assert_eq!(seen.into_iter().collect::<String>(), "12");
    assert_eq!(proxy.get("/gone/").status, 404);
}
