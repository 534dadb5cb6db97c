//! VRRP and the synchronisation of templates, for Prometheus. Without them there are no such series.

use lvsadm::document::{SyncDaemon, SyncRole, VirtualRouter};

use super::exposition::{Exposition, Kind};

pub(super) fn of_routers(out: &mut Exposition, routers: &[VirtualRouter]) {
    if routers.is_empty() {
        return;
    }
    out.family("lvs_vrrp_state", Kind::Gauge, "1 for the state the instance is in, 0 for the others.");
    for router in routers {
        for state in ["INIT", "BACKUP", "MASTER", "FAULT"] {
            let labels = [&labels(router)[..], &[("state", state)]].concat();
            out.sample(&labels, u64::from(router.state == state));
        }
    }
    type Value = fn(&VirtualRouter) -> f64;
    let families: [(&str, &str, Value); 4] = [
        ("lvs_vrrp_state_seconds", "How long the instance has been in its state.", |router| {
            router.state_seconds
        }),
        ("lvs_vrrp_priority", "The priority that the instance has now.", |router| router.priority.into()),
        ("lvs_vrrp_addresses_held", "Virtual addresses that are on this host.", |router| {
            router.held.len() as f64
        }),
        (
            "lvs_vrrp_split_brain",
            "1 while another master is heard, or another host answers for an address of this one.",
            |router| u8::from(router.split_brain.is_some()).into(),
        ),
    ];
    for (name, help, value) in families {
        out.family(name, Kind::Gauge, help);
        routers.iter().for_each(|router| out.sample(&labels(router), value(router)));
    }
    of_arbiters(out, routers);
    out.family("lvs_vrrp_events_total", Kind::Counter, "What the instance counted, by keepalived's names.");
    for router in routers {
        for (event, count) in &router.counters {
            let labels = [&labels(router)[..], &[("event", event.as_str())]].concat();
            out.sample(&labels, *count);
        }
    }
}

fn of_arbiters(out: &mut Exposition, routers: &[VirtualRouter]) {
    let with_arbiter =
        || routers.iter().filter_map(|router| Some((labels(router), router.arbiter.as_ref()?)));
    if with_arbiter().next().is_none() {
        return;
    }
    out.family(
        "lvs_vrrp_arbiter_state",
        Kind::Gauge,
        "1 for how the arbiter stands to the instance, 0 else.",
    );
    for (labels, arbiter) in with_arbiter() {
        for state in ["idle", "asked", "held", "refused", "lost", "kept"] {
            let labels = [&labels[..], &[("state", state)]].concat();
            out.sample(&labels, u64::from(arbiter.state == state));
        }
    }
    out.family("lvs_vrrp_arbiter_answers", Kind::Gauge, "0 if the last question brought no answer.");
    for (labels, arbiter) in with_arbiter() {
        out.sample(&labels, u64::from(arbiter.problem.is_none()));
    }
    out.family("lvs_vrrp_arbiter_seconds_left", Kind::Gauge, "How long what the arbiter said counts yet.");
    for (labels, arbiter) in with_arbiter() {
        out.sample(&labels, arbiter.seconds_left);
    }
}

pub(super) fn of_sync(out: &mut Exposition, daemons: &[SyncDaemon]) {
    let Some(first) = daemons.first() else { return };
    out.family("lvs_sync_role", Kind::Gauge, "1 for what this director does about templates.");
    for (role, name) in [(SyncRole::Master, "master"), (SyncRole::Backup, "backup")] {
        out.sample(&[("role", name)], u64::from(daemons.iter().any(|daemon| daemon.role == role)));
    }
    for daemon in daemons {
        let (name, help) = match daemon.role {
            SyncRole::Master => ("lvs_sync_messages_told_total", "Messages with changes that were told."),
            SyncRole::Backup => ("lvs_sync_templates_learned_total", "Templates that were learned."),
        };
        out.family(name, Kind::Counter, help);
        out.sample(&[], daemon.count);
    }
    out.family("lvs_sync_refused_total", Kind::Counter, "Messages that were refused.");
    out.sample(&[], first.refused);
    out.family(
        "lvs_sync_others",
        Kind::Gauge,
        "Other directors that are heard, by whether they told everything.",
    );
    out.sample(&[("complete", "yes")], first.others_complete as u64);
    out.sample(&[("complete", "no")], first.others.saturating_sub(first.others_complete) as u64);
}

fn labels(router: &VirtualRouter) -> [(&str, &str); 2] {
    [("instance", &router.name), ("interface", router.interface.as_deref().unwrap_or_default())]
}
