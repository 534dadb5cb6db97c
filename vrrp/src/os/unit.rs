//! Virtual routers that change together, at work: a sync group, or one by itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::hear;
use super::host::Host;
use super::legacy::Legacy;
use super::member::Member;
use super::notice::{Notice, Status, Verdict};
use super::settings::Instance;
use super::wire::{Incoming, Wire};
use crate::group::Group;
use crate::router::{Action, Event, Moment, Router, State};

/// A sync group, or one virtual router by itself.
pub(super) struct Unit {
    name: Option<String>,
    group: Group,
    pub(super) members: Vec<Member>,
    /// What was told of the group last.
    state: State,
}

impl Unit {
    /// Virtual routers that have not started. They have no addresses of their own yet.
    pub(super) fn new(name: Option<String>, instances: Vec<Instance>) -> Unit {
        let routers = instances.iter().map(|instance| Router::new(instance.config(nowhere(instance))));
        Unit {
            name,
            group: Group::new(routers.collect()),
            members: instances.into_iter().map(Member::new).collect(),
            state: State::Init,
        }
    }

    /// Has its virtual routers go on as what they were in another process.
    pub(super) fn inherit(&mut self, legacies: &[Legacy]) {
        for member in &mut self.members {
            if let Some(legacy) = legacies.iter().find(|legacy| legacy.is_for(&member.instance)) {
                member.inherit(legacy);
            }
        }
    }

    /// What its virtual routers pass on to another process, if that wants them all.
    pub(super) fn legacies(&self, heirs: &[String]) -> Option<Vec<Legacy>> {
        let wanted = |member: &Member| heirs.contains(&member.instance.identity());
        let both = self.members.iter().zip(self.group.routers());
        self.members.iter().all(wanted).then(|| both.map(|(member, router)| member.legacy(router)).collect())
    }

    /// When it wants to be called next.
    pub(super) fn deadline(&self) -> Option<Moment> {
        let inquiries = self.members.iter().filter_map(|member| Some(member.inquiry.as_ref()?.deadline()));
        inquiries.chain(self.group.deadline()).min()
    }

    /// Begins, if no tracker has to say something before.
    pub(super) fn start(&mut self, now: Moment, host: &mut Host) {
        let waits = |member: &Member| !member.awaits.is_empty();
        if self.state != State::Init || self.members.iter().any(waits) {
            return;
        }
        for place in 0..self.members.len() {
            if !self.members[place].is_well() {
                self.handle(place, Event::Failed, now, host);
            }
        }
        for place in 0..self.members.len() {
            let beginning = self.members[place].beginning();
            self.handle(place, beginning, now, host);
        }
    }

    /// Takes in what a tracker says of a virtual router.
    pub(super) fn report(
        &mut self,
        place: usize,
        tracker: &str,
        verdict: Verdict,
        now: Moment,
        host: &mut Host,
    ) {
        let before = self.members[place].is_well();
        self.members[place].note(tracker, verdict);
        self.weighed(place, now, host);
        self.changed(place, before, now, host);
        self.start(now, host);
    }

    /// Looks at what the host offers its virtual routers now. Returns whether one is in need of a
    /// second try.
    pub(super) fn reassess(&mut self, now: Moment, host: &mut Host) -> Need {
        let mut need = Need::Nothing;
        for place in 0..self.members.len() {
            let member = &mut self.members[place];
            let before = member.is_well();
            let footing = member.footing(host);
            member.judge(&footing);
            let well = member.is_well();
            if !well {
                // It says goodbye where it was, if it can.
                self.changed(place, before, now, host);
            }
            match self.members[place].connect(&footing, host) {
                Ok(address) => {
                    address.into_iter().for_each(|address| self.group.set_address(place, address));
                    if self.members[place].wire.is_some() {
                        self.members[place].note(SOCKETS, Verdict::Well);
                    }
                }
                // Sockets from before may be open still: they are no sign that all is well.
                Err(error) => {
                    self.members[place].note(SOCKETS, Verdict::Failed(error.to_string()));
                    need = Need::Retry;
                }
            }
            self.weighed(place, now, host);
            self.changed(place, before && well, now, host);
        }
        self.start(now, host);
        need
    }

    fn weighed(&mut self, place: usize, now: Moment, host: &mut Host) {
        let weight = self.members[place].weight();
        self.handle(place, Event::Weighed(weight), now, host);
    }

    /// Tells the state machine if all is well now and was not before, or the other way round.
    fn changed(&mut self, place: usize, before: bool, now: Moment, host: &mut Host) {
        match (before, self.members[place].is_well()) {
            _ if self.state == State::Init => {}
            (true, false) => self.handle(place, Event::Failed, now, host),
            (false, true) => self.handle(place, Event::Recovered, now, host),
            _ => {}
        }
    }

