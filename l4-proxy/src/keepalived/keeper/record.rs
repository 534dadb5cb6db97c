//! What checks have found, for a director that goes on where this one ends.

use std::net::SocketAddr;
use std::sync::Weak;

use super::{Kept, Shared};
use crate::keepalived::pool::Check;

/// What was found of a virtual server.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// What it is called in the file.
    pub(crate) name: String,
    /// Whether the quorum was there.
    pub(crate) enough: bool,
    /// For each server what its checks said last, in their order.
    pub(crate) servers: Vec<(SocketAddr, Vec<Check>)>,
}

/// A look at what a keeper has found so far; nothing once there is none.
#[derive(Clone, Default)]
pub(crate) struct Records(pub(super) Weak<Shared>);

impl Records {
    /// Shows `look` what the table has been told of. What checks find meanwhile waits until that is done; so
    /// whoever looks may take hold of the table, but must not have hold of it already: checks take both in this
    /// order.
    pub(crate) fn while_they_wait<T>(&self, look: impl FnOnce(Vec<Record>) -> T) -> T {
        let Some(shared) = self.0.upgrade() else { return look(Vec::new()) };
        let state = shared.state();
        look(state.services.iter().map(Kept::record).collect())
    }

    /// Tells the table of what was found while it could not be changed.
    pub(crate) fn catch_up(&self) {
        let Some(shared) = self.0.upgrade() else { return };
        shared.state().services.iter_mut().for_each(|kept| kept.place(&*shared.table));
    }
}

impl Record {
    /// What was found of a server, if it had as many checks.
    pub(super) fn checks_of(&self, server: SocketAddr, count: usize) -> Option<&[Check]> {
        let (_, checks) = self.servers.iter().find(|(address, _)| *address == server)?;
        (checks.len() == count).then_some(checks)
    }
}

impl Kept {
    fn record(&self) -> Record {
        let servers = self.service.servers.iter().enumerate().map(|(server, configured)| {
            let checks = (0..self.running[server].len()).filter_map(|check| self.pool.check(server, check));
            (configured.address, checks.cloned().collect())
        });
        let name = self.service.name.clone();
        Record { name, enough: self.pool.is_enough(), servers: servers.collect() }
    }
}
