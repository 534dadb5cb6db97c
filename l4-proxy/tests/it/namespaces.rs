//! The director between two networks of the test's own: transparent mode, and the end of ports.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Deref;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::{Hosts, eventually, is_installed, skip, throughout};

use crate::binary::{Director, rules};
use crate::support::{accept, connect, is_closed, resets_its_client};

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

/// Of two directors only one was told how long bytes may stay unacknowledged; the other shows what the kernel
/// would do in that time.
#[test]
fn peer_that_vanishes_with_bytes_on_the_way_is_given_up_after_the_user_timeout_alone() {
    let Some(networks) = Networks::new() else { return };
    const PATIENT: &str = "10.98.1.1:81";
    let server = networks.listen();
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let is_reset = |mut stream: &TcpStream| {
        stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    };
    // After three unanswered questions for its MAC address the kernel says that there is no such neighbour.
    for (gone, asked_every_ms, said) in [
        (RS, "1000", "server failed: Connection timed out"),
        (RS, "100", "server failed: No route to host"),
        (CIP, "1000", "client failed: Connection timed out"),
    ] {
        networks.within(DS, || {
            let path = "/proc/sys/net/ipv4/neigh/inside/retrans_time_ms";
            std::fs::write(path, asked_every_ms).expect("a setting");
        });
        let hasty = networks.director(&["--user-timeout", "1"]);
        let _patient = networks.director_with(&rules(address(PATIENT), address(SERVER)), &[]);
        let [ended, kept] = [VIP, PATIENT].map(|vip| {
            let mut client = networks.within(CIP, || connect(address(vip)));
            let mut served = accept(&server);
            client.write_all(b"x").expect("sent");
            served.read_exact(&mut [0]).expect("heard");
            if gone == RS { (client, served) } else { (served, client) }
        });

        networks.run(gone, &["link", "set", "eth0", "down"]);
        let began = Instant::now();
        for (left, _) in [&ended, &kept] {
            (&mut &*left).write_all(b"lost").expect("sent");
        }
        assert!(is_reset(&ended.0), "{said}");
        let took = began.elapsed();
        assert!((SECOND / 2..3 * SECOND).contains(&took), "{said} after {took:?}");
        eventually("it is said why", || hasty.log().contains(said));
        throughout((3 * SECOND).saturating_sub(took), "the other waits", || !is_closed(&kept.0));
        kept.0.set_nonblocking(false).expect("open");

        // Who comes back learns that its connection is gone, or gets what was on the way.
        networks.run(gone, &["link", "set", "eth0", "up"]);
        let mut bytes = [0; 4];
        (&kept.1).read_exact(&mut bytes).expect("sent again");
        assert_eq!(&bytes, b"lost");
        (&kept.1).write_all(b"back").expect("sent");
        (&kept.0).read_exact(&mut bytes).expect("heard");
        assert_eq!(&bytes, b"back");
        (&ended.1).write_all(b"back").expect("sent");
        assert!(is_reset(&ended.1), "{said}");
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// As under `ProtectKernelTunables=` of a unit: what is mounted read-only is so for this director alone.
#[test]
fn router_whose_own_interface_cannot_be_set_up_does_not_lead_and_says_which_setting() {
    let Some(networks) = Networks::new() else { return };
    if !is_installed("unshare") {
        return skip("unshare (util-linux)");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let conf = folder.path().join("lb.conf");
    let text = "vrrp_instance VI {\ninterface inside\nvirtual_router_id 51\nversion 3\nadvert_int 0.1\nuse_vmac\n\
                virtual_ipaddress {\n10.98.2.9/24\n}\n}\n";
    std::fs::write(&conf, text).expect("a file");
    const READ_ONLY: &str =
        "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec \"$0\" \"$@\"";
    let director = Director::start_with("", |program| {
        let mut command = networks.command(DS, "unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", READ_ONLY, program, "--config"])
            .arg(&conf);
        command
    });
    let said = "VI is FAULT now: sockets: /proc/sys/net/ipv4/conf/vrrp.51/arp_ignore: Read-only file system";
    eventually("it is said why", || director.log().contains(said));
    throughout(SECOND, "it does not lead", || !director.log().contains("VI is MASTER now"));
}
