//! Words that are read and change nothing here, each with its reason. None of them is left out in silence:
//! who wrote one is told that it has no effect, or that it is so anyhow.

use super::build::{Build, switched_on};
use crate::keepalived::tree::Node;

/// Words of one block.
pub(super) struct Idle {
    /// What is not done, and why that is safe to do without.
    undone: &'static [(&'static str, &'static str)],
}

impl Build<'_> {
    /// Tells of a word that changes nothing, unless it asks for nothing.
    pub(super) fn tell_idle(&mut self, node: &Node, idle: &Idle) {
        let told = idle.undone.iter().find(|(word, _)| *word == node.name());
        if let Some((word, why)) = told.filter(|_| switched_on(node)) {
            self.unfit.push(node.blame(format!("{word} has no effect here: {why}")).only_warns());
        }
    }

    /// The same outside of all blocks.
    pub(super) fn tell_idle_blocks(&mut self) {
        for (name, _) in FILE.undone {
            for node in self.blocks(name) {
                self.tell_idle(node, &FILE);
            }
        }
    }
}

/// Outside of all blocks.
const FILE: Idle = Idle {
    undone: &[
        ("namespace_with_ipsets", NO_FIREWALL),
        ("instance", "this director writes no pid file, and its dumps where json_dump_file says"),
        ("use_pid_dir", "this director writes no pid file"),
        (
            "child_wait_time",
            "the director is one process; --drain-timeout says how long it lets connections end",
        ),
        ("linkbeat_use_polling", BY_KERNEL),
        ("linkbeat_interfaces", BY_KERNEL),
        ("track_group", "it is for static addresses and routes, which this director does not make"),
    ],
};

/// In `global_defs`.
pub(super) const GLOBAL: Idle = Idle {
    undone: &[
        ("vrrp_strict", STRICT),
        ("vrrp_skip_check_adv_addr", CHECKS),
        ("vrrp_notify_priority_changes", STATES),
        ("vrrp_garp_extra_if", OTHER_INTERFACES),
        ("log_unknown_vrids", "the kernel hands an instance nothing but its own virtual_router_id"),
        ("default_interface", "each instance names its interface"),
        ("dynamic_interfaces", "an instance waits for its interface anyhow"),
        ("vmac_prefix", "an interface of its own is named by use_vmac"),
        ("vmac_addr_prefix", "no single address has an interface of its own"),
        ("disable_local_igmp", "the kernel speaks IGMP as usual"),
        ("fifo_write_vrrp_states_on_reload", "states are written when they change"),
        ("no_checker_emails", "mail tells of servers and quorums, not of single checks"),
        ("rs_init_notifies", "servers that are up from the beginning are not told of"),
        ("use_symlink_paths", "scripts are started as they are written"),
        ("set_supplementary_groups", "scripts have the group that is named for them alone"),
        ("lvs_flush", "the table is the director's own, and empty when it starts"),
        ("lvs_flush_on_stop", "the table is the director's own, and ends with it"),
        ("nftables", NO_FIREWALL),
        ("nftables_priority", NO_FIREWALL),
        ("nftables_counters", NO_FIREWALL),
        ("nftables_ifindex", NO_FIREWALL),
        ("nftables_ipvs", NO_FIREWALL),
        ("nftables_ipvs_priority", NO_FIREWALL),
        ("nftables_ipvs_start_fwmark", NO_FIREWALL),
        ("vrrp_iptables", NO_FIREWALL),
        ("vrrp_ipsets", NO_FIREWALL),
        ("reload_time_file", BY_SIGHUP),
        ("reload_repeat", BY_SIGHUP),
        ("reload_file", BY_SIGHUP),
        ("config_save_dir", "a file that is refused changes nothing, and the log says what a reload did"),
        ("tmp_config_directory", "files are read once, into memory"),
        ("data_use_instance", "dumps are written where json_dump_file and stats_dump_file say"),
        ("json_version", "dumps have one form"),
        ("iproute_usr_dir", "routes and rules are not made"),
        ("iproute_etc_dir", "routes and rules are not made"),
        ("random_seed", "what ${_RANDOM} draws differs from start to start"),
        ("process_names", ONE_PROCESS),
        ("process_name", ONE_PROCESS),
        ("vrrp_process_name", ONE_PROCESS),
        ("checker_process_name", ONE_PROCESS),
        ("bfd_process_name", ONE_PROCESS),
        ("umask", OF_THE_SERVICE),
        ("vrrp_priority", OF_THE_SERVICE),
        ("checker_priority", OF_THE_SERVICE),
        (
            "checker_rt_priority",
            "load on the data path does not delay checks, which have a thread of their own",
        ),
        ("max_auto_priority", REAL_TIME),
        ("min_auto_priority_delay", REAL_TIME),
        ("vrrp_rlimit_rttime", "the thread that speaks VRRP never computes for long"),
        ("checker_rlimit_rttime", "checks are no real-time process"),
        ("vrrp_cpu_affinity", OF_THE_SERVICE),
        ("checker_cpu_affinity", OF_THE_SERVICE),
        ("vrrp_no_swap", "no memory is locked"),
        ("checker_no_swap", "no memory is locked"),
        ("bfd_priority", NO_BFD),
        ("bfd_rt_priority", NO_BFD),
        ("bfd_rlimit_rttime", NO_BFD),
        ("bfd_no_swap", NO_BFD),
        ("bfd_cpu_affinity", NO_BFD),
        ("snmp_socket", NO_SNMP),
        ("enable_snmp_vrrp", NO_SNMP),
        ("enable_snmp_checker", NO_SNMP),
        ("enable_snmp_rfc", NO_SNMP),
        ("enable_snmp_rfcv2", NO_SNMP),
        ("enable_snmp_rfcv3", NO_SNMP),
        ("enable_traps", NO_SNMP),
        ("snmp_vs_stats_update_interval", NO_SNMP),
        ("snmp_rs_stats_update_interval", NO_SNMP),
        ("enable_dbus", NO_SNMP),
        ("dbus_service_name", NO_SNMP),
        ("dbus_no_interface_name", NO_SNMP),
        ("linkbeat_use_polling", BY_KERNEL),
        ("vrrp_netlink_cmd_rcv_bufs", BUFFERS),
        ("vrrp_netlink_cmd_rcv_bufs_force", BUFFERS),
        ("vrrp_netlink_monitor_rcv_bufs", BUFFERS),
        ("vrrp_netlink_monitor_rcv_bufs_force", BUFFERS),
        ("lvs_netlink_cmd_rcv_bufs", BUFFERS),
        ("lvs_netlink_cmd_rcv_bufs_force", BUFFERS),
        ("lvs_netlink_monitor_rcv_bufs", BUFFERS),
        ("lvs_netlink_monitor_rcv_bufs_force", BUFFERS),
        ("process_monitor_rcv_bufs", "processes are looked for twice a second"),
        ("process_monitor_rcv_bufs_force", "processes are looked for twice a second"),
        ("vrrp_rx_bufs_policy", BUFFERS),
        ("vrrp_rx_bufs_multiplier", BUFFERS),
    ],
};

