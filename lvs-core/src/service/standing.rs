//! How servers and their service stand: the bits, moments and records that writers keep up to date, so that
//! a choice has little to look at.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Service;
use crate::health::Ejection;
use crate::history::State;
use crate::server::{DOWN, EJECTED, INHIBITED, QUIESCED, Server};
use crate::time::Time;

impl Service {
    /// Brings a server's standing and bits up to date with its weight and health. Called under the
    /// writer lock.
    pub(crate) fn refresh(&self, server: usize) {
        self.find_standing(server);
        self.find_panic();
    }

    pub(super) fn find_standing(&self, server: usize) {
        let Server { weight, live } = &self.servers[server];
        let mut standing = 0;
        {
            let health = live.health();
            if *weight == 0 {
                standing |= QUIESCED;
                if health.is_inhibited() {
                    standing |= INHIBITED;
                }
            }
            if health.is_down() {
                standing |= DOWN;
            }
            if health.ejected_until().is_some() {
                standing |= EJECTED;
            }
            live.set_pardon(self.passive(server).map_or(Time::NEVER, |passive| health.pardon(&passive)));
        }
        live.set_standing(standing);
        set_bit(&self.usable, server, standing == 0);
        set_bit(&self.sound, server, standing & !EJECTED == 0);
        set_bit(&self.weighted, server, standing & QUIESCED == 0);
    }

    pub(super) fn find_panic(&self) {
        let count = |bits: &[AtomicU64]| -> u32 {
            bits.iter().map(|bits| bits.load(Ordering::Relaxed).count_ones()).sum()
        };
        let (usable, weighted) = (u64::from(count(&self.usable)), u64::from(count(&self.weighted)));
        let panics = usable * 100 < u64::from(self.config.health.panic_percent) * weighted;
        self.panicking.store(panics, Ordering::Relaxed);
        self.settle();
    }

    /// Notes until when all is calm: nobody is a backup, has a threshold, keeps clients or warms up,
    /// some are usable and not too few, and no ejection ends. Then the scheduler's word is all that
    /// is needed, and this one moment all that has to be looked at. Called under the writer lock.
    pub(crate) fn settle(&self) {
        let state = &self.state;
        let warm = state.warm.load(Ordering::Relaxed) > state.clock().map_or(0, Time::as_nanos);
        let simple = self.plain && !self.overfills && self.config.persistence.is_none();
        let usable = self.usable.iter().any(|bits| bits.load(Ordering::Relaxed) != 0);
        let calm = simple && usable && !warm && !self.is_panicking();
        self.calm.store(if calm { state.lapse.load(Ordering::Relaxed) } else { 0 }, Ordering::Relaxed);
    }

    /// Whether failures in traffic may eject this server now.
    pub(crate) fn ejection(&self, server: usize) -> Ejection {
        if let Some(own) = &self.config.servers[server].passive {
            return Ejection::UpTo(own.eject);
        }
        let policy = &self.config.health;
        let others = self.servers.iter().enumerate().filter(|(other, _)| *other != server);
        let others = others.filter(|(_, other)| other.weight > 0);
        let (mut weighted, mut ejected, mut usable) = (1, 1, 0);
        for (_, other) in others {
            weighted += 1;
            ejected += usize::from(other.live.standing() & EJECTED != 0);
            usable += usize::from(other.live.standing() == 0);
        }
        let within = usable > 0 && ejected * 100 <= usize::from(policy.ejected_percent_max) * weighted;
        if policy.ejected_percent_max >= 100 || within {
            Ejection::UpTo(policy.ejection_max)
        } else {
            Ejection::Forbidden
        }
    }

    /// Writes down how a server and the service are. Called under the writer lock.
    pub(crate) fn note(&self, server: usize, now: Time) {
        let live = &self.servers[server].live;
        let state = match live.standing() {
            standing if standing & (QUIESCED | INHIBITED) == QUIESCED => State::Planned,
            0 => State::Up,
            _ => State::Down,
        };
        live.history().note(state, now);
    }

    /// Writes down how the service is. Called under the writer lock.
    pub(crate) fn note_service(&self, now: Time) {
        let any = |bits: &[AtomicU64]| bits.iter().any(|bits| bits.load(Ordering::Relaxed) != 0);
        let inhibited = || self.servers.iter().any(|server| server.live.standing() & INHIBITED != 0);
        let state = match (any(&self.usable), any(&self.weighted)) {
            (true, _) => State::Up,
            (false, true) => State::Down,
            (false, false) if inhibited() => State::Down,
            (false, false) => State::Planned,
        };
        self.state.history().note(state, now);
    }

    /// Notes when the next ejection ends. Called under the writer lock.
    pub(crate) fn find_next_lapse(&self) {
        let ends = self.servers.iter().filter_map(|server| server.live.health().ejected_until());
        self.state.lapse.store(ends.min().unwrap_or(Time::NEVER).as_nanos(), Ordering::Relaxed);
        self.settle();
    }

    /// Whether an ejection has ended that nobody has acted on.
    pub(crate) fn has_lapsed(&self, now: Time) -> bool {
        self.state.lapse.load(Ordering::Relaxed) <= now.as_nanos()
    }
}

fn set_bit(bits: &[AtomicU64], server: usize, set: bool) {
    let bit = 1 << (server % 64);
    if set {
        bits[server / 64].fetch_or(bit, Ordering::Relaxed);
    } else {
        bits[server / 64].fetch_and(!bit, Ordering::Relaxed);
    }
}
