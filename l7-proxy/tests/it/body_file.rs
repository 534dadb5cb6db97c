//! Bodies of requests in files, and in variables.

use std::fs;

use crate::peer::{Origin, Proxy, eventually, http};

/// An application that answers with what it is told of the body: the field `X-File`, and what it got.
fn application() -> Origin {
    Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            let body = visit.body(&head)?;
            let file = crate::peer::field(&head, "X-File").unwrap_or("");
            let read = fs::read_to_string(file).unwrap_or_default();
            let text = format!("{file}|{}|{}", read.len(), body.len());
            visit.reply("", &text)?;
        }
    })
}

fn proxy(app: &Origin, location: &str) -> Proxy {
    Proxy::start(&http(&format!(
        "client_body_temp_path spool 1 2; client_body_buffer_size 1k;
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://{}; {location}
             proxy_set_header X-File $request_body_file; add_header X-Body $request_body; }} }}",
        app.addr
    )))
}

/// Posts a body; returns the file that the application was told of, how much was in it, how much the
/// application got itself, and the size of the body as a variable shows it.
fn post(proxy: &Proxy, fields: &str, body: &str) -> (String, usize, usize, Option<usize>) {
    let mut client = proxy.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: example.org\r\n{fields}\r\n{body}"));
    let answer = client.response();
    let text = answer.text().to_owned();
    let [file, read, got] = *text.split('|').collect::<Vec<_>>() else { panic!("{text}") };
    let shown = answer.header("X-Body").map(str::len);
    (file.to_owned(), read.parse().unwrap(), got.parse().unwrap(), shown)
}

fn sized(body: &str) -> String {
    format!("Content-Length: {}\r\n", body.len())
}

#[test]
fn body_above_the_buffer_is_in_a_file_while_it_is_needed() {
    let app = application();
    let proxy = proxy(&app, "");
    let (small, large) = ("x".repeat(1024), "x".repeat(1025));
    assert_eq!(post(&proxy, &sized(&small), &small), (String::new(), 0, 1024, Some(1024)));
    let (file, read, got, shown) = post(&proxy, &sized(&large), &large);
    assert_eq!((read, got, shown), (1025, 1025, None));
    let folder = proxy.folder.path().join("spool");
    assert!(file.starts_with(folder.to_str().unwrap()), "{file}");
    eventually("the file goes with its request", || fs::read_dir(&folder).unwrap().count() == 0);
    // One that comes in chunks is as long as it turns out to be.
    let chunks = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    let (_, read, got, _) = post(&proxy, "Transfer-Encoding: chunked\r\n", &chunks);
    assert_eq!((read, got), (1025, 1025));
}

#[test]
fn program_that_is_told_the_file_need_not_get_the_body() {
    let app = application();
    let location = "client_body_in_file_only clean; proxy_pass_request_body off; client_max_body_size 8m;
                    proxy_set_header Content-Length '';";
    let proxy = proxy(&app, location);
    let folder = proxy.folder.path().join("spool");
    for size in [3, 3_000_000] {
        let body = "x".repeat(size);
        let (_, read, got, shown) = post(&proxy, &sized(&body), &body);
        assert_eq!((read, got, shown), (size, 0, None));
    }
    eventually("the files go", || fs::read_dir(&folder).unwrap().count() == 0);
}

#[test]
fn file_stays_where_it_is_to_stay() {
    let app = application();
    let proxy = proxy(&app, "client_body_in_file_only on;");
    let (file, read, got, _) = post(&proxy, &sized("body"), "body");
    assert_eq!((read, got), (4, 4));
    assert_eq!(fs::read_to_string(file).unwrap(), "body");
}

#[test]
fn another_server_gets_the_whole_of_a_body_that_is_in_a_file() {
    let lost = Origin::start(|visit| {
        visit.request()?;
        visit.reset();
        Ok(())
    });
    let app = application();
    let proxy = Proxy::start(&http(&format!(
        "client_body_in_file_only clean; client_body_temp_path spool;
         upstream app {{ server {}; server {} backup; }}
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://app; client_max_body_size 1m; }} }}",
        lost.addr, app.addr
    )));
    let body = "x".repeat(500_000);
    let mut client = proxy.client();
    client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\n{}\r\n{body}", sized(&body)));
    assert_eq!(client.response().text(), "|0|500000");
}

#[test]
fn body_that_a_mirror_has_put_into_a_file_is_told_of() {
    let app = application();
    let mirrored = "client_max_body_size 9m; mirror /copy; client_body_in_file_only clean;";
    let proxy = proxy(&app, mirrored);
    let large = "x".repeat(2 << 20);
    let (file, read, got, _) = post(&proxy, &sized(&large), &large);
    assert!(!file.is_empty());
    assert_eq!((read, got), (large.len(), large.len()));
}