    /// Takes in what has arrived for a virtual router.
    pub(super) fn receive(&mut self, place: usize, now: Moment, host: &mut Host) {
        for _ in 0..AT_ONCE {
            let Some(wire) = &mut self.members[place].wire else { return };
            let incoming = match wire.receive(now) {
                Ok(Incoming::Nothing) => return,
                Ok(incoming) => incoming,
                // What is wrong with the interface is told by the kernel elsewhere.
                Err(_) => return,
            };
            let state = self.state_of(place);
            if let Some(event) = hear::judge(&mut self.members[place], incoming, state, host) {
                self.handle(place, event, now, host);
            }
        }
    }

    fn state_of(&self, place: usize) -> State {
        self.group.routers().nth(place).map_or(State::Init, Router::state)
    }

    /// Where a virtual router of that name is among them.
    pub(super) fn place_of(&self, instance: &str) -> Option<usize> {
        self.members.iter().position(|member| member.instance.name == instance)
    }

    /// Has masters whose consent is over give their addresses away.
    pub(super) fn lapse(&mut self, now: Moment, host: &mut Host) {
        for place in 0..self.members.len() {
            let consent = self.group.routers().nth(place).and_then(Router::consent);
            if consent.is_some_and(|until| until <= now) {
                self.handle(place, Event::Timer, now, host);
            }
        }
    }

    /// Has the virtual routers look at their timers.
    pub(super) fn look(&mut self, now: Moment, host: &mut Host) {
        for place in 0..self.members.len() {
            let due = self.group.routers().nth(place).and_then(Router::deadline);
            if due.is_some_and(|due| due <= now) {
                self.handle(place, Event::Timer, now, host);
            }
            self.members[place].ask_neighbours(now, host);
        }
    }

    /// Hands an event to a state machine, and does what it says.
    pub(super) fn handle(&mut self, place: usize, event: Event, now: Moment, host: &mut Host) {
        let actions = self.group.handle(place, event, now);
        self.act(actions, now, host);
    }

    fn act(&mut self, actions: Vec<(usize, Action)>, now: Moment, host: &mut Host) {
        for (place, action) in actions {
            if let Some(router) = self.group.routers().nth(place) {
                self.members[place].act(action, router, now, host);
            }
        }
        let state = self.standing();
        if std::mem::replace(&mut self.state, state) != state
            && let Some(group) = self.name.clone()
        {
            host.tell(Notice::GroupBecame { group, state });
        }
    }

    /// What they are together.
    fn standing(&self) -> State {
        let has = |state| self.group.routers().any(|router| router.state() == state);
        if has(State::Fault) {
            State::Fault
        } else if has(State::Init) {
            State::Init
        } else if has(State::Backup) {
            State::Backup
        } else {
            State::Master
        }
    }

    /// Stops all of them.
    pub(super) fn stop(&mut self, now: Moment, host: &mut Host) {
        for place in 0..self.members.len() {
            self.handle(place, Event::Stop, now, host);
        }
        for member in &mut self.members {
            member.retire(host);
        }
    }

    /// Whether one of their addresses is not where it was put, as far as is known.
    pub(super) fn lacks(&self, host: &Host) -> bool {
        self.members.iter().any(|member| member.lacks(host))
    }

    /// Puts back what somebody has taken away.
    pub(super) fn put_back(&self, now: Moment, host: &mut Host) {
        for (member, router) in self.members.iter().zip(self.group.routers()) {
            if member.lacks(host) {
                member.put_back(router, now, host);
            }
        }
    }

    /// How they stand.
    pub(super) fn statuses(&self) -> impl Iterator<Item = Status> {
        let both = self.members.iter().zip(self.group.routers());
        both.map(|(member, router)| member.status(router, self.name.as_deref()))
    }

    /// Whether these are its virtual routers, however they are set up.
    pub(super) fn is_made_of(&self, name: Option<&str>, instances: &[Instance]) -> bool {
        let mut both = self.members.iter().zip(instances);
        self.name.as_deref() == name
            && self.members.len() == instances.len()
            && both.all(|(member, instance)| member.instance.is_same(instance))
    }

    /// Sets its virtual routers up anew, where they differ; they keep their places.
    pub(super) fn reconfigure(&mut self, instances: Vec<Instance>, now: Moment, host: &mut Host) {
        for (place, instance) in instances.into_iter().enumerate() {
            let member = &mut self.members[place];
            if member.instance == instance {
                continue;
            }
            member.adopt(instance, host);
            let address = member.wire.as_ref().map_or_else(|| nowhere(&member.instance), Wire::own);
            let actions = self.group.reconfigure(place, member.instance.config(address), now);
            self.act(actions, now, host);
        }
    }
}

/// The address of a virtual router that has none yet.
fn nowhere(instance: &Instance) -> IpAddr {
    if instance.is_v6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// Whether something has to be tried again soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    Retry,
}

/// Name of the tracker that says whether sockets could be opened.
const SOCKETS: &str = "sockets";
/// Datagrams that are read before timers are looked at: more than wait after a long stop, and few
/// enough that a flood does not keep the timers.
const AT_ONCE: usize = 512;
