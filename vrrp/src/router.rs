//! One virtual router: who holds the addresses, and when (RFC 9568, section 6.4, with what keepalived
//! adds: faults, priorities that trackers change, preemption that waits or never comes).
//!
//! The machine is handed events and the time, and returns what is to be done. [`Router::deadline`]
//! says when it wants to be called next.

mod consent;
mod terms;

use std::net::IpAddr;
use std::time::Duration;

pub use self::terms::{
    Action, Answer, Config, Consent, Event, Moment, Occasion, Preempt, Reason, State, Warning,
};
use crate::packet::{Advert, Version};

/// One virtual router.
#[derive(Clone, Debug)]
pub struct Router {
    config: Config,
    state: State,
    /// What trackers add to the configured priority.
    weight: i32,
    /// When the state's timer runs out.
    timer: Option<Moment>,
    /// When the addresses are announced next, and as what.
    announce: Option<(Moment, Occasion)>,
    /// A backup's: interval of the master that was heard last.
    master_interval: Duration,
    /// A backup's: since when the master-down timer runs, and whether the master resigned.
    quiet_since: Moment,
    resigned: bool,
    /// Since when masters of lower priority are heard.
    outranking_since: Option<Moment>,
    /// The other master that was complained about, and when it was heard last.
    rival: Option<(IpAddr, Moment)>,
    /// Until when a master whose place was taken may not know it yet.
    tolerant_until: Moment,
    /// Whose interval was complained about.
    odd_interval: Option<(IpAddr, Duration)>,
    /// Why a backup asked the arbiter; it waits for the answer.
    asked: Option<Reason>,
    /// A master's: until when the arbiter lets it be one.
    granted_until: Moment,
    /// When a backup last began to claim the place of a master of lower priority.
    claimed: Option<Moment>,
}

