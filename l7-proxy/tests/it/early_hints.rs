//! Early words of servers: who gets them, and what of them.

use crate::peer::{Client, Origin, Proxy, http};

/// An application that says early what a page will need.
fn application() -> Origin {
    Origin::start(|visit| {
        visit.request()?;
        visit.write("HTTP/1.1 102 Processing\r\n\r\n")?;
        let early = "Link: </a.css>\r\nX-HINT: 1\r\nX-Secret: 1\r\nConnection: x\r\nX-Accel-Expires: 1\r\n";
        visit.write(format!("HTTP/1.1 103 Early Hints\r\n{early}\r\n"))?;
        visit.write("HTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\n")?;
        visit.reply("", "page")
    })
}

fn proxy(app: &Origin) -> Proxy {
    Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1; early_hints 0 $arg_hints; proxy_hide_header X-Secret;
             location / {{ proxy_pass http://{}; }} }}",
        app.addr
    )))
}

fn ask(proxy: &Proxy, request: &str) -> Client {
    let mut client = proxy.client();
    client.send(format!("{request}\r\nHost: a\r\n\r\n"));
    client
}

#[test]
fn early_words_go_to_the_client_where_a_condition_holds() {
    let app = application();
    let proxy = proxy(&app);
    let mut client = ask(&proxy, "GET /?hints=1 HTTP/1.1");
    let early = client.head().unwrap();
    assert_eq!(early, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nX-HINT: 1\r\n\r\n");
    assert_eq!(client.head().unwrap(), "HTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\n");
    assert_eq!(client.response().text(), "page");
}

#[test]
fn who_is_not_meant_or_could_not_read_them_gets_none() {
    let app = application();
    let proxy = proxy(&app);
    for request in ["GET / HTTP/1.1", "GET /?hints=0 HTTP/1.1", "GET /?hints=1 HTTP/1.0"] {
        let mut client = ask(&proxy, request);
        assert_eq!(client.response().text(), "page", "{request}");
    }
}
