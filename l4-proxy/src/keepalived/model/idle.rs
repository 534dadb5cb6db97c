//! Words of VRRP and of what is global that are read and change nothing here, each with its reason. None of them
//! is left out in silence: who wrote one is told that it has no effect, or that it is so anyhow. (Those of
//! virtual servers are few, and have their reason in their table.)

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

/// In a `track_file`.
pub(super) const TRACK_FILE: Idle = Idle {
    undone: &[("init_file", "the director makes no such file, and takes one that is not there for 0")],
};

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
mod tests;