/// In a `vrrp_instance`.
pub(super) const INSTANCE: Idle = Idle {
    undone: &[
        ("strict_mode", STRICT),
        ("skip_check_adv_addr", CHECKS),
        ("notify_priority_changes", STATES),
        ("timer_expired_backup", "timers run on a thread of their own"),
        ("garp_extra_if", OTHER_INTERFACES),
        ("promote_secondaries", "the kernel's setting is left alone"),
        ("track_src_ip", "an instance whose source address is not there is in fault anyhow"),
        ("kernel_rx_buf_size", BUFFERS),
        ("debug", "--log says what is logged"),
    ],
};

/// In a `vrrp_sync_group`.
pub(super) const GROUP: Idle = Idle { undone: &[("notify_priority_changes", STATES)] };

const STRICT: &str = "what it forbids is done where the file asks for it, and not otherwise";
const CHECKS: &str = "every advert's addresses are compared";
const STATES: &str = "states alone are told";
const OTHER_INTERFACES: &str = "neighbours of other interfaces learn of the addresses when they ask";
const REAL_TIME: &str = "the thread that speaks VRRP is a real-time one from its start";
const BY_SIGHUP: &str = "SIGHUP alone has the files read again";
const BY_KERNEL: &str = "the kernel tells when a link goes down";
const OF_THE_SERVICE: &str = "let the unit of the service say it, as UMask=, Nice= or CPUAffinity=";
const ONE_PROCESS: &str = "the director is one process, and named l4-proxy";
const BUFFERS: &str = "sockets have the system's buffers";
const NO_FIREWALL: &str = "this director makes no firewall rules";
const NO_SNMP: &str = "--metrics shows to Prometheus what there is";
const NO_BFD: &str = "this director speaks no BFD";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::keepalived::schema::{Block, Keyword, Kind};
    use crate::keepalived::tables;

    fn block(name: &str) -> &'static Block {
        let keyword = tables::FILE.keywords.iter().find(|keyword| keyword.name == name);
        keyword.and_then(|keyword| keyword.body).expect("a block")
    }

    /// The word with values that it takes.
    fn written(keyword: &Keyword) -> String {
        let value = |kind: &Kind| match kind {
            Kind::Text | Kind::Mask => "x".to_owned(),
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

    fn remarks(text: &str) -> Vec<String> {
        let mut loaded = crate::keepalived::read(Path::new("lb.conf"), text, "node");
        loaded.fit(|_| Ok(()));
        loaded.complaints.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn check(block: &Block, idle: &Idle, works: &[&str], around: impl Fn(&str) -> String) {
        let undone = |name: &str| idle.undone.iter().any(|(word, _)| *word == name);
        for keyword in block.keywords {
            let told = undone(keyword.name) || keyword.remark.is_some();
            let works = works.contains(&keyword.name) || keyword.body.is_some();
            assert!(told != works, "{}: told {told}, works {works}", keyword.name);
            if undone(keyword.name) {
                let line = written(keyword);
                let remarks = remarks(&around(&line));
                let expected = format!("{} has no effect here", keyword.name);
                assert!(remarks.iter().any(|remark| remark.contains(&expected)), "{line}: {remarks:?}");
            }
        }
        for (word, _) in idle.undone {
            assert!(block.keywords.iter().any(|keyword| keyword.name == *word), "{word} is no word");
        }
    }

    #[test]
    fn every_word_of_global_defs_works_or_is_told_to_have_no_effect() {
        let works = [
            "router_id",
            "notification_email_from",
            "smtp_server",
            "smtp_helo_name",
            "smtp_connect_timeout",
            "smtp_alert",
            "smtp_alert_vrrp",
            "smtp_alert_checker",
            "checker_log_all_failures",
            "no_email_faults",
            "script_user",
            "enable_script_security",
            "startup_script",
            "startup_script_timeout",
            "shutdown_script",
            "shutdown_script_timeout",
            "notify_fifo",
            "vrrp_notify_fifo",
            "lvs_notify_fifo",
            // These have remarks of their own.
            "notify_fifo_script",
            "vrrp_notify_fifo_script",
            "lvs_notify_fifo_script",
            "lvs_sync_daemon",
            "lvs_sync_key",
            "lvs_timeouts",
            "vrrp_version",
            "vrrp_mcast_group4",
            "vrrp_mcast_group6",
            "vrrp_check_unicast_src",
            "v3_checksum_as_v2",
            "vrrp_lower_prio_no_advert",
            "vrrp_higher_prio_send_advert",
            "vrrp_startup_delay",
            "vrrp_delay_after_boot",
            "vrrp_down_timer_adverts",
            "vrrp_garp_master_delay",
            "vrrp_garp_master_repeat",
            "vrrp_garp_lower_prio_delay",
            "vrrp_garp_lower_prio_repeat",
            "vrrp_garp_master_refresh",
            "vrrp_garp_master_refresh_repeat",
            "vrrp_garp_interval",
            "vrrp_gna_interval",
            "vrrp_min_garp",
            "vrrp_rt_priority",
            // As it is done anyhow.
            "reload_check_config",
            "state_dump_file",
            "stats_dump_file",
            "json_dump_file",
        ];
        check(block("global_defs"), &GLOBAL, &works, |line| format!("global_defs {{\n{line}\n}}\n"));
    }

    #[test]
    fn every_word_of_an_instance_works_or_is_told_to_have_no_effect() {
        let works = [
            "state",
            "interface",
            "virtual_router_id",
            "priority",
            "advert_int",
            "version",
            "no_virtual_ipaddress",
            "mcast_src_ip",
            "mcast_dst_ip",
            "unicast_src_ip",
            "unicast_ttl",
            "unicast_fault_no_peer",
            "check_unicast_src",
            "native_ipv6",
            "v3_checksum_as_v2",
            "down_timer_adverts",
            "lower_prio_no_advert",
            "higher_prio_send_advert",
            "use_vmac",
            "vmac_xmit_base",
            "garp_master_delay",
            "garp_master_repeat",
            "garp_lower_prio_delay",
            "garp_lower_prio_repeat",
            "garp_master_refresh",
            "garp_master_refresh_repeat",
            "nopreempt",
            "preempt",
            "preempt_delay",
            "accept",
            "dont_track_primary",
            "notify_master",
            "notify_backup",
            "notify_fault",
            "notify_stop",
            "notify_deleted",
            "notify",
            "notify_master_rx_lower_pri",
            "notify_split_brain",
            "smtp_alert",
            // These are refused, or told where the rest of the instance is known.
            "vrf",
            "use_ipvlan",
            "use_vmac_addr",
            "old_unicast_checksum",
            "no_accept",
        ];
        check(block("vrrp_instance"), &INSTANCE, &works, |line| {
            format!(
                "vrrp_instance VI {{\ninterface eth0\nvirtual_router_id 5\n{line}\nvirtual_ipaddress {{\n10.0.0.9\n}}\n}}\n"
            )
        });
    }

    #[test]
    fn words_outside_of_blocks_are_told_to_have_no_effect() {
        for (text, word) in [
            ("child_wait_time 5", "child_wait_time"),
            ("linkbeat_interfaces {\neth0\n}", "linkbeat_interfaces"),
            ("track_group g {\ngroup {\nVI\n}\n}", "track_group"),
        ] {
            let remarks = remarks(&format!("{text}\n"));
            assert_eq!(remarks.len(), 1, "{remarks:?}");
            assert!(remarks[0].contains(&format!("{word} has no effect here")), "{remarks:?}");
        }
    }

    #[test]
    fn word_without_effect_is_not_told_of_to_who_switches_it_off() {
        assert_eq!(remarks("global_defs {\nvrrp_strict\n}\n").len(), 1);
        assert_eq!(remarks("global_defs {\nvrrp_strict off\n}\n"), [""; 0]);
    }
}
