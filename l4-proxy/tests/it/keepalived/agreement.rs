//! Side by side with keepalived itself: the samples of its documentation, and broken files.
//!
//! keepalived ends with 0 exactly if it has nothing to say about a file, which is what no complaint
//! is here, be it an error or a warning. It runs in a network namespace that has the interfaces
//! which the samples name, since it complains of interfaces that are not there.

use std::path::{Path, PathBuf};
use std::process::Command;

use l4_proxy::keepalived;

use crate::support::{is_installed, skip};

const SAMPLES: &str = "/usr/share/doc/keepalived/samples";

/// Samples about whose routes and rules keepalived has something to say: routes that it cannot track,
/// words that are out of date, a network "192.168.100./24". Here routes and rules are kept as they
/// are written.
const OF_ANOTHER_MIND: [&str; 4] = [
    "keepalived.conf.track_interface",
    "keepalived.conf.vrrp.routes",
    "keepalived.conf.vrrp.rules",
    "keepalived.conf.vrrp.static_ipaddress",
];

fn samples() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(SAMPLES) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut samples: Vec<_> =
        paths.filter(|path| path.to_string_lossy().contains("keepalived.conf.")).collect();
    samples.sort();
    samples
}

/// Whether keepalived has nothing to say about a file, and what it says.
fn keepalived(path: &Path) -> Option<(bool, String)> {
    if !is_installed("keepalived") || !is_installed("unshare") || !is_installed("ip") {
        skip("keepalived, unshare or ip");
        return None;
    }
    let script = "for i in eth0 eth1 eth2 eth3 eth0.1; do ip link add $i type veth peer name x$i && ip link set $i up && ip link set x$i up || exit 99; done
        PATH=$PATH:/usr/sbin exec timeout 20 keepalived -t -i node -f \"$0\"";
    let output = Command::new("unshare").args(["-n", "sh", "-c", script]).arg(path).output().ok()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(99) || said.contains("unshare failed") {
        skip("the right to make a network namespace");
        return None;
    }
    // 6 tells of scripts that root would run without `enable_script_security`, of no mistake.
    Some((matches!(output.status.code(), Some(0 | 6)), said))
}

fn said(path: &Path) -> Vec<String> {
    let loaded = keepalived::load(path, "node").expect("a file that can be read");
    loaded.complaints.iter().map(ToString::to_string).collect()
}

