//! What a successor knows and has of the director before it, and what its clients notice.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::binary::Director;
use crate::keepalived::program::{Server, any, ask, server, service};
use crate::support::{PATIENCE, accept, connect, eventually, free_port, is_closed, listener};
use crate::takeover::Successor;

/// Answers every datagram with its own name and the port that it came from.
fn tell(name: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("bound");
    thread::spawn(move || {
        while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
            let _ = socket.send_to(format!("{name} {}", from.port()).as_bytes(), from);
        }
    });
    address
}

fn client(vip: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(PATIENCE)).expect("open");
    socket.connect(vip).expect("a route");
    socket
}

fn question(client: &UdpSocket) -> String {
    client.send(b"who?").expect("sent");
    let mut answer = [0; 64];
    let len = client.recv(&mut answer).expect("answered");
    String::from_utf8_lossy(&answer[..len]).into_owned()
}

fn take_over(director: &Director, more: &[&str]) -> Successor {
    let successor = Successor::start(director, more);
    eventually("it is handed over", || director.log().contains("handed over; connections end here"));
    successor
}

#[test]
fn clients_of_datagrams_stay_with_their_servers_and_servers_see_the_same_port() {
    let servers = [tell("a"), tell("b"), tell("c")];
    let vip = free_port();
    let mut rules = format!("-A -u {vip} -s rr\n");
    servers.iter().for_each(|server| rules += &format!("-a -u {vip} -r {server} -m\n"));
    let mut director = Director::start(&rules);
    assert_eq!(director.ipvsadm("--set 0 0 100").code, 0);
    let clients: Vec<UdpSocket> = (0..200).map(|_| client(vip)).collect();
    let before: Vec<String> = clients.iter().map(question).collect();
    let _successor = take_over(&director, &[]);
    let after: Vec<String> = clients.iter().map(question).collect();
    assert_eq!(after, before);
    // Without anything left the old one ends, and the flows go on.
    assert!(director.wait().success());
    assert!(!director.log().contains("cut"), "{}", director.log());
    assert_eq!(clients.iter().map(question).collect::<Vec<_>>(), before);
    let listed = director.ipvsadm("-L -n -c").stdout;
    assert_eq!(listed.lines().filter(|line| line.starts_with("UDP")).count(), clients.len(), "{listed}");
    let load = director.ipvsadm("-L -n").stdout;
    assert!(load.contains("1      0          67"), "the flows are counted at their servers: {load}");
}

#[test]
fn takeover_of_a_takeover_keeps_flows_too() {
    let server = [tell("a"), tell("b")];
    let vip = free_port();
    let rules =
        format!("-A -u {vip} -s rr\n-a -u {vip} -r {} -m\n-a -u {vip} -r {} -m\n", server[0], server[1]);
    let mut director = Director::start(&rules);
    let clients: Vec<UdpSocket> = (0..10).map(|_| client(vip)).collect();
    let before: Vec<String> = clients.iter().map(question).collect();
    let mut first = take_over(&director, &["--workers", "1"]);
    assert!(director.wait().success());
    assert_eq!(clients.iter().map(question).collect::<Vec<_>>(), before);
    let second = Successor::start(&director, &["--workers", "3"]);
    assert!(first.0.wait().expect("it ends").success());
    assert_eq!(clients.iter().map(question).collect::<Vec<_>>(), before);
    kill_process(Pid::from_child(&second.0), Signal::TERM).expect("it runs");
}

#[test]
fn flows_stay_where_they_were_when_the_successor_fails() {
    let server = [tell("a"), tell("b")];
    let vip = free_port();
    let rules =
        format!("-A -u {vip} -s rr\n-a -u {vip} -r {} -m\n-a -u {vip} -r {} -m\n", server[0], server[1]);
    let director = Director::start(&rules);
    let clients: Vec<UdpSocket> = (0..10).map(|_| client(vip)).collect();
    let before: Vec<String> = clients.iter().map(question).collect();
    // It cannot have its metrics where somebody listens.
    let (_listener, taken) = listener();
    let taken = taken.to_string();
    let mut successor = Successor::start(&director, &["--metrics", &taken]);
    assert_eq!(successor.0.wait().expect("it ends").code(), Some(1));
    eventually("the director goes on", || {
        director.log().contains("not handed over, still serving as before")
    });
    assert_eq!(clients.iter().map(question).collect::<Vec<_>>(), before);
}

