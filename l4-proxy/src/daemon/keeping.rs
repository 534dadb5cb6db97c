//! The director as a keeper of `keepalived.conf` sees it: services of its own beside the rules.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use lvs_core::{Condition, Config, EditError, ServiceConfig, ServiceKey};
use lvsadm::{CommitError, Control, Edit};

use super::{Daemon, Shared, State, cannot_start};
use crate::clock;
use crate::failover::{Dump, Failover, Prepared};
use crate::keepalived::Model;
use crate::keepalived::keeper::{Keeper, Outcome, Services, Table};

impl Daemon {
    /// Serves these rules and what a `keepalived.conf` asks for, and nothing else; checks its servers
    /// as it says. What keeps its name keeps its connections, counters, templates and health.
    ///
    /// # Errors
    /// As for [`Daemon::start`]; then nothing has changed.
    pub fn follow(&self, rules: Config, model: Model) -> Result<(), CommitError> {
        self.take_up(Services::New(rules), model)
    }

    /// Checks the servers of a `keepalived.conf` and runs its VRRP instances, while services, servers and
    /// timeouts stay as they are: what the file asks for, and what `lvsadm` has changed since. For a director that
    /// goes on where another ends.
    ///
    /// # Errors
    /// As for [`Daemon::start`]; then nothing has changed.
    pub fn resume(&self, model: Model) -> Result<(), CommitError> {
        self.take_up(Services::AsTheyAre, model)
    }

    fn take_up(&self, services: Services, model: Model) -> Result<(), CommitError> {
        let keeps_files = services == Services::AsTheyAre;
        let failover = self.prepare_failover(&model)?;
        let floating = model.floating().collect();
        let before = std::mem::replace(&mut self.shared.state().floating, floating);
        let kept = self.keep(services, model);
        if kept.is_err() {
            self.shared.state().floating = before;
            return kept;
        }
        if !keeps_files {
            self.shared.state().given = None;
        }
        // Only now that everybody is served who comes when the addresses do.
        let Some((failover, prepared)) = failover else { return Ok(()) };
        let predecessor = self.predecessor.lock().unwrap_or_else(PoisonError::into_inner);
        failover.follow(prepared, predecessor.as_ref())
    }

    fn keep(&self, services: Services, model: Model) -> Result<(), CommitError> {
        let mut keeper = self.keeper();
        if let Some(keeper) = &*keeper {
            return keeper.follow(services, model);
        }
        let table: Arc<dyn Table> = Arc::clone(&self.shared) as _;
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let started = Keeper::start(table, found).map_err(cannot_start)?;
        started.follow(services, model)?;
        self.shared.state().checks = started.records();
        *keeper = Some(started);
        Ok(())
    }

    /// Whoever runs the VRRP instances of a model, and what it is to do; none, where there never were any.
    fn prepare_failover(&self, model: &Model) -> Result<Option<(&Failover, Prepared)>, CommitError> {
        let slot = &self.shared.failover;
        if slot.get().is_none() && !model.vrrp.instances.is_empty() | model.global.sync.is_some() {
            let started = Failover::start(
                &self.shared.director,
                self.shared.consents.clone(),
                self.shared.elders.clone(),
            )
            .map_err(cannot_start)?;
            // Whoever was faster has started another one.
            let _ = slot.set(started);
        }
        let Some(failover) = slot.get() else { return Ok(None) };
        Ok(Some((failover, failover.prepare(model)?)))
    }

    /// Writes what a `keepalived` writes on this signal: how its VRRP instances stand, or what they
    /// counted. Without any, there is nothing to write.
    pub fn dump(&self, what: Dump) {
        if let Some(failover) = self.shared.failover.get() {
            failover.dump(what);
        }
    }

    /// Ends the checks, with the scripts that are to be told; a successor has its own.
    pub(super) async fn end_checks(&self) {
        // Not held while it is waited for.
        let keeper = self.keeper().take();
        if let Some(keeper) = keeper.filter(|_| !self.is_replaced()) {
            keeper.end().await;
        }
    }

    pub(super) fn keeper(&self) -> MutexGuard<'_, Option<Keeper>> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Serves `config`, of which checks judge the services that are `kept`.
    fn judge(
        &self,
        state: &mut State,
        kept: HashSet<ServiceKey>,
        config: Config,
        health: &[Outcome],
    ) -> Result<(), CommitError> {
        let before = std::mem::replace(&mut state.kept, kept);
        let committed = self.commit_to(state, Edit::Replace(config), health);
        if committed.is_err() {
            state.kept = before;
        }
        committed
    }
}

impl Table for Shared {
    fn replace(
        &self,
        mut rules: Config,
        kept: Vec<ServiceConfig>,
        health: &[Outcome],
    ) -> Result<(), CommitError> {
        let keys = kept.iter().map(|service| service.key.clone()).collect::<HashSet<_>>();
        rules.services.extend(kept);
        self.judge(&mut self.state(), keys, rules, health)
    }

    fn adopt(&self, kept: HashSet<ServiceKey>, health: &[Outcome]) -> Result<(), CommitError> {
        let mut state = self.state();
        let present = self.director.config();
        self.judge(&mut state, kept, present, health)
    }

    fn amend(&self, edits: &[Edit], health: &[Outcome]) -> Result<Vec<EditError>, CommitError> {
        let state = self.state();
        if let Some(why) = state.closed {
            return Err(CommitError::Refused(why.to_owned()));
        }
        let mut left_out = Vec::new();
        let make = |config: &mut Config| {
            left_out.extend(edits.iter().filter_map(|edit| edit.apply_to(config).err()));
        };
        // What has passed through `replace` can be served, whatever becomes of its servers' weights.
        let changes = self.director.amend(make, health, clock::now()).map_err(CommitError::Config)?;
        for (_, server) in changes.servers_removed {
            self.connections.recall(server);
        }
        Ok(left_out)
    }

    fn down(&self) -> HashSet<(ServiceKey, SocketAddr)> {
        let services = self.director.stats();
        let servers = services
            .iter()
            .flat_map(|service| service.servers.iter().map(move |server| (&service.config.key, server)));
        let is_down = |server: &lvs_core::ServerStats| {
            matches!(server.condition, Condition::Down { .. } | Condition::Inhibited { .. })
        };
        let down = servers.filter(|(_, server)| is_down(server));
        down.map(|(key, server)| (key.clone(), server.config.address)).collect()
    }

    fn set_timeouts(&self, wanted: [Option<Duration>; 3]) {
        let mut timeouts = Control::timeouts(self);
        for (timeout, wanted) in
            [&mut timeouts.tcp, &mut timeouts.tcp_fin, &mut timeouts.udp].into_iter().zip(wanted)
        {
            *timeout = wanted.unwrap_or(*timeout);
        }
        // This director sets any timeouts.
        let _ = Control::set_timeouts(self, timeouts);
    }
}
