//! What browsers are, beside nginx's own word on it.

use crate::nginx::Beside;

#[test]
fn browsers_are_told_apart_as_by_nginx() {
    let says = "return 200 \"modern '$modern_browser' ancient '$ancient_browser' msie '$msie'\";";
    let beside = Beside::start(
        "",
        &format!(
            "location /none {{ {says} }}
             location /listed {{ modern_browser msie 5.5; modern_browser gecko 1.0.0; modern_browser opera 9.0;
                 modern_browser safari 413; modern_browser konqueror 3.0; modern_browser unlisted;
                 ancient_browser Links Lynx netscape4; ancient_browser_value old; modern_browser_value new; {says} }}
             location /without {{ modern_browser gecko 1.8.0.5; modern_browser msie 7; {says} }}
             location /unlisted {{ modern_browser unlisted; ancient_browser netscape4; {says} }}"
        ),
        &[],
    );
    for agent in [
        "Opera/7.50 (X11; FreeBSD i386; U)  [en]",
        "Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.0; en) Opera 8.0",
        "Opera/9.01 (X11; FreeBSD 6 i386; U; en)",
        "Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)",
        "Mozilla/4.0 (compatible; MSIE 7.0b; Windows NT 5.1)",
        "Mozilla/5.0 (X11; U; Linux i686; en-US; rv:1.0.0) Gecko/20020610",
        "Mozilla/5.0 (X11; U; FreeBSD i386; en-US; rv:1.8.0.5) Gecko/20060729 Firefox/1.5.0.5",
        "Mozilla/5.0 (Macintosh; U; PPC Mac OS X; en) AppleWebKit/418 (KHTML, like Gecko) Safari/417.9.3",
        "Mozilla/5.0 (compatible; Konqueror/3.5; FreeBSD) KHTML/3.5.1 (like Gecko)",
        "Mozilla/4.72 [en] (X11; U; Linux 2.2.14)",
        "Mozilla/4.72 ",
        "Lynx/2.8.5rel.1",
        "curl/8.0",
        "MSIE 6",
        "rv:",
    ] {
        for path in ["/none", "/listed", "/without", "/unlisted"] {
            beside.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nUser-Agent: {agent}\r\n\r\n"));
            beside.get(path);
        }
    }
}
