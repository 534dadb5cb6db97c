//! When a check is made again, and when its outcomes turn it.
//!
//! keepalived's rules, which are not those of rise and fall. While a check is up, one failure is
//! followed by `retry` more attempts, `delay_before_retry` apart, and only if all of them fail it is
//! down. While it is down, the first success brings it up. The very first check gets no second
//! chance: until it has passed, nobody knows that the server works.

use std::time::Duration;

use crate::keepalived::model::Rhythm;

/// What one check has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It counts as passed.
    Up,
    /// It counts as failed.
    Down,
}

/// Counts the outcomes of one check.
#[derive(Clone, Debug)]
pub struct Beat {
    standing: Standing,
    /// Failures in a row since it last passed.
    failures: u32,
    /// It has passed or failed at least once.
    known: bool,
    /// Steps passed on the way up.
    step: usize,
    steps: usize,
}

/// What follows from an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// The check turned, to this.
    pub turned: Option<Standing>,
    /// When it is made again.
    pub after: Duration,
}

impl Beat {
    /// Begins up or down. On its way up it has to pass so many steps, one in each round.
    pub fn new(standing: Standing, steps: usize) -> Beat {
        Beat { standing, failures: 0, known: false, step: 0, steps: steps.max(1) }
    }

    /// The same after it has been running: a failure is repeated before it counts.
    #[must_use]
    pub fn known(self) -> Beat {
        Beat { known: true, ..self }
    }

    /// What it counts as.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// The step to take next; none if all of them are taken in one round.
    pub fn step(&self) -> Option<usize> {
        (self.standing == Standing::Down).then_some(self.step)
    }

    /// Takes in that the check passed.
    pub fn passed(&mut self, rhythm: &Rhythm) -> Next {
        self.failures = 0;
        self.known = true;
        let turned = match self.standing {
            Standing::Up => None,
            Standing::Down => {
                self.step += 1;
                (self.step >= self.steps).then(|| self.turn(Standing::Up))
            }
        };
        Next { turned, after: rhythm.delay_loop }
    }

    /// Takes in that it failed.
    pub fn failed(&mut self, rhythm: &Rhythm) -> Next {
        self.step = 0;
        if self.standing == Standing::Down {
            self.known = true;
            return Next { turned: None, after: rhythm.delay_loop };
        }
        self.failures += 1;
        if self.known && self.failures <= rhythm.retry {
            return Next { turned: None, after: rhythm.delay_before_retry };
        }
        self.known = true;
        Next { turned: Some(self.turn(Standing::Down)), after: rhythm.delay_loop }
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn turn(&mut self, standing: Standing) -> Standing {
        (self.standing, self.step) = (standing, 0);
        standing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOP: u64 = 60;
    const PAUSE: u64 = 3;

    /// Plays outcomes (`+`, `-`) and writes for each what came of it: `u`, `d` or `.`, and `r` if
    /// the next check is a retry.
    fn check(standing: Standing, steps: usize, retry: u32, outcomes: &str, expected: &str) {
        let rhythm = Rhythm {
            delay_loop: Duration::from_secs(LOOP),
            retry,
            delay_before_retry: Duration::from_secs(PAUSE),
            warmup: Duration::ZERO,
            timeout: Duration::from_secs(5),
        };
        let mut beat = Beat::new(standing, steps);
        let mut seen = String::new();
        for outcome in outcomes.chars() {
            let next = if outcome == '+' { beat.passed(&rhythm) } else { beat.failed(&rhythm) };
            seen.push(match (next.turned, next.after.as_secs()) {
                (Some(Standing::Up), LOOP) => 'u',
                (Some(Standing::Down), LOOP) => 'd',
                (None, PAUSE) => 'r',
                (None, LOOP) => '.',
                _ => '?',
            });
        }
        assert_eq!(seen, expected, "{outcomes} with {retry} retries");
    }

    #[test]
    fn first_failure_ever_takes_a_server_down_at_once() {
        check(Standing::Up, 1, 3, "--", "d.");
    }

    #[test]
    fn server_that_worked_goes_down_when_all_retries_have_failed() {
        check(Standing::Up, 1, 2, "+---", ".rrd");
        check(Standing::Up, 1, 0, "+-", ".d");
        check(Standing::Up, 1, 2, "+--+---", ".rr.rrd");
    }

    #[test]
    fn first_success_brings_a_server_up() {
        check(Standing::Down, 1, 2, "--+-", "..ur");
    }

    #[test]
    fn way_up_leads_through_all_urls_without_a_failure_between() {
        check(Standing::Down, 3, 1, "++-+++", ".....u");
        check(Standing::Up, 3, 1, "+--+++", ".rd..u");
    }
}
