//! One contract for all engines.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use l4_proxy::relay::{End, Side, Timeouts};
use l4_proxy::{Ended, Outcome, Proxy, Settings};
use lvs_core::{Algorithm, Director, ServerConfig, ServiceConfig, ServiceKey};
use socket2::SockRef;

use crate::bench::{Bench, ENGINES};
use crate::support::{PATIENCE, Pattern, accept, connect, eventually, listener};

#[test]
fn every_byte_arrives_both_ways_and_each_end_is_passed_on_alone() {
    for engine in ENGINES {
        for size in [0, 1, 63, 65_536, 65_537, 1_000_003, 20_000_000] {
            let bench = Bench::new(engine);
            let (client, server) = bench.pair();
            let sending = client.try_clone().expect("a descriptor");
            let sender = thread::spawn(move || {
                Pattern::new(1).write_to(&sending, size).expect("sent");
                sending.shutdown(Shutdown::Write).expect("ended");
            });
            assert_eq!(Pattern::new(1).read_from(&server).expect("received"), size, "{engine:?}");
            sender.join().expect("sent");
            // The client has ended; the server's direction still works.
            let answering = thread::spawn(move || {
                Pattern::new(2).write_to(&server, size).expect("answered");
            });
            assert_eq!(Pattern::new(2).read_from(&client).expect("received"), size, "{engine:?}");
            answering.join().expect("answered");
            bench.ends();
            let stats = &bench.director.stats()[0];
            assert_eq!((stats.bytes_in, stats.bytes_out), (size as u64, size as u64), "{engine:?}");
        }
    }
}

#[test]
fn server_that_speaks_first_is_heard() {
    for engine in ENGINES {
        let bench = Bench::new(engine);
        let (mut client, mut server) = bench.pair();
        server.write_all(b"220 ready\r\n").expect("sent");
        let mut greeting = [0; 11];
        client.read_exact(&mut greeting).expect("heard");
        assert_eq!(&greeting, b"220 ready\r\n", "{engine:?}");
    }
}

#[test]
fn reset_of_either_side_resets_the_other() {
    for engine in ENGINES {
        for side in [Side::Client, Side::Server] {
            let bench = Bench::new(engine);
            let (mut client, mut server) = bench.pair();
            client.write_all(b"x").expect("sent");
            server.read_exact(&mut [0]).expect("received");
            let (resets, mut sees) = match side {
                Side::Client => (client, server),
                Side::Server => (server, client),
            };
            SockRef::from(&resets).set_linger(Some(Duration::ZERO)).expect("an open socket");
            drop(resets);
            let error = sees.read(&mut [0]).expect_err("a reset, not an end");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{engine:?} {side:?}");
            bench.ends();
        }
    }
}

#[test]
fn slow_reader_holds_back_its_sender_and_loses_nothing() {
    const SIZE: usize = 48_000_000;
    for engine in ENGINES {
        let bench = Bench::new(engine);
        let (client, server) = bench.pair();
        let sender = thread::spawn(move || {
            Pattern::new(3).write_to(&client, SIZE).expect("sent");
            client
        });
        // Nobody reads yet: what the sender gets rid of is what the sockets hold.
        let moved =
            || bench.proxy.connections().list().first().map_or(0, |open| open.progress.bytes_to_server());
        let mut before = u64::MAX;
        eventually("the sender is held back", || {
            thread::sleep(Duration::from_millis(100));
            let now = moved();
            let still = now == before;
            before = now;
            still
        });
        assert!(!sender.is_finished(), "{engine:?}: everything fitted, so nothing was held back");
        let reader = thread::spawn(move || Pattern::new(3).read_from(&server).expect("received"));
        drop(sender.join().expect("sent"));
        assert_eq!(reader.join().expect("received"), SIZE, "{engine:?}");
        bench.ends();
    }
}

#[test]
fn every_byte_arrives_where_pipes_are_small_or_none_is_to_be_had() {
    const SIZE: usize = 8_000_000;
    for (user, pages) in [(54_011, 0), (54_012, 2 * 16), (54_013, 5 * 16)] {
        let done = lab::with_pages_of_pipes(user, pages, || {
            for engine in ENGINES {
                // Its worker is this user's, too.
                let bench = Bench::new(engine);
                let pairs: Vec<_> = (0..3).map(|_| bench.pair()).collect();
                thread::scope(|scope| {
                    for (client, server) in &pairs {
                        for (from, to) in [(client, server), (server, client)] {
                            scope.spawn(|| {
                                Pattern::new(4).write_to(from, SIZE).expect("sent");
                                from.shutdown(Shutdown::Write).expect("ended");
                            });
                            let received = scope.spawn(|| Pattern::new(4).read_from(to).expect("received"));
                            scope.spawn(move || {
                                assert_eq!(
                                    received.join().expect("received"),
                                    SIZE,
                                    "{engine:?}, {pages} pages"
                                );
                            });
                        }
                    }
                });
                bench.ends();
                let stats = &bench.director.stats()[0];
                let all = (pairs.len() * SIZE) as u64;
                assert_eq!((stats.bytes_in, stats.bytes_out), (all, all), "{engine:?}, {pages} pages");
            }
        });
        if done.is_none() {
            return;
        }
    }
}

