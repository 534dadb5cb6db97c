//! What a director carries that has handed over counts at the one that serves.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::Echo;
use crate::binary::Director;
use crate::support::{connect, eventually, free_port};

/// Connections, and bytes to servers, of a service.
pub(super) fn of(director: &Director, service: SocketAddr) -> (u64, u64) {
    let stats = director.ipvsadm(&format!("-L -n --stats --exact -t {service}")).stdout;
    let line = stats.lines().find(|line| line.starts_with("TCP")).expect("the service");
    let number = |place: usize| line.split_whitespace().nth(place)?.parse().ok();
    (number(2).expect("a number"), number(5).expect("a number"))
}

/// Connections in use at each of its servers.
fn in_use(director: &Director, service: SocketAddr) -> Vec<u32> {
    let listing = director.ipvsadm(&format!("-L -n -t {service}")).stdout;
    let servers = listing.lines().filter(|line| line.contains("-> 127"));
    let active = servers.filter_map(|line| line.split_whitespace().nth(4)?.parse().ok());
    active.collect()
}

fn say(stream: &mut TcpStream, bytes: usize) {
    stream.write_all(&vec![1; bytes]).expect("open");
    stream.read_exact(&mut vec![0; bytes]).expect("open");
}

#[test]
fn connections_of_a_director_that_handed_over_count_at_its_successors() {
    let (a, b) = (Echo::new(), Echo::new());
    let vip = free_port();
    let director = Director::start(&format!(
        "-A -t {vip} -s lc\n-a -t {vip} -r {} -m\n-a -t {vip} -r {} -m\n",
        a.address, b.address
    ));
    let open = || {
        let mut stream = connect(vip);
        say(&mut stream, 1);
        stream
    };
    let mut clients: Vec<TcpStream> = (0..6).map(|_| open()).collect();
    assert_eq!(in_use(&director, vip), [3, 3]);
    assert_eq!(director.upgrade().code, 0);
    assert_eq!(in_use(&director, vip), [3, 3], "from the first moment on");

    // They took turns. Whoever comes next goes where fewer are, wherever those are carried.
    drop((clients.remove(4), clients.remove(2)));
    eventually("their places are free", || {
        let mut left = in_use(&director, vip);
        left.sort_unstable();
        left == [1, 3]
    });
    clients.extend([open(), open()]);
    assert_eq!(in_use(&director, vip), [3, 3]);
    say(&mut clients[0], 1000);
    assert_eq!(of(&director, vip), (8, 1008));

    // Three directors now, and the oldest still carries what it began.
    assert_eq!(director.upgrade().code, 0);
    assert_eq!(in_use(&director, vip), [3, 3]);
    say(&mut clients[0], 500);
    say(&mut clients[4], 500);
    eventually("both count", || of(&director, vip) == (8, 2008));
    clients.push(open());
    say(&mut clients[0], 7);
    drop(clients);
    eventually("nobody is left", || in_use(&director, vip) == [0, 0]);
    eventually("what they have counted last is there", || of(&director, vip) == (9, 2016));
    director.end_upgraded();
}
