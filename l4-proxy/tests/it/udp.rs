//! Datagrams through a director in the process of the test.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use l4_proxy::daemon::{Daemon, Options};
use l4_proxy::probe::Schedule;
use lvs_core::{
    Algorithm, Condition, Config, Persistence, PersistenceEngine, ServerConfig, ServiceConfig, ServiceKey,
    Weight,
};
use lvsadm::ConnectionState;

use crate::support::{PATIENCE, eventually, free_port};

/// A server that answers each datagram with its name, the port it came from, and the datagram.
struct Echo {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn start(address: SocketAddr, name: u8) -> Echo {
        let socket = UdpSocket::bind(address).expect("a free port");
        let address = socket.local_addr().expect("bound");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("open");
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut datagram = vec![0; 65_536];
            while !stopping.load(Ordering::SeqCst) {
                let Ok((len, from)) = socket.recv_from(&mut datagram) else { continue };
                let mut answer = vec![name];
                answer.extend(from.port().to_be_bytes());
                answer.extend(&datagram[..len]);
                let _ = socket.send_to(&answer, from);
            }
        });
        Echo { address, stop, thread: Some(thread) }
    }

    fn new(name: u8) -> Echo {
        Echo::start(loopback(), name)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// An address of loopback that nobody receives datagrams on.
fn client(vip: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((vip.ip(), 0)).expect("a free port");
    socket.connect(vip).expect("a route");
    socket.set_read_timeout(Some(PATIENCE)).expect("open");
    socket
}

/// What comes back for a datagram: who answered, from which port of the director it was asked, and the
/// datagram.
fn ask(client: &UdpSocket, datagram: &[u8]) -> (u8, u16, Vec<u8>) {
    client.send(datagram).expect("open");
    let mut answer = vec![0; 65_536];
    let len = client.recv(&mut answer).expect("an answer");
    (answer[0], u16::from_be_bytes([answer[1], answer[2]]), answer[3..len].to_vec())
}

fn asked(client: &UdpSocket) -> u8 {
    ask(client, b"?").0
}

/// Sends until somebody answers: a datagram may be lost where a server has just gone.
fn insists(client: &UdpSocket) -> u8 {
    client.set_read_timeout(Some(Duration::from_millis(100))).expect("open");
    for _ in 0..100 {
        let _ = client.send(b"?");
        let mut answer = [0; 8];
        if client.recv(&mut answer).is_ok() {
            return answer[0];
        }
    }
    panic!("nobody answers");
}

fn service(vip: SocketAddr, servers: &[SocketAddr]) -> ServiceConfig {
    let service = ServiceConfig::new(ServiceKey::udp(vip), Algorithm::Rr);
    servers.iter().fold(service, |service, server| service.server(ServerConfig::new(*server)))
}

fn quiet() -> Options {
    Options { workers: 2, probes: None, ..Options::default() }
}

fn start(options: Options, service: ServiceConfig) -> Daemon {
    Daemon::start(options, serving(service)).expect("a valid configuration")
}

fn serving(service: ServiceConfig) -> Config {
    Config { services: vec![service] }
}

fn servers(director: &Daemon) -> Vec<lvs_core::ServerStats> {
    director.director().stats()[0].servers.clone()
}

#[test]
fn flow_stays_with_its_server_and_flows_take_turns() {
    let (a, b) = (Echo::new(b'a'), Echo::new(b'b'));
    let vip = free_port();
    let director = start(quiet(), service(vip, &[a.address, b.address]));
    let clients: Vec<UdpSocket> = (0..6).map(|_| client(vip)).collect();
    let first: Vec<u8> = clients.iter().map(asked).collect();
    assert_eq!(first, b"bababa");
    let ports: Vec<u16> = clients.iter().map(|client| ask(client, b"").1).collect();
    assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 6, "each flow has a port of its own");
    for (index, client) in clients.iter().enumerate() {
        for size in [0, 1, 1_472, 9_000, 60_000] {
            let datagram: Vec<u8> = (0..size).map(|byte: usize| (byte % 251) as u8).collect();
            assert!(ask(client, &datagram) == (first[index], ports[index], datagram), "{size} bytes");
        }
    }
    let load = servers(&director)[0].load;
    assert_eq!((load.active, load.inactive), (0, 3), "flows count as inactive, as in IPVS");
}

