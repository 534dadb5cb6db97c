//! The director between two networks of the test's own: transparent mode, and the end of ports.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Deref;
use std::process::{Command, Stdio};

use lab::{Hosts, eventually, is_installed, skip};

use crate::binary::{Director, rules};
use crate::support::{accept, connect, resets_its_client};

const VIP: &str = "10.98.1.1:80";
const CLIENT: &str = "10.98.1.2";
const SERVER: &str = "10.98.2.2:8080";
const DIRECTOR: [&str; 2] = ["10.98.2.1", "10.98.2.3"];

/// A client, a director and a server, the director between the other two.
struct Networks(Hosts);

impl Networks {
    /// `None` where the test may not make them, after saying so.
    fn new() -> Option<Networks> {
        if !is_installed("nft") {
            skip("nft (nftables)");
            return None;
        }
        let hosts = Hosts::new(3)?;
        for (outer, addresses, own, gateway) in [
            (CIP, &["10.98.1.1/24"][..], "10.98.1.2/24", "10.98.1.1"),
            (RS, &["10.98.2.1/24", "10.98.2.3/24"], "10.98.2.2/24", "10.98.2.1"),
        ] {
            let link = if outer == CIP { "outside" } else { "inside" };
            let peer = ["type", "veth", "peer", "name", "eth0", "netns", hosts.namespace(outer)];
            hosts.run(DS, &[&["link", "add", link][..], &peer].concat());
            hosts.run(outer, &["address", "add", own, "dev", "eth0"]);
            for address in addresses {
                hosts.run(DS, &["address", "add", address, "dev", link]);
            }
            hosts.run(DS, &["link", "set", link, "up"]);
            hosts.run(outer, &["link", "set", "eth0", "up"]);
            hosts.run(outer, &["route", "add", "default", "via", gateway]);
        }
        Some(Networks(hosts))
    }

    fn director(&self, arguments: &[&str]) -> Director {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        self.director_with(&rules(address(VIP), address(SERVER)), arguments)
    }

    fn director_with(&self, rules: &str, arguments: &[&str]) -> Director {
        Director::start_with(rules, |program| {
            let mut command = self.command(DS, program);
            command.args(arguments);
            command
        })
    }

    /// Carries out commands where the director is.
    fn shell(&self, commands: &str) {
        let mut shell = self.command(DS, "sh");
        let mut shell = shell.arg("-e").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("a shell");
        let mut input = shell.stdin.take().expect("a pipe");
        input.write_all(commands.as_bytes()).expect("read");
        drop(input);
        assert!(shell.wait().expect("it ends").success());
    }

    fn listen(&self) -> TcpListener {
        self.within(RS, || TcpListener::bind(SERVER).expect("a free port"))
    }

    fn connect(&self) -> TcpStream {
        self.within(CIP, || connect(VIP.parse().expect("an address")))
    }
}

const CIP: usize = 0;
const DS: usize = 1;
const RS: usize = 2;

impl Deref for Networks {
    type Target = Hosts;

    fn deref(&self) -> &Hosts {
        &self.0
    }
}

/// The commands for the director out of what the program prints as help, from one text to another.
fn printed_rules(help: &str, from: &str, to: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_l4-proxy")).arg(help).output();
    let text = String::from_utf8(output.expect("it runs").stdout).expect("text");
    let from = text.find(from).expect("the rules");
    let to = text.find(to).expect("the end of the rules");
    text[from..to].lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

#[test]
fn server_sees_the_client_in_transparent_mode_with_the_printed_rules() {
    let Some(networks) = Networks::new() else { return };
    networks.shell(&printed_rules("--transparent-help", "  nft -f -", "For IPv6"));

    let _director = networks.director(&["--transparent", VIP]);
    let server = networks.listen();
    let mut client = networks.connect();
    let mut served = accept(&server);
    assert_eq!(served.peer_addr().expect("open").ip().to_string(), CLIENT);
    client.write_all(b"ping").expect("sent");
    let mut heard = [0; 4];
    served.read_exact(&mut heard).expect("heard");
    served.write_all(b"pong").expect("sent");
    client.read_exact(&mut heard).expect("heard");
    assert_eq!(&heard, b"pong");
}

#[test]
fn every_source_address_gives_all_its_ports_before_a_client_is_refused() {
    let Some(networks) = Networks::new() else { return };
    const PORTS: usize = 4;
    networks.within(DS, || {
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40003").expect("a range");
    });
    let sources = format!("{VIP}={},{}", DIRECTOR[0], DIRECTOR[1]);
    let director = networks.director(&["--source", &sources]);
    let server = networks.listen();
    let pairs: Vec<_> = (0..2 * PORTS).map(|_| (networks.connect(), accept(&server))).collect();
    for source in DIRECTOR {
        let from = |served: &TcpStream| served.peer_addr().expect("open").ip().to_string() == source;
        assert_eq!(pairs.iter().filter(|(_, served)| from(served)).count(), PORTS, "{source}");
    }
    assert!(networks.within(CIP, || resets_its_client(VIP.parse().expect("an address"))));
    eventually("it is said why", || {
        director.log().contains("no source address has a free port to this server")
    });
    assert!(!director.log().contains("server is"), "the server was blamed: {}", director.log());
}

#[test]
fn rules_that_mark_packets_choose_the_service_and_group_its_ports() {
    let Some(networks) = Networks::new() else { return };
    // A third port is an entrance too, and no rule marks what comes to it.
    let [http, https, other] = ["10.98.1.1:80", "10.98.1.1:443", "10.98.1.1:8080"];
    networks.run(RS, &["address", "add", "10.98.2.4/24", "dev", "eth0"]);
    let entrances = format!("packets={http},{https},{other}");
    let director = networks.director_with("", &["--fwmark", &entrances]);
    let refused = director.ipvsadm("-A -f 1 -s rr -p 600");
    assert!(refused.stderr.contains("net.ipv4.tcp_fwmark_accept=1"), "{}", refused.stderr);
    let printed = printed_rules("--fwmark-help", "  sysctl", "(or iptables");
    let sysctl = r#"sysctl() { echo "${2#*=}" >"/proc/sys/$(echo "${2%=*}" | tr . /)"; }"#;
    networks.shell(&format!("{sysctl}\n{}", printed.replace("192.0.2.1", "10.98.1.1")));
    for words in ["-A -f 1 -s rr -p 600", "-a -f 1 -r 10.98.2.2:0 -m", "-a -f 1 -r 10.98.2.4:0 -m"] {
        let output = director.ipvsadm(words);
        assert_eq!((output.stderr.as_str(), output.code), ("", 0), "{words}");
    }
    let servers = networks.within(RS, || {
        [80, 443].map(|port| TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).expect("a free port"))
    });
    let reached = |vip: &'static str, server: &TcpListener| {
        let client = networks.within(CIP, move || connect(vip.parse().expect("an address")));
        let served = accept(server);
        drop(client);
        served.local_addr().expect("open").ip()
    };
    let first = reached(http, &servers[0]);
    for _ in 0..3 {
        assert_eq!(reached(https, &servers[1]), first);
        assert_eq!(reached(http, &servers[0]), first);
    }
    assert!(networks.within(CIP, move || resets_its_client(other.parse().expect("an address"))));
    eventually("it is said why", || director.log().contains("refused: no service has its mark"));
}
