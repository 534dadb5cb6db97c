//! Listings against their literal layout. Lines end in `$`, as `cat -e` shows them, since some end
//! in blanks.

use std::time::Duration;

use lvs_core::Protocol;
use lvsadm::{Connection, ConnectionState};

use crate::director::{Fake, tcp, udp};

const RULES: &str = "\
-A -t 192.0.2.10:80 -s wrr
-a -t 192.0.2.10:80 -r 10.0.0.1:8080 -m -w 1 -x 100 -y 80
-a -t 192.0.2.10:80 -r 10.0.0.2:8080 -m -w 2
-A -t 192.0.2.10:443 -s rr -b flag-1,flag-2 -p 360 -M 255.255.255.0
-a -t 192.0.2.10:443 -r 10.0.0.3 -g
-A -u 192.0.2.10:53 -s rr -o
-a -u 192.0.2.10:53 -r 10.0.0.4:53 -i
-a -u 192.0.2.10:53 -r 10.0.0.5:53 -i --tun-type gue --tun-port 6080 --tun-csum
-a -u 192.0.2.10:53 -r 10.0.0.6:53 -i --tun-type gre
-a -u 192.0.2.10:53 -r 10.0.0.7:53 -i --tun-type gue --tun-port 6080 --tun-remcsum
-A -t [2001:db8::10]:80 -s wrr -b flag-1,flag-2 -p 300 -M 64
-a -t [2001:db8::10]:80 -r [2001:db8::a1]:80 -m
-a -t [2001:db8::10]:80 -r [2001:db8:1111:2222:3333:4444:5555:6666]:8080 -m
-A -f 8 -6 -s rr -b flag-3
-A -f 7
-a -f 7 -r 10.0.0.9 -g
-A --sctp-service 10.1.0.1:80 -s lc
";

#[track_caller]
fn check(fake: &Fake, line: &str, expected: &str) {
    assert_eq!(fake.stdout(line).replace('\n', "$\n"), expected, "{line}");
}

#[test]
fn plain_listing_is_ipvsadms() {
    let fake = Fake::with(RULES);
    let _leases = [
        fake.take(&tcp("192.0.2.10:80"), "10.0.0.1:8080", 7, 12),
        fake.take(&tcp("192.0.2.10:80"), "10.0.0.2:8080", 15, 40),
        fake.take(&tcp("192.0.2.10:443"), "10.0.0.3:443", 3, 0),
    ];
    for line in ["-Ln", "-L -n", "-l --numeric", "-ln --sort", "--list -n --exact"] {
        check(
            &fake,
            line,
            "\
IP Virtual Server version 1.2.1 (size=4096)$
Prot LocalAddress:Port Scheduler Flags$
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn$
TCP  192.0.2.10:80 wrr$
  -> 10.0.0.1:8080                Masq    1      7          12        $
  -> 10.0.0.2:8080                Masq    2      15         40        $
TCP  192.0.2.10:443 rr (flag-1,flag-2) persistent 360 mask 255.255.255.0$
  -> 10.0.0.3:443                 Route   1      3          0         $
UDP  192.0.2.10:53 rr ops$
  -> 10.0.0.4:53                  Tunnel  1      0          0         $
  -> 10.0.0.5:53                  Tunnel  1      0          0         $
  -> 10.0.0.6:53                  Tunnel  1      0          0         $
  -> 10.0.0.7:53                  Tunnel  1      0          0         $
SCTP 10.1.0.1:80 lc$
TCP  [2001:db8::10]:80 wrr (flag-1,flag-2) persistent 300 mask 64$
  -> [2001:db8::a1]:80            Masq    1      0          0         $
  -> [2001:db8:1111:2222:3333:4444:5555:6666]:8080 Masq    1      0          0         $
FWM  7 wlc$
  -> 10.0.0.9:0                   Route   1      0          0         $
FWM  8 IPv6 rr (flag-3)$
",
        );
    }
}

#[test]
fn listing_without_services_is_its_head() {
    check(
        &Fake::default(),
        "-Ln",
        "\
IP Virtual Server version 1.2.1 (size=4096)$
Prot LocalAddress:Port Scheduler Flags$
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn$
",
    );
}

#[test]
fn no_word_at_all_is_a_listing() {
    let fake = Fake::with(RULES);
    assert_eq!(fake.stdout(""), fake.stdout("-L"));
}

