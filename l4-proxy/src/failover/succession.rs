//! Virtual routers pass from one process to the next: the one that goes falls silent and leaves its
//! addresses where they are, the one that comes goes on as what the other was. Nobody else on the network
//! has anything to notice, and nobody is told of states that have not changed.
//!
//! An arbiter's consent is the other process's own (a lease in etcd that only it can prolong), so where one
//! is needed another director takes over, with its own consent.

use serde_json::{Value, json};
use tracing::{info, warn};
use vrrp::os::{Fault, Legacy, Settings};
use vrrp::router::State;

use super::{Failover, Running};
use crate::keepalived::model::Vrrp;

/// What was passed on, as long as nothing has changed since.
#[derive(Default)]
pub(super) struct Inherited {
    instances: Vec<(String, State)>,
    groups: Vec<(String, State)>,
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
    /// Why its virtual routers cannot be passed on, if so.
    pub(crate) fn cannot_leave(&self) -> Option<String> {
        let state = self.shared.state();
        let arbitrated = state.vrrp.instances.iter().find(|instance| instance.arbiter.is_some())?;
        Some(format!(
            "the arbiter's consent to vrrp_instance {} cannot be passed on: end this director (SIGTERM), and another one takes over",
            arbitrated.name
        ))
    }

    /// Leaves the virtual routers that a successor wants to it, and stops the others.
    pub(crate) fn leave(&self, heirs: &[u8]) -> Vec<u8> {
        let heirs: Vec<String> = serde_json::from_slice::<Value>(heirs).map_or_else(
            |_| Vec::new(),
            |heirs| heirs.as_array().into_iter().flatten().filter_map(word).collect(),
        );
        let handle = self.shared.state().node.as_ref().map(|node| node.handle().clone());
        let legacies = handle.and_then(|handle| handle.rest(heirs).ok()).unwrap_or_default();
        info!(instances = legacies.len(), "virtual routers are left to the successor");
        self.shared.state().left = true;
        write(&legacies)
    }

    /// Goes on after all: the successor has failed.
    pub(crate) fn go_on(&self) {
        let (handle, settings) = {
            let mut state = self.shared.state();
            if !std::mem::take(&mut state.left) {
                return;
            }
            let handle = state.node.as_ref().map(|node| node.handle().clone());
            (handle, super::settings::settings(&state.vrrp))
        };
        let (Some(handle), Ok(settings)) = (handle, settings) else { return };
        if let Err(gone) = handle.reload(settings) {
            warn!("virtual routers do not go on: {gone}");
        }
        self.shared.state().trackers.tell_again();
    }

    /// Ends what goes on in the successor, with no word of it.
    pub(crate) fn retire(&self) {
        let node = {
            let mut state = self.shared.state();
            if !state.left {
                return;
            }
            let node = state.node.take();
            *state = Running { left: true, ..Running::default() };
            node
        };
        // Not held while its thread ends.
        drop(node);
    }
}

/// The virtual routers that these settings want from another process.
pub(super) fn heirs(settings: &Settings) -> Vec<u8> {
    let identities: Vec<String> = settings.instances.iter().map(vrrp::os::Instance::identity).collect();
    json!(identities).to_string().into_bytes()
}

fn write(legacies: &[Legacy]) -> Vec<u8> {
    let legacies = legacies.iter().map(|legacy| {
        let faults = legacy.faults.iter().map(|fault| json!([fault.tracker, fault.why]));
        let held =
            legacy.held.iter().map(|(link, address, prefix)| json!([link, address.to_string(), prefix]));
        json!({
            "identity": legacy.identity,
            "state": STATES[place(legacy.state)].1,
            "faults": faults.collect::<Vec<_>>(),
            "weights": legacy.weights,
            "held": held.collect::<Vec<_>>(),
            "serial": legacy.serial,
        })
    });
    Value::Array(legacies.collect()).to_string().into_bytes()
}

/// What another process has written; what makes no sense is left out, and starts anew.
pub(super) fn read(text: &[u8]) -> Vec<Legacy> {
    let Ok(Value::Array(legacies)) = serde_json::from_slice(text) else { return Vec::new() };
    legacies.iter().filter_map(legacy).collect()
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
                serial: u32::MAX,
            },
            Legacy {
                identity: "another".to_owned(),
                state: State::Fault,
                faults: Vec::new(),
                weights: Vec::new(),
                held: Vec::new(),
                serial: 0,
            },
        ];
        assert_eq!(read(&write(&left)), left);
        assert_eq!(read(b"[{\"identity\": 3}, 7"), Vec::new());
    }
}
