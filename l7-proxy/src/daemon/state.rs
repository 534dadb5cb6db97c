//! What a daemon remembers from one configuration to the next: where it listens, who sees to what it keeps, and
//! what holds only when it is started anew.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use l4_proxy::inherit::Inherited;
use l4_proxy::worker::Workers;
use lvsadm::Control;
use tracing::warn;

use super::administered::{self, Claim};
use super::error::Error;
use super::listen::{Endpoint, Listener};
use super::worker::Serves;
use crate::cache::{self, Store};
use crate::check;
use crate::identity::Rights;
use crate::model::{self, ControlSocket, Identity};
use crate::unix;

/// What only changes of configuration touch.
pub(super) struct State {
    /// By the address as configured.
    pub(super) listening: HashMap<Endpoint, Listening>,
    pub(super) workers_wanted: model::Workers,
    /// Whom workers act as, from the start: what they have given up they cannot take back.
    pub(super) user: Option<Identity>,
    /// Whom they are to act as when the proxy is started anew.
    pub(super) user_wanted: Option<Identity>,
    /// How long what is served by the present configuration may last after the next.
    pub(super) shutdown_timeout: Option<Duration>,
    pub(super) phase: Phase,
    /// The checks of the present configuration.
    pub(super) checks: check::Wanted,
    /// Sockets of a predecessor; none once the first configuration is served.
    pub(super) inherited: Inherited,
    /// Paths at which this process listens no more, and another with the same sockets may.
    pub(super) abandoned: Vec<SocketAddr>,
    /// How the control socket is bound.
    pub(super) claim: Claim,
    /// What answers `lvsadm`, and the configuration of it.
    pub(super) control: Option<(ControlSocket, lvsadm::Server)>,
    /// Where what is kept of answers is seen to; none while nothing is kept.
    pub(super) keepers: Option<Workers>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    /// No connection is accepted, until further notice.
    Resting,
    Finishing,
}

/// An address that is listened at.
pub(super) struct Listening {
    /// The address in fact: the kernel chooses a port where the configuration says 0.
    pub(super) bound: SocketAddr,
    /// A hold on the workers' sockets, so that another kind of server, or another process, can go on at
    /// the address. As many as there are workers, unless a predecessor had another number of them.
    pub(super) sockets: Vec<Listener>,
    pub(super) serves: Serves,
    pub(super) tenure: Tenure,
}

/// Who else listens with the same sockets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tenure {
    Sole,
    /// A predecessor or a successor does, so what belongs to the sockets is not ours to remove.
    Shared,
}

impl Drop for Listening {
    /// A path is taken away with its socket, unless somebody still listens there.
    fn drop(&mut self) {
        if self.tenure == Tenure::Sole {
            unix::forget(self.bound);
        }
    }
}

impl State {
    /// Takes down what takes effect when the proxy is started anew, and says so if it is new.
    pub(super) fn want(&mut self, workers: model::Workers, user: Option<Identity>) {
        if workers != self.workers_wanted {
            self.workers_wanted = workers;
            warn!("worker_processes changed: it takes effect when the proxy is started anew");
        }
        if user != self.user_wanted {
            self.user_wanted = user;
            warn!("user changed: it takes effect when the proxy is started anew");
        }
    }

    /// Has somebody see to what is kept of answers.
    pub(super) fn keep(&mut self, name: &str, caches: &[Arc<Store>]) -> Result<(), Error> {
        if caches.is_empty() {
            return Ok(());
        }
        let keepers = match self.keepers.take() {
            Some(keepers) => keepers,
            None => keepers(name, self.user.clone())?,
        };
        for store in caches {
            let store = Arc::clone(store);
            keepers.run(0, move || cache::keep(store));
        }
        self.keepers = Some(keepers);
        Ok(())
    }

    /// Binds the control socket, unless it is bound already or there is to be none.
    pub(super) fn bind_control(
        &self,
        wanted: Option<&ControlSocket>,
    ) -> Result<Option<lvsadm::Listener>, Error> {
        match (wanted, &self.control) {
            (None, _) => Ok(None),
            (Some(wanted), Some((bound, _))) if bound.path == wanted.path => Ok(None),
            (Some(wanted), _) => administered::bind(wanted, self.claim).map(Some).map_err(Error::Control),
        }
    }

    /// Answers the control socket that is wanted, and no other.
    pub(super) fn answer_control(
        &mut self,
        wanted: Option<ControlSocket>,
        bound: Option<lvsadm::Listener>,
        control: Arc<dyn Control>,
    ) -> Result<(), Error> {
        let Some(wanted) = wanted else {
            self.control = None;
            return Ok(());
        };
        let server = match (bound, self.control.take()) {
            (Some(listener), _) => lvsadm::serve(listener, control).map_err(Error::Control)?,
            (None, Some((before, server))) => {
                if before.mode != wanted.mode {
                    administered::permit(&wanted).map_err(Error::Control)?;
                }
                server
            }
            (None, None) => return Ok(()),
        };
        self.control = Some((wanted, server));
        Ok(())
    }
}

/// Starts a thread that waits for disks, where nothing else has to wait for it.
fn keepers(name: &str, user: Option<Identity>) -> Result<Workers, Error> {
    let keepers = Workers::start(&format!("{name}-cache"), 1).map_err(Error::Threads)?;
    let (done, became) = std::sync::mpsc::channel();
    keepers.run(0, move || async move {
        // Nobody waits if the proxy is going.
        let _ = done.send(user.map_or(Ok(()), |user| user.assume(Rights::None)));
    });
    // That the thread has ended is said by itself.
    became.recv().unwrap_or(Ok(())).map_err(Error::User)?;
    Ok(keepers)
}
