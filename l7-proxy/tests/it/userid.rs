//! `userid`: who is told apart, and how.

use crate::nginx::Beside;
use crate::peer::Response;

const CONTENT: &str = "
    userid_expires max; userid_domain example.org; userid_path /x; userid_flags secure samesite=lax;
    userid_p3p 'CP=\"NOI\"'; userid_service 7;
    location / { userid on; add_header X-Got $uid_got; return 200 $uid_got; }
    location /mark { userid on; userid_mark A; userid_expires off; userid_flags off; return 200 $uid_got; }
    location /log { userid log; return 200 $uid_got$uid_set; }
    location /off { userid off; return 200 $uid_got$uid_set; }
    location /named { userid v1; userid_name who; userid_domain none; userid_p3p none; return 200 $uid_got; }
    location /early { set $early $uid_set; error_page 404 = /early/on; return 404; }
    location /early/on { userid on; return 200 $uid_got; }
    location /reset { set $uid_reset $arg_reset; userid on; return 200 $uid_got; }";

/// What differs by nature: the sixteen bytes of a new cookie.
fn shape(answer: &Response) -> (u16, Option<String>, Option<String>, String) {
    let cookie = answer.header("Set-Cookie").map(|cookie| {
        let (value, rest) = cookie.split_once(';').unwrap();
        let (name, value) = value.split_once('=').unwrap();
        // The end of the digits is told by the mark, or by what fills them up.
        format!("{name} {} {};{rest}", value.len(), &value[22..])
    });
    let p3p = answer.header("P3P").map(str::to_owned);
    (answer.status, cookie, p3p, answer.text().to_owned())
}

#[test]
fn cookies_are_those_of_nginx() {
    let both = Beside::start("", CONTENT, &[]);
    let known = "CgECA2Z4kq8+kwM3AwMDAg==";
    for (path, cookie) in [
        ("/", String::new()),
        ("/", format!("a=b; uid={known}; c=d")),
        ("/", "uid=short".to_owned()),
        ("/", "uid=!!!!!!!!!!!!!!!!!!!!!!!!".to_owned()),
        ("/", format!("uid={}", "A".repeat(24))),
        ("/mark", String::new()),
        ("/mark", format!("uid={known}")),
        ("/mark", format!("uid={}A=", &known[..22])),
        ("/log", format!("uid={known}")),
        ("/log", String::new()),
        ("/off", format!("uid={known}")),
        ("/named", format!("uid={known}")),
        ("/named", format!("who={known}")),
        ("/early", String::new()),
        ("/reset", format!("uid={known}")),
        ("/reset?reset=0", format!("uid={known}")),
        ("/reset?reset=1", format!("uid={known}")),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n");
        let ask = |addr| {
            let mut client = crate::peer::Client::connect(addr);
            client.send(&request);
            shape(&client.response())
        };
        let ours = ask(both.ours.addr());
        if let Some(nginx) = &both.nginx {
            assert_eq!(ours, ask(nginx.addr), "{request}");
        }
    }
}

#[test]
fn clients_are_told_apart_and_known_again() {
    let both =
        Beside::start("", "userid on; location / { add_header X-Set $uid_set; return 200 $uid_got; }", &[]);
    let ask = |cookie: &str| {
        let mut client = both.ours.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"));
        client.response()
    };
    let (one, other) = (ask(""), ask(""));
    assert_ne!(one.header("X-Set"), other.header("X-Set"));
    let cookie = one.header("Set-Cookie").unwrap().split(';').next().unwrap();
    let again = ask(cookie);
    assert_eq!((Some(again.text()), again.header("Set-Cookie")), (one.header("X-Set"), None));
}
