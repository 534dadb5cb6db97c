//! The director as `lvsadm` sees it: what is listed, edited and set.

use std::io;
use std::os::unix::net::UnixStream;

use lvs_core::{Changes, Config, Director, Protocol, Time};
use lvsadm::document::{SyncDaemon, VirtualRouter};
use lvsadm::{CommitError, Connection, ConnectionState, Control, Edit};

use super::check::accepts;
use super::{Shared, with_health};
use crate::clock;
use crate::connections::Open;
use crate::failover::Failover;
use crate::relay::{Side, Timeouts};

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

    fn connections(&self) -> Vec<Connection> {
        let timeouts = self.state().timeouts;
        let open = self.connections.list().into_iter().chain(self.flows.list());
        open.map(|open| listed(&open, timeouts)).collect()
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

    fn hand_over(&self, stream: &UnixStream) -> io::Result<()> {
        Shared::hand_over(self, stream)
    }
}

/// A connection as IPVS would list it: the state follows from which side ended first.
fn listed(open: &Open, timeouts: lvsadm::Timeouts) -> Connection {
    let (state, timeout) = match open.progress.ended_first() {
        _ if open.protocol == Protocol::Udp => (ConnectionState::Udp, timeouts.udp),
        None => (ConnectionState::Established, timeouts.tcp),
        Some(Side::Client) => (ConnectionState::CloseWait, timeouts.tcp_fin),
        Some(Side::Server) => (ConnectionState::FinWait, timeouts.tcp_fin),
    };
    Connection {
        protocol: open.protocol,
        expires: timeout.saturating_sub(open.progress.silent_for()),
        state,
        client: open.client,
        virtual_address: open.virtual_address,
        server: open.server,
    }
}
