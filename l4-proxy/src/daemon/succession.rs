//! A director takes the place of another, and leaves it to the next.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use lvs_core::{Config, Director};
use lvsadm::CommitError;
use tracing::{info, warn};

use super::listening::{Listening, Paused, Reason};
use super::{Daemon, Entry, Options, Shared};
use crate::clock;
use crate::failover::Heir;
use crate::inherit::Inherited;
use crate::keepalived::keeper::Record;
use crate::takeover::{self, Belongings, Given, Predecessor, Remains, Told};

impl Daemon {
    /// Starts a director in the place of another, which drains once this one serves: on its sockets, with
    /// its templates, counters, flows of datagrams and what it knew of its servers' health, and with its
    /// virtual routers as they stand. The control socket is its, too.
    ///
    /// It begins with `config`, which had better be the other one's. `settle` makes of it what it is to be,
    /// while the other one still serves as well.
    ///
    /// # Errors
    /// As for [`Daemon::start`], and what `settle` says; then the other one goes on as before.
    pub fn succeed(
        options: Options,
        config: Config,
        (predecessor, inherited): (Predecessor, Inherited),
        settle: impl FnOnce(&Daemon) -> Result<(), CommitError>,
    ) -> Result<Daemon, CommitError> {
        let control = options.control.clone();
        let bequeath = |director: &Director| predecessor.bequeath(director, clock::now());
        let mut daemon = Daemon::begin(options, config, inherited, Entry::AfterAnother, bequeath)?;
        daemon.found = Mutex::new(predecessor.checks());
        daemon.shared.state().given = predecessor.given();
        daemon.predecessor = Mutex::new(Some(predecessor));
        let settled = settle(&daemon).and_then(|()| {
            if daemon.is_awaited() {
                return daemon.take_control(control);
            }
            let why = "the director before this one has waited for too long, and goes on";
            Err(CommitError::Refused(why.to_owned()))
        });
        if let Err(error) = settled {
            // The other one goes on: what it has left must stay as it left it.
            daemon.shared.failover.get().inspect(|failover| failover.abandon());
            return Err(error);
        }
        daemon.shared.entry.send_replace(true);
        let predecessor = daemon.predecessor.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let elders = &daemon.shared.elders;
        if let Some(Err(error)) = predecessor.map(|predecessor| predecessor.release(elders)) {
            warn!(%error, "the director before this one is gone, with its connections");
        }
        elders.tell(&daemon.shared.consents);
        Ok(daemon)
    }

    /// Notes that what it serves is what files have said; a successor that reads the same may keep what `lvsadm`
    /// changes from now on.
    pub fn note_given(&self, given: Given) {
        self.shared.state().given = Some(given);
    }

    /// What files have said to this director, or to the one before it: it serves that, but for what `lvsadm` has
    /// changed since. `None` if no file has said what it serves.
    pub fn given(&self) -> Option<Given> {
        self.shared.state().given.clone()
    }

    /// Is done when a successor serves; then the director is to be drained.
    pub async fn replaced(&self) {
        // The sender lives as long as this value.
        let _ = self.shared.replaced.subscribe().wait_for(|replaced| *replaced).await;
    }

    /// Whether a successor serves.
    pub fn is_replaced(&self) -> bool {
        *self.shared.replaced.borrow()
    }

    /// Whether the director before this one waits to hear that this one serves.
    fn is_awaited(&self) -> bool {
        let predecessor = self.predecessor.lock().unwrap_or_else(PoisonError::into_inner);
        predecessor.as_ref().is_some_and(Predecessor::waits)
    }

    /// Listens to `lvsadm` in the place of the other one.
    fn take_control(&mut self, path: Option<PathBuf>) -> Result<(), CommitError> {
        self.shared.say_what_is_left();
        let Some(path) = path else { return Ok(()) };
        let socket = lvsadm::bind_over(path);
        let socket = socket.map_err(|error| CommitError::Refused(format!("control socket {error}")))?;
        self.administer(socket)
    }
}

impl Shared {
    /// Hands over to a successor, and serves nobody new once that does.
    pub(super) fn hand_over(&self, stream: &UnixStream) -> io::Result<()> {
        let failover = self.failover.get();
        let checks = self.state().checks.clone();
        let (mut belongings, paused) = match checks.while_they_wait(|found| self.gather(found)) {
            Ok(gathered) => gathered,
            Err(error) => {
                warn!("not handed over: {error}");
                return takeover::refuse(stream, &error.to_string());
            }
        };
        belongings.flows = paused.into_iter().flat_map(Paused::flows).collect();
        info!(flows = belongings.flows.len(), "handing over");
        let leave = |heirs: &[u8]| failover.map_or_else(Vec::new, |failover| failover.leave(heirs));
        match takeover::hand_over(stream, &self.director, belongings, clock::now(), leave) {
            Ok(told) => {
                failover.inspect(|failover| failover.retire());
                self.elders.forget();
                match self.remains(told).answer(stream) {
                    Ok(successor) => self.state().successor = Some(successor),
                    Err(error) => {
                        warn!(%error, "the successor does not hear of the connections that go on here");
                    }
                }
                self.stop_listening(Reason::HandedOver);
                self.replaced.send_replace(true);
                Ok(())
            }
            Err(error) => {
                warn!(%error, "not handed over, still serving as before");
                failover.inspect(|failover| failover.go_on(Heir::of(&error)));
                let mut state = self.state();
                state.closed = None;
                state.listening.values().for_each(Listening::go_on);
                drop(state);
                checks.catch_up();
                Err(error)
            }
        }
    }

    /// What is handed over, and the datagrams that wait from now on, as any change does; or why nothing is.
    fn gather(&self, checks: Vec<Record>) -> io::Result<(Belongings, Vec<Paused>)> {
        let mut state = self.state();
        if let Some(why) = state.closed {
            return Err(io::Error::other(why));
        }
        let listening = state.listening.values();
        let mut sockets = listening.map(Listening::sockets).collect::<io::Result<Vec<_>>>()?;
        sockets.push(state.metrics.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?);
        let sockets = sockets.into_iter().flatten().collect();
        let elders = self.elders.streams()?;
        state.closed = Some("the director hands over to another");
        let paused = state.listening.values().filter_map(Listening::pause).collect();
        let (timeouts, given) = (state.timeouts, state.given.clone());
        Ok((Belongings { timeouts, given, sockets, flows: Vec::new(), checks, elders }, paused))
    }

    /// What goes on here when another director serves, which was told of counts.
    fn remains(&self, told: Told) -> Remains {
        Remains {
            connections: [&self.connections, &self.flows].map(Arc::downgrade),
            timeouts: self.state().timeouts,
            consents: self.consents.clone(),
            director: Arc::clone(&self.director),
            told,
        }
    }
}
