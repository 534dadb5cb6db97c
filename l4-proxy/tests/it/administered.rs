//! The program `l4-proxy`, administered with `lvsadm`'s words.

use std::io::{Read, Write};

use lvsadm::document::{Connections, Services};
use rustix::process::Signal;

use crate::binary::{Director, rules};
use crate::support::{accept, connect, eventually, free_port, listener};

/// What a command prints that does what it should.
#[track_caller]
fn said(director: &Director, words: &str) -> String {
    let output = director.ipvsadm(words);
    assert_eq!((output.stderr.as_str(), output.code), ("", 0), "{words}");
    output.stdout
}

#[test]
fn full_save_is_a_rules_file_that_starts_the_same_director() {
    let (vip, other) = (free_port(), free_port());
    let director = Director::start(&format!(
        "--set 600 0 30\n-A -t {vip} -s hash-bounded:40 -p 90 -M 255.255.255.0\n\
         -a -t {vip} -r 127.0.0.1:1 -m -w 3 -x 20 -y 10\n-a -t {vip} -r 127.0.0.1:2 -m --backup\n"
    ));
    said(&director, &format!("-A -t {other} -s sh -b sh-port"));
    said(&director, "--set 0 45 0");
    let saved = said(&director, "-S -n --full");
    assert!(saved.starts_with("--set 600 45 30\n"), "{saved}");
    assert!(saved.contains(" -r 127.0.0.1:1 -m -w 3 -x 20 -y 10\n"), "{saved}");
    drop(director);
    let again = Director::start(&saved);
    assert_eq!(said(&again, "-S -n --full"), saved);
}

#[test]
fn reload_takes_over_timeouts_that_the_rules_set_and_leaves_others() {
    let (vip, server) = (free_port(), free_port());
    let director = Director::start(&rules(vip, server));
    said(&director, "--set 500 0 0");
    director.write_rules(&format!("--set 0 33 0\n{}", rules(vip, server)));
    director.signal(Signal::HUP);
    eventually("the reload", || said(&director, "-L --timeout") == "Timeout (tcp tcpfin udp): 500 33 300\n");
}

#[test]
fn documents_show_connections_and_rates_of_a_running_director() {
    let ((at, server), vip) = (listener(), free_port());
    let director = Director::start(&rules(vip, server));
    let mut client = connect(vip);
    let mut accepted = accept(&at);
    client.write_all(&[7; 4000]).expect("an open connection");
    accepted.read_exact(&mut [0; 4000]).expect("an open connection");
    let connections: Connections =
        serde_json::from_str(&said(&director, "-L -c --json")).expect("a document");
    let [connection] = &connections.connections[..] else { panic!("one connection") };
    assert_eq!((connection.r#virtual, connection.server), (Some(vip), server));
    assert_eq!((connection.state.as_str(), connection.protocol.as_str()), ("ESTABLISHED", "TCP"));
    eventually("a sample", || {
        let services: Services = serde_json::from_str(&said(&director, "-L --json")).expect("a document");
        // 4000 bytes in two seconds, and a quarter of that in the first sample.
        services.services[0].servers[0].rates.bytes_in > 100
    });
    let listing = said(&director, "-L -n --rate");
    let line = listing.lines().last().expect("a server");
    assert_eq!(line.split_whitespace().count(), 7, "{line}");
}

#[test]
fn plan_of_the_rules_that_run_is_nothing_and_of_others_is_told_without_doing_it() {
    let (vip, server) = (free_port(), free_port());
    let director = Director::start(&rules(vip, server));
    let file = director.path("director.rules");
    assert_eq!(said(&director, &format!("--plan {}", file.display())), "nothing would change\n");
    director.write_rules(&rules(vip, free_port()));
    let plan = said(&director, &format!("--plan {}", file.display()));
    assert!(plan.starts_with(&format!("- server {server} of TCP {vip}\n+ server ")), "{plan}");
    assert!(said(&director, "-S -n").contains(&server.to_string()));
    director.write_rules(&format!("-A -t {vip}\n-a -t {vip} -r {server} -g\n"));
    let refused = director.ipvsadm(&format!("--plan {}", file.display()));
    assert!(refused.stderr.contains("forwards by masquerading only"), "{}", refused.stderr);
}

#[test]
fn packets_of_open_connections_are_counted_for_a_listing() {
    let ((at, server), vip) = (listener(), free_port());
    let director = Director::start_with(&rules(vip, server), |program| {
        let mut command = std::process::Command::new(program);
        command.arg("--count-packets");
        command
    });
    let mut client = connect(vip);
    let mut accepted = accept(&at);
    for _ in 0..100 {
        client.write_all(b"x").expect("an open connection");
        accepted.read_exact(&mut [0]).expect("an open connection");
    }
    let packets = || -> u64 {
        let listing = said(&director, "-L -n --stats --exact");
        let line = listing.lines().last().expect("a server");
        line.split_whitespace().nth(3).expect("a column").parse().expect("a number")
    };
    let first = packets();
    assert!((2..=250).contains(&first), "{first}");
    client.write_all(b"x").expect("an open connection");
    accepted.read_exact(&mut [0]).expect("an open connection");
    assert!(packets() > first, "{first}");
}
