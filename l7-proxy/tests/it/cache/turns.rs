//! Who fetches an answer that several want at the same time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::peer::{Client, Origin, Proxy, eventually, http};

/// An origin that answers when it is let.
struct Gated {
    origin: Origin,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Gated {
    fn start() -> Gated {
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let (waits, count) = (Arc::clone(&gate), AtomicUsize::new(0));
        let origin = Origin::start(move |visit| {
            loop {
                visit.request()?;
                let count = count.fetch_add(1, Ordering::SeqCst) + 1;
                let (open, opened) = &*waits;
                let guard = open.lock().unwrap();
                drop(opened.wait_timeout_while(guard, Duration::from_secs(20), |open| !*open).unwrap());
                visit.reply("", &format!("answer {count}"))?;
            }
        });
        Gated { origin, gate }
    }

    fn open(&self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
    }
}

fn proxy(origin: &Origin, content: &str, workers: usize) -> Proxy {
    let text = format!(
        "proxy_cache_path cache levels=2 keys_zone=zone:1m;
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://{}; proxy_cache zone;
         proxy_cache_valid 1h; add_header X-Cache $upstream_cache_status; {content} }} }}",
        origin.addr
    );
    Proxy::start_workers(&http(&text), workers)
}

fn ask(proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client
}

#[test]
fn one_fetches_and_the_others_wait() {
    let gated = Gated::start();
    let proxy = proxy(&gated.origin, "proxy_cache_lock on; proxy_cache_lock_timeout 20s;", 2);
    let mut clients: Vec<_> = (0..8).map(|_| ask(&proxy)).collect();
    eventually("it is asked for", || gated.origin.requests().len() == 1);
    gated.open();
    let mut states: Vec<_> = clients
        .iter_mut()
        .map(|client| {
            let answer = client.response();
            assert_eq!(answer.text(), "answer 1");
            answer.header("X-Cache").unwrap().to_owned()
        })
        .collect();
    states.sort_unstable();
    assert_eq!(states, ["HIT", "HIT", "HIT", "HIT", "HIT", "HIT", "HIT", "MISS"]);
}

#[test]
fn who_has_waited_for_too_long_asks_by_itself() {
    let gated = Gated::start();
    let proxy = proxy(&gated.origin, "proxy_cache_lock on; proxy_cache_lock_timeout 50ms;", 1);
    let mut first = ask(&proxy);
    eventually("it is asked for", || gated.origin.requests().len() == 1);
    let mut second = ask(&proxy);
    eventually("it is asked for again", || gated.origin.requests().len() == 2);
    gated.open();
    let states =
        [&mut first, &mut second].map(|client| client.response().header("X-Cache").map(str::to_owned));
    assert_eq!(states, [Some("MISS".to_owned()), Some("MISS".to_owned())]);
    // What was kept is the first one's.
    assert_eq!(proxy.get("/").text(), "answer 1");
}

#[test]
fn turn_of_who_has_gone_is_the_next_ones() {
    let gated = Gated::start();
    let proxy = proxy(&gated.origin, "proxy_cache_lock on; proxy_cache_lock_timeout 20s;", 1);
    let first = ask(&proxy);
    eventually("it is asked for", || gated.origin.requests().len() == 1);
    let mut second = ask(&proxy);
    drop(first);
    eventually("it is asked for again", || gated.origin.requests().len() == 2);
    gated.open();
    assert_eq!(second.response().text(), "answer 2");
}

#[test]
fn answer_is_kept_whole_though_its_client_goes() {
    let (begun, end) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (told, waits) = (Arc::clone(&begun), Arc::clone(&end));
    let origin = Origin::start(move |visit| {
        visit.request()?;
        visit.write("HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n")?;
        visit.write("x".repeat(100_000))?;
        told.fetch_add(1, Ordering::SeqCst);
        eventually("the client has gone", || waits.load(Ordering::SeqCst) == 1);
        visit.write("y".repeat(100_000))
    });
    let proxy = proxy(&origin, "", 1);
    let mut client = ask(&proxy);
    client.head().unwrap();
    eventually("it has begun", || begun.load(Ordering::SeqCst) == 1);
    drop(client);
    end.store(1, Ordering::SeqCst);
    eventually("it is kept", || proxy.log_size() == Some(200_000));
    let answer = proxy.get("/");
    assert_eq!((answer.header("X-Cache"), answer.body.len()), (Some("HIT"), 200_000));
    assert!(answer.text().ends_with('y') && answer.text().starts_with('x'));
}

#[test]
fn slow_client_gets_all_and_keeps_nobody_waiting() {
    let body: String = (0..400_000_u32).map(|number| char::from(b'a' + (number % 23) as u8)).collect();
    let sent = body.clone();
    let origin = Origin::start(move |visit| {
        loop {
            visit.request()?;
            visit.reply("", &sent.repeat(10))?;
        }
    });
    let proxy = proxy(&origin, "proxy_cache_lock on; proxy_cache_lock_timeout 20s;", 1);
    // It reads nothing of what it has asked for.
    let mut slow = ask(&proxy);
    eventually("it is kept", || proxy.log_size() == Some(4_000_000));
    assert_eq!(proxy.get("/").header("X-Cache"), Some("HIT"));
    assert_eq!(slow.response().text(), body.repeat(10));
}

#[test]
fn answer_that_breaks_off_is_not_kept() {
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |visit| {
        visit.request()?;
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            return visit.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort");
        }
        visit.reply("", "all of it")
    });
    let proxy = proxy(&origin, "", 1);
    let mut client = ask(&proxy);
    assert!(client.try_response().is_err());
    let answer = proxy.get("/");
    assert_eq!((answer.text(), answer.header("X-Cache")), ("all of it", Some("MISS")));
    assert_eq!(proxy.get("/").header("X-Cache"), Some("HIT"));
}

impl Proxy {
    /// The size of the body of the one entry of its cache; `None` while there is none.
    fn log_size(&self) -> Option<usize> {
        let file = super::disk::files(&self.folder.path().join("cache")).pop()?;
        let content = std::fs::read(file).ok()?;
        let at = memchr::memmem::find(&content, b"Content-Length: ")?;
        let head = &content[at..];
        let end = memchr::memmem::find(head, b"\r\n")?;
        Some(head.len() - end - 2)
    }
}
