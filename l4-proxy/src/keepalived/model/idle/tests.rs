//! No word is without a word: with it a file asks for something else, or something is said.

use std::path::Path;

use super::*;
use crate::keepalived::complaint::{Complaint, Severity};
use crate::keepalived::model::Model;
use crate::keepalived::schema::{Block, Keyword, Kind};
use crate::keepalived::tables;

/// A block, and how its words are tried.
struct Trial<'a> {
    block: &'static Block,
    idle: &'a Idle,
    /// Words that this director does not take.
    refused: &'a [&'a str],
    /// Words that ask for what is done anyhow.
    usual: &'a [&'a str],
    /// Words that show nothing with the first values that they take: what stands before, and the statement.
    samples: &'a [(&'a str, &'a str)],
    /// The block with these lines, in a whole text.
    around: fn(&str) -> String,
}

const NOTHING: Idle = Idle { undone: &[] };

impl Trial<'_> {
    #[track_caller]
    fn check(&self) {
        let faults: Vec<String> = self.block.keywords.iter().filter_map(|word| self.fault(word)).collect();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        for (word, _) in self.idle.undone {
            assert!(self.block.keywords.iter().any(|keyword| keyword.name == *word), "{word} is no word");
        }
    }

    /// What is wrong with how a word is taken.
    fn fault(&self, keyword: &Keyword) -> Option<String> {
        let name = keyword.name;
        let own = self.samples.iter().find(|(_, line)| line.split_whitespace().next() == Some(name));
        let (before, line) =
            own.map_or(("", written(keyword)), |(before, line)| (before, (*line).to_owned()));
        let (without, said_without) = read(&(self.around)(before));
        let (with, said) = read(&(self.around)(&format!("{before}\n{line}")));
        let is_news = |said: &&Complaint| !said_without.iter().any(|other| other.message == said.message);
        let news: Vec<&Complaint> = said.iter().filter(is_news).collect();
        let fault = |what: &str| Some(format!("{line}: {what}: {news:?}"));
        let wrong = news.iter().any(|complaint| complaint.severity == Severity::Error);
        if wrong != self.refused.contains(&name) {
            return fault(if wrong { "refused" } else { "not refused" });
        }
        if self.idle.undone.iter().any(|(word, _)| *word == name) {
            let expected = format!("{name} has no effect here");
            if !news.iter().any(|complaint| complaint.message.contains(&expected)) {
                return fault("not told of");
            }
            return if with == without { None } else { fault("told to have no effect, and has one") };
        }
        let shows = with != without || !news.is_empty() || said.len() < said_without.len();
        match (shows, self.usual.contains(&name)) {
            (false, false) => fault("neither has an effect nor is told of"),
            (true, true) => fault("not as usual"),
            _ => None,
        }
    }
}

/// The word with values that it takes.
fn written(keyword: &Keyword) -> String {
    let value = |kind: &Kind| match kind {
        Kind::Text => "x".to_owned(),
        Kind::Mask => "24".to_owned(),
        Kind::Integer(least, most) => most.min(least.max(&1)).to_string(),
        Kind::Seconds(least, _) => least.max(1.0).to_string(),
        Kind::Bool => "true".to_owned(),
        Kind::Address | Kind::Network => "10.0.0.1".to_owned(),
        Kind::Port => "80".to_owned(),
        Kind::Choice(words) => words[0].to_owned(),
    };
    let arguments = &keyword.arguments;
    let kinds = arguments.kinds.iter().chain(arguments.more.iter().cycle());
    let values = kinds.take(arguments.required).map(value);
    std::iter::once(keyword.name.to_owned()).chain(values).collect::<Vec<_>>().join(" ")
}

/// What a text asks for, as far as somebody looks at it, and what is said of it.
fn read(text: &str) -> (Model, Vec<Complaint>) {
    let mut loaded = crate::keepalived::read(Path::new("lb.conf"), text, "node");
    loaded.fit(|_| Ok(()));
    // Of programs that are not there it is told whatever the word does with them.
    loaded.complaints.retain(|complaint| !complaint.message.contains(" cannot be run: "));
    // Words that nobody looks at.
    loaded.model.vrrp.instances.iter_mut().for_each(|instance| instance.further.clear());
    (loaded.model, loaded.complaints)
}

/// The table of a block, by the words that lead to it.
fn block(path: &[&str]) -> &'static Block {
    path.iter().fold(&tables::FILE, |block, name| {
        let keyword = block.keywords.iter().find(|keyword| keyword.name == *name);
        keyword.and_then(|keyword| keyword.body).expect("a block")
    })
}

fn instance(lines: &str) -> String {
    format!("vrrp_instance VI {{\ninterface eth0\nvirtual_router_id 5\n{lines}\n}}\n")
}