#[test]
fn listing_of_one_service_goes_without_the_version() {
    check(
        &Fake::with(RULES),
        "-L -n -t 192.0.2.10:80",
        "\
Prot LocalAddress:Port Scheduler Flags$
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn$
TCP  192.0.2.10:80 wrr$
  -> 10.0.0.1:8080                Masq    1      0          0         $
  -> 10.0.0.2:8080                Masq    2      0          0         $
",
    );
    check(
        &Fake::with(RULES),
        "-Lnf 8 -6 --stats",
        "\
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes$
  -> RemoteAddress:Port$
FWM  8 IPv6                              0        0        0        0        0$
",
    );
}

#[test]
fn counters_are_ipvsadms() {
    let fake = Fake::with(
        "-A -t 192.0.2.10:80\n-a -t 192.0.2.10:80 -r 10.0.0.1:8080 -m\n-a -t 192.0.2.10:80 -r 10.0.0.2:8080 -m\n\
         -A -u 192.0.2.10:53\n-a -u 192.0.2.10:53 -r 10.0.0.4:53 -m\n",
    );
    for (server, connections, to_server, to_client) in
        [("10.0.0.1:8080", 500, 1200, 62_000), ("10.0.0.2:8080", 1000, 600, 31_000)]
    {
        for client in 0..connections {
            let lease = fake.lease(&tcp("192.0.2.10:80"), server, client);
            lease.count_to_server(to_server);
            lease.count_to_client(to_client);
        }
    }
    let lease = fake.lease(&udp("192.0.2.10:53"), "10.0.0.4:53", 0);
    lease.count_to_server(123_456_789_012);
    lease.count_to_client(123_456_789_012_345);
    let expected = "\
IP Virtual Server version 1.2.1 (size=4096)$
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes$
  -> RemoteAddress:Port$
TCP  192.0.2.10:80                    1500        0        0  1200000 62000000$
  -> 10.0.0.1:8080                     500        0        0   600000 31000000$
  -> 10.0.0.2:8080                    1000        0        0   600000 31000000$
UDP  192.0.2.10:53                       1        0        0     123G     123T$
  -> 10.0.0.4:53                         1        0        0     123G     123T$
";
    // --stats goes before whatever else is asked for.
    for line in ["-Ln --stats", "-Ln --stats --rate", "-Ln --thresholds --tun-info --stats"] {
        check(&fake, line, expected);
    }
    check(
        &fake,
        "-Ln --stats --exact -u 192.0.2.10:53",
        "\
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes$
  -> RemoteAddress:Port$
UDP  192.0.2.10:53                       1        0        0 123456789012 123456789012345$
  -> 10.0.0.4:53                         1        0        0 123456789012 123456789012345$
",
    );
}

#[test]
fn rates_are_ipvsadms() {
    let fake = Fake::with(
        "-A -t 192.0.2.10:80\n-a -t 192.0.2.10:80 -r 10.0.0.1:8080 -m\n-a -t 192.0.2.10:80 -r 10.0.0.2:8080 -m\n\
         -A -f 8 -6\n",
    );
    fake.tick(0);
    for client in 0..48 {
        let lease = fake.lease(&tcp("192.0.2.10:80"), "10.0.0.1:8080", client);
        lease.count_packets_to_server(16);
        lease.count_packets_to_client(1_000_000_000);
        lease.count_to_server(57_600 / 48 * 2);
        lease.count_to_client(1_000_000_000_000);
    }
    fake.tick(2);
    // A quarter of 24 a second, and so on; of a server, packets are written in full.
    let expected = "\
IP Virtual Server version 1.2.1 (size=4096)$
Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS$
  -> RemoteAddress:Port$
TCP  192.0.2.10:80                       6       96    6000M    14400    6000G$
  -> 10.0.0.1:8080                       6       96 6000000000    14400    6000G$
  -> 10.0.0.2:8080                       0        0        0        0        0$
FWM  8 IPv6                              0        0        0        0        0$
";
    for line in ["-Ln --rate", "-Ln --rate --thresholds"] {
        check(&fake, line, expected);
    }
    check(
        &fake,
        "-Ln --rate --exact -t 192.0.2.10:80",
        "\
Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS$
  -> RemoteAddress:Port$
TCP  192.0.2.10:80                       6       96 6000000000    14400 6000000000000$
  -> 10.0.0.1:8080                       6       96 6000000000    14400 6000000000000$
  -> 10.0.0.2:8080                       0        0        0        0        0$
",
    );
}