#[test]
fn samples_of_keepalived_are_judged_as_keepalived_judges_them() {
    let samples = samples();
    if samples.is_empty() {
        return skip("the samples of Debian's keepalived");
    }
    let mut differences = Vec::new();
    for path in samples {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ours = said(&path);
        let Some((theirs, words)) = keepalived(&path) else { return };
        if theirs != ours.is_empty() && !OF_ANOTHER_MIND.contains(&name.as_str()) {
            differences.push(format!("{name}:\n{words}\n{}", ours.join("\n")));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn samples_of_keepalived_are_understood() {
    let samples = samples();
    if samples.is_empty() {
        return skip("the samples of Debian's keepalived");
    }
    for path in samples {
        let loaded = keepalived::load(&path, "high").expect("a file that can be read");
        let errors =
            loaded.complaints.iter().filter(|complaint| complaint.severity == keepalived::Severity::Error);
        let lines: Vec<usize> = errors.map(|complaint| complaint.line()).collect();
        // One sample lists the members of a group without the block that they belong into.
        let expected: &[usize] =
            if path.ends_with("keepalived.conf.vrrp.lvs_syncd") { &[3, 4, 5] } else { &[] };
        assert_eq!(lines, expected, "{}", path.display());
    }
}

/// Lines in a virtual server, and lines in its real server.
const BROKEN: [(&str, &str); 54] = [
    ("", ""),
    ("", "weight 0"),
    ("", "weight -1"),
    ("", "weight x"),
    ("", "weight"),
    ("", "wieght 3"),
    ("", "delay_loop 0"),
    ("", "inhibit_on_failure yes"),
    ("", "uthreshold 10\nlthreshold 5"),
    ("", "TCP_CHECK { }"),
    ("", "TCP_CHECK {\nnb_get_retry 3\n}"),
    ("", "TCP_CHECK {\nretry 3"),
    ("", "TCP_CHECK {\nconnect_port 0\n}"),
    ("", "TCP_CHECK {\nconnect_port http\n}"),
    ("", "TCP_CHECK {\nconnect_ip 1.2.3\n}"),
    ("", "TCP_CHECK {\nconnect_timeout 0\n}"),
    ("", "PING_CHECK {\nnb_get_retry 3\n}"),
    ("", "SMTP_CHECK {\nhost {\nconnect_ip 10.0.0.2\nretry 2\nwarmup 0\nalpha\nlog_all_failures\n}\n}"),
    ("", "SMTP_CHECK {\nhost {\nconnect_ip 10.0.0.2\nvirtualhost x\n}\n}"),
    ("", "HTTP_GET {\nurl {\npath /\n}\nsni_name x\n}"),
    ("", "MISC_CHECK {\n}"),
    ("", "HTTP_GET {\nurl {\npath /\ndigest xyz\n}\n}"),
    ("", "HTTP_GET {\nurl {\npath /\nstatus_code 99\n}\n}"),
    ("", "HTTP_GET {\nurl {\npath /\nstatus_code 300-200\n}\n}"),
    ("", "HTTP_GET {\nurl {\npath /\nstatus_code 200-299 404\n}\n}"),
    ("", "DNS_CHECK {\ntype FOO\n}"),
    ("", "DNS_CHECK {\ntype MX\nname example.net\n}"),
    ("", "UDP_CHECK {\npayload zz\n}"),
    ("", "UDP_CHECK {\npayload a b1\nrequire_reply 0x\n}"),
    ("", "FILE_CHECK {\ntrack_file y\n}"),
    ("", "BFD_CHECK {\nname x\n}"),
    ("quorum 0", ""),
    ("quorum 5", ""),
    ("hysteresis 1", ""),
    ("quorum 3\nhysteresis 2\nweight 5", ""),
    ("persistence_timeout", ""),
    ("persistence_timeout 0", ""),
    ("persistence_timeout 3000000", ""),
    ("persistence_granularity 255.255.255.0", ""),
    ("lb_algo foo", ""),
    ("lb_kind nat", ""),
    ("lvs_method TUN type gue", ""),
    ("protocol ICMP", ""),
    ("ops", ""),
    ("sh-port", ""),
    ("sorry_server 10.0.0.3 80", ""),
    ("sorry_server", ""),
    ("sorry_server_inhibit", ""),
    ("sorry_server_lvs_method NAT", ""),
    ("sorry_server 10.0.0.3 80\nsorry_server_lvs_method NAT", ""),
    ("real_server 10.0.0.2 80 {\n}", ""),
    ("real_server ::1 80 {\n}", ""),
    ("alpha\nomega\nha_suspend", ""),
    ("service_type x", ""),
];

#[test]
fn broken_files_are_judged_as_keepalived_judges_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut differences = Vec::new();
    for (index, (service, server)) in BROKEN.into_iter().enumerate() {
        let path = folder.path().join(format!("{index}.conf"));
        let text = format!(
            "virtual_server 10.0.0.1 80 {{\nprotocol TCP\nlb_algo rr\nlb_kind NAT\n{service}\nreal_server 10.0.0.2 80 {{\n{server}\n}}\n}}\n"
        );
        std::fs::write(&path, text).expect("a file");
        let ours = said(&path);
        let Some((theirs, words)) = keepalived(&path) else { return };
        if theirs != ours.is_empty() {
            differences.push(format!("{service}|{server}:\n{words}\n{}", ours.join("\n")));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}
