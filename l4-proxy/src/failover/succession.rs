//! Virtual routers pass from one process to the next: the one that goes falls silent and leaves its
//! addresses where they are, the one that comes goes on as what the other was. Nobody else on the network
//! has anything to notice, and nobody is told of states that have not changed.
//!
//! An arbiter's consent passes with them. From the moment on at which a director leaves its virtual routers it
//! asks for nothing and gives nothing back; the successor goes on within the consent that was, and asks at
//! once for one of its own: in etcd it puts its own value under its own lease, if the other one's is there
//! still. So etcd knows one of the two at any time, and if the successor fails, the other one asks likewise.
//! One that asks another arbiter takes over nothing: then the virtual router is stopped, and starts anew.

use std::io;

use serde_json::{Value, json};
use tracing::{info, warn};
use vrrp::os::{Fault, Legacy, Settings};
use vrrp::router::{Moment, State};

use super::arbiters::Arbiters;
use super::{Failover, Running};
use crate::keepalived::model::Vrrp;

/// What was passed on, as long as nothing has changed since.
#[derive(Default)]
pub(super) struct Inherited {
    instances: Vec<(String, State)>,
    groups: Vec<(String, State)>,
    /// All that was, by its identity.
    identities: Vec<String>,
}

/// What has become of a successor that did not come to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heir {
    /// It has said so, or its process has ended.
    Gone,
    /// It says nothing, and may be there.
    Silent,
}

impl Heir {
    pub(crate) fn of(error: &io::Error) -> Heir {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Heir::Silent,
            _ => Heir::Gone,
        }
    }
}

impl Inherited {
    /// What instances and groups of a configuration were in the other process.
    pub(super) fn new(vrrp: &Vrrp, settings: &Settings, legacies: &[Legacy]) -> Inherited {
        let was = |name: &str| {
            let instance = settings.instances.iter().find(|instance| instance.name == name)?;
            let identity = instance.identity();
            legacies.iter().find(|legacy| legacy.identity == identity).map(|legacy| legacy.state)
        };
        let named = |instance: &vrrp::os::Instance| Some((instance.name.clone(), was(&instance.name)?));
        let together = |group: &crate::keepalived::model::SyncGroup| {
            let first = was(group.members.first()?)?;
            let same = group.members.iter().all(|member| was(member) == Some(first));
            same.then(|| (group.name.clone(), first))
        };
        Inherited {
            instances: settings.instances.iter().filter_map(named).collect(),
            groups: vrrp.groups.iter().filter_map(together).collect(),
            identities: legacies.iter().map(|legacy| legacy.identity.clone()).collect(),
        }
    }

    /// Whether an instance that became this only goes on; what it becomes next is news.
    pub(super) fn instance_goes_on(&mut self, name: &str, state: State) -> bool {
        goes_on(&mut self.instances, name, state)
    }

    /// The same of a group.
    pub(super) fn group_goes_on(&mut self, name: &str, state: State) -> bool {
        goes_on(&mut self.groups, name, state)
    }
}

fn goes_on(inherited: &mut Vec<(String, State)>, name: &str, state: State) -> bool {
    let place = inherited.iter().position(|(other, _)| other == name);
    place.is_some_and(|place| inherited.swap_remove(place).1 == state)
}

impl Failover {
    /// Leaves the virtual routers that a successor wants to it, and stops the others.
    pub(crate) fn leave(&self, heirs: &[u8]) -> Vec<u8> {
        let heirs: Vec<Value> = serde_json::from_slice(heirs).unwrap_or_default();
        let (handle, wanted) = {
            let state = self.shared.state();
            let settings = super::settings::settings(&state.vrrp, None).unwrap_or_default();
            let wants = |instance: &&vrrp::os::Instance| heirs.contains(&heir(instance, &state.arbiters));
            let wanted: Vec<_> = settings.instances.iter().filter(wants).cloned().collect();
            (state.node.as_ref().map(|node| node.handle().clone()), wanted)
        };
        let identities = wanted.iter().map(vrrp::os::Instance::identity).collect();
        // First the routers fall silent: what they give back on the way is not left.
        let legacies = handle.and_then(|handle| handle.rest(identities).ok()).unwrap_or_default();
        info!(instances = legacies.len(), "virtual routers are left to the successor");
        let left = |instance: &&vrrp::os::Instance| {
            legacies.iter().any(|legacy| legacy.identity == instance.identity())
        };
        let left: Vec<String> = wanted.iter().filter(left).map(|instance| instance.name.clone()).collect();
        let mut state = self.shared.state();
        let bequests = state.arbiters.rest(&left);
        let identity =
            |name: &str| wanted.iter().find(|instance| instance.name == name).map(|i| i.identity());
        let bequests: Vec<_> =
            bequests.into_iter().filter_map(|(name, bequest)| Some((identity(&name)?, bequest))).collect();
        state.left = true;
        write(&legacies, &bequests)
    }