/// What instances and groups can watch.
const WATCHED: &str = "vrrp_script s {\nscript /bin/true\n}\ntrack_file f {\nfile /x\n}\n\
                       vrrp_track_process p {\nprocess x\n}\nbfd_instance b {\nneighbor_ip 10.0.0.7\n}\n";

#[test]
fn no_word_outside_of_blocks_is_passed_over() {
    const GROUP: &str = "vrrp_instance VI {\ninterface eth0\nvirtual_router_id 5\n}";
    let served = "virtual_server 192.0.2.1 80 {\nlb_algo rr\nlb_kind NAT\nprotocol TCP\nreal_server 10.0.0.1 80 {\n}\n}";
    let grouped = served.replace("192.0.2.1 80", "group G");
    Trial {
        block: &tables::FILE,
        idle: &FILE,
        refused: &[
            "bfd_instance",
            "static_ipaddress",
            "static_routes",
            "static_rules",
            "net_namespace",
            "net_namespace_ipvs",
        ],
        usual: &[],
        samples: &[
            ("", "global_defs {\nrouter_id x\n}"),
            ("", "linkbeat_interfaces {\neth0\n}"),
            ("", "interface_up_down_delays {\neth0 1\n}"),
            ("", "track_group g {\ngroup {\nVI\n}\n}"),
            ("", "static_ipaddress {\n10.0.0.1\n}"),
            ("", "static_routes {\ndefault\n}"),
            ("", "static_rules {\nfrom x\n}"),
            ("", "track_file f {\nfile /x\n}"),
            ("", "vrrp_track_file f {\nfile /x\n}"),
            ("", "vrrp_track_process p {\nprocess x\n}"),
            ("", "bfd_instance b {\nneighbor_ip 10.0.0.7\n}"),
            ("", "vrrp_script s {\nscript /bin/true\n}"),
            (GROUP, "vrrp_sync_group G {\ngroup {\nVI\n}\n}"),
            (GROUP, "garp_group {\ninterface eth0\ngarp_interval 1\n}"),
            ("", "vrrp_instance VI {\ninterface eth0\nvirtual_router_id 5\n}"),
            (&grouped, "virtual_server_group G {\n192.0.2.2 80\n}"),
            ("", served),
            ("", "SSL {\nca /x\n}"),
        ],
        around: |lines| format!("{lines}\n"),
    }
    .check();
}

#[test]
fn no_word_of_global_defs_is_passed_over() {
    Trial {
        block: block(&["global_defs"]),
        idle: &GLOBAL,
        refused: &[],
        // Files are always checked before they count.
        usual: &["reload_check_config"],
        samples: &[
            ("", "notification_email {\na@example.com\n}"),
            ("", "script_user root"),
            ("startup_script x", "startup_script_timeout 1"),
            ("shutdown_script x", "shutdown_script_timeout 1"),
            ("lvs_sync_daemon eth0", "lvs_sync_key 00112233445566778899aabbccddeeff"),
            ("lvs_sync_daemon eth0\nlvs_sync_key 0123456789abcdef", "lvs_sync_peers {\n10.0.0.2\n}"),
            ("", "lvs_timeouts tcp 5"),
            ("", "vrrp_version 3"),
            ("", "vrrp_mcast_group4 224.0.0.99"),
            ("", "vrrp_mcast_group6 ff02::99"),
            ("", "vrrp_higher_prio_send_advert off"),
            ("", "vrrp_garp_master_refresh_repeat 2"),
        ],
        around: |lines| {
            let six = "vrrp_instance VI6 {\ninterface eth0\nvirtual_router_id 6\nvirtual_ipaddress {\nfe80::9\n}\n}\n";
            format!("{}{six}global_defs {{\n{lines}\n}}\n", instance(""))
        },
    }
    .check();
}

