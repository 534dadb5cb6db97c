//! The director as a value in the process of the test.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use l4_proxy::daemon::{Daemon, Options};
use l4_proxy::probe::Schedule;
use lvs_core::{Algorithm, Condition, Config, Persistence, ServerConfig, ServiceConfig, ServiceKey};

use crate::support::{accept, connect, eventually, free_port, is_free, listener, resets_its_client};

/// A server that greets each client with its name and then echoes.
struct Echo {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn start(address: SocketAddr, name: u8) -> Echo {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                thread::spawn(move || {
                    let _ = (&stream).write_all(&[name]);
                    let _ = std::io::copy(&mut &stream, &mut &stream);
                });
            }
        });
        Echo { address, stop, thread: Some(thread) }
    }

    fn new(name: u8) -> Echo {
        Echo::start(([127, 0, 0, 1], 0).into(), name)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn service(address: SocketAddr, algorithm: Algorithm, servers: &[SocketAddr]) -> ServiceConfig {
    let service = ServiceConfig::new(ServiceKey::tcp(address), algorithm);
    servers.iter().fold(service, |service, server| service.server(ServerConfig::new(*server)))
}

fn serving(services: Vec<ServiceConfig>) -> Config {
    Config { services }
}

fn start(options: Options, services: Vec<ServiceConfig>) -> Daemon {
    Daemon::start(options, serving(services)).expect("a valid configuration")
}

fn quiet() -> Options {
    Options { workers: 2, probes: None, ..Options::default() }
}

/// The name of the server that a new connection reaches.
fn reached(address: SocketAddr) -> u8 {
    let mut name = [0];
    connect(address).read_exact(&mut name).expect("a greeting");
    name[0]
}

#[test]
fn connections_take_turns_over_all_workers() {
    let (a, b) = (Echo::new(b'a'), Echo::new(b'b'));
    let vip = free_port();
    let _director = start(quiet(), vec![service(vip, Algorithm::Rr, &[a.address, b.address])]);
    let names: Vec<u8> = (0..8).map(|_| reached(vip)).collect();
    assert_eq!(names, b"babababa");
}

#[test]
fn dead_server_is_tried_around_and_no_client_sees_it() {
    let alive = Echo::new(b'a');
    let (vip, dead) = (free_port(), free_port());
    let director = start(quiet(), vec![service(vip, Algorithm::Rr, &[dead, alive.address])]);
    for _ in 0..20 {
        assert_eq!(reached(vip), b'a');
    }
    let dead = &director.director().stats()[0].servers[0];
    assert!(matches!(dead.condition, Condition::Ejected { failures: 3, .. }), "{}", dead.condition);
}

#[test]
fn client_is_reset_when_no_server_can_be_reached() {
    let (vip, dead) = (free_port(), free_port());
    let _director = start(quiet(), vec![service(vip, Algorithm::Rr, &[dead])]);
    assert!(resets_its_client(vip));
}

#[test]
fn probe_takes_a_server_out_and_brings_it_back() {
    let fast = Duration::from_millis(50);
    let mut options = Options { probes: Some(Schedule { interval: fast, timeout: fast * 10 }), ..quiet() };
    options.health.passive = None;
    let (a, b) = (Echo::new(b'a'), Echo::new(b'b'));
    let vip = free_port();
    let director = start(options, vec![service(vip, Algorithm::Rr, &[a.address, b.address])]);
    let condition = || director.director().stats()[0].servers[1].condition.clone();
    let address = b.address;
    drop(b);
    eventually("b is down", || matches!(condition(), Condition::Down { failures: 2, .. }));
    assert!(condition().to_string().ends_with("2 × connect refused"), "{}", condition());
    let _b = Echo::start(address, b'b');
    eventually("b is up", || condition() == Condition::Up);
    eventually("b serves", || reached(vip) == b'b');
}

#[test]
fn persistent_client_stays_with_its_server() {
    let (a, b) = (Echo::new(b'a'), Echo::new(b'b'));
    let vip = free_port();
    let mut sticky = service(vip, Algorithm::Rr, &[a.address, b.address]);
    sticky.persistence = Some(Persistence::new(Duration::from_secs(60)).expect("a valid timeout"));
    let _director = start(quiet(), vec![sticky]);
    let first = reached(vip);
    for _ in 0..6 {
        assert_eq!(reached(vip), first);
    }
}

#[test]
fn reload_keeps_open_connections_and_counts() {
    let (a, b) = (Echo::new(b'a'), Echo::new(b'b'));
    let vip = free_port();
    let director = start(quiet(), vec![service(vip, Algorithm::Rr, &[a.address])]);
    let mut client = connect(vip);
    client.read_exact(&mut [0]).expect("a greeting");
    // Its server is taken away, another comes, and the connection goes on.
    director.reload(serving(vec![service(vip, Algorithm::Wlc, &[b.address])])).expect("valid");
    assert_eq!(reached(vip), b'b');
    client.write_all(b"still here").expect("open");
    let mut echoed = [0; 10];
    client.read_exact(&mut echoed).expect("open");
    assert_eq!(&echoed, b"still here");
    // It comes back with its connection.
    director.reload(serving(vec![service(vip, Algorithm::Wlc, &[b.address, a.address])])).expect("valid");
    assert_eq!(director.director().stats()[0].servers[1].load.active, 1);
}

#[test]
fn refused_configuration_changes_nothing() {
    let a = Echo::new(b'a');
    let (vip, other) = (free_port(), free_port());
    let (_held, taken) = listener();
    let before = service(vip, Algorithm::Rr, &[a.address]);
    let director = start(quiet(), vec![before.clone()]);
    // The first of the new services could be bound, the second cannot.
    let wanted =
        vec![service(other, Algorithm::Rr, &[a.address]), service(taken, Algorithm::Rr, &[a.address])];
    let error = director.reload(serving(wanted)).expect_err("a taken port");
    assert!(error.to_string().contains(&format!("cannot listen on {taken}")), "{error}");
    assert_eq!(director.director().config().services[0].key, before.key);
    assert_eq!(reached(vip), b'a');
    assert!(TcpStream::connect(other).is_err(), "a listener was left behind");
}

#[test]
fn foreign_address_is_refused_with_a_hint() {
    let vip = "192.0.2.1:80".parse().expect("an address");
    let error =
        Daemon::start(quiet(), serving(vec![service(vip, Algorithm::Rr, &[])])).err().expect("refused");
    assert!(error.to_string().contains("must be on an interface of this host"), "{error}");
}

#[test]
fn clients_wait_at_the_bound_on_connections_and_are_served_when_one_ends() {
    let a = Echo::new(b'a');
    let vip = free_port();
    let options = Options { workers: 1, connections_max: 2, ..quiet() };
    let director = start(options, vec![service(vip, Algorithm::Rr, &[a.address])]);
    let mut open: Vec<TcpStream> = (0..2).map(|_| connect(vip)).collect();
    for client in &mut open {
        client.read_exact(&mut [0]).expect("a greeting");
    }
    let mut waiting = connect(vip);
    waiting.set_read_timeout(Some(Duration::from_millis(300))).expect("open");
    let error = waiting.read(&mut [0]).expect_err("no server yet");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert_eq!(director.connections().count(), 2);
    open.pop();
    waiting.set_read_timeout(Some(crate::support::PATIENCE)).expect("open");
    waiting.read_exact(&mut [0]).expect("a greeting at last");
}

#[test]
fn drain_lets_connections_end_and_takes_no_new_ones() {
    let (server, server_address) = listener();
    let vip = free_port();
    let director = start(quiet(), vec![service(vip, Algorithm::Rr, &[server_address])]);
    let mut client = connect(vip);
    let mut served = accept(&server);
    let draining = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(director.drain(crate::support::PATIENCE));
        director.connections().count()
    });
    eventually("nobody listens", || is_free(vip));
    assert!(!draining.is_finished(), "a connection is open");
    served.write_all(b"answer").expect("open");
    drop(served);
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("the whole answer");
    assert_eq!(answer, "answer");
    drop(client);
    assert_eq!(draining.join().expect("drained"), 0);
}

