//! How long servers and services were up and down, and what follows from it.
//!
//! A *failure* is the step from up to down, a *repair* the step back. From them come the two means
//! of reliability engineering, MTBF and MTTR, and the availability A = MTBF / (MTBF + MTTR). Planned
//! downtime, which is what an operator asked for by weight 0, counts for neither: the clock stands
//! still meanwhile.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Time;

/// What a server or a service went through, as far as the director was told the time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct History {
    /// Time in which it could be used.
    pub up: Duration,
    /// Time in which failed probes or failures in traffic kept it out.
    pub down: Duration,
    /// Time in which it was quiesced.
    pub planned: Duration,
    /// Steps from up to down.
    pub failures: u64,
    /// The latest spells, oldest first; the last one is still going on.
    pub spells: VecDeque<Spell>,
}

/// A time that was all of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spell {
    /// Of which kind.
    pub state: State,
    /// When it began.
    pub since: Time,
    /// Until when it is known to have lasted.
    pub until: Time,
}

/// What a server or service is to its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It can be used.
    Up,
    /// It failed.
    Down,
    /// An operator took it out.
    Planned,
}

/// The history of a service and of its servers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceHistory {
    /// Of the service: it is down while no server can be used, planned while all are quiesced.
    pub service: History,
    /// Of the servers, in the order they were added.
    pub servers: Vec<(std::net::SocketAddr, History)>,
}

impl History {
    /// Takes in what holds at `now`.
    pub(crate) fn note(&mut self, state: State, now: Time) {
        if let Some(last) = self.spells.back_mut() {
            let passed = now.since(last.until);
            last.until = last.until.max(now);
            *match last.state {
                State::Up => &mut self.up,
                State::Down => &mut self.down,
                State::Planned => &mut self.planned,
            } += passed;
            if last.state == state {
                return;
            }
        }
        // A server that was down when it was quiesced and is down after it failed once.
        let worked = self.spells.iter().rev().find(|spell| spell.state != State::Planned);
        if state == State::Down && worked.is_none_or(|spell| spell.state == State::Up) {
            self.failures += 1;
        }
        if self.spells.len() == SPELLS_KEPT {
            self.spells.pop_front();
        }
        self.spells.push_back(Spell { state, since: now, until: now });
    }

    /// Mean time between failures: time up by failure. `None` before the first.
    pub fn mtbf(&self) -> Option<Duration> {
        mean(self.up, self.failures)
    }

    /// Mean time to repair: time down by failure. `None` before the first.
    pub fn mttr(&self) -> Option<Duration> {
        mean(self.down, self.failures)
    }

    /// MTBF / (MTBF + MTTR): the share of the time, planned downtime aside, in which it could be
    /// used. `None` if nothing is known yet.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use lvs_core::History;
    /// let mut history = History::default();
    /// history.up = Duration::from_secs(99 * 3600);
    /// history.down = Duration::from_secs(3600);
    /// history.planned = Duration::from_secs(500 * 3600);
    /// assert_eq!(history.availability(), Some(0.99));
    /// ```
    pub fn availability(&self) -> Option<f64> {
        let known = self.up + self.down;
        (!known.is_zero()).then(|| self.up.as_secs_f64() / known.as_secs_f64())
    }
}

fn mean(time: Duration, count: u64) -> Option<Duration> {
    let nanos = time.as_nanos().checked_div(u128::from(count))?;
    Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

/// How many spells are remembered one by one; the sums know of all.
const SPELLS_KEPT: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn planned_downtime_counts_neither_for_nor_against() {
        let mut history = History::default();
        for (state, seconds) in [
            (State::Up, 1000),
            (State::Down, 1100),
            (State::Up, 1110),
            (State::Planned, 1200),
            (State::Up, 9000),
            (State::Down, 9010),
            (State::Up, 9020),
        ] {
            history.note(state, at(seconds));
        }
        assert_eq!(history.failures, 2);
        assert_eq!(history.mtbf(), Some(Duration::from_secs(100)));
        assert_eq!(history.mttr(), Some(Duration::from_secs(10)));
        assert_eq!(history.availability(), Some(100.0 / 110.0));
        assert_eq!(history.planned, Duration::from_secs(7800));
    }

    #[test]
    fn server_that_is_still_down_after_planned_downtime_failed_once() {
        let mut history = History::default();
        for (state, seconds) in [(State::Up, 0), (State::Down, 1), (State::Planned, 2), (State::Down, 3)] {
            history.note(state, at(seconds));
        }
        assert_eq!(history.failures, 1);
    }

    #[test]
    fn memory_stays_bounded_and_the_sums_right_through_a_thousand_flaps() {
        let mut history = History::default();
        for flap in 0..1000 {
            history.note(State::Up, at(flap * 10));
            history.note(State::Down, at(flap * 10 + 9));
        }
        history.note(State::Up, at(10_000));
        assert_eq!(history.spells.len(), SPELLS_KEPT);
        assert_eq!((history.failures, history.availability()), (1000, Some(0.9)));
    }
}
