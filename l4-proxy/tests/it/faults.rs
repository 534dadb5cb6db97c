//! What goes wrong with a server, a client or the director, and what both sides then see: every
//! byte or a true beginning, an end where it was an end, a reset where it was cut.
//!
//! Streams are seeded, so a byte out of place is a failure. `FAULT_BYTES=1073741824` makes the long
//! ones as long as one likes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use l4_proxy::Settings;
use l4_proxy::relay::Engine;
use rustix::process::Signal;

use crate::bench::{Bench, ENGINES};
use crate::binary::{Director, rules};
use crate::support::{Pattern, accept, connect, eventually, free_port, listener, refuse};

/// Length of a stream that fills every buffer on its way several times.
pub(crate) fn long() -> usize {
    std::env::var("FAULT_BYTES").map_or(24_000_000, |bytes| bytes.parse().expect("a number of bytes"))
}

pub(crate) fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an open socket");
}

/// Sends a whole stream each way at once and ends both; each side must have all of the other's.
pub(crate) fn exchange(client: TcpStream, server: TcpStream, size: usize) {
    let play = |stream: TcpStream, sends: u64, hears: u64| {
        thread::spawn(move || {
            let reading = stream.try_clone().expect("a descriptor");
            let reader = thread::spawn(move || Pattern::new(hears).read_from(&reading));
            Pattern::new(sends).write_to(&stream, size).expect("sent");
            stream.shutdown(Shutdown::Write).expect("ended");
            reader.join().expect("read").expect("heard")
        })
    };
    let (client, server) = (play(client, 1, 2), play(server, 2, 1));
    assert_eq!((client.join().expect("played"), server.join().expect("played")), (size, size));
}

#[test]
fn streams_of_every_length_cross_unharmed_after_a_server_refused() {
    for engine in ENGINES {
        for size in [1, 65_535, long()] {
            let bench = Bench::with_servers(Settings { engine, ..Settings::default() }, 2);
            refuse(&bench.servers[1]);
            let (client, server) = bench.pair();
            exchange(client, server, size);
            bench.ends();
        }
    }
}

#[test]
fn client_of_a_server_that_hangs_in_its_handshake_gets_another_in_time() {
    for engine in ENGINES {
        let settings = Settings { engine, connect: Duration::from_millis(200), ..Settings::default() };
        let bench = Bench::with_servers(settings, 2);
        // A full queue drops what comes: the handshake never ends.
        let hanging = bench.servers[1].local_addr().expect("bound");
        rustix::net::listen(&bench.servers[1], 0).expect("a listener");
        let _queued: Vec<_> = (0..3)
            .map_while(|_| TcpStream::connect_timeout(&hanging, Duration::from_millis(100)).ok())
            .collect();
        let (client, server) = bench.pair();
        exchange(client, server, 1_000_000);
        bench.ends();
    }
}

/// One side sends without end and the other resets after a while; the sender must learn of
/// a reset. Then the one that sends resets, and the other must not take the beginning for the whole.
#[test]
fn stream_that_is_cut_ends_in_a_reset_on_the_other_side() {
    for engine in ENGINES {
        for server_cuts in [true, false] {
            let size = long();
            let bench = Bench::new(engine);
            let (client, server) = bench.pair();
            let (cuts, sends) = if server_cuts { (server, client) } else { (client, server) };
            let sender = thread::spawn(move || Pattern::new(3).write_to(&sends, usize::MAX));
            Pattern::new(3).read_part(&cuts, size / 2).expect("the beginning");
            reset(cuts);
            let error = sender.join().expect("sent").expect_err("nobody takes the rest");
            assert!(
                matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
                "{engine:?}: {error}"
            );
            bench.ends();

            let bench = Bench::new(engine);
            let (client, server) = bench.pair();
            let (cuts, hears) = if server_cuts { (server, client) } else { (client, server) };
            let reader = thread::spawn(move || Pattern::new(4).read_to_the_end(&hears));
            Pattern::new(4).write_to(&cuts, size / 2).expect("sent");
            reset(cuts);
            let (heard, end) = reader.join().expect("read");
            assert_eq!(end, Some(ErrorKind::ConnectionReset), "{engine:?}: an end after {heard} bytes");
            assert!(heard <= size / 2);
            bench.ends();
        }
    }
}

#[test]
fn side_that_has_ended_its_stream_hears_the_other_to_its_end() {
    for engine in ENGINES {
        for server_ends in [true, false] {
            let size = long();
            let bench = Bench::new(engine);
            let (client, server) = bench.pair();
            let (ends, goes_on) = if server_ends { (server, client) } else { (client, server) };
            Pattern::new(5).write_to(&ends, 100_000).expect("sent");
            ends.shutdown(Shutdown::Write).expect("ended");
            assert_eq!(Pattern::new(5).read_from(&goes_on).expect("heard"), 100_000, "{engine:?}");
            let sender = thread::spawn(move || Pattern::new(6).write_to(&goes_on, size).expect("sent"));
            assert_eq!(Pattern::new(6).read_from(&ends).expect("heard"), size, "{engine:?}");
            sender.join().expect("sent");
            bench.ends();
        }
    }
}