#[test]
fn datagrams_and_bytes_are_counted_both_ways() {
    let a = Echo::new(b'a');
    let vip = free_port();
    let director = start(quiet(), service(vip, &[a.address]));
    let client = client(vip);
    ask(&client, b"12345");
    ask(&client, b"");
    let a = &servers(&director)[0];
    assert_eq!((a.connections, a.packets_in, a.bytes_in), (1, 2, 5));
    eventually("the answers are counted", || {
        let a = &servers(&director)[0];
        (a.packets_out, a.bytes_out) == (2, 5 + 2 * 3)
    });
}

#[test]
fn flow_is_listed_as_ipvs_lists_it() {
    let a = Echo::new(b'a');
    let vip = free_port();
    let director = start(quiet(), service(vip, &[a.address]));
    let client = client(vip);
    asked(&client);
    let listed = director.control().connections();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].state, listed[0].protocol), (ConnectionState::Udp, lvs_core::Protocol::Udp));
    let ends = (listed[0].client, listed[0].virtual_address, listed[0].server);
    assert_eq!(ends, (client.local_addr().expect("bound"), vip, a.address));
    assert!((295..=300).contains(&listed[0].expires.as_secs()), "{:?}", listed[0].expires);
}

#[test]
fn silent_flow_ends_after_the_timeout_that_is_set() {
    let a = Echo::new(b'a');
    let vip = free_port();
    let director = start(quiet(), service(vip, &[a.address]));
    asked(&client(vip));
    assert_eq!(director.flows().count(), 1);
    let mut timeouts = director.control().timeouts();
    timeouts.udp = Duration::from_secs(1);
    director.control().set_timeouts(timeouts).expect("it can be set");
    eventually("the flow has ended", || director.flows().count() == 0);
    assert_eq!(servers(&director)[0].load.total(), 0);
}

#[test]
fn persistent_client_reaches_one_server_from_every_port() {
    let (a, b) = (Echo::new(b'a'), Echo::new(b'b'));
    let vip = free_port();
    let mut sticky = service(vip, &[a.address, b.address]);
    sticky.persistence = Some(Persistence::new(Duration::from_secs(60)).expect("a valid timeout"));
    let director = start(quiet(), sticky);
    let names: BTreeSet<u8> = (0..6).map(|_| asked(&client(vip))).collect();
    assert_eq!(names.len(), 1);
    eventually("the answers made the template sure", || {
        director.director().templates(l4_proxy::clock::now()).iter().all(|template| template.assured)
    });
}

/// A request of the call of this name.
fn request(call: &str) -> Vec<u8> {
    format!("OPTIONS sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP client\r\nCall-ID: {call}\r\n\r\n")
        .into()
}

/// Two servers for SIP calls, whichever client they come from (`-p 60 -M 0.0.0.0 --pe sip`).
fn phones(vip: SocketAddr, servers: &[SocketAddr]) -> ServiceConfig {
    let mut phones = service(vip, servers);
    let rule = Persistence::new(Duration::from_secs(60)).expect("a valid timeout");
    phones.persistence = Some(rule.mask([0, 0, 0, 0].into()).engine(PersistenceEngine::Sip));
    phones
}

#[test]
fn sip_call_reaches_one_server_from_every_client_and_calls_take_turns() {
    let (a, b) = (Echo::new(b'a'), Echo::new(b'b'));
    let vip = free_port();
    let director = start(quiet(), phones(vip, &[a.address, b.address]));
    // Kept, so that none gets the port of one before it, whose flow goes on.
    let mut clients = Vec::new();
    for (call, expected) in [("one@host", b'b'), ("two@host", b'a'), ("one@host", b'b'), ("two@host", b'a')] {
        for _ in 0..3 {
            let client = client(vip);
            assert_eq!(ask(&client, &request(call)).0, expected, "{call}");
            clients.push(client);
        }
    }
    let mut calls: Vec<_> = director.director().templates(l4_proxy::clock::now());
    calls.sort_by(|one, other| one.session.cmp(&other.session));
    let names: Vec<_> = calls.iter().filter_map(|template| template.session.as_deref()).collect();
    assert_eq!(names, [&b"one@host"[..], &b"two@host"[..]]);
}

