//! What ipvsadm does not have.

use lvs_core::{Probe, ServiceKey, Time};
use lvsadm::document::{Connections, Services, TimeoutValues};
use serde_json::Value;

use crate::director::{Fake, tcp};

const RULES: &str = "\
-A -t 192.0.2.10:80 -s wlc -p 60 -M 255.255.255.0
-a -t 192.0.2.10:80 -r 10.0.0.1:8080 -m -w 2 -x 100 -y 80
-a -t 192.0.2.10:80 -r 10.0.0.2:8080 -m
-a -t 192.0.2.10:80 -r 10.0.0.3:8080 -m -w 0
-a -t 192.0.2.10:80 -r 10.0.0.4:8080 -m --backup
-A -t 192.0.2.10:443 -s sh -b sh-fallback,sh-port
-a -t 192.0.2.10:443 -r 10.0.0.1:443 -m
-A --pool api -s hash-bounded:50
-a --pool api -r 10.0.0.1:8080 -m -x 1
-a --pool api -r [2001:db8::1]:8080 -m
";

fn fail(fake: &Fake, service: &ServiceKey, server: &str) {
    let server = server.parse().unwrap();
    fake.director.probe(service, server, Probe::Failed("connect refused".into()), *fake.now.lock().unwrap());
}

fn parsed<T: serde::de::DeserializeOwned>(fake: &Fake, line: &str) -> T {
    serde_json::from_str(&fake.stdout(line)).unwrap()
}

#[test]
fn health_tells_state_time_availability_and_reason() {
    let fake = Fake::with(RULES);
    fake.tick(100);
    fake.tick(400);
    fail(&fake, &tcp("192.0.2.10:80"), "10.0.0.2:8080");
    let _lease = fake.lease(&ServiceKey::name("api"), "10.0.0.1:8080", 1);
    fake.stdout("--drain 10.0.0.1:443");
    fake.tick(500);
    assert_eq!(
        fake.stdout("-Ln --health"),
        "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           State    For     Avail    Reason
TCP  192.0.2.10:80 wlc persistent 60 mask 255.255.255.0
  -> 10.0.0.1:8080                up       6m40s   100.00 %
  -> 10.0.0.2:8080                down     1m40s   75.00 %  connect refused
  -> 10.0.0.3:8080                quiesced 6m40s   -        weight 0
  -> 10.0.0.4:8080                backup   6m40s   100.00 % serves while no other server can
TCP  192.0.2.10:443 sh (sh-fallback,sh-port)
  -> 10.0.0.1:443                 quiesced 1m40s   100.00 % weight 0
POOL api hash-bounded:50
  -> 10.0.0.1:8080                full     6m40s   100.00 % 1 connection, upper threshold 1
  -> [2001:db8::1]:8080           up       6m40s   100.00 %
"
    );
}

#[test]
fn document_of_a_listing_has_the_promised_fields() {
    let fake = Fake::with(RULES);
    fake.tick(1);
    fail(&fake, &tcp("192.0.2.10:80"), "10.0.0.2:8080");
    let lease = fake.lease(&tcp("192.0.2.10:80"), "10.0.0.1:8080", 1);
    lease.count_to_client(5);
    let document: Value = parsed(&fake, "-L --json -t 192.0.2.10:80");
    let expected: Value = serde_json::from_str(
        r#"{
          "version": 1,
          "services": [{
            "service": "TCP 192.0.2.10:80", "protocol": "tcp", "address": "192.0.2.10:80", "mark": null,
            "family": "ipv4", "pool": null, "scheduler": "wlc", "flags": [],
            "persistence": {"timeout_seconds": 60, "mask": "255.255.255.0", "engine": null, "templates_max": 1000000},
            "one_packet": false, "refused": 0,
            "counters": {"connections": 1, "packets_in": 0, "packets_out": 0, "bytes_in": 0, "bytes_out": 5},
            "rates": {"connections": 0, "packets_in": 0, "packets_out": 0, "bytes_in": 0, "bytes_out": 0},
            "history": {"up_seconds": 0.0, "down_seconds": 0.0, "planned_seconds": 0.0, "failures": 0,
                        "availability": null, "since_seconds": 0.0}
          }]
        }"#,
    )
    .unwrap();
    let mut service = document["services"][0].clone();
    let servers = service.as_object_mut().unwrap().remove("servers").unwrap();
    assert_eq!(service, expected["services"][0]);
    let expected: Value = serde_json::from_str(
        r#"{
          "address": "10.0.0.2:8080", "forwarding": "masquerading", "tunnel": null, "weight": 1,
          "backup": false, "upper_threshold": 0, "lower_threshold": 0, "active": 0, "inactive": 0,
          "templates": 0,
          "counters": {"connections": 0, "packets_in": 0, "packets_out": 0, "bytes_in": 0, "bytes_out": 0},
          "rates": {"connections": 0, "packets_in": 0, "packets_out": 0, "bytes_in": 0, "bytes_out": 0},
          "state": "down", "reason": "connect refused", "cut_off_seconds": null,
          "history": {"up_seconds": 0.0, "down_seconds": 0.0, "planned_seconds": 0.0, "failures": 1,
                      "availability": null, "since_seconds": 0.0}
        }"#,
    )
    .unwrap();
    assert_eq!(servers[1], expected);
    assert_eq!(document["version"], 1);
}

