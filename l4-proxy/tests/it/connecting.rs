//! From accept to the first byte: who the client is, which server it gets, from which address.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use l4_proxy::proxy_protocol::{Header, Parsed, Version, parse};
use l4_proxy::{AcceptProxy, Network, Settings, Source};
use lvs_core::Condition;
use socket2::Socket;

use crate::bench::Bench;
use crate::binary::{Director, rules};
use crate::support::{accept, connect, eventually, free_port, listener, resets_its_client};

fn loopback() -> Network {
    Network::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8).expect("a network")
}

fn accepting(deadline: Duration) -> Settings {
    let accept_proxy = Some(AcceptProxy { deadline, ..AcceptProxy::from([loopback()]) });
    Settings { accept_proxy, ..Settings::default() }
}

fn read_exactly(mut stream: &TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).expect("bytes");
    bytes
}

fn is_reset(mut stream: &TcpStream) -> bool {
    stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn server_is_told_the_client_before_anything_else() {
    for version in [Version::V1, Version::V2] {
        let bench = Bench::with(Settings { send_proxy: Some(version), ..Settings::default() });
        let (mut client, mut server) = bench.pair();
        let told = Header::tcp(client.local_addr().expect("open"), bench.address).encode(version);
        assert_eq!(read_exactly(&server, told.len()), told, "{version:?}");
        server.write_all(b"220 ready").expect("sent");
        assert_eq!(read_exactly(&client, 9), b"220 ready");
        client.write_all(b"hello").expect("sent");
        assert_eq!(read_exactly(&server, 5), b"hello");
    }
}

#[test]
fn header_is_taken_off_in_pieces_and_passed_on_with_its_tlvs() {
    let settings = Settings { send_proxy: Some(Version::V2), ..accepting(Duration::from_secs(10)) };
    let bench = Bench::with(settings);
    let mut header = Header::tcp(([192, 0, 2, 7], 4000).into(), ([198, 51, 100, 1], 80).into());
    assert!(header.tlvs.push(5, b"the unique id"));
    let mut client = connect(bench.address);
    client.set_nodelay(true).expect("open");
    for byte in header.encode(Version::V2) {
        client.write_all(&[byte]).expect("sent");
        std::thread::sleep(Duration::from_micros(200));
    }
    client.write_all(b"payload").expect("sent");
    let server = accept(&bench.servers[0]);
    let told = header.encode(Version::V2);
    let heard = read_exactly(&server, told.len() + 7);
    assert_eq!(parse(&heard), Ok(Parsed::Whole(header, told.len())));
    assert!(heard.ends_with(b"payload"));
    let listed = bench.proxy.connections().list();
    assert_eq!(listed[0].client, SocketAddr::from(([192, 0, 2, 7], 4000)));
}

#[test]
fn client_without_the_header_that_is_expected_of_it_is_reset() {
    let bench = Bench::with(accepting(Duration::from_millis(200)));
    let mut liar = connect(bench.address);
    liar.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
    assert!(is_reset(&liar));
    let mut dawdler = connect(bench.address);
    dawdler.write_all(b"PROXY TCP4 192.0.2").expect("sent");
    assert!(is_reset(&dawdler), "the header has a deadline");
    let quitter = connect(bench.address);
    quitter.shutdown(Shutdown::Write).expect("open");
    assert!(is_reset(&quitter));
    bench.ends();
    bench.servers[0].set_nonblocking(true).expect("open");
    let nobody = bench.servers[0].accept().map(|(_, peer)| peer);
    assert_eq!(nobody.map_err(|error| error.kind()), Err(ErrorKind::WouldBlock), "a server was bothered");
}

#[test]
fn header_of_a_stranger_is_passed_on_unread() {
    let elsewhere = "192.0.2.0/24".parse().expect("a network");
    let accept_proxy = Some(AcceptProxy::from([elsewhere]));
    let bench = Bench::with(Settings { accept_proxy, ..Settings::default() });
    let (mut client, server) = bench.pair();
    let forged = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";
    client.write_all(forged).expect("sent");
    assert_eq!(read_exactly(&server, forged.len()), forged);
    assert_eq!(bench.proxy.connections().list()[0].client, client.local_addr().expect("open"));
}

#[test]
fn source_addresses_take_turns_and_useless_ones_are_passed_over() {
    let (a, b) = (Ipv4Addr::new(127, 0, 0, 21), Ipv4Addr::new(127, 0, 0, 22));
    // An address of nobody's (RFC 5737), and one of the other family.
    let addresses =
        vec![a.into(), Ipv4Addr::new(192, 0, 2, 1).into(), "::1".parse().expect("an address"), b.into()];
    let bench = Bench::with(Settings { source: Source::Addresses(addresses), ..Settings::default() });
    let from = || bench.pair().1.peer_addr().expect("open").ip();
    let seen: Vec<IpAddr> = (0..4).map(|_| from()).collect();
    assert_eq!(seen, [a, b, b, b]);
    assert_eq!(from(), a);
}

#[test]
fn server_is_not_blamed_when_no_source_address_has_a_port() {
    let nobodys = vec![Ipv4Addr::new(192, 0, 2, 1).into()];
    let bench =
        Bench::with_servers(Settings { source: Source::Addresses(nobodys), ..Settings::default() }, 2);
    for _ in 0..10 {
        assert!(resets_its_client(bench.address));
    }
    bench.ends();
    for server in &bench.director.stats()[0].servers {
        assert_eq!(server.condition, Condition::Up);
    }
}

#[test]
fn service_lets_in_no_more_connections_than_its_limit_until_one_ends() {
    let bench = Bench::with(Settings { connections_max: Some(2), ..Settings::default() });
    let (first, _served) = bench.pair();
    let (_second, _also_served) = bench.pair();
    let third = connect(bench.address);
    // It waits in the listener's queue.
    third.set_read_timeout(Some(Duration::from_millis(300))).expect("open");
    assert_eq!((&third).read(&mut [0]).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
    assert_eq!(bench.proxy.connections().count(), 2);
    drop((first, _served));
    let mut served = accept(&bench.servers[0]);
    served.write_all(b"x").expect("sent");
    third.set_read_timeout(Some(crate::support::PATIENCE)).expect("open");
    (&third).read_exact(&mut [0]).expect("its turn has come");
}

#[test]
fn client_whose_server_closes_before_its_first_byte_gets_another_if_so_configured() {
    for reset in [false, true] {
        let bench = Bench::with_servers(Settings { redispatch: 1000, ..Settings::default() }, 2);
        let mut client = connect(bench.address);
        client.write_all(b"first half, ").expect("sent");
        let lost = accept(&bench.servers[1]);
        assert_eq!(read_exactly(&lost, 12), b"first half, ");
        if reset {
            socket2::SockRef::from(&lost).set_linger(Some(Duration::ZERO)).expect("open");
        }
        drop(lost);
        let mut server = accept(&bench.servers[0]);
        client.write_all(b"second half").expect("sent");
        client.shutdown(Shutdown::Write).expect("open");
        let mut heard = String::new();
        server.read_to_string(&mut heard).expect("heard");
        assert_eq!(heard, "first half, second half");
        server.write_all(b"answer").expect("sent");
        drop(server);
        heard.clear();
        client.read_to_string(&mut heard).expect("heard");
        assert_eq!(heard, "answer");
        bench.ends();
    }
}

#[test]
fn client_keeps_its_server_once_more_was_sent_than_is_held_or_a_byte_has_come() {
    for spoken in [false, true] {
        let bench = Bench::with_servers(Settings { redispatch: 1000, ..Settings::default() }, 2);
        let mut client = connect(bench.address);
        let mut server = accept(&bench.servers[1]);
        if spoken {
            server.write_all(b"x").expect("sent");
            client.read_exact(&mut [0]).expect("heard");
        } else {
            client.write_all(&[7; 1001]).expect("sent");
            assert_eq!(read_exactly(&server, 1001), [7; 1001]);
        }
        drop(server);
        assert_eq!(client.read(&mut [0]).expect("the end"), 0);
        drop(client);
        bench.ends();
        assert_eq!(bench.director.stats()[0].servers[0].connections, 0);
    }
}

#[test]
fn silent_server_that_ends_after_its_client_did_has_done_its_work() {
    let bench = Bench::with_servers(Settings { redispatch: 1000, ..Settings::default() }, 2);
    let mut client = connect(bench.address);
    client.write_all(b"<13>a line of log\n").expect("sent");
    client.shutdown(Shutdown::Write).expect("open");
    let mut server = accept(&bench.servers[1]);
    let mut heard = String::new();
    server.read_to_string(&mut heard).expect("heard");
    drop(server);
    assert_eq!(client.read(&mut [0]).expect("the end"), 0);
    bench.ends();
    assert_eq!(bench.director.stats()[0].servers[0].connections, 0);
}

#[test]
fn server_that_closes_is_not_replaced_unless_so_configured() {
    let bench = Bench::with_servers(Settings::default(), 2);
    let mut client = connect(bench.address);
    drop(accept(&bench.servers[1]));
    assert_eq!(client.read(&mut [0]).expect("the end"), 0);
    drop(client);
    bench.ends();
    eventually("counted", || bench.director.stats()[0].servers[1].connections == 1);
}

/// As they are set in the program itself, whatever the engine.
#[test]
fn both_legs_send_small_messages_at_once_and_give_up_a_peer_after_the_user_timeout() {
    let (server, server_address) = listener();
    for engine in ["auto", "copy", "pooled", "tokio-splice"] {
        for (words, seconds) in [(&[][..], None), (&["--user-timeout", "7.5"], Some(7_500))] {
            let vip = free_port();
            let director = Director::start_with(&rules(vip, server_address), |program| {
                let mut command = Command::new(program);
                command.args(["--relay", engine]).args(words);
                command
            });
            let client = connect(vip);
            let served = accept(&server);
            // The first message cannot wait for the confirmation of another.
            for _ in 0..2 {
                (&client).write_all(b"x").expect("sent");
                (&served).read_exact(&mut [0]).expect("received");
            }
            let peers = [&client, &served].map(|peer| peer.local_addr().expect("open"));
            let sockets: Vec<Socket> = director.sockets().into_iter().map(Socket::from).collect();
            let legs = peers.map(|peer| {
                let is_leg =
                    |socket: &&Socket| socket.peer_addr().is_ok_and(|own| own.as_socket() == Some(peer));
                sockets.iter().find(is_leg).expect("a leg")
            });
            for leg in legs {
                assert!(leg.tcp_nodelay().expect("open"), "{engine}");
                let given = leg.tcp_user_timeout().expect("open");
                assert_eq!(given, seconds.map(Duration::from_millis), "{engine}");
                // The others ask for it when a connection has been silent for a while.
                assert_eq!(leg.keepalive().expect("open"), engine == "tokio-splice", "{engine}");
            }
        }
    }
}
