//! The files that SIGUSR1 and SIGUSR2 write: keepalived's JSON, an array with `data` and `stats` of each
//! instance, so that what reads keepalived's reads these.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use lvsadm::document::ArbiterView;
use serde_json::{Map, Value, json};
use vrrp::os::Status;
use vrrp::router::State;

use super::{Dump, record};
use crate::keepalived::model::{self, Vrrp};

/// The text of the file.
pub(super) fn text(
    what: Dump,
    vrrp: &Vrrp,
    statuses: &[Status],
    arbiter: impl Fn(&str) -> Option<ArbiterView>,
) -> String {
    let instances = statuses.iter().map(|status| {
        let instance = vrrp.instances.iter().find(|instance| instance.name == status.instance);
        let counted = record::counters(&status.counters);
        let stats: Map<String, Value> =
            counted.into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
        match what {
            Dump::State => {
                let mut data = data(instance, status);
                data["arbiter"] = json!(arbiter(&status.instance));
                json!({ "data": data, "stats": stats })
            }
            Dump::Stats => json!({ "data": { "iname": status.instance }, "stats": stats }),
        }
    });
    format!("{:#}\n", Value::Array(instances.collect()))
}

/// keepalived's names where it has one, then our own.
fn data(instance: Option<&model::Instance>, status: &Status) -> Value {
    let since = status.since.duration_since(UNIX_EPOCH).unwrap_or_default();
    let list = |addresses: &[std::net::IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut data = json!({
        "iname": status.instance,
        "ifp_ifname": status.interface,
        "last_transition": since.as_secs_f64(),
        "vrid": status.vrid,
        "base_priority": status.base_priority,
        "effective_priority": status.priority,
        "master_priority": status.master.map(|(_, priority)| priority),
        "vipset": !status.held.is_empty(),
        "vips": list(&status.addresses),
        "adver_int": status.interval.as_secs_f64(),
        "state": number(status.state),
        "version": status.version,
        "state_name": status.state.to_string(),
        "reason": status.reason.map(|reason| reason.to_string()),
        "faults": status.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "master": status.master.map(|(address, _)| address.to_string()),
        "held": list(&status.held),
        "group": status.group,
    });
    if let (Some(instance), Some(map)) = (instance, data.as_object_mut()) {
        let excluded: Vec<_> = instance.excluded.iter().map(|address| address.address).collect();
        map.insert("evips".to_owned(), list(&excluded).into());
        map.insert("dont_track_primary".to_owned(), instance.ignores_interface.into());
        map.insert("nopreempt".to_owned(), instance.no_preempt.into());
        map.insert("preempt_delay".to_owned(), instance.preempt_delay.as_secs_f64().into());
        map.insert("garp_delay".to_owned(), instance.announcing.again.as_secs_f64().into());
        map.insert("garp_refresh".to_owned(), instance.announcing.refresh.as_secs_f64().into());
        map.insert("garp_rep".to_owned(), instance.announcing.repeat.into());
        map.insert("garp_refresh_rep".to_owned(), instance.announcing.refresh_repeat.into());
    }
    data
}

/// keepalived's: INIT, BACKUP, MASTER, FAULT.
fn number(state: State) -> u8 {
    match state {
        State::Init => 0,
        State::Backup => 1,
        State::Master => 2,
        State::Fault => 3,
    }
}

/// Puts a file in the place of the one that is there. In a folder that others may write to, too, such as
/// /tmp, nobody can lead it elsewhere: it is made anew under a name of its own, and renamed.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&fresh)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&fresh, path));
    if written.is_err() {
        // What is left of an earlier try, or of this one.
        let _ = fs::remove_file(&fresh);
    }
    written
}
