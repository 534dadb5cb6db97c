//! A running node, from outside.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use super::engine::{Command, Engine};
use super::legacy::Legacy;
use super::notice::{Notice, Status, Verdict};
use super::settings::Settings;
use super::sys;
use crate::router::{Event, Moment};

/// A set of virtual routers at work, on a thread of their own.
///
/// Dropping it stops them: masters resign, and their addresses go from their interfaces.
#[derive(Debug)]
pub struct Node {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

/// A way to a [`Node`], from any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: SyncSender<Command>,
    bell: Arc<OwnedFd>,
}

/// How the thread of a node is scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// As any other.
    Usual,
    /// Before all that are as any other, with this priority among its like, 1 to 99; as any other where
    /// that is not allowed.
    First(u8),
}

/// The node has stopped, or does not keep up with what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl Node {
    /// Starts virtual routers, in the network namespace of the calling thread. What happens is told on
    /// the thread of the node: whoever is told must not make it wait.
    ///
    /// # Errors
    /// When the kernel does not give what all need: the right to raw sockets, above all. What one
    /// virtual router lacks is that one's fault, and told.
    pub fn start(
        settings: Settings,
        schedule: Schedule,
        told: impl FnMut(Notice) + Send + 'static,
    ) -> io::Result<Node> {
        let (sender, commands) = sync_channel(COMMANDS);
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let engine = Engine::new(settings, commands, Arc::clone(&bell), Box::new(told))?;
        let run = move || engine.run(schedule);
        let thread = thread::Builder::new().name("vrrp".to_owned()).spawn(run)?;
        Ok(Node { handle: Handle { commands: sender, bell }, thread: Some(thread) })
    }

    /// A way to it for others.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Stops the virtual routers and waits until their addresses are gone.
    pub fn stop(self) {}
}

impl Drop for Node {
    fn drop(&mut self) {
        // It is not there to be told if it has ended by itself.
        let _ = self.handle.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was told when it happened.
            let _ = thread.join();
        }
    }
}

impl Handle {
    /// Passes on what a tracker says of a virtual router. One that is not there is passed over.
    ///
    /// # Errors
    /// When the node is [`Gone`].
    pub fn report(
        &self,
        instance: impl Into<String>,
        tracker: impl Into<String>,
        verdict: Verdict,
    ) -> Result<(), Gone> {
        self.send(Command::Report { instance: instance.into(), tracker: tracker.into(), verdict })
    }

    /// Has a master, and its group, become backup, until the next election.
    ///
    /// # Errors
    /// When the node is [`Gone`].
    pub fn give_way(&self, instance: impl Into<String>) -> Result<(), Gone> {
        self.send(Command::Tell { instance: instance.into(), event: Event::GiveWay })
    }

    /// Passes on the arbiter's consent, which ends at a moment of the node's clock ([`super::now`]) if
    /// it is not prolonged.
    ///
    /// # Errors
    /// When the node is [`Gone`].
    pub fn grant(&self, instance: impl Into<String>, until: Moment) -> Result<(), Gone> {
        self.send(Command::Tell { instance: instance.into(), event: Event::Granted { until } })
    }

    /// Passes on that the arbiter consented to another one.
    ///
    /// # Errors
    /// When the node is [`Gone`].
    pub fn refuse(&self, instance: impl Into<String>) -> Result<(), Gone> {
        self.send(Command::Tell { instance: instance.into(), event: Event::Refused })
    }

    /// Has a master that needs an arbiter's consent, and its group, give its addresses away, since there is
    /// another arbiter; waits until it has.
    ///
    /// # Errors
    /// When the node is [`Gone`].
    pub fn withdraw(&self, instance: impl Into<String>) -> Result<(), Gone> {
        self.send(Command::Tell { instance: instance.into(), event: Event::Withdrawn })?;
        self.statuses().map(drop)
    }

    /// Runs other virtual routers from now on, and waits until they do.
    ///
    /// One that has the name, interface, number and family of one that runs stays what it is, master or
    /// backup, with its counters and with what trackers said of it: of a tracker that is no more, all
    /// is to be reported [`Verdict::Well`].
    ///
    /// # Errors
    /// When the node is [`Gone`].
    pub fn reload(&self, settings: Settings) -> Result<(), Gone> {
        let (done, wait) = sync_channel(1);
        self.send(Command::Reload(settings, done))?;
        wait.recv_timeout(PATIENCE).map_err(|_| Gone)
    }

    /// Runs other virtual routers from now on, as [`Handle::reload`] does; those that another process has
    /// left behind go on as what they were there, with no election.
    ///
    /// # Errors
    /// When the node is [`Gone`].
    pub fn resume(&self, settings: Settings, legacies: Vec<Legacy>) -> Result<(), Gone> {
        let (done, wait) = sync_channel(1);
        self.send(Command::Resume(settings, legacies, done))?;
        wait.recv_timeout(PATIENCE).map_err(|_| Gone)
    }

    /// Leaves virtual routers to another process, which wants those of these
    /// [identities](super::Instance::identity); the others are stopped. From now on nothing is said here. The
    /// next [`Handle::reload`] has the node go on; if it is stopped instead, it leaves all as it is.
    ///
    /// # Errors
    /// When the node is [`Gone`].
    pub fn rest(&self, heirs: Vec<String>) -> Result<Vec<Legacy>, Gone> {
        let (answer, wait) = sync_channel(1);
        self.send(Command::Rest(heirs, answer))?;
        wait.recv_timeout(PATIENCE).map_err(|_| Gone)
    }

    /// How the virtual routers stand.
    ///
    /// # Errors
    /// When the node is [`Gone`].
    pub fn statuses(&self) -> Result<Vec<Status>, Gone> {
        let (answer, wait) = sync_channel(1);
        self.send(Command::Look(answer))?;
        wait.recv_timeout(PATIENCE).map_err(|_| Gone)
    }

    /// Has all counters begin at zero again.
    ///
    /// # Errors
    /// When the node is [`Gone`].
    pub fn clear_counters(&self) -> Result<(), Gone> {
        self.send(Command::ClearCounters)
    }

    fn send(&self, command: Command) -> Result<(), Gone> {
        self.commands.try_send(command).map_err(|_: TrySendError<_>| Gone)?;
        // It fails only when it has been rung more often than can be counted.
        let _ = rustix::io::write(&*self.bell, &1_u64.to_ne_bytes());
        Ok(())
    }
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VRRP has stopped")
    }
}

impl std::error::Error for Gone {}

/// Puts the thread of a node where it is asked to be, if it may.
pub(super) fn apply(schedule: Schedule) -> io::Result<()> {
    match schedule {
        Schedule::Usual => Ok(()),
        Schedule::First(priority) => sys::run_first(priority),
    }
}

/// Commands that wait at most; a node takes them within milliseconds.
const COMMANDS: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(5);
