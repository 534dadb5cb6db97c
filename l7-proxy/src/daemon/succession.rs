//! One process goes on where another ends: what a binary upgrade needs of either.
//!
//! Listening sockets are the same in both processes, not bound twice, so that there is no moment in
//! which nobody listens and no queue that is lost. Both accept until the old one is told to end. The
//! control socket is the successor's as soon as it serves, and the old one's again if it fails.
//!
//! The path of a Unix socket goes with the last process that listens there: while there are two of
//! them neither removes it, and the one that is left is [told so](Daemon::hold_alone).

use std::os::fd::OwnedFd;
use std::{io, mem};

use l4_proxy::inherit::Inherited;
use tracing::info;

use super::administered::Claim;
use super::listen::Endpoint;
use super::worker::Command;
use super::{Daemon, Error, Legacy, Options, Phase, State, Tenure, legacy};
use crate::model::Config;
use crate::unix;

impl Daemon {
    /// Starts a proxy in the place of another one, whose [sockets](Daemon::sockets) it uses where
    /// the configuration has their addresses. The control socket is taken from the other.
    ///
    /// Its upstreams are what the other's were: what `lvsadm` has changed of them, their health, warming
    /// and counts, their templates, and the sessions that were learnt.
    ///
    /// # Errors
    /// As [`start`](Daemon::start).
    pub fn succeed(
        config: Config,
        options: Options,
        inherited: Inherited,
        legacy: Legacy,
    ) -> Result<Daemon, Error> {
        let daemon = Daemon::begin(config, options, inherited, Claim::Predecessor, legacy)?;
        daemon.state().claim = Claim::Free;
        Ok(daemon)
    }

    /// What this proxy knows of its upstreams beyond its file, for a process that is to go on in its place:
    /// what [`Legacy::read`] reads.
    pub fn legacy(&self) -> Vec<u8> {
        legacy::write(&self.shared, &self.administered)
    }

    /// The listening sockets, for a process that is to go on with them. Paths among their addresses
    /// stay when this one ends, unless it is to [hold them alone](Daemon::hold_alone) by then.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let mut state = self.state();
        let mut sockets = Vec::new();
        for listening in state.listening.values_mut() {
            listening.tenure = Tenure::Shared;
            for socket in &listening.sockets {
                sockets.push(socket.try_clone()?.into());
            }
        }
        Ok(sockets)
    }

    /// No other process listens with the same sockets any more: their paths end with this one.
    pub fn hold_alone(&self) {
        let mut state = self.state();
        for listening in state.listening.values_mut() {
            listening.tenure = Tenure::Sole;
        }
        // The other process left these to us.
        mem::take(&mut state.abandoned).into_iter().for_each(unix::forget_left_behind);
    }

    /// Answers `lvsadm` again, after a process that was to go on here has failed.
    ///
    /// # Errors
    /// The control socket cannot be bound.
    pub fn reclaim_control(&self) -> Result<(), Error> {
        let mut state = self.state();
        let Some((wanted, before)) = mem::take(&mut state.control) else { return Ok(()) };
        drop(before);
        let bound = state.bind_control(Some(&wanted))?;
        state.answer_control(Some(wanted), bound, self.control())
    }

    /// Accepts no more connections until it [resumes](Daemon::resume). Connections end as with
    /// [`shutdown`](Daemon::shutdown), but may take as long as they like.
    ///
    /// The sockets stay open: where no other process accepts from them, clients wait.
    pub fn rest(&self) {
        let mut state = self.state();
        if state.phase == Phase::Serving {
            state.phase = Phase::Resting;
            self.checks.send_replace(None);
            for commands in &self.commands {
                // A worker that has ended accepts nothing.
                let _ = commands.send(Command::Rest);
            }
        }
    }

    /// Accepts connections again; says whether it had stopped to.
    pub fn resume(&self) -> bool {
        let mut state = self.state();
        if state.phase != Phase::Resting {
            return false;
        }
        state.phase = Phase::Serving;
        self.checks.send_replace(state.checks.clone());
        let endpoints: Vec<Endpoint> = state.listening.keys().copied().collect();
        for (index, commands) in self.commands.iter().enumerate() {
            let _ = commands.send(Command::Resume(self.share(&state, &endpoints, index)));
        }
        info!("accepting connections again");
        true
    }
}

impl State {
    /// Ends listening at addresses.
    pub(super) fn end_listening(&mut self, gone: &[Endpoint]) {
        for (endpoint, listening) in self.listening.extract_if(|endpoint, _| gone.contains(endpoint)) {
            if listening.tenure == Tenure::Shared {
                self.abandoned.push(endpoint.addr);
            }
        }
    }

    /// Lets go of the predecessor's sockets: what is not in use by now belongs to no address of the
    /// configuration.
    pub(super) fn let_go_of_inherited(&mut self) {
        let inherited = mem::take(&mut self.inherited);
        let addresses = inherited.paths().map(unix::address);
        self.abandoned.extend(addresses.filter(|addr| !self.listening.contains_key(&Endpoint::tcp(*addr))));
    }
}
