//! `global_defs`.

use std::time::Duration;

use super::build::{Build, count, duration, switched_on, text, user};
use super::wire::STRICT;
use super::{Errand, Global};
use crate::keepalived::schema;
use crate::keepalived::tree::Node;

impl Build<'_> {
    pub(super) fn global(&mut self) -> Global {
        let mut global = Global::default();
        for block in self.blocks("global_defs") {
            for node in block.children() {
                match node.name() {
                    "router_id" => global.router_id = text(node),
                    "script_user" => global.script_user = user(node, 1),
                    "enable_script_security" => global.script_security = true,
                    "checker_log_all_failures" => global.log_all_failures = switched_on(node),
                    "notify_fifo" => {
                        global.fifos.extend(text(node).map(Into::into));
                        global.check_fifos.extend(text(node).map(Into::into));
                    }
                    "vrrp_notify_fifo" => global.fifos.extend(text(node).map(Into::into)),
                    "lvs_notify_fifo" => global.check_fifos.extend(text(node).map(Into::into)),
                    "notify_fifo_script" | "vrrp_notify_fifo_script" | "lvs_notify_fifo_script" => {
                        let message =
                            "nobody is started to read the FIFO: let a service of the system do that";
                        self.unfit.push(node.blame(message).only_warns());
                    }
                    "vrrp_rt_priority" => {
                        global.vrrp_priority = count(node, 1).and_then(|priority| priority.try_into().ok());
                    }
                    "json_dump_file" | "state_dump_file" => global.state_file = text(node).map(Into::into),
                    "stats_dump_file" => global.stats_file = text(node).map(Into::into),
                    "startup_script" => global.startup = self.errand(block, node, "startup_script_timeout"),
                    "shutdown_script" => {
                        global.shutdown = self.errand(block, node, "shutdown_script_timeout")
                    }
                    "lvs_timeouts" => self.timeouts(node, &mut global.lvs_timeouts),
                    word => {
                        let idle = IDLE.iter().find(|(idle, _)| *idle == word);
                        if let Some((_, why)) = idle.filter(|_| switched_on(node)) {
                            let message = format!("{word} has no effect here: {why}");
                            self.unfit.push(node.blame(message).only_warns());
                        }
                    }
                }
            }
        }
        global.sync = self.sync_daemon();
        global.mailing = self.mailing();
        global
    }

    fn errand(&mut self, block: &Node, node: &Node, timeout: &str) -> Option<Errand> {
        let script = self.script(node)?;
        let patience = block.child(timeout).and_then(duration).unwrap_or(ERRAND_PATIENCE);
        Some(Errand { script, patience })
    }

    /// `[tcp N] [tcpfin N] [udp N]`
    fn timeouts(&mut self, node: &Node, timeouts: &mut [Option<Duration>; 3]) {
        for pair in node.words[1..].chunks(2) {
            let which = ["tcp", "tcpfin", "udp"].iter().position(|name| *name == pair[0].text);
            let value = pair.get(1).and_then(|word| schema::integer(&word.text));
            match (which, value.filter(|seconds| (1..=TIMEOUT_MAX).contains(seconds))) {
                (Some(which), Some(seconds)) => timeouts[which] = Some(Duration::from_secs(seconds as u64)),
                (None, _) => self.complain(pair[0].blame("wanted tcp, tcpfin or udp and seconds")),
                (_, None) => {
                    let blamed = pair.last().unwrap_or(&pair[0]);
                    self.complain(blamed.blame(format!("wanted seconds from 1 to {TIMEOUT_MAX}")));
                }
            }
        }
    }
}

/// Words that are safe to do without, and why.
const IDLE: [(&str, &str); 25] = [
    ("vrrp_strict", STRICT),
    ("vrrp_startup_delay", AT_ONCE),
    ("vrrp_delay_after_boot", AT_ONCE),
    ("vrrp_lower_prio_no_advert", "a master always answers one of lower priority"),
    ("vrrp_notify_priority_changes", "states alone are told"),
    ("vrrp_garp_extra_if", "neighbours of other interfaces learn of the addresses when they ask"),
    ("default_interface", "each instance names its interface"),
    ("vmac_prefix", "an interface of its own is named by use_vmac"),
    ("reload_time_file", BY_SIGHUP),
    ("reload_repeat", BY_SIGHUP),
    ("reload_file", BY_SIGHUP),
    ("config_save_dir", "a file that is refused changes nothing, and the log says what a reload did"),
    ("umask", OF_THE_SERVICE),
    ("vrrp_priority", OF_THE_SERVICE),
    ("checker_priority", OF_THE_SERVICE),
    ("checker_rt_priority", "load on the data path does not delay checks, which have a thread of their own"),
    ("max_auto_priority", "the thread that speaks VRRP is a real-time one from its start"),
    ("vrrp_cpu_affinity", OF_THE_SERVICE),
    ("checker_cpu_affinity", OF_THE_SERVICE),
    ("vrrp_no_swap", "no memory is locked"),
    ("checker_no_swap", "no memory is locked"),
    ("enable_snmp_vrrp", NO_SNMP),
    ("enable_snmp_checker", NO_SNMP),
    ("enable_traps", NO_SNMP),
    ("enable_dbus", NO_SNMP),
];

const AT_ONCE: &str = "VRRP speaks as soon as the director runs";
const BY_SIGHUP: &str = "SIGHUP alone has the files read again";
const OF_THE_SERVICE: &str = "let the unit of the service say it, as UMask=, Nice= or CPUAffinity=";
const NO_SNMP: &str = "--metrics shows to Prometheus what there is";

/// As in keepalived.
const ERRAND_PATIENCE: Duration = Duration::from_secs(10);

/// 31 days, as the kernel allows.
const TIMEOUT_MAX: i64 = 31 * 86_400;
