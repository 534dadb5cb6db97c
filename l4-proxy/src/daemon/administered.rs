//! The director as `lvsadm` sees it: what is listed, edited and set.

use std::io;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use lvs_core::{Changes, Config, Director, Time};
use lvsadm::document::{SyncDaemon, VirtualRouter};
use lvsadm::{CommitError, Connection, Control, Edit};

use super::check::accepts;
use super::{Shared, with_health};
use crate::clock;
use crate::failover::Failover;
use crate::relay::Timeouts;

pub(super) fn relay_timeouts(timeouts: lvsadm::Timeouts) -> Timeouts {
    Timeouts { idle: timeouts.tcp, half_closed: timeouts.tcp_fin }
}

impl Control for Shared {
    fn director(&self) -> &Director {
        &self.director
    }

    fn now(&self) -> Time {
        clock::now()
    }

    fn commit(&self, edit: Edit) -> Result<(), CommitError> {
        Shared::commit(self, edit)
    }

    fn plan(&self, config: Config) -> Result<Changes, CommitError> {
        let edit = Edit::Replace(config);
        accepts(&self.options.entrances, &edit)?;
        let mut after = Config::default();
        with_health(edit, self.options.health, &self.state().kept).apply_to(&mut after)?;
        Ok(self.director.plan(&after)?)
    }

    fn count(&self) {
        self.elders.count();
        let all = std::iter::once(&self.options.settings).chain(self.options.services.values());
        if !{ all }.any(|settings| settings.count_packets) {
            return;
        }
        let asked = self.connections.ask_to_count(COUNTED_AT_ONCE);
        let began = Instant::now();
        // One of a busy worker, or that has just ended, is not waited for.
        while began.elapsed() < PATIENCE && asked.iter().any(|open| open.call.is_to_count()) {
            thread::sleep(LOOK);
        }
    }

    fn connections(&self) -> Vec<Connection> {
        let timeouts = self.state().timeouts;
        let open = self.connections.list().into_iter().chain(self.flows.list());
        let own = open.map(|open| open.listed(timeouts));
        own.chain(self.elders.connections()).collect()
    }

    fn timeouts(&self) -> lvsadm::Timeouts {
        self.state().timeouts
    }

    fn set_timeouts(&self, timeouts: lvsadm::Timeouts) -> Result<(), CommitError> {
        let mut state = self.state();
        state.timeouts = timeouts;
        for listening in state.listening.values() {
            listening.set_timeouts(timeouts);
        }
        Ok(())
    }

    fn sync_daemons(&self) -> Vec<SyncDaemon> {
        self.failover.get().map_or_else(Vec::new, Failover::sync_daemons)
    }

    fn virtual_routers(&self) -> Vec<VirtualRouter> {
        self.failover.get().map_or_else(Vec::new, Failover::routers)
    }

    fn upgrade(&self, answer: &mut dyn FnMut(Result<u32, String>)) {
        self.upgrade.run(&self.replaced, answer);
    }

    fn hand_over(&self, stream: &UnixStream) -> io::Result<()> {
        Shared::hand_over(self, stream)
    }
}

/// Connections that count their packets for one listing: about 2 ms of work. Of more, each listing asks others.
const COUNTED_AT_ONCE: usize = 1000;

/// How long a listing waits for them.
const PATIENCE: Duration = Duration::from_millis(50);

const LOOK: Duration = Duration::from_micros(500);
