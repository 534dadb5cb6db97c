//! One process goes on where another ends: what a binary upgrade needs of either.
//!
//! Listening sockets are the same in both processes, not bound twice, so that there is no moment in
//! which nobody listens and no queue that is lost. Both accept until the old one is told to end. The
//! control socket is the successor's as soon as it serves, and the old one's again if it fails.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::{io, mem};

use l4_proxy::inherit::Inherited;
use tracing::info;

use super::administered::Claim;
use super::worker::Command;
use super::{Daemon, Error, Options, Phase};
use crate::model::Config;

impl Daemon {
    /// Starts a proxy in the place of another one, whose [sockets](Daemon::sockets) it uses where
    /// the configuration has their addresses. The control socket is taken from the other.
    ///
    /// # Errors
    /// As [`start`](Daemon::start).
    pub fn succeed(config: Config, options: Options, inherited: Inherited) -> Result<Daemon, Error> {
        let daemon = Daemon::begin(config, options, inherited, Claim::Predecessor)?;
        daemon.state().claim = Claim::Free;
        Ok(daemon)
    }

    /// The listening sockets, for a process that is to go on with them.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let state = self.state();
        let sockets = state.listening.values().flat_map(|listening| &listening.sockets);
        sockets.map(|socket| socket.try_clone().map(OwnedFd::from)).collect()
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
        let addresses: Vec<SocketAddr> = state.listening.keys().copied().collect();
        for (index, commands) in self.commands.iter().enumerate() {
            let _ = commands.send(Command::Resume(self.share(&state, &addresses, index)));
        }
        info!("accepting connections again");
        true
    }
}
