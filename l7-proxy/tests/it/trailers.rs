//! Fields behind the body, as clients of both versions get them.

use crate::http2_peer::{ask, connect, request, run};
use crate::peer::{Origin, Proxy, server};

/// Sends a request and returns all that comes until the connection ends.
fn whole(proxy: &Proxy, line: &str) -> String {
    let mut client = proxy.client();
    client.send(format!("{line}\r\nHost: example.org\r\nConnection: close\r\n\r\n"));
    String::from_utf8(client.rest().unwrap()).unwrap()
}

#[test]
fn trailers_of_the_configuration_stand_behind_chunks_and_nowhere_else() {
    let proxy = Proxy::start(&server(
        "http2 on; add_trailer X-One $host; add_trailer X-TWO $sent_trailer_x_one$status; add_trailer X-None '';
         location /plain { chunked_transfer_encoding off; }",
    ));
    proxy.file("html/page", "text");
    proxy.file("html/plain", "text");
    let answer = whole(&proxy, "GET /page HTTP/1.1");
    let end = "\r\n\r\n4\r\ntext\r\n0\r\nX-One: example.org\r\nX-TWO: example.org200\r\n\r\n";
    assert!(answer.ends_with(end) && !answer.contains("Content-Length"), "{answer}");
    for line in ["GET /page HTTP/1.0", "GET /plain HTTP/1.1"] {
        let answer = whole(&proxy, line);
        assert!(answer.ends_with("\r\n\r\ntext") && answer.contains("Content-Length: 4"), "{answer}");
    }
    assert!(whole(&proxy, "HEAD /page HTTP/1.1").ends_with("\r\n\r\n"));
    assert!(!whole(&proxy, "GET /missing HTTP/1.1").contains("X-One"));
    run(async {
        let client = connect(proxy.addr()).await;
        let answer = ask(&client, request("GET", "/page").body(()).unwrap(), b"").await.unwrap();
        assert_eq!(answer.body, b"text");
        assert_eq!(answer.trailers.unwrap()["x-two"], "example.org200");
    });
}

#[test]
fn trailers_of_a_server_pass_where_they_may() {
    let origin = Origin::start(|visit| {
        loop {
            visit.request()?;
            visit.write(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
            )?;
        }
    });
    for (passed, expected) in [("on", "0\r\nX-Sum: 1\r\n\r\n"), ("off", "0\r\n\r\n")] {
        let proxy = Proxy::start(&server(&format!(
            "http2 on; proxy_pass_trailers {passed}; location / {{ proxy_pass http://{}; }}",
            origin.addr
        )));
        let answer = whole(&proxy, "GET / HTTP/1.1");
        assert!(answer.ends_with(&format!("2\r\nok\r\n{expected}")), "{answer}");
        run(async {
            let client = connect(proxy.addr()).await;
            let answer = ask(&client, request("GET", "/").body(()).unwrap(), b"").await.unwrap();
            assert_eq!(answer.trailers.is_some(), passed == "on");
        });
    }
}
