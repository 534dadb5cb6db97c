//! Clients of HTTP/2 that send what costs them nothing and us something.

use std::io;

use crate::http2_peer::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, frame, get,
};
use crate::peer::{Origin, Proxy, eventually, http};

/// A flood: its name, and the frames of its n-th turn.
type Flood = (&'static str, fn(u32) -> Vec<u8>);

const FLOODS: &[Flood] = &[
    ("rapid reset", |turn| {
        let stream = 2 * turn + 1;
        let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &get("/"));
        [head, frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
    }),
    ("reset behind a body that never comes", |turn| {
        let stream = 2 * turn + 1;
        let head = frame(HEADERS, END_HEADERS, stream, &get("/"));
        [head, frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
    }),
    ("empty continuations", |turn| match turn {
        0 => frame(HEADERS, 0, 1, &get("/")),
        _ => frame(CONTINUATION, 0, 1, &[]),
    }),
    ("continuations", |turn| match turn {
        0 => frame(HEADERS, 0, 1, &get("/")),
        _ => frame(CONTINUATION, 0, 1, &crate::http2_peer::block(&[("x", &"y".repeat(100))])),
    }),
    ("settings", |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])),
    ("pings", |_| frame(PING, 0, 0, &[7; 8])),
    ("empty data", |turn| match turn {
        0 => frame(HEADERS, END_HEADERS, 1, &get("/")),
        _ => frame(DATA, 0, 1, &[]),
    }),
    ("windows of the connection", |_| frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes())),
    ("windows of a stream", |turn| match turn {
        0 => frame(HEADERS, END_HEADERS, 1, &get("/")),
        _ => frame(WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes()),
    }),
    ("priorities", |_| frame(2, 0, 1, &[0, 0, 0, 3, 16])),
    ("frames of no known kind", |_| frame(0xbe, 0, 0, &[])),
];

/// More turns than fit into the buffers of sockets.
const TURNS: u32 = 2_000_000;

/// Sends a flood until the proxy ends it; says whether it does.
fn is_ended(proxy: &Proxy, turn: fn(u32) -> Vec<u8>) -> bool {
    let mut frames = Frames::connect(proxy.addr());
    let mut reader = Frames::of(frames.stream.try_clone().unwrap());
    let reading = std::thread::spawn(move || while reader.next().is_ok() {});
    let mut batch = Vec::new();
    let mut ended = false;
    for number in 0..TURNS {
        batch.extend(turn(number));
        if batch.len() > 4096 {
            let sent = io::Write::write_all(&mut frames.stream, &std::mem::take(&mut batch));
            if sent.is_err() || reading.is_finished() {
                ended = true;
                break;
            }
        }
    }
    let _ = frames.stream.shutdown(std::net::Shutdown::Both);
    reading.join().unwrap();
    ended
}

#[test]
fn client_that_is_cut_off_for_a_flood_is_told_so() {
    let proxy = Proxy::start(&http("server { listen 127.0.0.1:1; http2 on; return 200; }"));
    let mut frames = Frames::connect(proxy.addr());
    let mut answered = 0;
    let goodbye = 'ended: loop {
        let batch: Vec<u8> = (0..100).flat_map(|_| frame(PING, 0, 0, &[7; 8])).collect();
        io::Write::write_all(&mut frames.stream, &batch).unwrap();
        for _ in 0..100 {
            let frame = loop {
                let frame = frames.next().unwrap();
                if frame.kind == PING || frame.kind == GOAWAY {
                    break frame;
                }
            };
            if frame.kind == GOAWAY {
                break 'ended frame;
            }
            answered += 1;
        }
    };
    assert_eq!(goodbye.payload[4..], [0; 4], "no error, as from nginx");
    assert!((1000..10_000).contains(&answered), "{answered}");
}

#[test]
fn flood_ends_its_connection() {
    let origin = Origin::named("app");
    let proxy = Proxy::start(&http(&format!(
        "keepalive_requests 1000000; upstream app {{ server {}; }}
         server {{ listen 127.0.0.1:1; http2 on; location / {{ proxy_pass http://app; proxy_request_buffering off; }} }}",
        origin.addr
    )));
    for (name, turn) in FLOODS {
        assert!(is_ended(&proxy, *turn), "{name} goes on");
        eventually(name, || proxy.active() == 0);
    }
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn client_that_resets_its_requests_at_once_is_told_to_calm_down() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        // Never answers: all that is open stays open.
        visit.peer.rest().map(drop)
    });
    let proxy = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1; http2 on; location / {{ proxy_pass http://{}; }} }}",
        origin.addr
    )));
    let mut frames = Frames::connect(proxy.addr());
    for stream in (1..20_000).step_by(2) {
        let pair = [
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &get("/")),
            frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()),
        ];
        if io::Write::write_all(&mut frames.stream, &pair.concat()).is_err() {
            break;
        }
    }
    match frames.next_of(GOAWAY) {
        Ok(goodbye) => assert_eq!(goodbye.payload[4..8], 11_u32.to_be_bytes()),
        // It may be lost in the reset that the connection ends with.
        Err(error) => assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "it goes on"),
    }
}
