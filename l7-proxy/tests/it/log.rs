//! What logs say of requests, and where they go.

use crate::peer::{Client, Origin, Proxy, http};

fn proxy(content: &str) -> Proxy {
    Proxy::start(&format!("events {{}} http {{ {content} }}"))
}

#[test]
fn request_that_came_behind_another_is_pipelined() {
    let proxy = proxy(
        "log_format pipe '$uri $pipe'; access_log pipe.log pipe;
         server { listen 127.0.0.1:1; location / { return 200; } }",
    );
    let mut client = proxy.client();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response();
    client.response();
    client.get("/c");
    assert_eq!(proxy.lines("pipe.log", 3), ["/a .", "/b p", "/c ."]);
}

#[test]
fn length_of_a_request_is_that_of_its_bytes_as_they_came() {
    let app = Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            visit.body(&head)?;
            visit.reply("", "ok")?;
        }
    });
    let proxy = proxy(&format!(
        "log_format length '$request_length $request'; access_log length.log length;
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://{}; }} }}",
        app.addr
    ));
    // Bare line feeds, blanks and the frames of chunks are bytes, too.
    let requests = [
        "GET http://a/x HTTP/1.0\nHost:   a\n\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\n\r\n",
    ];
    let expected = requests.map(|request| format!("{} {}", request.len(), request.lines().next().unwrap()));
    for request in requests {
        let mut client = proxy.client();
        client.send(request);
        assert_eq!(client.response().status, 200);
    }
    assert_eq!(proxy.lines("length.log", 3), expected);
}

#[test]
fn servers_that_were_tried_are_told_with_their_bytes_and_those_of_another_location_apart() {
    let lost = Origin::start(|visit| {
        visit.request()?;
        Ok(())
    });
    let app = Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            let redirect = if head.starts_with("GET /first") { "X-Accel-Redirect: /second\r\n" } else { "" };
            visit.reply(redirect, "body")?;
        }
    });
    let proxy = proxy(&format!(
        "log_format tried '$upstream_status|$upstream_bytes_received|$upstream_bytes_sent|$upstream_response_time\
         |$upstream_header_time'; access_log tried.log tried;
         upstream both {{ server {}; server {} backup; }}
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://both; }}
             location /second {{ proxy_pass http://{}; }} }}",
        lost.addr, app.addr, app.addr
    ));
    assert_eq!(proxy.get("/first").text(), "body");
    let line = &proxy.lines("tried.log", 1)[0];
    let sent = |head: String| head.len();
    let (first, second) = {
        let heads = app.requests();
        let [first, second] = &*heads else { panic!("{heads:?}") };
        (sent(first.clone()), sent(second.clone()))
    };
    let redirected = "HTTP/1.1 200 OK\r\nX-Accel-Redirect: /second\r\nContent-Length: 4\r\n\r\nbody".len();
    let plain = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody".len();
    let fields: Vec<&str> = line.split('|').collect();
    assert_eq!(fields[0], "502, 200 : 200", "{line}");
    assert_eq!(fields[1], format!("0, {redirected} : {plain}"), "{line}");
    assert_eq!(fields[2], format!("{first}, {first} : {second}"), "{line}");
    let times = regex::Regex::new(r"^\d\.\d{3}, \d\.\d{3} : \d\.\d{3}$").unwrap();
    assert!(times.is_match(fields[3]), "{line}");
    assert!(regex::Regex::new(r"^-, \d\.\d{3} : \d\.\d{3}$").unwrap().is_match(fields[4]), "{line}");
}

#[test]
fn response_time_is_not_known_before_the_end_and_lasts_until_it() {
    let app = Origin::start(|visit| {
        visit.request()?;
        visit.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")?;
        std::thread::sleep(std::time::Duration::from_millis(150));
        visit.write("b")
    });
    let proxy = proxy(&format!(
        "log_format time '$upstream_header_time $upstream_response_time'; access_log time.log time;
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://{};
             add_header X-Time $upstream_response_time; }} }}",
        app.addr
    ));
    let answer = proxy.get("/");
    assert_eq!((answer.text(), answer.header("X-Time")), ("ab", Some("-")));
    let line = &proxy.lines("time.log", 1)[0];
    let (head, all) = line.split_once(' ').unwrap();
    assert!(all.parse::<f64>().unwrap() >= head.parse::<f64>().unwrap() + 0.1, "{line}");
}

#[test]
fn request_has_one_number_wherever_it_is_shown() {
    let app = Origin::named("app");
    let proxy = proxy(&format!(
        "log_format id '$request_id'; access_log id.log id;
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://{}; proxy_set_header X-ID $request_id;
             add_header X-ID $request_id; }} }}",
        app.addr
    ));
    let ids: Vec<String> = (0..2).map(|_| proxy.get("/").header("X-ID").unwrap().to_owned()).collect();
    assert_ne!(ids[0], ids[1]);
    assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())));
    assert_eq!(proxy.lines("id.log", 2), ids);
    let told: Vec<String> =
        app.requests().iter().map(|head| crate::peer::field(head, "X-ID").unwrap().to_owned()).collect();
    assert_eq!(told, ids);
}

#[test]
fn log_whose_name_varies_is_written_only_where_there_is_a_root() {
    let proxy = proxy(
        "log_format uri '$uri'; server { listen 127.0.0.1:1; location / { root html;
             access_log $arg_name.log uri; return 200; }
         location /none { root nowhere; access_log $arg_name.log uri; return 200; } }",
    );
    proxy.get("/none?name=b");
    proxy.get("/x?name=a");
    assert_eq!(proxy.lines("a.log", 1), ["/x"]);
    assert!(!proxy.folder.path().join("b.log").exists());
}

#[test]
fn names_of_fields_reach_servers_as_the_client_spelled_them() {
    let app = Origin::named("app");
    let proxy = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://{}; }} }}",
        app.addr
    )));
    let mut client: Client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-ID: 1\r\nx-lower:2\r\nUSER-agent: me\r\nX-Empty:\r\n\r\n");
    client.response();
    let head = app.last_request();
    for line in ["\r\nX-ID: 1\r\n", "\r\nx-lower: 2\r\n", "\r\nUSER-agent: me\r\n", "\r\nX-Empty: \r\n"] {
        assert!(head.contains(line), "{line:?} in {head}");
    }
}
