//! What other locations say before and behind an answer (`add_before_body`, `add_after_body`).

use crate::nginx::Beside;
use crate::peer::{Origin, Proxy, server};

#[test]
fn page_stands_between_two_others_as_in_nginx() {
    let origin = Origin::start(|visit| {
        loop {
            visit.request()?;
            visit.reply("Content-Type: text/html\r\nETag: \"x\"\r\n", "<p>far</p>")?;
        }
    });
    let addr = origin.addr;
    let both = Beside::start(
        "",
        &format!(
            "types {{ text/html html; text/css css; }}
             add_before_body /top; add_after_body /foot/foot.html;
             location /top {{ internal; default_type text/html; return 200 '<$uri of $request_uri>'; }}
             location /foot/ {{ add_after_body ''; }}
             location /far {{ proxy_pass http://{addr}; proxy_http_version 1.1; sub_filter p q; sub_filter_once off; }}
             location /framed/ {{ alias html/; add_before_body /far; add_after_body /nowhere; }}
             location /css/ {{ alias html/; addition_types text/css; }}
             location /bare/ {{ alias html/; add_before_body ''; add_after_body ''; }}"
        ),
        &["Content-Type", "ETag", "Last-Modified", "Accept-Ranges"],
    );
    both.file("a.html", "<p>hello</p>");
    both.file("a.css", "p {}");
    both.file("foot/foot.html", "<foot>");
    let page = both.get("/a.html");
    assert_eq!(page.text(), "</top of /a.html><p>hello</p><foot>");
    for path in ["/a.css", "/css/a.css", "/css/a.html", "/bare/a.html", "/far", "/nowhere", "/foot/foot.html"]
    {
        both.get(path);
    }
    let request = |fields: &str| format!("GET /a.html HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    both.send(&request("Range: bytes=0-3\r\n"));
    both.send(&request("If-None-Match: W/\"6553f100-c\"\r\n"));
    both.send("HEAD /a.html HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(both.get("/far").text(), "</top of /far><q>far</q><foot>");
}

#[test]
fn names_of_fields_stay_as_the_server_spells_them() {
    let origin = Origin::start(|visit| {
        loop {
            visit.request()?;
            visit.reply("Content-Type: text/html\r\nX-oDD: 1\r\n", "far")?;
        }
    });
    let proxy = Proxy::start(&server(&format!(
        "location / {{ proxy_pass http://{}; add_after_body /more; }}
         location /more {{ add_header X-WORD 1; return 200 more; }}",
        origin.addr
    )));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.response();
    assert_eq!(answer.text(), "farmore");
    assert!(answer.head.contains("\r\nX-oDD: 1\r\n") && !answer.head.contains("WORD"), "{}", answer.head);
    // The connection goes on.
    assert_eq!(client.get("/").text(), "farmore");
}