#[test]
fn sip_calls_of_one_client_part_with_one_packet_scheduling_only() {
    let (a, b) = (Echo::new(b'a'), Echo::new(b'b'));
    let vip = free_port();
    let mut alone = phones(vip, &[a.address, b.address]);
    let director = start(quiet(), alone.clone());
    let exchange = client(vip);
    let play = || -> String {
        ["1", "2", "2", "1"].iter().map(|call| char::from(ask(&exchange, &request(call)).0)).collect()
    };
    assert_eq!(play(), "bbbb", "a flow stays where it is");
    alone.one_packet = true;
    director.reload(serving(alone)).expect("valid");
    let together = play();
    assert!(["baab", "abba"].contains(&&*together), "{together}");
}

#[test]
fn datagram_that_names_no_sip_call_is_dropped_and_counted() {
    let a = Echo::new(b'a');
    let vip = free_port();
    let director = start(quiet(), phones(vip, &[a.address]));
    let client = client(vip);
    client.send(b"no SIP at all").expect("open");
    eventually("it is counted", || director.director().stats()[0].refused == 1);
    assert_eq!(ask(&client, &request("one@host")).0, b'a');
}

#[test]
fn one_packet_scheduling_gives_every_datagram_its_turn_and_keeps_no_connection() {
    let (a, b) = (Echo::new(b'a'), Echo::new(b'b'));
    let vip = free_port();
    let mut alone = service(vip, &[a.address, b.address]);
    alone.one_packet = true;
    let director = start(quiet(), alone.clone());
    let client = client(vip);
    let names: Vec<u8> = (0..6).map(|_| asked(&client)).collect();
    assert_eq!(names, b"bababa");
    for server in servers(&director) {
        assert_eq!((server.load.total(), server.connections, server.packets_in), (0, 3, 3));
    }
    assert!(director.control().connections().is_empty());
    // It can be switched off while it runs.
    alone.one_packet = false;
    director.reload(serving(alone)).expect("valid");
    let names: BTreeSet<u8> = (0..4).map(|_| asked(&client)).collect();
    assert_eq!(names.len(), 1);
}

#[test]
fn dead_server_is_found_by_its_icmp_error_and_the_flow_moves() {
    let alive = Echo::new(b'a');
    let (vip, dead) = (free_port(), free_port());
    let mut wanted = service(vip, &[alive.address, dead]);
    wanted.health.passive = None;
    let director = start(quiet(), wanted);
    // The newest server is asked first, as in IPVS.
    let client = client(vip);
    assert_eq!(insists(&client), b'a');
    assert_eq!(asked(&client), b'a');
    assert_eq!(servers(&director)[1].connections, 1);
}

#[test]
fn failures_eject_a_dead_server() {
    let alive = Echo::new(b'a');
    let (vip, dead) = (free_port(), free_port());
    let director = start(quiet(), service(vip, &[alive.address, dead]));
    eventually("it is ejected", || {
        let _ = client(vip).send(b"?");
        matches!(servers(&director)[1].condition, Condition::Ejected { .. })
    });
    for _ in 0..4 {
        assert_eq!(asked(&client(vip)), b'a');
    }
}

#[test]
fn flow_leaves_a_server_that_probes_find_down() {
    let fast = Duration::from_millis(50);
    let mut options = Options { probes: Some(Schedule { interval: fast, timeout: fast }), ..quiet() };
    options.health.passive = None;
    let (a, b) = (Echo::new(b'a'), Echo::new(b'b'));
    let vip = free_port();
    let director = start(options, service(vip, &[a.address, b.address]));
    let client = client(vip);
    assert_eq!(asked(&client), b'b');
    let address = b.address;
    drop(b);
    eventually("b is down", || matches!(servers(&director)[1].condition, Condition::Down { .. }));
    assert_eq!(asked(&client), b'a');
    let _b = Echo::start(address, b'b');
    eventually("b is up", || servers(&director)[1].condition == Condition::Up);
    assert_eq!(asked(&client), b'a', "it does not go back by itself");
}

#[test]
fn at_the_bound_who_was_answered_stays_and_who_was_not_gives_way() {
    let a = Echo::new(b'a');
    let silent = UdpSocket::bind(loopback()).expect("a free port");
    let vip = free_port();
    let options = Options { workers: 1, flows_max: 2, ..quiet() };
    let mut wanted = service(vip, &[a.address, silent.local_addr().expect("bound")]);
    let director = start(options, wanted.clone());
    let unheard = client(vip);
    unheard.send(b"to the silent one").expect("open");
    eventually("it has a flow", || director.flows().count() == 1);
    let (first, second, third) = (client(vip), client(vip), client(vip));
    assert_eq!(asked(&first), b'a');
    wanted.servers[1].weight = Weight::ZERO;
    director.reload(serving(wanted)).expect("valid");
    assert_eq!(asked(&second), b'a', "the flow that nobody answered made room");
    assert_eq!(director.flows().count(), 2);
    let counted = servers(&director)[0].connections;
    third.send(b"?").expect("open");
    third.set_read_timeout(Some(Duration::from_millis(200))).expect("open");
    assert_eq!(third.recv(&mut [0]).expect_err("no room").kind(), ErrorKind::WouldBlock);
    assert_eq!(servers(&director)[0].connections, counted, "who is not served is not scheduled");
    assert_eq!((asked(&first), asked(&second)), (b'a', b'a'));
}

