//! Side by side with keepalived itself: the samples of its documentation, and files that are broken.

use std::path::{Path, PathBuf};
use std::process::Command;

use l4_proxy::keepalived::{self, Severity};

use crate::support::missing;

const SAMPLES: &str = "/usr/share/doc/keepalived/samples";

/// Samples of which keepalived itself complains, and the words that ours has for it.
const COMPLAINED: [(&str, &str); 4] = [
    ("keepalived.conf.vrrp.lvs_syncd", "unknown keyword \"VI_2\" in vrrp_sync_group"),
    ("keepalived.conf.SSL_GET", "warning: an authentication header needs state BACKUP"),
    ("keepalived.conf.fwmark", "warning: a firewall mark stands for any protocol"),
    ("keepalived.conf.conditional_conf", "the vrrp_script has no script"),
];

fn samples() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(SAMPLES) else { return Vec::new() };
    let names = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut samples: Vec<_> = names.filter(|path| path.to_string_lossy().contains("keepalived.conf.")).collect();
    samples.sort();
    samples
}

#[test]
fn samples_of_keepalived_are_understood() {
    let samples = samples();
    if samples.is_empty() {
        return missing("the samples of Debian's keepalived");
    }
    for path in samples {
        let loaded = keepalived::load(&path, "node").expect("a file that can be read");
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let complaints: Vec<String> = loaded.complaints.iter().map(ToString::to_string).collect();
        match COMPLAINED.iter().find(|(file, _)| *file == name) {
            Some((_, words)) => assert!(complaints.concat().contains(words), "{name}: {complaints:#?}"),
            None => println!("{name} {complaints:#?}"),
        }
    }
}
