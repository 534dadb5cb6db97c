//! Where requests may come from, and links that prove themselves: `valid_referers`, `secure_link`; and the
//! one pixel that goes with them.

use md5::{Digest, Md5};

use crate::nginx::Beside;

#[test]
fn referer_is_judged_as_nginx_judges_it() {
    let both = Beside::start(
        "",
        "valid_referers none blocked example.org *.galleries.com/pics/ mail.* ~\\.google\\. .dot.org;
         location / { return 200 \"[$invalid_referer]\"; }
         location /other { valid_referers nobody.org; return 200 \"[$invalid_referer]\"; }
         location /pattern { valid_referers ~^ok(.*)z;
             if ($invalid_referer) { return 403; } return 200 \"$1\"; }",
        &[],
    );
    for (referer, welcome) in [
        ("http://example.org/", true),
        ("https://EXAMPLE.ORG:8080/a", true),
        ("http://example.org.evil.com/", false),
        ("http://a.galleries.com/pics/1", true),
        ("http://a.galleries.com/other", false),
        ("http://galleries.com/pics/", false),
        ("http://mail.ru/", true),
        ("http://www.google.com/", true),
        ("http://a.dot.org", true),
        ("http://user@example.org/", false),
        ("stripped by a firewall", true),
        ("", true),
    ] {
        for path in ["/", "/other", "/pattern"] {
            let answer = both.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nReferer: {referer}\r\n\r\n"));
            if path == "/" {
                assert_eq!(answer.text(), if welcome { "[]" } else { "[1]" }, "{referer}");
            }
        }
    }
    let matched = both.send("GET /pattern HTTP/1.1\r\nHost: a\r\nReferer: http://ok.12.z.org/\r\n\r\n");
    assert_eq!((matched.status, matched.text()), (200, ""));
}

#[test]
fn words_of_valid_referers_belong_together_wherever_they_stand_in_a_block() {
    let both = Beside::start(
        "",
        "server_name a.org;
         location / { valid_referers none; valid_referers server_names; valid_referers b.org server_names;
             return 200 \"[$invalid_referer]\";
             location /inner { valid_referers blocked c.org; return 200 \"[$invalid_referer]\"; } }",
        &[],
    );
    for (referer, outer, inner) in [
        ("http://a.org/", "[]", "[1]"),
        ("http://b.org/", "[]", "[1]"),
        ("http://c.org/", "[1]", "[]"),
        ("none of it", "[1]", "[]"),
        ("", "[]", "[1]"),
    ] {
        for (path, expected) in [("/", outer), ("/inner", inner)] {
            let line = if referer.is_empty() { String::new() } else { format!("Referer: {referer}\r\n") };
            let answer = both.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n{line}\r\n"));
            assert_eq!(answer.text(), expected, "{path} {referer}");
        }
    }
    // A server without a name has one, the empty one.
    Beside::start("", "valid_referers none server_names; return 200 \"[$invalid_referer]\";", &[]).get("/");
}

/// What a server that knows the secret puts into a link.
fn digest(of: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = u128::from_be_bytes(Md5::digest(of).into());
    // 128 bits are 21 digits of six, and two bits.
    let digit = |place: u32| DIGITS[((bits << (6 * place)) >> 122) as usize] as char;
    (0..22).map(digit).collect()
}

#[test]
fn link_is_good_as_long_as_its_time_and_only_as_it_was_made() {
    let both = Beside::start(
        "",
        "location / { secure_link $arg_md5,$arg_expires;
             secure_link_md5 \"$secure_link_expires$uri secret\";
             return 200 \"[$secure_link] $secure_link_expires\"; }
         location /p/ { secure_link_secret word; if ($secure_link = \"\") { return 403; }
             rewrite ^ /secure/$secure_link; }
         location /secure/ { return 200 $uri; }",
        &[],
    );
    let (later, before) = ("99999999999", "1000000");
    for (path, expected) in [
        (format!("/a?md5={}&expires={later}", digest(&format!("{later}/a secret"))), "[1] 99999999999"),
        (format!("/a?md5={}&expires={before}", digest(&format!("{before}/a secret"))), "[0] 1000000"),
        (format!("/b?md5={}&expires={later}", digest(&format!("{later}/a secret"))), "[] 99999999999"),
        (format!("/a?md5={}&expires=-5", digest("-5/a secret")), "[] "),
        (format!("/a?md5={}", digest("/a secret")), "[] "),
        ("/a".to_owned(), "[] "),
    ] {
        assert_eq!(both.get(&path).text(), expected, "{path}");
    }
    let hex: String = Md5::digest("a/b.txtword").iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(both.get(&format!("/p/{hex}/a/b.txt")).text(), "/secure/a/b.txt");
    assert_eq!(both.get(&format!("/p/{}/a/b.txt", hex.to_uppercase())).status, 200);
    for forged in [format!("/p/{hex}/a/c.txt"), format!("/p/{hex}/"), "/p/x/a/b.txt".to_owned()] {
        assert_eq!(both.get(&forged).status, 403, "{forged}");
    }
}

#[test]
fn inner_block_may_prove_links_in_another_way() {
    let both = Beside::start(
        "secure_link $arg_md5;",
        "location / { secure_link_md5 $uri; return 200 \"[$secure_link]\"; }
         location /word/ { secure_link_secret word; return 200 \"[$secure_link]\";
             location /word/digest { secure_link $arg_md5; secure_link_md5 $uri; return 200 \"[$secure_link]\"; }
             location /word/half { secure_link_md5 $uri; return 200 \"[$secure_link]\"; } }",
        &[],
    );
    for (path, expected) in [("/a", "[1]"), ("/word/digest", "[1]"), ("/word/half", "[]")] {
        assert_eq!(both.get(&format!("{path}?md5={}", digest(path))).text(), expected, "{path}");
    }
    let hex: String = Md5::digest("aword").iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(both.get(&format!("/word/{hex}/a")).text(), "[a]");
}

#[test]
fn pixel_is_nginxs() {
    let both =
        Beside::start("", "location / { empty_gif; }", &["Content-Type", "Last-Modified", "Content-Length"]);
    assert_eq!(both.get("/").body.len(), 43);
    let validated = "GET / HTTP/1.1\r\nHost: a\r\nIf-Modified-Since: Mon, 28 Sep 1970 06:00:00 GMT\r\n\r\n";
    both.send(validated);
    let mut client = both.ours.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response().status, 405);
}