#[test]
fn silence_ends_a_connection_and_bytes_put_it_off() {
    let short = Duration::from_millis(1200);
    for engine in ENGINES {
        let timeouts = Timeouts { idle: short, half_closed: PATIENCE };
        let bench = Bench::with(Settings { engine, timeouts, ..Settings::default() });
        let (mut client, mut server) = bench.pair();
        for _ in 0..5 {
            thread::sleep(short / 4);
            client.write_all(b"x").expect("still open");
            server.read_exact(&mut [0]).expect("still open");
        }
        let error = client.read(&mut [0]).expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{engine:?}");
        bench.ends();
    }
}

#[test]
fn half_closed_connection_has_a_timeout_of_its_own() {
    let short = Duration::from_millis(300);
    for engine in ENGINES {
        for client_ends in [true, false] {
            let timeouts = Timeouts { idle: PATIENCE, half_closed: short };
            let bench = Bench::with(Settings { engine, timeouts, ..Settings::default() });
            let (client, server) = bench.pair();
            let (mut ends, mut stays) = if client_ends { (client, server) } else { (server, client) };
            let began = Instant::now();
            ends.shutdown(Shutdown::Write).expect("ended");
            assert_eq!(stays.read(&mut [0]).expect("the end"), 0);
            // What still moves puts it off.
            thread::sleep(short / 2);
            stays.write_all(b"x").expect("still open");
            ends.read_exact(&mut [0]).expect("still open");
            let error = ends.read(&mut [0]).expect_err("a reset");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{engine:?}");
            assert!(began.elapsed() >= short + short / 2 - Duration::from_millis(20), "{engine:?}");
            bench.ends();
        }
    }
}

#[test]
fn half_closed_connection_counts_as_inactive() {
    for engine in ENGINES {
        let bench = Bench::new(engine);
        let (client, mut server) = bench.pair();
        let load = || bench.director.stats()[0].servers[0].load;
        eventually("counted", || (load().active, load().inactive) == (1, 0));
        client.shutdown(Shutdown::Write).expect("ended");
        assert_eq!(server.read(&mut [0]).expect("the end"), 0);
        eventually("counted as inactive", || (load().active, load().inactive) == (0, 1));
    }
}

#[test]
fn outcome_names_the_side_that_failed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (server, server_address) = listener();
    let (entrance, address) = listener();
    let director = Arc::new(Director::new());
    let service = ServiceKey::name("outcome");
    let config = ServiceConfig::new(service.clone(), Algorithm::Rr).server(ServerConfig::new(server_address));
    director.add_service(config).expect("a valid service");
    let proxy = Proxy::new(director, service, Settings::default());
    let playing = thread::spawn(move || {
        let mut client = connect(address);
        let mut server = accept(&server);
        // Only once the relay runs; before that the reset would be a failed connect.
        client.write_all(b"x").expect("sent");
        server.read_exact(&mut [0]).expect("received");
        SockRef::from(&server).set_linger(Some(Duration::ZERO)).expect("an open socket");
        drop(server);
        client
    });
    let (accepted, peer) = entrance.accept().expect("a client");
    accepted.set_nonblocking(true).expect("an open socket");
    let outcome: Outcome = runtime.block_on(async {
        let accepted = tokio::net::TcpStream::from_std(accepted).expect("a stream");
        proxy.handle(accepted, peer).await
    });
    drop(playing.join());
    assert!(
        matches!(&outcome.ended, Ended::Relayed(server, End::Failed(Side::Server, _)) if *server == server_address),
        "{outcome:?}"
    );
}

/// Whoever's listener it is, and whoever has accepted the connection.
#[test]
fn small_answers_do_not_wait_for_an_embedders_clients() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let nobody = || Proxy::new(Arc::default(), ServiceKey::name("nobody"), Settings::default());
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let client = tokio::net::TcpStream::connect(listener.local_addr().expect("bound"));
        let (_client, accepted) = tokio::join!(client, listener.accept());
        let (accepted, peer) = accepted.expect("a client");
        let held = accepted.as_fd().try_clone_to_owned().expect("a descriptor");
        nobody().handle(accepted, peer).await;
        assert!(SockRef::from(&held).tcp_nodelay().expect("open"), "handle");
        let held = listener.as_fd().try_clone_to_owned().expect("a descriptor");
        nobody().serve(listener, std::future::ready(())).await;
        assert!(SockRef::from(&held).tcp_nodelay().expect("open"), "serve");
    });
}