#[test]
fn counters_are_scaled_only_where_they_do_not_fit() {
    let fake = Fake::with("-A -u 192.0.2.10:53\n-a -u 192.0.2.10:53 -r 10.0.0.4:53 -m\n");
    let lease = fake.lease(&udp("192.0.2.10:53"), "10.0.0.4:53", 0);
    let (mut to_server, mut to_client) = (0, 0);
    for (bytes_in, bytes_out, expected) in [
        (99_999_999, 100_000_000, "99999999  100000K"),
        (999_999_999, 1_000_000_000, " 999999K    1000M"),
        (99_999_999_999, 100_000_000_000, "  99999M     100G"),
        (99_999_999_999_999, 100_000_000_000_000, "  99999G     100T"),
    ] {
        lease.count_to_server(bytes_in - std::mem::replace(&mut to_server, bytes_in));
        lease.count_to_client(bytes_out - std::mem::replace(&mut to_client, bytes_out));
        let listing = fake.stdout("-Ln --stats");
        assert!(listing.ends_with(&format!(" {expected}\n")), "{listing}");
    }
}

#[test]
fn zeroing_leaves_counters_of_other_services() {
    let fake = Fake::with(
        "-A -u 192.0.2.10:53\n-a -u 192.0.2.10:53 -r 10.0.0.4:53 -m\n\
         -A -u 192.0.2.10:54\n-a -u 192.0.2.10:54 -r 10.0.0.4:53 -m\n",
    );
    drop(fake.lease(&udp("192.0.2.10:53"), "10.0.0.4:53", 0));
    drop(fake.lease(&udp("192.0.2.10:54"), "10.0.0.4:53", 0));
    let counts = || {
        let stats = fake.director.stats();
        stats.iter().map(|service| service.connections).collect::<Vec<_>>()
    };
    assert_eq!(fake.stdout("-Z -u 192.0.2.10:53"), "");
    assert_eq!(counts(), [0, 1]);
    assert_eq!(fake.stdout("--zero"), "");
    assert_eq!(counts(), [0, 0]);
}

#[test]
fn thresholds_are_ipvsadms() {
    let fake = Fake::with(RULES);
    let _leases = fake.take(&tcp("192.0.2.10:80"), "10.0.0.1:8080", 7, 12);
    let listing = fake.stdout("-Ln --thresholds --persistent-conn").replace('\n', "$\n");
    let head: String = listing.split_inclusive('\n').take(6).collect();
    assert_eq!(
        head,
        "\
IP Virtual Server version 1.2.1 (size=4096)$
Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn $
  -> RemoteAddress:Port$
TCP  192.0.2.10:80 wrr$
  -> 10.0.0.1:8080                100        80         7          12        $
  -> 10.0.0.2:8080                0          0          0          0         $
"
    );
}

#[test]
fn persistent_connections_are_ipvsadms() {
    let fake = Fake::with(RULES);
    let _leases = fake.take(&tcp("192.0.2.10:443"), "10.0.0.3:443", 3, 0);
    check(
        &fake,
        "-Ln --persistent-conn -t 192.0.2.10:443",
        "\
Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn $
  -> RemoteAddress:Port$
TCP  192.0.2.10:443 rr (flag-1,flag-2) persistent 360 mask 255.255.255.0$
  -> 10.0.0.3:443                 1         1           3          0         $
",
    );
}

#[test]
fn tunnels_are_ipvsadms() {
    let mut expected = "\
Prot LocalAddress:Port Scheduler Flags$
  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn$
UDP  192.0.2.10:53 rr ops$
  -> 10.0.0.4:53                  Tunnel  ipip          1      0          0         $
  -> 10.0.0.5:53                  Tunnel  gue:6080:+c   1      0          0         $
  -> 10.0.0.6:53                  Tunnel  gre:-c        1      0          0         $
  -> 10.0.0.7:53                  Tunnel  gue:6080:r+c  1      0          0         $
"
    .to_owned();
    check(&Fake::with(RULES), "-Ln --tun-info -u 192.0.2.10:53", &expected);
    expected = expected.replace("UDP  192.0.2.10:53 rr ops", "FWM  7 wlc");
    expected = expected.lines().take(3).map(|line| format!("{line}\n")).collect();
    expected += "  -> 10.0.0.9:0                   Route   n/a           1      0          0         $\n";
    check(&Fake::with(RULES), "-Ln --tun-info -f 7", &expected);
}