#[test]
fn document_names_every_kind_of_service_and_tunnel() {
    let fake = Fake::with(&format!(
        "{RULES}-A -f 7 -6 -s mh -b mh-port\n-A -u 192.0.2.10:53 -o\n\
         -a -u 192.0.2.10:53 -r 10.0.0.4:53 -i --tun-type gue --tun-port 6080 --tun-remcsum\n"
    ));
    let document: Services = parsed(&fake, "-L --json");
    let names: Vec<&str> = document.services.iter().map(|service| service.service.as_str()).collect();
    assert_eq!(names, ["TCP 192.0.2.10:80", "TCP 192.0.2.10:443", "UDP 192.0.2.10:53", "FWM 7 IPv6", "api"]);
    let [_, sh, udp, mark, pool] = &document.services[..] else { panic!("five services") };
    assert_eq!(sh.flags, ["sh-fallback", "sh-port"]);
    assert_eq!((udp.protocol.as_deref(), udp.one_packet), (Some("udp"), true));
    let tunnel = udp.servers[0].tunnel.as_ref().unwrap();
    assert_eq!(
        (tunnel.r#type.as_str(), tunnel.port, tunnel.checksum.as_deref()),
        ("gue", Some(6080), Some("remcsum"))
    );
    assert_eq!((mark.mark, mark.family.as_deref(), mark.address), (Some(7), Some("ipv6"), None));
    assert_eq!((pool.pool.as_deref(), pool.scheduler.as_str()), (Some("api"), "hash-bounded:50"));
}

#[test]
fn every_listing_has_a_document() {
    let fake = Fake::with(RULES);
    let _lease = fake.lease(&tcp("192.0.2.10:80"), "10.0.0.1:8080", 1);
    let connections: Connections = parsed(&fake, "-L -c --json");
    let [template] = &connections.connections[..] else { panic!("one template") };
    assert_eq!((template.state.as_str(), template.expires_seconds, template.template), ("NONE", 60, true));
    assert_eq!(template.client, "198.51.100.0:0".parse().unwrap());
    let timeouts: TimeoutValues = parsed(&fake, "-L --timeout --json");
    assert_eq!((timeouts.tcp_seconds, timeouts.tcp_fin_seconds, timeouts.udp_seconds), (900, 120, 300));
    assert_eq!(
        parsed::<Value>(&fake, "-L --daemon --json"),
        serde_json::json!({ "version": 1, "daemons": [] })
    );
    for layout in
        ["--stats", "--rate", "--thresholds", "--persistent-conn", "--tun-info", "--health", "--exact"]
    {
        assert_eq!(fake.stdout(&format!("-L --json {layout}")), fake.stdout("-L --json"), "{layout}");
    }
    assert_eq!(fake.run("-L --json -t 192.0.2.99:80").code, 1);
}

#[test]
fn drain_takes_a_server_out_of_every_service_and_says_what_is_left() {
    let fake = Fake::with(RULES);
    let _leases = fake.take(&tcp("192.0.2.10:80"), "10.0.0.1:8080", 3, 1);
    assert_eq!(
        fake.stdout("--drain 10.0.0.1 --deadline 90"),
        "10.0.0.1:8080 of TCP 192.0.2.10:80 drains: 4 connections and 1 persistent client left, cut off in 1m30s\n\
         10.0.0.1:443 of TCP 192.0.2.10:443 drains: 0 connections and 0 persistent clients left, cut off in 1m30s\n\
         10.0.0.1:8080 of api drains: 0 connections and 0 persistent clients left, cut off in 1m30s\n"
    );
    let saved = fake.stdout("-Sn");
    assert!(saved.contains("-a -t 192.0.2.10:80 -r 10.0.0.1:8080 -m -w 0\n"), "{saved}");
    assert!(saved.contains("-a -t 192.0.2.10:443 -r 10.0.0.1:443 -m -w 0\n"), "{saved}");
    let health = fake.stdout("-Ln --health -t 192.0.2.10:80");
    assert!(
        health.contains(
            " draining -       -        4 connections and 1 persistent client left, cut off in 1m30s\n"
        ),
        "{health}"
    );
    let document: Services = parsed(&fake, "-L --json -t 192.0.2.10:80");
    assert_eq!(document.services[0].servers[0].cut_off_seconds, Some(90.0));
}

#[test]
fn drain_can_be_meant_for_one_service_or_port() {
    let fake = Fake::with(RULES);
    assert_eq!(
        fake.stdout("--drain 10.0.0.1 -t 192.0.2.10:443"),
        "10.0.0.1:443 of TCP 192.0.2.10:443 drains: 0 connections and 0 persistent clients left\n"
    );
    fake.stdout("--drain 10.0.0.1:8080 --pool api --deadline 0");
    let weights: Vec<u32> =
        fake.director.config().services.iter().map(|service| service.servers[0].weight.value()).collect();
    assert_eq!(weights, [2, 0, 0]);
}

#[test]
fn quiesced_server_that_is_down_is_told_to_be_both() {
    let fake = Fake::with(RULES);
    fail(&fake, &tcp("192.0.2.10:80"), "10.0.0.3:8080");
    let health = fake.stdout("-Ln --health -t 192.0.2.10:80");
    assert!(health.contains(" quiesced 0s      -        weight 0, and down: connect refused\n"), "{health}");
}

#[test]
fn drain_without_a_deadline_cuts_nobody_off_and_names_no_time() {
    let fake = Fake::with(RULES);
    let _leases = fake.take(&tcp("192.0.2.10:443"), "10.0.0.1:443", 1, 0);
    fake.stdout("--drain 10.0.0.1:443");
    // Longer than any deadline that can be asked for.
    fake.tick(400 * 86_400);
    let health = fake.stdout("-Ln --health -t 192.0.2.10:443");
    assert!(health.ends_with(" 1 connection left\n"), "{health}");
    assert_eq!(fake.director.draining().len(), 1);
    let document: Services = parsed(&fake, "-L --json -t 192.0.2.10:443");
    let server = &document.services[0].servers[0];
    assert_eq!((server.state.as_str(), server.cut_off_seconds), ("draining", None));
}

#[test]
fn drain_that_is_asked_for_again_has_the_new_deadline_and_one_end() {
    let fake = Fake::with(RULES);
    let _leases = fake.take(&tcp("192.0.2.10:443"), "10.0.0.1:443", 1, 0);
    fake.stdout("--drain 10.0.0.1:443 --deadline 90");
    fake.stdout("--drain 10.0.0.1:443 --deadline 5");
    assert_eq!(fake.director.draining().len(), 1);
    assert_eq!(fake.director.draining()[0].deadline, Time::from_nanos(5_000_000_000));
}

#[test]
fn explanation_names_the_server_and_what_stands_against_the_others() {
    let fake = Fake::with(RULES);
    fail(&fake, &tcp("192.0.2.10:80"), "10.0.0.2:8080");
    let expected = "\
TCP 192.0.2.10:80 from 198.51.100.7:0: 10.0.0.1:8080 (wlc)
  10.0.0.1:8080 weight 2 active 0 inactive 0: chosen
  10.0.0.2:8080 weight 1 active 0 inactive 0: down since 1970-01-01 00:00:00Z: connect refused
  10.0.0.3:8080 weight 0 active 0 inactive 0: quiesced: weight 0
  10.0.0.4:8080 weight 1 active 0 inactive 0: backup: others can be chosen
";
    for line in [
        "--explain 192.0.2.10:80 198.51.100.7",
        "--explain -t 192.0.2.10:80 198.51.100.7",
        "--explain 198.51.100.7 -t 192.0.2.10:80",
        "--explain 192.0.2.10:http 198.51.100.7",
    ] {
        assert_eq!(fake.stdout(line), expected, "{line}");
    }
    let document: Value = parsed(&fake, "--explain 192.0.2.10:80 198.51.100.7:1024 --json");
    assert_eq!(document["version"], 1);
    assert_eq!(document["explanation"]["client"], "198.51.100.7:1024");
    assert_eq!(document["explanation"]["outcome"]["server"], "10.0.0.1:8080");
    assert_eq!(document["explanation"]["candidates"][1]["verdict"], "down");
    for line in ["--explain api 198.51.100.7", "--explain --pool api 198.51.100.7"] {
        assert!(fake.stdout(line).starts_with("api from 198.51.100.7:0: "), "{line}");
    }
}

#[test]
fn plan_tells_each_change_and_whom_it_meets_and_changes_nothing() {
    let fake = Fake::with(RULES);
    let _leases = fake.take(&tcp("192.0.2.10:80"), "10.0.0.2:8080", 3, 0);
    let before = fake.director.config();
    let wanted = "\
-A -t 192.0.2.10:80 -s mh -p 60 -M 255.255.255.0
-a -t 192.0.2.10:80 -r 10.0.0.1:8080 -m -w 3 -x 100 -y 80
-a -t 192.0.2.10:80 -r 10.0.0.3:8080 -m -w 0
-a -t 192.0.2.10:80 -r 10.0.0.4:8080 -m --backup
-A -t 192.0.2.10:443 -s sh -b sh-fallback,sh-port
-a -t 192.0.2.10:443 -r 10.0.0.1:443 -m
-A -t 192.0.2.11:80
-a -t 192.0.2.11:80 -r 10.0.0.1:8080 -m
";
    let plan = fake.run_with("--plan new.rules", wanted);
    assert_eq!(
        plan.stdout,
        "\
- service api
- server 10.0.0.2:8080 of TCP 192.0.2.10:80
+ service TCP 192.0.2.11:80 -s wlc
+ server 10.0.0.1:8080 of TCP 192.0.2.11:80 -m -w 1
~ service TCP 192.0.2.10:80 -s wlc -p 60 -M 255.255.255.0 => -s mh -p 60 -M 255.255.255.0
~ server 10.0.0.1:8080 of TCP 192.0.2.10:80 -m -w 2 -x 100 -y 80 => -m -w 3 -x 100 -y 80
3 connections are on servers that go
1 persistent client loses its server
"
    );
    assert_eq!((plan.stderr.as_str(), plan.code), ("", 0));
    let document: Value =
        serde_json::from_str(&fake.run_with("--plan new.rules --json", wanted).stdout).unwrap();
    assert_eq!((&document["version"], &document["plan"]["connections"]), (&1.into(), &3.into()));
    assert_eq!(fake.director.config(), before);
    assert_eq!(fake.run_with("--plan same.rules", RULES).stdout, "nothing would change\n");
}

#[test]
fn plan_of_a_wrong_file_names_the_line() {
    let output = Fake::default().run_with("--plan new.rules", "-C\n-A -t 192.0.2.1:80 -w\n");
    assert_eq!(output.stderr, "new.rules:2: -w: missing argument\n");
    assert_eq!((output.stdout.as_str(), output.code), ("", 2));
}

#[test]
fn full_save_restores_what_ipvsadms_would_lose() {
    let fake = Fake::with(RULES);
    fake.stdout("--set 600 60 30");
    let saved = fake.stdout("-S -n --full");
    assert_eq!(
        saved,
        format!(
            "--set 600 60 30\n{}",
            RULES.replace("-m\n", "-m -w 1\n").replace("-m -x", "-m -w 1 -x").replace("-m --", "-m -w 1 --")
        )
    );
    let again = Fake::default();
    assert_eq!(again.run_with("-R", &saved).code, 0);
    assert_eq!(again.stdout("-S -n --full"), saved);
    let rules = lvsadm::rules::read("saved", &saved, |_| Ok(())).unwrap();
    assert_eq!(rules.config, again.director.config());
    assert_eq!(fake.stdout("-Sn").find("--"), None, "nothing that ipvsadm does not read");
}

#[test]
fn named_pool_is_administered_like_a_service() {
    let fake = Fake::default();
    fake.stdout("-A --pool api -s swrr");
    fake.stdout("-a --pool api -r 10.0.0.1:80 -m -w 3");
    fake.stdout("-e --pool api -r 10.0.0.1:80 -m -w 4");
    assert_eq!(
        fake.stdout("-Ln --pool api"),
        "Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n\
         POOL api swrr\n  -> 10.0.0.1:80                  Masq    4      0          0         \n"
    );
    fake.stdout("-d --pool api -r 10.0.0.1:80");
    fake.stdout("-D --pool api");
    assert!(fake.director.config().services.is_empty());
}