    /// Goes on after all: the successor has failed.
    pub(crate) fn go_on(&self, heir: Heir) {
        let (handle, settings, names) = {
            let mut state = self.shared.state();
            if !std::mem::take(&mut state.left) {
                return;
            }
            let handle = state.node.as_ref().map(|node| node.handle().clone());
            let names: Vec<String> =
                state.vrrp.instances.iter().map(|instance| instance.name.clone()).collect();
            (handle, super::settings::settings(&state.vrrp, state.began), names)
        };
        let (Some(handle), Ok(settings)) = (handle, settings) else { return };
        if let Err(gone) = handle.reload(settings) {
            warn!("virtual routers do not go on: {gone}");
        }
        if heir == Heir::Silent {
            // It may have taken the consent, and may give it back at any moment.
            for name in names {
                let _ = handle.withdraw(name);
            }
        }
        let state = self.shared.state();
        state.arbiters.recover();
        state.trackers.tell_again();
    }

    /// Leaves everything as the process before this one has left it, which goes on.
    pub(crate) fn abandon(&self) {
        let (handle, inherited, names) = {
            let mut state = self.shared.state();
            state.left = true;
            let settings = super::settings::settings(&state.vrrp, None).unwrap_or_default();
            let inherited =
                |instance: &&vrrp::os::Instance| state.inherited.identities.contains(&instance.identity());
            let names: Vec<String> =
                settings.instances.iter().filter(inherited).map(|instance| instance.name.clone()).collect();
            let handle = state.node.as_ref().map(|node| node.handle().clone());
            (handle, state.inherited.identities.clone(), names)
        };
        // A node that is gone does nothing more either.
        let _ = handle.map(|handle| handle.rest(inherited));
        self.shared.state().arbiters.rest(&names);
        self.retire();
    }

    /// Ends what goes on in the successor, with no word of it.
    pub(crate) fn retire(&self) {
        let before = {
            let mut state = self.shared.state();
            if !state.left {
                return;
            }
            std::mem::replace(&mut *state, Running { left: true, ..Running::default() })
        };
        // Not held while its threads end.
        drop(before);
    }
}

/// The virtual routers that these settings want from another process.
pub(super) fn heirs(settings: &Settings, arbiters: &Arbiters) -> Vec<u8> {
    let heirs = settings.instances.iter().map(|instance| heir(instance, arbiters));
    Value::Array(heirs.collect()).to_string().into_bytes()
}

/// One of them: its identity, and the arbiter that it asks.
fn heir(instance: &vrrp::os::Instance, arbiters: &Arbiters) -> Value {
    json!([instance.identity(), arbiters.tag(&instance.name)])
}

/// What was left by arbiters, by instances of these settings: by what it is known, and the consent.
pub(super) fn bequests<'a>(
    settings: &'a Settings,
    legacies: &[Legacy],
    bequests: &'a [(String, String)],
) -> Vec<(&'a str, &'a str, Option<Moment>)> {
    let of = |instance: &'a vrrp::os::Instance| {
        let identity = instance.identity();
        let (_, bequest) = bequests.iter().find(|(other, _)| *other == identity)?;
        let legacy = legacies.iter().find(|legacy| legacy.identity == identity)?;
        Some((instance.name.as_str(), bequest.as_str(), legacy.consent))
    };
    settings.instances.iter().filter_map(of).collect()
}