#[test]
fn unsorted_listing_has_servers_last_added_first() {
    let fake = Fake::with(
        "-A -t 10.0.0.9:80\n-a -t 10.0.0.9:80 -r 10.0.0.1 -m\n-a -t 10.0.0.9:80 -r 10.0.0.2 -m\n-A -t 10.0.0.8:80\n",
    );
    check(
        &fake,
        "-Ln --nosort",
        "\
IP Virtual Server version 1.2.1 (size=4096)$
Prot LocalAddress:Port Scheduler Flags$
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn$
TCP  10.0.0.9:80 wlc$
  -> 10.0.0.2:80                  Masq    1      0          0         $
  -> 10.0.0.1:80                  Masq    1      0          0         $
TCP  10.0.0.8:80 wlc$
",
    );
}

#[test]
fn address_of_the_upper_half_is_listed_before_a_low_one() {
    let fake = Fake::with(
        "-A -t 10.0.0.9:80\n-A -t 172.31.0.1:80\n-a -t 10.0.0.9:80 -r 10.0.0.1 -m\n-a -t 10.0.0.9:80 -r 192.168.0.1 -m\n",
    );
    let listing = fake.stdout("-Ln");
    let order: Vec<&str> =
        listing.lines().skip(3).map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(order, ["172.31.0.1:80", "10.0.0.9:80", "192.168.0.1:80", "10.0.0.1:80"]);
}

#[test]
fn wide_weight_pushes_its_line_to_the_right() {
    let fake = Fake::with("-A -t 10.0.0.9:80\n-a -t 10.0.0.9:80 -r 10.0.0.1 -m -w 2147483647\n");
    let listing = fake.stdout("-Ln");
    let line = "  -> 10.0.0.1:80                  Masq    2147483647 0          0         \n";
    assert!(listing.ends_with(line), "{listing}");
}

#[test]
fn timeouts_are_set_one_by_one() {
    let fake = Fake::default();
    check(&fake, "-L --timeout", "Timeout (tcp tcpfin udp): 900 120 300$\n");
    check(&fake, "--set 1 2 3", "");
    check(&fake, "--set 0 9 0", "");
    check(&fake, "-L --timeout -n", "Timeout (tcp tcpfin udp): 1 9 3$\n");
}

#[test]
fn there_are_no_daemons_to_list() {
    check(&Fake::default(), "-L --daemon", "");
}

fn connection(state: ConnectionState, expires: u64, addresses: [&str; 3]) -> Connection {
    let [client, virtual_address, server] = addresses.map(|address| address.parse().unwrap());
    let protocol = if state == ConnectionState::Udp { Protocol::Udp } else { Protocol::Tcp };
    let expires = Duration::from_secs(expires);
    Connection { protocol, expires, state, client, virtual_address, server, moved: None }
}

#[test]
fn persistence_engine_and_its_calls_are_listed_as_ipvsadm_lists_them() {
    let rules = "-A -u 192.0.2.10:5060 -s wlc -p 600 --pe sip\n\
                 -a -u 192.0.2.10:5060 -r 10.0.0.4:5060 -m -w 1\n\
                 -A -u 192.0.2.10:5070 -s rr -p 60 -M 0.0.0.0 --pe sip -o\n";
    let fake = Fake::with(rules);
    let title = "UDP  192.0.2.10:5060 wlc persistent 600 pe sip\n";
    assert!(fake.stdout("-Ln").contains(title), "{}", fake.stdout("-Ln"));
    assert!(fake.stdout("-Ln").contains("UDP  192.0.2.10:5070 rr persistent 60 mask 0.0.0.0 pe sip ops\n"));
    assert_eq!(fake.stdout("-Sn"), rules);
    let phone = lvs_core::Flow::new("198.51.100.2:5060".parse().unwrap());
    let key = udp("192.0.2.10:5060");
    let call = fake.director.schedule_session(&key, &phone, b"it's\x1b@client", &[], lvs_core::Time::ZERO);
    drop(call.expect("a server"));
    let head = "pro expire state       source             virtual            destination";
    check(
        &fake,
        "-Lnc --persistent-conn",
        &format!(
            "IPVS connection entries$\n{head}        pe name          pe_data$\n\
             UDP 10:00  NONE        198.51.100.2:0     192.0.2.10:5060    10.0.0.4:5060    sip                it's\u{fffd}@client$\n"
        ),
    );
    check(
        &fake,
        "-Lnc",
        &format!(
            "IPVS connection entries$\n{head}$\n\
             UDP 10:00  NONE        198.51.100.2:0     192.0.2.10:5060    10.0.0.4:5060$\n"
        ),
    );
    let document: serde_json::Value = serde_json::from_str(&fake.stdout("-Lc --json")).expect("a document");
    assert_eq!(document["connections"][0]["session"], "it's\u{1b}@client");
    let document: serde_json::Value = serde_json::from_str(&fake.stdout("-L --json")).expect("a document");
    assert_eq!(document["services"][0]["persistence"]["engine"], "sip");
}

