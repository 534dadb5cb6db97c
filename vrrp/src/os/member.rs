//! One virtual router at work: what its actions come to on this host, and what it depends on there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::clock;
use super::holdings::Holdings;
use super::host::{Host, Placed};
use super::legacy::Legacy;
use super::links::Link;
use super::notice::{Claim, Counters, Fault, Notice, Status, Verdict};
use super::probe::{Answer, Inquiry, News};
use super::settings::{Advertises, Dependence, Dialect, Effect, Instance, Mac, Reach};
use super::vmac::{Switch, Wanted};
use super::wire::Wire;
use crate::router::{Action, Event, Moment, OWNER, Reason, Router, State, Warning};

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
    /// The same moment on the node's clock.
    began: Moment,
    reason: Option<Reason>,
    /// Whom it heard last, while it was not master itself.
    pub(super) heard: Option<(IpAddr, u8)>,
    holdings: Holdings,
    /// The interface of its own that the kernel treats as it has to.
    prepared: Option<u32>,
    /// Who else has its addresses; asked as long as it is master.
    pub(super) inquiry: Option<Inquiry>,
    /// Whose advertisements were complained about, and why.
    pub(super) complaints: BTreeSet<(IpAddr, String)>,
    cannot_send: bool,
    /// What it was in another process, until it has started in this one.
    before: Option<Before>,
}