impl Router {
    /// A router that waits for [`Event::Start`].
    pub fn new(config: Config) -> Router {
        Router {
            state: State::Init,
            weight: 0,
            timer: None,
            announce: None,
            master_interval: config.interval,
            quiet_since: Moment::ZERO,
            resigned: false,
            outranking_since: None,
            rival: None,
            tolerant_until: Moment::ZERO,
            odd_interval: None,
            asked: None,
            granted_until: Moment::ZERO,
            claimed: None,
            config,
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// What it was set up with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The priority that it advertises: trackers move it, but never to that of an owner or of one
    /// who stops.
    pub fn priority(&self) -> u8 {
        if self.is_owner() {
            return OWNER;
        }
        (i32::from(self.config.priority).saturating_add(self.weight)).clamp(1, 254) as u8
    }

    /// Sets its own address, which decides between equals: that of an interface may change.
    pub fn set_address(&mut self, address: IpAddr) {
        self.config.address = address;
    }

    /// Takes over another configuration without losing its place: a master stays master, a backup
    /// goes on waiting. Returns what is to be done.
    pub fn reconfigure(&mut self, config: Config, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        self.lapse(&Event::Timer, now, &mut actions);
        let was = std::mem::replace(&mut self.config, config).consent;
        match (was, self.config.consent) {
            (Consent::Needed, Consent::NotNeeded) => {
                self.asked = None;
                actions.push(Action::Release);
            }
            (Consent::NotNeeded, Consent::Needed) if self.state == State::Master => {
                // It has led without until now, and may for as long as others would wait for it.
                self.granted_until = now + self.master_down();
                actions.push(Action::Ask);
            }
            _ => {}
        }
        match self.state {
            State::Init | State::Fault => {}
            State::Backup if self.is_owner() && self.config.begins <= now => {
                self.may_take(Reason::Owner, now, &mut actions)
            }
            State::Backup => {
                // It may have waited for the moment at which it was to begin.
                self.quiet_since = self.quiet_since.min(now).max(self.config.begins);
                self.wait_anew();
            }
            State::Master => {
                actions.push(Action::AddAddresses);
                actions.push(self.send(self.priority()));
                actions.push(Action::Announce(Occasion::Taken));
                self.timer = Some(now + self.config.interval);
                self.announce = self.first_announcement(now);
            }
        }
        actions
    }

    /// When [`Event::Timer`] is due.
    pub fn deadline(&self) -> Option<Moment> {
        let announce = self.announce.map(|(due, _)| due);
        [self.timer, announce, self.consent()].into_iter().flatten().min()
    }

    /// Until when the arbiter lets it be master, if it is master and needs that.
    pub fn consent(&self) -> Option<Moment> {
        (self.state == State::Master && self.is_arbitrated()).then_some(self.granted_until)
    }

    /// Whether it is master with an arbiter's consent, or waits for that.
    pub fn needs_consent(&self) -> bool {
        self.asked.is_some() || self.consent().is_some()
    }

    /// How long a backup waits for a master's next word before it takes its place.
    pub fn master_down(&self) -> Duration {
        self.master_interval * u32::from(self.config.down_adverts) + self.skew()
    }

    /// What a backup waits longer, the lower its priority is.
    pub fn skew(&self) -> Duration {
        let whole = match self.config.version {
            Version::V2(_) => Duration::from_secs(1),
            Version::V3 => self.master_interval,
        };
        whole * (256 - u32::from(self.priority())) / 256
    }

    /// Takes in what happened; returns what is to be done, in that order.
    pub fn handle(&mut self, event: Event, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        self.lapse(&event, now, &mut actions);
        match (event, self.state) {
            (Event::Resume { consent }, State::Init) => self.resume(consent, now, &mut actions),
            (Event::Start, State::Init) => self.start(now, &mut actions),
            (Event::Recovered, State::Fault) => self.listen(Reason::Recovered, now, &mut actions),
            (Event::Failed, State::Fault) => {}
            (Event::Failed, _) => self.leave(State::Fault, Reason::Fault, &mut actions),
            (Event::Stop, State::Backup | State::Master | State::Fault) => {
                self.leave(State::Init, Reason::Stopped, &mut actions);
            }
            (Event::Weighed(weight), _) => self.weigh(weight),
            (Event::Timer, State::Backup | State::Master) => self.look(now, &mut actions),
            (Event::Take, State::Backup) => self.may_take(Reason::Followed, now, &mut actions),
            (Event::GiveWay, State::Master) => {
                actions.push(self.send(0));
                self.listen(Reason::Followed, now, &mut actions);
            }
            (Event::GiveWay, State::Backup) if self.asked.is_some() => {
                self.wait(self.master_interval, now);
                self.stop_asking(&mut actions);
            }
            (Event::Granted { until }, _) => self.grant(until, now, &mut actions),
            (Event::Refused, _) => self.refuse(now, &mut actions),
            (Event::Withdrawn, _) if self.consent().is_some() => {
                self.give_up(Reason::Withdrawn, now, &mut actions);
            }
            (Event::Heard { from, priority, interval }, State::Backup | State::Master) => {
                self.hear(from, priority, interval, now, &mut actions);
            }
            _ => {}
        }
        actions
    }

    fn start(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let leads = self.is_owner() && self.config.begins <= now;
        if leads && !self.is_arbitrated() {
            return self.take(Reason::Owner, now, actions);
        }
        self.listen(Reason::Started, now, actions);
        if leads {
            self.ask(Reason::Owner, now, actions);
        }
    }

    fn is_owner(&self) -> bool {
        self.config.priority == OWNER
    }

    fn weigh(&mut self, weight: i32) {
        self.weight = weight;
        if self.state == State::Backup {
            self.wait_anew();
        }
    }

    /// Counts the wait for the master's next word from its last one, now that it is another wait.
    fn wait_anew(&mut self) {
        if !self.resigned {
            self.timer = Some(self.quiet_since + self.master_down());
        }
    }

    fn first_announcement(&self, now: Moment) -> Option<(Moment, Occasion)> {
        let again = self.config.announce_again.map(|after| (now + after, Occasion::Again));
        again.or_else(|| self.next_refresh(now))
    }

    fn next_refresh(&self, now: Moment) -> Option<(Moment, Occasion)> {
        self.config.announce_every.map(|every| (now + every, Occasion::Refresh))
    }

    /// Whether an advertisement of this interval counts: in v2 the intervals have to be the same.
    fn counts(&mut self, from: IpAddr, interval: Duration, actions: &mut Vec<Action>) -> bool {
        if interval == self.config.interval {
            return true;
        }
        if self.odd_interval.replace((from, interval)) != Some((from, interval)) {
            actions.push(Action::Warn(Warning::Interval { address: from, interval }));
        }
        self.config.version == Version::V3
    }

    fn hear(
        &mut self,
        from: IpAddr,
        priority: u8,
        interval: Duration,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        if !self.counts(from, interval, actions) {
            return;
        }
        if priority == OWNER && self.is_owner() {
            actions.push(Action::Warn(Warning::TwoOwners { address: from }));
        }
        if self.state == State::Master {
            return self.hear_as_master(from, priority, interval, now, actions);
        }
        if priority == 0 {
            self.resigned = true;
            self.timer = Some(now.max(self.config.begins) + self.skew());
        } else if priority >= self.priority() {
            self.outranking_since = None;
            self.wait(interval, now);
            self.stop_asking(actions);
        } else {
            let since = *self.outranking_since.get_or_insert(now);
            // A lower master that is to be preempted does not move the timer.
            if !self.preempts(now.saturating_sub(since)) {
                self.wait(interval, now);
                self.stop_asking(actions);
            }
        }
    }

    fn hear_as_master(
        &mut self,
        from: IpAddr,
        priority: u8,
        interval: Duration,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        if priority == 0 {
            actions.push(self.send(self.priority()));
            self.timer = Some(now + self.config.interval);
            return;
        }
        if (priority, from) > (self.priority(), self.config.address) {
            // No rival: this is how a better one takes its place. Where both have led for a while, the
            // better one hears the other and says so: also from the one that heard it first, whose last
            // word this is. It has the better one announce the addresses, which neighbours know elsewhere.
            let last = self.send(self.priority());
            self.listen(Reason::Outranked { by: from, priority }, now, actions);
            self.wait(interval, now);
            if self.config.to_higher == Answer::Advert {
                actions.push(last);
            }
        } else {
            if now > self.tolerant_until {
                let known = self.rival.replace((from, now)).is_some_and(|(rival, _)| rival == from);
                if !known {
                    actions.push(Action::Warn(Warning::Rival { address: from, priority }));
                }
            }
            // So that the other one steps down now, and the neighbours look here again.
            if self.config.to_lower == Answer::Advert {
                actions.push(self.send(self.priority()));
                self.timer = Some(now + self.config.interval);
            }
            actions.push(Action::Announce(Occasion::Contested));
        }
    }

    /// Whether a master of lower priority that has been heard for so long is to be replaced.
    fn preempts(&self, heard: Duration) -> bool {
        match self.config.preempt {
            _ if self.is_owner() => true,
            Preempt::AtOnce => true,
            Preempt::Never => false,
            Preempt::After(delay) => heard >= delay,
        }
    }

    /// Something is due.
    fn look(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if let Some(timer) = self.timer.filter(|timer| *timer <= now) {
            let late = now - timer;
            if late * 2 > self.config.interval {
                actions.push(Action::Warn(Warning::Late(late)));
            }
            if self.state == State::Backup {
                let silence = now.saturating_sub(self.quiet_since);
                let reason = match () {
                    () if self.is_owner() => Reason::Owner,
                    () if self.resigned => Reason::Resigned,
                    () => Reason::Silence(silence),
                };
                return self.may_take(self.asked.unwrap_or(reason), now, actions);
            }
            actions.push(self.send(self.priority()));
            // Counted from when it was due, so that lateness does not add up.
            let next = timer + self.config.interval;
            self.timer = Some(if next <= now { now + self.config.interval } else { next });
            let forgotten = self.config.interval * u32::from(self.config.down_adverts);
            if let Some((address, heard)) = self.rival
                && now.saturating_sub(heard) > forgotten
            {
                self.rival = None;
                actions.push(Action::Warn(Warning::RivalGone { address }));
            }
        }
        if let Some((due, occasion)) = self.announce
            && due <= now
        {
            actions.push(Action::Announce(occasion));
            self.announce = self.next_refresh(now);
        }
    }

    /// Becomes master.
    fn take(&mut self, reason: Reason, now: Moment, actions: &mut Vec<Action>) {
        self.state = State::Master;
        self.resigned = false;
        self.asked = None;
        self.claimed = None;
        // One whose place is taken gives way as soon as it hears of it; with others there is nobody.
        let heard = self.outranking_since.take().is_some();
        self.tolerant_until = if heard { now + self.master_interval * 2 } else { now };
        self.rival = None;
        self.master_interval = self.config.interval;
        actions.push(Action::AddAddresses);
        actions.push(self.send(self.priority()));
        actions.push(Action::Announce(Occasion::Taken));
        actions.push(Action::Became(State::Master, reason));
        self.timer = Some(now + self.config.interval);
        self.announce = self.first_announcement(now);
    }

    /// Becomes backup; a master gives its addresses away.
    fn listen(&mut self, reason: Reason, now: Moment, actions: &mut Vec<Action>) {
        self.release(actions);
        self.state = State::Backup;
        self.outranking_since = None;
        self.wait(self.config.interval, now);
        actions.push(Action::Became(State::Backup, reason));
    }

    /// Stops taking part, and says so if it was master.
    fn leave(&mut self, state: State, reason: Reason, actions: &mut Vec<Action>) {
        if self.state == State::Master {
            actions.push(self.send(0));
        }
        self.release(actions);
        self.state = state;
        self.timer = None;
        self.claimed = None;
        actions.push(Action::Became(state, reason));
    }

    fn release(&mut self, actions: &mut Vec<Action>) {
        self.announce = None;
        self.rival = None;
        self.stop_asking(actions);
        if self.state == State::Master {
            actions.push(Action::RemoveAddresses);
            if self.is_arbitrated() {
                actions.push(Action::Release);
            }
        }
    }

    /// A backup waits for the master's next word.
    fn wait(&mut self, interval: Duration, now: Moment) {
        if self.config.version == Version::V3 {
            self.master_interval = interval;
        }
        self.resigned = false;
        self.quiet_since = now.max(self.config.begins);
        // An owner waits for nobody, but for its beginning.
        let silence =
            if self.is_owner() && self.config.begins > now { Duration::ZERO } else { self.master_down() };
        self.timer = Some(self.quiet_since + silence);
    }

    fn send(&self, priority: u8) -> Action {
        Action::Send(Advert {
            version: self.config.version,
            vrid: self.config.vrid,
            priority,
            interval: self.config.interval,
            addresses: self.config.addresses.clone(),
        })
    }
}

/// Priority of who owns the addresses.
pub const OWNER: u8 = 255;
