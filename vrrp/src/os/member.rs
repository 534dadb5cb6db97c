//! One virtual router at work: what its actions come to on this host, and what it depends on there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::clock;
use super::host::{Host, Placed};
use super::links::Link;
use super::notice::{Counters, Fault, Notice, Status, Verdict};
use super::settings::{Dependence, Dialect, Instance};
use super::wire::Wire;
use crate::router::{Action, Moment, OWNER, Reason, Router, State, Warning};

/// One virtual router on this host.
pub(super) struct Member {
    pub(super) instance: Instance,
    pub(super) wire: Option<Wire>,
    /// What is down, by who says so.
    faults: BTreeMap<String, String>,
    weights: BTreeMap<String, i32>,
    pub(super) awaits: BTreeSet<String>,
    pub(super) counters: Counters,
    state: State,
    since: SystemTime,
    reason: Option<Reason>,
    /// Whom it heard last, while it was not master itself.
    pub(super) heard: Option<(IpAddr, u8)>,
    placed: Vec<Placed>,
    /// Whose advertisements were complained about, and why.
    pub(super) complaints: BTreeSet<(IpAddr, String)>,
    cannot_send: bool,
}

/// What the host offers a virtual router at the moment.
pub(super) struct Footing {
    link: Option<u32>,
    address: Option<IpAddr>,
    faults: Vec<Fault>,
    weights: Vec<(String, i32)>,
}

impl Member {
    pub(super) fn new(instance: Instance) -> Member {
        Member {
            awaits: instance.awaits.iter().cloned().collect(),
            instance,
            wire: None,
            faults: BTreeMap::new(),
            weights: BTreeMap::new(),
            counters: Counters::default(),
            state: State::Init,
            since: clock::wall(),
            reason: None,
            heard: None,
            placed: Vec::new(),
            complaints: BTreeSet::new(),
            cannot_send: false,
        }
    }

    /// Whether nothing that it depends on is down.
    pub(super) fn is_well(&self) -> bool {
        self.faults.is_empty()
    }

    /// What all trackers add to its priority.
    pub(super) fn weight(&self) -> i32 {
        self.weights.values().fold(0, |sum, weight| sum.saturating_add(*weight))
    }

    /// Notes what a tracker says.
    pub(super) fn note(&mut self, tracker: &str, verdict: Verdict) {
        self.awaits.remove(tracker);
        self.faults.remove(tracker);
        self.weights.remove(tracker);
        match verdict {
            Verdict::Well | Verdict::Weight(0) => {}
            Verdict::Failed(why) => drop(self.faults.insert(tracker.to_owned(), why)),
            Verdict::Weight(weight) => drop(self.weights.insert(tracker.to_owned(), weight)),
        }
    }

    /// What the host offers it.
    pub(super) fn footing(&self, host: &Host) -> Footing {
        let mut footing = Footing { link: None, address: None, faults: Vec::new(), weights: Vec::new() };
        let instance = &self.instance;
        if let Some(name) = &instance.interface {
            let link = host.links.by_name(name);
            let state = match (link, instance.dependence) {
                (Some(Link { up: false, .. }), Dependence::Untracked) => None,
                (link, _) => down(link),
            };
            footing.faults.extend(state.map(|why| fault(name, why)));
            footing.link = link.map(|link| link.index);
        }
        footing.address = self.own_address(host, footing.link);
        if footing.address.is_none() && footing.faults.is_empty() {
            let why = match (instance.source, instance.is_v6()) {
                (Some(source), _) => format!("{source} is not an address of this host"),
                (None, false) => "has no IPv4 address to speak from".to_owned(),
                (None, true) => "has no link-local IPv6 address to speak from".to_owned(),
            };
            footing.faults.push(fault(instance.interface.as_deref().unwrap_or("any"), &why));
        }
        for watched in &instance.links {
            let state = down(host.links.by_name(&watched.interface));
            match (watched.weight, state) {
                (None, Some(why)) => footing.faults.push(fault(&watched.interface, why)),
                (Some(weight @ 1..), None) | (Some(weight @ ..=-1), Some(_)) => {
                    footing.weights.push((tracker(&watched.interface), weight));
                }
                _ => {}
            }
        }
        footing
    }

    fn own_address(&self, host: &Host, link: Option<u32>) -> Option<IpAddr> {
        if let Some(source) = self.instance.source {
            return host.links.has(source).then_some(source);
        }
        let own: Vec<IpAddr> = match self.instance.priority {
            // Its virtual addresses are its own ones.
            OWNER => Vec::new(),
            _ => self.instance.all_addresses().map(|own| own.address).collect(),
        };
        host.links.own_address(link?, self.instance.is_v6(), &own)
    }

    /// Notes what is down of what the host offers; what was and is not any more is forgotten.
    pub(super) fn judge(&mut self, footing: &Footing) {
        let own = |tracker: &String| tracker.starts_with(INTERFACE);
        self.faults.retain(|tracker, _| !own(tracker));
        self.weights.retain(|tracker, _| !own(tracker));
        let faults = footing.faults.iter().map(|fault| (fault.tracker.clone(), fault.why.clone()));
        self.faults.extend(faults);
        self.weights.extend(footing.weights.iter().cloned());
    }

