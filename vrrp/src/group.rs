//! Routers that are master together or not at all (`vrrp_sync_group`): the two sides of a firewall,
//! or the addresses of one service in two families.

use std::net::IpAddr;

use crate::router::{Action, Config, Event, Moment, Router, State};

/// Routers that follow each other.
///
/// One that fails takes the others along, and none comes back before all are well; one that is
/// outranked gives way for all; one whose master falls silent takes over for all. If they need an
/// arbiter's consent they need it together: what it says is for all of them.
#[derive(Clone, Debug)]
pub struct Group {
    members: Vec<Member>,
}

#[derive(Clone, Debug)]
struct Member {
    router: Router,
    /// Something of its own is down.
    failed: bool,
}

impl Group {
    /// These routers together.
    pub fn new(routers: Vec<Router>) -> Group {
        Group { members: routers.into_iter().map(|router| Member { router, failed: false }).collect() }
    }

    /// Its routers, in the order they were given.
    pub fn routers(&self) -> impl Iterator<Item = &Router> {
        self.members.iter().map(|member| &member.router)
    }

    /// When a router wants to be called next.
    pub fn deadline(&self) -> Option<Moment> {
        self.routers().filter_map(Router::deadline).min()
    }

    /// Takes in what happened to a router; returns what each is to do, by its place.
    pub fn handle(&mut self, place: usize, event: Event, now: Moment) -> Vec<(usize, Action)> {
        let mut actions = Vec::new();
        let Some(member) = self.members.get_mut(place) else { return actions };
        match event {
            Event::Failed => member.failed = true,
            Event::Recovered => {
                member.failed = false;
                if !self.members.iter().any(|member| member.failed) {
                    self.tell_all(&Event::Recovered, now, &mut actions);
                }
                return actions;
            }
            _ => {}
        }
        match event {
            // The one who asked comes first: it takes the others along, and these ask too.
            Event::Granted { .. } | Event::Refused => {
                for place in (place..self.members.len()).chain(0..place) {
                    self.tell(place, event.clone(), now, &mut actions);
                }
            }
            _ => self.tell(place, event, now, &mut actions),
        }
        self.release_last(&mut actions);
        actions
    }

    /// Has a router take over another configuration ([`Router::reconfigure`]).
    pub fn reconfigure(&mut self, place: usize, config: Config, now: Moment) -> Vec<(usize, Action)> {
        let Some(member) = self.members.get_mut(place) else { return Vec::new() };
        let before = member.router.state();
        let actions = member.router.reconfigure(config, now);
        let mut actions = actions.into_iter().map(|action| (place, action)).collect();
        self.follow(place, before, now, &mut actions);
        self.release_last(&mut actions);
        actions
    }

    /// Sets a router's own address.
    pub fn set_address(&mut self, place: usize, address: IpAddr) {
        if let Some(member) = self.members.get_mut(place) {
            member.router.set_address(address);
        }
    }

    /// The consent is given back once, by the last who needed it, when all addresses are gone.
    fn release_last(&self, actions: &mut Vec<(usize, Action)>) {
        let last = actions.iter().rfind(|(_, action)| *action == Action::Release).map(|(place, _)| *place);
        actions.retain(|(_, action)| *action != Action::Release);
        if let Some(place) = last
            && !self.routers().any(Router::needs_consent)
        {
            actions.push((place, Action::Release));
        }
    }

    /// Tells one router, and the others what follows from it.
    fn tell(&mut self, place: usize, event: Event, now: Moment, actions: &mut Vec<(usize, Action)>) {
        let router = &mut self.members[place].router;
        let before = router.state();
        actions.extend(router.handle(event, now).into_iter().map(|action| (place, action)));
        self.follow(place, before, now, actions);
    }

    /// Has the others follow a router that may have left its state.
    fn follow(&mut self, place: usize, before: State, now: Moment, actions: &mut Vec<(usize, Action)>) {
        let follow = match (before, self.members[place].router.state()) {
            (before, after) if before == after => return,
            (_, State::Fault) => Event::Failed,
            // Who starts with a failed one in the group waits for it.
            (State::Init, _) if self.members.iter().any(|member| member.failed) => Event::Failed,
            (State::Master, State::Backup) => Event::GiveWay,
            (_, State::Master) => Event::Take,
            _ => return,
        };
        self.tell_all(&follow, now, actions);
    }

    fn tell_all(&mut self, event: &Event, now: Moment, actions: &mut Vec<(usize, Action)>) {
        for (place, member) in self.members.iter_mut().enumerate() {
            actions
                .extend(member.router.handle(event.clone(), now).into_iter().map(|action| (place, action)));
        }
    }
}
