//! The character set that answers are said to be in.

use crate::peer::{Origin, Proxy, http};

#[test]
fn character_set_is_added_to_texts_that_have_none() {
    let app = Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            let fields = match head.split([' ', '?']).nth(1).unwrap() {
                "/plain" => "Content-Type: text/plain\r\n",
                "/own" => "Content-Type: text/html; charset=koi8-r\r\n",
                "/image" => "Content-Type: image/png\r\n",
                "/asked" => "Content-Type: image/png\r\nX-Accel-Charset: latin1\r\n",
                "/packed" => "Content-Type: text/plain\r\nContent-Encoding: br\r\n",
                "/moved" => "Content-Type: text/html\r\n",
                _ => "",
            };
            visit.reply(fields, "x")?;
        }
    });
    let proxy = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1; charset utf-8; proxy_pass_header X-Own;
             location / {{ proxy_pass http://{0}; }}
             location /over/ {{ override_charset on; proxy_pass http://{0}/; }}
             location /off/ {{ charset off; proxy_pass http://{0}/; }}
             location /varies/ {{ charset $arg_charset; proxy_pass http://{0}/; }}
             location /types/ {{ charset_types image/png; proxy_pass http://{0}/; }}
             location /text {{ default_type text/plain; return 200; }}
             location /text.html {{ types {{ text/html html; }} return 200 x; }}
             location /moved {{ return 301 /; }} }}",
        app.addr
    )));
    for (path, expected) in [
        ("/plain", Some("text/plain; charset=utf-8")),
        ("/own", Some("text/html; charset=koi8-r")),
        ("/over/own", Some("text/html; charset=utf-8")),
        ("/image", Some("image/png")),
        ("/types/image", Some("image/png; charset=utf-8")),
        ("/types/plain", Some("text/plain")),
        ("/asked", Some("image/png; charset=latin1")),
        ("/packed", Some("text/plain")),
        ("/none", None),
        ("/off/plain", Some("text/plain")),
        ("/varies/plain?charset=x", Some("text/plain; charset=x")),
        ("/varies/plain?charset=off", Some("text/plain")),
        ("/varies/plain", Some("text/plain")),
        ("/text", Some("text/plain; charset=utf-8")),
        ("/text.html", Some("text/html; charset=utf-8")),
        // That of a redirect is none of its target's.
        ("/moved", Some("text/html")),
    ] {
        assert_eq!(proxy.get(path).header("Content-Type"), expected, "{path}");
    }
}