    /// Opens its sockets where they have to be now. Returns its own address, if that is another one
    /// now.
    pub(super) fn connect(&mut self, footing: &Footing) -> io::Result<Option<IpAddr>> {
        let Some(address) = footing.address else {
            self.wire = None;
            return Ok(None);
        };
        let serial = match &self.wire {
            Some(wire) if wire.is_on(footing.link, address) => return Ok(None),
            Some(wire) => wire.serial(),
            // Numbers of authentication headers have to grow, also over a restart.
            None => self.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() as u32,
        };
        self.wire = None;
        self.wire = Some(Wire::open(&self.instance, footing.link, address, serial)?);
        Ok(Some(address))
    }

    /// Takes over other settings of the same virtual router.
    pub(super) fn adopt(&mut self, instance: Instance, host: &Host) {
        let before = std::mem::replace(&mut self.instance, instance);
        if (&before.dialect, &before.reach) != (&self.instance.dialect, &self.instance.reach) {
            self.wire = None;
        }
        self.complaints.clear();
        let footing = self.footing(host);
        // That it fails is found again, and told, when all is looked at.
        let _ = self.connect(&footing);
    }

    /// Does what the state machine says.
    pub(super) fn act(&mut self, action: Action, router: &Router, now: Moment, host: &mut Host) {
        let lifetime = router.consent().map(|until| until.saturating_sub(now));
        match action {
            Action::Send(advert) => {
                let result = match &mut self.wire {
                    Some(wire) => wire.send(&advert),
                    None => return,
                };
                match result {
                    Ok(()) => self.counters.sent += 1,
                    Err(_) => self.counters.send_failures += 1,
                }
                if advert.priority == 0 {
                    self.counters.priority_zero_sent += 1;
                }
                let could_not = std::mem::replace(&mut self.cannot_send, result.is_err());
                if let Err(error) = result
                    && !could_not
                {
                    self.trouble(host, format!("advertisements cannot be sent: {error}"));
                }
            }
            Action::AddAddresses => self.place(lifetime, host),
            Action::ProlongAddresses => self.prolong(lifetime, host),
            Action::RemoveAddresses => self.remove_all(host),
            Action::Announce(occasion) => {
                for placed in &self.placed {
                    host.announce(placed, &self.instance.announcing, occasion, now);
                }
            }
            Action::Ask => host.tell(Notice::Asks { instance: self.instance.name.clone() }),
            Action::Release => host.tell(Notice::Releases { instance: self.instance.name.clone() }),
            Action::Became(state, reason) => self.became(state, reason, router.priority(), host),
            // Who runs them all says it once, and why.
            Action::Warn(Warning::Late(_)) => {}
            Action::Warn(warning) => {
                host.tell(Notice::Warned { instance: self.instance.name.clone(), warning });
            }
        }
    }

    fn became(&mut self, state: State, reason: Reason, priority: u8, host: &mut Host) {
        let was = std::mem::replace(&mut self.state, state);
        match (was, state) {
            (State::Master, State::Master) => {}
            (State::Master, _) => self.counters.released_master += 1,
            (_, State::Master) => self.counters.became_master += 1,
            _ => {}
        }
        if state == State::Master || state == State::Fault {
            self.heard = None;
        }
        if let Reason::Outranked { by, priority } = reason {
            self.heard = Some((by, priority));
        }
        if was == State::Init && state != State::Master {
            self.remove_left_over(host);
        }
        (self.since, self.reason) = (clock::wall(), Some(reason));
        let (instance, faults) = (self.instance.name.clone(), self.faults());
        host.tell(Notice::Became { instance, was, state, reason, faults, priority });
    }

    fn faults(&self) -> Vec<Fault> {
        let fault = |(tracker, why): (&String, &String)| Fault { tracker: tracker.clone(), why: why.clone() };
        self.faults.iter().map(fault).collect()
    }

    pub(super) fn trouble(&self, host: &mut Host, what: String) {
        host.tell(Notice::Trouble { instance: Some(self.instance.name.clone()), what });
    }

    fn odd(&self, host: &mut Host, what: String) {
        host.tell(Notice::Odd { instance: self.instance.name.clone(), what });
    }

    /// Where its addresses have to be, as far as there are such interfaces.
    fn places(&self, host: &mut Host) -> Vec<Placed> {
        let mut places = Vec::new();
        for address in self.instance.all_addresses() {
            let device = address.device.as_ref().or(self.instance.interface.as_ref());
            match device.and_then(|device| host.links.by_name(device)) {
                Some(link) => places.push(Placed { link: link.index, address: address.clone() }),
                None => {
                    let device = device.map_or("none is named", |device| device.as_str());
                    let what = format!("{} has no interface to be put on: {device}", address.address);
                    self.trouble(host, what);
                }
            }
        }
        places
    }

