//! What a node does all the time: it waits, and hands what comes to the virtual router that it is for.
//!
//! What has arrived is always read before timers are looked at. A backup that was kept from running
//! finds the advertisements it missed then, and does not take a live master for dead; a master finds
//! who took its place, and gives way before it speaks. Only the end of an arbiter's consent comes before
//! all that: a master that was stopped for longer than it may be one gives its addresses away first.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::clock::{self, Alarm};
use super::host::Host;
use super::lateness::Watch;
use super::legacy::Legacy;
use super::netlink::{Completeness, News};
use super::node::{Schedule, apply};
use super::notice::{Counters, Notice, Status, Verdict};
use super::settings::{Instance, Settings};
use super::unit::{Need, Unit};
use crate::router::{Event, Moment};

/// What a node is told to do.
pub(super) enum Command {
    Report {
        instance: String,
        tracker: String,
        verdict: Verdict,
    },
    Tell {
        instance: String,
        event: Event,
    },
    Reload(Settings, SyncSender<()>),
    /// With what another process leaves behind.
    Resume(Settings, Vec<Legacy>, SyncSender<()>),
    /// Leaves these to another process, by their identities.
    Rest(Vec<String>, SyncSender<Vec<Legacy>>),
    Look(SyncSender<Vec<Status>>),
    ClearCounters,
    Stop,
}

/// All that a node is made of.
pub(super) struct Engine {
    host: Host,
    news: News,
    alarm: Alarm,
    units: Vec<Unit>,
    commands: Receiver<Command>,
    /// Readable when there are commands.
    bell: Arc<OwnedFd>,
    /// When what failed is tried again.
    retry: Option<Moment>,
}

