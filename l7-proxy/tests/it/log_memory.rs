//! `error_log memory:SIZE`: the latest lines, which a page shows to whoever may see it.

use crate::program::Site;

#[test]
fn page_shows_what_the_log_in_memory_has() {
    let site = Site::new("");
    site.write_whole(&format!(
        "pid l7.pid; error_log error.log warn; error_log memory:64k debug; events {{}}
         http {{ access_log off; server {{ listen {}; root none;
             location = /log {{ lvs_log; allow 127.0.0.1; deny all; }}
             location = /shut {{ lvs_log; deny all; }}
             location /own {{ error_log memory:1k; location = /own/log {{ lvs_log; }} }} }} }}",
        site.addr
    ));
    let _running = site.start();
    let mut client = site.client();
    for path in ["/missing", "/own/missing"] {
        assert_eq!(client.get(path).status, 404);
    }
    assert_eq!(client.get("/shut").status, 403);
    let log = client.get("/log");
    assert_eq!(log.header("Content-Type"), Some("text/plain; charset=utf-8"));
    // Also what the file is spared, and nothing that is another log's.
    assert!(log.text().contains("none/missing\" failed (2: No such file or directory)"), "{}", log.text());
    assert!(log.text().contains("access forbidden by rule"), "{}", log.text());
    assert!(
        log.text().contains("[notice]") && !site.read("error.log").contains("[notice]"),
        "{}",
        log.text()
    );
    assert!(!log.text().contains("none/own/missing"), "{}", log.text());
    let own = client.get("/own/log");
    assert_eq!(own.text().lines().count(), 1, "{}", own.text());
    assert!(own.text().contains("none/own/missing\" failed"), "{}", own.text());
}

#[test]
fn memory_that_no_line_fits_into_is_refused() {
    let site = Site::new("");
    for size in ["0", "x", "10", "99999999999g", ""] {
        site.write_whole(&format!("error_log memory:{size}; events {{}}"));
        let (code, said) = site.say(&["-t"]);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(&format!("invalid buffer size \"{size}\" in ")), "{said}");
    }
}