/// What a virtual router was in another process.
struct Before {
    state: State,
    /// Number of its last authentication header.
    serial: u32,
    /// The end of an arbiter's consent.
    consent: Option<Moment>,
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
            began: clock::now(),
            reason: None,
            heard: None,
            holdings: Holdings::default(),
            prepared: None,
            inquiry: None,
            complaints: BTreeSet::new(),
            cannot_send: false,
            before: None,
        }
    }

    /// Takes up what it was in another process.
    pub(super) fn inherit(&mut self, legacy: &Legacy) {
        if legacy.state == State::Init {
            return;
        }
        let Legacy { state, serial, consent, .. } = *legacy;
        self.before = Some(Before { state, serial, consent });
        // What trackers said there holds until they say otherwise here.
        self.awaits.clear();
        self.faults = legacy.faults.iter().map(|fault| (fault.tracker.clone(), fault.why.clone())).collect();
        self.weights = legacy.weights.iter().cloned().collect();
        self.holdings.inherit(&legacy.held);
    }

    /// What it passes on to another process.
    pub(super) fn legacy(&self, router: &Router) -> Legacy {
        let held = self.holdings.placed().iter();
        Legacy {
            identity: self.instance.identity(),
            state: router.state(),
            faults: self.faults(),
            weights: self.weights.iter().map(|(tracker, weight)| (tracker.clone(), *weight)).collect(),
            held: held.map(|held| (held.link, held.address.address, held.address.prefix)).collect(),
            consent: router.consent(),
            serial: self.wire.as_ref().map_or(0, Wire::serial),
        }
    }

    /// The first thing that it is told: to go on as master, if it was one in another process.
    pub(super) fn beginning(&mut self) -> Event {
        match self.before.take() {
            Some(Before { state: State::Master, consent, .. }) => Event::Resume { consent },
            _ => Event::Start,
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
        if let Some(vmac) = self.holdings.vmac
            && !host.links.exists(vmac)
        {
            // It is made anew, and then all begins again.
            footing.faults.push(fault("of its own", "was removed"));
        }
        for watched in &instance.links {
            let (state, effect) = match down(host.links.by_name(&watched.interface)) {
                Some(why) => (why, watched.down),
                None => ("is up", watched.up),
            };
            match effect {
                Effect::Fault => footing.faults.push(fault(&watched.interface, state)),
                Effect::Adds(0) => {}
                Effect::Adds(weight) => footing.weights.push((tracker(&watched.interface), weight)),
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

    /// Opens its sockets where they have to be now, and makes its own interface. Returns its own
    /// address, if that is another one now.
    pub(super) fn connect(&mut self, footing: &Footing, host: &mut Host) -> io::Result<Option<IpAddr>> {
        let Some(address) = footing.address else {
            self.wire = None;
            return Ok(None);
        };
        self.make_vmac(footing, host)?;
        let out = self.holdings.vmac.filter(|_| self.advertises_virtually()).or(footing.link);
        let serial = match &self.wire {
            Some(wire) if wire.is_on(footing.link, out, address) => return Ok(None),
            Some(wire) => wire.serial(),
            // Numbers of authentication headers have to grow, also over a restart.
            None => {
                let since = self.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                let before = self.before.as_ref().map_or(0, |before| before.serial);
                before.max(since.as_secs() as u32)
            }
        };
        self.wire = None;
        self.wire = Some(Wire::open(&self.instance, footing.link, out, address, serial)?);
        Ok(Some(address))
    }

    /// Peers are spoken to as the host speaks to them: a frame to one is answered to where it came from.
    fn advertises_virtually(&self) -> bool {
        let virtually = matches!(self.instance.mac, Mac::Virtual { advertises: Advertises::Virtually, .. });
        virtually && matches!(self.instance.reach, Reach::Group(_))
    }

    /// Makes the interface with its own MAC address, or takes up one that was left over.
    fn make_vmac(&mut self, footing: &Footing, host: &mut Host) -> io::Result<()> {
        let instance = &self.instance;
        let (Mac::Virtual { name, .. }, Some(below), Some(index)) =
            (&instance.mac, &instance.interface, footing.link)
        else {
            self.holdings.vmac = None;
            return Ok(());
        };
        let wanted = Wanted::new(name.as_deref(), (below.clone(), index), instance.vrid, instance.is_v6());
        let link = host.make_vmac(&wanted)?;
        self.holdings.vmac = Some(link);
        if self.prepared != Some(link) {
            wanted.prepare()?;
            let leads = self.state == State::Master
                || matches!(self.before, Some(Before { state: State::Master, .. }));
            host.switch(link, if leads { Switch::On } else { Switch::Off })?;
            self.prepared = Some(link);
        }
        Ok(())
    }

    /// Takes over other settings of the same virtual router.
    pub(super) fn adopt(&mut self, instance: Instance, host: &mut Host) {
        let before = std::mem::replace(&mut self.instance, instance);
        if (&before.dialect, &before.reach) != (&self.instance.dialect, &self.instance.reach) {
            self.wire = None;
        }
        self.complaints.clear();
        let footing = self.footing(host);
        // That it fails is found again, and told, when all is looked at.
        let _ = self.connect(&footing, host);
    }

    /// Does what the state machine says.
    pub(super) fn act(&mut self, action: Action, router: &Router, now: Moment, host: &mut Host) {
        let (lifetime, instance) = (lifetime(router, now), &self.instance);
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
            Action::AddAddresses => self.holdings.place(instance, lifetime, host),
            Action::ProlongAddresses => self.holdings.prolong(instance, lifetime, host),
            Action::RemoveAddresses => self.holdings.remove_all(instance, host),
            Action::Announce(occasion) => {
                for placed in self.holdings.placed() {
                    host.announce(placed, &instance.announcing, occasion, now);
                }
            }
            Action::Ask => host.tell(Notice::Asks { instance: self.instance.name.clone() }),
            Action::Release => host.tell(Notice::Releases { instance: self.instance.name.clone() }),
            Action::Became(state, reason) => self.became(state, reason, router.priority(), now, host),
            // Who runs them all says it once, and why.
            Action::Warn(Warning::Late(_)) => {}
            Action::Warn(warning) => {
                host.tell(Notice::Warned { instance: self.instance.name.clone(), warning });
            }
        }
    }

    fn became(&mut self, state: State, reason: Reason, priority: u8, now: Moment, host: &mut Host) {
        let was = std::mem::replace(&mut self.state, state);
        match (was, state) {
            (State::Master, State::Master) => {}
            (State::Master, _) => self.counters.released_master += 1,
            (_, State::Master) => self.counters.became_master += 1,
            _ => {}
        }
        match state {
            State::Master if was == state => {}
            State::Master => self.inquiry = Some(Inquiry::new(now)),
            _ => self.inquiry = None,
        }
        if state == State::Master || state == State::Fault {
            self.heard = None;
        }
        if let Reason::Outranked { by, priority } = reason {
            self.heard = Some((by, priority));
        }
        if was == State::Init && state != State::Master {
            self.holdings.remove_all(&self.instance, host);
            self.holdings.remove_left_over(&self.instance, host);
        }
        (self.since, self.began, self.reason) = (clock::wall(), now, Some(reason));
        let (instance, faults) = (self.instance.name.clone(), self.faults());
        host.tell(Notice::Became { instance, was, state, reason, faults, priority });
    }

    /// Asks the neighbours who else has its addresses, when it is time to.
    pub(super) fn ask_neighbours(&mut self, now: Moment, host: &mut Host) {
        let Some(inquiry) = self.inquiry.as_mut().filter(|inquiry| inquiry.deadline() <= now) else { return };
        let placed = self.holdings.placed();
        let round = inquiry.round(now, placed.len()).into_iter().map(|place| &placed[place]);
        let asked: Vec<IpAddr> =
            round.filter(|placed| host.ask(placed, now)).map(|placed| placed.address.address).collect();
        let held: Vec<IpAddr> = placed.iter().map(|placed| placed.address.address).collect();
        for claim in inquiry.asked(&asked, &held) {
            host.tell(Notice::Unclaimed { instance: self.instance.name.clone(), claim });
        }
    }

    /// Takes in that another host has an address, which may be one of its own.
    pub(super) fn answered(&mut self, answer: &Answer, now: Moment, host: &mut Host) {
        let Some(inquiry) = &mut self.inquiry else { return };
        let own = |placed: &Placed| (placed.link, placed.address.address) == (answer.link, answer.address);
        if !self.holdings.placed().iter().any(own) {
            return;
        }
        let interface = host.links.name_of(answer.link).unwrap_or("?").to_owned();
        let claim = Claim { address: answer.address, mac: answer.mac, interface };
        if inquiry.answered(&claim, now) == News::Claimed {
            host.tell(Notice::Claimed { instance: self.instance.name.clone(), claim });
        }
    }

    fn faults(&self) -> Vec<Fault> {
        let fault = |(tracker, why): (&String, &String)| Fault { tracker: tracker.clone(), why: why.clone() };
        self.faults.iter().map(fault).collect()
    }

    pub(super) fn trouble(&self, host: &mut Host, what: String) {
        host.tell(Notice::Trouble { instance: Some(self.instance.name.clone()), what });
    }

    /// Whether an address that it put on an interface is not there, as far as is known.
    pub(super) fn lacks(&self, host: &Host) -> bool {
        self.state == State::Master && self.holdings.lacks(host)
    }

    /// Puts back what somebody has taken away.
    pub(super) fn put_back(&self, router: &Router, now: Moment, host: &mut Host) {
        self.holdings.put_back(&self.instance, lifetime(router, now), host);
    }

    /// Leaves nothing behind.
    pub(super) fn retire(&mut self, host: &mut Host) {
        self.wire = None;
        if let Some(vmac) = self.holdings.vmac.take()
            && let Err(error) = host.delete(vmac)
        {
            self.trouble(host, format!("the interface of its own cannot be removed: {error}"));
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
            lasted: clock::now().saturating_sub(self.began),
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
            held: self.holdings.placed().iter().map(|placed| placed.address.address).collect(),
            counters: self.counters,
        }
    }
}

/// How long the arbiter lets its addresses stay.
fn lifetime(router: &Router, now: Moment) -> Option<Duration> {
    router.consent().map(|until| until.saturating_sub(now))
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
