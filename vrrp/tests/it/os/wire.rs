//! What others make of the bytes on the wire: tshark, the protocol analyser, finds nothing to complain
//! of.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::Stdio;

use lab::{is_installed, skip};
use vrrp::os::{Authentication, Dialect, Instance, VirtualAddress};
use vrrp::packet::Coverage;
use vrrp::router::State;

use super::lab::{Lab, VIP};

/// Who speaks, and who watches.
const SPEAKER: usize = 1;
const WATCHER: usize = 2;

/// What tshark is asked for; what a packet does not have is empty. `_ws.expert` is what it finds odd.
const FIELDS: [&str; 14] = [
    "ip.ttl",
    "ip.dsfield",
    "ip.checksum.status",
    "ipv6.hlim",
    "ipv6.tclass",
    "vrrp.version",
    "vrrp.virt_rtr_id",
    "vrrp.prio",
    "vrrp.checksum.status",
    "vrrp.auth_string",
    "arp.isgratuitous",
    "icmpv6.nd.na.flag",
    "icmpv6.checksum.status",
    "_ws.expert.message",
];

/// Has a virtual router become master, and checks the first packets that it sends, as far as tshark is
/// asked for them.
fn check(dialect: Dialect, address: &str, filter: &str, wanted: &[&str]) {
    if !is_installed("tshark") {
        return skip("tshark");
    }
    let Some(lab) = Lab::new(2) else { return };
    let mut watcher = lab.command(WATCHER, "tshark");
    watcher.args(["-i", "eth0", "-l", "-a", "duration:20", "-c", &wanted.len().to_string(), "-f", filter]);
    watcher.args(["-o", "ip.check_checksum:TRUE", "-T", "fields", "-E", "separator=|"]);
    watcher.args(FIELDS.iter().flat_map(|field| ["-e", field]));
    let mut watcher = watcher.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("tshark");
    let mut words = BufReader::new(watcher.stderr.take().expect("piped")).lines();
    let ready = words.by_ref().map_while(Result::ok).any(|line| line.contains("Capture started"));
    assert!(ready, "tshark does not capture");

    let mut instance = Instance::new("VI_1", "eth0", 51);
    instance.dialect = dialect;
    instance.priority = 255;
    instance.source =
        Some(if address.contains(':') { lab.link_local(SPEAKER) } else { IpAddr::from([10, 8, 0, 1]) });
    instance.addresses = vec![VirtualAddress::new(address.parse().expect("an address"))];
    instance.announcing.repeat = 2;
    let speaker = lab.router(SPEAKER, instance);
    speaker.becomes(State::Master);
    // Drains what else it says, so that it does not wait to be read.
    std::thread::spawn(move || words.map_while(Result::ok).for_each(drop));
    let lines = BufReader::new(watcher.stdout.take().expect("piped")).lines();
    let lines: Vec<String> = lines.map_while(Result::ok).collect();
    watcher.wait().expect("it ends");
    assert_eq!(lines, wanted, "{:#?}", speaker.log());
}

#[test]
fn v2_advertisements_decode_clean() {
    let advert = "255|0xc0|1|||2|51|255|1|||||";
    check(Dialect::V2(Authentication::None), VIP, "ip proto 112", &[advert; 2]);
}

#[test]
fn v2_passwords_decode_clean() {
    let proof = Authentication::Password(b"secret12".to_vec());
    let advert = "255|0xc0|1|||2|51|255|1|secret12||||";
    check(Dialect::V2(proof), VIP, "ip proto 112", &[advert; 2]);
}

#[test]
fn authenticated_advertisements_decode_clean() {
    let proof = Authentication::Header(b"secret12".to_vec());
    let advert = "255|0xc0|1|||2|51|255|1|||||";
    check(Dialect::V2(proof), VIP, "ip proto 51", &[advert; 2]);
}

#[test]
fn v3_advertisements_and_gratuitous_arp_decode_clean() {
    let (advert, arp) = ("255|0xc0|1|||3|51|255|1|||||", "||||||||||1|||");
    let dialect = Dialect::V3(Coverage::PseudoHeader);
    check(dialect, VIP, "ip proto 112 or arp", &[advert, arp, arp, advert]);
}

#[test]
fn v3_advertisements_over_ipv6_and_neighbour_advertisements_decode_clean() {
    let (advert, neighbour) = ("|||255|0x000000c0|3|51|255|1|||||", "|||255|0x00000000|||||||0x20000000|1|");
    let dialect = Dialect::V3(Coverage::PseudoHeader);
    let filter = "ip6 proto 112 or (icmp6 and ip6[40] == 136)";
    check(dialect, "fe80::100", filter, &[advert, neighbour, neighbour, advert]);
}
