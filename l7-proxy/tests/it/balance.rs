//! How a server of an upstream is chosen, and what becomes of requests that none can be had for.

use std::collections::BTreeSet;
use std::sync::Once;
use std::time::{Duration, Instant};

use crate::peer::{Client, Origin, Proxy, http};

/// A proxy before these servers, which are listed after `directives`.
fn balanced(directives: &str, origins: &[Origin]) -> Proxy {
    let servers: String = origins.iter().map(|origin| format!("server {};", origin.addr)).collect();
    with_servers(&format!("{directives} {servers}"))
}

fn with_servers(block: &str) -> Proxy {
    Proxy::start(&http(&format!(
        "upstream app {{ {block} }}
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://app; }} }}"
    )))
}

fn named() -> Vec<Origin> {
    ["a", "b", "c"].into_iter().map(Origin::named).collect()
}

#[test]
fn requests_of_one_key_go_to_one_server() {
    for directive in ["hash $arg_user;", "hash $arg_user consistent;"] {
        let origins = named();
        let proxy = balanced(directive, &origins);
        let mut used = BTreeSet::new();
        for user in 0..20 {
            let server = |turn| {
                let path = format!("/{turn}?user={user}");
                proxy.get(&path).text().split(' ').next().unwrap().to_owned()
            };
            let first = server(0);
            assert!((1..4).all(|turn| server(turn) == first), "{directive} user {user}");
            used.insert(first);
        }
        assert!(used.len() > 1, "{directive} {used:?}");
    }
}

#[test]
fn client_stays_on_its_server_by_its_address() {
    let origins = named();
    let proxy = balanced("ip_hash;", &origins);
    let first = proxy.get("/").text().to_owned();
    assert!((0..10).all(|_| proxy.get("/").text() == first));
}

#[test]
fn busy_server_gets_no_further_request_while_another_has_fewer() {
    let origins: Vec<Origin> = ["slow", "fast"].into_iter().map(stopping_at_wait).collect();
    let proxy = balanced("least_conn;", &origins);
    let mut waiting = proxy.client();
    waiting.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    crate::peer::eventually("the request is there", || {
        origins.iter().any(|origin| origin.requests().len() == 1)
    });
    let other = if origins[0].requests().is_empty() { "slow" } else { "fast" };
    for _ in 0..6 {
        assert_eq!(proxy.get("/").text(), other);
    }
}

/// Answers with its name at once, and never where it is asked to wait.
fn stopping_at_wait(name: &'static str) -> Origin {
    Origin::start(move |visit| {
        loop {
            if visit.request()?.contains("/wait") {
                return visit.peer.rest().map(drop);
            }
            visit.reply("", name)?;
        }
    })
}

/// Pauses for so long at its first call: each server is asked once before the times count, and a pause has to
/// be longer than what a busy machine does to the other one.
fn pause_once(long: Duration) -> impl Fn() + Send + Sync + 'static {
    let first = Once::new();
    move || first.call_once(|| std::thread::sleep(long))
}

#[test]
fn server_that_answers_sooner_is_preferred() {
    let pause = pause_once(SLOW);
    let slow = Origin::start(move |visit| {
        loop {
            visit.request()?;
            pause();
            visit.reply("", "slow")?;
        }
    });
    let origins = [slow, Origin::named("fast")];
    let proxy = balanced("least_time header;", &origins);
    (0..20).for_each(|_| drop(proxy.get("/")));
    let [slow, fast] = [origins[0].requests().len(), origins[1].requests().len()];
    assert!(fast > 3 * slow, "slow {slow}, fast {fast}");
}

#[test]
fn server_that_ends_its_answer_sooner_is_preferred_where_the_last_byte_counts() {
    for (directive, counts) in [("least_time header;", false), ("least_time last_byte inflight;", true)] {
        let (long, short) = (pause_once(SLOW), pause_once(SLOW / 3));
        let slow = Origin::start(move |visit| {
            loop {
                visit.request()?;
                visit.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsl")?;
                long();
                visit.write("ow")?;
            }
        });
        let fast = Origin::start(move |visit| {
            loop {
                visit.request()?;
                short();
                visit.reply("", "fast")?;
            }
        });
        let origins = [slow, fast];
        let proxy = balanced(directive, &origins);
        (0..8).for_each(|_| drop(proxy.get("/")));
        let [slow, fast] = [origins[0].requests().len(), origins[1].requests().len()];
        assert_eq!(fast > slow, counts, "{directive} slow {slow}, fast {fast}");
    }
}

#[test]
fn every_way_of_drawing_finds_a_server() {
    for directive in [
        "random;",
        "random two;",
        "random two least_conn;",
        "random two least_time=header;",
        "random two least_time=last_byte;",
    ] {
        let origins = named();
        let proxy = balanced(directive, &origins);
        (0..30).for_each(|_| assert_eq!(proxy.get("/").status, 200, "{directive}"));
        let used = origins.iter().filter(|origin| !origin.requests().is_empty()).count();
        assert!(used > 1, "{directive}");
    }
}

#[test]
fn request_waits_in_line_for_a_server_that_is_full() {
    let origin = Origin::start(|visit| {
        loop {
            visit.request()?;
            std::thread::sleep(Duration::from_millis(200));
            visit.reply("", "served")?;
        }
    });
    let full = format!("server {} max_conns=1;", origin.addr);
    let ask = |proxy: &Proxy| -> Vec<u16> {
        let mut clients: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        let mut statuses: Vec<u16> = clients.iter_mut().map(|client| client.response().status).collect();
        statuses.sort_unstable();
        statuses
    };
    assert_eq!(ask(&with_servers(&full)), [200, 502, 502, 502]);
    assert_eq!(ask(&with_servers(&format!("{full} queue 2;"))), [200, 200, 200, 502]);
    assert_eq!(ask(&with_servers(&format!("{full} queue 3;"))), [200, 200, 200, 200]);
    let began = Instant::now();
    let statuses = ask(&with_servers(&format!("{full} queue 3 timeout=20ms;")));
    assert_eq!(statuses, [200, 502, 502, 502]);
    assert!(began.elapsed() >= Duration::from_millis(20));
}

#[test]
fn repetitions_have_a_budget() {
    // Servers that fail after they were asked: repeating everything would ask them all.
    let origins: Vec<Origin> = (0..3).map(|_| Origin::start(|visit| visit.request().map(drop))).collect();
    let servers: String =
        origins.iter().map(|origin| format!("server {} max_fails=0;", origin.addr)).collect();
    let proxy = with_servers(&servers);
    let mut clients: Vec<Client> = (0..40).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    assert!(clients.iter_mut().all(|client| client.response().status == 502));
    let asked: usize = origins.iter().map(|origin| origin.requests().len()).sum();
    assert!((40..120).contains(&asked), "{asked}");
}

/// What the slow server takes: so much longer than the other that a busy machine does not make it up.
const SLOW: Duration = Duration::from_millis(900);
