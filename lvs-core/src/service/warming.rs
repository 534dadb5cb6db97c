//! Slow start: a server that came back takes its part of the choices little by little.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Service;
use crate::server::Server;
use crate::time::Time;

impl Service {
    /// Whether anybody may be warming up.
    pub(super) fn is_warming(&self, now: Time) -> bool {
        self.state.warm.load(Ordering::Relaxed) > now.as_nanos()
    }

    /// The servers that warm up, and the part of a choice that is theirs: what the weight of each, as
    /// far as it has grown, is among the others.
    pub(super) fn shares_of_choice(&self, now: Time) -> impl Iterator<Item = (usize, f64)> {
        let usable = self.servers.iter().filter(|server| server.live.standing() == 0);
        let total: f64 = usable.map(|server| f64::from(server.weight)).sum();
        self.servers.iter().enumerate().filter_map(move |(index, server)| {
            let weight = f64::from(server.weight);
            let grown = weight * self.warmth(index, now)?;
            Some((index, grown / (total - weight + grown).max(grown)))
        })
    }

    /// Gives each server that warms up its part of a choice. So it gets that part at most, however often
    /// its turn comes.
    pub(super) fn share_choice(&self, now: Time) {
        for (server, share) in self.shares_of_choice(now) {
            self.servers[server].live.add_credit(share);
        }
    }

    /// Whether a server that warms up leaves this choice to another.
    pub(super) fn holds_back(&self, server: usize, now: Time) -> bool {
        self.is_as_busy_as_warm(server, now)
            .is_some_and(|busy| busy || !self.servers[server].live.spend_credit())
    }

    /// Whether it would leave the next choice to another.
    pub(super) fn would_hold_back(&self, server: usize, now: Time) -> bool {
        let share =
            self.shares_of_choice(now).find(|(other, _)| *other == server).map_or(0.0, |(_, share)| share);
        self.is_as_busy_as_warm(server, now)
            .is_some_and(|busy| busy || !self.servers[server].live.could_spend_credit(share))
    }

    /// Whether a server has as many connections as the busiest other one has, for its weight as far as
    /// it has grown; nothing if it does not warm up.
    pub(super) fn is_as_busy_as_warm(&self, server: usize, now: Time) -> Option<bool> {
        let Server { weight, live } = &self.servers[server];
        let share = self.warmth(server, now)?;
        let others = self.servers.iter().enumerate().filter(|(other, _)| *other != server);
        let busiest = others.filter(|(_, other)| other.weight > 0 && other.live.standing() == 0);
        let busiest =
            busiest.map(|(_, other)| f64::from(other.live.load().total()) / f64::from(other.weight));
        let most = busiest.fold(0.0, f64::max) * f64::from(*weight) * share;
        Some(f64::from(live.load().total()) + 1.0 > most.max(1.0))
    }

    /// The share of its strength that a server which warms up has reached.
    pub(crate) fn warmth(&self, server: usize, now: Time) -> Option<f64> {
        let whole = self.slow_start(server);
        let passed = now.since(self.servers[server].live.warming()?);
        (passed < whole).then(|| (passed.as_secs_f64() / whole.as_secs_f64()).max(COLD))
    }

    /// How long a server warms up.
    pub(super) fn slow_start(&self, server: usize) -> Duration {
        let own = self.config.servers[server].slow_start;
        if own > Duration::ZERO { own } else { self.config.health.slow_start }
    }

    /// Has a server that came back warm up. Called under the writer lock.
    pub(crate) fn warm_up(&self, server: usize, now: Time) {
        let whole = self.slow_start(server);
        if whole > Duration::ZERO {
            self.servers[server].live.set_warming(Some(now));
            let until = (now + whole).as_nanos();
            self.state.warm.fetch_max(until, Ordering::Relaxed);
            self.settle();
        }
    }
}

/// Share of its strength that a server has when it begins to warm up.
const COLD: f64 = 0.1;