    /// Puts its addresses where they have to be, and takes away those that were there before and are
    /// not wanted any more.
    fn place(&mut self, lifetime: Option<Duration>, host: &mut Host) {
        let places = self.places(host);
        for old in std::mem::take(&mut self.placed) {
            let place = |placed: &Placed| (placed.link, placed.address.address, placed.address.prefix);
            let same = |new: &Placed| place(new) == place(&old);
            if !places.iter().any(same) {
                self.remove(old.link, old.address.address, old.address.prefix, host);
            }
        }
        for placed in places {
            if let Err(error) = host.place(&placed, lifetime) {
                let what = format!("{} cannot be put on its interface: {error}", placed.address.address);
                self.trouble(host, what);
            }
            // Kept also where it failed, so that it is tried again and taken away in the end.
            self.placed.push(placed);
        }
    }

    /// Has the kernel leave its addresses for longer.
    fn prolong(&self, lifetime: Option<Duration>, host: &mut Host) {
        for placed in &self.placed {
            if let Err(error) = host.place(placed, lifetime) {
                self.trouble(host, format!("{} cannot be prolonged: {error}", placed.address.address));
            }
        }
    }

    fn remove_all(&mut self, host: &mut Host) {
        for placed in std::mem::take(&mut self.placed) {
            self.remove(placed.link, placed.address.address, placed.address.prefix, host);
        }
    }

    fn remove(&self, link: u32, address: IpAddr, prefix: u8, host: &mut Host) {
        if let Err(error) = host.remove(link, address, prefix) {
            self.trouble(host, format!("{address} cannot be taken from its interface: {error}"));
        }
    }

    /// Takes its addresses from their interfaces, where one that was killed left them. Those of an
    /// owner are the host's own.
    fn remove_left_over(&self, host: &mut Host) {
        if self.instance.priority == OWNER {
            return;
        }
        for wanted in self.places(host) {
            let address = wanted.address.address;
            let left: Vec<u8> = host
                .links
                .addresses_of(wanted.link)
                .filter(|held| held.address == address)
                .map(|held| held.prefix)
                .collect();
            for prefix in left {
                let what =
                    format!("{address} was on its interface already: it was left over, and is taken away");
                self.odd(host, what);
                self.remove(wanted.link, address, prefix, host);
            }
        }
    }

    /// Addresses that it put on an interface and that are not there, as far as is known.
    pub(super) fn lacks(&self, host: &Host) -> bool {
        self.state == State::Master && self.placed.iter().any(|placed| is_missing(placed, host))
    }

    /// Puts back what somebody has taken away.
    pub(super) fn put_back(&self, router: &Router, now: Moment, host: &mut Host) {
        let lifetime = router.consent().map(|until| until.saturating_sub(now));
        for placed in &self.placed {
            if is_missing(placed, host) {
                let address = placed.address.address;
                match host.place(placed, lifetime) {
                    Ok(()) => {
                        self.odd(host, format!("{address} was taken from its interface, and is put back"))
                    }
                    Err(error) => self.trouble(host, format!("{address} cannot be put back: {error}")),
                }
            }
        }
    }

    /// How it stands.
    pub(super) fn status(&self, router: &Router, group: Option<&str>) -> Status {
        let instance = &self.instance;
        let address = self.wire.as_ref().map(Wire::own);
        Status {
            instance: instance.name.clone(),
            group: group.map(str::to_owned),
            interface: instance.interface.clone(),
            vrid: instance.vrid,
            version: if matches!(instance.dialect, Dialect::V3(_)) { 3 } else { 2 },
            state: router.state(),
            since: self.since,
            reason: self.reason,
            faults: self.faults(),
            awaits: self.awaits.iter().cloned().collect(),
            base_priority: instance.priority,
            priority: router.priority(),
            weights: self.weights.iter().map(|(tracker, weight)| (tracker.clone(), *weight)).collect(),
            address,
            master: match router.state() {
                State::Master => address.map(|address| (address, router.priority())),
                _ => self.heard,
            },
            master_down: router.master_down(),
            interval: instance.interval,
            addresses: instance.all_addresses().map(|own| own.address).collect(),
            held: self.placed.iter().map(|placed| placed.address.address).collect(),
            counters: self.counters,
        }
    }
}

/// Whether an address is not where it was put, although it could be.
fn is_missing(placed: &Placed, host: &Host) -> bool {
    let wanted = (placed.address.address, placed.address.prefix);
    host.links.is_up(placed.link)
        && !host.links.addresses_of(placed.link).any(|held| (held.address, held.prefix) == wanted)
}

/// Why an interface does not serve.
fn down(link: Option<&Link>) -> Option<&'static str> {
    match link {
        None => Some("does not exist"),
        Some(link) if !link.up => Some("is down"),
        Some(_) => None,
    }
}

fn fault(interface: &str, why: &str) -> Fault {
    Fault { tracker: tracker(interface), why: why.to_owned() }
}

/// Name of the tracker that says how an interface is.
fn tracker(interface: &str) -> String {
    format!("{INTERFACE}{interface}")
}

const INTERFACE: &str = "interface ";