#[test]
fn no_word_of_an_instance_is_passed_over() {
    Trial {
        block: block(&["vrrp_instance"]),
        idle: &INSTANCE,
        refused: &[
            "vrf",
            "use_ipvlan",
            "use_vmac_addr",
            "old_unicast_checksum",
            "virtual_routes",
            "virtual_rules",
            "track_bfd",
            // Where it has none, or those of IPv4.
            "unicast_fault_no_peer",
            "native_ipv6",
        ],
        usual: &[],
        samples: &[
            ("", "advert_int 2"),
            ("", "version 3"),
            ("", "authentication {\nauth_pass x\n}"),
            ("", "virtual_ipaddress {\n10.0.0.9\n}"),
            ("", "virtual_ipaddress_excluded {\n10.0.0.9\n}"),
            ("", "virtual_routes {\ndefault\n}"),
            ("", "virtual_rules {\nfrom x\n}"),
            ("", "mcast_dst_ip 224.0.0.99"),
            ("", "unicast_peer {\n10.0.0.2\n}"),
            ("virtual_ipaddress {\n10.0.0.9\n}", "native_ipv6"),
            ("virtual_ipaddress {\n10.0.0.9 dev eth1\n}", "use_vmac_addr"),
            ("", "higher_prio_send_advert off"),
            ("", "garp_master_delay 1"),
            ("", "garp_master_refresh_repeat 2"),
            ("nopreempt", "preempt"),
            ("no_accept", "accept"),
            ("", "track_interface {\neth1\n}"),
            ("", "track_script {\ns\n}"),
            ("", "track_file {\nf\n}"),
            ("", "track_process {\np\n}"),
            ("", "track_bfd {\nb\n}"),
            ("", "arbiter {\nping 10.0.0.7\n}"),
            ("", "notify_deleted x"),
        ],
        around: |lines| format!("{WATCHED}{}", instance(lines)),
    }
    .check();
}

#[test]
fn no_word_of_an_instance_s_blocks_is_passed_over() {
    Trial {
        block: block(&["vrrp_instance", "authentication"]),
        idle: &NOTHING,
        refused: &[],
        usual: &[],
        samples: &[("auth_pass x", "auth_type AH")],
        around: |lines| instance(&format!("authentication {{\n{lines}\n}}")),
    }
    .check();
    Trial {
        block: block(&["vrrp_instance", "arbiter"]),
        idle: &NOTHING,
        refused: &["ping", "cert_file", "key_file", "user", "password"],
        usual: &[],
        samples: &[("", "etcd http://10.0.0.6"), ("", "on_arbiter_loss keep")],
        around: |lines| instance(&format!("arbiter {{\netcd http://10.0.0.5\nkey k\n{lines}\n}}")),
    }
    .check();
}

#[test]
fn no_word_of_a_group_is_passed_over() {
    Trial {
        block: block(&["vrrp_sync_group"]),
        idle: &GROUP,
        refused: &["track_bfd"],
        usual: &[],
        samples: &[
            ("", "group {\nVI2\n}"),
            ("", "track_interface {\neth1\n}"),
            ("", "track_script {\ns\n}"),
            ("", "track_file {\nf\n}"),
            ("", "track_process {\np\n}"),
            ("", "track_bfd {\nb\n}"),
            ("", "notify_deleted x"),
        ],
        around: |lines| {
            let other = "vrrp_instance VI2 {\ninterface eth0\nvirtual_router_id 6\n}\n";
            let group = format!("vrrp_sync_group G {{\ngroup {{\nVI\n}}\n{lines}\n}}\n");
            format!("{WATCHED}{}{other}{group}", instance(""))
        },
    }
    .check();
    Trial {
        block: block(&["garp_group"]),
        idle: &NOTHING,
        refused: &[],
        usual: &[],
        samples: &[
            ("interface eth0", "garp_interval 1"),
            ("interface eth0", "gna_interval 1"),
            ("garp_interval 1", "interface eth0"),
            ("garp_interval 1", "interfaces {\neth0\n}"),
        ],
        around: |lines| format!("{}garp_group {{\n{lines}\n}}\n", instance("")),
    }
    .check();
}

#[test]
fn no_word_of_what_can_be_watched_is_passed_over() {
    Trial {
        block: block(&["vrrp_script"]),
        idle: &NOTHING,
        refused: &[],
        usual: &[],
        samples: &[("", "interval 2"), ("", "timeout 2"), ("", "rise 2"), ("", "fall 2"), ("", "user root")],
        around: |lines| format!("vrrp_script s {{\nscript /bin/true\n{lines}\n}}\n"),
    }
    .check();
    Trial {
        block: block(&["vrrp_track_process"]),
        idle: &NOTHING,
        refused: &[],
        usual: &[],
        samples: &[("", "quorum 2"), ("", "process y")],
        around: |lines| format!("vrrp_track_process p {{\nprocess x\n{lines}\n}}\n"),
    }
    .check();
    Trial {
        block: block(&["track_file"]),
        idle: &TRACK_FILE,
        refused: &[],
        usual: &[],
        samples: &[("", "file /y"), ("", "weight 2")],
        around: |lines| format!("track_file f {{\nfile /x\n{lines}\n}}\n"),
    }
    .check();
}

#[test]
fn word_without_effect_is_not_told_of_to_who_switches_it_off() {
    assert_eq!(read("global_defs {\nvrrp_strict\n}\n").1.len(), 1);
    assert!(read("global_defs {\nvrrp_strict off\n}\n").1.is_empty());
}
