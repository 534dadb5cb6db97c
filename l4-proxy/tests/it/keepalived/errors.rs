//! What is said of files that are wrong, to the letter.

use super::{complaints, read};

/// A service with these lines in it, and in its server.
fn service(lines: &str, server: &str) -> String {
    format!(
        "virtual_server 192.0.2.1 80 {{\n  lb_algo rr\n  lb_kind NAT\n  protocol TCP\n{lines}\n  \
         real_server 10.0.0.1 80 {{\n{server}\n  }}\n}}\n"
    )
}

/// Checks the whole output about a text.
fn check(text: &str, expected: &str) {
    assert_eq!(complaints(text).join("\n"), expected, "{text}");
}

#[test]
fn every_error_of_a_file_is_told_with_its_place() {
    check(
        "global_defs {\n  router_idd lb1\n  vrrp_version 4\n}\nvirtual_server 192.0.2.1 80 {\n    lb_algo rrr\n    lb_kind NAT\n    \
         protocol TCP\n    real_server 10.0.0.1 http {\n\tweight x # not a number\n\tTCP_CHECK {\n\t    conect_timeout 3\n\t}\n    }\n}\n",
        "lb.conf:2: unknown keyword \"router_idd\" in global_defs; did you mean \"router_id\"?
    router_idd lb1
    ^^^^^^^^^^
lb.conf:3: invalid value \"4\" for vrrp_version: wanted a number from 2 to 3
    vrrp_version 4
                 ^
lb.conf:6: invalid value \"rrr\" for lb_algo: wanted rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos
    lb_algo rrr
            ^^^
lb.conf:10: invalid value \"x\" for weight: wanted a number from 0 to 2147483647
    weight x
           ^
lb.conf:12: unknown keyword \"conect_timeout\" in TCP_CHECK; did you mean \"connect_timeout\"?
    conect_timeout 3
    ^^^^^^^^^^^^^^",
    );
}

#[test]
fn column_of_the_blame_is_right_behind_tabs_and_wide_characters() {
    check(
        "global_defs {\n\trouter_id\t\"zürich\" x\n}\n",
        "lb.conf:2: unexpected \"x\" after router_id\n    router_id \"zürich\" x\n                       ^",
    );
}

