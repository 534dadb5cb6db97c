//! Symbolic links on the way to a file.

use std::fs;
use std::os::unix::fs::symlink;

use crate::peer::{Proxy, server};

#[test]
fn links_are_followed_as_far_as_the_configuration_says() {
    let proxy = Proxy::start(&server(
        "gzip_static always; location /all/ { }
         location /none/ { disable_symlinks on; }
         location /own/ { disable_symlinks if_not_owner; }
         location /below/ { disable_symlinks on from=$document_root/below; }
         location /from/ { disable_symlinks on from=$document_root; }
         location /off/ { disable_symlinks off; }",
    ));
    proxy.file("page", "content");
    let html = proxy.folder.path().join("html");
    for folder in ["all", "none", "own", "from", "off"] {
        fs::create_dir(html.join(folder)).unwrap();
        fs::write(html.join(folder).join("file"), "content").unwrap();
        symlink("../../page", html.join(folder).join("link")).unwrap();
        symlink(".", html.join(folder).join("folder")).unwrap();
    }
    // What stands before the place where the look begins may be a link.
    symlink("none", html.join("below")).unwrap();
    for (path, status) in [
        ("/all/link", 200),
        ("/off/link", 200),
        ("/none/file", 200),
        ("/none/link", 403),
        ("/none/folder/file", 403),
        ("/none/nothing", 404),
        ("/below/file", 200),
        ("/below/link", 403),
        ("/from/file", 200),
        ("/from/folder/file", 403),
        // The same person made them all.
        ("/own/link", 200),
        ("/own/folder/file", 200),
    ] {
        assert_eq!(proxy.get(path).status, status, "{path}");
    }
    fs::write(html.join("none/packed.gz"), "packed").unwrap();
    symlink("packed.gz", html.join("none/linked.gz")).unwrap();
    assert_eq!(proxy.get("/none/packed").text(), "packed");
    assert_eq!(proxy.get("/none/linked").status, 403);
}

#[test]
fn link_of_another_person_is_not_followed_where_that_matters() {
    // Only root can give files away.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let proxy = Proxy::start(&server("location / { disable_symlinks if_not_owner; }"));
    proxy.file("html/secret", "x");
    let link = proxy.folder.path().join("html/link");
    symlink("secret", &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(4711), None).unwrap();
    assert_eq!((proxy.get("/link").status, proxy.get("/secret").status), (403, 200));
}