#[test]
fn engine_without_persistence_is_taken_and_forgotten_as_in_ipvs() {
    let fake = Fake::with("-A -u 192.0.2.10:5060 -s rr --pe sip\n");
    assert_eq!(fake.stdout("-Sn"), "-A -u 192.0.2.10:5060 -s rr\n");
}

#[test]
fn connections_and_templates_are_ipvsadms() {
    let fake = Fake::with(
        "-A -t 192.0.2.10:443 -p 360 -M 255.255.255.0\n-a -t 192.0.2.10:443 -r 10.0.0.3:443 -m\n\
         -A -f 7 -p 300\n-a -f 7 -r 10.0.0.9:8080 -m\n\
         -A --pool api -p 60\n-a --pool api -r 10.0.0.5:8080 -m\n\
         -A -t 192.0.2.11:0 -p 7200\n-a -t 192.0.2.11:0 -r 10.0.0.9 -m\n",
    );
    let mark = lvs_core::ServiceKey::Mark { mark: 7.try_into().unwrap(), family: lvs_core::Family::V4 };
    let pool = lvs_core::ServiceKey::name("api");
    let leases = [
        fake.lease(&mark, "10.0.0.9:8080", 0),
        fake.lease(&pool, "10.0.0.5:8080", 0),
        fake.lease(&tcp("192.0.2.10:443"), "10.0.0.3:443", 0),
        fake.lease(&tcp("192.0.2.11:0"), "10.0.0.9:0", 0),
    ];
    fake.director.report(&leases[3], lvs_core::Event::Succeeded, lvs_core::Time::ZERO);
    let http = "192.0.2.10:80";
    let moved = Some(lvsadm::Moved { to_server: 100, to_client: 5_000_000_000 });
    let first = connection(ConnectionState::Established, 899, ["198.51.100.1:49153", http, "10.0.0.1:8080"]);
    *fake.connections.lock().unwrap() = vec![
        Connection { moved, ..first },
        connection(ConnectionState::FinWait, 87, ["198.51.100.1:49154", http, "10.0.0.2:8080"]),
        connection(ConnectionState::Udp, 300, ["198.51.100.2:5060", "192.0.2.10:5060", "10.0.0.4:5060"]),
        connection(
            ConnectionState::SynReceived,
            7200,
            ["[2001:db8::1]:49153", "[2001:db8::10]:80", "10.0.0.1:80"],
        ),
    ];
    let lines = "\
TCP 14:59  ESTABLISHED 198.51.100.1:49153 192.0.2.10:80      10.0.0.1:8080$
TCP 01:27  FIN_WAIT    198.51.100.1:49154 192.0.2.10:80      10.0.0.2:8080$
UDP 05:00  UDP         198.51.100.2:5060  192.0.2.10:5060    10.0.0.4:5060$
TCP 120:00 SYN_RECV    [2001:db8::1]:49153 [2001:db8::10]:80  10.0.0.1:80$
TCP 06:00  NONE        198.51.100.0:0     192.0.2.10:443     10.0.0.3:443$
IP  05:00  NONE        198.51.100.7:0     0.0.0.7:0          10.0.0.9:0$
IP  01:00  NONE        198.51.100.7:0     api                10.0.0.5:8080$
TCP 120:00 ASSURED     198.51.100.7:0     192.0.2.11:0       10.0.0.9:0$
";
    let head = "pro expire state       source             virtual            destination";
    check(&fake, "-Lnc", &format!("IPVS connection entries$\n{head}$\n{lines}"));
    let engine = "        pe name          pe_data";
    check(&fake, "-Lnc --persistent-conn", &format!("IPVS connection entries$\n{head}{engine}$\n{lines}"));
    let document: lvsadm::document::Connections =
        serde_json::from_str(&fake.stdout("-Lc --json")).expect("a document");
    let moved: Vec<_> = document.connections.iter().map(|entry| (entry.bytes_in, entry.bytes_out)).collect();
    assert_eq!((moved[0], moved[1]), ((Some(100), Some(5_000_000_000)), (None, None)));
    let pooled = document.connections.iter().find(|entry| entry.pool.as_deref() == Some("api"));
    assert_eq!(pooled.map(|entry| (entry.r#virtual, entry.template)), Some((None, true)));
}
