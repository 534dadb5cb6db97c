//! DNS through the program: two dnsmasq behind it, asked with dig.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::binary::Director;
use crate::support::{eventually, free_port, is_installed, skip};

/// A name server that knows one thing: which one it is.
struct NameServer {
    child: Child,
    address: SocketAddr,
}

impl NameServer {
    fn start(name: &str) -> NameServer {
        let address = free_port();
        let mut command = Command::new("/usr/sbin/dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]);
        command.args([
            "--bind-interfaces",
            "--listen-address=127.0.0.1",
            "--user=",
            "--group=",
            "--pid-file=",
        ]);
        command
            .arg("--edns-packet-max=4096")
            .arg(format!("--port={}", address.port()))
            .arg(format!("--txt-record=who.test,{name}"));
        // A record that needs fragments on the way, or a large buffer.
        command.arg(format!("--txt-record=large.test,{}", vec!["x".repeat(250); 12].join(",")));
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("dnsmasq starts");
        NameServer { child, address }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dig(server: SocketAddr, more: &[&str]) -> String {
    let mut command = Command::new("dig");
    command.arg("@127.0.0.1").args(["-p", &server.port().to_string(), "+short", "+tries=1", "+time=5"]);
    let output = command.args(more).output().expect("dig runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn needed_are_here() -> bool {
    for program in ["dig", "dnsmasq"] {
        if !is_installed(program) {
            skip(program);
            return false;
        }
    }
    true
}

fn two_name_servers() -> [NameServer; 2] {
    let servers = ["first", "second"].map(NameServer::start);
    for server in &servers {
        eventually("dnsmasq answers", || dig(server.address, &["who.test", "TXT", "+time=1"]).contains('"'));
    }
    servers
}

fn rules(vip: SocketAddr, options: &str, servers: &[NameServer]) -> String {
    let mut rules = format!("-A -u {vip} -s rr{options}\n");
    for server in servers {
        rules += &format!("-a -u {vip} -r {} -m\n", server.address);
    }
    rules
}

#[test]
fn dig_reaches_both_name_servers_and_outlives_one() {
    if !needed_are_here() {
        return;
    }
    let [first, second] = two_name_servers();
    let vip = free_port();
    let servers = [first, second];
    let director = Director::start(&rules(vip, "", &servers));
    let answers: Vec<String> = (0..4).map(|_| dig(vip, &["who.test", "TXT"])).collect();
    assert_eq!(answers, ["\"second\"", "\"first\"", "\"second\"", "\"first\""]);
    assert_eq!(dig(vip, &["large.test", "TXT", "+bufsize=4096", "+ignore"]).matches('x').count(), 12 * 250);

    let connections = director.ipvsadm("-L -n -c").stdout;
    let ends = format!("{vip:18} {}", servers[0].address);
    let listed = |line: &str| line.starts_with("UDP 0") && line.contains(" UDP ") && line.ends_with(&ends);
    assert!(connections.lines().any(listed), "{connections}");

    let [first, second] = servers;
    drop(second);
    // The first to be sent to the dead one brings its ICMP error back, three of them eject it.
    eventually("only the first answers", || {
        let asked = (0..4).map(|_| dig(vip, &["who.test", "TXT", "+time=1", "+tries=3"]));
        asked.collect::<Vec<_>>() == ["\"first\""; 4]
    });
    drop(first);
}

#[test]
fn one_packet_service_asks_the_name_servers_in_turn_from_one_port() {
    if !needed_are_here() {
        return;
    }
    let servers = two_name_servers();
    let vip = free_port();
    let director = Director::start(&rules(vip, " -o", &servers));
    // One source port, so that it is one flow for anybody but this service.
    let source = format!("127.0.0.1#{}", free_port().port());
    let answers: Vec<String> = (0..4).map(|_| dig(vip, &["-b", &source, "who.test", "TXT"])).collect();
    assert_eq!(answers, ["\"second\"", "\"first\"", "\"second\"", "\"first\""]);
    let listing = director.ipvsadm("-L -n").stdout;
    assert!(listing.contains(&format!("UDP  {vip} rr ops")), "{listing}");
    for server in &servers {
        let line = listing.lines().find(|line| line.contains(&server.address.to_string())).expect("listed");
        assert!(
            line.split_whitespace().eq(["->", &server.address.to_string(), "Masq", "1", "0", "0"]),
            "{line}"
        );
    }
}
