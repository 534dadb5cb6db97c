//! Virtual routers with a MAC address of their own: a failover that neighbours do not notice.

use std::io::ErrorKind;
use std::process::Command;
use std::time::Duration;

use lab::{eventually, eventually_or, throughout};
use vrrp::os::{Advertises, Dialect, Instance, Mac, VirtualAddress};
use vrrp::packet::Coverage;
use vrrp::router::State;

use super::lab::{Lab, VIP};

const INTERVAL: Duration = Duration::from_millis(200);
const NEIGHBOUR: usize = 3;

fn instance(priority: u8, address: &str) -> Instance {
    let mut instance = Instance::new("VI_1", "eth0", 51);
    instance.dialect = Dialect::V3(Coverage::PseudoHeader);
    instance.interval = INTERVAL;
    instance.priority = priority;
    instance.mac = Mac::Virtual { name: None, advertises: Advertises::Virtually };
    instance.addresses = vec![VirtualAddress::new(address.parse().expect("an address"))];
    instance
}

/// Whether the address answers a neighbour: here, by saying that nobody listens.
#[allow(clippy::disallowed_types, reason = "a neighbour knows nothing of this crate")]
fn answers(lab: &Lab, address: &str) -> bool {
    let address = (address.parse::<std::net::IpAddr>().expect("an address"), 9).into();
    let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(500));
    lab.within(NEIGHBOUR, connect).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Where a neighbour believes the address to be.
fn neighbour_entry(lab: &Lab, address: &str) -> String {
    let output =
        Command::new("ip").args(["-n", lab.namespace(NEIGHBOUR), "neighbour", "show", address]).output();
    String::from_utf8(output.expect("ip").stdout).expect("text")
}

/// The port of the bridge that leads to the address 00:00:5e:00:0F:33.
fn learnt(lab: &Lab, family: u8) -> String {
    let output =
        Command::new("bridge").args(["-n", lab.namespace(0), "fdb", "show", "br", "bridge"]).output();
    let text = String::from_utf8(output.expect("bridge").stdout).expect("text");
    let start = format!("00:00:5e:00:0{family}:33 dev ");
    let line = text.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_default();
    line.split(' ').next().unwrap_or_default().to_owned()
}

fn check(address: &str, name: &str, mac: &str, family: u8) {
    let Some(lab) = Lab::new(3) else { return };
    if address.contains(':') {
        // A prefix that the neighbour can reach, too.
        for host in 1..=3 {
            let own = format!("fd00::{host}/64");
            lab.run(host, &["address", "add", &own, "dev", "eth0", "nodad"]);
        }
    }
    let (first, second) = (lab.router(1, instance(150, address)), lab.router(2, instance(100, address)));
    first.becomes(State::Master);
    second.becomes(State::Backup);
    let on = |host: usize| {
        let lines = lab.addresses(host);
        lines.iter().any(|line| line.contains(&format!(" {name} ")) && line.contains(&format!(" {address}/")))
    };
    assert!(on(1) && !on(2), "{:#?} {:#?}", lab.addresses(1), first.log());
    eventually_or(|| format!("{:#?}", first.log()), || answers(&lab, address));
    assert!(neighbour_entry(&lab, address).contains(mac), "{}", neighbour_entry(&lab, address));
    throughout(INTERVAL * 5, "frames of the master only", || learnt(&lab, family) == "port1");

    lab.cable(1, "down");
    second.becomes(State::Master);
    eventually("the neighbour is served", || answers(&lab, address));
    assert!(neighbour_entry(&lab, address).contains(mac), "{}", neighbour_entry(&lab, address));
    lab.cable(1, "up");
    first.becomes(State::Master);
    second.becomes(State::Backup);
    eventually("the neighbour is served", || answers(&lab, address));
    throughout(INTERVAL * 5, "one master", || {
        on(1) && !on(2) && second.state() == State::Backup && learnt(&lab, family) == "port1"
    });
    assert_eq!(first.status().counters.send_failures, 0);

    first.node.stop();
    assert!(!on(1) && lab.addresses(1).iter().all(|line| !line.contains(name)), "it is gone");
}

#[test]
fn failover_with_a_mac_address_of_its_own_is_not_seen_by_neighbours() {
    check(VIP, "vrrp.51", "00:00:5e:00:01:33", 1);
}

#[test]
fn failover_with_a_mac_address_of_its_own_is_not_seen_by_ipv6_neighbours() {
    check("fd00::100", "vrrp6.51", "00:00:5e:00:02:33", 2);
}

#[test]
fn interface_that_was_left_over_is_taken_up_and_another_one_is_left_alone() {
    let Some(lab) = Lab::new(1) else { return };
    let words = ["link", "eth0", "address", "00:00:5e:00:01:33", "type", "macvlan", "mode", "bridge"];
    lab.run(1, &[&["link", "add", "vrrp.51"][..], &words].concat());
    lab.run(1, &["link", "set", "vrrp.51", "up"]);
    let router = lab.router(1, instance(150, VIP));
    router.becomes(State::Master);
    lab.run(1, &["link", "delete", "vrrp.51"]);
    router.says("VI_1 is FAULT now: interface of its own: was removed");
    router.becomes(State::Master);
    assert!(lab.has(1, VIP));
    router.node.stop();

    lab.run(1, &["link", "add", "vrrp.51", "type", "bridge"]);
    let router = lab.router(1, instance(150, VIP));
    router.says("vrrp.51 is there, and is another interface");
    assert_eq!(router.state(), State::Fault);
    lab.run(1, &["link", "delete", "vrrp.51"]);
    router.becomes(State::Master);
}