#[test]
fn braces_that_do_not_match_are_told() {
    check(
        "global_defs {\n  router_id a\n",
        "lb.conf:1: the block of global_defs is not closed: a '}' is missing\n    global_defs {\n    ^^^^^^^^^^^",
    );
    check("global_defs {\n}\n}\n", "lb.conf:3: unexpected '}': no block is open\n    }\n    ^");
    check("{\n}\n", "lb.conf:1: unexpected '{': it belongs to no statement\n    {\n    ^");
    check(
        "global_defs\n",
        "lb.conf:1: global_defs needs a block: '{' is missing\n    global_defs\n    ^^^^^^^^^^^",
    );
    // Where one is missing shows at what can be in no block.
    check(
        "global_defs {\n  router_id a\nvrrp_script b {\n}\n",
        "lb.conf:1: the block of global_defs is not closed: a '}' is missing
    global_defs {
    ^^^^^^^^^^^
lb.conf:3: unknown keyword \"vrrp_script\" in global_defs; it stands outside of blocks; is a '}' missing before it?
    vrrp_script b {
    ^^^^^^^^^^^",
    );
}

#[test]
fn unknown_block_is_one_error_and_what_follows_is_read() {
    check(
        &service("  servce_type x {\n    a b\n    c {\n    }\n  }\n  wieght 3", ""),
        "lb.conf:5: unknown keyword \"servce_type\" in virtual_server
    servce_type x {
    ^^^^^^^^^^^
lb.conf:10: unknown keyword \"wieght\" in virtual_server; did you mean \"weight\"?
    wieght 3
    ^^^^^^",
    );
}

/// Lines in a virtual server or its real server, and the first line of what is said of them.
#[test]
fn wrong_lines_are_told_in_plain_words() {
    for (lines, server, expected) in [
        ("quorum 0", "", "invalid value \"0\" for quorum: wanted a number of at least 1"),
        ("quorum 3", "", "warning: the quorum of 3 is above the weight of all servers: 1 is taken"),
        ("hysteresis 1", "", "warning: the hysteresis has to be below the quorum: 0 is taken"),
        (
            "persistence_timeout 0",
            "",
            "invalid value \"0\" for persistence_timeout: wanted a number from 1 to 2678400",
        ),
        (
            "lb_kind nat",
            "",
            "invalid forwarding method: wanted NAT, DR or TUN [type ipip|gue port N|gre] [nocsum|csum|remcsum]",
        ),
        (
            "lvs_method TUN type gue",
            "",
            "invalid forwarding method: wanted NAT, DR or TUN [type ipip|gue port N|gre] [nocsum|csum|remcsum]",
        ),
        ("protocol ICMP", "", "invalid value \"ICMP\" for protocol: wanted TCP, UDP, SCTP"),
        ("ops", "", "one-packet scheduling (ops) is for UDP only"),
        ("sh-port", "", "sh-port is for the scheduler sh only"),
        ("sorry_server", "", "sorry_server needs a value"),
        (
            "quorum $Q",
            "",
            "invalid value \"$Q\" for quorum: wanted a number of at least 1; $Q is not defined",
        ),
        (
            "sorry_server 10.0.0.${N}5 80",
            "",
            "invalid value \"10.0.0.${N}5\" for sorry_server: wanted an IP address; $N is not defined",
        ),
        ("sorry_server_inhibit", "", "sorry_server_inhibit without a sorry_server"),
        ("sorry_server 10.0.0.1 80", "", "the sorry server 10.0.0.1:80 is a real server too"),
        (
            "delay_loop x",
            "",
            "invalid value \"x\" for delay_loop: wanted seconds from 0.000001 to 1000000000",
        ),
        ("quorum_up 'a b", "", "the quote is not closed"),
        ("real_server 10.0.0.1 80 {\n}", "", "real_server 10.0.0.1:80 is there already"),
        ("real_server ::1 80 {\n}", "", "real server and virtual server are of different address families"),
        ("real_server 10.0.0 80 {\n}", "", "invalid value \"10.0.0\" for real_server: wanted an IP address"),
        ("", "lthreshold 5", "lower threshold 5 is above upper threshold 0"),
        ("", "notify_up", "notify_up needs a value"),
        ("", "weight 1 2", "unexpected \"2\" after weight"),
        (
            "",
            "TCP_CHECK {\nnb_get_retry 3\n}",
            "unknown keyword \"nb_get_retry\" in TCP_CHECK; did you mean \"retry\"?",
        ),
        (
            "",
            "TCP_CHECK {\nconnect_port 0\n}",
            "invalid value \"0\" for connect_port: wanted a number from 1 to 65535",
        ),
        ("", "TCP_CHECK {\nbindto ::1\n}", "bindto and the address to connect to are of different families"),
        ("", "HTTP_GET {\n}", "HTTP_GET has no url that could be checked"),
        ("", "HTTP_GET {\nurl {\npath /\ndigest xyz\n}\n}", "a digest has 32 hexadecimal digits"),
        (
            "",
            "HTTP_GET {\nurl {\npath /\nstatus_code 300-200\n}\n}",
            "wanted a status code from 100 to 999, or a range of them",
        ),
        ("", "HTTP_GET {\nurl {\npath /\nregex (a\n}\n}", "the pattern cannot be used: unclosed group"),
        (
            "",
            "HTTP_GET {\nnb_get_retry 3\nurl {\npath /\n}\n}",
            "warning: nb_get_retry: retry is its name today",
        ),
        (
            "",
            "DNS_CHECK {\ntype FOO\n}",
            "invalid value \"FOO\" for type: wanted A, NS, CNAME, SOA, MX, TXT, AAAA",
        ),
        ("", "DNS_CHECK {\nname a..b\n}", "\"a..b\" is no domain name"),
        ("", "UDP_CHECK {\npayload zz\n}", "the payload is not made of hexadecimal digits"),
        ("", "MISC_CHECK {\n}", "MISC_CHECK has no misc_path"),
        ("", "FILE_CHECK {\ntrack_file y\n}", "there is no track_file y"),
        ("", "BFD_CHECK {\nname x\n}", "BFD_CHECK is not supported: this director speaks no BFD"),
        ("~SEQ(N, 1, 0, 3) weight ${N}", "", "the loop has a step of 0"),
        ("$A=${A}\nweight ${A}", "", "the definitions lead in a circle"),
    ] {
        let all = complaints(&service(lines, server));
        let first = all.first().map_or("", |complaint| complaint.lines().next().unwrap_or_default());
        let said = first.split_once(": ").map_or("", |(_, said)| said);
        assert_eq!(said, expected, "{lines}{server}: {all:#?}");
    }
}

#[test]
fn virtual_servers_that_cannot_be_meant_are_told() {
    for (text, expected) in [
        ("virtual_server group X {\n protocol TCP\n}", "there is no virtual_server_group X"),
        ("virtual_server fwmark 0 {\n}", "a firewall mark is a number above 0"),
        ("virtual_server 192.0.2.1 80 90 {\n}", "unexpected \"90\" after virtual_server"),
        ("virtual_server 192.0.2 80 {\n}", "wanted IP [port], fwmark N or group NAME"),
        ("virtual_server_group X {\n 10.0.0.9-3 80\n}", "wanted an IP address, a range of them, or fwmark"),
        (
            "virtual_server 192.0.2.1 80 {\n protocol TCP\n lb_algo rr\n lb_kind NAT\n}",
            "the virtual server has no real server",
        ),
    ] {
        let all = complaints(text);
        assert!(all.first().is_some_and(|first| first.contains(expected)), "{text}: {all:#?}");
    }
    let twice = service("", "").repeat(2);
    assert!(complaints(&twice)[0].contains("TCP 192.0.2.1:80 is a virtual server already, see lb.conf:1"));
}

#[test]
fn what_is_understood_and_not_done_is_told() {
    let complaints = |text: &str| {
        let mut loaded = read(text);
        loaded.fit(|_| Ok(()));
        loaded.complaints.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for (text, expected) in [
        (
            "bfd_instance b {\nneighbor_ip 10.0.0.1\n}",
            "bfd_instance is not supported: this director speaks no BFD",
        ),
        ("static_routes {\n10.0.0.0/8 via 10.1.1.1\n}", "static_routes is not supported: let the system's"),
        ("net_namespace blue", "net_namespace is not supported: start the director there"),
        ("global_defs {\nenable_snmp_checker\n}", "warning: enable_snmp_checker has no effect here"),
        (
            "global_defs {\nreload_time_file /x\n}",
            "warning: reload_time_file has no effect here: SIGHUP alone",
        ),
        (
            "global_defs {\nchecker_cpu_affinity 0 1\n}",
            "warning: checker_cpu_affinity has no effect here: let the unit",
        ),
        ("global_defs {\numask 022\n}", "warning: umask has no effect here: let the unit"),
        ("global_defs {\nvrrp_strict\n}", "warning: vrrp_strict has no effect here"),
        ("SSL {\ncertificate /x\n}", "warning: certificate: checks show no certificate"),
        (
            "global_defs {\nsmtp_alert\n}",
            "warning: no mail is sent: there is no notification_email in global_defs",
        ),
        (
            "global_defs {\nsmtp_alert_vrrp\nnotification_email {\na@b\n}\n}",
            "warning: no mail is sent: there is no smtp_server in global_defs",
        ),
        (
            &service("smtp_alert", ""),
            "warning: no mail is sent: there is no notification_email in global_defs",
        ),
        (
            "global_defs {\nlvs_sync_key 0123456789abcdef\n}",
            "warning: lvs_sync_key has no effect without lvs_sync_daemon",
        ),
        (
            "global_defs {\nlvs_sync_peers {\n10.0.0.1\n}\n}",
            "warning: lvs_sync_peers has no effect without lvs_sync_daemon",
        ),
        ("global_defs {\nscript_user no-such-user\n}", "lb.conf:2: warning: there is no user no-such-user"),
        ("global_defs {\nscript_user root no-such-group\n}", "warning: there is no group no-such-group"),
        (
            "vrrp_script a {\nscript /bin/true\nuser no-such-user\n}",
            "lb.conf:3: warning: there is no user no-such-user",
        ),
        (
            &service("", "notify_down \"/nonexistent/program x\""),
            "warning: /nonexistent/program cannot be run: No such file or directory",
        ),
        (
            "vrrp_script a {\nscript no-such-program\n}",
            "warning: no-such-program cannot be run: not found in PATH",
        ),
        (&service("quorum_down /etc/passwd", ""), "warning: /etc/passwd cannot be run: it is no program"),
        ("global_defs {\nvrrp_mcast_group4 10.1.1.1\n}", "lb.conf:2: 10.1.1.1 is not multicast"),
        ("global_defs {\nvrrp_mcast_group4 ff02::1\n}", "lb.conf:2: ff02::1 is not IPv4"),
        ("global_defs {\nvrrp_mcast_group6 fd00::1\n}", "lb.conf:2: fd00::1 is not multicast"),
        ("global_defs {\nvrrp_mcast_group6 ff05::1\n}", "warning: ff05::1 should be link-local multicast"),
    ] {
        let all = complaints(text);
        assert!(all.first().is_some_and(|first| first.contains(expected)), "{text}: {all:#?}");
        assert_eq!(all.len(), 1, "{text}: {all:#?}");
    }
    let complete = "global_defs {\nsmtp_alert\nsmtp_server localhost\nnotification_email {\na@b\n}\n}";
    assert_eq!(complaints(complete), [""; 0]);
    assert_eq!(complaints(&service("smtp_alert off", "")), [""; 0]);
}

#[test]
fn vrrp_blocks_that_cannot_be_meant_are_told() {
    let instance = |lines: &str| {
        format!(
            "vrrp_instance VI_1 {{\n interface eth0\n virtual_router_id 51\n virtual_ipaddress {{\n 10.0.0.9\n }}\n{lines}\n}}\n"
        )
    };
    for (text, expected) in [
        (instance("state SLAVE"), "invalid value \"SLAVE\" for state: wanted MASTER, BACKUP"),
        (instance("priority 300"), "invalid value \"300\" for priority: wanted a number from 1 to 255"),
        (instance("track_script {\n a\n}"), "there is no vrrp_script a"),
        (
            instance("authentication {\n auth_pass 123456789\n}"),
            "warning: only the first 8 bytes of auth_pass count",
        ),
        (
            instance("state MASTER\nnopreempt"),
            "warning: nopreempt needs state BACKUP: it is taken to begin as BACKUP",
        ),
        (instance("mcast_dst_ip 10.1.1.1"), "lb.conf:7: 10.1.1.1 is not multicast"),
        (instance("mcast_dst_ip ff02::9"), "ff02::9 is not of the family of the instance's addresses"),
        (
            instance("mcast_dst_ip ff05::9").replace("10.0.0.9", "fd00::9"),
            "ff05::9 is not link-local multicast",
        ),
        (instance("virtual_ipaddress {\n ::9\n}"), "IPv4 and IPv6 addresses together"),
        (
            instance("virtual_ipaddress {\n 10.0.0.300/24\n}"),
            "invalid value \"10.0.0.300/24\": wanted an IP address, with /LENGTH or without",
        ),
        (instance("virtual_ipaddress {\n 10.0.0.8 devv eth0\n}"), "unknown option \"devv\" of an address"),
        (
            instance("virtual_router_id 0"),
            "invalid value \"0\" for virtual_router_id: wanted a number from 1 to 255",
        ),
        (
            instance("advert_int 0.5"),
            "wanted whole seconds up to 255 with version 2, up to 40.95 seconds with version 3",
        ),
        (instance("arbiter {\n ttl 5\n}"), "the arbiter of VI_1 needs either etcd or ping"),
        (
            instance("arbiter {\n etcd http://a\n ping 10.0.0.1\n}"),
            "the arbiter of VI_1 needs either etcd or ping",
        ),
        (instance("arbiter {\n etcd 10.0.0.1\n}"), "\"10.0.0.1\" is no http://HOST:PORT"),
        (
            instance("arbiter {\n etcd https://a\n key /k\n user lb\n}"),
            "user and password are needed together",
        ),
        (
            instance("arbiter {\n etcd https://a\n key /k\n user lb\n password file:/nowhere/at/all\n}"),
            "/nowhere/at/all: No such file or directory",
        ),
        (
            instance("arbiter {\n etcd https://a http://b\n key /k\n user lb\n password p\n}"),
            "warning: the password goes there in the clear",
        ),
        (instance("arbiter {\n etcd http://a\n}"), "etcd needs a key, the same on all directors"),
        (instance("arbiter {\n ping 10.0.0.1\n ttl 2\n}"), "invalid value \"2\" for ttl"),
        (instance("") + &instance(""), "vrrp_instance VI_1 was defined before, in line 1"),
        (
            instance("") + &instance("").replace("VI_1", "VI_2"),
            "VI_2 has the virtual_router_id and interface of VI_1",
        ),
        ("vrrp_instance VI_1 {\n interface eth0\n}".to_owned(), "VI_1 has no virtual_router_id"),
        ("vrrp_script a {\n}".to_owned(), "the vrrp_script has no script"),
        ("vrrp_sync_group G {\n group {\n VI_9\n }\n}".to_owned(), "there is no vrrp_instance VI_9"),
    ] {
        let all = complaints(&text);
        assert!(all.iter().any(|one| one.contains(expected)), "{text}: {all:#?}");
    }
}

#[test]
fn name_that_keepalived_has_in_another_block_is_told_with_the_one_that_is_meant() {
    for (check, word, meant) in [
        ("TCP_CHECK", "nb_get_retry", "retry"),
        ("SMTP_CHECK", "nb_get_retry", "retry"),
        ("TCP_CHECK", "misc_timeout", "connect_timeout"),
        ("HTTP_GET", "virtual_host", "virtualhost"),
    ] {
        let text = service("", &format!("{check} {{\n{word} 3\nurl {{\npath /\n}}\n}}"));
        let all = complaints(&text).join("\n");
        let expected = format!("unknown keyword \"{word}\" in {check}; did you mean \"{meant}\"?");
        assert!(all.contains(&expected), "{all}");
    }
    // Where it is known it works, and is told to be old.
    let old = service("", "HTTP_GET {\nnb_get_retry 3\nurl {\npath /\n}\n}");
    assert!(complaints(&old).join("\n").contains("warning: nb_get_retry: retry is its name today"));
}