impl Engine {
    pub(super) fn new(
        settings: Settings,
        commands: Receiver<Command>,
        bell: Arc<OwnedFd>,
        notices: Box<dyn FnMut(Notice) + Send>,
    ) -> io::Result<Engine> {
        // The ear first, so that nothing that happens while the host is surveyed is missed.
        let news = News::open()?;
        let mut host = Host::new(notices)?;
        host.links.settling.wait_for(&settings.link_delays);
        let units = units(settings).map(|(name, instances)| Unit::new(name, instances)).collect();
        Ok(Engine { host, news, alarm: Alarm::new()?, units, commands, bell, retry: None })
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self, schedule: Schedule) {
        if let Err(error) = apply(schedule) {
            let what = format!("runs like any other thread, not before them: {error}");
            self.host.tell(Notice::Trouble { instance: None, what });
        }
        let mut watch = Watch::new();
        self.reassess(clock::now());
        let mut running = true;
        while running {
            let asleep_from = clock::now();
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(error) => {
                    // Nothing is known any more; it is better to look too often.
                    self.host.tell(Notice::Trouble { instance: None, what: format!("cannot wait: {error}") });
                    std::thread::park_timeout(RETRY);
                    Ready::default()
                }
            };
            let now = clock::now();
            let late = self.alarm.overdue(now);
            let busy = late.saturating_sub(now.saturating_sub(asleep_from));
            let cause = watch.look(late, busy);
            if self.is_too_late(late) {
                self.host.tell(Notice::Late { by: late, cause });
            }
            for unit in &mut self.units {
                unit.lapse(now, &mut self.host);
            }
            for (unit, place) in ready.wires {
                self.units[unit].receive(place, now, &mut self.host);
            }
            if ready.news {
                self.learn(now);
            }
            if ready.answers {
                self.hear_neighbours(now);
            }
            running = self.obey(now);
            self.look(now);
        }
        let now = clock::now();
        for unit in &mut self.units {
            unit.stop(now, &mut self.host);
        }
    }

    /// Whether being so late is half-way to an advertisement that is missed.
    fn is_too_late(&self, late: Duration) -> bool {
        let members = self.units.iter().flat_map(|unit| &unit.members);
        let shortest = members.map(|member| member.instance.interval).min();
        shortest.is_some_and(|shortest| late * 2 > shortest)
    }

    fn wait(&mut self) -> io::Result<Ready> {
        let units = self.units.iter().filter_map(Unit::deadline);
        let host = &self.host;
        let host = [host.announcements.deadline(), host.ears.deadline(), host.links.settling.deadline()];
        let next = units.chain(host.into_iter().flatten()).chain(self.retry).min();
        self.alarm.set(next)?;
        let mut sources: Vec<BorrowedFd<'_>> = vec![self.bell.as_fd(), self.news.as_fd(), self.alarm.as_fd()];
        let mut wires = Vec::new();
        for (number, unit) in self.units.iter().enumerate() {
            for (place, member) in unit.members.iter().enumerate() {
                if let Some(wire) = &member.wire {
                    wires.push((number, place));
                    sources.push(wire.as_fd());
                }
            }
        }
        sources.extend(self.host.ears.sources());
        let mut polled: Vec<PollFd<'_>> =
            sources.into_iter().map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN)).collect();
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = polled.iter().map(|polled| !polled.revents().is_empty()).collect();
        let (others, ears) = ready.split_at(OTHERS + wires.len());
        let answers = ears.contains(&true);
        let wires = wires.into_iter().zip(&others[OTHERS..]).filter(|(_, ready)| **ready);
        Ok(Ready { news: others[1], wires: wires.map(|(wire, _)| wire).collect(), answers })
    }

    /// Takes in what the kernel says of interfaces and addresses.
    fn learn(&mut self, now: Moment) {
        let links = &mut self.host.links;
        match self.news.read(|message| links.learn(message, now)) {
            Ok(Completeness::Complete) => {}
            Ok(Completeness::Lost) => self.survey(),
            Err(error) => {
                let what = format!("cannot hear what the kernel says: {error}");
                self.host.tell(Notice::Trouble { instance: None, what });
                self.retry = Some(now + RETRY);
            }
        }
        // What was said last may be older than what was done last: ask before anything is put back.
        if self.units.iter().any(|unit| unit.lacks(&self.host)) {
            self.survey();
            for unit in &self.units {
                unit.put_back(now, &mut self.host);
            }
        }
        self.reassess(now);
    }

    /// Takes in who else says to have a virtual address.
    fn hear_neighbours(&mut self, now: Moment) {
        for answer in self.host.answers() {
            for member in self.units.iter_mut().flat_map(|unit| &mut unit.members) {
                member.answered(&answer, now, &mut self.host);
            }
        }
    }

    fn survey(&mut self) {
        if let Err(error) = self.host.survey() {
            let what = format!("cannot ask the kernel for interfaces and addresses: {error}");
            self.host.tell(Notice::Trouble { instance: None, what });
        }
    }

    /// Has every virtual router look at what it depends on.
    fn reassess(&mut self, now: Moment) {
        let mut need = Need::Nothing;
        for unit in &mut self.units {
            if unit.reassess(now, &mut self.host) == Need::Retry {
                need = Need::Retry;
            }
        }
        self.retry = (need == Need::Retry).then(|| now + RETRY);
    }

    /// Whatever is due.
    fn look(&mut self, now: Moment) {
        if self.retry.is_some_and(|retry| retry <= now) {
            self.survey();
            self.reassess(now);
        }
        if self.host.links.settle(now) {
            self.reassess(now);
        }
        for unit in &mut self.units {
            unit.look(now, &mut self.host);
        }
        self.host.announce_due(now);
        self.host.ears.close_due(now);
    }

    /// Does as it is told; returns whether it is to go on.
    fn obey(&mut self, now: Moment) -> bool {
        let mut count = [0; 8];
        // It only has to be silent again.
        let _ = rustix::io::read(&*self.bell, &mut count);
        loop {
            let command = match self.commands.try_recv() {
                Ok(command) => command,
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            };
            match command {
                Command::Report { instance, tracker, verdict } => {
                    if let Some((unit, place)) = self.find(&instance) {
                        self.units[unit].report(place, &tracker, verdict, now, &mut self.host);
                    }
                }
                Command::Tell { instance, event } => {
                    if let Some((unit, place)) = self.find(&instance) {
                        self.units[unit].handle(place, event, now, &mut self.host);
                    }
                }
                Command::Reload(settings, done) => {
                    self.reload(settings, &[], now);
                    // Who asked may have gone.
                    let _ = done.send(());
                }
                Command::Resume(settings, legacies, done) => {
                    self.reload(settings, &legacies, now);
                    let _ = done.send(());
                }
                Command::Rest(heirs, answer) => {
                    let _ = answer.send(self.leave(&heirs, now));
                    return self.rest();
                }
                Command::Look(answer) => {
                    let _ = answer.send(self.units.iter().flat_map(Unit::statuses).collect());
                }
                Command::ClearCounters => {
                    for member in self.units.iter_mut().flat_map(|unit| &mut unit.members) {
                        member.counters = Counters::default();
                    }
                }
                Command::Stop => return false,
            }
        }
    }

    /// Stops the virtual routers that another process does not want; returns what the others pass on.
    fn leave(&mut self, heirs: &[String], now: Moment) -> Vec<Legacy> {
        let mut left = Vec::new();
        for mut unit in std::mem::take(&mut self.units) {
            match unit.legacies(heirs) {
                Some(legacies) => {
                    left.extend(legacies);
                    self.units.push(unit);
                }
                None => unit.stop(now, &mut self.host),
            }
        }
        left
    }

    /// Says nothing and does nothing until it is told to go on, or to end. Sockets stay open, so that
    /// what arrives meanwhile is heard if it goes on. Returns whether it is to.
    fn rest(&mut self) -> bool {
        let mut verdicts: Vec<(String, String, Verdict)> = Vec::new();
        loop {
            match self.commands.recv() {
                Ok(Command::Reload(settings, done)) => {
                    let now = clock::now();
                    self.reload(settings, &[], now);
                    for (instance, tracker, verdict) in verdicts {
                        if let Some((unit, place)) = self.find(&instance) {
                            self.units[unit].report(place, &tracker, verdict, now, &mut self.host);
                        }
                    }
                    let _ = done.send(());
                    return true;
                }
                Ok(Command::Report { instance, tracker, verdict }) => {
                    verdicts.push((instance, tracker, verdict));
                }
                Ok(Command::Look(answer)) => {
                    let _ = answer.send(self.units.iter().flat_map(Unit::statuses).collect());
                }
                Ok(Command::Stop) | Err(_) => {
                    // They are another process's, with their addresses.
                    self.units.clear();
                    return false;
                }
                Ok(_) => {}
            }
        }
    }

    fn find(&self, instance: &str) -> Option<(usize, usize)> {
        let mut units = self.units.iter().enumerate();
        units.find_map(|(number, unit)| unit.place_of(instance).map(|place| (number, place)))
    }

    /// Runs other virtual routers from now on; those that stay keep their places, and those that come go
    /// on as what they were in another process, if they were there.
    fn reload(&mut self, settings: Settings, legacies: &[Legacy], now: Moment) {
        self.host.links.settling.wait_for(&settings.link_delays);
        let mut before = std::mem::take(&mut self.units);
        let mut after = Vec::new();
        for (name, instances) in units(settings) {
            let same = before.iter().position(|unit| unit.is_made_of(name.as_deref(), &instances));
            after.push((same.map(|place| before.remove(place)), name, instances));
        }
        // First what goes, so that its addresses can come anew.
        for mut unit in before {
            unit.stop(now, &mut self.host);
        }
        self.survey();
        for (same, name, instances) in after {
            self.units.push(match same {
                Some(mut unit) => {
                    unit.reconfigure(instances, now, &mut self.host);
                    unit
                }
                None => {
                    let mut unit = Unit::new(name, instances);
                    unit.inherit(legacies);
                    unit
                }
            });
        }
        self.reassess(now);
    }
}

/// What woke a node.
#[derive(Default)]
struct Ready {
    news: bool,
    /// Unit and place of virtual routers that something has arrived for.
    wires: Vec<(usize, usize)>,
    /// Neighbours may have answered.
    answers: bool,
}

/// The groups, and those that are in none.
fn units(settings: Settings) -> impl Iterator<Item = (Option<String>, Vec<Instance>)> {
    let Settings { mut instances, groups, .. } = settings;
    let mut units = Vec::new();
    for group in groups {
        let (members, others) =
            instances.into_iter().partition(|instance: &Instance| group.members.contains(&instance.name));
        instances = others;
        units.push((Some(group.name), members));
    }
    units.extend(instances.into_iter().map(|instance| (None, vec![instance])));
    units.into_iter()
}

/// Sources that are waited for before the sockets of virtual routers.
const OTHERS: usize = 3;
/// How long after a failure something is tried again.
const RETRY: Duration = Duration::from_secs(1);