#[test]
fn reply_comes_from_the_address_that_was_asked() {
    let a = Echo::new(b'a');
    let port = free_port().port();
    let wildcard = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let _director = start(quiet(), service(wildcard, &[a.address]));
    // A connected socket hears of nobody else.
    for last in [1, 2, 77] {
        let vip = SocketAddr::from(([127, 0, 0, last], port));
        let client = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        client.connect(vip).expect("a route");
        client.set_read_timeout(Some(PATIENCE)).expect("open");
        assert_eq!(asked(&client), b'a');
    }
}

#[test]
fn datagrams_go_through_over_ipv6() {
    let Ok(probe) = UdpSocket::bind("[::1]:0") else {
        return crate::support::skip("IPv6 on loopback");
    };
    let vip = probe.local_addr().expect("bound");
    drop(probe);
    let a = Echo::start("[::1]:0".parse().expect("an address"), b'a');
    let _director = start(quiet(), service(vip, &[a.address]));
    let client = client(vip);
    let large = vec![7; 20_000];
    assert_eq!(ask(&client, &large).2, large);
}

#[test]
fn reload_keeps_flows_and_a_deleted_service_lets_them_go_on() {
    let (a, b) = (Echo::new(b'a'), Echo::new(b'b'));
    let (vip, other) = (free_port(), free_port());
    let director = start(quiet(), service(vip, &[a.address]));
    let old = client(vip);
    let (_, port, _) = ask(&old, b"?");
    director.reload(serving(service(vip, &[b.address]))).expect("valid");
    assert_eq!((asked(&old), asked(&client(vip))), (b'a', b'b'));
    // The service goes: its flows go on, and nobody else is served.
    director.reload(serving(service(other, &[b.address]))).expect("valid");
    assert_eq!(ask(&old, b"?").1, port);
    let late = client(vip);
    late.send(b"?").expect("open");
    late.set_read_timeout(Some(Duration::from_millis(200))).expect("open");
    assert!(late.recv(&mut [0]).is_err());
    // It comes back, and they are still there.
    director.reload(serving(service(vip, &[b.address]))).expect("the address is not in its own way");
    assert_eq!(ask(&old, b"?").1, port);
    assert_eq!(asked(&client(vip)), b'b');
}

#[test]
fn address_of_a_deleted_service_is_free_once_its_flows_are_silent() {
    let a = Echo::new(b'a');
    let vip = free_port();
    let director = start(quiet(), service(vip, &[a.address]));
    asked(&client(vip));
    director.reload(Config::default()).expect("valid");
    assert!(UdpSocket::bind(vip).is_err(), "the flow still needs it");
    eventually("the address is free", || UdpSocket::bind(vip).is_ok());
    assert_eq!(director.flows().count(), 0);
}

#[test]
fn drain_ends_when_flows_are_silent() {
    let a = Echo::new(b'a');
    let vip = free_port();
    let director = start(quiet(), service(vip, &[a.address]));
    asked(&client(vip));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(director.drain(PATIENCE));
    assert_eq!(director.flows().count(), 0);
}

#[test]
fn burst_of_many_datagrams_goes_through_whole() {
    let a = Echo::new(b'a');
    let vip = free_port();
    let _director = start(Options { workers: 1, ..quiet() }, service(vip, &[a.address]));
    let client = client(vip);
    // Small enough that no queue on the way overflows.
    for round in 0..20_u8 {
        let mut numbers = BTreeSet::new();
        for number in 0..60_u8 {
            client.send(&[round, number]).expect("open");
        }
        for _ in 0..60 {
            let mut answer = [0; 8];
            assert_eq!(client.recv(&mut answer).expect("an answer"), 5);
            assert_eq!(answer[3], round);
            numbers.insert(answer[4]);
        }
        assert_eq!(numbers.len(), 60);
    }
}
