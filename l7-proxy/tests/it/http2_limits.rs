//! What a client of HTTP/2 may send, at each limit and one beyond it.

use std::net::SocketAddr;

use crate::http2_peer::{
    END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, RST_STREAM, SETTINGS, ask, block, connect, get,
    request, run,
};
use crate::peer::{Origin, Proxy, http};

const NO_ERROR: u8 = 0;
const REFUSED_STREAM: u8 = 7;
const ENHANCE_YOUR_CALM: u8 = 11;

const NO_CONTENT: u8 = 0x80 | 9;
const BAD_REQUEST: u8 = 0x80 | 12;

const END: u8 = END_HEADERS | END_STREAM;

fn proxy(content: &str) -> Proxy {
    Proxy::start(&http(&format!("server {{ listen 127.0.0.1:1; http2 on; {content} }}")))
}

/// Reads up to a frame that ends a stream or a connection; the stream, the last one of a connection, and
/// the code.
fn end(frames: &mut Frames, kind: u8) -> (u32, u8) {
    let Frame { stream, payload, .. } = frames.next_of(kind).unwrap();
    match kind {
        GOAWAY => (u32::from_be_bytes(payload[..4].try_into().unwrap()), payload[7]),
        _ => (stream, payload[3]),
    }
}

#[test]
fn connection_has_as_many_streams_at_a_time_as_it_may() {
    let origin = Origin::start(|visit| {
        visit.request()?;
        // Never answers, so that every stream stays open.
        visit.peer.rest().map(drop)
    });
    for (directive, most) in [("", 128), ("http2_max_concurrent_streams 1;", 1)] {
        let location = format!("location / {{ proxy_pass http://{}; }}", origin.addr);
        let proxy = proxy(&format!("{directive} location = /up {{ return 204; }} {location}"));
        let mut frames = Frames::connect(proxy.addr());
        let settings = frames.next_of(SETTINGS).unwrap();
        let told = settings.payload.chunks(6).find(|setting| setting[..2] == [0, 3]).unwrap();
        assert_eq!(told[2..], u32::to_be_bytes(most), "what the client is told");
        for number in 0..=most {
            frames.send(HEADERS, END, 2 * number + 1, &get("/")).unwrap();
        }
        assert_eq!(end(&mut frames, RST_STREAM), (2 * most + 1, REFUSED_STREAM), "{directive}");
        // One that ends makes room for another.
        frames.send(RST_STREAM, 0, 1, &8_u32.to_be_bytes()).unwrap();
        frames.send(HEADERS, END, 2 * most + 3, &get("/up")).unwrap();
        assert_eq!(frames.next_of(HEADERS).unwrap().stream, 2 * most + 3, "{directive}");
    }
}

#[test]
fn connection_has_as_many_requests_as_it_may() {
    for (directive, most) in [("", 1000), ("keepalive_requests 3;", 3)] {
        let proxy = proxy(&format!("{directive} return 204;"));
        let mut frames = Frames::connect(proxy.addr());
        for number in 0..most {
            frames.send(HEADERS, END, 2 * number + 1, &get("/")).unwrap();
            // None before is the last.
            let answered = loop {
                let frame = frames.next().unwrap();
                assert!(frame.kind != GOAWAY || number + 1 == most, "{directive} {number}");
                if frame.kind == HEADERS {
                    break frame.stream;
                }
            };
            assert_eq!(answered, 2 * number + 1);
        }
        // It may come in two steps, of which the first still takes what is on its way.
        let last = loop {
            let (last, code) = end(&mut frames, GOAWAY);
            assert_eq!(code, NO_ERROR);
            if last < u32::MAX >> 1 {
                break last;
            }
        };
        assert_eq!(last, 2 * most - 1, "{directive}");
        let _ = frames.send(HEADERS, END, 2 * most + 1, &get("/"));
        let rest: Vec<u8> = std::iter::from_fn(|| frames.next().ok()).map(|frame| frame.kind).collect();
        assert!(!rest.contains(&HEADERS), "{directive}: one more is answered");
    }
}

/// The status of an answer to a body of this size, of which the client tells the size or does not.
fn posted(addr: SocketAddr, size: usize, is_told: bool) -> u16 {
    run(async {
        let sender = connect(addr).await.ready().await.unwrap();
        let mut asked = request("POST", "/");
        if is_told {
            asked = asked.header("content-length", size);
        }
        let body: &'static [u8] = vec![b'x'; size].leak();
        ask(&sender, asked.body(()).unwrap(), body).await.unwrap().status
    })
}

#[test]
fn body_is_as_large_as_is_allowed() {
    let origin = Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            visit.body(&head)?;
            visit.reply("", "ok")?;
        }
    });
    for buffering in ["on", "off"] {
        let location = format!(
            "proxy_request_buffering {buffering}; location / {{ proxy_pass http://{}; }}",
            origin.addr
        );
        for (directive, most) in [("", 1 << 20), ("client_max_body_size 1k;", 1024)] {
            let proxy = proxy(&format!("{directive} {location}"));
            for is_told in [true, false] {
                let statuses = [most, most + 1].map(|size| posted(proxy.addr(), size, is_told));
                assert_eq!(statuses, [200, 413], "{directive} {buffering} {is_told}");
            }
        }
        let proxy = proxy(&format!("client_max_body_size 0; {location}"));
        assert_eq!(posted(proxy.addr(), (1 << 20) + 1, false), 200, "without a limit");
    }
}

#[test]
fn path_and_value_are_as_long_as_the_larger_buffer() {
    let proxy = proxy("return 204;");
    let is_taken = |path: usize, value: usize| {
        let path = format!("/{}", "x".repeat(path - 1));
        let mut frames = Frames::connect(proxy.addr());
        let head = [get(&path), block(&[("a", &"x".repeat(value))])].concat();
        frames.send(HEADERS, END, 1, &head).unwrap();
        loop {
            match frames.next().unwrap() {
                Frame { kind: HEADERS, .. } => return true,
                Frame { kind: GOAWAY, payload, .. } => {
                    assert_eq!(payload[7], ENHANCE_YOUR_CALM);
                    return false;
                }
                _ => {}
            }
        }
    };
    assert!(is_taken(8192, 0) && is_taken(1, 8192));
    assert!(!is_taken(8193, 0) && !is_taken(1, 8193));
}

#[test]
fn head_has_as_many_fields_as_are_allowed() {
    for (directive, most) in [("", 1000), ("max_headers 3;", 3)] {
        let proxy = proxy(&format!("{directive} location / {{ return 204; }}"));
        // Both statuses are in HPACK's static table.
        for (count, status) in [(most, NO_CONTENT), (most + 1, BAD_REQUEST)] {
            let fields: Vec<(&str, &str)> = std::iter::repeat_n(("b", "1"), count).collect();
            let mut frames = Frames::connect(proxy.addr());
            frames.send(HEADERS, END, 1, &[get("/"), block(&fields)].concat()).unwrap();
            assert_eq!(frames.next_of(HEADERS).unwrap().payload[0], status, "{directive} {count}");
        }
    }
}
