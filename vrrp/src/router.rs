//! One virtual router: who holds the addresses, and when (RFC 9568, section 6.4, with what keepalived
//! adds: faults, priorities that trackers change, preemption that waits or never comes).
//!
//! The machine is handed events and the time, and returns what is to be done. [`Router::deadline`]
//! says when it wants to be called next.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::packet::{Advert, Version};

/// A moment: how long it is after some moment that the caller chose and keeps, on a clock that never
/// steps.
pub type Moment = Duration;

/// What a virtual router is set up with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which virtual router it is, 1 to 255.
    pub vrid: u8,
    /// How its advertisements are written.
    pub version: Version,
    /// 255 owns the addresses; the others compare.
    pub priority: u8,
    /// From one advertisement to the next.
    pub interval: Duration,
    /// Silent intervals after which a master is taken for gone: 3 in the RFCs (`down_timer_adverts`).
    pub down_adverts: u8,
    /// Whether it takes the addresses from a master of lower priority.
    pub preempt: Preempt,
    /// Its own address, which decides between equals.
    pub address: IpAddr,
    /// The virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// When a new master announces its addresses again, after the first time (`garp_master_delay`).
    pub announce_again: Option<Duration>,
    /// How often it announces them for as long as it is master (`garp_master_refresh`).
    pub announce_every: Option<Duration>,
    /// Who has a say in who is master.
    pub consent: Consent,
}

/// Who has a say in who is master.
///
/// Two routers that do not hear each other cannot know whether the other one is there; only a third
/// party can keep both from being master.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consent {
    /// Nobody but the routers.
    #[default]
    NotNeeded,
    /// Becoming master needs an arbiter's consent, and so does staying it: see [`Event::Granted`].
    Needed,
}

/// Whether a router takes the addresses from a master of lower priority. The owner always does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preempt {
    /// As soon as it may.
    #[default]
    AtOnce,
    /// When it has heard such masters for so long (`preempt_delay`).
    After(Duration),
    /// Only when the master falls silent (`nopreempt`).
    Never,
}

/// Where a router stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Not started, or shut down.
    Init,
    /// It listens.
    Backup,
    /// It holds the addresses.
    Master,
    /// Something it depends on is down.
    Fault,
}

/// What happens to a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It may run.
    Start,
    /// It may run, and goes on as the master that it was in another process of this host.
    Resume,
    /// The deadline has come.
    Timer,
    /// An advertisement for it that passed every check arrived from this address.
    Heard {
        /// Where it came from.
        from: IpAddr,
        /// Its priority.
        priority: u8,
        /// Its interval.
        interval: Duration,
    },
    /// What is added to the configured priority by what is tracked, all together.
    Weighed(i32),
    /// Something it depends on is down.
    Failed,
    /// All that it depends on is there.
    Recovered,
    /// The others of its group are master now.
    Take,
    /// It must not be master although nothing of its own is wrong: its group gave way.
    GiveWay,
    /// The arbiter lets it be master, until this moment and no longer. Word of a later moment
    /// prolongs that; without it the router gives its addresses away when the moment comes.
    Granted {
        /// The end of the consent.
        until: Moment,
    },
    /// The arbiter says that another one has its consent.
    Refused,
    /// It is to stop.
    Stop,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this advertisement.
    Send(Advert),
    /// Put the virtual addresses on the interface.
    AddAddresses,
    /// Take the virtual addresses away.
    RemoveAddresses,
    /// The addresses may stay until [`Router::consent`], which moved: whoever keeps them on the
    /// interface with a lifetime prolongs it.
    ProlongAddresses,
    /// Ask the arbiter for its consent, and go on asking until [`Action::Release`].
    Ask,
    /// The arbiter's consent is not wanted, or not any more: the addresses are gone by now.
    Release,
    /// Tell the neighbours who has the addresses: gratuitous ARP, unsolicited neighbour
    /// advertisements.
    Announce(Occasion),
    /// Tell whoever wants to know.
    Became(State, Reason),
    /// Something is not as it should be.
    Warn(Warning),
}