#[test]
fn ejected_server_is_left_alone_and_draining_one_ends_at_its_deadline() {
    let (served, good) = listener();
    let refusing = free_port();
    let [udp_a, udp_b] = [tell("a"), tell("b")];
    let (web, dns) = (free_port(), free_port());
    let director = Director::start(&format!(
        "-A -t {web} -s rr\n-a -t {web} -r {good} -m\n-a -t {web} -r {refusing} -m\n\
         -A -u {dns} -s rr\n-a -u {dns} -r {udp_a} -m\n-a -u {dns} -r {udp_b} -m\n"
    ));
    let health = |wanted: &str, server: SocketAddr| {
        let listing = director.ipvsadm("-L -n --health").stdout;
        let row = listing.lines().find(|line| line.contains(&server.to_string())).unwrap_or_default();
        assert!(row.contains(wanted), "{wanted}: {listing}");
    };
    let held: Vec<_> = (0..6).map(|_| (connect(web), accept(&served))).collect();
    health("ejected", refusing);
    let flow = client(dns);
    let before = question(&flow);
    let drained = if before.starts_with('a') { udp_a } else { udp_b };
    let until = Instant::now() + Duration::from_secs(8);
    for server in [drained, good] {
        let drain = director.ipvsadm(&format!("--drain {server} --deadline 8"));
        assert_eq!((drain.stderr.as_str(), drain.code), ("", 0));
    }
    let _successor = take_over(&director, &[]);
    health("ejected", refusing);
    health("draining", drained);
    assert_eq!(question(&flow), before);
    assert!(Instant::now() < until, "too slow to tell");
    // The flow is the successor's, the connections are not.
    eventually("the drain ends there", || question(&flow)[..1] != before[..1]);
    for (client, _) in &held {
        eventually("the drain ends here", || is_closed(client));
    }
    assert!(Instant::now() >= until, "too early");
}

#[test]
fn checks_of_keepalived_conf_go_on_with_what_they_had_found() {
    let (one, sorry) = (Server::start(any(), "one"), Server::start(any(), "sorry"));
    let (dead, vip, lost) = (free_port(), free_port(), free_port());
    // Checked once at the start, and then not again for a long time; the successor's checks wait so long.
    let slow = |address: SocketAddr, alpha: &str, warmup: &str| {
        let slow = server(address, alpha).replace("delay_loop 0.05", "delay_loop 600");
        slow.replace("warmup 0\n", warmup)
    };
    let quorum = format!("quorum 2\nsorry_server {} {}", sorry.address.ip(), sorry.address.port());
    let file = |warmup: &str| {
        service(vip, "", &[slow(dead, "", warmup), slow(one.address, "alpha", warmup)])
            + &service(lost, &quorum, &[slow(dead, "", warmup), slow(one.address, "alpha", warmup)])
    };
    let director = Director::start("");
    let conf = director.path("lb.conf");
    let conf = conf.to_str().expect("text");
    std::fs::write(conf, file("warmup 0\n")).expect("a file");
    let mut first = take_over(&director, &["--config", conf]);
    let log = || crate::takeover::successors_log(&director);
    eventually("both are up", || log().matches("server is up").count() >= 2);
    let down = "server is down: TCP_CHECK: connect refused";
    eventually("the dead one is down", || log().matches(down).count() >= 2);
    assert_eq!([ask(vip), ask(vip), ask(lost)], ["one", "one", "sorry"]);

    std::fs::write(conf, file("warmup 600\n")).expect("a file");
    let _second = Successor::start(&director, &["--config", conf]);
    assert!(first.0.wait().expect("it ends").success());
    assert_eq!([ask(vip), ask(vip), ask(lost)], ["one", "one", "sorry"]);
    let list = director.ipvsadm("-L -n").stdout;
    let row = list.lines().find(|line| line.contains(&dead.to_string())).unwrap_or_default();
    assert!(row.contains("Masq    0 "), "{list}");
}
