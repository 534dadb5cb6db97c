//! Every fault of a server or client, while the director reloads, is taken over from, drains or is
//! killed: the connection goes on as if nothing had been, or ends in a true beginning.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use l4_proxy::relay::Engine;
use rustix::process::Signal;

use crate::binary::Director;
use crate::faults::{exchange, long, name, reset};
use crate::support::{PATIENCE, Pattern, accept, connect, eventually, free_port, listener, refuse};
use crate::takeover::Successor;

/// What the director goes through.
#[derive(Clone, Copy, Debug)]
enum Event {
    Reload,
    Takeover,
    Term,
}

const EVENTS: [Event; 3] = [Event::Reload, Event::Takeover, Event::Term];

/// Those that differ in how they hold bytes.
const ENGINES: [Engine; 2] = [Engine::Auto, Engine::TokioSplice];

/// One side of the connection, or the other.
const SIDES: [bool; 2] = [true, false];

/// A director with a service, and a connection through it.
struct Scene {
    director: Director,
    successor: Option<Successor>,
    vip: SocketAddr,
    servers: Vec<TcpListener>,
}

impl Scene {
    fn new(engine: Engine, servers: usize) -> Scene {
        let (servers, addresses): (Vec<_>, Vec<_>) = (0..servers).map(|_| listener()).unzip();
        let vip = free_port();
        let mut rules = format!("-A -t {vip} -s rr\n");
        addresses.iter().for_each(|server| rules += &format!("-a -t {vip} -r {server} -m\n"));
        let director = Director::start_with(&rules, |program| {
            let mut command = Command::new(program);
            // However long the streams are.
            command.args(["--relay", name(engine), "--connect-timeout", "0.5", "--drain-timeout", "3600"]);
            command
        });
        Scene { director, successor: None, vip, servers }
    }

    fn pair(&self) -> (TcpStream, TcpStream) {
        (connect(self.vip), accept(&self.servers[0]))
    }

    fn goes_through(&mut self, event: Event) {
        match event {
            Event::Reload => {
                self.director.signal(Signal::HUP);
                eventually("it has reloaded", || self.director.log().contains(" reloaded /"));
            }
            Event::Takeover => {
                self.successor = Some(Successor::start(&self.director, &[]));
                eventually("it is handed over", || self.director.log().contains("connections end here"));
            }
            Event::Term => {
                self.director.signal(Signal::TERM);
                eventually("it drains", || self.director.log().contains("draining"));
            }
        }
    }

    /// The connection has ended: the director has cut nothing, and ends if it is to.
    fn ends(mut self, event: Event) {
        match event {
            Event::Reload => self.director.signal(Signal::TERM),
            Event::Takeover | Event::Term => {}
        }
        assert!(self.director.wait().success(), "{event:?}");
        assert!(!self.director.log().contains("cut"), "{event:?}: {}", self.director.log());
    }

    fn is_killed(&mut self) {
        self.director.signal(Signal::KILL);
        assert!(!self.director.wait().success());
    }
}

/// Plays a fault with every event, engine and side at fault.
fn play(fault: impl Fn(&mut Scene, Event, [TcpStream; 2])) {
    for event in EVENTS {
        for engine in ENGINES {
            for server_is_at_fault in SIDES {
                let mut scene = Scene::new(engine, 1);
                let (client, server) = scene.pair();
                let sides = if server_is_at_fault { [server, client] } else { [client, server] };
                fault(&mut scene, event, sides);
                scene.ends(event);
            }
        }
    }
}

fn send(stream: TcpStream, seed: u64, size: usize) -> JoinHandle<std::io::Result<()>> {
    thread::spawn(move || Pattern::new(seed).write_to(&stream, size))
}

#[test]
fn streams_cross_unharmed() {
    play(|scene, event, [client, server]| {
        let playing = thread::spawn(move || exchange(client, server, long()));
        scene.goes_through(event);
        playing.join().expect("every byte arrived");
    });
}

#[test]
fn reset_in_mid_stream_is_a_reset_to_the_side_that_sends() {
    play(|scene, event, [faulty, other]| {
        let sender = send(other, 1, usize::MAX);
        Pattern::new(1).read_part(&faulty, long() / 2).expect("the beginning");
        scene.goes_through(event);
        reset(faulty);
        let error = sender.join().expect("sent").expect_err("nobody takes the rest");
        assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    });
}

#[test]
fn reset_of_the_side_that_sends_is_a_reset_after_a_true_beginning() {
    play(|scene, event, [faulty, other]| {
        let reader = thread::spawn(move || Pattern::new(2).read_to_the_end(&other));
        Pattern::new(2).write_to(&faulty, long() / 2).expect("sent");
        scene.goes_through(event);
        reset(faulty);
        let (heard, end) = reader.join().expect("read");
        assert_eq!(end, Some(ErrorKind::ConnectionReset), "an end after {heard} bytes");
    });
}

/// A half-close, and what the other side sends after it.
#[test]
fn side_that_has_ended_hears_the_other_to_its_end() {
    play(|scene, event, [faulty, other]| {
        Pattern::new(3).write_to(&faulty, 100_000).expect("sent");
        faulty.shutdown(Shutdown::Write).expect("ended");
        assert_eq!(Pattern::new(3).read_from(&other).expect("heard"), 100_000);
        scene.goes_through(event);
        let sender = send(other, 4, long());
        assert_eq!(Pattern::new(4).read_from(&faulty).expect("heard"), long());
        sender.join().expect("sent").expect("taken");
    });
}