fn write(legacies: &[Legacy], bequests: &[(String, String)]) -> Vec<u8> {
    let legacies = legacies.iter().map(|legacy| {
        let faults = legacy.faults.iter().map(|fault| json!([fault.tracker, fault.why]));
        let held =
            legacy.held.iter().map(|(link, address, prefix)| json!([link, address.to_string(), prefix]));
        let bequest = bequests.iter().find(|(identity, _)| *identity == legacy.identity);
        json!({
            "identity": legacy.identity,
            "state": STATES[place(legacy.state)].1,
            "faults": faults.collect::<Vec<_>>(),
            "weights": legacy.weights,
            "held": held.collect::<Vec<_>>(),
            "serial": legacy.serial,
            "consent": legacy.consent.map(|until| u64::try_from(until.as_nanos()).unwrap_or(u64::MAX)),
            "arbiter": bequest.map(|(_, bequest)| bequest),
        })
    });
    Value::Array(legacies.collect()).to_string().into_bytes()
}

/// What another process has written, and by what the consents are known; what makes no sense is left out, and
/// starts anew.
pub(super) fn read(text: &[u8]) -> (Vec<Legacy>, Vec<(String, String)>) {
    let legacies: Vec<Value> = serde_json::from_slice(text).unwrap_or_default();
    let bequest = |from: &Value| Some((word(&from["identity"])?, word(&from["arbiter"])?));
    (legacies.iter().filter_map(legacy).collect(), legacies.iter().filter_map(bequest).collect())
}

fn legacy(from: &Value) -> Option<Legacy> {
    let list = |name: &str| from[name].as_array().into_iter().flatten();
    let faults = list("faults").map(|fault| Some(Fault { tracker: word(&fault[0])?, why: word(&fault[1])? }));
    let weights = list("weights").map(|weight| Some((word(&weight[0])?, number(&weight[1])?)));
    let held =
        list("held").map(|held| Some((number(&held[0])?, word(&held[1])?.parse().ok()?, number(&held[2])?)));
    Some(Legacy {
        identity: word(&from["identity"])?,
        state: STATES.iter().find(|(_, name)| from["state"] == *name)?.0,
        faults: faults.collect::<Option<_>>()?,
        weights: weights.collect::<Option<_>>()?,
        held: held.collect::<Option<_>>()?,
        consent: from["consent"].as_u64().map(Moment::from_nanos),
        serial: number(&from["serial"])?,
    })
}

fn word(from: &Value) -> Option<String> {
    from.as_str().map(str::to_owned)
}

fn number<T: TryFrom<i64>>(from: &Value) -> Option<T> {
    T::try_from(from.as_i64()?).ok()
}

fn place(state: State) -> usize {
    match state {
        State::Init => 0,
        State::Backup => 1,
        State::Master => 2,
        State::Fault => 3,
    }
}

const STATES: [(State, &str); 4] =
    [(State::Init, "init"), (State::Backup, "backup"), (State::Master, "master"), (State::Fault, "fault")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacies_arrive_as_they_were_left() {
        let left = vec![
            Legacy {
                identity: "a \"quoted\" one".to_owned(),
                state: State::Master,
                faults: vec![Fault { tracker: "script a".to_owned(), why: "it said 3".to_owned() }],
                weights: vec![("file b".to_owned(), -7)],
                held: vec![(3, "2001:db8::1".parse().expect("an address"), 64)],
                consent: Some(Moment::from_nanos(u64::MAX)),
                serial: u32::MAX,
            },
            Legacy {
                identity: "another".to_owned(),
                state: State::Fault,
                faults: Vec::new(),
                weights: Vec::new(),
                held: Vec::new(),
                consent: None,
                serial: 0,
            },
        ];
        let bequests = vec![("another".to_owned(), "0123456789abcdef-7".to_owned())];
        assert_eq!(read(&write(&left, &bequests)), (left, bequests));
        assert_eq!(read(b"[{\"identity\": 3}, 7"), (Vec::new(), Vec::new()));
    }
}