/// Packets that came and went of a client that says so many words of a byte, each answered, and goes.
fn packets_of_words(count_packets: bool, words: u64) -> (u64, u64) {
    let (vip, server) = (free_port(), Echo::new(b'a'));
    let mut options = Options { workers: 1, probes: None, ..Options::default() };
    options.settings.count_packets = count_packets;
    let daemon = start(options, vec![service(vip, Algorithm::Rr, &[server.address])]);
    let mut client = connect(vip);
    client.set_nodelay(true).expect("open");
    let mut heard = [0];
    client.read_exact(&mut heard).expect("a name");
    for _ in 0..words {
        client.write_all(b"x").expect("open");
        client.read_exact(&mut heard).expect("an echo");
    }
    drop(client);
    eventually("it ends", || daemon.connections().count() == 0);
    let stats = daemon.director().stats();
    assert_eq!((stats[0].bytes_in, stats[0].bytes_out), (words, words + 1));
    (stats[0].packets_in, stats[0].packets_out)
}

#[test]
fn packets_of_connections_are_counted_where_that_is_asked_for() {
    let (came, went) = packets_of_words(true, 100);
    // SYN, its answer, a packet for each word and for the name; acknowledgements of their own at most.
    assert!((102..=250).contains(&came), "{came}");
    assert!((102..=250).contains(&went), "{went}");
    assert_eq!(packets_of_words(false, 3), (0, 0));
}