#[test]
fn stalled_reader_gets_every_byte_when_it_reads_again() {
    play(|scene, event, [faulty, other]| {
        let sender = send(other, 5, long());
        // Every buffer on the way is full, or the stream is in them.
        wait_until_held_back(&scene.director, &sender);
        scene.goes_through(event);
        assert_eq!(Pattern::new(5).read_from(&faulty).expect("heard"), long());
        sender.join().expect("sent").expect("taken");
    });
}

/// Until nothing has moved between two looks.
fn wait_until_held_back(director: &Director, sender: &JoinHandle<std::io::Result<()>>) {
    let counted = || director.ipvsadm("-L -n --stats --exact").stdout;
    let mut before = String::new();
    eventually("the sender is held back", || {
        thread::sleep(Duration::from_millis(100));
        let now = counted();
        let still = now == before;
        before = now;
        still || sender.is_finished()
    });
}

#[test]
fn server_that_refuses_or_hangs_is_passed_over() {
    for event in EVENTS {
        for engine in ENGINES {
            for refuses in [true, false] {
                let mut scene = Scene::new(engine, 2);
                // The last added is the first in turn.
                let faulty = scene.servers.pop().expect("two");
                let mut queued = Vec::new();
                if refuses {
                    refuse(&faulty);
                } else {
                    let address = faulty.local_addr().expect("bound");
                    rustix::net::listen(&faulty, 0).expect("a listener");
                    // A full queue drops what comes: the handshake never ends.
                    let fill = || TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok();
                    queued.extend((0..3).map_while(|_| fill()));
                }
                let client = connect(scene.vip);
                scene.goes_through(event);
                exchange(client, accept(&scene.servers[0]), 1_000_000);
                scene.ends(event);
            }
        }
    }
}

/// A stream that the drain's deadline cuts, and a connection that rests.
#[test]
fn connection_that_outlasts_the_drain_is_reset_on_both_sides() {
    for engine in ENGINES {
        let (server, address) = listener();
        let vip = free_port();
        let mut director = Director::start_with(&crate::binary::rules(vip, address), |program| {
            let mut command = Command::new(program);
            command.args(["--relay", name(engine), "--drain-timeout", "0.3"]);
            command
        });
        let (busy, busy_served) = (connect(vip), accept(&server));
        let (idle, idle_served) = (connect(vip), accept(&server));
        let sender = send(busy_served, 8, usize::MAX);
        Pattern::new(8).read_part(&busy, 1_000_000).expect("the beginning");
        director.signal(Signal::TERM);
        let mut rest = vec![0; 1 << 20];
        let end = loop {
            match (&busy).read(&mut rest) {
                Ok(0) => panic!("{engine:?}: an end, which is not true"),
                Ok(_) => {}
                Err(error) => break error.kind(),
            }
        };
        assert_eq!(end, ErrorKind::ConnectionReset);
        sender.join().expect("sent").expect_err("nobody takes it");
        for mut side in [&idle, &idle_served] {
            let heard = side.read(&mut rest).expect_err("an end, which is not true");
            assert_eq!(heard.kind(), ErrorKind::ConnectionReset);
        }
        assert!(director.wait().success());
        assert!(director.log().contains("connections cut connections=2"), "{}", director.log());
    }
}

/// Whatever either side does: when the director is killed, both have a true beginning, and an end.
#[test]
fn killed_director_leaves_true_beginnings() {
    type Fault = fn(&TcpStream);
    let faults: [Fault; 4] = [
        |_| {},
        |faulty| faulty.shutdown(Shutdown::Write).expect("ended"),
        |faulty| faulty.shutdown(Shutdown::Read).expect("ended"),
        // Stalls: it is read only when the director is dead.
        |_| thread::sleep(Duration::from_millis(100)),
    ];
    for engine in ENGINES {
        for (server_is_at_fault, fault) in SIDES.iter().flat_map(|side| faults.map(|fault| (*side, fault))) {
            let mut scene = Scene::new(engine, 1);
            let (client, server) = scene.pair();
            let [faulty, other] = if server_is_at_fault { [server, client] } else { [client, server] };
            let sending = other.try_clone().expect("a descriptor");
            Pattern::new(6).write_to(&faulty, 100_000).expect("sent");
            fault(&faulty);
            let sender = send(sending, 7, usize::MAX);
            Pattern::new(6).read_part(&other, 100_000).expect("all that was sent");
            scene.is_killed();
            let (_, end) = Pattern::new(7).read_to_the_end(&faulty);
            assert!(matches!(end, None | Some(ErrorKind::ConnectionReset)), "{end:?}");
            assert!(sender.join().expect("sent").is_err(), "nobody takes it");
            is_over(&other);
            is_over(&faulty);
        }
    }
}

/// Nothing is heard any more, and nothing can be sent for long.
fn is_over(mut stream: &TcpStream) {
    let mut rest = [0; 4096];
    while stream.read(&mut rest).is_ok_and(|read| read > 0) {}
    let began = Instant::now();
    while stream.write_all(b"x").is_ok() {
        assert!(began.elapsed() < PATIENCE, "somebody is there");
    }
}
