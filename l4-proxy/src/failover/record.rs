//! What is remembered of each instance beside what it is: what it was, and what was last amiss.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use lvsadm::document::{ArbiterView, VirtualRouter};
use vrrp::os::{Counters, Notice, Status};
use vrrp::router::{State, Warning};

use crate::keepalived::model::Vrrp;

/// By the name of the instance.
#[derive(Default)]
pub(super) struct Records(HashMap<String, Record>);

#[derive(Default)]
struct Record {
    previous: Option<State>,
    warning: Option<(String, Instant)>,
    /// What is known of a second master.
    rival: Option<String>,
    /// By their MAC addresses, hosts that answer for an address of it.
    claims: BTreeMap<[u8; 6], String>,
}

impl Records {
    /// Forgets instances that are not there any more.
    pub(super) fn keep(&mut self, vrrp: &Vrrp) {
        self.0.retain(|name, _| vrrp.instances.iter().any(|instance| instance.name == *name));
    }

    pub(super) fn hear(&mut self, notice: &Notice) {
        match notice {
            Notice::Became { instance, was, .. } => {
                let record = self.of(instance);
                record.previous = Some(*was).filter(|was| *was != State::Init);
                record.rival = None;
                record.claims.clear();
            }
            Notice::Claimed { instance, claim } => {
                let record = self.of(instance);
                record.claims.insert(claim.mac, claim.to_string());
                record.warning = Some((claim.to_string(), Instant::now()));
            }
            Notice::Unclaimed { instance, claim } => {
                self.of(instance).claims.remove(&claim.mac);
            }
            Notice::Warned { instance, warning } => {
                let record = self.of(instance);
                match warning {
                    Warning::Rival { .. } => record.rival = Some(warning.to_string()),
                    Warning::RivalGone { .. } => record.rival = None,
                    _ => {}
                }
                record.warning = Some((warning.to_string(), Instant::now()));
            }
            Notice::Rejected { instance, from, why } => {
                let what = format!("advertisements from {from} do not count: {why}");
                self.of(instance).warning = Some((what, Instant::now()));
            }
            Notice::Odd { instance, what } | Notice::Trouble { instance: Some(instance), what } => {
                self.of(instance).warning = Some((what.clone(), Instant::now()));
            }
            _ => {}
        }
    }

    fn of(&mut self, name: &str) -> &mut Record {
        self.0.entry(name.to_owned()).or_default()
    }

    /// An instance for people and programs to look at.
    pub(super) fn show(&self, status: &Status, arbiter: Option<ArbiterView>) -> VirtualRouter {
        let record = self.0.get(&status.instance);
        let warning = record.and_then(|record| record.warning.as_ref());
        VirtualRouter {
            name: status.instance.clone(),
            group: status.group.clone(),
            state: status.state.to_string(),
            state_seconds: status.lasted.as_secs_f64(),
            previous_state: record.and_then(|record| record.previous).map(|state| state.to_string()),
            reason: status.reason.map(|reason| reason.to_string()),
            faults: status.faults.iter().map(ToString::to_string).collect(),
            awaits: status.awaits.clone(),
            last_warning: warning.map(|(text, _)| text.clone()),
            last_warning_seconds: warning.map(|(_, at)| at.elapsed().as_secs_f64()),
            split_brain: record
                .and_then(|record| record.rival.as_ref().or(record.claims.values().next()).cloned()),
            interface: status.interface.clone(),
            virtual_router_id: status.vrid,
            version: status.version,
            base_priority: status.base_priority,
            priority: status.priority,
            weights: status.weights.clone(),
            address: status.address,
            master: status.master,
            interval_seconds: status.interval.as_secs_f64(),
            master_down_seconds: status.master_down.as_secs_f64(),
            addresses: status.addresses.clone(),
            held: status.held.clone(),
            arbiter,
            counters: counters(&status.counters)
                .into_iter()
                .map(|(name, count)| (name.to_owned(), count))
                .collect(),
        }
    }
}

/// What an instance counted, by keepalived's names, and two of our own at the end.
pub(super) fn counters(counters: &Counters) -> [(&'static str, u64); 18] {
    [
        ("advert_rcvd", counters.received),
        ("advert_sent", counters.sent),
        ("become_master", counters.became_master),
        ("release_master", counters.released_master),
        ("packet_len_err", counters.length_errors),
        ("advert_interval_err", counters.interval_errors),
        ("ip_ttl_err", counters.ttl_errors),
        ("invalid_type_rcvd", counters.type_errors),
        ("vers_err", counters.version_errors),
        ("chk_err", counters.checksum_errors),
        ("addr_list_err", counters.address_list_errors),
        ("invalid_authtype", counters.auth_type_errors),
        ("authtype_mismatch", counters.auth_mismatches),
        ("auth_failure", counters.auth_failures),
        ("pri_zero_rcvd", counters.priority_zero_received),
        ("pri_zero_sent", counters.priority_zero_sent),
        ("peer_err", counters.peer_errors),
        ("send_err", counters.send_failures),
    ]
}