/// When neighbours are told who has the addresses; how often they are told then is the host's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// The router has just become master.
    Taken,
    /// A while after, for those who missed it (`garp_master_delay`).
    Again,
    /// From time to time (`garp_master_refresh`).
    Refresh,
    /// Another master was heard that has to give way: some neighbours look there
    /// (`garp_lower_prio_repeat`).
    Contested,
}

/// Why a router changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It was started.
    Started,
    /// It owns the addresses.
    Owner,
    /// No advertisement came for so long.
    Silence(Duration),
    /// The master said that it stops.
    Resigned,
    /// A master of higher priority, or of the same and a higher address, was heard.
    Outranked {
        /// Its address.
        by: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// Something that it depends on failed.
    Fault,
    /// All that it depends on is there again.
    Recovered,
    /// It followed its group.
    Followed,
    /// The arbiter gave its consent to another one.
    Refused,
    /// The arbiter's consent ran out and was not prolonged in time.
    Lapsed,
    /// It was stopped.
    Stopped,
    /// It goes on as what it was in another process.
    Resumed,
}

/// What an operator should look into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// Two masters at once: what one hears means that the other does not hear it, or will not.
    Rival {
        /// The other one.
        address: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// The other master has not been heard any more.
    RivalGone {
        /// The other one.
        address: IpAddr,
    },
    /// Two routers say that they own the addresses.
    TwoOwners {
        /// The other one.
        address: IpAddr,
    },
    /// Another interval than the configured one; in v2 such advertisements do not count.
    Interval {
        /// Who advertises.
        address: IpAddr,
        /// Its interval.
        interval: Duration,
    },
    /// The timer was looked at so much too late: the process did not run.
    Late(Duration),
}

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
            State::Backup if self.is_owner() => self.may_take(Reason::Owner, now, &mut actions),
            State::Backup => self.wait_anew(),
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
            // A consent cannot be passed on: it is the other process's.
            (Event::Resume, State::Init) if !self.is_arbitrated() => {
                self.take(Reason::Resumed, now, &mut actions);
            }
            (Event::Start | Event::Resume, State::Init) => self.start(now, &mut actions),
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
            (Event::Heard { from, priority, interval }, State::Backup | State::Master) => {
                self.hear(from, priority, interval, now, &mut actions);
            }
            _ => {}
        }
        actions
    }

    fn start(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.is_owner() && !self.is_arbitrated() {
            return self.take(Reason::Owner, now, actions);
        }
        self.listen(Reason::Started, now, actions);
        if self.is_owner() {
            self.ask(Reason::Owner, now, actions);
        }
    }

    fn is_arbitrated(&self) -> bool {
        self.config.consent == Consent::Needed
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
            self.timer = Some(now + self.skew());
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
            actions.push(last);
        } else {
            if now > self.tolerant_until {
                let known = self.rival.replace((from, now)).is_some_and(|(rival, _)| rival == from);
                if !known {
                    actions.push(Action::Warn(Warning::Rival { address: from, priority }));
                }
            }
            // So that the other one steps down now, and the neighbours look here again.
            actions.push(self.send(self.priority()));
            actions.push(Action::Announce(Occasion::Contested));
            self.timer = Some(now + self.config.interval);
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
                let reason = if self.resigned { Reason::Resigned } else { Reason::Silence(silence) };
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

    /// Becomes master if nobody else has a say in that, and asks otherwise.
    fn may_take(&mut self, reason: Reason, now: Moment, actions: &mut Vec<Action>) {
        if self.is_arbitrated() {
            self.ask(reason, now, actions);
        } else {
            self.take(reason, now, actions);
        }
    }

    /// Asks the arbiter, and again after an interval if no answer has come until then.
    fn ask(&mut self, reason: Reason, now: Moment, actions: &mut Vec<Action>) {
        self.asked = Some(reason);
        self.timer = Some(now + self.config.interval);
        actions.push(Action::Ask);
    }

    fn stop_asking(&mut self, actions: &mut Vec<Action>) {
        if self.asked.take().is_some() {
            actions.push(Action::Release);
        }
    }

    fn grant(&mut self, until: Moment, now: Moment, actions: &mut Vec<Action>) {
        match (self.state, self.asked) {
            _ if until <= now => {}
            (State::Master, _) if self.is_arbitrated() => {
                if until > self.granted_until {
                    self.granted_until = until;
                    actions.push(Action::ProlongAddresses);
                }
            }
            (State::Backup, Some(reason)) => {
                self.granted_until = until;
                self.take(reason, now, actions);
            }
            // An answer that crossed with the end of the question.
            _ => actions.push(Action::Release),
        }
    }

    fn refuse(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.consent().is_some() {
            self.give_up(Reason::Refused, now, actions);
        } else if self.asked.is_some() && self.outranking_since.is_some() {
            self.claim(now, actions);
        }
    }

    /// The one who has the arbiter's consent is a master of lower priority, who does not know that
    /// it is to be preempted: it gives way when it hears of this router's priority.
    ///
    /// For some intervals only, and then not for a while: a router that gets others to give way and
    /// then cannot become master itself does that seldom.
    fn claim(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let since = *self.claimed.get_or_insert(now);
        if now < since + self.config.interval * CLAIMED_INTERVALS {
            actions.push(self.send(self.priority()));
        } else if now >= since + self.master_down() * CLAIMED_AGAIN {
            self.claimed = None;
        }
    }

    /// A master whose time is up gives its addresses away before anything else, whatever it was
    /// that woke it.
    fn lapse(&mut self, event: &Event, now: Moment, actions: &mut Vec<Action>) {
        let prolongs = matches!(event, Event::Granted { until } if *until > now);
        if !prolongs && self.consent().is_some_and(|until| until <= now) {
            self.give_up(Reason::Lapsed, now, actions);
        }
    }

    /// Gives the addresses away, and only then says so.
    fn give_up(&mut self, reason: Reason, now: Moment, actions: &mut Vec<Action>) {
        let farewell = self.send(0);
        self.listen(reason, now, actions);
        actions.push(farewell);
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
        self.quiet_since = now;
        self.timer = Some(now + self.master_down());
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

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Init => "INIT",
            State::Backup => "BACKUP",
            State::Master => "MASTER",
            State::Fault => "FAULT",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Started => f.write_str("started"),
            Reason::Owner => f.write_str("owns the addresses"),
            Reason::Silence(silence) => {
                write!(f, "no advertisement for {:.3} s", silence.as_secs_f64())
            }
            Reason::Resigned => f.write_str("the master resigned"),
            Reason::Outranked { by, priority } => write!(f, "{by} advertises priority {priority}"),
            Reason::Fault => f.write_str("something it depends on is down"),
            Reason::Recovered => f.write_str("all that it depends on is there again"),
            Reason::Followed => f.write_str("its group decided"),
            Reason::Refused => f.write_str("the arbiter gave its consent to another one"),
            Reason::Lapsed => f.write_str("the arbiter's consent ran out"),
            Reason::Stopped => f.write_str("stopped"),
            Reason::Resumed => f.write_str("goes on where another process of this host ended"),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Rival { address, priority } => write!(
                f,
                "split brain: {address} is master too, with priority {priority}; most likely it does not receive \
                 these advertisements (multicast filtered, protocol 112 blocked, unequal unicast_peer lists)"
            ),
            Warning::RivalGone { address } => write!(f, "{address} is no longer heard as a second master"),
            Warning::TwoOwners { address } => {
                write!(f, "{address} advertises priority 255 too: only one can own the addresses")
            }
            Warning::Interval { address, interval } => {
                write!(
                    f,
                    "{address} advertises every {} s, which is not what is configured",
                    interval.as_secs_f64()
                )
            }
            Warning::Late(late) => {
                write!(
                    f,
                    "the timer was {:.3} s late: the process was not given the processor",
                    late.as_secs_f64()
                )
            }
        }
    }
}

/// Priority of who owns the addresses.
pub const OWNER: u8 = 255;

/// For how many intervals a backup claims the place of a master of lower priority.
const CLAIMED_INTERVALS: u32 = 3;

/// After how many times of a master's silence it may claim it again.
const CLAIMED_AGAIN: u32 = 8;
