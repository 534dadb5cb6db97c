//! What a file asks for: lexical rules, inheritance and defaults, as keepalived has them.

use std::time::Duration;

use l4_proxy::keepalived::model::{
    ArbiterKind, Arguments, Kind, OnArbiterLoss, RealServer, VirtualServer, Weight,
};
use l4_proxy::keepalived::{self, Dialect};
use lvs_core::{Algorithm, ServiceKey};

use super::{complaints, read};

/// The virtual servers of a text about which nothing is to be said.
fn services(text: &str) -> Vec<VirtualServer> {
    let loaded = read(text);
    assert!(loaded.complaints.is_empty(), "{text}: {:#?}", complaints(text));
    loaded.model.services
}

/// The one real server of a virtual server with these lines.
fn server(lines: &str, server: &str) -> RealServer {
    let text = format!(
        "virtual_server 192.0.2.1 80 {{\nlb_algo rr\nlb_kind NAT\nprotocol TCP\n{lines}\nreal_server 10.0.0.1 8080 {{\n{server}\n}}\n}}"
    );
    services(&text).remove(0).servers.remove(0)
}

/// What the lines of a text are after conditions, definitions, loops and includes: the router ids
/// that a block of them would set, here the words of a notification list.
fn words(lines: &str) -> Vec<String> {
    let text = format!("vrrp_sync_group G {{\ngroup {{\n{lines}\n}}\n}}");
    let said = complaints(&text);
    let names = said.iter().filter_map(|line| line.split("there is no vrrp_instance ").nth(1));
    names.map(|rest| rest.lines().next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn lines_are_what_keepalived_makes_of_them() {
    for (lines, expected) in [
        ("a # b\n! c\nd", "a d"),
        ("@main a\n@other b\n@^main c\n@^other d", "a d"),
        ("$A=x\n$A\n${A}y\n$Ay", "x xy $Ay"),
        ("$A=1${B}\n$B=2\n${A}\n$B=3\n${A}", "12 13"),
        ("$M= \\\na${N} \\\nb${N}\n$N=1\n$M\n$N=2\n$M", "a1 b1 a2 b2"),
        ("$M= \\\n@main a \\\n@other b\n$M", "a"),
        ("$O= \\\n$N=7 \\\n$I\n$I= \\\nx${N} \\\ny${N}\n$O", "x7 y7"),
        ("$IF=@main\n$IF a\n$IF=@other\n$IF b", "a"),
        ("~SEQ(N, 1, 3) a${N}", "a1 a2 a3"),
        ("~SEQ(A, 0, 1) ~LST(B, x, y) ${A}${B}", "0x 0y 1x 1y"),
        ("~LST({A, B}, {1, 2}, {3, 4}) ${A}-${B}", "1-2 3-4"),
        ("$M= \\\na${N} \\\nb${N}\n~SEQ(N, 1, 2) $M", "a1 b1 a2 b2"),
        ("${_INSTANCE}\na${_HASH}b", "main a#b"),
        ("\"a b\"\n'c'", "a b c"),
    ] {
        assert_eq!(words(lines).join(" "), expected, "{lines}");
    }
}

#[test]
fn included_files_are_read_in_their_place_and_by_their_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    write("conf.d/2.conf", "b\ninclude inner/x\n");
    write("conf.d/1.conf", "a\n");
    write("conf.d/inner/x", "c\nwrong {\n");
    write("main", "vrrp_sync_group G {\ngroup {\ninclude conf.d/*.conf\nd\n}\n}\n");
    let loaded = keepalived::load(&folder.path().join("main"), "node").expect("a file");
    let said: Vec<String> = loaded
        .complaints
        .iter()
        .map(|complaint| {
            let file = complaint.file().file_name().unwrap_or_default().to_string_lossy().into_owned();
            format!("{file}:{} {}", complaint.line(), complaint.message)
        })
        .collect();
    for expected in [
        "1.conf:1 there is no vrrp_instance a",
        "2.conf:1 there is no vrrp_instance b",
        "x:1 there is no vrrp_instance c",
        "main:4 there is no vrrp_instance d",
    ] {
        // The block that the innermost file leaves open swallows what comes after it.
        let swallowed = expected.starts_with("main");
        assert_eq!(said.iter().any(|line| line == expected), !swallowed, "{expected}: {said:#?}");
    }
    write("main", "include main\n");
    let loaded = keepalived::load(&folder.path().join("main"), "node").expect("a file");
    assert!(loaded.complaints[0].message.contains("include each other without end"));
    write("main", "include nowhere\nincludem none*\nincluder {a,b}\ninclude none*\n");
    let loaded = keepalived::load(&folder.path().join("main"), "node").expect("a file");
    let lines: Vec<usize> = loaded.complaints.iter().map(|complaint| complaint.line()).collect();
    assert_eq!(lines, [1, 2, 3, 3]);
}

#[test]
fn what_is_not_said_is_as_in_keepalived() {
    let service = &services(
        "virtual_server 192.0.2.1 80 {\nlb_algo wlc\nlb_kind NAT\nprotocol TCP\nreal_server 10.0.0.1 {\nTCP_CHECK {\n}\nMISC_CHECK {\nmisc_path x\n}\nDNS_CHECK {\n}\nHTTP_GET {\nurl {\npath /\n}\n}\n}\n}",
    )[0];
    assert_eq!(service.keys, [ServiceKey::tcp("192.0.2.1:80".parse().expect("an address"))]);
    assert_eq!((service.algorithm, service.quorum, service.hysteresis), (Algorithm::Wlc, 1, 0));
    assert_eq!(service.persistence, None);
    let server = &service.servers[0];
    assert_eq!((server.address, server.weight), ("10.0.0.1:80".parse().expect("an address"), 1));
    let seconds = Duration::from_secs;
    let timing: Vec<_> = server
        .checkers
        .iter()
        .map(|checker| {
            let rhythm = &checker.rhythm;
            (
                checker.name(),
                rhythm.delay_loop,
                rhythm.timeout,
                rhythm.retry,
                rhythm.delay_before_retry,
                rhythm.warmup,
            )
        })
        .collect();
    assert_eq!(
        timing,
        [
            ("TCP_CHECK", seconds(60), seconds(5), 1, seconds(1), seconds(60)),
            ("MISC_CHECK", seconds(60), seconds(60), 0, seconds(1), seconds(60)),
            ("DNS_CHECK", seconds(60), seconds(5), 3, seconds(60), seconds(60)),
            ("HTTP_GET", seconds(60), seconds(5), 1, seconds(3), seconds(60)),
        ]
    );
}

#[test]
fn what_a_service_says_holds_for_servers_and_checks_that_say_nothing() {
    let lines = "delay_loop 6\nretry 4\nconnect_timeout 2\nweight 7\nalpha\ninhibit_on_failure\nvirtualhost a.example";
    let own = "HTTP_GET {\nurl {\npath /\n}\nretry 2\nalpha no\n}\nTCP_CHECK {\nconnect_port 81\nbindto 192.0.2.9\n}\nweight 9\nconnect_timeout 1";
    let server = server(lines, own);
    assert_eq!((server.weight, server.inhibit), (9, true));
    let [http, tcp] = &server.checkers[..] else { panic!("two checks") };
    assert_eq!((http.rhythm.retry, http.alpha, http.rhythm.delay_loop), (2, false, Duration::from_secs(6)));
    assert_eq!((tcp.rhythm.retry, tcp.alpha, tcp.rhythm.timeout), (4, true, Duration::from_secs(1)));
    let (Kind::Http(_, method), Kind::Tcp(origin)) = (&http.kind, &tcp.kind) else { panic!("two kinds") };
    assert_eq!(method.urls[0].host.as_deref(), Some("a.example"));
    assert_eq!(origin.target.to_string(), "10.0.0.1:81");
    assert_eq!(origin.bind.map(|bind| bind.to_string()).as_deref(), Some("192.0.2.9:0"));
}

#[test]
fn group_is_a_service_for_each_of_its_members() {
    let text = "virtual_server_group G {\n10.0.0.1-3 80\n10.0.0.9 443\nfwmark 7\n}\nvirtual_server group G {\nlb_algo rr\nlb_kind NAT\nprotocol UDP\nreal_server 10.1.0.1 80 {\n}\n}";
    let keys: Vec<String> = services(text)[0].keys.iter().map(ToString::to_string).collect();
    assert_eq!(keys, ["UDP 10.0.0.1:80", "UDP 10.0.0.2:80", "UDP 10.0.0.3:80", "UDP 10.0.0.9:443", "FWM 7"]);
}

#[test]
fn commands_are_words_and_not_a_shell_s() {
    let server = server("", "notify_up \"/bin/x 'a b' c;d\" nobody nogroup");
    let script = server.notify_up.expect("a script");
    assert_eq!(script.words, ["/bin/x", "a b", "c;d"]);
    assert_eq!(
        script.user.map(|user| (user.user, user.group)),
        Some(("nobody".to_owned(), Some("nogroup".to_owned())))
    );
}

#[test]
fn lenient_reader_leaves_out_what_it_cannot_understand() {
    let text = "virtual_server 192.0.2.1 80 {\nlb_algo rr\nlb_kind NAT\nprotocol TCP\nwieght 3\nreal_server 10.0.0.1 80 {\nweight x\n}\n}";
    assert_eq!(read(text).accept(Dialect::Strict).map_err(|complaints| complaints.len()).err(), Some(2));
    let (model, warnings) = read(text).accept(Dialect::Lenient).expect("what is left is good");
    assert_eq!((model.services[0].servers[0].weight, warnings.len()), (1, 2));
}

fn weight(value: i64) -> Weight {
    Weight { value, reversed: false }
}

#[test]
fn vrrp_is_read_for_whoever_will_run_it() {
    let text = "vrrp_script c {\nscript \"killall -0 x\"\ninterval 2\nweight -4\n}\nvrrp_instance VI_1 {\nstate MASTER\ninterface eth0\nvirtual_router_id 51\npriority 150\nadvert_int 2\nauthentication {\nauth_type PASS\nauth_pass 1111\n}\nvirtual_ipaddress {\n192.0.2.9/24 dev eth1 label eth1:1\n}\nunicast_src_ip 192.0.2.1\nunicast_peer {\n192.0.2.2\n}\ntrack_script {\nc weight 2\n}\nnotify_master /bin/true\ngarp_master_delay 3\n}\nvrrp_sync_group G {\ngroup {\nVI_1\n}\n}";
    let loaded = read(text);
    assert!(loaded.complaints.is_empty(), "{:#?}", complaints(text));
    let vrrp = loaded.model.vrrp;
    let instance = &vrrp.instances[0];
    assert_eq!(
        (instance.router_id, instance.priority, instance.advertisement),
        (51, 150, Duration::from_secs(2))
    );
    assert_eq!(instance.addresses[0].device.as_deref(), Some("eth1"));
    assert_eq!(instance.peers[0].address.to_string(), "192.0.2.2");
    assert_eq!(instance.track.scripts, [("c".to_owned(), Some(weight(2)))]);
    assert_eq!(instance.announcing.again, Duration::from_secs(3));
    assert_eq!(instance.further, Vec::<Vec<String>>::new());
    assert_eq!((vrrp.groups[0].members.len(), vrrp.scripts[0].weight), (1, weight(-4)));
}

#[test]
fn processes_are_asked_for_as_keepalived_asks() {
    for (lines, arguments, quorum, warning) in [
        ("", Arguments::AsGiven, (1, u32::MAX), None),
        ("param_match", Arguments::Exact, (1, u32::MAX), None),
        ("param_match partial\nquorum 2\nquorum_max 4", Arguments::Partial, (2, 4), None),
        // Failure if it runs at all.
        ("param_match initial\nquorum_max 0", Arguments::Initial, (0, 0), None),
        ("quorum 1\nquorum_max 0", Arguments::AsGiven, (0, 0), None),
        ("quorum 3\nquorum_max 2", Arguments::AsGiven, (3, u32::MAX), Some("quorum_max is below quorum")),
    ] {
        let text = format!("vrrp_track_process p {{\nprocess sshd\n{lines}\n}}\n");
        let said = complaints(&text);
        assert_eq!(said.len(), usize::from(warning.is_some()), "{lines}: {said:?}");
        assert!(warning.is_none_or(|warning| said[0].contains(warning)), "{said:?}");
        let process = read(&text).model.vrrp.processes.remove(0);
        assert_eq!((process.arguments, (process.quorum, process.quorum_max)), (arguments, quorum), "{lines}");
    }
}

#[test]
fn arbiter_is_read_with_all_that_it_needs() {
    let block = "arbiter {\netcd http://10.0.0.5:2379 http://10.0.0.6:2379\nkey /vrrp/web\non_arbiter_loss keep\nttl 8\n}";
    let instance = |name: &str, id: u8, block: &str| {
        format!(
            "vrrp_instance {name} {{\ninterface eth0\nvirtual_router_id {id}\nvirtual_ipaddress {{\n192.0.2.{id}\n}}\n{block}\nnotify_split_brain /bin/true\n}}\n"
        )
    };
    let vrrp = read(&instance("A", 1, block)).model.vrrp;
    let arbiter = vrrp.instances[0].arbiter.as_ref().expect("an arbiter");
    assert_eq!((arbiter.ttl, arbiter.on_loss), (Duration::from_secs(8), OnArbiterLoss::Keep));
    let ArbiterKind::Etcd(etcd) = &arbiter.kind else { panic!("{arbiter:?}") };
    assert_eq!((etcd.endpoints.len(), etcd.key.as_str()), (2, "/vrrp/web"));
    assert!(vrrp.instances[0].notify.split_brain.is_some());
    let other = "arbiter {\nping 10.0.0.1\n}";
    let ping = read(&instance("A", 1, other)).model.vrrp.instances.remove(0).arbiter.expect("an arbiter");
    assert_eq!((ping.ttl, ping.on_loss), (Duration::from_secs(5), OnArbiterLoss::Yield));
    let group = "vrrp_sync_group G {\ngroup {\nA\nB\n}\n}\n";
    let both = |second| complaints(&(instance("A", 1, block) + &instance("B", 2, second) + group));
    assert_eq!(both(block), Vec::<String>::new());
    assert!(both(other)[0].contains("all members of G need the same arbiter"));
}

#[test]
fn timing_in_the_host_of_an_smtp_check_is_that_of_the_check() {
    let host = "host {\nconnect_ip 10.0.0.2\nretry 4\ndelay_loop 7\nalpha\nconnect_timeout 2\n}";
    let server = server("", &format!("SMTP_CHECK {{\nconnect_timeout 3\n{host}\n}}"));
    let [checker] = &server.checkers[..] else { panic!("one checker") };
    let rhythm = &checker.rhythm;
    assert_eq!((rhythm.retry, rhythm.delay_loop, checker.alpha), (4, Duration::from_secs(7), true));
    let Kind::Smtp(hosts, _) = &checker.kind else { panic!("an SMTP check") };
    assert_eq!(hosts[0].timeout, Duration::from_secs(2), "its own");
    assert_eq!(rhythm.timeout, Duration::from_secs(3));
}

#[test]
fn scripts_of_the_beginning_and_the_end_have_a_user_and_a_time() {
    let text = "global_defs {\nstartup_script \"/bin/true a 'b c'\" lb adm\nshutdown_script /bin/false\n\
                shutdown_script_timeout 3\n}";
    let loaded = read(text);
    assert!(loaded.complaints.is_empty(), "{:#?}", complaints(text));
    let (startup, shutdown) = (loaded.model.global.startup.unwrap(), loaded.model.global.shutdown.unwrap());
    assert_eq!(startup.script.words, ["/bin/true", "a", "b c"]);
    let user = startup.script.user.unwrap();
    assert_eq!((user.user.as_str(), user.group.as_deref()), ("lb", Some("adm")));
    assert_eq!((startup.patience, shutdown.patience), (Duration::from_secs(10), Duration::from_secs(3)));
}
