//! `global_defs`.

use std::time::Duration;

use super::build::{Build, count, duration, switched_on, text};
use super::{Errand, Global, idle};
use crate::keepalived::schema;
use crate::keepalived::tree::Node;

impl Build<'_> {
    pub(super) fn global(&mut self) -> Global {
        let mut global = Global::default();
        for block in self.blocks("global_defs") {
            for node in block.children() {
                match node.name() {
                    "router_id" => global.router_id = text(node),
                    "script_user" => global.script_user = self.user(node, 1),
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
                    "vrrp_mcast_group4" => self.check_group(node, false),
                    "vrrp_mcast_group6" => self.check_group(node, true),
                    "lvs_timeouts" => self.timeouts(node, &mut global.lvs_timeouts),
                    _ => self.tell_idle(node, &idle::GLOBAL),
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

/// As in keepalived.
const ERRAND_PATIENCE: Duration = Duration::from_secs(10);

/// 31 days, as the kernel allows.
const TIMEOUT_MAX: i64 = 31 * 86_400;