/// The end of a stream that is still on its way must not overtake its bytes, in no buffer or pipe.
#[test]
fn bytes_on_their_way_to_a_stalled_reader_arrive_before_the_end() {
    for engine in ENGINES {
        for server_stalls in [true, false] {
            let bench = Bench::new(engine);
            let (client, server) = bench.pair();
            let (stalls, sends) = if server_stalls { (server, client) } else { (client, server) };
            let size = long();
            let sender = thread::spawn(move || {
                Pattern::new(7).write_to(&sends, size).expect("sent");
                // Closed both ways: whoever waited to answer is not waited for.
                drop(sends);
            });
            // Nothing is read until every buffer on the way is full.
            eventually("the sender is held back", || {
                let moved =
                    || bench.proxy.connections().list().first().map(|open| open.progress.silent_for());
                moved().is_some_and(|silent| silent > Duration::from_millis(100))
            });
            assert_eq!(Pattern::new(7).read_from(&stalls).expect("heard"), size, "{engine:?}");
            sender.join().expect("sent");
            drop(stalls);
            bench.ends();
        }
    }
}

/// As `--relay` names it.
pub(crate) fn name(engine: Engine) -> &'static str {
    match engine {
        Engine::Auto => "auto",
        Engine::Copy => "copy",
        Engine::Pooled => "pooled",
        Engine::TokioSplice => "tokio-splice",
    }
}

fn director(engine: Engine) -> (Director, TcpListener, std::net::SocketAddr) {
    let (server, server_address) = listener();
    let vip = free_port();
    let director = Director::start_with(&rules(vip, server_address), |program| {
        let mut command = Command::new(program);
        // However long the streams are.
        command.args(["--relay", name(engine), "--drain-timeout", "3600"]);
        command
    });
    (director, server, vip)
}

#[test]
fn streams_cross_unharmed_while_the_director_reloads_and_drains() {
    for engine in ENGINES {
        let (mut director, server, vip) = director(engine);
        let (client, served) = (connect(vip), accept(&server));
        let playing = thread::spawn(move || exchange(client, served, long()));
        director.signal(Signal::HUP);
        eventually("it has reloaded", || director.log().contains(" reloaded /"));
        director.signal(Signal::TERM);
        playing.join().expect("every byte arrived");
        assert!(director.wait().success());
        assert!(!director.log().contains("cut"), "{}", director.log());
    }
}

#[test]
fn killed_director_leaves_a_true_beginning_on_both_sides() {
    for engine in ENGINES {
        let (mut director, server, vip) = director(engine);
        let (client, served) = (connect(vip), accept(&server));
        let sending = served.try_clone().expect("a descriptor");
        let sender = thread::spawn(move || Pattern::new(8).write_to(&sending, usize::MAX));
        Pattern::new(8).read_part(&client, 5_000_000).expect("the beginning");
        director.signal(Signal::KILL);
        assert!(!director.wait().success());
        // The kernel ends or resets what a dead process had open; both must be over.
        let mut rest = vec![0; 1 << 20];
        while (&client).read(&mut rest).is_ok_and(|read| read > 0) {}
        assert!(sender.join().expect("sent").is_err(), "{engine:?}");
        (&served).write_all(b"x").expect_err("nobody is there");
    }
}

#[test]
fn stalled_readers_do_not_grow_the_director() {
    const CONNECTIONS: usize = 40;
    for engine in ENGINES {
        let (director, server, vip) = director(engine);
        let pairs: Vec<_> = (0..CONNECTIONS).map(|_| (connect(vip), accept(&server))).collect();
        let before = director.resident_kib();
        for (client, _) in &pairs {
            client.set_nonblocking(true).expect("open");
        }
        // Pushed until nothing more goes: then every buffer on the way is full.
        let chunk = vec![7; 1 << 20];
        let mut still = 0;
        while still < 5 {
            let push = |mut client: &TcpStream| client.write(&chunk).unwrap_or(0);
            let pushed: usize = pairs.iter().map(|(client, _)| push(client)).sum();
            still = if pushed == 0 { still + 1 } else { 0 };
            thread::sleep(Duration::from_millis(20));
        }
        let grown = director.resident_kib().saturating_sub(before);
        // A connection holds one scratch buffer of 64 KiB at most.
        assert!(grown < 64 * CONNECTIONS + 4096, "{engine:?}: {grown} KiB for {CONNECTIONS} stalled readers");
    }
}
