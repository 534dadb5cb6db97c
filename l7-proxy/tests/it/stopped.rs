//! A process that was kept from running for longer than its limits: it was late itself, and what its peers
//! have sent in time lies in its sockets.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::http2_peer::{
    DATA, END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, get,
};
use crate::peer::{Origin, eventually};
use crate::program::{Running, Site};

/// Stops the process, lets its peers do something, and lets it go on when its limits have passed.
fn meanwhile(running: &Running, peers_do: impl FnOnce()) {
    running.signal(Signal::STOP);
    let stat = format!("/proc/{}/stat", running.child.id());
    eventually("it is stopped", || std::fs::read_to_string(&stat).unwrap().contains(") T "));
    peers_do();
    thread::sleep(LIMIT + Duration::from_millis(200));
    running.signal(Signal::CONT);
}

/// What the configurations here have for limits.
const LIMIT: Duration = Duration::from_millis(400);

fn start(location: &str) -> (Site, Running) {
    let site = Site::new(&format!("http2 on; location / {{ {location} }}"));
    let running = site.start();
    (site, running)
}

#[test]
fn reader_of_http2_that_opened_its_window_meanwhile_gets_all() {
    let (site, running) = start("send_timeout 400ms; return 200 0123456789;");
    let mut frames = Frames::connect(site.addr);
    frames.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]).unwrap();
    frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &get("/")).unwrap();
    let mut body = frames.next_of(DATA).unwrap().payload;
    meanwhile(&running, || frames.send(WINDOW_UPDATE, 0, 1, &9_u32.to_be_bytes()).unwrap());
    while body.len() < 10 {
        let frame = frames.next().unwrap();
        assert_ne!(frame.kind, RST_STREAM, "it was taken for too slow");
        if frame.kind == DATA {
            body.extend(frame.payload);
        }
    }
    assert_eq!(body, b"0123456789");
}

#[test]
fn rest_of_a_body_that_came_meanwhile_is_not_late() {
    let origin = Origin::start(|visit| {
        let head = visit.request()?;
        let body = visit.body(&head)?;
        visit.reply("", std::str::from_utf8(&body).unwrap())
    });
    let location =
        format!("client_body_timeout 400ms; proxy_request_buffering off; proxy_pass http://{};", origin.addr);
    let (site, running) = start(&location);
    let mut client = site.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234");
    eventually("it is at the server", || origin.requests().len() == 1);
    meanwhile(&running, || client.send("56789"));
    assert_eq!(client.response().text(), "0123456789");

    let mut frames = Frames::connect(site.addr);
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "example.org"),
        (":path", "/"),
        ("content-length", "10"),
    ];
    frames.send(HEADERS, END_HEADERS, 1, &block(&fields)).unwrap();
    frames.send(DATA, 0, 1, b"01234").unwrap();
    eventually("it is at the server", || origin.requests().len() == 2);
    meanwhile(&running, || frames.send(DATA, END_STREAM, 1, b"56789").unwrap());
    assert_eq!(frames.next_of(DATA).expect("it was taken for too slow").payload, b"0123456789");
}

#[test]
fn answer_that_came_meanwhile_is_not_late() {
    let (go, told) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let origin = Origin::start(move |visit| {
        visit.request()?;
        // An end of the test is as good.
        let _ = told.lock().unwrap().recv();
        visit.reply("", "in time")
    });
    let (site, running) = start(&format!("proxy_read_timeout 400ms; proxy_pass http://{};", origin.addr));
    for round in 1..=2 {
        let mut client = site.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        eventually("it is at the server", || origin.requests().len() == round);
        meanwhile(&running, || go.send(()).unwrap());
        assert_eq!(client.response().text(), "in time");
    }
}
